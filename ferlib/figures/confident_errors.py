"""The most confident errors as faces beside their probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from config import EMOTIONS
from ferlib.figures.lettering import wrap
from ferlib.figures.palette import GREEN, QUIET, VERMILION
from ferlib.figures.style import PNG, WIDTH, Titles, saved_figure

COLUMNS, SHOWN = 4, 20  # faces of the picture
FACE, BAR = 0.84, 0.38  # inches: side of a face, length of the bar of probability 1
CELL = (1.55, 1.24)  # inches: width and height of a face with its bars and words


def plot_confident_errors(
    path: Path, images: np.ndarray, errors: list[dict[str, Any]], titles: Titles, formats: Sequence[str] = PNG
) -> None:
    """The first of `errors` (error_analysis.confident_errors) as faces, each beside its seven probabilities.

    images uint8 N×H×W×C, of which the errors name the places. All is drawn into one axis measured in inches: an axis
    for each of forty parts takes matplotlib many times as long.
    """
    rows = max(1, -(-min(len(errors), SHOWN) // COLUMNS))
    key = "Bars: probability of each class, vermilion of the predicted one, green of the label" if errors else ""
    finding, *more = (wrap(text, WIDTH - 0.2, 10.5) for text in titles)
    words = "\n".join(filter(None, (*more, key)))
    top = 0.17 * (finding.count("\n") + 1 + words.count("\n") + 1) + 0.14
    height = CELL[1] * rows + top
    with saved_figure(path, formats, figsize=(WIDTH, height), layout="none") as figure:
        axis = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(0, height))
        axis.set_axis_off()
        axis.text(0.08, height - 0.08, finding, va="top", fontsize=10, fontweight="bold")
        axis.text(0.08, height - 0.12 - 0.17 * (finding.count("\n") + 1), words, va="top", fontsize=8.5)
        for place, error in enumerate(errors[:SHOWN]):
            row, column = divmod(place, COLUMNS)
            left, bottom = 0.08 + CELL[0] * column, 0.06 + CELL[1] * (rows - 1 - row)
            draw_picture(axis, left, bottom, images[error["index"]], error)
            colors = {error["true"]: GREEN, error["predicted"]: VERMILION}
            draw_bars(axis, left + FACE + 0.23, bottom, error["probabilities"], colors)
        axis.set(xlim=(0, WIDTH), ylim=(0, height), aspect="auto")


def draw_picture(axis: Axes, left: float, bottom: float, image: np.ndarray, error: dict[str, Any]) -> None:
    """A face of FACE×FACE inches at (left, bottom), and above it what it was taken for."""
    extent = (left, left + FACE, bottom, bottom + FACE)
    axis.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=255, extent=extent)
    words = f"{error['true']} → {error['predicted']}\n{error['probability']:.0%}, face {error['index']}"
    axis.text(left, bottom + FACE + 0.03, words, fontsize=8, linespacing=1)


def draw_bars(axis: Axes, left: float, bottom: float, shares: Sequence[float], marked: dict[str, str]) -> None:
    """Seven bars on tracks from 0 to 1, those of the `marked` classes in colours."""
    colors = [marked.get(emotion, QUIET) for emotion in EMOTIONS]
    heights = bottom + FACE * (1 - (np.arange(len(EMOTIONS)) + 0.5) / len(EMOTIONS))
    axis.barh(heights, BAR, 0.09, left, color="#efefef")
    axis.barh(heights, BAR * np.array(shares), 0.09, left, color=colors)
    for height, emotion in zip(heights, EMOTIONS, strict=True):
        axis.text(left - 0.03, height, emotion[:2], ha="right", va="center_baseline", fontsize=8)
