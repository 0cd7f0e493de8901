"""Curves of each class against the rest: ROC, precision and recall."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import RocCurveDisplay, precision_recall_curve

from config import EMOTIONS
from ferlib.figures.palette import COLORS, QUIET
from ferlib.figures.style import LINES, PNG, Titles, entitle, saved_figure


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


def plot_precision_recall(
    path: Path, labels: np.ndarray, probabilities: np.ndarray, titles: Titles, formats: Sequence[str] = PNG
) -> None:
    """Precision-recall curve of every class that occurs against the rest, with its average precision (AP).

    labels N, probabilities N×7. A class named at random has its share of the faces as precision, whatever the recall.
    """
    with saved_figure(path, formats, figsize=(5, 5.1)) as figure:
        axis = figure.subplots()
        for code in np.unique(labels):
            precision, recall, _ = precision_recall_curve(labels == code, probabilities[:, code])
            area = -np.sum(np.diff(recall) * precision[:-1])
            look: dict[str, Any] = {"color": COLORS[code], "linestyle": LINES[code], "drawstyle": "steps-post"}
            axis.plot(recall, precision, label=f"{EMOTIONS[code]} (AP = {area:.2f})", **look)
        axis.set(xlabel="Recall", ylabel="Precision", aspect="equal", xlim=(0, 1.01), ylim=(0, 1.01))
        axis.legend(loc="lower left")
        entitle(figure, *titles)
