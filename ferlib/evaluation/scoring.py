"""A trained run scored on a split of its data set, and the folds of a data set together."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ferlib.data.copies import find_copies, training_copies
from ferlib.data.face_data import FaceData
from ferlib.data.facts import SPLITS
from ferlib.data.held_out import may_have_seen
from ferlib.evaluation.agreement import against_votes
from ferlib.evaluation.error_analysis import analyse_errors
from ferlib.evaluation.metrics import accuracy_interval, average_f1, clean_metrics, compute_metrics
from ferlib.evaluation.predictions import SavedPredictions, make_predictions, save_predictions
from ferlib.evaluation.recalibration import calibrated_results, fit_calibration, write_calibration
from ferlib.runtime.digests import digest
from ferlib.runtime.files import check_writable, write_json
from ferlib.runtime.locks import sole_process
from ferlib.runtime.provenance import provenance
from ferlib.runtime.runs import Run, check_same_set, checkpoint_name

if TYPE_CHECKING:  # figures of saved predictions need no torch
    from ferlib.inference.splits import Predictor

NO_VOTES = digest(b"")  # what the identity of a training says that should learn votes and knew none
FOLD_FIGURES = ("accuracy", "macro_f1", "weighted_f1")  # of which the mean over the folds is given


@dataclass(frozen=True)
class Evaluation:
    """A run's predictions of a split, and their figures."""

    run: Run
    data: FaceData  # the whole set
    split: str
    predictions: SavedPredictions
    results: dict[str, Any]

    @property
    def faces(self) -> FaceData:
        """The faces that were predicted."""
        return self.data.split(self.split)

    def write(self) -> None:
        """Writes predictions and results to the run's files, which hold the test split."""
        save_predictions(self.run.predictions, self.predictions)
        write_json(self.run.results, self.results)


# ── figures ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def score_predictions(faces: FaceData, probabilities: np.ndarray, copies: np.ndarray | None) -> dict[str, Any]:
    """Every figure of probabilities N×7 on N faces; needs no model.

    copies: bool N, which of the faces have a copy in the train split (data.copies.training_copies); None: not known.
    """
    return {
        **compute_metrics(faces.labels, probabilities, faces.subjects),
        **analyse_errors(faces.labels, probabilities, faces.names),
        "without_training_copies": clean_metrics(faces.labels, probabilities, copies, faces.subjects),
        "against_votes": against_votes(faces.labels, probabilities, faces.votes, faces.subjects),
    }


def headline(faces: FaceData, probabilities: np.ndarray, copies: np.ndarray | None) -> dict[str, Any]:
    """The figures by which kinds of views are compared; arguments as in score_predictions."""
    predictions = probabilities.argmax(1)
    correct = predictions == faces.labels
    clean = np.zeros(len(faces), dtype=bool) if copies is None else ~copies
    return {
        "accuracy": float(correct.mean()),
        "macro_f1": average_f1(faces.labels, predictions, "macro"),
        "interval": accuracy_interval(correct, faces.subjects),
        "clean_accuracy": float(correct[clean].mean()) if clean.any() else None,
    }


def score_val(data: FaceData, val: SavedPredictions, *, exclude_leaks: bool = False) -> dict[str, Any]:
    """The accuracy on val, of the same views as that on test, also on its faces without a copy in train.

    exclude_leaks: as in data.copies.training_copies.
    """
    faces = data.split("val")
    correct = val.probabilities.argmax(1) == val.labels
    searched = any(data.counts()["train"]) and not exclude_leaks
    clean = ~find_copies(faces, data.split("train")) if searched else np.full(len(faces), exclude_leaks)
    return {
        "samples": len(faces),
        "views": val.views,
        "accuracy": float(correct.mean()),
        "macro_f1": average_f1(val.labels, val.probabilities.argmax(1), "macro"),
        "interval": accuracy_interval(correct, faces.subjects),
        "clean_samples": int(clean.sum()),
        "clean_accuracy": float(correct[clean].mean()) if clean.any() else None,
        "clean_interval": accuracy_interval(correct[clean], None if faces.subjects is None else faces.subjects[clean])
        if clean.any()
        else None,
    }


