"""95 % intervals of the figures of one set of predictions, by methods whose coverage was measured.

`python benchmarks/bench_intervals.py` draws samples of a known population and prints how often each interval holds the
population's figure: of 400 faces with the predictions of the shipped network, 93 to 97 %. The percentile bootstrap,
which is the usual choice, covers 90 to 92 % there for macro F1 and the mean AUC, and less for rare classes and the ECE.
Faces of one subject are correlated: where subjects are known, every variance is that of sums over subjects.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.stats import binomtest, rankdata

from ferlib.evaluation.calibration import BINS, compute_calibration, confidence_bins, face_brier_scores, face_losses
from ferlib.evaluation.matrix_scores import cohens_kappa, matthews_correlation
from ferlib.evaluation.units import Units

SHRINKAGE = 50  # positives at which an AUC's own variance and that of Hanley & McNeil count alike
WIDEST = 4.0  # times Hanley & McNeil's standard error that an AUC's own may be

METHODS = {  # figure → how its interval is found
    "accuracy": "Wilson 1927",
    "top2_accuracy": "Wilson 1927",
    "recall": "Wilson 1927",
    "precision": "Wilson 1927",
    "f1": "Wilson 1927 of the Jaccard index (Lam et al. 2023)",
    "auc": "Newcombe 2006 with DeLong's variance; covers 92 to 99 % of 400 faces",
    **dict.fromkeys(("macro_f1", "weighted_f1", "balanced_accuracy", "mean_auc"), "MOVER (Zou & Donner 2008)"),
    **dict.fromkeys(("kappa", "mcc"), "delta method, Fisher's z"),
    **dict.fromkeys(("nll", "brier"), "Student's t of the logarithm"),
    "ece": "inverted test of the binned error: of the true error, which noise raises the measured one above",
}


def figure_intervals(
    labels: np.ndarray, probabilities: np.ndarray, subjects: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Ends of the 95 % interval of every row of METHODS but the ECE: 2, or 2×7 for a figure that each class has.

    labels N, probabilities N×7, subjects N or None. NaN where a figure is not defined, as the AUC of a class without
    faces, and where one subject alone says nothing of others.
    """
    units, classes = Units(len(labels), subjects), np.arange(probabilities.shape[1])
    predictions = probabilities.argmax(1)
    true, predicted = labels[:, None] == classes, predictions[:, None] == classes
    recall = Proportions.of(true, true & predicted)
    precision = Proportions.of(predicted, true & predicted)
    jaccard = Proportions.of(true | predicted, true & predicted)
    f1 = f1_of_jaccard(wilson(jaccard, units))
    areas = [area_under_curve(each, scores) for each, scores in zip(true.T, probabilities.T, strict=True)]
    auc = np.array([auc_interval(area, units) for area in areas]).T
    right = (predictions == labels)[:, None]
    occurs = jaccard.trials > 0
    values, influence = f1_of_jaccard(jaccard.values)[occurs], jaccard.influence[:, occurs]
    found = recall.trials > 0
    return {
        "accuracy": wilson(Proportions.of(np.ones_like(right), right), units)[:, 0],
        "top2_accuracy": wilson(Proportions.of(np.ones_like(right), in_top(labels, probabilities)[:, None]), units)[
            :, 0
        ],
        "recall": wilson(recall, units),
        "precision": wilson(precision, units),
        "f1": f1,
        "auc": auc,
        "macro_f1": mean_of(values, f1[:, occurs], influence, units),
        "weighted_f1": weighted_interval(values, f1[:, occurs], influence, true[:, occurs], units),
        "balanced_accuracy": mean_of(
            recall.values[found], wilson(recall, units)[:, found], recall.influence[:, found], units
        ),
        "mean_auc": mean_auc_interval(areas, auc, units),
        "kappa": fisher_interval(*cohens_kappa(labels, predictions), units),
        "mcc": fisher_interval(*matthews_correlation(labels, predictions), units),
        "nll": mean_interval(face_losses(labels, probabilities), units),
        "brier": mean_interval(face_brier_scores(labels, probabilities), units),
    }


