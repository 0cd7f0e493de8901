"""A trained model on the faces of other data sets: classes matched by name, copies of training faces told apart."""

from __future__ import annotations

from typing import Any

import numpy as np

from config import EMOTIONS, Evaluate
from datasets import load_faces, load_stage
from ferlib.data.copies import find_copies
from ferlib.data.face_data import FaceData
from ferlib.evaluation.metrics import clean_metrics, compute_metrics
from ferlib.inference.splits import Predictor, open_predictor
from ferlib.runtime.devices import device_name
from ferlib.runtime.distributed import is_main
from ferlib.runtime.errors import UserError
from ferlib.runtime.files import write_json
from ferlib.runtime.provenance import command_line, library_versions


def evaluate_elsewhere(flags: Evaluate) -> list[dict[str, Any]]:
    """Scores a run on the test split of each set of --on; writes and returns the results, one file per set."""
    predict, own = open_predictor(flags), load_own(flags)
    found = []
    for dataset in flags.on:
        other = load_faces(dataset, flags.data_dir, flags.outputs_dir)
        results = score_elsewhere(flags, predict, own, other)
        found.append(results)
        if is_main():
            write_json(flags.run.elsewhere(dataset), results)
    return found


def load_own(flags: Evaluate) -> FaceData | None:
    """The set that the run was trained on; None if it is not at hand, as beside a model from elsewhere."""
    try:
        return load_stage(flags)
    except UserError:
        return None


def score_elsewhere(flags: Evaluate, predict: Predictor, own: FaceData | None, other: FaceData) -> dict[str, Any]:
    """The figures of a run on another set's test faces; UserError for a set of other classes.

    A class that the other set does not have cannot be right there: its probability is shared out among the rest.
    """
    if other.classes != EMOTIONS:
        raise UserError(f"{other.facts.title}: nothing is scored on other classes than the seven emotions")
    faces, known = other.split("test"), np.unique(other.labels)
    logits = predict(faces.images, flags.views, f"{flags.run.name} on {other.facts.title}")
    probabilities = keep_classes(logits.softmax(1).numpy(), known)
    copies = None if own is None else find_copies(faces, own.split("train"))
    return {
        "run": flags.run.identity(),
        "on": other.dataset,
        "split": "test",
        "views": flags.views,
        "fingerprint": other.fingerprint,
        "left_out": [name for code, name in enumerate(EMOTIONS) if code not in known],
        **compute_metrics(faces.labels, probabilities, faces.subjects),
        "without_training_copies": clean_metrics(faces.labels, probabilities, copies, faces.subjects),
        "device": device_name(predict.device),
        "precision": str(predict.dtype).removeprefix("torch."),
        "command": command_line(),
        "versions": library_versions(),
    }


def keep_classes(probabilities: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Probabilities N×7 of the classes `known` alone: the others 0, the rows summing to 1 again."""
    kept = np.zeros_like(probabilities)
    kept[:, known] = probabilities[:, known]
    return kept / kept.sum(1, keepdims=True)


def summarize(results: dict[str, Any]) -> str:
    """The results in the form that a person reads at the terminal."""
    low, high = results["intervals"]["accuracy"]
    lines = [
        f"{results['run']['model']} trained on {results['run']['dataset']}, on {results['on']}: accuracy "
        f"{results['accuracy']:.2%} ({results['samples']:,} faces, 95 % interval {low:.2%} to {high:.2%}), macro F1 "
        f"{results['macro_f1']:.2%}"
    ]
    clean = results["without_training_copies"]
    if clean and clean["samples"] < results["samples"]:
        copies = results["samples"] - clean["samples"]
        share = "n/a" if clean["accuracy"] is None else f"{clean['accuracy']:.2%}"
        lines.append(f"  {copies:,} of these faces are in the run's own training set; accuracy without them: {share}")
    if results["left_out"]:
        lines.append(f"  the set has no {', '.join(results['left_out'])}: the model chose among the other classes")
    return "\n".join(lines)
