"""One run: epochs until the last one or until val stops improving; checkpoints, history and TensorBoard events."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.tensorboard import SummaryWriter

import config
from datasets import load_stage
from ferlib.data.audit.counts import describe
from ferlib.data.face_data import FaceData
from ferlib.data.facts import dataset_facts
from ferlib.data.held_out import data_facts
from ferlib.data.leaks import without_leaks
from ferlib.evaluation.metrics import average_f1
from ferlib.inference.splits import predict_split
from ferlib.networks.checkpoints import save_checkpoint
from ferlib.networks.classifier import FaceClassifier, count_parameters
from ferlib.networks.specs import ModelSpec
from ferlib.runtime.cores import describe_slow_epoch
from ferlib.runtime.devices import autocast_dtype, device_name, resolve_device
from ferlib.runtime.distributed import barrier, is_main, rank, world_size
from ferlib.runtime.errors import UserError
from ferlib.runtime.files import UnwritableError, check_writable, explain_unwritable, read_json, require, write_json
from ferlib.runtime.locks import sole_process
from ferlib.runtime.provenance import command_line, library_versions
from ferlib.runtime.runs import Run, check_dataset
from ferlib.training.batches import Faces, place_faces
from ferlib.training.engine import train_one_epoch
from ferlib.training.gpu_monitor import GpuMonitor, NoMonitor, check_limit, monitor_gpu
from ferlib.training.identity import identity_of, initial_identity
from ferlib.training.losses import Criterion, effective_loss, make_criterion, make_targets
from ferlib.training.resuming import BEGINNING, MADE_BY, best_is_behind, record_so_far, resume
from ferlib.training.schedules import finished_cycle
from ferlib.training.seen_faces import check_held_out
from ferlib.training.selection import best_epoch, is_complete
from ferlib.training.settings_checks import check_settings, check_smallest_faces, check_votes
from ferlib.training.state import Training, start_training
from ferlib.training.teachers import find_teachers, teach
from models import model_spec, resized
from recipes import Recipe

AfterEpoch = Callable[[dict[str, Any]], None]
SAVED_COPIES = 8  # sizes of the weights that a run needs on disk: best and last with average and optimizer, old and new


def fit(flags: config.Train, after_epoch: AfterEpoch | None = None) -> dict[str, Any]:
    """Trains until the last epoch or until val stops improving; returns the history, as in the history file.

    After every epoch the last checkpoint, the best one and the history are on disk; then `after_epoch` gets the epoch's
    figures and may end the run by an exception of its own. UserError for settings that do not fit together, for weights
    that cannot be had or files that cannot be written (before the faces are decoded), for a loss that is not finite,
    and for a run that another process trains.
    """
    check_settings(flags.settings, flags.snapshots)
    if flags.max_steps is not None and flags.max_steps < 1:
        raise UserError(f"--max-steps {flags.max_steps} is not a number of steps from 1 up")
    with sole_process(flags.run.lock("train"), f"{flags.run.name} is being trained") if is_main() else nullcontext():
        return fit_alone(flags, after_epoch)


def fit_alone(flags: config.Train, after_epoch: AfterEpoch | None) -> dict[str, Any]:
    """As `fit`, while no other process trains the run."""
    recipe, run = flags.settings, flags.run
    check_dataset(trained_on(run), run)
    device = resolve_device(flags.device)
    check_limit(device, flags.max_gpu_temp)
    dtype = autocast_dtype(device, flags.amp)
    initial = initial_identity(flags)
    training = start_training(flags, device, dtype, dataset_facts(flags.dataset).classes)
    if initial != initial_identity(flags):
        raise UserError("the file of the initial weights was replaced while it was read; run the command again")
    check_smallest_faces(training.model, flags)
    check_writable(run.last_checkpoint, size=SAVED_COPIES * size_in_bytes(training.model))
    data, leaks = load_training(flags)
    check_votes(flags, data, resumed=flags.resume)
    teachers = find_teachers(flags)
    check_held_out(flags, data, teachers, resumed=flags.resume)
    identity = identity_of(flags, data, teachers, initial)
    if flags.resume:
        identity = {name: value for name, value in identity.items() if name not in BEGINNING}
        identity |= resume(training, require(run.last_checkpoint, run.command("train.py")), identity, recipe)
    elif is_main():
        print(describe_replaced(run), end="")
    parameters = count_parameters(training.model)
    history = {**describe_run(flags, data, device, dtype), **identity, "parameters": parameters}
    if flags.resume:
        complete = is_complete(training.epochs, recipe)
        history |= record_so_far(training.made_by, len(training.epochs), history, complete)
    history |= {"leaks": leaks} if leaks else {}
    history |= {"begun_for_epochs": training.planned} if training.planned else {}
    if is_main():
        print(f"{run.name}: {parameters:,} parameters, {history['device']}, {history['precision']}")
        print(describe(data))
        if leaks:
            near = f"{leaks['near']:,} of them near copies"
            print(f"training faces left out, as they stand in val or test: {leaks['faces']:,}, {near}")
    train, val = data.split("train"), data.split("val")
    taught = teach(teachers, identity["teacher_digests"], train, flags) if teachers else None
    faces = place_faces(train, recipe.objective, device, taught)
    if recipe.objective.conflicts == "drop":
        history["conflicts_dropped"] = len(train) - len(faces.labels)
        if is_main():
            print(f"training faces left out, as copies of them have other labels: {history['conflicts_dropped']:,}")
    if flags.resume and best_is_behind(run.best_checkpoint, training.epochs, recipe, identity) and is_main():
        save_checkpoint(
            run.best_checkpoint, flags.model, training.deployed, **describe_epoch(training, flags, identity, history)
        )
    if flags.resume and is_main():
        log_epoch(run, training.epochs[-1])
    with monitor_gpu(device, process_gpu_log(flags), flags.max_gpu_temp) as monitor:
        while not is_complete(training.epochs, recipe):
            training.epochs.append(run_epoch(training, faces, val, flags, history["loss"], dtype, monitor))
            try:
                save_epoch(training, flags, identity, history)
            except UnwritableError as error:
                raise UserError(f"{error}{how_to_go_on(run)}") from error
            if after_epoch:
                after_epoch(training.epochs[-1])
    return finish(training, flags, history)


def run_epoch(
    training: Training,
    faces: Faces,
    val: FaceData,
    flags: config.Train,
    loss: str,
    dtype: torch.dtype,
    monitor: NoMonitor | GpuMonitor,
) -> dict[str, Any]:
    """Trains and validates for an epoch; returns its figures, as in the history file."""
    epoch, objective = len(training.epochs) + 1, flags.settings.objective
    spec = resized(model_spec(flags.model), flags.image_size)
    began, started = time_now(), time.perf_counter()
    criterion = make_criterion(
        loss, objective, len(val.classes), weights=faces.class_weights, taught=bool(flags.teacher)
    )
    scores = train_one_epoch(
        training,
        faces,
        criterion,
        spec,
        flags.settings,
        epoch=epoch,
        seed=flags.seed,
        dtype=dtype,
        max_steps=flags.max_steps,
        before_step=monitor.pause_while_hot,
    )
    scores |= validate(training.deployed, spec, val, faces.device, dtype, criterion, flags.settings)
    seconds = time.perf_counter() - started - scores["paused_seconds"]
    return {"epoch": epoch, **scores, "seconds": seconds, "began": began, "ended": time_now()}


def trained_on(run: Run) -> str:
    """The data set that the history of a run names; the run's own where there is none, or none that can be read."""
    with suppress(UserError):
        return str(read_json(run.history, "", {"run": {"dataset": str}})["run"]["dataset"])
    return run.dataset


