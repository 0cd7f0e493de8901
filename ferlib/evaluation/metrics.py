"""Numbers from predictions: accuracy, F1, AUC, confusion, calibration, intervals; by scikit-learn and scipy."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import binomtest
from sklearn.metrics import (
    average_precision_score,
    confusion_matrix,
    f1_score,
    precision_recall_fscore_support,
    roc_auc_score,
)

from config import EMOTIONS
from ferlib.evaluation.bootstrap import p_of_draws, quantiles, resample
from ferlib.evaluation.calibration import binned_errors, face_brier_scores, face_losses
from ferlib.evaluation.ece_interval import infer_binned_error
from ferlib.evaluation.intervals import (
    METHODS,
    Proportions,
    calibration_with_intervals,
    figure_intervals,
    in_top,
    wilson,
)
from ferlib.evaluation.matrix_scores import cohens_kappa, matthews_correlation
from ferlib.evaluation.units import Units

CLASSES = list(range(len(EMOTIONS)))
HEADLINES = (
    "accuracy", "macro_f1", "weighted_f1", "balanced_accuracy", "top2_accuracy", "kappa", "mcc", "mean_auc", "ece",
    "ece_debiased", "nll", "brier",
)  # fmt: skip
CLASS_SCORES = ("precision", "recall", "f1", "auc")  # that have intervals
MCNEMAR, BOOTSTRAP = "McNemar", "bootstrap"  # tests of two classifiers on the same faces


def compute_metrics(
    labels: np.ndarray, probabilities: np.ndarray, subjects: np.ndarray | None = None
) -> dict[str, Any]:
    """Every figure of one split from labels N, probabilities N×7 and, where known, subjects N; fractions in 0..1.

    The AUC of a class is one-vs-rest. Scores of a class are None where they are not defined, as for one without faces;
    means leave them out. `intervals` are
    those of 95 % of intervals.figure_intervals; `ece_debiased` and the interval of the ECE are those of ece_interval.
    """
    predictions = probabilities.argmax(1)
    intervals = figure_intervals(labels, probabilities, subjects)
    per_class = per_class_metrics(labels, probabilities, intervals)
    aucs = [row["auc"] for row in per_class if row["auc"] is not None]
    units = Units(len(labels), subjects)
    calibration = calibration_with_intervals(labels, probabilities, units)
    inferred = infer_binned_error(*binned_errors(labels, probabilities), units)
    intervals |= {"ece": inferred.interval, "ece_debiased": inferred.interval}
    return {
        "samples": len(labels),
        "accuracy": float((predictions == labels).mean()),
        "macro_f1": average_f1(labels, predictions, "macro"),
        "weighted_f1": average_f1(labels, predictions, "weighted"),
        "balanced_accuracy": float(np.mean([row["recall"] for row in per_class if row["support"]])),
        "top2_accuracy": float(in_top(labels, probabilities).mean()),
        "kappa": defined(cohens_kappa(labels, predictions)[0]),
        "mcc": matthews_correlation(labels, predictions)[0],
        "mean_auc": float(np.mean(aucs)) if aucs else None,
        "ece": calibration["ece"],
        "ece_debiased": defined(inferred.debiased),
        "nll": float(face_losses(labels, probabilities).mean()),
        "brier": float(face_brier_scores(labels, probabilities).mean()),
        "intervals": {name: interval(intervals[name]) for name in HEADLINES},
        "interval_methods": {"unit": units.name, **METHODS},
        "per_class": per_class,
        "averages": {kind: average_scores(labels, predictions, kind) for kind in ("macro", "weighted")},
        "confusion_matrix": confusion_matrix(labels, predictions, labels=CLASSES).tolist(),
        "calibration": calibration,
    }


def clean_metrics(
    labels: np.ndarray, probabilities: np.ndarray, copies: np.ndarray | None, subjects: np.ndarray | None = None
) -> dict[str, Any] | None:
    """The headline figures, those of each class and their intervals on the faces that are no `copies` (bool N).

    copies: of training faces. None where they are not known.
    """
    if copies is None:
        return None
    clean = ~copies
    if not clean.any():
        return {"samples": 0, **dict.fromkeys(HEADLINES), "intervals": {}, "per_class": []}
    metrics = compute_metrics(labels[clean], probabilities[clean], None if subjects is None else subjects[clean])
    return {name: metrics[name] for name in ("samples", *HEADLINES, "intervals", "per_class")}


def average_f1(labels: np.ndarray, predictions: np.ndarray, average: str) -> float:
    """F1 averaged over the classes that occur among the labels or the predictions."""
    return float(f1_score(labels, predictions, average=average, zero_division=0))


def average_scores(labels: np.ndarray, predictions: np.ndarray, average: str) -> dict[str, float]:
    """Precision, recall and F1 averaged over the classes that occur, as in scikit-learn's classification report."""
    scores = precision_recall_fscore_support(labels, predictions, average=average, zero_division=0)
    return dict(zip(("precision", "recall", "f1"), map(float, scores[:3]), strict=True))


