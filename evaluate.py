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
from analysis_plots import draw_plots
from config import EMOTIONS, Run
from datasets import FaceData, load_stage, training_copies
from devices import autocast, autocast_dtype, device_name, resolve_device
from distributed import gather_rows, is_main, own_part, processes
from error_analysis import analyse_errors
from metrics import HEADLINES, accuracy_interval, average_f1, compute_metrics
from models import MODELS, ModelSpec, count_parameters, load_checkpoint
from results_text import summarize
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
    faces = data.split(split)
    return {
        **compute_metrics(faces.labels, probabilities, faces.subjects),
        **analyse_errors(faces.labels, probabilities, faces.names),
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
        draw_plots(run, faces, probabilities, results)


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


def clean_metrics(data: FaceData, probabilities: np.ndarray) -> dict[str, Any]:
    """The headline figures and their intervals on the test faces that have no pixel-identical copy in train."""
    clean, faces = ~training_copies(data), data.split("test")
    if not clean.any():
        return {"samples": 0, **dict.fromkeys(HEADLINES), "intervals": {}}
    subjects = None if faces.subjects is None else faces.subjects[clean]
    metrics = compute_metrics(faces.labels[clean], probabilities[clean], subjects)
    return {name: metrics[name] for name in ("samples", *HEADLINES, "intervals")}


def save_predictions(path: Path, faces: FaceData, logits: np.ndarray, probabilities: np.ndarray) -> None:
    columns = {"labels": faces.labels, "probabilities": probabilities, "logits": logits, "names": faces.names}
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, **columns)


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
