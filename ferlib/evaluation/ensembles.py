"""Ensembles: the predictions of several runs on one data set joined, and the result as a run of its own.

Weights, greedy selection and the choice of the method use the val split only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ferlib.data.copies import training_copies
from ferlib.data.face_data import FaceData
from ferlib.data.held_out import may_have_seen
from ferlib.evaluation.combining import FOLDS, RULES, Outputs, accuracy, cross_fitted, disagreement
from ferlib.evaluation.metrics import accuracy_interval, compare_accuracies
from ferlib.evaluation.predictions import make_predictions, read_predictions
from ferlib.evaluation.recalibration import calibrated_results
from ferlib.evaluation.saved_runs import ModelReport, read_models
from ferlib.evaluation.scored_checkpoints import is_epoch_of
from ferlib.evaluation.scoring import Evaluation, score_predictions, score_val
from ferlib.runtime.errors import UserError, lookup
from ferlib.runtime.files import require
from ferlib.runtime.provenance import provenance
from ferlib.runtime.runs import Run

if TYPE_CHECKING:  # members that evaluate.py has predicted need no torch
    from ferlib.inference.splits import Predictor

PARTS = ("val", "test")
FACTS = ("views", "parameters", "images_per_second", "device", "precision")
OpenCheckpoint = Callable[[Run, Path], "Predictor"]


@dataclass(frozen=True)
class Member:
    """One checkpoint of one run, and its logits."""

    name: str
    logits: dict[str, np.ndarray]  # val and test: float64 N×7
    facts: dict[str, Any]  # FACTS
    exclude_leaks: bool = False  # whether its training left out the faces that stand in val or test
    checkpoint: dict[str, str] | None = None  # path and digest of its file
    may_have_seen: bool = False  # whether test faces may have been among its training faces


# ── members ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def read_members(
    names: Sequence[str], data: FaceData, outputs_dir: Path, fold: int, open_checkpoint: OpenCheckpoint
) -> list[Member]:
    """The members MODEL, MODEL:TAG or MODEL:TAG@CHECKPOINT, or of "all" every evaluated run.

    open_checkpoint: makes the Predictor of a run and one of its checkpoints, for names with @. UserError with
    what to do for each member that is missing.
    """
    found = read_models(outputs_dir, data.dataset)
    print(*(f"note: {line}" for line in found.left_out), sep="\n", end="\n" * bool(found.left_out))
    reports = [report for report in found.models if report.run.fold == fold]
    known = {member_name(report.run): report for report in reports if is_model(report)}
    if tuple(names) == ("all",):
        names = [name for name, report in known.items() if report.results]
    if len(set(names)) < max(2, len(names)):
        raise UserError(f"--members needs two or more different runs, not: {' '.join(names) or 'none'}")
    members, problems = [], []
    for name in names:
        try:
            members.append(read_member(name, known, data, open_checkpoint))
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise UserError(*problems)
    return members


def is_model(report: ModelReport) -> bool:
    """Whether one network made the predictions, and not an ensemble or the networks of several folds."""
    return not {"ensemble", "folds"} & set(report.results)


def member_name(run: Run) -> str:
    """MODEL or MODEL:TAG."""
    return f"{run.model}:{run.tag}" if run.tag else run.model


def read_member(name: str, known: dict[str, ModelReport], data: FaceData, open_checkpoint: OpenCheckpoint) -> Member:
    """One member by its name; `known`: name without @ → what the stages left of the run."""
    base, at, which = name.partition("@")
    if at and not which:
        raise UserError(f"{name} names no checkpoint after the @; leave it out, or give best, last, cycle1 or the like")
    report = lookup(known, base, "member")
    return predict_member(name, report, which, data, open_checkpoint) if which else saved_member(name, report, data)


def saved_member(name: str, report: ModelReport, data: FaceData) -> Member:
    """A run as evaluate.py left it."""
    run = report.run
    if not report.results:
        raise UserError(f"{name} is not evaluated; run: {run.command('evaluate.py')}")
    command, paths = report.results["command"], {"val": run.val_predictions, "test": run.predictions}
    logits = {part: read_logits(require(path, command), data.split(part), report) for part, path in paths.items()}
    if report.results["fingerprint"] != data.fingerprint:
        raise UserError(f"{name} was evaluated on another version of {data.dataset}; run: {command}")
    seen = bool(report.results.get("may_have_seen"))
    facts, found = {key: report.results[key] for key in FACTS}, report.results["checkpoint"] or {}
    checkpoint = {"path": found["path"], "digest": found["digest"]} if found.get("digest") else None
    return Member(name, logits, facts, report.exclude_leaks, checkpoint, seen)


def read_logits(path: Path, faces: FaceData, report: ModelReport) -> np.ndarray:
    """float64 N×7 from a predictions file; UserError unless they are finite, of `faces` and of the run's results."""
    command, results = report.results["command"], report.results
    saved, digest = read_predictions(path, command), (results["checkpoint"] or {}).get("digest")
    if saved.views != results["views"] or (saved.checkpoint and digest and saved.checkpoint != digest):
        raise UserError(f"{path} is not of the results beside it; run: {command}")
    if not (np.array_equal(saved.names, faces.names) and np.array_equal(saved.labels, faces.labels)):
        raise UserError(f"{path} is about other faces than this version of {faces.dataset} has; run: {command}")
    return saved.logits.astype(np.float64)


