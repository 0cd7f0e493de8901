"""What calibrated probabilities allow: accuracy on the surest faces, and how often prediction sets hold the label."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from ferlib.figures.palette import DARK, LIGHT, MIDDLE, QUIET
from ferlib.figures.style import PNG, WIDTH, Titles, entitle, saved_figure


def plot_confidence(path: Path, calibrated: dict[str, Any], titles: Titles, formats: Sequence[str] = PNG) -> None:
    """Left: accuracy on the surest share of the faces. Right: coverage and mean size of the sets of each class.

    `calibrated` as in the results.
    """
    with saved_figure(path, formats, figsize=(WIDTH, 3.5)) as figure:
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
        draw_selective(left, calibrated["selective"]["curve"])
        draw_coverage(right, calibrated["sets"])
        figure.legend(loc="outside lower center", ncols=3)
        entitle(figure, *titles)


def draw_selective(axis: Axes, curve: list[dict[str, Any]]) -> None:
    """Accuracy by the share of the faces that are answered, the surest first, with 95 % intervals."""
    shares, values = ([row[key] for row in curve] for key in ("coverage", "accuracy"))
    ends = np.array([row["interval"] for row in curve])
    axis.fill_between(shares, *ends.T, color=LIGHT, alpha=0.6, linewidth=0)
    axis.plot(shares, values, color=DARK)
    for row in curve:
        if any(np.isclose(row["coverage"], share) for share in (0.5, 0.8, 1.0)):
            axis.plot(row["coverage"], row["accuracy"], "o", color=DARK, markersize=4, clip_on=False)
            words = f"{row['accuracy']:.0%}"
            axis.annotate(
                words, (row["coverage"], row["accuracy"]), (0, 6), textcoords="offset points", ha="center", fontsize=8
            )
    axis.set(xlim=(0, 1), ylim=(min(0.5, *ends.ravel()), 1.02), xlabel="Share of the faces kept, the surest first")
    axis.set(ylabel="Accuracy on them", title="Only where it is sure")
    for each in (axis.xaxis, axis.yaxis):
        each.set_major_formatter(PercentFormatter(1, decimals=0))


def draw_coverage(axis: Axes, sets: dict[str, Any]) -> None:
    """How often the sets of each class's faces hold their label, beside sets of one threshold for all classes."""
    kinds = (
        (sets, DARK, "o", "a threshold for each class"),
        (sets["one_threshold"], MIDDLE, "s", "one for all classes"),
    )
    for offset, (found, color, marker, label) in zip((-0.16, 0.16), kinds, strict=True):
        rows = [(place, row) for place, row in enumerate(found["per_class"]) if row["coverage"] is not None]
        places, values = [place + offset for place, _ in rows], np.array([row["coverage"] for _, row in rows])
        ends = np.array([row["interval"] for _, row in rows])
        errors = np.maximum([values - ends[:, 0], ends[:, 1] - values], 0)
        axis.errorbar(
            values, places, xerr=errors, fmt=marker, color=color, capsize=2, markersize=4, elinewidth=0.9, label=label
        )
    names = [
        f"{row['emotion']} ({row['mean_size']:.1f})" if row["mean_size"] is not None else row["emotion"]
        for row in sets["per_class"]
    ]
    axis.axvline(sets["level"], color=QUIET, linestyle="--", linewidth=1, label=f"asked for: {sets['level']:.0%}")
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    axis.grid(False, axis="y")
    axis.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axis.set(xlabel="Sets that hold the label", title="Sets of classes (mean size)")
