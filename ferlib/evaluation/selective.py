"""Selective accuracy: how often the network is right on the faces of which it is surest."""

from __future__ import annotations

from typing import Any

import numpy as np

from ferlib.evaluation.metrics import accuracy_interval

COVERAGES = tuple(share / 20 for share in range(1, 21))


def selective_accuracy(
    labels: np.ndarray, probabilities: np.ndarray, subjects: np.ndarray | None = None
) -> dict[str, Any]:
    """Accuracy on the surest share of the faces, for each of COVERAGES, with 95 % intervals.

    labels N, probabilities N×K, subjects N where they are known.

    `aurc` is the area under the risk-coverage curve: the mean over all coverages of the error on the faces kept
    (Geifman & El-Yaniv, "Selective classification for deep neural networks", 2017). Faces of equal confidence keep
    their order.
    """
    order = np.argsort(-probabilities.max(1), kind="stable")
    correct = (probabilities.argmax(1) == labels)[order]
    units = None if subjects is None else subjects[order]
    kept = [max(1, round(share * len(labels))) for share in COVERAGES]
    risks = 1 - np.cumsum(correct) / np.arange(1, len(labels) + 1)
    return {
        "aurc": float(risks.mean()),
        "curve": [
            {
                "coverage": share,
                "faces": count,
                "accuracy": float(correct[:count].mean()),
                "interval": accuracy_interval(correct[:count], None if units is None else units[:count]),
            }
            for share, count in zip(COVERAGES, kept, strict=True)
        ],
    }
