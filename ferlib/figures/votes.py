"""Predictions and labels beside the annotators' votes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter
from scipy.stats import entropy

from config import EMOTIONS
from ferlib.evaluation.agreement import CLAIMS
from ferlib.figures.confident_errors import CELL, COLUMNS, FACE, draw_bars, draw_picture
from ferlib.figures.lettering import wrap
from ferlib.figures.palette import DARK, GREEN, LIGHT, MIDDLE, QUIET, VERMILION
from ferlib.figures.reliability import draw_bins
from ferlib.figures.style import PNG, WIDTH, Titles, entitle, saved_figure

KEY = "Label → prediction. Bars: votes for each class, green of the label, vermilion of the predicted one"


def plot_votes(
    path: Path,
    found: dict[str, Any],
    after: dict[str, Any] | None,
    shares: tuple[np.ndarray, np.ndarray],
    titles: Titles,
    formats: Sequence[str] = PNG,
) -> None:
    """Classes, accuracy by the votes for the label, calibration against the votes, entropies.

    found: against_votes of the results. after: the same of calibrated probabilities, None without. shares:
    probabilities N×7 and votes N×7 of the faces with votes.
    """
    with saved_figure(path, formats, figsize=(WIDTH, 6.4)) as figure:
        axes = figure.subplots(2, 2)
        draw_classes(axes[0, 0], found["per_class"])
        draw_by_share(axes[0, 1], found["by_share"])
        draw_calibration(axes[1, 0], found, after)
        draw_entropies(axes[1, 1], *shares)
        entitle(figure, *titles)


def draw_classes(axis: Axes, classes: list[dict[str, Any]]) -> None:
    """How often one annotator gives the label of each class, and how often the network does."""
    rows = [(place, row) for place, row in enumerate(classes) if row["faces"]]
    for place, row in rows:
        people = row["votes"][EMOTIONS.index(row["emotion"])]
        axis.plot([people, row["recall"]], [place, place], color=LIGHT, linewidth=2, zorder=1)
        axis.plot(
            people, place, "s", color=MIDDLE, markersize=5, label="one annotator" if place == rows[0][0] else None
        )
        axis.plot(row["recall"], place, "o", color=DARK, markersize=5, label="network" if place == rows[0][0] else None)
    axis.set_yticks([place for place, _ in rows], [row["emotion"] for _, row in rows])
    axis.set(xlim=(0, 1), title="Who gives the label", xlabel="Share of the class’s faces")
    axis.invert_yaxis()
    axis.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axis.legend(loc="lower left", frameon=False, handletextpad=0.1, fontsize=8, borderaxespad=0.2)


def draw_by_share(axis: Axes, rows: list[dict[str, Any]]) -> None:
    """Accuracy by the share of the annotators who give the label, with 95 % intervals."""
    filled = [(place, row) for place, row in enumerate(rows) if row["faces"]]
    places, values = [place for place, _ in filled], np.array([row["accuracy"] for _, row in filled])
    ends = np.array([row["interval"] for _, row in filled])
    errors = np.maximum([values - ends[:, 0], ends[:, 1] - values], 0)
    axis.errorbar(places, values, errors, fmt="o", color=DARK, capsize=2, elinewidth=0.9, markersize=5, clip_on=False)
    for place, row in filled:
        axis.annotate(
            f"{row['faces']:,}", (place, 0), (0, 3), textcoords="offset points", ha="center", fontsize=8, color=QUIET
        )
    names = ["none", *(f"≤{100 * row['high']:.0f}" for row in rows[1:])]
    axis.set_xticks(range(len(rows)), names)
    axis.set(
        ylim=(0, 1),
        xlim=(-0.5, len(rows) - 0.5),
        title="Accuracy where people agree",
        xlabel="Annotators who give the label (%)",
        ylabel="Accuracy",
    )
    axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))


def draw_calibration(axis: Axes, found: dict[str, Any], after: dict[str, Any] | None) -> None:
    """The share of annotators who say what the network says against its confidence."""
    axis.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle="--")
    kinds = [
        (
            found["calibration"],
            MIDDLE if after else DARK,
            "s" if after else "o",
            "network alone" if after else "network",
        )
    ]
    if after:
        kinds.append((after["calibration"], DARK, "o", "with temperature"))
    for calibration, color, marker, label in kinds:
        draw_bins(axis, calibration["bins"], color, marker, label)
    axis.set(
        xlim=(0, 1),
        ylim=(0, 1),
        title="Confidence and votes",
        xlabel="Confidence",
        ylabel="Annotators who say the same",
    )
    for each in (axis.xaxis, axis.yaxis):
        each.set_major_formatter(PercentFormatter(1, decimals=0))
    handles = [
        (handle, label)
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
        if "gap" not in label and "<" not in label
    ]
    axis.legend(*zip(*handles, strict=True), loc="upper left", frameon=False)


def draw_entropies(axis: Axes, probabilities: np.ndarray, votes: np.ndarray) -> None:
    """Faces by the entropies of votes and probabilities, in nats, with the network's quartiles for a range of votes."""
    people, network = (entropy(shares.astype(np.float64), axis=1) for shares in (votes, probabilities))
    limit = np.log(len(EMOTIONS))
    axis.plot(people, network, ".", color=MIDDLE, markersize=2, alpha=0.35, markeredgewidth=0, rasterized=True)
    edges = np.array([-1e-9, 1e-9, 0.4, 0.7, 1.0, limit])
    for low, high in itertools.pairwise(edges):
        rows = (people > low) & (people <= high)
        if rows.sum() >= 10:
            first, middle, last = np.quantile(network[rows], (0.25, 0.5, 0.75))
            x = people[rows].mean()
            axis.vlines(x, first, last, color=DARK, linewidth=1.5)
            axis.plot(x, middle, "o", color=DARK, markersize=5)
    axis.set(
        xlim=(-0.05, limit),
        ylim=(0, limit),
        title="Doubt of both (entropy, nats)",
        xlabel="Votes",
        ylabel="Network: faces, quartiles",
    )


