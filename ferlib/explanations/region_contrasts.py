"""In which facial regions groups of faces have more evidence: wrong and right, confident errors, training copies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from config import EMOTIONS

Face = Mapping[str, Any]  # of a summary
FEWEST = 8  # faces of each group in a class that is compared: with 5 the intervals hold in 92 % only
LEVEL = 0.95  # of all intervals of a contrast together

Groups = tuple[list[Face], list[Face]]
GROUPS: dict[str, tuple[Callable[[Sequence[Face]], Groups], str]] = {  # → faces of a class → both groups; words
    "wrong": (lambda faces: split(faces, is_wrong), "wrong less right"),
    "confident_wrong": (lambda faces: split(confident(faces), is_wrong), "confident: wrong less right"),
    "training_copy": (
        lambda faces: split([face for face in faces if "training_copy" in face], lambda face: face["training_copy"]),
        "with a copy in training less without",
    ),
}


def split(faces: Sequence[Face], first: Callable[[Face], bool]) -> Groups:
    """The faces for which `first` holds, and the others."""
    return [face for face in faces if first(face)], [face for face in faces if not first(face)]


def is_wrong(face: Face) -> bool:
    """Whether the predicted class is not the true one."""
    return face["predicted"] != face["true"]


def confident(faces: Sequence[Face]) -> list[Face]:
    """Those of one predicted class whose probability is at least the median of the right ones."""
    right = [max(face["probabilities"]) for face in faces if not is_wrong(face)]
    limit = np.median(right) if right else np.inf
    return [face for face in faces if max(face["probabilities"]) >= limit]


def make_contrasts(faces: Sequence[Face], names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The contrasts of GROUPS over the faces whose predicted class is explained, as plain Python.

    Each: title, faces (numbers of both groups), and of each region of `names` difference, low and high: how much larger
    its share of the face's evidence is in the first group, where a share is the region's value over the sum of the
    absolute values of all, −1..1. Faces are compared with those of the same predicted class alone, so that groups of
    other classes do not differ by them: the differences of the classes are averaged with the weights n₁n₂/(n₁ + n₂).
    The intervals hold 95 % together (Bonferroni over regions; see `compare`).
    Confident faces are those as sure as half of the right ones of their predicted class. Contrasts of which no class
    has FEWEST faces in both groups are left out.
    """
    known = [face for face in faces if face["true"] is not None and face["target"] == face["predicted"]]
    found = {}
    for name, (groups, title) in GROUPS.items():
        pairs = [groups([face for face in known if face["predicted"] == emotion]) for emotion in EMOTIONS]
        strata = [
            (shares(one, names), shares(other, names)) for one, other in pairs if min(len(one), len(other)) >= FEWEST
        ]
        if strata:
            found[name] = {"title": title, **compare(strata)}
    return found


def shares(faces: Sequence[Face], names: Sequence[str]) -> np.ndarray:
    """float64 N×n: each region's value over the sum of the absolute values of a face."""
    values = np.array([[face["values"][name] for name in names] for face in faces]).reshape(len(faces), len(names))
    total = np.abs(values).sum(1, keepdims=True)
    return values / np.where(total > 0, total, 1)


def compare(strata: Sequence[tuple[np.ndarray, np.ndarray]]) -> dict[str, Any]:
    """Mean differences of N₁×n from N₂×n over strata, with their intervals.

    Welch, "The generalization of 'Student's' problem when several different population variances are involved" (1947):
    Student's t with the degrees of freedom of a sum of variances of means (Satterthwaite 1946).
    """
    counts = np.array([[len(one), len(other)] for one, other in strata], float)
    weights = counts.prod(1) / counts.sum(1)
    weights /= weights.sum()
    differences = np.array([one.mean(0) - other.mean(0) for one, other in strata])
    mean = weights @ differences
    parts = np.array(  # of the variance of the mean: one of each group of each stratum
        [
            weight**2 * group.var(0, ddof=1) / len(group)
            for weight, groups in zip(weights, strata, strict=True)
            for group in groups
        ]
    )
    variance, tiny = parts.sum(0), np.finfo(float).tiny
    freedom = variance**2 / np.maximum((parts**2 / (counts.reshape(-1, 1) - 1)).sum(0), tiny)
    half = stats.t.ppf(1 - (1 - LEVEL) / 2 / len(mean), np.maximum(freedom, 1)) * np.sqrt(variance)
    return {
        "faces": [int(total) for total in counts.sum(0)],
        "difference": mean.tolist(),
        "low": (mean - half).tolist(),
        "high": (mean + half).tolist(),
    }
