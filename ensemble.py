"""Joins the predictions of several runs on one data set and writes the result as a run of its own.

python ensemble.py --dataset fer2013 --members resnet50 efficientnet_b0 fer_resnet:seed1 fer_resnet:seed2 --tag best4
python ensemble.py --dataset fer2013 --members all --method greedy
python ensemble.py --dataset fer2013 --members fer_resnet:cyclic@cycle1 fer_resnet:cyclic@cycle2 fer_resnet:cyclic@last

A member is MODEL or MODEL:TAG, as evaluate.py left it on val and test. With @last, or @cycle1 and so on after train.py
--schedule warm_restarts --snapshots, it is that checkpoint of the run, which is predicted here, with the views that the
run was evaluated with. Weights, greedy selection and the choice of the method see val only.
"""

from __future__ import annotations

import time
import zipfile
from dataclasses import dataclass, fields
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import tyro

import config
from datasets import load_stage
from evaluate import score_predictions, write_evaluation
from ferlib.data.face_data import FaceData
from ferlib.evaluation.combining import METHODS, Outputs, accuracy, cross_fitted, disagreement
from ferlib.evaluation.metrics import accuracy_interval, compare_accuracies
from ferlib.evaluation.saved_runs import ModelReport, read_models
from ferlib.figures.ensemble import plot_members
from ferlib.inference.splits import open_predictor
from ferlib.networks.classifier import count_parameters
from ferlib.runtime.devices import device_name
from ferlib.runtime.errors import UserError, lookup, run_script
from ferlib.runtime.files import require
from ferlib.runtime.provenance import command_line, library_versions
from ferlib.runtime.runs import Run
from models import MODELS

PARTS = ("val", "test")


@dataclass(frozen=True)
class Member:
    """One checkpoint of one run, and what it says of the faces."""

    name: str
    logits: dict[str, np.ndarray]  # val and test: float N×7
    facts: dict[str, Any]  # views, parameters, images_per_second, device, precision


# ── members ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def read_members(flags: config.Ensemble, data: FaceData) -> list[Member]:
    """The members that the flags name; UserError that says for each one that cannot be had what to do."""
    reports = read_models(flags.outputs_dir, flags.dataset)
    reports = [report for report in reports if report.run.fold == flags.fold and is_model(report)]
    known = {member_name(report.run): report for report in reports}
    names = flags.members
    if names == ("all",):
        names = tuple(name for name, report in known.items() if report.results)
    if len(set(names)) < max(2, len(names)):
        raise UserError(f"--members needs two or more different runs, not: {' '.join(names) or 'none'}")
    members, problems = [], []
    for name in names:
        try:
            members.append(read_member(name, known, data, flags))
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise UserError("\n".join(problems))
    return members


def is_model(report: ModelReport) -> bool:
    """Whether one network made the predictions, and not an ensemble or the networks of several folds."""
    return not {"ensemble", "folds"} & set(report.results or {})


def member_name(run: Run) -> str:
    return f"{run.model}:{run.tag}" if run.tag else run.model


def read_member(name: str, known: dict[str, ModelReport], data: FaceData, flags: config.Ensemble) -> Member:
    base, _, which = name.partition("@")
    report = lookup(known, base, "member")
    return predict_member(name, report, which, data, flags) if which else saved_member(name, report, data)


def saved_member(name: str, report: ModelReport, data: FaceData) -> Member:
    """A run as evaluate.py left it."""
    run, results = report.run, report.results or {}
    command = results.get("command", run.command("evaluate.py"))
    paths = {"val": run.val_predictions, "test": run.predictions}
    logits = {part: read_logits(require(path, command), data.split(part), command) for part, path in paths.items()}
    if results.get("fingerprint", data.fingerprint) != data.fingerprint:
        raise UserError(f"{name} was evaluated on another version of {data.dataset}; run: {command}")
    keys = ("views", "parameters", "images_per_second", "device", "precision")
    return Member(name, logits, {key: results[key] for key in keys})


def read_logits(path: Path, faces: FaceData, command: str) -> np.ndarray:
    """float N×7 from a predictions file; UserError unless they are finite and those of `faces`."""
    try:
        with np.load(path) as saved:
            labels, names, logits = (saved[name] for name in ("labels", "names", "logits"))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} cannot be read as predictions ({error}); run: {command}") from error
    if not (np.array_equal(names, faces.names) and np.array_equal(labels, faces.labels)):
        raise UserError(f"{path} is about other faces than this version of {faces.dataset} has; run: {command}")
    if not np.isfinite(logits).all():
        raise UserError(f"{path} holds values that are not finite; leave this member out")
    return logits.astype(np.float64)


def predict_member(name: str, report: ModelReport, which: str, data: FaceData, flags: config.Ensemble) -> Member:
    """Another checkpoint of a run than the one it was evaluated with, predicted now."""
    run, views = report.run, (report.results or {}).get("views", "single")
    script = "train.py --schedule warm_restarts --snapshots" if which.startswith("cycle") else "train.py"
    path = require(run.checkpoint(which), run.command(script))
    common = {field.name: getattr(flags, field.name) for field in fields(config.Stage)}
    own = {"model": run.model, "tag": run.tag, "checkpoint": path, "batch_size": flags.batch_size}
    predict = open_predictor(config.Evaluate(**common | own))
    started = time.perf_counter()
    logits = {part: predict(data.split(part).images, views, progress=name).double().numpy() for part in PARTS}
    facts = {
        "views": views,
        "parameters": count_parameters(predict.checkpoint.model),
        "images_per_second": sum(map(len, logits.values())) / (time.perf_counter() - started),
        "device": device_name(predict.device),
        "precision": str(predict.dtype).removeprefix("torch."),
    }
    return Member(name, logits, facts)


