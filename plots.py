"""Every plot of training and evaluation, in one look."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from sklearn.metrics import RocCurveDisplay

from config import EMOTIONS
from utils import atomic_path

# Okabe & Ito's palette, told apart with every kind of colour vision; line styles tell the classes apart in print.
COLORS = ("#D55E00", "#009E73", "#CC79A7", "#E69F00", "#595959", "#0072B2", "#56B4E9")
LINES = ("-", "--", "-.", ":", "-", "--", "-.")
STYLE = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "savefig.dpi": 200,
    "figure.constrained_layout.use": True,
}


@contextmanager
def saved_figure(path: Path, **options: object) -> Iterator[Figure]:
    """A figure in the common style that is written to `path` when the block ends well."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(**options)
        yield figure
        with atomic_path(path) as temporary:
            figure.savefig(temporary)


def plot_training_curves(path: Path, epochs: list[dict], best_epoch: int, title: str) -> None:
    """Loss and accuracy of train and val by epoch, the chosen epoch marked; `epochs` as in the history file."""
    numbers = [epoch["epoch"] for epoch in epochs]
    with saved_figure(path, figsize=(7.2, 3)) as figure:
        axes = figure.subplots(1, 2)
        for axis, kind in zip(axes, ("loss", "accuracy"), strict=True):
            for split, color, line in (("train", COLORS[5], "--"), ("val", COLORS[0], "-")):
                values = [epoch[f"{split}_{kind}"] for epoch in epochs]
                axis.plot(numbers, values, line, marker=".", color=color, label=split)
            axis.axvline(best_epoch, color="#999999", linewidth=0.8, label=f"best epoch ({best_epoch})")
            axis.set(title=kind.capitalize(), xlabel="Epoch")
            axis.set_xlim(0.5, len(epochs) + 0.5)
            axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            axis.legend()
        axes[1].set_ylim(0, 1)
        axes[1].yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        figure.suptitle(title)


def plot_confusion_matrix(path: Path, matrix: np.ndarray, title: str) -> None:
    """Confusion of 7×7 counts, beside the same normalised by row (recall on the diagonal)."""
    rates = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    with saved_figure(path, figsize=(10, 4.9)) as figure:
        axes = figure.subplots(1, 2, sharey=True)
        draw_matrix(axes[0], rates, np.vectorize("{:,}".format)(matrix), "Faces")
        draw_matrix(axes[1], rates, np.vectorize("{:.0%}".format)(rates), "Share of the true class")
        axes[0].set_ylabel("True")
        figure.suptitle(title)


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
            axis.text(column, row, text, ha="center", va="center", color=color, fontsize=8.5)
    axis.set(title=title, xlabel="Predicted")
    axis.set_xticks(range(len(EMOTIONS)), EMOTIONS, rotation=40, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(len(EMOTIONS)), EMOTIONS)
    axis.grid(False)
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)


def plot_roc_curves(path: Path, labels: np.ndarray, probabilities: np.ndarray, title: str) -> None:
    """One-vs-rest ROC curve of every class that occurs, with its AUC; labels N, probabilities N×7."""
    with saved_figure(path, figsize=(5, 4.8)) as figure:
        axis = figure.subplots()
        for code, emotion in enumerate(EMOTIONS):
            if 0 < (labels == code).sum() < len(labels):
                look = {"color": COLORS[code], "linestyle": LINES[code], "linewidth": 1.5}
                RocCurveDisplay.from_predictions(
                    labels == code, probabilities[:, code], name=emotion, ax=axis, curve_kwargs=look
                )
        axis.plot([0, 1], [0, 1], color="#999999", linewidth=0.8)
        axis.set(xlabel="False positive rate", ylabel="True positive rate", title=title, aspect="equal")
        axis.legend(loc="lower right", fontsize=8)
