"""How far answers agree with the annotators' votes: a network's, and the labels' for comparison."""

from __future__ import annotations

from typing import Any

import numpy as np


def agreement(answers: np.ndarray, votes: np.ndarray) -> dict[str, float]:
    """Agreement of classes N with votes N×7 (shares that sum to 1), over the faces.

    one_annotator: probability that one of the annotators, drawn at random, gave the same class. most_annotators: share
    of faces whose class has the most votes; of k classes with equally many, each counts 1/k.
    """
    rows = np.arange(len(answers))
    most = votes == votes.max(1, keepdims=True)
    return {
        "one_annotator": float(votes[rows, answers].mean()),
        "most_annotators": float((most / most.sum(1, keepdims=True))[rows, answers].mean()),
    }


def against_votes(labels: np.ndarray, predictions: np.ndarray, votes: np.ndarray | None) -> dict[str, Any] | None:
    """The agreement of predictions N and labels N with votes N×7, over the faces that have any; None without votes."""
    if votes is None or not votes.any():
        return None
    rows = np.flatnonzero(votes.any(1))
    return {
        "faces": len(rows),
        "predictions": agreement(predictions[rows], votes[rows]),
        "labels": agreement(labels[rows], votes[rows]),
    }
