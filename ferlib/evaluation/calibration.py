"""Calibration of probabilities: expected calibration error (ECE), log loss, Brier score, reliability."""

from __future__ import annotations

from typing import Any

import numpy as np

BINS = 15  # of equal width, as in Guo et al.


def compute_calibration(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, Any]:
    """Reliability of the predicted classes from labels N and probabilities N×7; fractions in 0..1.

    `ece` is the expected calibration error, the mean over the faces of |accuracy - confidence| of their bin (Guo,
    Pleiss, Sun & Weinberger, "On calibration of modern neural networks", 2017, eq. 3); `largest_gap` that of the worst
    bin (eq. 5). The gap of a bin is its confidence minus its accuracy: above 0 where confidence exceeds accuracy.
    """
    confidence, correct = probabilities.max(1), probabilities.argmax(1) == labels
    bins = confidence_bins(confidence)
    rows = [reliability_row(code, confidence[bins == code], correct[bins == code]) for code in range(BINS)]
    filled = [row for row in rows if row["faces"]]
    return {
        "ece": sum(row["faces"] * abs(row["gap"]) for row in filled) / len(labels),
        "largest_gap": max(abs(row["gap"]) for row in filled),
        "mean_confidence": float(confidence.mean()),
        "bins": rows,
    }


def confidence_bins(confidence: np.ndarray) -> np.ndarray:
    """Index of the bin ((m - 1) / 15, m / 15] that each confidence in 0..1 falls into."""
    return np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)


def reliability_row(code: int, confidence: np.ndarray, correct: np.ndarray) -> dict[str, Any]:
    """One bin: its ends, its faces, their mean confidence, accuracy and the difference; None where it is empty."""
    row = {"low": code / BINS, "high": (code + 1) / BINS, "faces": len(correct)}
    if not len(correct):
        return row | {"confidence": None, "accuracy": None, "gap": None}
    claimed, reached = float(confidence.mean(dtype=np.float64)), float(correct.mean())
    return row | {"confidence": claimed, "accuracy": reached, "gap": claimed - reached}


def face_losses(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Negative log likelihood of each face's true class, in nats: float64 N; its mean is scikit-learn's log_loss."""
    likelihood = probabilities[np.arange(len(labels)), labels]
    return -np.log(np.clip(likelihood, np.finfo(probabilities.dtype).eps, 1).astype(np.float64))


def face_brier_scores(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Squared distance of each face's probabilities from its true class, 0 (sure and right) to 2 (sure and wrong).

    Brier, "Verification of forecasts expressed in terms of probability", 1950, eq. 2. float64 N.
    """
    return ((probabilities - np.eye(probabilities.shape[1])[labels]) ** 2).sum(1)
