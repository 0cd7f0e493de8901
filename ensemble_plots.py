"""The picture of an ensemble: its members and methods with their intervals, and how far the members differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.ticker import PercentFormatter

from plots import COLORS, saved_figure


def plot_members(path: Path, comparison: dict[str, Any], title: str) -> None:
    """Accuracy on test of every member and method, and the pairwise disagreement; `comparison` as in the results."""
    methods = comparison["methods"]
    order = np.argsort([-row["accuracy"] for row in comparison["members"]], kind="stable")
    members = [comparison["members"][row] for row in order]
    shares = np.array(comparison["disagreement"])[np.ix_(order, order)]
    side = max(3.2, 0.32 * len(members))
    height = max(side, 0.26 * (len(members) + len(methods))) + 1.2
    with saved_figure(path, figsize=(7 + side, height)) as figure:
        left, right = figure.subplots(1, 2, width_ratios=(5, side))
        draw_accuracies(left, members, methods, comparison["chosen"])
        draw_disagreement(right, shares)
        figure.suptitle(title)


def draw_accuracies(
    axis: matplotlib.axes.Axes, members: list[dict[str, Any]], methods: list[dict[str, Any]], chosen: str
) -> None:
    """A dot with its 95 % interval for every row, the members above the methods."""
    rows = [*members, *methods]
    places = [place + (place >= len(members)) for place in range(len(rows))]  # a free line between the two groups
    for place, row in zip(places, rows, strict=True):
        color = COLORS[4] if row in members else COLORS[0] if row["name"] == chosen else COLORS[5]
        axis.plot(row["interval"], [place, place], color=color, linewidth=1.5)
        axis.plot(row["accuracy"], place, "o", color=color)
        axis.text(row["interval"][1], place, f"  {row['accuracy']:.1%}", va="center", fontsize=8, color=color)
    names = [f"{row['name']}  {number}" for number, row in enumerate(members, start=1)]
    axis.set_yticks(places, [*names, *(row["title"] for row in methods)])
    axis.invert_yaxis()
    axis.margins(x=0.12)
    axis.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axis.set(title="Members and methods, 95 % intervals, the chosen method in orange", xlabel="Accuracy on test")
    axis.grid(False, axis="y")


def draw_disagreement(axis: matplotlib.axes.Axes, shares: np.ndarray) -> None:
    """Share of faces on which exactly one of two members is right, M×M; the members by the numbers they have beside."""
    pairs = np.ma.masked_where(np.eye(len(shares), dtype=bool), shares)
    axis.imshow(pairs, cmap="Blues", vmin=0, vmax=1.5 * max(shares.max(), 0.01))  # pale, for the numbers
    for (row, column), share in np.ndenumerate(shares):
        if row != column:
            axis.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=8)
    numbers = range(1, len(shares) + 1)
    axis.set(title="Faces on which just one of two is right, %", xlabel="Member", ylabel="Member")
    axis.set_xticks(range(len(shares)), numbers)
    axis.set_yticks(range(len(shares)), numbers)
    axis.grid(False)
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