def in_top(labels: np.ndarray, probabilities: np.ndarray, count: int = 2) -> np.ndarray:
    """bool N: whether the label is among the `count` most probable classes; of equal ones, the first are taken."""
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :count]
    return (order == labels[:, None]).any(1)


def calibration_with_intervals(labels: np.ndarray, probabilities: np.ndarray, units: Units) -> dict[str, Any]:
    """As compute_calibration, with the 95 % `interval` of the accuracy of each bin; None for an empty one."""
    found = compute_calibration(labels, probabilities)
    masks = np.eye(BINS, dtype=bool)[confidence_bins(probabilities.max(1))]
    right = (probabilities.argmax(1) == labels)[:, None]
    ends = wilson(Proportions.of(masks, masks & right), units).T.tolist()
    bins = [row | {"interval": pair if row["faces"] else None} for row, pair in zip(found["bins"], ends, strict=True)]
    return found | {"bins": bins}


def bin_interval(row: dict[str, Any]) -> tuple[float, float]:
    """The 95 % interval of a bin with faces; of one that does not state its own, Wilson's of as many faces."""
    if row.get("interval"):
        low, high = row["interval"]
        return low, high
    found = binomtest(round(row["accuracy"] * row["faces"]), row["faces"]).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


# ── proportions ──────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Proportions:
    """K proportions: of the faces that are `trials` of each, those that are hits."""

    trials: np.ndarray  # int K
    values: np.ndarray  # float K: hits / trials; 0 where there is no trial
    influence: np.ndarray  # float N×K: what each face adds to the error of the value
    masks: np.ndarray  # bool N×K: which faces are trials

    @classmethod
    def of(cls, trials: np.ndarray, hits: np.ndarray) -> Proportions:
        """From trials and hits bool N×K, hits among the trials."""
        counts = trials.sum(0)
        values = hits.sum(0) / np.maximum(counts, 1)
        return cls(counts, values, trials * (hits - values) / np.maximum(counts, 1), trials)


def wilson(found: Proportions, units: Units) -> np.ndarray:
    """Ends 2×K of Wilson's interval ("Probable inference, the law of succession, and statistical inference", 1927).

    Where subjects are known, with the effective number of trials and Student's t (Korn & Graubard, "Confidence
    intervals for proportions with small expected number of positive counts estimated from survey data", 1998; Dean &
    Pagano, "Evaluating confidence interval methods for binomial proportions in clustered surveys", 2015). NaN where
    there is no trial.
    """
    trials = found.trials / design_effects(found, units)
    z, p = units.binomial_quantile, found.values
    with np.errstate(divide="ignore", invalid="ignore"):
        centre = (p + z**2 / (2 * trials)) / (1 + z**2 / trials)
        half = z * np.sqrt(p * (1 - p) / trials + z**2 / (4 * trials**2)) / (1 + z**2 / trials)
    ends = np.array([np.where(p == 0, 0, centre - half), np.where(p == 1, 1, centre + half)])
    return np.where(found.trials > 0, ends.clip(0, 1), np.nan)


def design_effects(found: Proportions, units: Units) -> np.ndarray:
    """Variance of each proportion over that of independent trials, K: 1 for faces, up to one unit's trials else.

    Where it cannot be estimated, as every trial hits or all are of one subject, the trials of a subject count as one:
    Σ m² / Σ m for m trials in each unit.
    """
    if units.subjects is None:
        return np.ones(len(found.trials))
    sizes = units.sums(found.masks.astype(float))
    largest = (sizes**2).sum(0) / np.maximum(found.trials, 1)
    binomial = found.values * (1 - found.values) / np.maximum(found.trials, 1)
    known = (binomial > 0) & (units.count_of(found.masks) > 1)
    variances = np.diag(units.covariance(found.influence))
    effects = np.divide(variances, binomial, out=largest.copy(), where=known)
    return np.clip(effects, 1, np.maximum(largest, 1))


