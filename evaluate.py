"""Scores a trained model on the test split: results, predictions, plots.

python evaluate.py --model resnet50 --dataset fer2013
"""

from __future__ import annotations

import math
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from tqdm import tqdm

import config
from config import EMOTIONS, Run, dataset_facts
from datasets import FaceData, load_stage, training_copies
from devices import autocast, autocast_dtype, device_name, resolve_device
from distributed import gather_rows, is_main, own_part, processes
from metrics import average_f1, compute_metrics
from models import MODELS, ModelSpec, count_parameters, load_checkpoint
from plots import plot_confusion_matrix, plot_roc_curves
from transforms import VIEWS, face_views
from utils import UserError, atomic_path, command_line, library_versions, lookup, require, run_script, write_json


@torch.inference_mode()
def predict_split(
    model: torch.nn.Module,
    spec: ModelSpec,
    images: np.ndarray,
    *,
    device: torch.device,
    dtype: torch.dtype,
    batch_size: int = 256,
    views: str = "single",
    progress: str | None = None,
    classes: int = len(EMOTIONS),
) -> torch.Tensor:
    """Logits float32 N×classes on the CPU for uint8 faces N×H×W×C; `progress` names a bar with faces per second.

    With several views of a face, the logarithm of their mean probabilities. The processes of torchrun share the faces.
    """
    model.eval()
    own = own_part(torch.arange(len(images)))
    logits = [torch.zeros(0, classes)]
    with tqdm(total=len(own), desc=progress, unit=" faces", leave=False, disable=not (progress and is_main())) as bar:
        for rows in own.split(batch_size) if len(own) else ():
            batch = torch.from_numpy(images[rows.numpy()]).to(device)
            with autocast(device, dtype):
                outputs = [model(view).float() for view in face_views(batch, spec, views)]
            logits.append(average_views(outputs).cpu())
            bar.update(len(batch))
    return gather_rows(torch.cat(logits), len(images))


def average_views(outputs: list[torch.Tensor]) -> torch.Tensor:
    """The logits of one view; of several, the logarithm of the mean of their probabilities."""
    if len(outputs) == 1:
        return outputs[0]
    return torch.stack(outputs).log_softmax(2).logsumexp(0) - math.log(len(outputs))


def evaluate(flags: config.Evaluate) -> dict[str, Any]:
    """Scores a checkpoint on a split; for test, writes results, predictions and plots. Returns the results."""
    run = flags.run
    lookup(MODELS, flags.model, "model")
    device = resolve_device(flags.device)
    dtype = autocast_dtype(device, flags.amp)
    path = flags.checkpoint or require(run.best_checkpoint, run.command("train.py"))
    checkpoint = load_checkpoint(path, device)
    check_model(checkpoint.info["model"], flags.model, str(path))
    data = load_stage(flags)
    faces = data.split(flags.split)

    options = {"device": device, "dtype": dtype, "batch_size": flags.batch_size}
    predict = partial(predict_split, checkpoint.model, checkpoint.spec, **options)
    started = time.perf_counter()
    logits = predict(faces.images, views=flags.views, progress=f"evaluating {run.name}")
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
            views: headline(data, flags.split, predict(faces.images, views=views, progress=views).softmax(1).numpy())
            for views in others
        },
        "checkpoint": {"path": str(path), **{key: checkpoint.info[key] for key in ("epoch", "metrics")}},
        "parameters": count_parameters(checkpoint.model),
        "images_per_second": len(faces) / seconds,
        "device": device_name(device),
        "precision": str(dtype).removeprefix("torch."),
        "command": command_line(),
        "versions": library_versions(),
    }
    if flags.split == "test" and any(data.counts()["val"]):  # from val, ensemble.py learns whom to trust
        on_val = predict(data.split("val").images, views=flags.views, progress="val")
        if is_main():
            save_predictions(run.val_predictions, data.split("val"), on_val.numpy(), on_val.softmax(1).numpy())
    if flags.split == "test" and is_main():
        write_evaluation(run, data, logits.numpy(), probabilities, results, flags.figures)
    return results


def check_model(found: str, wanted: str, path: str) -> None:
    if found != wanted:
        raise UserError(f"{path} holds a {found}; use --model {found}")


