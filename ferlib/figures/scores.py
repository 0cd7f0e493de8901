"""Pictures of scores: columns with intervals, agreement of methods, curves of deletion and of random weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes

from ferlib.explanations.scores.columns import COLUMNS, COMPARED, COST, KIND_TITLES, SIMPLE, Column
from ferlib.figures.blending import IMPORTANCE
from ferlib.figures.mean_maps import draw_mean_maps
from ferlib.figures.palette import BLUE, COLORS, GREY, QUIET, VERMILION
from ferlib.figures.pool import FigurePool
from ferlib.figures.style import UNDATED, WIDTH, entitle, saved_figure

if TYPE_CHECKING:
    from config import Score

SMALL = 7.5  # points
PER_ROW = 4  # panels
DISTINCT = [color for color in COLORS if color != GREY]  # of methods; simple maps are grey


def no_figures() -> FigurePool:
    """Draws no picture of a face."""
    return FigurePool(lambda *_: None, False, ())


def draw_scores(found: Mapping[str, Any], flags: Score) -> None:
    """All pictures of a summary, beside its JSON file."""
    folder = flags.run.explanations("scores")
    subject = describe_faces(flags, found["faces"], intervals=False)
    measured = {name for row in found["table"].values() for name in row}
    for kind in KIND_TITLES:
        columns = [each for each in COLUMNS if each.kind == kind and each.name in measured]
        if columns and kind != COST:
            cells = [row[each.name] for row in found["table"].values() for each in columns if each.name in row]
            about = describe_faces(flags, max(cell["faces"] for cell in cells))
            draw_columns(folder / f"{kind}.png", found, columns, KIND_TITLES[kind], about, flags)
    draw_agreement(folder / "agreement.png", found, subject, flags)
    draw_curves(folder / "curves.png", found, subject, flags)
    with np.load(folder / "mean_maps.npz") as saved:
        arrays = dict(saved)
    about = f"{flags.run.name} · faces of the test split, moved to one face by their landmarks"
    for right, name in ((True, "mean_maps"), (False, "mean_maps_wrong")):
        draw_mean_maps(folder / f"{name}.png", arrays, found["agreement"]["names"], right, about, flags.format)


def remove_figures(folder: Path) -> None:
    """Removes the pictures of an earlier run, which may have had other methods, faces and stages."""
    for kind in ("png", *UNDATED):
        for old in folder.glob(f"*.{kind}"):
            old.unlink()


def describe_faces(flags: Score, count: int, intervals: bool = True) -> str:
    """What a picture is of."""
    bounds = " · 95 % intervals over faces" * intervals
    return f"{flags.run.name} · {count} face{'s' * (count != 1)} of the test split, fill {flags.baseline}{bounds}"


def draw_columns(
    path: Path, found: Mapping[str, Any], columns: Sequence[Column], title: str, subject: str, flags: Score
) -> None:
    """A panel per column, a row per method, from the best to the worst by the mean rank of these columns."""
    names = by_rank(found["table"], columns)
    rows = -(-len(columns) // PER_ROW)
    across = min(len(columns), PER_ROW)
    height = rows * (0.19 * len(names) + 1.0) + 0.8
    with saved_figure(path, flags.format, figsize=(WIDTH, height), layout="constrained") as figure:
        panels = np.atleast_1d(figure.subplots(rows, across, sharey=True, squeeze=False)).ravel()
        for axes, column in zip(panels, columns, strict=False):
            draw_column(axes, found, names, column)
        for axes in panels[len(columns) :]:
            axes.axis("off")
        note = "orange: maps that need no network" + " · ○: not better than all of these" * (
            columns[0].kind in COMPARED
        )
        entitle(figure, title, f"{subject}\n{note}")


def by_rank(table: Mapping[str, Mapping[str, Any]], columns: Sequence[Column]) -> list[str]:
    """Methods by their mean rank, then the simple maps."""

    def mean(name: str) -> float:
        ranks = [table[name][each.name]["rank"] for each in columns if each.name in table[name]]
        ranks = [rank for rank in ranks if rank is not None]
        return float(np.mean(ranks)) if ranks else np.inf

    return sorted((name for name in table if any(each.name in table[name] for each in columns)), key=mean)


def draw_column(axes: Axes, found: Mapping[str, Any], names: Sequence[str], column: Column) -> None:
    """Means with intervals."""
    for place, name in enumerate(names):
        cell = found["table"][name].get(column.name)
        if cell is None:
            continue
        color = VERMILION if name in SIMPLE else BLUE
        hollow = cell["beats_simple"] is False
        if cell["low"] is not None:
            axes.plot([cell["low"], cell["high"]], [place, place], color=color, linewidth=1.2)
        axes.plot(cell["mean"], place, "o", color=color, markersize=4, markerfacecolor="white" if hollow else color)
    axes.set_yticks(range(len(names)), [found["titles"][name] for name in names], fontsize=SMALL)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="x", labelsize=SMALL)
    axes.locator_params(axis="x", nbins=4)
    axes.set_title(column.title, fontsize=SMALL + 1)
    axes.set_xlabel("→ better" if column.higher else "better ←", fontsize=SMALL, color=QUIET)
    axes.grid(True, axis="x", linewidth=0.4)
    axes.grid(True, axis="y", linewidth=0.3)


def draw_agreement(path: Path, found: Mapping[str, Any], subject: str, flags: Score) -> None:
    """Rank correlations of each two methods' maps."""
    names, values = found["agreement"]["names"], np.array(found["agreement"]["values"])
    titles = [found["titles"][name] for name in names]
    side = 0.33 * len(names) + 2.2
    with saved_figure(path, flags.format, figsize=(min(WIDTH, side), min(WIDTH, side)), layout="constrained") as figure:
        axes = figure.subplots()
        axes.imshow(values, cmap=IMPORTANCE, vmin=-0.2, vmax=1)
        axes.set_xticks(range(len(names)), titles, rotation=90, fontsize=SMALL)
        axes.set_yticks(range(len(names)), titles, fontsize=SMALL)
        axes.grid(False)
        for (row, column), value in np.ndenumerate(values):
            text = f"{value:.1f}".replace("-0.0", "0.0").replace("-", "−")
            color = "black" if value > 0.5 else "white"
            axes.text(column, row, text, ha="center", va="center", fontsize=5.5, color=color)
        entitle(figure, "Agreement of methods: rank correlation of their maps", subject)


