"""The picture of an ensemble: its members and methods with their intervals, and how far the members differ."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.ticker import PercentFormatter

from ferlib.figures.palette import BLUE, GREY, VERMILION
from ferlib.figures.style import PNG, WIDTH, entitle, saved_figure


def plot_members(path: Path, comparison: dict[str, Any], subject: str, formats: Sequence[str] = PNG) -> None:
    """Accuracy on test of every member and method, above the pairwise disagreement; `comparison` as in the results."""
    methods = comparison["methods"]
    order = np.argsort([-row["accuracy"] for row in comparison["members"]], kind="stable")
    members = [comparison["members"][row] for row in order]
    shares = np.array(comparison["disagreement"])[np.ix_(order, order)]
    heights = (0.6 + 0.2 * (len(members) + len(methods)), 0.9 + min(0.32 * len(members), 4))
    with saved_figure(path, formats, figsize=(WIDTH, sum(heights) + 0.6)) as figure:
        above, below = figure.subplots(2, 1, height_ratios=heights)
        draw_accuracies(above, members, methods, comparison["chosen"])
        draw_disagreement(below, shares)
        entitle(figure, gain_in_words(comparison), subject)


def gain_in_words(comparison: dict[str, Any]) -> str:
    """What the chosen method gains over the member that is best on val."""
    chosen = next(row for row in comparison["methods"] if row["name"] == comparison["chosen"])
    points = 100 * chosen["gain"]["gain"]
    low, high = (100 * end for end in chosen["gain"]["interval"])
    gain = f"{points:+.1f} points (95 % interval {low:+.1f} to {high:+.1f})".replace("-", "−")
    return f"{chosen['title'].capitalize()}: {gain} against the best member, {comparison['best_member']}"


def draw_accuracies(
    axis: matplotlib.axes.Axes, members: list[dict[str, Any]], methods: list[dict[str, Any]], chosen: str
) -> None:
    """A dot with its 95 % interval for every row, the members above the methods."""
    rows = [*members, *methods]
    places = [place + (place >= len(members)) for place in range(len(rows))]  # a free line between the two groups
    for place, row in zip(places, rows, strict=True):
        color = GREY if row in members else VERMILION if row["name"] == chosen else BLUE
        axis.plot(row["interval"], [place, place], color=color, linewidth=1.5)
        axis.plot(row["accuracy"], place, "o", color=color, markersize=5)
        axis.text(row["interval"][1], place, f"  {row['accuracy']:.1%}", va="center", fontsize=8, color=color)
    names = [f"{row['name']}  {number}" for number, row in enumerate(members, start=1)]
    axis.set_yticks(places, [*names, *(row["title"] for row in methods)])
    axis.invert_yaxis()
    axis.margins(x=0.12, y=0.06)
    axis.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axis.set(title="Members, and methods below; the chosen one in vermilion", xlabel="Accuracy on test, 95 % interval")
    axis.grid(False, axis="y")


def draw_disagreement(axis: matplotlib.axes.Axes, shares: np.ndarray) -> None:
    """Share of faces on which exactly one of two members is right, M×M; members by the numbers beside their names."""
    pairs = np.ma.masked_where(np.eye(len(shares), dtype=bool), shares)
    axis.imshow(pairs, cmap="Blues", vmin=0, vmax=2.5 * max(shares.max(), 0.01))  # pale, for the numbers
    for (row, column), share in np.ndenumerate(shares):
        if row != column:
            axis.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=8)
    numbers = [str(number) for number in range(1, len(shares) + 1)]
    axis.set(title="Faces on which just one of two is right, %", xlabel="Member", ylabel="Member")
    axis.set_xticks(range(len(shares)), numbers)
    axis.set_yticks(range(len(shares)), numbers)
    axis.grid(False)
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
