"""The pictures of an error analysis: scores by class, precision and recall, confusions, reliability, worst errors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter
from scipy.stats import binomtest
from sklearn.metrics import precision_recall_curve

from config import EMOTIONS
from ferlib.data.face_data import FaceData
from ferlib.evaluation.error_analysis import pearson_residuals, test_in_words
from ferlib.evaluation.terminal import with_interval
from ferlib.figures import findings
from ferlib.figures.curves import draw_matrix, plot_confusion_matrix, plot_roc_curves
from ferlib.figures.style import (
    BLUE,
    COLORS,
    GREEN,
    INK,
    LINES,
    ORANGE,
    PNG,
    QUIET,
    SKY,
    VERMILION,
    WIDTH,
    entitle,
    saved_figure,
    wrap,
)
from ferlib.figures.training import Titles
from ferlib.runtime.runs import Run

SCORES = {"precision": SKY, "recall": ORANGE, "f1": BLUE}
FEW = 10  # faces of a bin that say little
COLUMNS, SHOWN = 4, 20  # faces of the gallery
FACE, BAR = 0.84, 0.38  # inches: side of a face, length of the bar of a certain class
CELL = (1.55, 1.24)  # inches: width and height of a face with its bars and words


def draw_plots(
    run: Run, faces: FaceData, probabilities: np.ndarray, results: dict[str, Any], formats: Sequence[str] = PNG
) -> None:
    """Every picture of a run on the test faces, from probabilities N×7 and the results."""
    labels, matrix = faces.labels, np.array(results["confusion_matrix"])
    classes, errors, calibration = results["per_class"], results["confident_errors"], results["calibration"]
    subject = findings.subject(run, len(labels))
    overall = f"{subject}, accuracy {results['accuracy']:.1%}"
    pattern = f"{subject}\n{test_in_words(results['confusion_test']['errors'])}"
    ece = f"{subject}\nECE {with_interval(results['ece'], results['intervals']['ece'], '.1%')}"
    against = f"each class against the rest, {subject}"
    plot_confusion_matrix(run.plot("confusion_matrix"), matrix, (findings.of_recall(classes), overall), formats)
    plot_roc_curves(run.plot("roc_curves"), labels, probabilities, (findings.of_roc(classes), against), formats)
    plot_precision_recall(
        run.plot("precision_recall"), labels, probabilities, (findings.of_precision(classes), against), formats
    )
    plot_class_scores(run.plot("class_scores"), classes, (findings.of_scores(classes), overall), formats)
    confused = findings.of_confusions(results["main_confusions"])
    plot_misclassifications(run.plot("misclassifications"), matrix, (confused, pattern), formats)
    plot_reliability(run.plot("reliability"), calibration, (findings.of_calibration(calibration), ece), formats)
    surest = (findings.of_errors(errors[:SHOWN]), subject)
    plot_confident_errors(run.plot("confident_errors"), faces.images, errors, surest, formats)


# ── classes ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def plot_class_scores(
    path: Path, per_class: list[dict[str, Any]], titles: Titles, formats: Sequence[str] = PNG
) -> None:
    """Precision, recall and F1 of each class as bars with their 95 % intervals; `per_class` as in the results."""
    with saved_figure(path, formats, figsize=(WIDTH, 3.4)) as figure:
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
        axis.set(ylim=(0, 1), ylabel="Score, 95 % interval")
        axis.grid(False, axis="x")
        axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        figure.legend(loc="outside lower center", ncols=3)
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
            look = {"color": COLORS[code], "linestyle": LINES[code], "drawstyle": "steps-post"}
            axis.plot(recall, precision, label=f"{EMOTIONS[code]} (AP = {area:.2f})", **look)
        axis.set(xlabel="Recall", ylabel="Precision", aspect="equal", xlim=(0, 1.01), ylim=(0, 1.01))
        axis.legend(loc="lower left")
        entitle(figure, *titles)


def plot_misclassifications(path: Path, matrix: np.ndarray, titles: Titles, formats: Sequence[str] = PNG) -> None:
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
    with saved_figure(path, formats, figsize=(WIDTH, 4.45)) as figure:
        axes = figure.subplots(1, 2, sharey=True)
        percents, signs = np.vectorize("{:.0%}".format)(shares), np.vectorize(signed)(residuals)
        draw_matrix(axes[0], shares, percents, "Share of the errors\nof the true class", "Oranges", (0, 0.8))
        chance = "More (+) or fewer (−) than\nby chance: Pearson residual"
        draw_matrix(axes[1], residuals, signs, chance, "PuOr_r", (-widest, widest))
        axes[0].set_ylabel("True class")
        entitle(figure, *titles)


def signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "−")


# ── probabilities ────────────────────────────────────────────────────────────────────────────────────────────────────


def plot_reliability(path: Path, calibration: dict[str, Any], titles: Titles, formats: Sequence[str] = PNG) -> None:
    """Accuracy against confidence, bin by bin, with Wilson's 95 % intervals, above the faces in each bin.

    `calibration` as in the results. Above the diagonal the model claims less than it reaches, below it more;
    bins of few faces are hollow.
    """
    with saved_figure(path, formats, figsize=(5, 6)) as figure:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3.6, 1))
        above.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle="--", label="perfectly calibrated")
        draw_bins(
            above,
            [row for row in calibration["bins"] if row["faces"] >= FEW],
            BLUE,
            f"bins of {FEW} and more faces",
        )
        draw_bins(above, [row for row in calibration["bins"] if 0 < row["faces"] < FEW], "none", "bins of fewer faces")
        above.set(ylabel="Accuracy, 95 % interval", xlim=(0, 1), ylim=(0, 1))
        edges = [row["low"] for row in calibration["bins"]] + [1]
        below.stairs([row["faces"] for row in calibration["bins"]], edges, fill=True, color=BLUE, alpha=0.6)
        below.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        below.set(xlabel="Confidence: probability of the predicted class", ylabel="Faces")
        for axis in (above.xaxis, above.yaxis):
            axis.set_major_formatter(PercentFormatter(1, decimals=0))
        figure.legend(loc="outside lower center", ncols=2)
        entitle(figure, *titles)


def draw_bins(axis: Axes, rows: list[dict[str, Any]], fill: str, label: str) -> None:
    """A point for each row of a calibration, with its interval and, where filled, its gap to the diagonal."""
    if not rows:
        return
    confidence, accuracy = (np.array([row[key] for row in rows]) for key in ("confidence", "accuracy"))
    counts = [(round(row["accuracy"] * row["faces"]), row["faces"]) for row in rows]
    ends = np.array([binomtest(*count).proportion_ci(method="wilson") for count in counts])
    errors = np.maximum([accuracy - ends[:, 0], ends[:, 1] - accuracy], 0)
    look = {"color": BLUE, "markerfacecolor": fill, "capsize": 2, "elinewidth": 0.9, "markersize": 5}
    if fill == "none":
        look |= {"alpha": 0.5}
    else:
        axis.vlines(confidence, confidence, accuracy, color=ORANGE, linewidth=5, alpha=0.45)
    axis.errorbar(confidence, accuracy, errors, fmt="o", label=label, clip_on=False, **look)


# ── faces ────────────────────────────────────────────────────────────────────────────────────────────────────────────


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
            draw_face(axis, left, bottom, images[error["index"]], error)
            draw_probabilities(axis, left + FACE + 0.23, bottom, error)
        axis.set(xlim=(0, WIDTH), ylim=(0, height), aspect="auto")


def draw_face(axis: Axes, left: float, bottom: float, image: np.ndarray, error: dict[str, Any]) -> None:
    """A face of FACE×FACE inches at (left, bottom), and above it what it was taken for."""
    extent = (left, left + FACE, bottom, bottom + FACE)
    axis.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=255, extent=extent)
    words = f"{error['true']} → {error['predicted']}\n{error['probability']:.0%}, face {error['index']}"
    axis.text(left, bottom + FACE + 0.03, words, fontsize=8, linespacing=1)


def draw_probabilities(axis: Axes, left: float, bottom: float, error: dict[str, Any]) -> None:
    """Seven bars on tracks from 0 to 1, that of the label green and that of the predicted class vermilion."""
    marked = {error["true"]: GREEN, error["predicted"]: VERMILION}
    colors = [marked.get(emotion, QUIET) for emotion in EMOTIONS]
    heights = bottom + FACE * (1 - (np.arange(len(EMOTIONS)) + 0.5) / len(EMOTIONS))
    axis.barh(heights, BAR, 0.09, left, color="#efefef")
    axis.barh(heights, BAR * np.array(error["probabilities"]), 0.09, left, color=colors)
    for height, emotion in zip(heights, EMOTIONS, strict=True):
        axis.text(left - 0.03, height, emotion[:2], ha="right", va="center_baseline", fontsize=8)
