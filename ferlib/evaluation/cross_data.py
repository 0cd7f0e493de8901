"""A trained run on the faces of other data sets: classes matched by name, copies of training faces counted apart."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from config import EMOTIONS
from ferlib.data.copies import find_copies
from ferlib.data.face_data import FaceData
from ferlib.data.leaks import without_leaks
from ferlib.evaluation.metrics import clean_metrics, compute_metrics
from ferlib.runtime.errors import UserError
from ferlib.runtime.files import write_json
from ferlib.runtime.provenance import provenance
from ferlib.runtime.runs import Run, check_same_set

if TYPE_CHECKING:
    from ferlib.inference.splits import Predictor


def evaluate_elsewhere(
    run: Run, predict: Predictor, own: FaceData | None, others: Iterable[FaceData], views: str = "single"
) -> list[dict[str, Any]]:
    """Scores a run on the test split of each of `others`; writes and returns the results, one file per set.

    own: the set that the run was trained on; None where it is not at hand. UserError for a set of other classes.
    """
    from ferlib.runtime.distributed import is_main

    found = []
    if own and predict.checkpoint.excludes_leaks(own.fingerprint):
        own = without_leaks(own)[0]
    for other in others:
        check_same_set(run.elsewhere(other.dataset), "on", other.dataset)
        results = score_elsewhere(run, predict, own, other, views)
        found.append(results)
        if is_main():
            write_json(run.elsewhere(other.dataset), results)
    return found


def score_elsewhere(
    run: Run, predict: Predictor, own: FaceData | None, other: FaceData, views: str = "single"
) -> dict[str, Any]:
    """The figures of a run on another set's test faces; UserError for a set of other classes.

    A class that the other set does not have gets probability 0, and the rest are scaled up to a sum of 1.
    """
    if other.classes != EMOTIONS:
        raise UserError(f"{other.facts.title}: nothing is scored on other classes than the seven emotions")
    faces, known = other.split("test"), np.unique(other.labels)
    logits = predict(faces.images, views, f"{run.name} on {other.facts.title}")
    probabilities = keep_classes(logits.softmax(1).numpy(), known)
    comparable = own is not None and own.images.shape[1:] == other.images.shape[1:]  # else copies are not known
    copies = find_copies(faces, own.split("train")) if own and comparable else None
    return {
        "run": run.identity(),
        "on": other.dataset,
        "split": "test",
        "views": views,
        "fingerprint": other.fingerprint,
        "checkpoint": str(predict.path),
        "checkpoint_digest": predict.checkpoint_digest,
        "left_out": [name for code, name in enumerate(EMOTIONS) if code not in known],
        **compute_metrics(faces.labels, probabilities, faces.subjects),
        "without_training_copies": clean_metrics(faces.labels, probabilities, copies, faces.subjects),
        **predict.hardware,
        **provenance(),
    }


def keep_classes(probabilities: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Probabilities N×7 of the classes `known` alone: the others 0, the rows summing to 1 again."""
    kept = np.zeros_like(probabilities)
    kept[:, known] = probabilities[:, known]
    return kept / kept.sum(1, keepdims=True)
