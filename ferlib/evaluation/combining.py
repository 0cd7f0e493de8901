"""Rules that combine the outputs of several classifiers on the same faces: RULES."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import log_softmax, softmax
from sklearn.model_selection import KFold

from ferlib.evaluation.calibration import face_losses

GREEDY_ROUNDS = 100  # members drawn, with replacement; the best beginning of the sequence is kept
GAP = 1e-5  # nats per face that learned weights may lie above the smallest loss
FOLDS = 5  # of val, for a fair score of weights that val itself decides
TIE_BREAK = 1e-3  # share of the mean probability beside the votes; decides between classes of equally many votes


@dataclass(frozen=True)
class Outputs:
    """Logits of M members for N faces, and the labels."""

    labels: np.ndarray  # int N
    logits: np.ndarray  # float M×N×7

    @cached_property
    def probabilities(self) -> np.ndarray:
        """float M×N×7."""
        return softmax(self.logits, axis=2)

    @cached_property
    def correct(self) -> np.ndarray:
        """bool M×N."""
        return self.logits.argmax(2) == self.labels

    def at(self, rows: np.ndarray) -> Outputs:
        """The outputs of some faces."""
        return Outputs(self.labels[rows], self.logits[:, rows])


# ── rules: outputs of the members and their weights (M, of sum 1) → probabilities N×7 ────────────────────────────────


def mean_probabilities(outputs: Outputs, weights: np.ndarray) -> np.ndarray:
    """The linear pool Σ w p."""
    return np.tensordot(weights, outputs.probabilities, 1)


def mean_logits(outputs: Outputs, weights: np.ndarray) -> np.ndarray:
    """softmax(Σ w z): equal to the geometric mean up to rounding, as log p and z differ by a constant per face."""
    return softmax(np.tensordot(weights, outputs.logits, 1), axis=1)


def geometric_mean(outputs: Outputs, weights: np.ndarray) -> np.ndarray:
    """The logarithmic pool Π pʷ, made to sum to 1 (Genest & Zidek, "Combining probability distributions", 1986)."""
    return softmax(np.tensordot(weights, log_softmax(outputs.logits, axis=2), 1), axis=1)


def vote_shares(outputs: Outputs, weights: np.ndarray) -> np.ndarray:
    """The share of members that predict each class, ties broken by the mean probability.

    Of M members there are only M + 1 shares, so that AUC and calibration are coarser than the accuracy is.
    """
    votes = np.eye(outputs.logits.shape[2])[outputs.logits.argmax(2)]  # M,N,7
    return (1 - TIE_BREAK) * np.tensordot(weights, votes, 1) + TIE_BREAK * mean_probabilities(outputs, weights)


# ── weights: outputs on val → M weights of sum 1 ─────────────────────────────────────────────────────────────────────


def equal_weights(val: Outputs) -> np.ndarray:
    """1/M for each member."""
    return np.full(len(val.logits), 1 / len(val.logits))


def learned_weights(val: Outputs) -> np.ndarray:
    """The weights of the linear pool with the smallest mean negative log likelihood, a convex problem on the simplex.

    w ← w · mean(p / Σ w p), p the likelihood of the true class: expectation-maximisation for the shares of a mixture
    (Dempster, Laird & Rubin, 1977), which Cover, "An algorithm for maximizing expected log investment return" (1984),
    shows to lie within log(largest factor) of the best.
    """
    likelihood = val.probabilities[:, np.arange(len(val.labels)), val.labels].clip(min=1e-12)  # M,N
    weights = equal_weights(val)
    while True:
        factors = (likelihood / (weights @ likelihood)).mean(1)
        if np.log(factors.max()) < GAP:
            return weights
        weights = weights * factors


def greedy_weights(val: Outputs) -> np.ndarray:
    """How often each member is drawn, with replacement, when each draw maximises the accuracy of the mean.

    Caruana, Niculescu-Mizil, Crew & Ksikes, "Ensemble selection from libraries of models" (2004), on accuracy; ties
    are broken by the negative log likelihood.
    """
    total, drawn, scores = np.zeros(val.logits.shape[1:]), [], []
    for count in range(1, GREEDY_ROUNDS + 1):
        candidates = [score(val.labels, (total + member) / count) for member in val.probabilities]
        drawn.append(max(range(len(candidates)), key=candidates.__getitem__))
        scores.append(candidates[drawn[-1]])
        total += val.probabilities[drawn[-1]]
    best = 1 + max(range(len(scores)), key=scores.__getitem__)
    return np.bincount(drawn[:best], minlength=len(val.logits)) / best


def score(labels: np.ndarray, probabilities: np.ndarray) -> tuple[float, float]:
    """(accuracy, mean log likelihood): higher is better, the second counts where the first is equal."""
    return accuracy(labels, probabilities), -float(face_losses(labels, probabilities).mean())


def accuracy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Share of the N faces whose most probable class is the label."""
    return float((probabilities.argmax(1) == labels).mean())


# ── methods ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Rule:
    title: str
    combine: Callable[[Outputs, np.ndarray], np.ndarray]
    weigh: Callable[[Outputs], np.ndarray] = equal_weights


RULES = {
    "mean": Rule("mean of probabilities", mean_probabilities),
    "logits": Rule("mean of logits", mean_logits),
    "geometric": Rule("geometric mean", geometric_mean),
    "vote": Rule("majority vote", vote_shares),
    "weighted": Rule("weights learned on val", mean_probabilities, learned_weights),
    "greedy": Rule("greedy selection on val", mean_probabilities, greedy_weights),
}


def cross_fitted(method: Rule, val: Outputs) -> np.ndarray:
    """Probabilities N×7 on val, each fold of val combined with weights that were fitted on the other folds.

    Without it a method would be preferred for fitting val closely.
    """
    probabilities = np.empty(val.logits.shape[1:])
    for others, own in KFold(FOLDS, shuffle=True, random_state=0).split(val.labels):
        probabilities[own] = method.combine(val.at(own), method.weigh(val.at(others)))
    return probabilities


def disagreement(correct: np.ndarray) -> np.ndarray:
    """Share of faces on which exactly one of two members is right, for correct M×N: M×M.

    The disagreement measure of Kuncheva & Whitaker, "Measures of diversity in classifier ensembles" (2003).
    """
    return (correct[:, None] != correct[None]).mean(2)