def plot_vote_errors(
    path: Path, images: np.ndarray, errors: dict[str, Any], titles: Titles, formats: Sequence[str] = PNG
) -> None:
    """The surest errors with which most annotators agree, and those with which none does, beside the votes.

    images uint8 N×H×W×C, of which the errors name the places.
    """
    groups = [(name, errors["surest"][name]) for name in ("most", "none") if errors["surest"][name]]
    rows = [max(1, -(-len(group) // COLUMNS)) for _, group in groups]
    finding, *more = (wrap(text, WIDTH - 0.2, 10.5) for text in titles)
    words = "\n".join((*more, KEY))
    top = 0.17 * (finding.count("\n") + 1 + words.count("\n") + 1) + 0.2
    height = CELL[1] * sum(rows) + 0.24 * len(groups) + top
    with saved_figure(path, formats, figsize=(WIDTH, height), layout="none") as figure:
        axis = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(0, height))
        axis.set_axis_off()
        axis.text(0.08, height - 0.08, finding, va="top", fontsize=10, fontweight="bold")
        axis.text(0.08, height - 0.12 - 0.17 * (finding.count("\n") + 1), words, va="top", fontsize=8.5)
        head = height - top
        for (name, group), count in zip(groups, rows, strict=True):
            title = f"{CLAIMS[name].capitalize()}: {errors[name]:,} of {errors['count']:,} errors, the surest ones"
            axis.text(0.08, head - 0.1, title, va="top", fontsize=9, fontweight="bold")
            for place, error in enumerate(group):
                row, column = divmod(place, COLUMNS)
                left, bottom = 0.08 + CELL[0] * column, head - 0.24 - CELL[1] * (row + 1) + 0.06
                draw_picture(axis, left, bottom, images[error["index"]], error)
                colors = {error["true"]: GREEN, error["predicted"]: VERMILION}
                draw_bars(axis, left + FACE + 0.23, bottom, error["votes"], colors)
            head -= 0.24 + CELL[1] * count
        axis.set(xlim=(0, WIDTH), ylim=(0, height), aspect="auto")
