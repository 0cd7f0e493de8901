"""Accuracy against confidence, before and after the temperature."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from ferlib.evaluation.intervals import bin_interval
from ferlib.figures.palette import DARK, MIDDLE, QUIET
from ferlib.figures.style import PNG, Titles, entitle, saved_figure

FEW = 10  # faces of a bin below which its marker is hollow and its gap is not drawn


def plot_reliability(
    path: Path,
    before: dict[str, Any],
    titles: Titles,
    formats: Sequence[str] = PNG,
    after: dict[str, Any] | None = None,
) -> None:
    """Accuracy against confidence, bin by bin, with Wilson's 95 % intervals, above the faces in each bin.

    `before` and `after` the temperature are calibrations as in the results. Above the diagonal accuracy exceeds
    confidence, below it falls short; bins of fewer than FEW faces are hollow.
    """
    kinds = {"network alone": (before, MIDDLE, "s")} if after else {"network": (before, DARK, "o")}
    kinds |= {"with temperature": (after, DARK, "o")} if after else {}
    with saved_figure(path, formats, figsize=(5, 6.4)) as figure:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3.6, 1))
        above.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle="--", label="perfectly calibrated")
        for label, (calibration, color, marker) in kinds.items():
            draw_bins(above, calibration["bins"], color, marker, label)
            edges = [row["low"] for row in calibration["bins"]] + [1]
            look: dict[str, Any] = {"fill": True, "alpha": 0.75} if color == DARK else {"linewidth": 1.5}
            below.stairs([row["faces"] for row in calibration["bins"]], edges, color=color, **look)
        above.set(ylabel="Accuracy, 95 % interval", xlim=(0, 1), ylim=(0, 1))
        below.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        below.set(xlabel="Confidence: probability of the predicted class", ylabel="Faces")
        for axis in (above.xaxis, above.yaxis):
            axis.set_major_formatter(PercentFormatter(1, decimals=0))
        figure.legend(loc="outside lower center", ncols=2)
        entitle(figure, *titles)


def draw_bins(axis: Axes, bins: list[dict[str, Any]], color: str, marker: str, label: str) -> None:
    """A point for each bin with faces, with its interval and, of FEW faces and more, its gap to the diagonal."""
    filled = [row for row in bins if row["faces"]]
    many, few = ([row for row in filled if (row["faces"] >= FEW) == is_many] for is_many in (True, False))
    if many:
        ends = np.array([[row["confidence"], row["accuracy"]] for row in many])
        axis.vlines(ends[:, 0], *ends.T, color=color, linewidth=5, alpha=0.25, label=f"gap, {label}")
    look: dict[str, Any] = {"fmt": marker, "color": color, "capsize": 2, "elinewidth": 0.9, "markersize": 4.5}
    for rows, fill, words in ((many, color, label), (few, "none", f"{label}, < {FEW} faces")):
        if rows:
            values = np.array([[row["confidence"], row["accuracy"]] for row in rows])
            ends = np.array([bin_interval(row) for row in rows])
            errors = np.maximum([values[:, 1] - ends[:, 0], ends[:, 1] - values[:, 1]], 0)
            x, y = values.T
            axis.errorbar(x, y, errors, markerfacecolor=fill, label=words, clip_on=False, **look)