def with_contempt(data: FaceData, correct: int, split: str) -> dict[str, Any] | None:
    """The accuracy of a model of seven classes on a set of eight, its faces of contempt counted as errors.

    correct: of the test faces. None for a set without contempt, and unless the split is test as it was published.
    """
    facts, counts = data.facts, data.counts()["test"]
    if split != "test" or not facts.contempt or tuple(counts) != (facts.official_counts or {}).get("test"):
        return None
    samples = sum(counts) + facts.contempt
    return {"samples": samples, "contempt": facts.contempt, "accuracy": float(correct / samples)}


# ── runs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def predict_faces(predict: Predictor, faces: FaceData, views: str, progress: str) -> tuple[SavedPredictions, float]:
    """The predictions of `faces`, and how many seconds they took."""
    started = time.perf_counter()
    logits = predict(faces.images, views, progress)
    seconds = time.perf_counter() - started
    predictions = make_predictions(
        faces,
        logits.numpy(),
        logits.softmax(1).numpy(),
        views=views,
        precision=predict.hardware["precision"],
        checkpoint=predict.checkpoint_digest,
    )
    return predictions, seconds


def evaluate_run(
    run: Run,
    predict: Predictor,
    data: FaceData,
    *,
    split: str = "test",
    views: str = "single",
    compare_views: bool = False,
) -> Evaluation:
    """Scores a checkpoint on a split; for test, writes its predictions, those of val, and the results.

    compare_views: also the headline figures of the other kinds of views. Under torchrun every process must call this;
    the first one writes.
    """
    from ferlib.runtime.distributed import is_main

    if split != "test" or not is_main():
        return evaluate_alone(run, predict, data, split, views, compare_views)
    check_same_set(run.results, "run.dataset", run.dataset)
    check_writable(run.predictions)
    with sole_process(run.lock("evaluate"), f"{run.name} is being evaluated"):
        return evaluate_alone(run, predict, data, split, views, compare_views)


def evaluate_alone(
    run: Run, predict: Predictor, data: FaceData, split: str, views: str, compare_views: bool
) -> Evaluation:
    """As `evaluate_run`, while no other process evaluates the run."""
    from ferlib.inference.views import VIEWS
    from ferlib.networks.classifier import count_parameters
    from ferlib.runtime.distributed import is_main

    faces = data.split(split)
    exclude_leaks = predict.checkpoint.excludes_leaks(data.fingerprint)
    copies = training_copies(data, exclude_leaks=exclude_leaks) if split == "test" else None
    predictions, seconds = predict_faces(predict, faces, views, f"evaluating {run.name}")
    on_val = predict_val(predict, data, views) if split == "test" else {}
    others = [name for name in VIEWS if compare_views and name != views]
    results = {
        "run": run.identity(),
        "split": split,
        "fingerprint": data.fingerprint,
        "views": views,
        "exclude_leaks": exclude_leaks,
        "may_have_seen": may_have_seen(predict.checkpoint.info, data),
        **score_predictions(faces, predictions.probabilities, copies),
        "on_val": score_val(data, on_val[views], exclude_leaks=exclude_leaks) if on_val else None,
        "calibrated": calibrated_results(
            on_val[views],
            faces.labels,
            predictions.logits,
            faces.subjects,
            votes=faces.votes,
            val_votes=learned_votes(predict, data),
        )
        if on_val
        else None,
        "with_contempt": with_contempt(data, (predictions.probabilities.argmax(1) == faces.labels).sum(), split),
        "other_views": {
            name: headline(faces, predict_faces(predict, faces, name, name)[0].probabilities, copies) for name in others
        },
        "checkpoint": {
            "path": str(predict.path),
            "digest": predict.checkpoint_digest,
            **{key: predict.checkpoint.info.get(key) for key in ("epoch", "metrics")},
        },
        "parameters": count_parameters(predict.checkpoint.model),
        "images_per_second": len(faces) / seconds,
        **predict.hardware,
        **provenance(),
    }
    found = Evaluation(run, data, split, predictions, results)
    if split == "test" and is_main():
        if on_val:
            save_predictions(run.val_predictions, on_val[views])
            keep_calibration(run, predict, data, on_val)
        found.write()
    return found


