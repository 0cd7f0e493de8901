"""Numbers from predictions: accuracy, F1, AUC, confusion, intervals; computed by scikit-learn and scipy."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, f1_score, precision_recall_fscore_support, roc_auc_score

from config import EMOTIONS

CLASSES = list(range(len(EMOTIONS)))


def compute_metrics(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, Any]:
    """Every figure of one split from labels N and probabilities N×7; fractions in 0..1.

    The AUC of a class is one-vs-rest; it is None for a class without faces, which the mean leaves out.
    """
    predictions = probabilities.argmax(1)
    correct = predictions == labels
    aucs = [class_auc(labels == code, probabilities[:, code]) for code in CLASSES]
    known_aucs = [auc for auc in aucs if auc is not None]
    return {
        "samples": len(labels),
        "accuracy": float(correct.mean()),
        "macro_f1": average_f1(labels, predictions, "macro"),
        "weighted_f1": average_f1(labels, predictions, "weighted"),
        "mean_auc": float(np.mean(known_aucs)) if known_aucs else None,
        "intervals": {"accuracy": accuracy_interval(correct)},
        "per_class": per_class_metrics(labels, predictions, aucs),
        "confusion_matrix": confusion_matrix(labels, predictions, labels=CLASSES).tolist(),
    }


def average_f1(labels: np.ndarray, predictions: np.ndarray, average: str) -> float:
    """F1 averaged over the classes that occur among the labels or the predictions."""
    return float(f1_score(labels, predictions, average=average, zero_division=0))


def class_auc(positive: np.ndarray, scores: np.ndarray) -> float | None:
    """Area under the ROC curve of one class against the rest; None where only one of the two occurs."""
    return float(roc_auc_score(positive, scores)) if 0 < positive.sum() < len(positive) else None


def per_class_metrics(labels: np.ndarray, predictions: np.ndarray, aucs: list[float | None]) -> list[dict[str, Any]]:
    columns = precision_recall_fscore_support(labels, predictions, labels=CLASSES, zero_division=0)
    return [
        {"emotion": emotion, "precision": float(p), "recall": float(r), "f1": float(f), "auc": auc, "support": int(n)}
        for emotion, p, r, f, n, auc in zip(EMOTIONS, *columns, aucs, strict=True)
    ]


def accuracy_interval(correct: np.ndarray) -> list[float]:
    """95 % interval of the accuracy (Wilson, "Probable inference, the law of succession", 1927)."""
    interval = binomtest(int(correct.sum()), len(correct)).proportion_ci(0.95, method="wilson")
    return [float(interval.low), float(interval.high)]