# ── the ensemble ─────────────────────────────────────────────────────────────────────────────────────────────────────


def join(flags: config.Ensemble) -> dict[str, Any]:
    """Joins the members, writes results, predictions and plots of the chosen method as a run; returns the results."""
    if flags.model in MODELS:
        raise UserError(f"--model {flags.model} is a network; an ensemble needs a name of its own")
    data = load_stage(flags)
    members = read_members(flags, data)
    comparison, probabilities = compare(members, data, flags.method)
    results = {
        "run": flags.run.identity(),
        "split": "test",
        "fingerprint": data.fingerprint,
        **score_predictions(data, "test", probabilities),
        **common_facts(members, comparison["weights"]),
        "other_views": {},
        "ensemble": comparison,
        "command": command_line(),
        "versions": library_versions(),
    }
    logits = np.log(probabilities.clip(min=1e-300))
    write_evaluation(flags.run, data, logits, probabilities, results, flags.figures, flags.format)
    if flags.figures:
        subject = f"{len(members)} members on {data.facts.title} test, {results['samples']:,} faces"
        plot_members(flags.run.plot("members"), comparison, subject, flags.format)
    return results


def compare(members: list[Member], data: FaceData, wanted: str) -> tuple[dict[str, Any], np.ndarray]:
    """Every member and method on val and test, and the probabilities N×7 on test of the method `wanted`.

    "auto" takes the method with the highest accuracy on val, the first of equals.
    """
    val, test = (
        Outputs(data.split(part).labels, np.stack([member.logits[part] for member in members])) for part in PARTS
    )
    names, subjects = [member.name for member in members], data.split("test").subjects
    best = int(val.correct.mean(1).argmax())
    member_rows = [
        {"name": name, "val_accuracy": float(on_val.mean()), **score_test(on_test, subjects)}
        for name, on_val, on_test in zip(names, val.correct, test.correct, strict=True)
    ]
    method_rows, probabilities = [], {}
    for name, method in METHODS.items():
        weights = method.weigh(val)
        probabilities[name] = method.combine(test, weights)
        correct = probabilities[name].argmax(1) == test.labels
        method_rows.append(
            {
                "name": name,
                "title": method.title,
                "val_accuracy": accuracy(val.labels, cross_fitted(method, val)),
                **score_test(correct, subjects),
                "gain": compare_accuracies(test.correct[best], correct, subjects),
                "weights": dict(zip(names, weights.tolist(), strict=True)),
            }
        )
    rows = {row["name"]: row for row in method_rows}
    chosen = max(rows, key=lambda name: rows[name]["val_accuracy"]) if wanted == "auto" else wanted
    comparison = {
        "members": member_rows,
        "best_member": names[best],
        "methods": method_rows,
        "chosen": chosen,
        "weights": rows[chosen]["weights"],
        "any_right": float(test.correct.any(0).mean()),
        "disagreement": disagreement(test.correct).tolist(),
    }
    return comparison, probabilities[chosen]


def score_test(correct: np.ndarray, subjects: np.ndarray | None) -> dict[str, Any]:
    return {"accuracy": float(correct.mean()), "interval": accuracy_interval(correct, subjects)}


def common_facts(members: list[Member], weights: dict[str, float]) -> dict[str, Any]:
    """Size and speed of the members that have a weight, one after the other, and how they were computed."""
    facts = [member.facts for member in members if weights[member.name]]
    return {
        "parameters": sum(row["parameters"] for row in facts),
        "images_per_second": 1 / sum(1 / row["images_per_second"] for row in facts),
        **{key: ", ".join(dict.fromkeys(row[key] for row in facts)) for key in ("views", "device", "precision")},
    }


# ── the command ──────────────────────────────────────────────────────────────────────────────────────────────────────


def summarize(comparison: dict[str, Any]) -> str:
    """The comparison in the form that a person reads at the terminal, the best members first."""
    best = comparison["best_member"]
    width = 2 + max(len(row.get("title", row["name"])) for row in comparison["members"] + comparison["methods"])
    lines = [f"{'member':<{width}}{'val':>8}{'test':>8}   95 % interval"]
    for row in sorted(comparison["members"], key=itemgetter("val_accuracy"), reverse=True):
        lines.append(f"{row['name']:<{width}}{accuracy_cells(row)}" + ("   best on val" if row["name"] == best else ""))
    lines.append(f"\n{'method':<{width}}{'val':>8}{'test':>8}   95 % interval    points against {best}")
    for row in comparison["methods"]:
        low, high = (100 * end for end in row["gain"]["interval"])
        gain = f"{100 * row['gain']['gain']:+.2f} ({low:+.2f} to {high:+.2f}), p {row['gain']['p']:.2g}"
        chosen = "   chosen" if row["name"] == comparison["chosen"] else ""
        lines.append(f"{row['title']:<{width}}{accuracy_cells(row)}   {gain}{chosen}")
    weights = ", ".join(f"{name} {weight:.2f}" for name, weight in comparison["weights"].items() if weight >= 0.005)
    lines.append(f"\nweights: {weights}\nat least one member is right: {comparison['any_right']:.2%} of the test faces")
    return "\n".join(lines)


def accuracy_cells(row: dict[str, Any]) -> str:
    low, high = row["interval"]
    return f"{row['val_accuracy']:>8.2%}{row['accuracy']:>8.2%}   {low:.1%} to {high:.1%}"


def main() -> None:
    flags = tyro.cli(config.Ensemble)
    results = join(flags)
    print(summarize(results["ensemble"]))
    print(f"written: {flags.run.results} and {flags.run.predictions}")


if __name__ == "__main__":
    run_script(main)
