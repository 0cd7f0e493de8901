"""Contact sheets of an audit: near copies with their difference, contradicting labels, blank pictures, label errors."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from config import EMOTIONS
from ferlib.figures.lettering import wrap
from ferlib.figures.palette import GREEN, QUIET, SKY, VERMILION
from ferlib.figures.style import PNG, WIDTH, Titles, saved_figure

FACE, GAP, LINE = 0.62, 0.03, 0.14  # inches: side of a face, between faces, height of a line of text
DIFFERENCE = 64  # grey levels of a difference that is drawn black or white
SMALL = 8  # points
LETTERS = 92  # of a line of the words below the title
PAIRS, GROUPS, BLANKS, ERRORS = 24, 24, 48, 20  # that a sheet shows at most


@contextmanager
def sheet(path: Path, rows: int, height: float, titles: Titles, formats: Sequence[str]) -> Iterator[tuple[Axes, float]]:
    """One axis in inches below a title, for `rows` rows of a height; gives it and the height of the first row's top.

    An axis for each picture takes matplotlib many times as long.
    """
    finding, words = wrap(titles[0], WIDTH - 0.2, 10.5), "\n".join(textwrap.fill(text, LETTERS) for text in titles[1:])
    top = 0.17 * (finding.count("\n") + 1 + words.count("\n") + 1) + 0.2
    whole = top + height * rows + 0.04
    with saved_figure(path, formats, figsize=(WIDTH, whole), layout="none") as figure:
        axis = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(0, whole))
        axis.set_axis_off()
        axis.text(0.08, whole - 0.08, finding, va="top", fontsize=10, fontweight="bold")
        axis.text(0.08, whole - 0.12 - 0.17 * (finding.count("\n") + 1), words, va="top", fontsize=8.5)
        yield axis, whole - top
        axis.set(xlim=(0, WIDTH), ylim=(0, whole), aspect="auto")


def show(axis: Axes, left: float, bottom: float, picture: np.ndarray, side: float = FACE) -> None:
    """A picture uint8 H×W×1 or H×W×3 as a square at (left, bottom)."""
    extent = (left, left + side, bottom, bottom + side)
    axis.imshow(picture.squeeze(), cmap="gray", vmin=0, vmax=255, extent=extent, interpolation="nearest")


def plot_pairs(
    path: Path,
    pairs: Sequence[tuple[np.ndarray, np.ndarray, str, str]],
    titles: Titles,
    formats: Sequence[str] = PNG,
) -> None:
    """Near copies: (face, its copy, a line above the first, a line above the second), faces uint8 H×W×C.

    Right of each pair is its difference, grey where both are equal.
    """
    columns, cell = 3, (3 * FACE + 3 * GAP + 0.08, FACE + 2 * LINE + 0.1)
    rows = max(1, -(-len(pairs) // columns))
    with sheet(path, rows, cell[1], titles, formats) as (axis, top):
        for place, (face, copy, above, below) in enumerate(pairs):
            row, column = divmod(place, columns)
            left, bottom = 0.08 + column * (cell[0] + 0.04), top - cell[1] * (row + 1) + 0.06
            gap = np.clip(128 + 127 * (face.astype(float) - copy).mean(-1) / DIFFERENCE, 0, 255)
            for number, picture in enumerate((face, copy, gap[..., None])):
                show(axis, left + number * (FACE + GAP), bottom, picture)
            axis.text(left, bottom + FACE + 0.03, f"{above}\n{below}", fontsize=SMALL, linespacing=1, va="bottom")


def plot_conflicts(
    path: Path, groups: Sequence[tuple[np.ndarray, str]], titles: Titles, formats: Sequence[str] = PNG
) -> None:
    """Pictures that occur with several labels: (face uint8 H×W×C, a line for each label)."""
    columns, cell = 3, (2.07, FACE + 0.14)
    rows = max(1, -(-len(groups) // columns))
    with sheet(path, rows, cell[1], titles, formats) as (axis, top):
        for place, (face, words) in enumerate(groups):
            row, column = divmod(place, columns)
            left, bottom = 0.08 + column * cell[0], top - cell[1] * (row + 1) + 0.06
            show(axis, left, bottom, face)
            axis.text(left + FACE + 0.06, bottom + FACE, words, fontsize=SMALL, va="top", linespacing=1.05)


def plot_faces(
    path: Path, faces: Sequence[tuple[np.ndarray, str]], titles: Titles, formats: Sequence[str] = PNG
) -> None:
    """Faces uint8 H×W×C, each above a line or two of words."""
    columns, cell = 8, ((WIDTH - 0.16) / 8, FACE + 2 * LINE + 0.12)
    rows = max(1, -(-len(faces) // columns))
    with sheet(path, rows, cell[1], titles, formats) as (axis, top):
        for place, (face, words) in enumerate(faces):
            row, column = divmod(place, columns)
            left, bottom = 0.08 + column * cell[0], top - cell[1] * (row + 1) + 2 * LINE + 0.08
            show(axis, left, bottom, face)
            axis.plot(*outline(left, bottom), color=QUIET, linewidth=0.5)  # white pictures end somewhere
            axis.text(left, bottom - 0.03, words, fontsize=SMALL, va="top", linespacing=1)


def outline(left: float, bottom: float, side: float = FACE) -> tuple[list[float], list[float]]:
    """The corners of a square."""
    return [left, left + side, left + side, left, left], [bottom, bottom, bottom + side, bottom + side, bottom]


def plot_label_errors(
    path: Path, faces: Sequence[tuple[np.ndarray, dict[str, Any]]], titles: Titles, formats: Sequence[str] = PNG
) -> None:
    """Faces uint8 H×W×C beside the network's probabilities and the annotators' votes, where these are known.

    Each face comes with label, predicted, probabilities and votes of 7 as in label_errors.list_label_errors.
    """
    columns, face_side, bar = 4, 0.84, 0.36
    cell = (1.56, face_side + 2 * LINE + 0.12)
    rows = max(1, -(-len(faces) // columns))
    with sheet(path, rows, cell[1], titles, formats) as (axis, top):
        for place, (picture, face) in enumerate(faces):
            row, column = divmod(place, columns)
            left, bottom = 0.08 + column * cell[0], top - cell[1] * (row + 1) + 0.06
            show(axis, left, bottom, picture, face_side)
            words = f"label {face['label']}\n→ {face['predicted']}"
            axis.text(left, bottom + face_side + 0.03, words, fontsize=SMALL, linespacing=1, va="bottom")
            draw_shares(axis, left + face_side + 0.23, bottom, face, (face_side, bar))


def draw_shares(axis: Axes, left: float, bottom: float, face: dict[str, Any], size: tuple[float, float]) -> None:
    """Seven bars of probability, each above one of the votes."""
    height, width = size
    step = height / len(EMOTIONS)
    middles = bottom + height - step * (np.arange(len(EMOTIONS)) + 0.5)
    marked = {face["label"]: GREEN, face["predicted"]: VERMILION}
    colors = [marked.get(emotion, QUIET) for emotion in EMOTIONS]
    axis.barh(middles, width, 0.09, left, color="#efefef")
    has_votes = face["votes"] is not None
    axis.barh(
        middles + 0.02 * has_votes,
        width * np.array(face["probabilities"]),
        0.05 if has_votes else 0.09,
        left,
        color=colors,
    )
    if has_votes:
        axis.barh(middles - 0.028, width * np.array(face["votes"]), 0.04, left, color=SKY)
    for middle, emotion in zip(middles, EMOTIONS, strict=True):
        axis.text(left - 0.03, middle, emotion[:2], ha="right", va="center_baseline", fontsize=SMALL)