def describe_replaced(run: Run) -> str:
    """A line where an unfinished training of the run will be replaced, which happens when the first epoch ends."""
    with suppress(UserError):
        history = read_json(run.history, "", {"epochs": list, "recipe": {"epochs": int}, "finished": bool})
        if not history["finished"] and run.last_checkpoint.exists():
            done, planned = len(history["epochs"]), history["recipe"]["epochs"]
            return (
                f"note: {done} of {planned} epochs of this run are replaced when the first epoch ends; to go on with "
                "them instead: ctrl-C, then the same command with --resume\n"
            )
    return ""


def size_in_bytes(model: FaceClassifier) -> int:
    """Of the weights."""
    return sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())


def how_to_go_on(run: Run) -> str:
    """What to add to an error after which a run can go on."""
    return (
        f"; go on after the last finished epoch with: {run.command('train.py --resume')}" * run.last_checkpoint.exists()
    )


def load_shared(flags: config.Train) -> FaceData:
    """The data set; where several processes run, the first one makes the cache."""
    if not is_main():
        barrier()
    data = load_stage(flags)
    if is_main():
        barrier()
    return data


def load_training(flags: config.Train) -> tuple[FaceData, dict[str, Any] | None]:
    """The data set, and how many leaks were left out of it where they are to be."""
    data = load_shared(flags)
    return without_leaks(data) if flags.exclude_leaks else (data, None)


