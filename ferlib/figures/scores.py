"""Pictures of scores: columns with intervals, agreement of methods, curves of deletion and of random weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ferlib.explanations.scores.columns import COLUMNS, COST, KIND_TITLES, SANITY, SIMPLE, STABILITY, Column
from ferlib.explanations.scores.ranks import by_mean_rank
from ferlib.figures.blending import IMPORTANCE
from ferlib.figures.lettering import wrap
from ferlib.figures.mean_maps import draw_mean_maps
from ferlib.figures.palette import BLUE, COLORS, GREY, INK, QUIET, VERMILION
from ferlib.figures.pool import FigurePool
from ferlib.figures.style import UNDATED, WIDTH, entitle, saved_figure
from ferlib.runtime.words import enumerate_words

if TYPE_CHECKING:
    from config import Score

SMALL = 7.5  # points
PER_ROW = 4  # panels at most
LABELS = 1.3  # inches of the methods' names
NAMED = ("regions", "lime", "shap", "occlusion", "hirescam", "gradcam", "saliency")  # among the curves, beside the best
DISTINCT = [*(color for color in COLORS if color != GREY), INK]  # of these; simple maps are grey
PALE = "#c9c9c9"  # of the other methods' curves


def no_figures() -> FigurePool:
    """Draws no picture of a face."""
    return FigurePool(lambda *_: None, False, ())


def draw_scores(found: Mapping[str, Any], flags: Score) -> None:
    """All pictures of a summary, beside its JSON file."""
    folder = flags.run.explanations("scores")
    subject = describe_faces(flags, found["faces"], found["faces"], intervals=False) + bits_of(found, "scores")
    measured = {name for row in found["table"].values() for name in row}
    for kind in KIND_TITLES:
        columns = [each for each in COLUMNS if each.kind == kind and each.name in measured]
        if columns and kind != COST:
            cells = [row[each.name] for row in found["table"].values() for each in columns if each.name in row]
            about = describe_faces(flags, max(cell["faces"] for cell in cells), found["faces"])
            about += bits_of(found, kind if kind in (STABILITY, SANITY) else "scores")
            draw_columns(folder / f"{kind}.png", found, columns, KIND_TITLES[kind], about, flags)
    draw_agreement(folder / "agreement.png", found, subject, flags)
    draw_curves(folder / "curves.png", found, subject, flags)
    if found["curves"]["sanity"]:
        draw_random_layers(folder / "random_layers.png", found, flags)
    with np.load(folder / "mean_maps.npz") as saved:
        arrays = dict(saved)
    about = f"{flags.run.name} · faces of the test split, moved to one face{describe_moves(found)}"
    about += bits_of(found, "scores")
    for right, name in ((True, "mean_maps"), (False, "mean_maps_wrong")):
        names, by_prediction = found["agreement"]["names"], flags.target == "predicted"
        draw_mean_maps(folder / f"{name}.png", arrays, names, right, about, flags.format, by_prediction)


def describe_moves(found: Mapping[str, Any]) -> str:
    """After "moved to one face": how they were placed."""
    return f": {found['placement']}" if found["placement"] else ""


def bits_of(found: Mapping[str, Any], stage: str) -> str:
    """That 8 bits computed the forward passes of a stage."""
    return " · network in 8 bits" * (found["stages"][stage]["precision"] == "int8")


def remove_figures(folder: Path) -> None:
    """Removes the pictures of an earlier run, which may have had other methods, faces and stages."""
    for kind in ("png", *UNDATED):
        for old in folder.glob(f"*.{kind}"):
            old.unlink()


def describe_faces(flags: Score, count: int, total: int, intervals: bool = True) -> str:
    """What a picture is of: `count` of the `total` faces that were scored."""
    bounds = " · 95 % intervals over faces" * intervals
    of_all = f" of {total}" * (count < total)
    return (
        f"{flags.run.name} · {count}{of_all} face{'s' * (total != 1)} of the test split, fill {flags.baseline}{bounds}"
    )


def draw_columns(
    path: Path, found: Mapping[str, Any], columns: Sequence[Column], title: str, subject: str, flags: Score
) -> None:
    """A panel per column, a row per method, from the best to the worst by the mean rank of these columns."""
    names = by_rank(found["table"], columns)
    rows = -(-len(columns) // PER_ROW)
    across = -(-len(columns) // rows)
    height = rows * (0.19 * len(names) + 1.4) + 0.9
    most = max(faces_of(found, column) for column in columns)
    with saved_figure(path, flags.format, figsize=(WIDTH, height), layout="constrained") as figure:
        panels = np.atleast_1d(figure.subplots(rows, across, sharey=True, squeeze=False)).ravel()
        for axes, column in zip(panels, columns, strict=False):
            draw_column(axes, found, names, column)
            says = column.says[:1].upper() + column.says[1:]
            toward = "→ better" if column.higher else "better ←"
            width = (WIDTH - LABELS) / across
            axes.set_xlabel(f"{wrap(says, width, 6.5)}\n{toward}", fontsize=6.5, color=QUIET)
            count = faces_of(found, column)
            axes.set_title(column.title + f"\n{count} faces" * (count < most), fontsize=SMALL + 1)
        for axes in panels[len(columns) :]:
            axes.axis("off")
        entitle(figure, title, "\n".join([subject, *explain_marks(found, names, columns, most)]))


def faces_of(found: Mapping[str, Any], column: Column) -> int:
    """The faces that a column is of."""
    return max(row[column.name]["faces"] for row in found["table"].values() if column.name in row)


def explain_marks(found: Mapping[str, Any], names: Sequence[str], columns: Sequence[Column], most: int) -> list[str]:
    """Lines on the marks and the missing faces of a picture, of those that it has."""
    cells = [found["table"][name][each.name] for name in names for each in columns if each.name in found["table"][name]]
    marks = ["orange: maps that need no network"] * any(name in SIMPLE for name in names)
    marks += ["○: not better than all of these"] * any(cell["beats_simple"] is False for cell in cells)
    fewer = any(each.name == "emfacs" and faces_of(found, each) < max(most, found["faces"]) for each in columns)
    lines = [" · ".join(marks)] * bool(marks)
    return (
        lines + ["Regions of EMFACS: without faces explained for Neutral, of which it expects no action units"] * fewer
    )


def by_rank(table: Mapping[str, Mapping[str, Any]], columns: Sequence[Column]) -> list[str]:
    """Methods by their mean rank in the columns that most methods have, then the simple maps."""
    names = by_mean_rank(table, columns)
    return [name for name in names if any(column.name in table[name] for column in columns)]


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
    """Deletion and insertion of pixels."""
    curves = {name: both["blur"] for name, both in found["curves"]["pixels"].items()}
    gains = {name: np.mean(inserted) - np.mean(deleted) for name, (deleted, inserted) in curves.items()}
    best = max((name for name in curves if name not in SIMPLE), key=gains.__getitem__)
    looks = choose_looks(curves, best)
    words = (
        ("Deletion: lower is better", "% of pixels blurred"),
        ("Insertion: higher is better", "% of pixels inserted"),
    )
    with saved_figure(path, flags.format, figsize=(WIDTH, 4.2), layout="constrained") as figure:
        panels = figure.subplots(1, 2, sharey=True)
        for side, (axes, (title, label)) in enumerate(zip(panels, words, strict=True)):
            for name, look in looks.items():
                shares = np.linspace(0, 100, len(curves[name][side]))
                axes.plot(shares, curves[name][side], **look)
            axes.set_title(title, fontsize=SMALL + 1)
            axes.set_xlabel(f"{label}{' into the blurred face' * side}", fontsize=SMALL)
            axes.tick_params(labelsize=SMALL)
        panels[0].set_ylabel("probability of the class", fontsize=SMALL)
        add_legend(figure, found, looks, sorted(looks, key=lambda name: -gains[name]))
        finding = f"Insertion less deletion of pixels is largest in the order of {found['titles'][best]}"
        simple = [found["titles"][name] for name in SIMPLE if gains.get(name, -np.inf) > gains[best]]
        finding += f" of all methods, and larger in that of {enumerate_words(simple)}" if simple else ""
        entitle(figure, finding, f"{subject}\nin the legend from the largest to the smallest difference")


def draw_random_layers(path: Path, found: Mapping[str, Any], flags: Score) -> None:
    """What is left of the maps as the network's weights are made random, from the head down."""
    curves = {name: np.abs(values) for name, values in found["curves"]["sanity"].items()}
    means = {name: float(np.mean(values[1:])) for name, values in curves.items()}
    best = min(curves, key=means.__getitem__)
    looks = choose_looks(curves, best)
    with saved_figure(path, flags.format, figsize=(WIDTH, 4.2), layout="constrained") as figure:
        axes = figure.subplots()
        for name, look in looks.items():
            axes.plot(curves[name], **look)
        axes.set_xlabel("parts of the network with random weights, from the head down", fontsize=SMALL)
        axes.set_ylabel("|rank correlation| with the map: lower is better", fontsize=SMALL)
        axes.tick_params(labelsize=SMALL)
        axes.locator_params(axis="x", integer=True)
        add_legend(figure, found, looks, sorted(looks, key=means.__getitem__))
        count = max(row["sanity"]["faces"] for row in found["table"].values() if "sanity" in row)
        about = describe_faces(flags, count, found["faces"], intervals=False)
        finding = f"As weights are made random, the map of {found['titles'][best]} changes most"
        entitle(figure, finding, f"{about}\nin the legend from the lowest to the highest mean")