def class_auc(positive: np.ndarray, scores: np.ndarray) -> float | None:
    """Area under the ROC curve of one class against the rest; None where only one of the two occurs."""
    return float(roc_auc_score(positive, scores)) if 0 < positive.sum() < len(positive) else None


def class_precision(positive: np.ndarray, scores: np.ndarray) -> float | None:
    """Average precision of one class against the rest: the area under its precision-recall curve, in steps."""
    return float(average_precision_score(positive, scores)) if positive.any() else None


def per_class_metrics(
    labels: np.ndarray, probabilities: np.ndarray, intervals: dict[str, np.ndarray]
) -> list[dict[str, Any]]:
    """A row for each class; `intervals` as figure_intervals returns them.

    None where a score is not defined: precision of a class that is never predicted, recall of one without faces, F1 of
    one that is neither.
    """
    predictions = probabilities.argmax(1)
    columns = precision_recall_fscore_support(labels, predictions, labels=CLASSES, zero_division=np.nan)
    return [
        {
            "emotion": emotion,
            **{"precision": defined(p), "recall": defined(r), "f1": defined(f)},
            "auc": class_auc(labels == code, probabilities[:, code]),
            "average_precision": class_precision(labels == code, probabilities[:, code]),
            "support": int(support),
            "intervals": {name: interval(intervals[name][:, code]) for name in CLASS_SCORES},
        }
        for code, emotion, p, r, f, support in zip(CLASSES, EMOTIONS, *columns, strict=True)
    ]


def interval(ends: np.ndarray) -> list[float] | None:
    """The two ends, None where one is not defined."""
    return None if np.isnan(ends).any() else ends.tolist()


def defined(value: float) -> float | None:
    """The value, None for NaN."""
    return None if np.isnan(value) else float(value)


def accuracy_interval(correct: np.ndarray, subjects: np.ndarray | None = None) -> list[float]:
    """95 % interval of the accuracy from bool N, and the subjects N where they are known: intervals.wilson."""
    found = Proportions.of(np.ones((len(correct), 1), bool), correct[:, None])
    return wilson(found, Units(len(correct), subjects))[:, 0].tolist()


def compare_accuracies(first: np.ndarray, second: np.ndarray, subjects: np.ndarray | None = None) -> dict[str, Any]:
    """By how much `second` is right more often than `first`, both bool N on the same faces.

    `interval` is the 95 % bootstrap interval of the gain, drawing faces, or subjects where they are known: -1 to 1 for
    one subject, which says nothing of others. `p` is that of `mcnemar` for faces, of bootstrap.p_of_draws for subjects.
    """
    won, lost = int((second & ~first).sum()), int((first & ~second).sum())
    gain, gains, units = (won - lost) / len(first), second.astype(int) - first, Units(len(first), subjects)
    drawn = np.concatenate([weights @ gains / weights.sum(1) for weights in resample(units.codes)])
    return {
        "gain": gain,
        "interval": quantiles(drawn).tolist() if units.count > 1 else [-1.0, 1.0],
        "test": MCNEMAR if subjects is None else BOOTSTRAP,
        "p": mcnemar(won, lost) if subjects is None else p_of_draws(gain, drawn, units.count),
        "won": won,
        "lost": lost,
    }


def mcnemar(won: int, lost: int) -> float:
    """The p-value of McNemar's exact test from the faces on which just one of two classifiers is right.

    McNemar, "Note on the sampling error of the difference between correlated proportions or percentages", 1947. It
    takes the faces for independent. 1 where there is no such face.
    """
    return float(binomtest(won, won + lost).pvalue) if won + lost else 1.0
