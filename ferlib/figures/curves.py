"""The plots of training, and of confusion and ROC curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from sklearn.metrics import RocCurveDisplay

from config import EMOTIONS
from ferlib.figures.style import COLORS, LINES, PNG, QUIET, entitle, saved_figure
from ferlib.figures.training import Titles


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
    axis: matplotlib.axes.Axes,
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


def plot_roc_curves(
    path: Path, labels: np.ndarray, probabilities: np.ndarray, titles: Titles, formats: Sequence[str] = PNG
) -> None:
    """One-vs-rest ROC curve of every class that occurs, with its AUC; labels N, probabilities N×7."""
    with saved_figure(path, formats, figsize=(5, 5.1)) as figure:
        axis = figure.subplots()
        for code, emotion in enumerate(EMOTIONS):
            if 0 < (labels == code).sum() < len(labels):
                look = {"color": COLORS[code], "linestyle": LINES[code]}
                RocCurveDisplay.from_predictions(
                    labels == code, probabilities[:, code], name=emotion, ax=axis, curve_kwargs=look
                )
        axis.plot([0, 1], [0, 1], color=QUIET, linewidth=0.8, label="by chance (AUC = 0.50)")
        axis.set(xlabel="False positive rate", ylabel="True positive rate", aspect="equal")
        axis.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
        axis.legend(loc="lower right")
        entitle(figure, *titles)