def choose_looks(names: Iterable[str], best: str) -> dict[str, dict[str, Any]]:
    """Colour and line of each curve, the pale ones first, so that they lie below the others; the best one is thick."""
    drawn = list(names)
    named = [name for name in dict.fromkeys((*NAMED, best)) if name in drawn]
    looks: dict[str, dict[str, Any]] = {
        name: {"color": PALE, "linewidth": 0.8} for name in drawn if name not in SIMPLE and name not in named
    }
    for name in SIMPLE.keys() & drawn:
        looks[name] = {"color": GREY, "linestyle": ("-", "--", ":")[list(SIMPLE).index(name)], "linewidth": 1}
    for number, name in enumerate(named):
        style = "-" if number < len(DISTINCT) else "--"
        looks[name] = {"color": DISTINCT[number % len(DISTINCT)], "linestyle": style, "linewidth": 1.3}
    looks[best] |= {"linewidth": 2.4}
    return looks


def add_legend(
    figure: Figure, found: Mapping[str, Any], looks: Mapping[str, Mapping[str, Any]], order: Sequence[str]
) -> None:
    """Names of the curves in a given order; the pale ones share an entry."""
    lines = [
        Line2D([], [], label=found["titles"][name], **looks[name]) for name in order if looks[name]["color"] != PALE
    ]
    if len(lines) < len(looks):
        lines.append(Line2D([], [], label="other methods", color=PALE, linewidth=0.8))
    figure.legend(handles=lines, loc="outside lower center", ncols=4, fontsize=SMALL)
