"""Prediction sets: the classes among which the label of a face lies with a given probability (split conformal)."""

from __future__ import annotations

from typing import Any

import numpy as np

from config import EMOTIONS
from ferlib.evaluation.intervals import Proportions, wilson
from ferlib.evaluation.units import Units
from ferlib.inference.confidence import LEVEL, prediction_sets


def class_thresholds(labels: np.ndarray, probabilities: np.ndarray, level: float = LEVEL) -> list[float | None]:
    """The probability of each class from which it is in the set, so that sets hold the label of `level` of its faces.

    labels N, probabilities N×K, of faces that did not train the network. Class-conditional conformal prediction: of the
    n faces of a class, the threshold is the ⌊(n + 1)(1 - level)⌋-th smallest probability of their label (Sadinle, Lei
    & Wasserman, "Least ambiguous set-valued classifiers with bounded error levels", 2019, theorem 1 and section 3; the
    coverage of a new face of the class is then at least `level`, Vovk, "Conditional validity of inductive conformal
    predictors", 2012). None, and the class in every set, where it has too few faces for that: 9 at 90 %.
    """
    return [threshold(probabilities[labels == code, code], level) for code in range(probabilities.shape[1])]


def threshold(scores: np.ndarray, level: float) -> float | None:
    """The ⌊(n + 1)(1 - level)⌋-th smallest of n scores; None where that is none."""
    rank = int(np.floor((len(scores) + 1) * (1 - level) + 1e-9))
    return float(np.sort(scores)[rank - 1]) if rank >= 1 else None


def common_threshold(labels: np.ndarray, probabilities: np.ndarray, level: float = LEVEL) -> float | None:
    """One threshold for all classes, with which sets are smallest and hold the label of `level` of all faces.

    Rare and difficult classes are then covered less often than the others.
    """
    return threshold(probabilities[np.arange(len(labels)), labels], level)


def measure_sets(
    labels: np.ndarray,
    probabilities: np.ndarray,
    thresholds: list[float | None],
    subjects: np.ndarray | None = None,
) -> dict[str, Any]:
    """How often sets hold the label, overall and for each class with 95 % intervals, and how large they are.

    labels N, probabilities N×K of other faces than those that the thresholds are from. `sizes` counts the faces whose
    set has 1, 2, … classes.
    """
    members = prediction_sets(probabilities, thresholds)
    held = members[np.arange(len(labels)), labels]
    sizes, units = members.sum(1), Units(len(labels), subjects)
    true = labels[:, None] == np.arange(probabilities.shape[1])
    each = Proportions.of(true, true & held[:, None])
    ends = wilson(each, units)
    overall = wilson(Proportions.of(np.ones((len(labels), 1), bool), held[:, None]), units)[:, 0]
    return {
        "coverage": float(held.mean()),
        "interval": overall.tolist(),
        "mean_size": float(sizes.mean()),
        "sizes": np.bincount(sizes, minlength=len(EMOTIONS) + 1)[1:].tolist(),
        "per_class": [
            {
                "emotion": emotion,
                "faces": int(each.trials[code]),
                "coverage": float(each.values[code]) if each.trials[code] else None,
                "interval": ends[:, code].tolist() if each.trials[code] else None,
                "mean_size": float(sizes[labels == code].mean()) if each.trials[code] else None,
            }
            for code, emotion in enumerate(EMOTIONS)
        ],
    }