def score_predictions(data: FaceData, split: str, probabilities: np.ndarray) -> dict[str, Any]:
    """Every figure of one set of predictions, probabilities N×7 in the order of data.split(split); needs no model."""
    return {
        **compute_metrics(data.split(split).labels, probabilities),
        "without_training_copies": clean_metrics(data, probabilities) if split == "test" else None,
    }


def write_evaluation(
    run: Run, data: FaceData, logits: np.ndarray, probabilities: np.ndarray, results: dict[str, Any], figures: bool
) -> None:
    """What a run leaves of the test split: predictions from logits and probabilities N×7, results, and plots."""
    faces = data.split("test")
    save_predictions(run.predictions, faces, logits, probabilities)
    write_json(run.results, results)
    if figures:
        draw_plots(run, faces.labels, probabilities, results)


def headline(data: FaceData, split: str, probabilities: np.ndarray) -> dict[str, Any]:
    """The figures that tell one kind of views from another."""
    metrics = compute_metrics(data.split(split).labels, probabilities)
    return {
        **{name: metrics[name] for name in ("accuracy", "macro_f1")},
        "interval": metrics["intervals"]["accuracy"],
        "clean_accuracy": clean_metrics(data, probabilities)["accuracy"] if split == "test" else None,
    }


def clean_metrics(data: FaceData, probabilities: np.ndarray) -> dict[str, Any]:
    """The headline figures on the test faces that have no pixel-identical copy in train."""
    clean = ~training_copies(data)
    labels, predictions = data.split("test").labels[clean], probabilities[clean].argmax(1)
    if not clean.any():
        return {"samples": 0, "accuracy": None, "macro_f1": None}
    return {
        "samples": int(clean.sum()),
        "accuracy": float((predictions == labels).mean()),
        "macro_f1": average_f1(labels, predictions, "macro"),
    }


def save_predictions(path: Path, faces: FaceData, logits: np.ndarray, probabilities: np.ndarray) -> None:
    columns = {"labels": faces.labels, "probabilities": probabilities, "logits": logits, "names": faces.names}
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, **columns)


def draw_plots(run: Run, labels: np.ndarray, probabilities: np.ndarray, results: dict[str, Any]) -> None:
    subject = f"{run.model} on {dataset_facts(run.dataset).title}, test ({len(labels):,} faces)"
    matrix = np.array(results["confusion_matrix"])
    plot_confusion_matrix(
        run.plot("confusion_matrix"), matrix, f"Confusion · {subject}, accuracy {results['accuracy']:.1%}"
    )
    plot_roc_curves(run.plot("roc_curves"), labels, probabilities, f"ROC, one class against the rest\n{subject}")


def summarize(results: dict[str, Any]) -> str:
    """The results in the form that a person reads at the terminal."""
    low, high = results["intervals"]["accuracy"]
    auc = "n/a" if results["mean_auc"] is None else f"{results['mean_auc']:.3f}"
    faces = f"{results['samples']:,} faces"
    lines = [
        f"accuracy     {results['accuracy']:7.2%}   ({faces}, 95 % interval {low:.2%} to {high:.2%})",
        f"macro F1     {results['macro_f1']:7.2%}   weighted F1 {results['weighted_f1']:.2%}   mean AUC {auc}",
    ]
    clean = results["without_training_copies"]
    if clean and clean["samples"]:
        lines.append(f"no train copy{clean['accuracy']:7.2%}   ({clean['samples']:,} faces that have no copy in train)")
    for views, other in results["other_views"].items():
        low, high = other["interval"]
        lines.append(f"{views:<13}{other['accuracy']:7.2%}   (95 % interval {low:.2%} to {high:.2%})")
    lines.append(f"{'':<12}{'precision':>10}{'recall':>10}{'F1':>10}{'AUC':>10}{'faces':>8}")
    for row in results["per_class"]:
        auc = "n/a" if row["auc"] is None else f"{row['auc']:.3f}"
        scores = "".join(f"{row[key]:>10.1%}" for key in ("precision", "recall", "f1"))
        lines.append(f"{row['emotion']:<12}{scores}{auc:>10}{row['support']:>8,}")
    return "\n".join(lines)


def main() -> None:
    flags = tyro.cli(config.Evaluate)
    with processes():
        results = evaluate(flags)
        if not is_main():
            return
    print(summarize(results))
    if flags.split == "test":
        print(f"written: {flags.run.results} and {flags.run.predictions}")


if __name__ == "__main__":
    run_script(main)
