"""The temperature of a training's GPUs over time, from the logs that gpu_monitor.py wrote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from ferlib.figures.palette import COLORS, QUIET, VERMILION
from ferlib.figures.style import LINES, PNG, WIDTH, entitle, saved_figure
from ferlib.runtime.errors import UserError

BREAK = 60.0  # seconds without a reading after which the run counts as stopped and resumed; they are left out
LOOKS = [COLORS[place] for place in (5, 3, 1, 2, 6, 4)]  # of several GPUs


@dataclass(frozen=True)
class Record:
    """The log of one GPU, N readings; NaN where one is missing."""

    name: str
    times: np.ndarray  # seconds since 1970
    temperatures: np.ndarray  # degrees Celsius
    clocks: np.ndarray  # MHz
    paused: np.ndarray  # bool


def read_log(path: Path) -> Record | None:
    """The readings of a training's log, less a row that a crash cut off; None if there are none or no such file.

    UserError for a file of other columns.
    """
    import pandas as pd

    if not path.exists():
        return None
    table = pd.read_csv(path, dtype={"gpu": str, "name": str}, encoding_errors="replace")
    missing = {"time", "gpu", "name", "temperature_c", "sm_clock_mhz", "paused"} - set(table)
    if missing:
        raise UserError(f"{path} is no log of a training's GPU (no column {min(missing)}); move it elsewhere")
    table = table.dropna(subset=["paused"])  # the last column
    if table.empty:
        return None
    last = table.iloc[-1]
    return Record(
        f"GPU {last['gpu']}, {last['name']}",
        np.array([datetime.fromisoformat(time).timestamp() for time in table["time"]]),
        table["temperature_c"].to_numpy(float),
        table["sm_clock_mhz"].to_numpy(float),
        table["paused"].to_numpy() == 1,
    )


def minutes_of_training(times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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
        heights = (2.4, 1)[: 1 + clocks]
        axes = list(figure.subplots(1 + clocks, 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0])
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
        entitle(figure, describe(records), subject)


def draw_record(axes: Sequence[Axes], record: Record, color: str, line: str) -> None:
    """Temperature and, where there is a second axis, clock of one GPU, with bands and lines for pauses and sessions."""
    minutes, begins = minutes_of_training(record.times)
    for axis, values in zip(axes, (record.temperatures, record.clocks), strict=False):
        axis.plot(minutes, np.where(begins, np.nan, values), line, color=color, linewidth=1.2, label=record.name)
        for start, end in runs_of(record.paused):
            axis.axvspan(minutes[start], minutes[end], color="#cccccc", linewidth=0, zorder=0, label="training waits")
        for minute in minutes[begins]:
            axis.axvline(minute, color=QUIET, linewidth=0.8, linestyle="--", zorder=0, label="stopped and resumed")


def runs_of(marked: np.ndarray) -> list[tuple[int, int]]:
    """The first reading of every run of marked ones, and the one after its last, which ends the state."""
    edges = np.diff(np.concatenate([[0], marked.astype(int), [0]]))
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    return [(int(start), min(int(end), len(marked) - 1)) for start, end in zip(starts, ends, strict=True)]


def describe(records: Sequence[Record]) -> str:
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
    """For how long the training waited for this GPU to cool."""
    minutes, _ = minutes_of_training(record.times)
    return float(sum(minutes[end] - minutes[start] for start, end in runs_of(record.paused)))