def validate(
    model: FaceClassifier,
    spec: ModelSpec,
    val: FaceData,
    device: torch.device,
    dtype: torch.dtype,
    criterion: Criterion,
    recipe: Recipe,
) -> dict[str, float]:
    """Cross-entropy, accuracy and macro F1 on val, and the loss as trained where the recipe selects by it.

    The latter is the mean over batches of the training's size, since batches normalise class weights. UserError for a
    loss that is not finite.
    """
    logits = predict_split(
        model, spec, val.images, device=device, dtype=dtype, classes=len(val.classes), progress="validating"
    )
    labels, predictions = torch.from_numpy(val.labels), logits.argmax(1)
    loss = F.cross_entropy(logits, labels).item()
    if not math.isfinite(loss):
        raise UserError(f"the loss on val is {loss}; try a smaller --lr, or --no-amp")
    scores = {
        "val_loss": loss,
        "val_accuracy": (predictions == labels).float().mean().item(),
        "val_macro_f1": average_f1(val.labels, predictions.numpy(), "macro"),
    }
    if recipe.selection.needs_objective:
        targets = torch.from_numpy(make_targets(val, loss=recipe.objective.loss))
        logits, targets = logits.to(device), targets.to(device)
        scores["val_objective"] = criterion.mean_over(logits, targets, recipe.training.batch_size)
    return scores


def process_gpu_log(flags: config.Train) -> Path:
    """Where this process logs its GPU; a run that is begun anew begins its logs anew.

    The first process removes those of more processes than there are now.
    """
    log, logs = flags.run.gpu_log(rank()), {flags.run.gpu_log(process) for process in range(world_size())}
    if not flags.resume:
        log.unlink(missing_ok=True)
        for other in set(flags.run.logs.glob("gpu*.csv")) - logs if is_main() else ():
            other.unlink(missing_ok=True)
    return log


