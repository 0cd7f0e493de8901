"""The bootstrap: faces, or subjects, drawn with replacement, and every figure of many such draws at once.

Efron, "Bootstrap methods: another look at the jackknife", 1979. Faces of one person are correlated: where the subjects
are known, all faces of a subject are drawn together (cluster bootstrap: Davison & Hinkley, 1997, section 3.8). It
serves differences of two classifiers on the same faces; for single figures, intervals.py covers better.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.stats import t as student

from ferlib.evaluation.calibration import BINS, confidence_bins, face_brier_scores, face_losses

RESAMPLES = 1000
SEED = 0
BLOCK = 1_000_000  # weights in memory at a time
COUNTED = 10  # draws on the other side of 0, of fewer of which the number says little


def quantiles(values: np.ndarray) -> np.ndarray:
    """The 2.5 % and 97.5 % quantiles over the first axis, less its NaNs."""
    never = np.isnan(values).all(0)  # of a class without faces
    return np.where(never, np.nan, np.nanquantile(np.where(never, 0, values), (0.025, 0.975), axis=0))


def p_of_draws(gain: float, drawn: np.ndarray, units: int) -> float:
    """Two-sided p-value of a gain of 0, from B draws of `units` faces or subjects.

    Twice (k + 1) / (B + 1) for the k draws at 0 or on its other side (Davison & Hinkley, 1997, equation 4.11). A draw
    is no rarer than one in B, which a correction for many tests takes for chance: where k is below COUNTED, twice the
    tail of Student's t, with a degree of freedom less than there are units, beyond the gain in standard deviations of
    the draws. 1 for a single unit, which says nothing of others.
    """
    beyond = int((drawn <= 0).sum() if gain > 0 else (drawn >= 0).sum())
    if units < 2 or beyond >= COUNTED:
        return 1.0 if units < 2 else min(1.0, 2 * (beyond + 1) / (len(drawn) + 1))
    spread = float(drawn.std(ddof=1))
    return float(2 * student.sf(abs(gain) / spread, units - 1)) if spread else 0.0


def resample(units: np.ndarray) -> Iterator[np.ndarray]:
    """How often each of N faces is drawn, in blocks of B resamples: int B×N; faces of one unit are drawn together."""
    codes = np.unique(units, return_inverse=True)[1]
    count, generator = codes.max() + 1, np.random.default_rng(SEED)
    size = max(1, BLOCK // len(units))
    for start in range(0, RESAMPLES, size):
        rows = min(size, RESAMPLES - start)
        drawn = generator.integers(count, size=(rows, count)) + count * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count)[:, codes]


def weighted_figures(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Every figure under each of B weightings of N faces, weights B×N: B, or B×7 for one that each class has.

    With all weights 1 they are the figures of metrics.compute_metrics.
    """
    classes = probabilities.shape[1]
    predictions, confidence = probabilities.argmax(1), probabilities.max(1)
    weights = weights.astype(np.float64)
    total = weights.sum(1)
    cells = weights @ np.eye(classes**2)[labels * classes + predictions]
    gaps = np.eye(BINS)[confidence_bins(confidence)] * (confidence - (predictions == labels))[:, None]
    matrices = cells.reshape(-1, classes, classes)
    aucs = np.stack([weighted_auc(labels == code, probabilities[:, code], weights) for code in range(classes)], 1)
    return {
        "accuracy": matrices.trace(axis1=1, axis2=2) / total,
        "mean_auc": ratio(np.nansum(aucs, 1), (~np.isnan(aucs)).sum(1), np.nan),
        "ece": np.abs(weights @ gaps).sum(1) / total,
        "nll": weights @ face_losses(labels, probabilities) / total,
        "brier": weights @ face_brier_scores(labels, probabilities) / total,
        "auc": aucs,
        **matrix_figures(matrices),
    }


def matrix_figures(matrices: np.ndarray) -> dict[str, np.ndarray]:
    """Precision, recall and F1 of each class (B×7) and their averages (B) from confusion matrices B×7×7, true in rows.

    NaN where they are not defined: precision of a class that is never predicted, recall of one without faces, F1 of one
    that is neither; the mean F1 is over the others.
    """
    found, predicted, true = matrices.diagonal(axis1=1, axis2=2), matrices.sum(1), matrices.sum(2)
    f1 = ratio(2 * found, predicted + true, np.nan)
    return {
        "precision": ratio(found, predicted, np.nan),
        "recall": ratio(found, true, np.nan),
        "f1": f1,
        "macro_f1": np.nanmean(f1, 1),
        "weighted_f1": np.nansum(f1 * true, 1) / true.sum(1),
    }


def weighted_auc(positive: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve for positive N, scores N and weights B×N: B; NaN where only one kind is drawn.

    From the positives' mean ranks among all faces, ties sharing theirs (Hanley & McNeil, 1982).
    """
    order = np.argsort(scores)
    first, last = (np.searchsorted(scores[order], scores[positive], side) for side in ("left", "right"))
    below = np.zeros((len(weights), len(scores) + 1))  # weight of the faces before each rank
    np.cumsum(weights.take(order, axis=1), axis=1, out=below[:, 1:])
    drawn = weights[:, positive]
    positives, negatives = drawn.sum(1), weights[:, ~positive].sum(1)
    ranks = (below.take(first, axis=1) + below.take(last, axis=1)) / 2
    return ratio((drawn * ranks).sum(1) - positives**2 / 2, positives * negatives, np.nan)


def ratio(numerator: np.ndarray, denominator: np.ndarray, otherwise: float = 0.0) -> np.ndarray:
    """numerator / denominator, `otherwise` where the denominator is 0."""
    empty = np.full(numerator.shape, otherwise)
    return np.divide(numerator, denominator, out=empty, where=denominator > 0)
