"""The timeline: probabilities over time, a panel for each tracked face."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.axes
import numpy as np
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from config import EMOTIONS
from ferlib.figures.lettering import drawable
from ferlib.figures.palette import COLORS
from ferlib.figures.style import saved_figure
from ferlib.runtime.terminal import printable

MAX_FACES = 4  # panels: the tracks with the most points
FEW = 3  # points below which a track, beside longer ones, is rather a false detection
MAX_POINTS = 300  # over the whole time
GAP = 0.5  # seconds without a point above which the panel is left white

History = Sequence[tuple[float, np.ndarray]]  # seconds, probabilities (7)


def plot_timeline(path: Path, history: Mapping[int, History], source: str, smoothing: float) -> None:
    """The seven probabilities of each track, stacked over time; `history`: the track's number → its points.

    source: name of the video or camera. smoothing: time constant in seconds of the probabilities.
    """
    lasting = [track for track in history if len(history[track]) >= FEW] or list(history)
    longest = sorted(lasting, key=lambda track: (-len(history[track]), track))[:MAX_FACES]
    shown = sorted(longest)
    end = max(points[-1][0] for points in history.values())
    with saved_figure(path, figsize=(7.2, 1.3 + 1.55 * len(shown))) as figure:
        axes = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
        for axis, track in zip(axes, shown, strict=True):
            points = average_stretches(history[track], max(end, 1) / MAX_POINTS)
            draw_track(axis, points, f"Face {track}: {describe_history(history[track])}")
        axes[-1].set_xlim(0, end + spacing(history[shown[0]]))
        axes[-1].set_xlabel("Time (s)")
        if end > 120:
            axes[-1].xaxis.set_major_locator(MaxNLocator(8, steps=[1, 1.5, 3, 6, 10]))
            axes[-1].xaxis.set_major_formatter(FuncFormatter(clock))
            axes[-1].set_xlabel("Time (min:s)")
        handles, names = axes[0].get_legend_handles_labels()
        figure.legend(handles[::-1], names[::-1], loc="outside right center", fontsize=8)
        figure.suptitle(headline(source, smoothing, len(shown), len(history)), fontsize=10)


def draw_track(axis: matplotlib.axes.Axes, points: History, title: str) -> None:
    """Seven stacked areas, white where the face was not detected."""
    times, shares = insert_gaps(points)
    axis.stackplot(times, shares.T, labels=EMOTIONS, colors=COLORS, linewidth=0.4, edgecolor="white")
    axis.set_title(title, loc="left", fontsize=9)
    axis.set_ylim(0, 1)
    axis.set_yticks([0, 0.5, 1])
    axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axis.grid(False)


def average_stretches(points: History, stretch: float) -> History:
    """The means of the points over stretches of `stretch` seconds, about the width of a line in the figure."""
    times = np.array([time for time, _ in points])
    shares = np.array([probabilities for _, probabilities in points])
    numbers = (times // stretch).astype(int)
    return [(float(times[numbers == one].mean()), shares[numbers == one].mean(0)) for one in np.unique(numbers)]


def insert_gaps(points: History) -> tuple[np.ndarray, np.ndarray]:
    """Times T and shares T×7 with a row of NaN in every gap; each stretch lasts until one spacing after its end."""
    times: list[float] = []
    shares: list[np.ndarray] = []
    step = spacing(points)
    for (time, probabilities), after in zip(points, [*(time for time, _ in points[1:]), np.inf], strict=True):
        times.append(time)
        shares.append(probabilities)
        if after - time > max(GAP, 2 * step):
            times += [time + step, time + step]
            shares += [probabilities, np.full(len(probabilities), np.nan)]
    return np.array(times), np.array(shares)


def spacing(points: History) -> float:
    """Median seconds between two points."""
    times = [time for time, _ in points]
    return float(np.median(np.diff(times))) if len(times) > 1 else 0.1


def describe_history(points: History) -> str:
    """The class predicted most often, and its share of the points."""
    labels = np.array([probabilities.argmax() for _, probabilities in points])
    code = np.bincount(labels, minlength=len(EMOTIONS)).argmax()
    return f"most often {EMOTIONS[code]} ({(labels == code).mean():.0%} of its time)"


def headline(source: str, smoothing: float, shown: int, faces: int) -> str:
    """The figure's title."""
    some = f", the {shown} of {faces} faces seen longest" if shown < faces else ""
    smoothed = f"\nsmoothed with a time constant of {smoothing:g} s" if smoothing > 0 else ""
    name = drawable(printable(source)).replace("$", r"\$")  # else matplotlib sets it as a formula
    return f"Predicted emotions over time: {name}{some}{smoothed}"


def clock(seconds: float, _place: int = 0) -> str:
    """Seconds as minutes:seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