def time_now() -> str:
    """The time of day with the offset from UTC, for JSON."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


# ── after an epoch ───────────────────────────────────────────────────────────────────────────────────────────────────


def save_epoch(training: Training, flags: config.Train, identity: dict[str, Any], history: dict[str, Any]) -> None:
    """Writes with --snapshots the cycle's checkpoint, then the last, the best one if this epoch is it, the history.

    Of what is written after the last checkpoint, a run that goes on writes what is missing. Snapshots: Huang et al.,
    "Snapshot ensembles: train 1, get M for free" (2017); their cycles are all equally long.
    """
    if not is_main():
        return
    run, epoch, rate = flags.run, training.epochs[-1], flags.settings.learning_rate
    best = best_epoch(training.epochs, flags.settings.selection.monitor)
    info = describe_epoch(training, flags, identity, history)
    cycle = finished_cycle(epoch["epoch"], rate.warmup_epochs, rate.restart_epochs) if flags.snapshots else 0
    if cycle:
        save_checkpoint(run.checkpoint(f"cycle{cycle}"), flags.model, training.deployed, **info)
    save_checkpoint(run.last_checkpoint, flags.model, training.model, **info, training=training.state())
    if best == epoch["epoch"]:
        save_checkpoint(run.best_checkpoint, flags.model, training.deployed, **info)
    write_json(run.history, {**history, **progress(training.epochs, best), "finished": False})
    log_epoch(run, epoch)
    print(f"  val loss {epoch['val_loss']:.4f}, accuracy {epoch['val_accuracy']:.2%}, best epoch {best}")
    if slow := describe_slow_epoch([each["images_per_second"] for each in training.epochs]):
        print(slow)


def describe_epoch(
    training: Training, flags: config.Train, identity: dict[str, Any], history: dict[str, Any]
) -> dict[str, Any]:
    """What the checkpoints of the last epoch state beside the weights."""
    epoch = training.epochs[-1]
    return {
        "epoch": epoch["epoch"],
        "metrics": {name: value for name, value in epoch.items() if name.startswith("val_")},
        "identity": identity,
        "dataset": flags.dataset,
        "classes": history["classes"],
        "image_size": flags.image_size,
        "data": history["data"],
        "versions": library_versions(),
        "made_by": {
            **{name: history[name] for name in MADE_BY},
            "earlier_commands": list(history.get("earlier_commands", ())),
        },
    }


def log_epoch(run: Run, epoch: dict[str, Any]) -> None:
    """TensorBoard events; an epoch that is repeated after an interruption replaces what it left."""
    with explain_unwritable(run.logs), SummaryWriter(run.logs, purge_step=epoch["epoch"]) as writer:
        for name, value in epoch.items():
            split, _, kind = name.rpartition("_")
            if name != "epoch" and not isinstance(value, str):
                writer.add_scalar(f"{kind}/{split}" if split in ("train", "val") else name, value, epoch["epoch"])


# ── the history ──────────────────────────────────────────────────────────────────────────────────────────────────────


def describe_run(flags: config.Train, data: FaceData, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """The part of the history that is known before the first epoch."""
    return {
        "run": flags.run.identity(),
        "recipe_name": flags.recipe,
        "loss": effective_loss(flags.settings.objective.loss, data),
        "device": f"{world_size()} × {device_name(device)}" if world_size() > 1 else device_name(device),
        "processes": world_size(),
        "precision": str(dtype).removeprefix("torch."),
        "max_gpu_temp": flags.max_gpu_temp,
        "command": command_line(),
        "classes": list(data.classes),
        "data": {"fingerprint": data.fingerprint, **data_facts(data)},
        "versions": library_versions(),
    }


def progress(epochs: list[dict[str, Any]], best: int) -> dict[str, Any]:
    """The part of the history on the epochs so far; the minutes are those of training, without the paused ones."""
    return {
        "epochs": epochs,
        "best_epoch": best,
        "began": epochs[0]["began"],
        "ended": epochs[-1]["ended"],
        "minutes": sum(epoch["seconds"] for epoch in epochs) / 60,
        "paused_minutes": sum(epoch["paused_seconds"] for epoch in epochs) / 60,
    }


def finish(training: Training, flags: config.Train, history: dict[str, Any]) -> dict[str, Any]:
    """Writes the history of a finished run, and prints its best epoch."""
    run, best = flags.run, best_epoch(training.epochs, flags.settings.selection.monitor)
    history = {**history, **progress(training.epochs, best), "finished": True}
    if is_main():
        write_json(run.history, history)
        accuracy = training.epochs[best - 1]["val_accuracy"]
        spent, paused = f"{history['minutes']:.1f} minutes", history["paused_minutes"]
        spent += f" and {paused:.1f} of waiting for the GPU to cool" if paused else ""
        print(f"best epoch {best} with {accuracy:.2%} on val after {spent}: {run.best_checkpoint}")
    return history
