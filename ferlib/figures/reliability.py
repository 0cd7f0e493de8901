"""Accuracy against confidence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter
from scipy.stats import binomtest

from ferlib.figures.palette import BLUE, ORANGE, QUIET
from ferlib.figures.style import PNG, Titles, entitle, saved_figure

FEW = 10  # faces of a bin below which its marker is hollow


def plot_reliability(path: Path, calibration: dict[str, Any], titles: Titles, formats: Sequence[str] = PNG) -> None:
    """Accuracy against confidence, bin by bin, with Wilson's 95 % intervals, above the faces in each bin.

    `calibration` as in the results. Above the diagonal accuracy exceeds confidence, below it falls short;
    bins of few faces are hollow.
    """
    with saved_figure(path, formats, figsize=(5, 6)) as figure:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3.6, 1))
        above.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle="--", label="perfectly calibrated")
        draw_bins(
            above,
            [row for row in calibration["bins"] if row["faces"] >= FEW],
            BLUE,
            f"bins of {FEW} and more faces",
        )
        draw_bins(above, [row for row in calibration["bins"] if 0 < row["faces"] < FEW], "none", "bins of fewer faces")
        above.set(ylabel="Accuracy, 95 % interval", xlim=(0, 1), ylim=(0, 1))
        edges = [row["low"] for row in calibration["bins"]] + [1]
        below.stairs([row["faces"] for row in calibration["bins"]], edges, fill=True, color=BLUE, alpha=0.6)
        below.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        below.set(xlabel="Confidence: probability of the predicted class", ylabel="Faces")
        for axis in (above.xaxis, above.yaxis):
            axis.set_major_formatter(PercentFormatter(1, decimals=0))
        figure.legend(loc="outside lower center", ncols=2)
        entitle(figure, *titles)


def draw_bins(axis: Axes, rows: list[dict[str, Any]], fill: str, label: str) -> None:
    """A point for each row of a calibration, with its interval and, where filled, its gap to the diagonal."""
    if not rows:
        return
    confidence, accuracy = (np.array([row[key] for row in rows]) for key in ("confidence", "accuracy"))
    counts = [(round(row["accuracy"] * row["faces"]), row["faces"]) for row in rows]
    ends = np.array([binomtest(*count).proportion_ci(method="wilson") for count in counts])
    errors = np.maximum([accuracy - ends[:, 0], ends[:, 1] - accuracy], 0)
    look: dict[str, Any] = {"color": BLUE, "markerfacecolor": fill, "capsize": 2, "elinewidth": 0.9, "markersize": 5}
    if fill == "none":
        look |= {"alpha": 0.5}
    else:
        axis.vlines(confidence, confidence, accuracy, color=ORANGE, linewidth=5, alpha=0.45)
    axis.errorbar(confidence, accuracy, errors, fmt="o", label=label, clip_on=False, **look)
