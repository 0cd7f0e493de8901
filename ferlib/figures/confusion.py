"""Pictures of confusions: the matrix of all faces, and where the errors of each class go."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from config import EMOTIONS
from ferlib.evaluation.error_analysis import pearson_residuals
from ferlib.figures.style import PNG, WIDTH, Titles, entitle, saved_figure


def plot_confusion_matrix(path: Path, matrix: np.ndarray, titles: Titles, formats: Sequence[str] = PNG) -> None:
    """Confusion of 7×7 counts, coloured by the share of the true class, so that the diagonal shows recall."""
    totals = matrix.sum(1, keepdims=True)
    rates = np.divide(matrix, totals, out=np.full(matrix.shape, np.nan), where=totals > 0)
    with saved_figure(path, formats, figsize=(5.6, 5)) as figure:
        axis = figure.subplots()
        both = np.vectorize("{:.0%}\n{:,}".format)(np.nan_to_num(rates), matrix)
        draw_matrix(axis, rates, both, "")
        axis.set_ylabel("True class: share of its faces, and their number")
        entitle(figure, *titles)


def draw_matrix(
    axis: Axes,
    values: np.ndarray,
    texts: np.ndarray,
    title: str,
    colors: str = "Blues",
    limits: tuple[float, float] = (0, 1),
) -> None:
    """A matrix of classes, true in rows, coloured by `values` between `limits`; cells that are NaN stay empty."""
    image = axis.imshow(np.ma.masked_invalid(values), cmap=colors, vmin=limits[0], vmax=limits[1])
    axis.set_facecolor("#ededed")
    for (row, column), text in np.ndenumerate(texts):
        if np.isfinite(values[row, column]):
            brightness = np.dot(image.to_rgba(values[row, column])[:3], (0.3, 0.59, 0.11))
            color = "white" if brightness < 0.55 else "black"
            axis.text(column, row, text, ha="center", va="center", color=color, fontsize=8)
    axis.set(title=title, xlabel="Predicted class")
    axis.set_xticks(range(len(EMOTIONS)), EMOTIONS, rotation=40, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(len(EMOTIONS)), EMOTIONS)
    axis.grid(False)
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)


def plot_misclassifications(path: Path, matrix: np.ndarray, titles: Titles, formats: Sequence[str] = PNG) -> None:
    """Where the errors of each class go, and which confusions exceed chance; `matrix` 7×7 counts, true in rows.

    Left: share of the errors of the true class, the diagonal left out. Right: Pearson residuals under
    quasi-independence (error_analysis.confusion_test); those beyond about ±2 exceed chance.
    """
    diagonal = np.eye(len(matrix), dtype=bool)
    errors = np.where(diagonal, 0, matrix)
    totals = np.broadcast_to(errors.sum(1, keepdims=True), errors.shape)
    shares = np.divide(errors, totals, out=np.full(errors.shape, np.nan), where=~diagonal & (totals > 0))
    residuals = pearson_residuals(matrix)
    widest = np.nanmax(np.abs(residuals), initial=4)
    with saved_figure(path, formats, figsize=(WIDTH, 4.45)) as figure:
        axes = figure.subplots(1, 2, sharey=True)
        percents, signs = np.vectorize("{:.0%}".format)(shares), np.vectorize(signed)(residuals)
        draw_matrix(axes[0], shares, percents, "Share of the errors\nof the true class", "Oranges", (0, 0.8))
        chance = "More (+) or fewer (−) than\nby chance: Pearson residual"
        draw_matrix(axes[1], residuals, signs, chance, "PuOr_r", (-widest, widest))
        axes[0].set_ylabel("True class")
        entitle(figure, *titles)


def signed(value: float) -> str:
    """A number with its sign, and a real minus."""
    return f"{value:+.1f}".replace("-", "−")