def predict_member(
    name: str, report: ModelReport, which: str, data: FaceData, open_checkpoint: OpenCheckpoint
) -> Member:
    """Another checkpoint of a run than the one it was evaluated with, predicted now, with the views of its results."""
    from ferlib.networks.classifier import count_parameters

    run, views = report.run, report.results["views"] if report.results else "single"
    script = "train.py --schedule warm_restarts --snapshots" if which.startswith("cycle") else "train.py"
    path = require(run.checkpoint(which), run.command(script))
    predict = open_checkpoint(run, path)
    if report.history and not is_epoch_of(predict.checkpoint.info, report.history):
        raise UserError(f"{path} is of an earlier training of {run.name}; run: {run.command(script)}")
    started = time.perf_counter()
    logits = {part: predict(data.split(part).images, views, progress=name).double().numpy() for part in PARTS}
    facts = {
        "views": views,
        "parameters": count_parameters(predict.checkpoint.model),
        "images_per_second": sum(map(len, logits.values())) / (time.perf_counter() - started),
        **predict.hardware,
    }
    checkpoint = predict.checkpoint
    seen = may_have_seen(checkpoint.info, data)
    file = {"path": str(path), "digest": predict.checkpoint_digest}
    return Member(name, logits, facts, checkpoint.excludes_leaks(data.fingerprint), file, seen)


# ── the ensemble ─────────────────────────────────────────────────────────────────────────────────────────────────────


def join_members(run: Run, data: FaceData, members: Sequence[Member], method: str = "auto") -> Evaluation:
    """The members joined by a row of combining.RULES, or by the one with the highest accuracy on val ("auto").

    The results hold the comparison of all members and methods as `ensemble`.
    """
    if (known := len(data.split("val"))) < FOLDS:
        raise UserError(f"weights are fitted on val in {FOLDS} parts, and {data.dataset} has {known} faces there")
    comparison, probabilities, val_probabilities = compare(members, data, method)
    faces, facts = data.split("test"), common_facts(members, comparison["weights"])
    exclude_leaks = all(member.exclude_leaks for member in members if comparison["weights"][member.name])
    options = {name: facts[name] for name in ("views", "precision")}
    logits = np.log(probabilities.clip(min=1e-300))
    on_val = make_predictions(
        data.split("val"), np.log(val_probabilities.clip(min=1e-300)), val_probabilities, **options
    )
    results = {
        "run": run.identity(),
        "split": "test",
        "fingerprint": data.fingerprint,
        "exclude_leaks": exclude_leaks,
        "may_have_seen": any(member.may_have_seen for member in members if comparison["weights"][member.name]),
        **score_predictions(faces, probabilities, training_copies(data, exclude_leaks=exclude_leaks)),
        **facts,
        "other_views": {},
        "on_val": score_val(data, on_val, exclude_leaks=exclude_leaks),
        "calibrated": calibrated_results(on_val, faces.labels, logits, faces.subjects, votes=faces.votes),
        "checkpoint": None,
        "ensemble": comparison,
        **provenance(),
    }
    return Evaluation(run, data, "test", make_predictions(faces, logits, probabilities, **options), results)


def compare(members: Sequence[Member], data: FaceData, wanted: str) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """Every member and method on val and test; the probabilities N×7 of the method `wanted` on test and on val.

    "auto" takes the method with the highest accuracy on val, the first of equals. Those on val are cross-fitted.
    """
    val, test = (
        Outputs(data.split(part).labels, np.stack([member.logits[part] for member in members])) for part in PARTS
    )
    names, subjects = [member.name for member in members], data.split("test").subjects
    best = int(val.correct.mean(1).argmax())
    rows, probabilities = compare_methods(names, val, test, best, subjects)
    chosen = max(rows, key=lambda name: rows[name]["val_accuracy"]) if wanted == "auto" else wanted
    comparison = {
        "members": [
            {
                "name": member.name,
                "checkpoint": member.checkpoint,
                "val_accuracy": float(on_val.mean()),
                **score_test(on_test, subjects),
            }
            for member, on_val, on_test in zip(members, val.correct, test.correct, strict=True)
        ],
        "best_member": names[best],
        "methods": list(rows.values()),
        "chosen": chosen,
        "weights": rows[chosen]["weights"],
        "any_right": float(test.correct.any(0).mean()),
        "disagreement": disagreement(test.correct).tolist(),
    }
    return comparison, probabilities[chosen], cross_fitted(RULES[chosen], val)


def compare_methods(
    names: Sequence[str], val: Outputs, test: Outputs, best: int, subjects: np.ndarray | None
) -> tuple[dict[str, dict[str, Any]], dict[str, np.ndarray]]:
    """Method → its figures, compared with the member `best`; method → its probabilities N×7 on test."""
    rows, probabilities = {}, {}
    for name, method in RULES.items():
        weights = method.weigh(val)
        probabilities[name] = method.combine(test, weights)
        correct = probabilities[name].argmax(1) == test.labels
        rows[name] = {
            "name": name,
            "title": method.title,
            "val_accuracy": accuracy(val.labels, cross_fitted(method, val)),
            **score_test(correct, subjects),
            "gain": compare_accuracies(test.correct[best], correct, subjects),
            "weights": dict(zip(names, weights.tolist(), strict=True)),
        }
    return rows, probabilities


def score_test(correct: np.ndarray, subjects: np.ndarray | None) -> dict[str, Any]:
    """Accuracy and its 95 % interval from bool N."""
    return {"accuracy": float(correct.mean()), "interval": accuracy_interval(correct, subjects)}


def common_facts(members: Sequence[Member], weights: dict[str, float]) -> dict[str, Any]:
    """Size and speed of the members that have a weight, run one after the other, and how they were computed."""
    facts = [member.facts for member in members if weights[member.name]]
    return {
        "parameters": sum(row["parameters"] for row in facts),
        "images_per_second": 1 / sum(1 / row["images_per_second"] for row in facts),
        **{key: ", ".join(dict.fromkeys(row[key] for row in facts)) for key in ("views", "device", "precision")},
    }
