"""Curves of each class against the rest: ROC, precision and recall; a panel for each class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter
from sklearn.metrics import precision_recall_curve, roc_auc_score, roc_curve

from config import EMOTIONS
from ferlib.figures.palette import COLORS, QUIET
from ferlib.figures.style import PNG, WIDTH, Titles, entitle, saved_figure

ROWS, COLUMNS = 2, 4  # of panels; the last one has the note
Points = tuple[np.ndarray, np.ndarray]  # x and y of a curve


def plot_roc_curves(
    path: Path,
    labels: np.ndarray,
    probabilities: np.ndarray,
    titles: Titles,
    formats: Sequence[str] = PNG,
    per_class: Sequence[dict[str, Any]] = (),
) -> None:
    """One-vs-rest ROC curve of every class that occurs, with its AUC and 95 % interval.

    labels N, probabilities N×7; per_class: as in the results, for the intervals.
    """

    def curve(code: int) -> tuple[Points, str]:
        false_alarms, found, _ = roc_curve(labels == code, probabilities[:, code])
        interval = per_class[code]["intervals"]["auc"] if per_class else None
        ends = f"\n({interval[0]:.3f} to {interval[1]:.3f})" if interval else ""
        return (false_alarms, found), f"AUC {roc_auc_score(labels == code, probabilities[:, code]):.3f}{ends}"

    def chance(axis: Axes, _share: float) -> None:
        axis.plot([0, 1], [0, 1], color=QUIET, linewidth=0.8, linestyle="--")

    axes = ("False alarms: share of the faces of other classes", "Found: share of the faces of the class")
    note = (
        "Each class in its colour,\nthe others in grey\n\n- - -  by chance (0.500)\n\n"
        "in brackets: 95 % intervals,\nwhich cover 92 to 99 %"
    )
    plot_panels(path, labels, titles, formats, curve=curve, chance=chance, axes=axes, note=note)


def plot_precision_recall(
    path: Path, labels: np.ndarray, probabilities: np.ndarray, titles: Titles, formats: Sequence[str] = PNG
) -> None:
    """Precision-recall curve of every class that occurs against the rest, with its average precision (AP).

    labels N, probabilities N×7. A class named at random has its share of the faces as precision, whatever the recall.
    """

    def curve(code: int) -> tuple[Points, str]:
        precision, recall, _ = precision_recall_curve(labels == code, probabilities[:, code])
        return (recall, precision), f"AP {-np.sum(np.diff(recall) * precision[:-1]):.3f}"

    def chance(axis: Axes, share: float) -> None:
        axis.axhline(share, color=QUIET, linewidth=0.8, linestyle="--")

    axes = ("Recall: share of the class’s faces that are found", "Precision: share of alarms that are right")
    note = "Each class in its colour,\nthe others in grey\n\n- - -  by chance:\nthe class’s share of the faces"
    plot_panels(path, labels, titles, formats, curve=curve, chance=chance, axes=axes, note=note)


def plot_panels(
    path: Path,
    labels: np.ndarray,
    titles: Titles,
    formats: Sequence[str],
    *,
    curve: Callable[[int], tuple[Points, str]],
    chance: Callable[[Axes, float], None],
    axes: tuple[str, str],
    note: str,
) -> None:
    """A panel for each class that is neither absent nor alone, in which its curve is in colour.

    curve: class → points of its curve and the words in its panel. chance: draws what a class named at
    random reaches, by its share of the faces. axes: labels of x and y.
    """
    curves = {code: curve(code) for code in range(len(EMOTIONS)) if 0 < (labels == code).sum() < len(labels)}
    with saved_figure(path, formats, figsize=(WIDTH, 4)) as figure:
        panels = figure.subplots(ROWS, COLUMNS, sharex=True, sharey=True).ravel()
        for code, panel in enumerate(panels[: len(EMOTIONS)]):
            chance(panel, float((labels == code).mean()))
            for other, ((x, y), _) in curves.items():
                panel.plot(x, y, color="#d9d9d9", linewidth=0.7) if other != code else None
            panel.set_title(EMOTIONS[code], color=COLORS[code], fontweight="bold")
            if code in curves:
                (x, y), words = curves[code]
                panel.plot(x, y, color=COLORS[code])
                look: dict[str, Any] = {"ha": "center", "va": "bottom", "fontsize": 8, "transform": panel.transAxes}
                look["bbox"] = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1}
                panel.text(0.54, 0.06, words, **look)
            panel.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
            for each in (panel.xaxis, panel.yaxis):
                each.set_major_formatter(PercentFormatter(1, decimals=0, symbol=""))
                each.set_ticks([0, 0.5, 1])
        panels[-1].set_axis_off()
        panels[-1].text(0, 1, note, va="top", fontsize=8, transform=panels[-1].transAxes)
        panels[COLUMNS - 1].xaxis.set_tick_params(labelbottom=True)
        figure.supxlabel(f"{axes[0]}, %", fontsize=9)
        figure.supylabel(f"{axes[1]}, %", fontsize=9)
        entitle(figure, *titles)