def f1_of_jaccard(jaccard: np.ndarray) -> np.ndarray:
    """F1 = 2 J / (1 + J) of the Jaccard index J = TP / (TP + FP + FN), a proportion of the faces of either class.

    F1 is no proportion; its interval is that of J, transformed (Lam, Gopal & Qian, "Confidence intervals for the F1
    score: a comparison of four methods", 2023, the indirect Wilson interval).
    """
    return 2 * jaccard / (1 + jaccard)


# ── areas ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Area:
    """The area under the ROC curve of one class against the rest; NaN where only one of the two occurs."""

    value: float
    positive: np.ndarray  # bool N
    influence: np.ndarray  # float N: what each face adds to its error

    @property
    def positives(self) -> int:
        """Faces of the class."""
        return int(self.positive.sum())

    @property
    def negatives(self) -> int:
        """The others."""
        return int((~self.positive).sum())

    @property
    def is_known(self) -> bool:
        """Whether both kinds of faces occur."""
        return self.positives > 0 and self.negatives > 0


def area_under_curve(positive: np.ndarray, scores: np.ndarray) -> Area:
    """From positive bool N and scores N; ties count half.

    The influence of a face is its placement among those of the other kind less the mean (DeLong, DeLong &
    Clarke-Pearson, "Comparing the areas under two or more correlated receiver operating characteristic curves", 1988).
    """
    m, n = int(positive.sum()), int((~positive).sum())
    influence = np.zeros(len(scores))
    if not (m and n):
        return Area(float("nan"), positive, influence)
    ranks = rankdata(scores)
    above = (ranks[positive] - rankdata(scores[positive])) / n  # share of the negatives below each positive
    below = 1 - (ranks[~positive] - rankdata(scores[~positive])) / m
    value = float(above.mean())
    influence[positive] = (above - value) / m * np.sqrt(m / max(1, m - 1))
    influence[~positive] = (below - value) / n * np.sqrt(n / max(1, n - 1))
    return Area(value, positive, influence)


def hanley_mcneil(value: float, m: int, n: int) -> float:
    """Variance of an AUC of m positives and n negatives by its value alone, with Newcombe's (m + n) / 2 for both.

    Hanley & McNeil, "The meaning and use of the area under a receiver operating characteristic (ROC) curve", 1982;
    Newcombe, "Confidence intervals for an effect size measure based on the Mann-Whitney statistic, part 2", 2006,
    method 5.
    """
    others = (m + n) / 2 - 1
    spread = 1 + others * (1 - value) / (2 - value) + others * value / (1 + value)
    return value * (1 - value) * spread / (m * n)


def auc_interval(area: Area, units: Units) -> tuple[float, float]:
    """Ends of the interval of an AUC: Newcombe's method 5, its variance scaled by DeLong's.

    Newcombe's solves |A - θ| = z √V(θ) and so stays within 0..1 and holds where A = 1; V(θ) supposes a form of the
    scores, which DeLong's variance does not. The ratio of the standard errors multiplies z: in full where it is above
    1, to the power m / (m + SHRINKAGE) where it is below, as few positives seldom show the tail of their scores.
    Where subjects are known, z is Student's, and the faces of a kind that one subject alone shows count as one, as
    nothing tells how those of others would differ. NaN where the AUC is not defined, and for one subject.
    """
    if not area.is_known or units.count < 2:
        return float("nan"), float("nan")
    kinds = np.array([area.positive, ~area.positive]).T
    shown_by = units.count_of(kinds)
    m, n = np.where(shown_by > 1, kinds.sum(0), 1).tolist()
    value = area.value
    quantile = units.binomial_quantile
    estimated = float(units.covariance(area.influence[:, None])[0, 0]) if shown_by.min() > 1 else 0.0
    modelled = hanley_mcneil(value, m, n)
    if modelled > 0 and estimated > 0:
        ratio = min(np.sqrt(estimated / modelled), WIDEST)
        quantile *= ratio if ratio > 1 else ratio ** (m / (m + SHRINKAGE))

    def gap(end: float, sign: int) -> float:
        return sign * (end - value) - quantile * np.sqrt(hanley_mcneil(end, m, n))

    small = 1e-9
    low = brentq(gap, 0, min(value, 1 - small), args=(-1,)) if value > 0 else 0.0
    high = brentq(gap, max(value, small), 1, args=(1,)) if value < 1 else 1.0
    return float(low), float(high)


