"""How far answers agree with the annotators' votes: a network's, and the labels' for comparison."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import entropy, spearmanr

from config import EMOTIONS
from ferlib.evaluation.calibration import reliability
from ferlib.evaluation.metrics import accuracy_interval, defined

SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)  # of the votes for the label: none, and the ends of five ranges
SHOWN = 8  # errors of each kind that are kept for the picture of them
CLAIMS = {  # kind of an error → what it says
    "most": "most annotators say what the network says",
    "some": "some say it, and more another class",
    "none": "no annotator says it",
}


def against_votes(
    labels: np.ndarray, probabilities: np.ndarray, votes: np.ndarray | None, subjects: np.ndarray | None = None
) -> dict[str, Any] | None:
    """Predictions and labels beside the annotators' votes, over the faces that have any; None without votes.

    labels N, probabilities N×7, votes N×7 (shares that sum to 1, or rows of zeros), subjects N. All figures are of the
    faces with votes: the agreement of the predictions and of the labels; the share of the labels that no annotator
    gave; accuracy where the label has the most votes (of several classes with equally many, each counts as having the
    most), elsewhere, and by the share of the votes for the label; errors by what annotators say; calibration and
    entropy (describe_uncertainty); and for each class its mean votes.
    """
    if votes is None or not votes.any():
        return None
    rows = np.flatnonzero(votes.any(1))
    units = None if subjects is None else subjects[rows]
    labels, probabilities = labels[rows], probabilities[rows]
    votes = np.round(votes[rows].astype(np.float64), 6)  # 0.2 in 32 bits is more than 0.2
    predictions, places = probabilities.argmax(1), np.arange(len(rows))
    correct, named = predictions == labels, votes[places, labels]
    most = votes == votes.max(1, keepdims=True)
    labelled = most[places, labels]
    return {
        "faces": len(rows),
        "predictions": agreement(predictions, votes),
        "labels": agreement(labels, votes),
        "labels_without_votes": float((named == 0).mean()),
        "label_has_most_votes": accuracy_of(correct, labelled, units),
        "elsewhere": accuracy_of(correct, ~labelled, units),
        "by_share": [
            {"low": low, "high": high, **accuracy_of(correct, (named > low) & (named <= high), units)}
            for low, high in zip((-1.0, *SHARES), SHARES, strict=False)
        ],
        "errors": sort_errors(labels, probabilities, votes, rows),
        **describe_uncertainty(probabilities, votes),
        "per_class": [describe_class(code, labels, predictions, votes) for code in range(votes.shape[1])],
    }


def agreement(answers: np.ndarray, votes: np.ndarray) -> dict[str, float]:
    """Agreement of classes N with votes N×7 (shares that sum to 1), over the faces.

    one_annotator: mean share of the votes that the class has: the probability that an annotator of the face, drawn at
    random from those who named one of the classes (of FER+, not alone), named this one. most_annotators: share of
    faces whose class has the most votes; of k classes with equally many, each counts 1/k.
    """
    rows = np.arange(len(answers))
    most = votes == votes.max(1, keepdims=True)
    return {
        "one_annotator": float(votes[rows, answers].mean()),
        "most_annotators": float((most / most.sum(1, keepdims=True))[rows, answers].mean()),
    }


def agree_with_labels(labels: np.ndarray, votes: np.ndarray | None) -> dict[str, Any] | None:
    """The agreement of labels N with votes N×7 over the faces that have any; None without votes."""
    if votes is None or not votes.any():
        return None
    rows = np.flatnonzero(votes.any(1))
    return {"faces": len(rows), "labels": agreement(labels[rows], votes[rows])}


def accuracy_of(correct: np.ndarray, which: np.ndarray, subjects: np.ndarray | None) -> dict[str, Any]:
    """Number of the chosen faces (bool N) and accuracy on them with its 95 % interval; None where there are none."""
    if not which.any():
        return {"faces": 0, "accuracy": None, "interval": None}
    ends = accuracy_interval(correct[which], None if subjects is None else subjects[which])
    return {"faces": int(which.sum()), "accuracy": float(correct[which].mean()), "interval": ends}


def sort_errors(
    labels: np.ndarray, probabilities: np.ndarray, votes: np.ndarray, indices: np.ndarray
) -> dict[str, Any]:
    """The errors by what annotators say of the predicted class: CLAIMS → their number; arguments of N faces with votes.

    label_without_votes: how many of all errors have a label that no annotator gave. surest: of the kinds "most" and
    "none" the SHOWN errors with the highest probability, with the index of the face from `indices`.
    """
    predictions, places = probabilities.argmax(1), np.arange(len(labels))
    wrong, said = predictions != labels, votes[places, predictions]
    kinds = {
        "most": wrong & (said == votes.max(1)),
        "some": wrong & (said > 0) & (said < votes.max(1)),
        "none": wrong & (said == 0),
    }
    order = np.argsort(-probabilities.max(1), kind="stable")
    return {
        "count": int(wrong.sum()),
        **{name: int(rows.sum()) for name, rows in kinds.items()},
        "label_without_votes": int((wrong & (votes[places, labels] == 0)).sum()),
        "surest": {
            name: [
                {
                    "index": int(indices[row]),
                    "true": EMOTIONS[labels[row]],
                    "predicted": EMOTIONS[predictions[row]],
                    "probability": float(probabilities[row].max()),
                    "votes": votes[row].tolist(),
                }
                for row in order[kinds[name][order]][:SHOWN]
            ]
            for name in ("most", "none")
        },
    }


def uncertainty(probabilities: np.ndarray, votes: np.ndarray | None) -> dict[str, Any] | None:
    """As describe_uncertainty, of the faces that have votes; None where none has."""
    if votes is None or not votes.any():
        return None
    rows = votes.any(1)
    return describe_uncertainty(probabilities[rows], votes[rows])


def describe_uncertainty(probabilities: np.ndarray, votes: np.ndarray) -> dict[str, Any]:
    """Calibration against the votes, and the entropies of probabilities and votes, of N faces with votes.

    calibration: as of labels, with the share of the annotators who say the predicted class in place of whether it is
    right. entropy: the means over the faces in nats (0 to 1.95) and the rank correlation (Spearman), None where all
    faces have the same entropy.
    """
    said = votes[np.arange(len(votes)), probabilities.argmax(1)]
    network, people = (entropy(shares.astype(np.float64), axis=1) for shares in (probabilities, votes))
    level = min(np.ptp(network), np.ptp(people)) < 1e-9
    return {
        "calibration": reliability(probabilities.max(1), said),
        "entropy": {
            "network": float(network.mean()),
            "people": float(people.mean()),
            "rank_correlation": None if level else defined(float(spearmanr(network, people).statistic)),
        },
    }


def describe_class(code: int, labels: np.ndarray, predictions: np.ndarray, votes: np.ndarray) -> dict[str, Any]:
    """The faces of one class: their mean votes, how often people and the network give its label; None without faces."""
    rows = labels == code
    row: dict[str, Any] = {"emotion": EMOTIONS[code], "faces": int(rows.sum())}
    if not rows.any():
        return row | dict.fromkeys(("votes", "label_without_votes", "most_annotators", "recall", "network"))
    return row | {
        "votes": votes[rows].mean(0).tolist(),
        "label_without_votes": float((votes[rows, code] == 0).mean()),
        "most_annotators": agreement(labels[rows], votes[rows])["most_annotators"],
        "recall": float((predictions[rows] == code).mean()),
        "network": agreement(predictions[rows], votes[rows]),
    }


def parts_of(found: dict[str, Any]) -> list[tuple[dict[str, Any], str]]:
    """The faces whose label has the most votes and the others, as far as there are any, with the words for them."""
    parts = (("label_has_most_votes", "where the label has the most votes"), ("elsewhere", "elsewhere"))
    return [(found[name], where) for name, where in parts if found[name]["faces"]]


def describe_agreement(results: dict[str, Any]) -> str:
    """What the accuracy of results means beside the votes, in two sentences; "" where they are not known."""
    found = results.get("against_votes")
    if not found or "errors" not in found:  # not known, or results of an earlier version
        return ""
    labels, errors = found["labels"], found["errors"]
    accuracy = 1 - errors["count"] / found["faces"]  # of the faces with votes, as all that follows
    parts = [f"in {part['accuracy']:.1%} {where}" for part, where in parts_of(found)]
    text = (
        f"An accuracy of {accuracy:.1%} on the faces with votes is agreement with labels that one annotator, drawn at "
        f"random from those who name one of the {len(found['per_class'])} emotions, gives to "
        f"{labels['one_annotator']:.1%} of the faces, and most annotators to "
        f"{labels['most_annotators']:.1%}; the network is right {', and '.join(parts)}."
    )
    if errors["count"]:
        agreed, blank = (errors[name] / errors["count"] for name in ("most", "label_without_votes"))
        text += (
            f" Of its {errors['count']:,} errors, most annotators say what the network says in {agreed:.0%}, and "
            f"{blank:.0%} have a label that no annotator gave."
        )
    return text.replace("%", "\N{NARROW NO-BREAK SPACE}%")
