"""The temperature of a training's GPUs over time, from the logs that gpu_watch.py wrote."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import matplotlib.axes
import numpy as np

from ferlib.figures.style import COLORS, LINES, PNG, QUIET, VERMILION, WIDTH, entitle, saved_figure

BREAK = 60.0  # seconds without a reading after which the run counts as stopped and gone on with; they are left out
LOOKS = [COLORS[place] for place in (5, 3, 1, 2, 6, 4)]  # of several GPUs


@dataclass(frozen=True)
class Record:
    """What a log says of one GPU, N readings; NaN where one is missing."""

    name: str
    times: np.ndarray  # seconds since 1970
    temperatures: np.ndarray  # degrees Celsius
    clocks: np.ndarray  # MHz
    paused: np.ndarray  # bool


def read_log(path: Path) -> Record | None:
    """The readings of a training's log, less a row that a crash cut off; None if there are none or no such file."""
    if not path.exists():
        return None
    rows = []
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            if None in row.values():
                continue
            time = datetime.fromisoformat(row["time"]).timestamp()
            rows.append((time, number(row["temperature_c"]), number(row["sm_clock_mhz"]), row["paused"] == "1"))
            name = f"GPU {row['gpu']}, {row['name']}"
    if not rows:
        return None
    return Record(name, *(np.array(column) for column in zip(*rows, strict=True)))


def number(text: str) -> float:
    return float(text) if text else float("nan")


def minutes_watched(times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Minutes since the first of N readings, less the time between two sessions, and where a session begins: bool N."""
    steps = np.diff(times, prepend=times[0])
    begins = steps > BREAK
    return np.where(begins, 0, np.maximum(steps, 0)).cumsum() / 60, begins


def plot_gpu_temperature(
    path: Path, logs: Sequence[Path], limit: float | None, subject: str, formats: Sequence[str] = PNG
) -> None:
    """Temperature, and clock where it is known, of each GPU by minutes of training; no picture without readings.

    limit: that of --max-gpu-temp, drawn as a line. Grey bands: the training waited for the GPU to cool.
    """
    records = [record for log in logs if (record := read_log(log)) and np.isfinite(record.temperatures).any()]
    if not records:
        return
    clocks = any(np.isfinite(record.clocks).any() for record in records)
    with saved_figure(path, formats, figsize=(WIDTH, 3.9 if clocks else 3)) as figure:
        axes = figure.subplots(1 + clocks, 1, sharex=True, squeeze=False, height_ratios=(2.4, 1)[: 1 + clocks])[:, 0]
        for place, record in enumerate(records):
            draw_record(axes, record, LOOKS[place % len(LOOKS)], LINES[place % len(LINES)])
        if limit is not None:
            axes[0].axhline(limit, color=VERMILION, linewidth=1, linestyle=":", label=f"limit, {limit:g} °C")
        axes[0].set_ylabel("Temperature (°C)")
        axes[0].margins(y=0.12)
        if clocks:
            axes[1].set(ylabel="Clock (MHz)", ylim=(0, None))
        axes[-1].set_xlabel("Minutes of training, waiting included")
        handles = dict(zip(*reversed(axes[0].get_legend_handles_labels()), strict=True))
        figure.legend(handles.values(), handles, loc="outside lower center", ncols=2)
        entitle(figure, in_words(records), subject)


def draw_record(axes: Sequence[matplotlib.axes.Axes], record: Record, color: str, line: str) -> None:
    minutes, begins = minutes_watched(record.times)
    for axis, values in zip(axes, (record.temperatures, record.clocks), strict=False):
        axis.plot(minutes, np.where(begins, np.nan, values), line, color=color, linewidth=1.2, label=record.name)
        for start, end in stretches(record.paused):
            axis.axvspan(minutes[start], minutes[end], color="#cccccc", linewidth=0, zorder=0, label="training waits")
        for minute in minutes[begins]:
            axis.axvline(minute, color=QUIET, linewidth=0.8, linestyle="--", zorder=0, label="stopped and resumed")


def stretches(marked: np.ndarray) -> list[tuple[int, int]]:
    """The first reading of every run of marked ones, and the one after its last, which ends the state."""
    edges = np.diff(np.concatenate([[0], marked.astype(int), [0]]))
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    return [(int(start), min(int(end), len(marked) - 1)) for start, end in zip(starts, ends, strict=True)]


def in_words(records: Sequence[Record]) -> str:
    """Mean and maximum over all GPUs, and for how long training waited."""
    temperatures = np.concatenate([record.temperatures for record in records])
    who = "The GPU is" if len(records) == 1 else f"The {len(records)} GPUs are"
    waited = max(waiting_minutes(record) for record in records)
    tail = f"; training waits {waited:.1f} minutes" if waited else ""
    mean, highest = (
        f"{value:.0f}\N{NO-BREAK SPACE}°C" for value in (np.nanmean(temperatures), np.nanmax(temperatures))
    )
    return f"{who} at {mean} on average, {highest} at most{tail}"


def waiting_minutes(record: Record) -> float:
    minutes, _ = minutes_watched(record.times)
    return float(sum(minutes[end] - minutes[start] for start, end in stretches(record.paused)))