def mean_auc_interval(areas: list[Area], ends: np.ndarray, units: Units) -> np.ndarray:
    """Of the mean over the classes that have an AUC; ends 2×7 as auc_interval finds them."""
    known = np.array([area.is_known for area in areas])
    if not known.any() or np.isnan(ends[:, known]).any():
        return np.full(2, np.nan)
    values = np.array([area.value for area in areas])[known]
    influence = np.stack([area.influence for area in areas], axis=1)[:, known]
    return mean_of(values, ends[:, known], influence, units)


# ── means ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def correlate(influence: np.ndarray, units: Units) -> np.ndarray:
    """Correlation K×K of the errors of K estimates from their influence N×K; 0 beside one without any error."""
    covariance = units.covariance(influence)
    scale = np.sqrt(np.diag(covariance))
    scale = np.where(scale > 0, scale, np.inf)
    found = covariance / scale[:, None] / scale
    np.fill_diagonal(found, 1)
    return found if units.count > 1 else np.full_like(found, np.nan)


def mover(values: np.ndarray, ends: np.ndarray, weights: np.ndarray, correlation: np.ndarray) -> np.ndarray:
    """Ends of the interval of Σ w v from K values, their intervals 2×K, weights K and the errors' correlation K×K.

    The method of variance estimates recovery: the distance from each value to its own end stands for its standard
    error (Zou & Donner, "Construction of confidence limits about effect measures: a general approach", 2008), so that
    a mean of proportions of few faces is as asymmetric as they are.
    """
    distances = weights * np.abs(values - ends)
    squares = np.einsum("ek,kl,el->e", distances, correlation, distances)
    middle = weights @ values
    return middle + np.array([-1, 1]) * np.sqrt(np.maximum(squares, 0))


def mean_of(values: np.ndarray, ends: np.ndarray, influence: np.ndarray, units: Units) -> np.ndarray:
    """Of the mean of K values with intervals 2×K and influence N×K."""
    return mover(values, ends, np.full(len(values), 1 / max(1, len(values))), correlate(influence, units))


def weighted_interval(
    values: np.ndarray, ends: np.ndarray, influence: np.ndarray, members: np.ndarray, units: Units
) -> np.ndarray:
    """Of the mean of K class scores weighted by the classes' shares of the faces, from members bool N×K.

    That the shares are estimated too adds an error, which is one more term of the sum.
    """
    shares = members.mean(0)
    of_shares = (members @ values - shares @ values)[:, None] / len(members)
    half = units.quantile * float(np.sqrt(units.covariance(of_shares)[0, 0]))
    return mover(
        np.append(values, 0.0),
        np.column_stack([ends, [-half, half]]),
        np.append(shares, 1.0),
        correlate(np.column_stack([influence, of_shares]), units),
    )


def mean_interval(values: np.ndarray, units: Units) -> np.ndarray:
    """Of the mean of positive values N, such as losses: Student's t for its logarithm, by the delta method."""
    mean = float(values.mean())
    error = float(np.sqrt(units.covariance(((values - mean) / len(values))[:, None])[0, 0]))
    if not mean > 0 or not error > 0:
        return np.full(2, np.nan)
    return mean * np.exp(np.array([-1, 1]) * units.quantile * error / mean)


def fisher_interval(value: float, influence: np.ndarray, units: Units) -> np.ndarray:
    """Of a coefficient in -1..1 from its influence N: Student's t for Fisher's z = artanh, by the delta method."""
    error = float(np.sqrt(units.covariance(influence[:, None])[0, 0]))
    if not abs(value) < 1 or not error > 0:
        return np.full(2, np.nan)
    return np.tanh(np.arctanh(value) + np.array([-1, 1]) * units.quantile * error / (1 - value**2))
