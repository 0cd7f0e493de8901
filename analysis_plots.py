"""The pictures of an error analysis: scores by class, precision and recall, confusions, reliability, worst errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter
from scipy.stats import binomtest
from sklearn.metrics import precision_recall_curve

from config import EMOTIONS, Run, dataset_facts
from datasets import FaceData
from error_analysis import pearson_residuals, test_in_words
from plots import COLORS, LINES, draw_matrix, plot_confusion_matrix, plot_roc_curves, saved_figure
from results_text import with_interval

SCORES = {"precision": COLORS[6], "recall": COLORS[3], "f1": COLORS[5]}
INK, QUIET = "#1d2129", "#8a8a8a"
FEW = 10  # faces of a bin that say little
COLUMNS, SHOWN = 4, 20  # faces of the gallery
FACE, BAR = 1.07, 0.36  # inches: side of a face, length of the bar of a certain class


def draw_plots(run: Run, faces: FaceData, probabilities: np.ndarray, results: dict[str, Any]) -> None:
    """Every picture of a run on the test faces, from probabilities N×7 and the results."""
    labels, matrix = faces.labels, np.array(results["confusion_matrix"])
    subject = f"{run.model} on {dataset_facts(run.dataset).title}, test ({len(labels):,} faces)"
    against = f"one class against the rest\n{subject}"
    ece = with_interval(results["ece"], results["intervals"]["ece"], ".1%")
    pattern = test_in_words(results["confusion_test"]["errors"])
    confusion = f"Confusion · {subject}, accuracy {results['accuracy']:.1%}"
    plot_confusion_matrix(run.plot("confusion_matrix"), matrix, confusion)
    plot_roc_curves(run.plot("roc_curves"), labels, probabilities, f"ROC, {against}")
    plot_precision_recall(run.plot("precision_recall"), labels, probabilities, f"Precision and recall, {against}")
    plot_class_scores(run.plot("class_scores"), results["per_class"], f"Class by class, 95 % intervals\n{subject}")
    plot_misclassifications(run.plot("misclassifications"), matrix, f"Errors · {subject}\n{pattern}")
    plot_reliability(run.plot("reliability"), results["calibration"], f"Reliability, ECE {ece}\n{subject}")
    errors, surest = results["confident_errors"], f"Most confident errors · {subject}"
    plot_confident_errors(run.plot("confident_errors"), faces.images, errors, surest)


# ── classes ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def plot_class_scores(path: Path, per_class: list[dict[str, Any]], title: str) -> None:
    """Precision, recall and F1 of each class as bars with their 95 % intervals; `per_class` as in the results."""
    with saved_figure(path, figsize=(7.2, 3.6)) as figure:
        axis = figure.subplots()
        for place, (score, color) in enumerate(SCORES.items()):
            values = np.array([row[score] for row in per_class])
            ends = np.array([row["intervals"][score] or (row[score], row[score]) for row in per_class])
            look = {"ecolor": INK, "error_kw": {"elinewidth": 0.8, "capsize": 1.8, "capthick": 0.8}}
            errors = np.maximum([values - ends[:, 0], ends[:, 1] - values], 0)
            centres = np.arange(len(per_class)) + 0.27 * (place - 1)
            axis.bar(centres, values, 0.25, yerr=errors, color=color, label=score.replace("f1", "F1"), **look)
        axis.set_xticks(range(len(per_class)), [f"{row['emotion']}\n{row['support']:,} faces" for row in per_class])
        axis.tick_params(axis="x", length=0)
        axis.set(ylim=(0, 1), title=title)
        axis.grid(False, axis="x")
        axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        figure.legend(loc="outside lower center", ncols=3)


def plot_precision_recall(path: Path, labels: np.ndarray, probabilities: np.ndarray, title: str) -> None:
    """Precision-recall curve of every class that occurs against the rest, with its average precision (AP).

    labels N, probabilities N×7. A class named at random has its share of the faces as precision, whatever the recall.
    """
    with saved_figure(path, figsize=(5, 4.8)) as figure:
        axis = figure.subplots()
        for code in np.unique(labels):
            precision, recall, _ = precision_recall_curve(labels == code, probabilities[:, code])
            area = -np.sum(np.diff(recall) * precision[:-1])
            look = {"color": COLORS[code], "linestyle": LINES[code], "linewidth": 1.5, "drawstyle": "steps-post"}
            axis.plot(recall, precision, label=f"{EMOTIONS[code]} (AP = {area:.2f})", **look)
        axis.set(xlabel="Recall", ylabel="Precision", title=title, aspect="equal", xlim=(0, 1.01), ylim=(0, 1.01))
        axis.legend(loc="lower left", fontsize=8)


def plot_misclassifications(path: Path, matrix: np.ndarray, title: str) -> None:
    """Where the errors of each class go, and which confusions are no accident; `matrix` 7×7 counts, true in rows.

    Left: share of the errors of the true class, the diagonal left out. Right: Pearson residuals under
    quasi-independence (error_analysis.confusion_test); those beyond about ±2 are no accident.
    """
    diagonal = np.eye(len(matrix), dtype=bool)
    errors = np.where(diagonal, 0, matrix)
    totals = np.broadcast_to(errors.sum(1, keepdims=True), errors.shape)
    shares = np.divide(errors, totals, out=np.full(errors.shape, np.nan), where=~diagonal & (totals > 0))
    residuals = pearson_residuals(matrix)
    widest = np.nanmax(np.abs(residuals), initial=4)
    with saved_figure(path, figsize=(10, 4.9)) as figure:
        axes = figure.subplots(1, 2, sharey=True)
        percents, signs = np.vectorize("{:.0%}".format)(shares), np.vectorize(signed)(residuals)
        draw_matrix(axes[0], shares, percents, "Share of the errors of the true class", "Oranges", (0, 0.8))
        draw_matrix(
            axes[1],
            residuals,
            signs,
            "Pearson residual: more (+) or fewer (−) than chance",
            "PuOr_r",
            (-widest, widest),
        )
        axes[0].set_ylabel("True")
        figure.suptitle(title)


def signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "−")


# ── probabilities ────────────────────────────────────────────────────────────────────────────────────────────────────


def plot_reliability(path: Path, calibration: dict[str, Any], title: str) -> None:
    """Accuracy against confidence, bin by bin, with Wilson's 95 % intervals, above the faces in each bin.

    `calibration` as in the results. Above the diagonal the model claims less than it reaches, below it more;
    bins of few faces are hollow.
    """
    with saved_figure(path, figsize=(5, 5.9)) as figure:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3.6, 1))
        above.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle="--", label="perfectly calibrated")
        draw_bins(
            above,
            [row for row in calibration["bins"] if row["faces"] >= FEW],
            COLORS[5],
            f"bins of {FEW} and more faces",
        )
        draw_bins(above, [row for row in calibration["bins"] if 0 < row["faces"] < FEW], "none", "bins of fewer faces")
        above.set(ylabel="Accuracy (95 % interval)", title=title, xlim=(0, 1), ylim=(0, 1))
        edges = [row["low"] for row in calibration["bins"]] + [1]
        below.stairs([row["faces"] for row in calibration["bins"]], edges, fill=True, color=COLORS[5], alpha=0.6)
        below.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        below.set(xlabel="Confidence: probability of the predicted class", ylabel="Faces")
        for axis in (above.xaxis, above.yaxis):
            axis.set_major_formatter(PercentFormatter(1, decimals=0))
        figure.legend(loc="outside lower center", ncols=3, fontsize=8)


def draw_bins(axis: Axes, rows: list[dict[str, Any]], fill: str, label: str) -> None:
    """A point for each row of a calibration, with its interval and, where filled, its gap to the diagonal."""
    if not rows:
        return
    confidence, accuracy = (np.array([row[key] for row in rows]) for key in ("confidence", "accuracy"))
    counts = [(round(row["accuracy"] * row["faces"]), row["faces"]) for row in rows]
    ends = np.array([binomtest(*count).proportion_ci(method="wilson") for count in counts])
    errors = np.maximum([accuracy - ends[:, 0], ends[:, 1] - accuracy], 0)
    look = {"color": COLORS[5], "markerfacecolor": fill, "capsize": 2, "elinewidth": 0.9, "markersize": 5}
    if fill == "none":
        look |= {"alpha": 0.5}
    else:
        axis.vlines(confidence, confidence, accuracy, color=COLORS[3], linewidth=5, alpha=0.45)
    axis.errorbar(confidence, accuracy, errors, fmt="o", label=label, clip_on=False, **look)


# ── faces ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def plot_confident_errors(path: Path, images: np.ndarray, errors: list[dict[str, Any]], title: str) -> None:
    """The first of `errors` (error_analysis.confident_errors) as faces, each beside its seven probabilities.

    images uint8 N×H×W×C, of which the errors name the places. All is drawn into one axis measured in inches: an axis
    for each of forty parts takes matplotlib many times as long.
    """
    rows = max(1, -(-min(len(errors), SHOWN) // COLUMNS))
    width, height = 7.2, 1.5 * rows + 0.5
    with saved_figure(path, figsize=(width, height), layout="none") as figure:
        axis = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
        axis.set_axis_off()
        axis.text(0.08, height - 0.08, title, va="top", fontsize=9.5)
        key = "Probability of each class; vermilion: predicted, green: label" if errors else "Every face is recognised."
        axis.text(0.08, height - 0.27, key, va="top", fontsize=8)
        for place, error in enumerate(errors[:SHOWN]):
            row, column = divmod(place, COLUMNS)
            left, bottom = 0.08 + 1.8 * column, 0.06 + 1.5 * (rows - 1 - row)
            draw_face(axis, left, bottom, images[error["index"]], error)
            draw_probabilities(axis, left + 1.28, bottom, error)
        axis.set(xlim=(0, width), ylim=(0, height), aspect="auto")


def draw_face(axis: Axes, left: float, bottom: float, image: np.ndarray, error: dict[str, Any]) -> None:
    """A face of FACE×FACE inches at (left, bottom), and above it what it was taken for."""
    extent = (left, left + FACE, bottom, bottom + FACE)
    axis.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=255, extent=extent)
    words = f"{error['true']} → {error['predicted']}\n{error['probability']:.0%}, face {error['index']}"
    axis.text(left, bottom + FACE + 0.04, words, fontsize=7.5)


def draw_probabilities(axis: Axes, left: float, bottom: float, error: dict[str, Any]) -> None:
    """Seven bars on tracks from 0 to 1, that of the label green and that of the predicted class vermilion."""
    marked = {error["true"]: COLORS[1], error["predicted"]: COLORS[0]}
    colors = [marked.get(emotion, QUIET) for emotion in EMOTIONS]
    heights = bottom + FACE * (1 - (np.arange(len(EMOTIONS)) + 0.5) / len(EMOTIONS))
    axis.barh(heights, BAR, 0.12, left, color="#efefef")
    axis.barh(heights, BAR * np.array(error["probabilities"]), 0.12, left, color=colors)
    for height, emotion in zip(heights, EMOTIONS, strict=True):
        axis.text(left - 0.03, height, emotion[:2], ha="right", va="center_baseline", fontsize=6.5)
