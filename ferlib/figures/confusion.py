"""Pictures of confusions: the matrix of all faces, and where the errors of each class go."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from matplotlib.ticker import PercentFormatter

from config import EMOTIONS
from ferlib.evaluation.error_analysis import pearson_residuals
from ferlib.figures.style import PNG, WIDTH, Titles, entitle, saved_figure


def plot_confusion_matrix(path: Path, matrix: np.ndarray, titles: Titles, formats: Sequence[str] = PNG) -> None:
    """Confusion of 7×7 counts, coloured by the share of the true class, so that the diagonal shows recall."""
    totals = matrix.sum(1, keepdims=True)
    rates = np.divide(matrix, totals, out=np.full(matrix.shape, np.nan), where=totals > 0)
    with saved_figure(path, formats, figsize=(6.2, 5)) as figure:
        axis = figure.subplots()
        both = np.vectorize("{:.0%}\n{:,}".format)(np.nan_to_num(rates), matrix)
        image = draw_matrix(axis, rates, both, "")
        axis.set_ylabel("True class: share of its faces, and their number")
        figure.colorbar(image, ax=axis, format=PercentFormatter(1, decimals=0), shrink=0.8, aspect=30)
        entitle(figure, *titles)


def draw_matrix(
    axis: Axes,
    values: np.ndarray,
    texts: np.ndarray,
    title: str,
    colors: str = "Blues",
    limits: tuple[float, float] = (0, 1),
    size: float = 8,
) -> AxesImage:
    """A matrix of classes, true in rows, coloured by `values` between `limits`; cells that are NaN stay empty."""
    image = axis.imshow(np.ma.masked_invalid(values), cmap=colors, vmin=limits[0], vmax=limits[1])
    axis.set_facecolor("#ededed")
    for (row, column), text in np.ndenumerate(texts):
        if np.isfinite(values[row, column]):
            brightness = np.dot(image.to_rgba(values[row, column])[:3], (0.3, 0.59, 0.11))
            color = "white" if brightness < 0.55 else "black"
            axis.text(column, row, text, ha="center", va="center", color=color, fontsize=size)
    axis.set(title=title, xlabel="Predicted class")
    axis.set_xticks(range(len(EMOTIONS)), EMOTIONS, rotation=40, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(len(EMOTIONS)), EMOTIONS)
    axis.grid(False)
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    return image


def plot_misclassifications(path: Path, matrix: np.ndarray, titles: Titles, formats: Sequence[str] = PNG) -> None:
    """Where the errors of each class go, and which confusions exceed chance; `matrix` 7×7 counts, true in rows.

    Left: each confusion as a share of all faces of the true class, and their number; the diagonal is left out. Right:
    Pearson residuals under quasi-independence (error_analysis.confusion_test); those beyond about ±2 exceed chance.
    """
    diagonal = np.eye(len(matrix), dtype=bool)
    totals = np.broadcast_to(matrix.sum(1, keepdims=True), matrix.shape)
    shares = np.divide(matrix, totals, out=np.full(matrix.shape, np.nan), where=~diagonal & (totals > 0))
    residuals = pearson_residuals(matrix)
    widest = np.nanmax(np.abs(residuals), initial=4)
    highest = max(0.1, np.nanmax(shares, initial=0))
    with saved_figure(path, formats, figsize=(WIDTH, 4.9)) as figure:
        axes = figure.subplots(1, 2, sharey=True)
        both = np.vectorize("{:.0%}\n{:,}".format)(np.nan_to_num(shares), matrix)
        signs = np.vectorize(signed)(residuals)
        words = "Share of the true class’s faces,\nand their number"
        left = draw_matrix(axes[0], shares, both, words, "Oranges", (0, highest))
        chance = "More (+) or fewer (−) than\nby chance: Pearson residual"
        right = draw_matrix(axes[1], residuals, signs, chance, "PuOr_r", (-widest, widest))
        axes[0].set_ylabel("True class")
        bars: dict[str, Any] = {"orientation": "horizontal", "shrink": 0.8, "aspect": 30}
        figure.colorbar(left, ax=axes[0], format=PercentFormatter(1, decimals=0), **bars)
        figure.colorbar(right, ax=axes[1], label="", **bars)
        entitle(figure, *titles)


def signed(value: float) -> str:
    """A number with its sign, and a real minus."""
    return f"{value:+.1f}".replace("-", "−")
