"""Panels, colour bars and titles of explanation figures, and the stamp on maps that cannot be read."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colorbar import Colorbar
from matplotlib.colors import LinearSegmentedColormap, ListedColormap, Normalize, to_hex
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Rectangle
from PIL import Image

from config import EMOTIONS
from ferlib.figures.blending import AGAINST, FOR, NOTHING, colour_sizes, overlay, to_grey
from ferlib.figures.lettering import contrasting, wrap
from ferlib.figures.style import WIDTH

if TYPE_CHECKING:
    from ferlib.explanations.records import ExplainedFace

SIGNED = LinearSegmentedColormap.from_list("against_for", [AGAINST, np.full(3, NOTHING), FOR])
SIZES = ListedColormap(colour_sizes(np.linspace(0, 1, 256), 1.0))  # as over a face of middle grey
EVIDENCE = (("evidence for the class", FOR), ("evidence against the class", AGAINST))
EDGE: dict[str, Any] = {"edgecolor": "0.25", "linewidth": 0.6}  # of bars in these colours, of which one is light
TITLE, SMALL = 8.5, 8  # points: of a panel's title; of the text below it
HEAD = 0.54  # inches


# ── parts of a figure ────────────────────────────────────────────────────────────────────────────────────────────────


def new_figure(height: float, words: float = 0.0) -> Figure:
    """An empty page as wide as a text, that leaves HEAD inches at the top for the headline, and some for words."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    engine: Any = figure.get_layout_engine()
    engine.set(w_pad=0.06, h_pad=0.03, rect=(0, 0, 1, 1 - (HEAD + words) / height))
    return figure


def show(axes: Axes, picture: np.ndarray, title: str, smooth: bool = False, **colours) -> None:
    """A picture without ticks; `smooth` for faces, not for maps, whose pixels are what was measured."""
    axes.imshow(picture, interpolation="bicubic" if smooth else "nearest", interpolation_stage="data", **colours)
    title_panel(axes, title)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.grid(False)


def title_panel(axes: Axes, title: str) -> None:
    """A panel's title, broken to the width of a panel in its row."""
    columns = columns_of(axes)
    axes.set_title("\n".join(wrap(line, WIDTH / columns - 0.1, TITLE) for line in title.split("\n")), fontsize=TITLE)


def columns_of(axes: Axes) -> int:
    """Panels in a row of its grid."""
    place = axes.get_subplotspec()
    return place.get_gridspec().ncols if place else 1


def width_of(axes: Axes) -> float:
    """Inches of its columns of the grid."""
    place = axes.get_subplotspec()
    return WIDTH * (len(place.colspan) if place else 1) / columns_of(axes)


def outline(axes: Axes, numbers: np.ndarray, color: str | tuple = "black", linewidth: float = 1.2) -> None:
    """Lines along the pixel edges where the values of H×W change, 0 lying beyond the border."""
    padded = np.pad(numbers, 1)
    rows, columns = np.nonzero(padded[1:, 1:-1] != padded[:-1, 1:-1])
    level = np.stack([np.stack([columns, rows], 1), np.stack([columns + 1, rows], 1)], 1)
    rows, columns = np.nonzero(padded[1:-1, 1:] != padded[1:-1, :-1])
    upright = np.stack([np.stack([columns, rows], 1), np.stack([columns, rows + 1], 1)], 1)
    lines = np.concatenate([level, upright]) - 0.5
    axes.add_collection(
        LineCollection(list(lines), colors=color, linewidths=linewidth, clip_on=False, capstyle="round")
    )


