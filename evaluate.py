"""Scores a trained model on the test split: results, predictions, plots.

python evaluate.py --model resnet50 --dataset fer2013
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tyro

import config
from datasets import in_folds, load_stage
from ferlib.data.copies import training_copies
from ferlib.data.face_data import FaceData
from ferlib.data.facts import SPLITS
from ferlib.evaluation import cross_data
from ferlib.evaluation.error_analysis import analyse_errors
from ferlib.evaluation.metrics import accuracy_interval, average_f1, clean_metrics, compute_metrics
from ferlib.evaluation.terminal import summarize
from ferlib.figures.analysis import draw_plots
from ferlib.figures.style import PNG
from ferlib.inference.splits import open_predictor
from ferlib.inference.views import VIEWS
from ferlib.networks.classifier import count_parameters
from ferlib.runtime.devices import device_name
from ferlib.runtime.distributed import barrier, is_main, processes
from ferlib.runtime.errors import UserError, run_script
from ferlib.runtime.files import atomic_path, write_json
from ferlib.runtime.provenance import command_line, library_versions
from ferlib.runtime.runs import Run


def evaluate(flags: config.Evaluate) -> dict[str, Any]:
    """Scores a checkpoint on a split; for test, writes results, predictions and plots. Returns the results."""
    run = flags.run
    predict, data = open_predictor(flags), load_stage(flags)
    checkpoint, faces = predict.checkpoint, data.split(flags.split)

    started = time.perf_counter()
    logits = predict(faces.images, flags.views, f"evaluating {run.name}")
    seconds = time.perf_counter() - started
    probabilities = logits.softmax(1).numpy()
    others = [views for views in VIEWS if flags.compare_views and views != flags.views]

    results = {
        "run": run.identity(),
        "split": flags.split,
        "fingerprint": data.fingerprint,
        "views": flags.views,
        **score_predictions(data, flags.split, probabilities),
        "other_views": {
            views: headline(data, flags.split, predict(faces.images, views, progress=views).softmax(1).numpy())
            for views in others
        },
        "checkpoint": {"path": str(predict.path), **{key: checkpoint.info[key] for key in ("epoch", "metrics")}},
        "parameters": count_parameters(checkpoint.model),
        "images_per_second": len(faces) / seconds,
        "device": device_name(predict.device),
        "precision": str(predict.dtype).removeprefix("torch."),
        "command": command_line(),
        "versions": library_versions(),
    }
    if flags.split == "test" and any(data.counts()["val"]):  # from val, ensemble.py learns whom to trust
        on_val = predict(data.split("val").images, flags.views, progress="val")
        if is_main():
            save_predictions(run.val_predictions, data.split("val"), on_val.numpy(), on_val.softmax(1).numpy())
    if flags.split == "test" and is_main():
        write_evaluation(run, data, logits.numpy(), probabilities, results, flags.figures, flags.format)
    return results


def score_predictions(data: FaceData, split: str, probabilities: np.ndarray) -> dict[str, Any]:
    """Every figure of one set of predictions, probabilities N×7 in the order of data.split(split); needs no model."""
    faces = data.split(split)
    copies = training_copies(data) if split == "test" else None
    return {
        **compute_metrics(faces.labels, probabilities, faces.subjects),
        **analyse_errors(faces.labels, probabilities, faces.names),
        "without_training_copies": clean_metrics(faces.labels, probabilities, copies, faces.subjects),
    }


def write_evaluation(
    run: Run,
    data: FaceData,
    logits: np.ndarray,
    probabilities: np.ndarray,
    results: dict[str, Any],
    figures: bool,
    formats: Sequence[str] = PNG,
) -> None:
    """What a run leaves of the test split: predictions from logits and probabilities N×7, results, and plots."""
    faces = data.split("test")
    save_predictions(run.predictions, faces, logits, probabilities)
    write_json(run.results, results)
    if figures:
        draw_plots(run, faces, probabilities, results, formats)


def headline(data: FaceData, split: str, probabilities: np.ndarray) -> dict[str, Any]:
    """The figures that tell one kind of views from another."""
    faces, predictions = data.split(split), probabilities.argmax(1)
    correct = predictions == faces.labels
    clean = ~training_copies(data) if split == "test" else np.zeros(len(faces), dtype=bool)
    return {
        "accuracy": float(correct.mean()),
        "macro_f1": average_f1(faces.labels, predictions, "macro"),
        "interval": accuracy_interval(correct, faces.subjects),
        "clean_accuracy": float(correct[clean].mean()) if clean.any() else None,
    }


def save_predictions(path: Path, faces: FaceData, logits: np.ndarray, probabilities: np.ndarray) -> None:
    columns = {"labels": faces.labels, "probabilities": probabilities, "logits": logits, "names": faces.names}
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, **columns)


def evaluate_folds(flags: config.Evaluate) -> dict[str, Any]:
    """Scores the run of every fold on its own subjects, then all faces together, each by the model that never saw them.

    Writes and returns the results of all together, with mean and standard deviation over the folds.
    """
    if flags.checkpoint or flags.split != "test":
        raise UserError(
            "--all-folds scores the test part of every fold by that fold's own run; leave out --checkpoint and --split"
        )
    each = [(fold, evaluate(fold)) for fold in in_folds(flags)]
    barrier()  # until the first process has written the last fold's predictions
    logits, probabilities, data = gather_folds([fold for fold, _ in each])
    run = replace(flags.run, tag="_".join(filter(None, (flags.tag, "all-folds"))))
    names = ("accuracy", "macro_f1", "weighted_f1")
    last = each[-1][1]
    results = {
        "run": run.identity(),
        "split": "test",
        "fingerprint": data.fingerprint,
        "views": flags.views,
        **score_predictions(data, "test", probabilities),
        "without_training_copies": None,
        "folds": [{"fold": fold.fold, **{name: found[name] for name in ("samples", *names)}} for fold, found in each],
        "mean": {name: statistics.mean(found[name] for _, found in each) for name in names},
        "sd": {name: statistics.stdev(found[name] for _, found in each) for name in names},
        "other_views": {},
        **{name: last[name] for name in ("parameters", "images_per_second", "device", "precision")},
        "command": command_line(),
        "versions": library_versions(),
    }
    if is_main():
        write_evaluation(run, data, logits, probabilities, results, flags.figures, flags.format)
    return results


def gather_folds(flags: list[config.Evaluate]) -> tuple[np.ndarray, np.ndarray, FaceData]:
    """Logits and probabilities N×7 of all faces from the predictions of each fold, and the faces, all of them test."""
    data = load_stage(flags[0])
    whole = replace(data, splits=np.full(len(data), SPLITS.index("test")))
    logits, probabilities = np.zeros((2, len(data), len(data.classes)), dtype=np.float32)
    for fold in flags:
        rows = load_stage(fold).splits == SPLITS.index("test")
        with np.load(fold.run.predictions) as saved:
            logits[rows], probabilities[rows] = saved["logits"], saved["probabilities"]
    return logits, probabilities, whole


# ── the command ──────────────────────────────────────────────────────────────────────────────────────────────────────


def score(flags: config.Evaluate) -> str:
    """Scores what the flags name; returns what a person reads at the terminal."""
    if flags.on:
        return "\n".join(map(cross_data.summarize, cross_data.evaluate_elsewhere(flags)))
    if not flags.all_folds:
        written = f"\nwritten: {flags.run.results} and {flags.run.predictions}" if flags.split == "test" else ""
        return summarize(evaluate(flags)) + written
    results = evaluate_folds(flags)
    folds = ", ".join(f"{fold['accuracy']:.1%}" for fold in results["folds"])
    mean, sd = results["mean"]["accuracy"], results["sd"]["accuracy"]
    return f"{summarize(results)}\nby fold: {folds}; mean {mean:.2%} ± {sd:.2%} (standard deviation over folds)"


def main() -> None:
    flags = tyro.cli(config.Evaluate)
    with processes():
        text = score(flags)
        if is_main():
            print(text)


if __name__ == "__main__":
    run_script(main)
