"""Scores of a whole confusion matrix that correct for chance: Cohen's kappa, Matthews' correlation; with influence.

The influence of a face is the derivative of the score by the share of its cell of the matrix, less its mean, over the
number of faces: sums of it have the variance of the score's error (the delta method).
"""

from __future__ import annotations

import numpy as np


def cell_shares(labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Shares K×K of the faces by true (row) and predicted class, K one more than the largest class."""
    classes = int(max(labels.max(), predictions.max())) + 1
    return np.bincount(labels * classes + predictions, minlength=classes**2).reshape(classes, classes) / len(labels)


def influence_of(gradient: np.ndarray, shares: np.ndarray, labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """float N from the gradient K×K of a score by the shares K×K."""
    return (gradient[labels, predictions] - (gradient * shares).sum()) / len(labels)


def cohens_kappa(labels: np.ndarray, predictions: np.ndarray) -> tuple[float, np.ndarray]:
    """Cohen's kappa and its influence N; 1 is perfect, 0 chance with the same shares; NaN where all is one class.

    Cohen, "A coefficient of agreement for nominal scales", 1960. labels, predictions: int N.
    """
    shares = cell_shares(labels, predictions)
    true, predicted = shares.sum(1), shares.sum(0)
    chance, observed = float(true @ predicted), float(np.trace(shares))
    if chance >= 1:
        return float("nan"), np.zeros(len(labels))
    by_chance = predicted[:, None] + true[None]  # derivative of `chance` by each cell
    gradient = np.eye(len(shares)) / (1 - chance) - (1 - observed) / (1 - chance) ** 2 * by_chance
    return (observed - chance) / (1 - chance), influence_of(gradient, shares, labels, predictions)


def matthews_correlation(labels: np.ndarray, predictions: np.ndarray) -> tuple[float, np.ndarray]:
    """Matthews' correlation coefficient for several classes and its influence N; 0 where either side is one class.

    Gorodkin, "Comparing two K-category assignments by a K-category correlation coefficient", 2004, eq. 8.
    """
    shares = cell_shares(labels, predictions)
    true, predicted = shares.sum(1), shares.sum(0)
    spread = (1 - true @ true) * (1 - predicted @ predicted)
    if spread <= 0:
        return 0.0, np.zeros(len(labels))
    covariance = np.trace(shares) - true @ predicted
    slope = np.eye(len(shares)) - predicted[:, None] - true[None]
    widening = -2 * (predicted[None] * (1 - true @ true) + true[:, None] * (1 - predicted @ predicted))
    gradient = slope / np.sqrt(spread) - covariance / (2 * spread**1.5) * widening
    return float(covariance / np.sqrt(spread)), influence_of(gradient, shares, labels, predictions)