def keep_calibration(run: Run, predict: Predictor, data: FaceData, on_val: dict[str, SavedPredictions]) -> None:
    """Writes temperature and prediction sets of the checkpoint from predictions of val, but not from those in 8 bits.

    They are read in every precision, and the logits of 8 bits differ more from those of the others than these do.
    """
    if predict.hardware["precision"] == "int8":
        other = "" if predict.path == run.best_checkpoint else checkpoint_name(predict.path)
        command = run.command("evaluate.py", other)
        print(f"note: no calibration of the checkpoint is written from 8 bits; for one, run: {command}")
        return
    votes = learned_votes(predict, data)
    fitted = {name: fit_calibration(each, votes) for name, each in on_val.items()}
    write_calibration(run, fitted, predict.checkpoint_digest, data.fingerprint)


def predict_val(predict: Predictor, data: FaceData, views: str) -> dict[str, SavedPredictions]:
    """Views → the predictions of val: these views, and the single one that photos and videos are predicted with.

    Temperatures and the weights of ensembles are fitted on them. Empty for a set without a val split.
    """
    if not any(data.counts()["val"]):
        return {}
    faces = data.split("val")
    return {name: predict_faces(predict, faces, name, f"val, {name}")[0] for name in dict.fromkeys((views, "single"))}


def learned_votes(predict: Predictor, data: FaceData) -> np.ndarray | None:
    """The votes of val, N×7, for a network that learned their shares instead of the labels; None for others.

    With the loss of votes, a training for which none were known learned labels.
    """
    identity = predict.checkpoint.info.get("identity") or {}
    if (identity.get("recipe") or {}).get("loss") != "votes" or identity.get("votes") == NO_VOTES:
        return None
    votes = data.split("val").votes
    return votes if votes is not None and votes.any() else None


def join_folds(run: Run, folds: Sequence[Evaluation]) -> Evaluation:
    """All faces of a set that is split by subject, each as the run of its own fold predicted it.

    The results also hold mean and standard deviation over the folds.
    """
    first, last = folds[0], folds[-1]
    data = replace(first.data, splits=np.full(len(first.data), SPLITS.index("test")))
    logits, probabilities = np.zeros((2, len(data), len(data.classes)), dtype=np.float32)
    for fold in folds:
        rows = fold.data.splits == SPLITS.index("test")
        logits[rows], probabilities[rows] = fold.predictions.logits, fold.predictions.probabilities
    columns = {name: [fold.results[name] for fold in folds] for name in FOLD_FIGURES}
    exclude_leaks = all(fold.results["exclude_leaks"] for fold in folds)
    results = {
        "run": run.identity(),
        "split": "test",
        "fingerprint": data.fingerprint,
        "views": first.predictions.views,
        "exclude_leaks": exclude_leaks,
        "may_have_seen": any(fold.results["may_have_seen"] for fold in folds),
        **score_predictions(data, probabilities, np.zeros(len(data), bool) if exclude_leaks else None),
        "on_val": None,
        "calibrated": None,
        "folds": [
            {
                "fold": fold.run.fold,
                "checkpoint": {name: fold.results["checkpoint"][name] for name in ("path", "digest")},
                **{name: fold.results[name] for name in ("samples", *FOLD_FIGURES)},
            }
            for fold in folds
        ],
        "mean": {name: statistics.mean(values) for name, values in columns.items()},
        "sd": {name: statistics.stdev(values) for name, values in columns.items()},
        "other_views": {},
        "checkpoint": None,
        **{name: last.results[name] for name in ("parameters", "images_per_second", "device", "precision")},
        **provenance(),
    }
    options = {"views": first.predictions.views, "precision": first.predictions.precision}
    return Evaluation(run, data, "test", make_predictions(data, logits, probabilities, **options), results)