def draw_curves(path: Path, found: Mapping[str, Any], subject: str, flags: Score) -> None:
    """Deletion, insertion and, where it was measured, weights at random."""
    sanity = found["curves"]["sanity"]
    panels = 3 if sanity else 2
    strongest = [name for name in found["titles"] if name in found["curves"]["pixels"]]
    with saved_figure(path, flags.format, figsize=(WIDTH, 3.9), layout="constrained") as figure:
        axes = figure.subplots(1, panels)
        for side, title in enumerate(("Deletion: lower is better", "Insertion: higher is better")):
            for number, name in enumerate(strongest):
                curve = found["curves"]["pixels"][name]["blur"][side]
                shares = np.linspace(0, 100, len(curve))
                axes[side].plot(shares, curve, label=found["titles"][name], **look(number, name))
            axes[side].set_title(title, fontsize=SMALL + 1)
            axes[side].set_xlabel(f"% of pixels {('blurred', 'inserted into the blurred face')[side]}", fontsize=SMALL)
        axes[0].set_ylabel("probability of the class", fontsize=SMALL)
        if sanity:
            for number, name in enumerate(strongest):
                if name in sanity:
                    axes[2].plot(np.abs(sanity[name]), **look(number, name))
            axes[2].set_title("Random layers: lower is better", fontsize=SMALL + 1)
            axes[2].set_xlabel("parts randomised, from the head", fontsize=SMALL)
            axes[2].set_ylabel("|rank correlation| with the map", fontsize=SMALL)
        for each in axes:
            each.tick_params(labelsize=SMALL)
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=SMALL)
        entitle(figure, "What the output does as pixels go and come in a map's order", subject)


def look(number: int, name: str) -> dict[str, Any]:
    """Colour and line of a row."""
    if name in SIMPLE:
        return {"color": GREY, "linestyle": ("-", "--", ":")[list(SIMPLE).index(name)], "linewidth": 1}
    return {
        "color": DISTINCT[number % len(DISTINCT)],
        "linestyle": ("-", "--", ":")[number // len(DISTINCT) % 3],
        "linewidth": 1.2,
    }