def panel_row(figure: Figure | SubFigure, count: int, last: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Axes of `count` pictures side by side and, below each, the narrow axes of its colour bar or key.

    last: width of the last one, relative to the others.
    """
    return figure.subplots(2, count, height_ratios=(1, 0.045), width_ratios=(*[1] * (count - 1), last))


def two_rows(figure: Figure) -> tuple[SubFigure, SubFigure]:
    """Two halves of a page, one above the other."""
    rows: Any = figure.subfigures(2, 1)
    return rows[0], rows[1]


def signed_bar(figure: Figure | SubFigure, axes: Axes, limit: float, label: str) -> None:
    """A colour bar whose ends are labelled for and against; label: the quantity and its unit."""
    bar = figure.colorbar(ScalarMappable(Normalize(-limit, limit), SIGNED), cax=axes, orientation="horizontal")
    bar.set_ticks([-limit, 0, limit], labels=[f"−{limit:.2g}\nagainst", "0", f"+{limit:.2g}\nfor"])
    left, middle, right = bar.ax.get_xticklabels()
    left.set(ha="left", fontweight="bold")
    middle.set(color="0.35")
    right.set(ha="right", fontweight="bold")
    style_bar(bar, label)


def importance_bar(figure: Figure | SubFigure, axes: Axes, limit: float, unit: str) -> None:
    """A colour bar of values without a sign."""
    bar = figure.colorbar(ScalarMappable(Normalize(0, limit), SIZES), cax=axes, orientation="horizontal")
    bar.set_ticks([0, limit], labels=["0", f"{limit:.2g}"])
    left, right = bar.ax.get_xticklabels()
    left.set(ha="left")
    right.set(ha="right")
    style_bar(bar, unit)


def style_bar(bar: Colorbar, label: str) -> None:
    """No outline, small ticks, a label below."""
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=SMALL, length=2)
    bar.ax.set_xlabel(wrap(label, width_of(bar.ax), SMALL), fontsize=SMALL, labelpad=1)


def key(axes: Axes, *lines: tuple[str, str | np.ndarray]) -> None:
    """Words in place of a colour bar, each line in its colour, or on a ground of it where that is of evidence."""
    axes.axis("off")
    columns = columns_of(axes)
    wrapped = [(part, color) for text, color in lines for part in wrap(text, WIDTH / columns, SMALL + 0.5).split("\n")]
    for row, (text, color) in enumerate(wrapped):
        look: dict[str, Any] = {"color": color}
        if not isinstance(color, str):
            look["color"] = contrasting(to_hex(tuple(color)))
            look["bbox"] = {"boxstyle": "square,pad=0.15", "facecolor": color, "edgecolor": "none"}
        axes.annotate(
            text, (0.5, 1), (0, -13 * row), xycoords="axes fraction", textcoords="offset points", ha="center", va="top",
            fontsize=SMALL, fontweight="bold", annotation_clip=False, **look,
        )  # fmt: skip


def stamp_all(panels: Iterable[Axes], doubt: str) -> None:
    """Covers all panels that show a map that cannot be read: the first with the reason, the others with its begin."""
    for axes, text in zip(panels, chain([doubt], repeat(doubt.partition(":")[0])), strict=False):
        stamp(axes, text)


def stamp(axes: Axes, doubt: str) -> None:
    """Covers a map that cannot be read, and the lines at its edges, so that its colours do not persuade."""
    cover: dict[str, Any] = {"facecolor": "white", "alpha": 0.8, "zorder": 5, "clip_on": False}
    axes.add_patch(Rectangle((-0.015, -0.015), 1.03, 1.03, transform=axes.transAxes, **cover))
    text = wrap(doubt, WIDTH / columns_of(axes) - 0.3, TITLE)
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", fontsize=TITLE, zorder=6,
              fontweight="bold")  # fmt: skip


def headline(figure: Figure, method: str, face: ExplainedFace, *facts: str) -> None:
    """Title of a figure: the method, then true and predicted class and its probability; black badge if it is wrong."""
    true = [] if face.true is None else [f"true {EMOTIONS[face.true]}"]
    parts = [*true, f"predicted {name_with_percent(face, face.predicted)}", *facts]
    height = figure.get_figheight()
    figure.text(0.012, 1 - 0.06 / height, method, fontsize=10, fontweight="bold", va="top")
    figure.text(0.012, 1 - 0.25 / height, " · ".join(parts), fontsize=9, va="top")
    if face.correct is None:
        return
    box = {"boxstyle": "round", "facecolor": "white" if face.correct else "black", "edgecolor": "black"}
    text, color = ("✓ right", "black") if face.correct else ("✗ WRONG", "white")
    look: dict[str, Any] = {"fontsize": 9, "fontweight": "bold", "ha": "right", "va": "center"}
    figure.text(0.98, 1 - 0.2 / height, text, color=color, bbox=box, **look)


def footnote(figure: Figure, run: str, face: ExplainedFace, footer: str) -> None:
    """Small print: run, face, settings and seed."""
    where = face.name if face.true is None else f"face {face.index} of the test split ({face.name})"
    facts = f"{run} · {where}", footer.replace(" · ", "\N{NO-BREAK SPACE}· ")  # no line begins with a dot
    lines = (wrap(fact, WIDTH - 0.1, SMALL - 0.5) for fact in facts)
    figure.supxlabel("\n".join(lines), fontsize=SMALL, color="0.35", x=0.012, ha="left")


def name_with_percent(face: ExplainedFace, label: int) -> str:
    """A class and its probability: Fear (41 %)."""
    return f"{EMOTIONS[label]} ({100 * face.probabilities[label]:.0f} %)"


def draw_signed(axes: Axes, image: np.ndarray, values: np.ndarray, limit: float, title: str) -> None:
    """Signed sums over blocks of pixels, over the face at twice their resolution or at its own."""
    block = -(-len(image) // len(values))
    image = shrink(image, len(values), block)
    repeat = len(image) // len(values)
    show(axes, overlay(image, np.repeat(np.repeat(values, repeat, axis=0), repeat, axis=1), limit), title)


def shrink(image: np.ndarray, blocks: int, block: int) -> np.ndarray:
    """A grey face with at most 2×2 pixels a block, of `blocks` × `blocks` blocks that may reach beyond it: S×S×1."""
    fill = [(0, blocks * block - side) for side in image.shape[:2]]
    side = blocks * min(block, 2)
    grey = Image.fromarray(np.pad(to_grey(image), fill, mode="edge").astype(np.float32))
    return np.asarray(grey.resize((side, side), Image.Resampling.BOX))[..., None]
