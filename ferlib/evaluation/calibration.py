"""Calibration of probabilities: expected calibration error (ECE), log loss, Brier score, reliability."""

from __future__ import annotations

from typing import Any

import numpy as np

BINS = 15  # of equal width, as in Guo et al.
LEAST = float(np.finfo(np.float32).eps)  # probability in a log loss: of float32, in which predictions are kept


def compute_calibration(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, Any]:
    """Reliability of the predicted classes from labels N and probabilities N×7; fractions in 0..1.

    `ece` is the expected calibration error, the mean over the faces of |accuracy - confidence| of their bin (Guo,
    Pleiss, Sun & Weinberger, "On calibration of modern neural networks", 2017, eq. 3); `largest_gap` that of the worst
    bin (eq. 5). The gap of a bin is its confidence minus its accuracy: above 0 where confidence exceeds accuracy.
    `equal_mass_ece` and `classwise_ece` as in the functions of these names.
    """
    confidence, correct = probabilities.max(1), probabilities.argmax(1) == labels
    return {
        **reliability(confidence, correct),
        "equal_mass_ece": equal_mass_ece(confidence, correct),
        "classwise_ece": classwise_ece(labels, probabilities),
    }


def reliability(confidence: np.ndarray, correct: np.ndarray) -> dict[str, Any]:
    """Confidence N beside how right the predictions are: 0 or 1, or the share of annotators who say the same, N."""
    bins = confidence_bins(confidence)
    rows = [reliability_row(code, confidence[bins == code], correct[bins == code]) for code in range(BINS)]
    filled = [row for row in rows if row["faces"]]
    return {
        "ece": sum(row["faces"] * abs(row["gap"]) for row in filled) / len(confidence),
        "largest_gap": max(abs(row["gap"]) for row in filled),
        "mean_confidence": float(confidence.mean()),
        "bins": rows,
    }


def equal_mass_ece(confidence: np.ndarray, correct: np.ndarray) -> float:
    """The ECE over 15 bins of equally many faces by rising confidence N, of which none has too few faces for a gap.

    Nguyen & O'Connor, "Posterior calibration and exploratory analysis for natural language processing models", 2015.
    Faces of equal confidence may fall into two bins.
    """
    order = np.argsort(confidence, kind="stable")
    gaps = (confidence - correct).astype(np.float64)[order]
    return float(sum(abs(part.sum()) for part in np.array_split(gaps, BINS))) / len(gaps)


def classwise_ece(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """The mean over the classes of the binned error of each class's probability against how often it is the label.

    labels N, probabilities N×K; 15 bins of equal width, every face in one bin of each class. Kull, Perelló Nieto,
    Kängsepp, Silva Filho, Song & Flach, "Beyond temperature scaling: obtaining well-calibrated multi-class
    probabilities with Dirichlet calibration", 2019, eq. 4.
    """
    errors = []
    for code, column in enumerate(probabilities.T.astype(np.float64)):
        gaps = np.bincount(confidence_bins(column), column - (labels == code), BINS)
        errors.append(np.abs(gaps).sum() / len(labels))
    return float(np.mean(errors))


def binned_errors(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Confidence N, whether the prediction is right (0 or 1, N) and the bin N of each face."""
    confidence = probabilities.max(1).astype(np.float64)
    return confidence, (probabilities.argmax(1) == labels).astype(np.float64), confidence_bins(probabilities.max(1))


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
    """Negative log likelihood of each face's true class, in nats: float64 N; its mean is scikit-learn's log_loss.

    A probability below LEAST counts as LEAST, whatever the type of the array, so that losses can be compared.
    """
    likelihood = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return -np.log(np.clip(likelihood, LEAST, 1))


def face_brier_scores(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Squared distance of each face's probabilities from its true class, 0 (sure and right) to 2 (sure and wrong).

    Brier, "Verification of forecasts expressed in terms of probability", 1950, eq. 2. float64 N.
    """
    return ((probabilities - np.eye(probabilities.shape[1])[labels]) ** 2).sum(1)
