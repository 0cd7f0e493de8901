"""Trains a classifier of seven emotions: best and last checkpoint, history, training curves.

python train.py --model resnet50 --dataset fer2013
torchrun --nproc-per-node 2 train.py --model resnet50 --dataset fer2013
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import tyro
from torch.utils.tensorboard import SummaryWriter

import config
from datasets import describe, in_folds, load_stage
from ferlib.data.face_data import FaceData
from ferlib.evaluation.metrics import average_f1
from ferlib.figures import findings
from ferlib.figures.gpus import plot_gpu_temperature
from ferlib.figures.training import plot_training_curves
from ferlib.inference.splits import predict_split
from ferlib.networks.checkpoints import read_tensors, save_checkpoint
from ferlib.networks.classifier import FaceClassifier, count_parameters
from ferlib.runtime.devices import autocast_dtype, device_name, resolve_device
from ferlib.runtime.distributed import barrier, is_main, processes, rank, world_size
from ferlib.runtime.errors import UserError, lookup, run_script
from ferlib.runtime.files import require, write_json
from ferlib.runtime.provenance import command_line, library_versions, to_plain
from ferlib.runtime.runs import Run
from ferlib.training.engine import Training, place_faces, start_training, train_one_epoch
from ferlib.training.gpu_watch import check_limit, watch_gpu
from ferlib.training.losses import LOSSES, effective_loss
from ferlib.training.schedules import BETTER, finished_cycle
from models import MODELS, ModelSpec, model_spec, resized
from recipes import RECIPES, Recipe

# ── one run ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def fit(flags: config.Train, after_epoch: Callable[[dict[str, Any]], None] | None = None) -> dict[str, Any]:
    """Trains until the last epoch or until val stops improving; returns the history, as in the history file.

    After every epoch the last checkpoint, the best one and the history are on disk; then `after_epoch` gets the epoch's
    figures and may end the run by an exception of its own.
    """
    recipe, run = flags.settings, flags.run
    check_recipe(recipe, flags.snapshots)
    device = resolve_device(flags.device)
    check_limit(device, flags.max_gpu_temp)  # before the faces are decoded
    dtype = autocast_dtype(device, flags.amp)
    data = load_shared(flags)
    spec = resized(model_spec(flags.model), recipe.image_size)
    training = start_training(flags, device, dtype, data.classes)
    identity = {"recipe": to_plain(recipe), "seed": flags.seed, "fingerprint": data.fingerprint}
    if flags.resume:
        resume(training, require(run.last_checkpoint, run.command("train.py")), identity)
    history = {
        **describe_run(flags, data, device, dtype),
        **identity,
        "parameters": count_parameters(training.model),
    }
    if is_main():
        print(f"{run.name}: {history['parameters']:,} parameters, {history['device']}, {history['precision']}")
        print(describe(data))
    faces, val = place_faces(data.split("train"), recipe, device), data.split("val")
    loss = LOSSES[history["loss"]]

    with watch_gpu(device, own_gpu_log(flags), flags.max_gpu_temp) as watch:
        for epoch in range(len(training.epochs) + 1, recipe.epochs + 1):
            if should_stop(training.epochs, recipe):
                break
            began, started = time_now(), time.perf_counter()
            options = {"epoch": epoch, "seed": flags.seed, "dtype": dtype, "rest": watch.rest}
            learnt = train_one_epoch(training, faces, loss, spec, recipe, **options)
            scores = validate(training.deployed, spec, val, device, dtype)
            seconds = time.perf_counter() - started - learnt["paused_seconds"]
            times = {"seconds": seconds, "began": began, "ended": time_now()}
            training.epochs.append({"epoch": epoch, **learnt, **scores, **times})
            save_epoch(training, flags, identity, history)
            if after_epoch:
                after_epoch(training.epochs[-1])
    return finish(training, flags, history)


def describe_run(flags: config.Train, data: FaceData, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """What the history says before the first epoch."""
    return {
        "run": flags.run.identity(),
        "recipe_name": flags.recipe,
        "loss": effective_loss(data, flags.settings),
        "device": device_name(device),
        "processes": world_size(),
        "precision": str(dtype).removeprefix("torch."),
        "max_gpu_temp": flags.max_gpu_temp,
        "command": command_line(),
        "classes": list(data.classes),
        "data": {"fingerprint": data.fingerprint, "counts": data.counts()},
        "versions": library_versions(),
    }


def own_gpu_log(flags: config.Train) -> Path:
    """Where this process logs its GPU; a run that is begun anew begins its log anew."""
    log = flags.run.gpu_log(rank())
    if not flags.resume:
        log.unlink(missing_ok=True)
    return log


def time_now() -> str:
    """The time of day with the offset from UTC, for JSON."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def load_shared(flags: config.Train) -> FaceData:
    """The data set; where several processes run, the first one makes the cache."""
    for turn in (True, False):
        if is_main() == turn:
            data = load_stage(flags)
        barrier()
    return data


