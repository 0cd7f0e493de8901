"""The picture of the table of regions and emotions: mean values with their intervals, and what EMFACS expects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ferlib.explanations.region_words import signed
from ferlib.figures.lettering import wrap
from ferlib.figures.palette import BLUE, GREY
from ferlib.figures.panels import SIGNED, SMALL
from ferlib.figures.style import WIDTH, in_style

FEWEST_SHOWN = 8  # faces of an emotion below which Student's interval is too wide to say anything


def has_interval(row: Mapping[str, Any]) -> bool:
    """Whether an emotion has so many faces that its intervals are shown."""
    return row["faces"] >= FEWEST_SHOWN


@in_style()
def draw_region_table(table: dict[str, Any], run: str, footer: str) -> Figure:
    """A cell for each region and emotion: the mean value, ± half of its 95 % interval where there are FEWEST_SHOWN
    faces; framed: expected by EMFACS."""
    emotions, names = table["emotions"], table["regions"]
    means = np.array([row["mean"] for row in emotions.values()]).T
    halves = (np.array([row["high"] for row in emotions.values()]).T - means) if len(emotions) else means
    limit = float(np.abs(means).max()) or 1.0
    figure = Figure(figsize=(WIDTH, 0.42 * len(names) + 1.9), layout="constrained")
    axes = figure.subplots()
    axes.imshow(means, cmap=SIGNED, vmin=-limit, vmax=limit, aspect="auto")
    for column, row in enumerate(emotions.values()):
        for place, name in enumerate(names):
            value, half = means[place, column], halves[place, column]
            dark = value > 0.6 * limit
            shown = f"{signed(value)}\n±{half:.2f}" if has_interval(row) else signed(value)
            axes.text(column, place, shown, ha="center", va="center", fontsize=SMALL - 1.5,
                      color="white" if dark else "black", linespacing=0.95)  # fmt: skip
            if name in row["expected"]:
                axes.add_patch(Rectangle((column - 0.47, place - 0.46), 0.94, 0.92, fill=False, linewidth=1.4))
    labels = [
        f"{emotion}\n{row['faces']} faces" + ("" if has_interval(row) else ",\nno interval")
        for emotion, row in emotions.items()
    ]
    axes.set_xticks(range(len(emotions)), labels, fontsize=SMALL)
    axes.set_yticks(range(len(names)), names, fontsize=SMALL)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    figure.suptitle("Mean Shapley value of each region for the emotion explained (Δ probability)", fontsize=9.5)
    lines = [describe_agreement(table), describe_intervals(emotions.values()), f"{run} · {footer}"]
    figure.supxlabel("\n".join(wrap(line, WIDTH - 0.1, SMALL - 0.5) for line in lines), fontsize=SMALL, x=0.012,
                     ha="left", color="0.35")  # fmt: skip
    return figure


def describe_intervals(rows: Iterable[Mapping[str, Any]]) -> str:
    """What ± is, and why it may be missing."""
    found = [has_interval(row) for row in rows]
    words = "±: half of the 95 % interval of the mean over faces (Student's t)" if any(found) else ""
    missing = "" if all(found) else f"no interval: fewer than {FEWEST_SHOWN} faces"
    text = "; ".join(filter(None, [words, missing]))
    return f"{text[:1].upper()}{text[1:]}."


@in_style()
def draw_contrasts(table: dict[str, Any], run: str) -> Figure:
    """A panel for each contrast of groups: by how much each region's share of the evidence differs, with intervals."""
    contrasts, names = table["contrasts"], table["regions"]
    figure = Figure(figsize=(WIDTH, 0.2 * len(names) + 1.9), layout="constrained")
    panels = figure.subplots(1, len(contrasts), sharex=True, sharey=True, squeeze=False)[0]
    for axes, contrast in zip(panels, contrasts.values(), strict=True):
        for place in range(len(names)):
            low, mean, high = (100 * contrast[key][place] for key in ("low", "difference", "high"))
            clear = low > 0 or high < 0
            axes.plot([low, high], [place, place], color=BLUE if clear else GREY, linewidth=1.2)
            axes.plot(mean, place, "o", markersize=4, color=BLUE if clear else GREY,
                      markerfacecolor=BLUE if clear else "white")  # fmt: skip
        axes.axvline(0, color="0.3", linewidth=0.8)
        axes.set_title(wrap(contrast["title"], WIDTH / 4, SMALL) + "\n{} and {} faces".format(*contrast["faces"]),
                       fontsize=SMALL)  # fmt: skip
        axes.set_yticks(range(len(names)), names, fontsize=SMALL)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.tick_params(axis="x", labelsize=SMALL)
        axes.grid(True, linewidth=0.3)
    figure.suptitle("How much more of the evidence lies in each region (percentage points)", fontsize=9.5)
    lines = (
        "Faces of the same predicted class are compared. 95 % intervals of all regions of a panel together; "
        "blue: 0 lies outside.",
        run,
    )
    figure.supxlabel("\n".join(wrap(line, WIDTH - 0.1, SMALL - 0.5) for line in lines), fontsize=SMALL, x=0.012,
                     ha="left", color="0.35")  # fmt: skip
    return figure


def describe_agreement(table: dict[str, Any]) -> str:
    """How far the regions that count are those of EMFACS."""
    if table["agreement"] is None:
        return "Framed: regions in which EMFACS expects action units of the emotion."
    return (
        "Framed: regions in which EMFACS expects action units of the emotion. They have the higher mean in "
        f"{100 * table['agreement']:.0f} % of the comparisons with other regions "
        f"(50 % is chance; p {p_value(table['p'])})."
    )


def p_value(p: float) -> str:
    """= 0.03, < 0.001."""
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"
