"""Charts of an audit: measures of the pictures by split, precision of the ranking of label errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ferlib.data.facts import SPLITS
from ferlib.data.picture_quality import MEASURES
from ferlib.figures.palette import BLUE, GREY, ORANGE, VERMILION
from ferlib.figures.style import PNG, WIDTH, Titles, entitle, saved_figure

BINS = 50
COLORS = dict(zip(SPLITS, (GREY, ORANGE, BLUE), strict=True))
LINES = dict(zip(SPLITS, ("-", "--", "-."), strict=True))
TAIL = 0.005  # share of the pictures at either end that the axes leave out
CRITERIA = {"outvoted": ("another class has more votes", VERMILION), "no_vote": ("no annotator gave it", BLUE)}


def plot_quality(
    path: Path,
    measures: Mapping[str, np.ndarray],
    splits: np.ndarray,
    known: Mapping[str, np.ndarray] | None,
    titles: Titles,
    formats: Sequence[str] = PNG,
) -> None:
    """The distribution of each measure float N in each split int N; known: quantiles of a copy that is good."""
    with saved_figure(path, formats, figsize=(WIDTH, 3.9)) as figure:
        axes = figure.subplots(2, 3).ravel()
        for axis, (name, measure) in zip(axes, MEASURES.items(), strict=True):
            values = measures[name]
            low, high = np.quantile(values, (TAIL, 1 - TAIL))
            edges = np.linspace(low, max(high, low + 1e-3), BINS + 1)
            if known is not None:
                axis.stairs(shares_between(known[name], edges), edges, color="#cfcfcf", fill=True, label="known copy")
            for code, split in enumerate(SPLITS):
                chosen = values[splits == code]
                if len(chosen):
                    shares = np.histogram(chosen, edges)[0] / len(chosen)
                    axis.plot((edges[1:] + edges[:-1]) / 2, shares, LINES[split], color=COLORS[split], label=split)
            axis.set_xlabel(f"{measure.title}\n({measure.unit})", fontsize=8)
            axis.set_yticks([])
            axis.set_xlim(edges[0], edges[-1])
            axis.set_ylim(bottom=0)
            axis.spines["left"].set_visible(False)
        axes[-1].legend(fontsize=8, handlelength=1.8, loc="upper right")
        entitle(figure, *titles)


def shares_between(quantiles: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Shares B of a distribution, known by equally spaced quantiles, between edges B+1; ties count for the left bin."""
    values, first, counts = np.unique(quantiles, return_index=True, return_counts=True)
    last = (first + counts - 1) / (len(quantiles) - 1)
    up_to = np.interp(edges, values, last)
    up_to[0] = np.interp(edges[0], values, first / (len(quantiles) - 1))
    return np.diff(up_to)


def plot_precision(path: Path, scored: dict[str, Any], titles: Titles, formats: Sequence[str] = PNG) -> None:
    """Precision at k by the votes, with 95 % intervals, beside the share of all faces; scored: label_errors' scores."""
    with saved_figure(path, formats, figsize=(WIDTH, 3.2)) as figure:
        axis = figure.subplots()
        for name, (words, color) in CRITERIA.items():
            criterion = scored["criteria"][name]
            rows = criterion["confident_learning"]
            cuts = [row["k"] for row in rows]
            low, high = np.array([row["interval"] for row in rows]).T
            axis.fill_between(cuts, low, high, color=color, alpha=0.15, linewidth=0)
            axis.plot(cuts, [row["precision"] for row in rows], "o-", color=color, markersize=4)
            plain = [row["precision"] for row in criterion["by_probability"]]
            axis.plot(cuts, plain, ":", color=color)
            axis.axhline(criterion["share"], color=color, linestyle="--", linewidth=0.9)
            axis.text(cuts[-1] * 1.06, rows[-1]["precision"], words, color=color, va="center", fontsize=8)
            axis.text(cuts[-1] * 1.06, criterion["share"] - 0.01, "of all faces", color=color, va="top", fontsize=8)
        axis.set(
            xscale="log", ylim=(0, 1), xlabel="k: faces from the top of the ranking", ylabel="share that are errors"
        )
        axis.set_xticks(cuts, [f"{cut:,}" for cut in cuts])
        axis.minorticks_off()
        axis.set_xlim(cuts[0] * 0.9, cuts[-1] * 4.5)
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        entitle(figure, *titles)