def resume(training: Training, path: Path, identity: dict[str, Any]) -> None:
    """Goes on from a last checkpoint; UserError if it was made with other settings, another seed or other data."""
    content = read_tensors(path)
    if changed := changed_settings(content["identity"], identity):
        raise UserError(f"--resume needs the settings that {path} was made with; these differ: {', '.join(changed)}")
    training.restore(content)
    if is_main():
        print(f"going on after epoch {len(training.epochs)} of {path}")


def changed_settings(saved: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Names of the settings that are not as wanted: fields of the recipe, the seed and what else is given."""
    changed = [name for name, value in wanted.items() if name != "recipe" and saved[name] != value]
    return changed + [name for name, value in wanted["recipe"].items() if saved["recipe"].get(name) != value]


def check_recipe(recipe: Recipe, snapshots: bool) -> None:
    if snapshots and recipe.schedule != "warm_restarts":
        raise UserError(f"--snapshots needs cycles: --schedule warm_restarts instead of {recipe.schedule}")
    if recipe.epochs < 1 or recipe.batch_size < 2:
        raise UserError("--epochs must be at least 1 and --batch-size at least 2")
    parts = recipe.accumulate * world_size()
    if recipe.batch_size % parts:
        raise UserError(f"--batch-size {recipe.batch_size} cannot be split into {parts} equal parts")


def validate(
    model: FaceClassifier, spec: ModelSpec, val: FaceData, device: torch.device, dtype: torch.dtype
) -> dict[str, float]:
    options = {"device": device, "dtype": dtype, "classes": len(val.classes)}
    logits = predict_split(model, spec, val.images, **options, progress="validating")
    labels, predictions = torch.from_numpy(val.labels), logits.argmax(1)
    loss = F.cross_entropy(logits, labels).item()
    if not math.isfinite(loss):
        raise UserError(f"the loss on val is {loss}; try a smaller --lr, or --no-amp")
    return {
        "val_loss": loss,
        "val_accuracy": (predictions == labels).float().mean().item(),
        "val_macro_f1": average_f1(val.labels, predictions.numpy(), "macro"),
    }


# ── after an epoch ───────────────────────────────────────────────────────────────────────────────────────────────────


def best_epoch(epochs: list[dict[str, Any]], monitor: str) -> int:
    """Number of the epoch with the best value on val, the earliest of equals."""
    return BETTER[monitor](epochs, key=lambda epoch: epoch[f"val_{monitor}"])["epoch"]


def should_stop(epochs: list[dict[str, Any]], recipe: Recipe) -> bool:
    return bool(epochs and recipe.patience and len(epochs) - best_epoch(epochs, recipe.monitor) >= recipe.patience)


def save_epoch(training: Training, flags: config.Train, identity: dict[str, Any], history: dict[str, Any]) -> None:
    """Writes the best checkpoint if this epoch is it, with --snapshots the cycle's, then the last, then the history.

    Snapshots: Huang et al., "Snapshot ensembles: train 1, get M for free" (2017); their cycles are all equally long.
    """
    if not is_main():
        return
    run, epoch = flags.run, training.epochs[-1]
    best = best_epoch(training.epochs, flags.settings.monitor)
    info = {
        "epoch": epoch["epoch"],
        "metrics": {name: value for name, value in epoch.items() if name.startswith("val_")},
        "identity": identity,
        "dataset": flags.dataset,
        "classes": history["classes"],
        "image_size": flags.settings.image_size,
        "versions": library_versions(),
    }
    if best == epoch["epoch"]:
        save_checkpoint(run.best_checkpoint, flags.model, training.deployed, **info)
    if cycle := flags.snapshots and finished_cycle(flags.settings, epoch["epoch"]):
        save_checkpoint(run.checkpoint(f"cycle{cycle}"), flags.model, training.deployed, **info)
    save_checkpoint(run.last_checkpoint, flags.model, training.model, **info, training=training.state())
    write_json(run.history, {**history, **progress(training.epochs, best), "finished": False})
    log_epoch(run, epoch)
    print(f"  val loss {epoch['val_loss']:.4f}, accuracy {epoch['val_accuracy']:.2%}, best epoch {best}")


def log_epoch(run: Run, epoch: dict[str, Any]) -> None:
    """TensorBoard events; an epoch that is repeated after an interruption replaces what it left."""
    with SummaryWriter(run.logs, purge_step=epoch["epoch"]) as writer:
        for name, value in epoch.items():
            split, _, kind = name.rpartition("_")
            if name != "epoch" and not isinstance(value, str):
                writer.add_scalar(f"{kind}/{split}" if split in ("train", "val") else name, value, epoch["epoch"])


def progress(epochs: list[dict[str, Any]], best: int) -> dict[str, Any]:
    """What the history says of the epochs so far; the minutes are those of training, without the paused ones."""
    return {
        "epochs": epochs,
        "best_epoch": best,
        "began": epochs[0].get("began"),
        "ended": epochs[-1].get("ended"),
        "minutes": sum(epoch["seconds"] for epoch in epochs) / 60,
        "paused_minutes": sum(epoch.get("paused_seconds", 0) for epoch in epochs) / 60,
    }


def finish(training: Training, flags: config.Train, history: dict[str, Any]) -> dict[str, Any]:
    run, best = flags.run, best_epoch(training.epochs, flags.settings.monitor)
    history = {**history, **progress(training.epochs, best), "finished": True}
    if is_main():
        write_json(run.history, history)
        draw_plots(flags, training.epochs, best)
        accuracy = training.epochs[best - 1]["val_accuracy"]
        spent, paused = f"{history['minutes']:.1f} minutes", history["paused_minutes"]
        spent += f" and {paused:.1f} of waiting for the GPU to cool" if paused else ""
        print(f"best epoch {best} with {accuracy:.2%} on val after {spent}: {run.best_checkpoint}")
    return history


def draw_plots(flags: config.Train, epochs: list[dict[str, Any]], best: int) -> None:
    """The curves of a run and, where its GPUs were watched, their temperature."""
    run, subject = flags.run, f"training of {findings.run_on(flags.run)}"
    titles = (findings.of_training(epochs, best), subject)
    plot_training_curves(run.plot("training_curves"), epochs, best, titles, flags.format)
    logs = [run.gpu_log(process) for process in range(world_size())]
    plot_gpu_temperature(run.plot("gpu_temperature"), logs, flags.max_gpu_temp, subject, flags.format)


# ── the command ──────────────────────────────────────────────────────────────────────────────────────────────────────


def parse_flags(arguments: list[str]) -> list[config.Train]:
    """One set of flags per model to train; each starts from its model's recipe, which single flags then change."""
    first = argparse.ArgumentParser(add_help=False)
    first.add_argument("--model", default=config.Train.model)
    first.add_argument("--recipe", default="")
    first.add_argument("--all", action="store_true")
    chosen, _ = first.parse_known_args(arguments)
    models = MODELS if chosen.all else [chosen.model]
    return [run for name in models for run in in_folds(parse_model_flags(arguments, name, chosen.recipe))]


def parse_model_flags(arguments: list[str], model: str, recipe: str) -> config.Train:
    recipe = recipe or model_spec(model).recipe
    default = config.Train(settings=lookup(RECIPES, recipe, "recipe"))
    flags = tyro.cli(config.Train, args=arguments, default=default, config=(tyro.conf.OmitArgPrefixes,))
    return replace(flags, model=model, recipe=recipe)


def main() -> None:
    runs = parse_flags(sys.argv[1:])
    with processes():
        fit_all(runs)


def fit_all(runs: list[config.Train]) -> None:
    """Trains one run after the other; one that fails does not keep the others from being trained.

    With --resume, those of several runs that were not begun yet are begun.
    """
    failures = {}
    for flags in runs:
        try:
            begun = len(runs) == 1 or flags.run.last_checkpoint.exists()
            fit(replace(flags, resume=flags.resume and begun))
        except KeyboardInterrupt:
            if flags.run.last_checkpoint.exists():
                print(f"\nevery finished epoch is kept in {flags.run.last_checkpoint}; go on with --resume")
            raise
        except UserError as error:
            if len(runs) == 1:
                raise
            failures[flags.run.name] = error
    if failures:
        raise UserError("\n".join(f"{run}: {error}" for run, error in failures.items()))


if __name__ == "__main__":
    run_script(main)
