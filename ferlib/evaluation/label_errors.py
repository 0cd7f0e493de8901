"""Likely errors of labels: ranked by confident learning, and the ranking scored against the annotators' votes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from config import EMOTIONS
from ferlib.evaluation.metrics import accuracy_interval

CUTS = (10, 20, 50, 100, 200, 500, 1000)  # k of precision at k


class Ranking(NamedTuple):
    """Faces by how likely their label is an error, the likeliest first."""

    order: np.ndarray  # int64 N, places of all faces
    candidates: int  # how many of the first ones the confident joint counts as errors
    thresholds: np.ndarray  # float K: mean probability of each class over the faces that have its label
    joint: np.ndarray  # int64 K×K: labels in rows, confidently predicted classes in columns


def rank_label_errors(labels: np.ndarray, probabilities: np.ndarray) -> Ranking:
    """Confident learning (Northcutt, Jiang & Chuang, "Confident learning: estimating uncertainty in dataset labels",
    JAIR 2021) on labels int N and probabilities N×K that a network which was not trained on these faces predicts.

    A face counts for the most probable of the classes whose probability reaches the class's threshold (equations 1 and
    2); faces that count for another class than their label are candidates ("method 2: prune by C", section 3.2), and
    are ranked by the normalised margin p(label) - max p(other), the smallest first; behind them all other faces.
    """
    rows = np.arange(len(labels))
    classes = probabilities.shape[1]
    counts = np.bincount(labels, minlength=classes)
    sums = np.bincount(labels, probabilities[rows, labels], minlength=classes)
    thresholds = np.divide(sums, counts, out=np.full(classes, np.inf), where=counts > 0)
    confident = np.where(probabilities >= thresholds, probabilities, -1.0)
    counted = np.where(confident.max(1) >= 0, confident.argmax(1), -1)
    joint = np.zeros((classes, classes), np.int64)
    np.add.at(joint, (labels[counted >= 0], counted[counted >= 0]), 1)
    candidate = (counted >= 0) & (counted != labels)
    order = np.lexsort((margins(labels, probabilities), ~candidate))
    return Ranking(order, int(candidate.sum()), thresholds, joint)


def margins(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """p(label) - max p(other) N, -1..1."""
    rows = np.arange(len(labels))
    others = probabilities.copy()
    others[rows, labels] = -np.inf
    return probabilities[rows, labels] - others.max(1)


def precision_at(order: np.ndarray, errors: np.ndarray, cuts: tuple[int, ...] = CUTS) -> list[dict[str, Any]]:
    """Share of the first k places of an order that are errors (bool N), with its Wilson interval, for each k."""
    found = []
    for cut in (cut for cut in cuts if cut <= len(order)):
        first = errors[order[:cut]]
        hits = int(first.sum())
        found.append({"k": cut, "errors": hits, "precision": hits / cut, "interval": accuracy_interval(first)})
    return found


def errors_by_votes(labels: np.ndarray, votes: np.ndarray) -> dict[str, np.ndarray]:
    """What votes N×K say of labels int N: bool N by criterion.

    outvoted: another class has more votes than the label. no_vote: no annotator gave the label's class.
    """
    own = votes[np.arange(len(labels)), labels]
    return {"outvoted": votes.max(1) > own, "no_vote": own == 0}


def score_ranking(
    labels: np.ndarray, probabilities: np.ndarray, votes: np.ndarray, ranking: Ranking
) -> dict[str, Any] | None:
    """Precision at k of a ranking by what votes N×K say, over the faces that have any; None where none has.

    Beside it the share of errors among all faces, which a random order reaches, and the order by the label's
    probability alone; `suggestion`: how often the most probable class is one that has the most votes.
    """
    known = np.asarray(votes.any(1))
    if not known.any():
        return None
    order = ranking.order[known[ranking.order]]
    plain = np.argsort(probabilities[np.arange(len(labels)), labels], kind="stable")
    plain = plain[known[plain]]
    predicted = probabilities.argmax(1)
    right = votes[np.arange(len(votes)), predicted] == votes.max(1)
    criteria: Mapping[str, np.ndarray] = errors_by_votes(labels, votes)
    return {
        "faces": int(known.sum()),
        "criteria": {
            name: {
                "share": float(errors[known].mean()),
                "confident_learning": precision_at(order, errors),
                "by_probability": precision_at(plain, errors),
            }
            for name, errors in criteria.items()
        },
        "suggestion": precision_at(order, right),
    }


def list_label_errors(
    ranking: Ranking,
    labels: np.ndarray,
    probabilities: np.ndarray,
    rows: np.ndarray,
    names: np.ndarray,
    votes: np.ndarray | None,
    count: int,
) -> list[dict[str, Any]]:
    """The first `count` candidates for JSON: row of the set, name, label, predicted class, probabilities and votes."""
    return [
        {
            "row": int(rows[place]),
            "name": str(names[place]),
            "label": EMOTIONS[labels[place]],
            "predicted": EMOTIONS[probabilities[place].argmax()],
            "probabilities": [round(float(value), 4) for value in probabilities[place]],
            "votes": [round(float(value), 4) for value in votes[place]] if votes is not None else None,
        }
        for place in ranking.order[: min(count, ranking.candidates)]
    ]
