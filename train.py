"""Trains a classifier of seven emotions: best and last checkpoint, history, training curves.

python train.py --model resnet50 --dataset fer2013
torchrun --nproc-per-node 2 train.py --model resnet50 --dataset fer2013
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import tyro
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

import config
from config import DATASETS, RECIPES, Recipe, Run, to_plain
from datasets import FaceData, describe, load_faces
from devices import autocast, autocast_dtype, device_name, resolve_device, seed_everything
from distributed import barrier, is_main, own_part, processes, share_batch_norm, sum_over_processes, world_size
from evaluate import predict_split
from losses import LOSSES, class_weights, effective_loss, make_targets, without_conflicts
from metrics import average_f1
from models import (
    MODELS,
    FaceClassifier,
    ModelSpec,
    count_parameters,
    create_model,
    load_backbone_of,
    read_tensors,
    save_checkpoint,
    set_stochastic_depth,
)
from optimizers import BETTER, OPTIMIZERS, ema_function, learning_rate, parameter_groups, set_learning_rate, uphill
from plots import plot_training_curves
from transforms import augment, mix
from utils import UserError, combine_seeds, command_line, library_versions, lookup, require, run_script, write_json

CHECK_EVERY = 50  # steps between two looks at the loss; each look waits for the device
DEVICE_SHARE = 0.4  # of the free memory of a GPU that the decoded faces may fill; a larger set stays on the host


@dataclass
class Training:
    """All that changes while a model is trained, and so all that a run needs to go on."""

    model: FaceClassifier
    forward: torch.nn.Module  # the model, compiled or spread over processes
    average: AveragedModel | None  # exponential moving average of the weights
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler  # does nothing unless the precision is float16
    epochs: list[dict[str, Any]]  # the history so far

    @property
    def deployed(self) -> FaceClassifier:
        """The weights that are validated and kept as the best."""
        return self.average.module if self.average else self.model

    def state(self) -> dict[str, Any]:
        """Tensors and plain Python; the model's own weights are kept beside it."""
        return {
            "average": self.average.state_dict() if self.average else None,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "epochs": self.epochs,
        }

    def restore(self, content: dict[str, Any]) -> None:
        """The inverse of saving: `content` is a last checkpoint."""
        self.model.load_state_dict(content["state"])
        if self.average:
            self.average.load_state_dict(content["training"]["average"])
        self.optimizer.load_state_dict(content["training"]["optimizer"])
        self.scaler.load_state_dict(content["training"]["scaler"])
        self.epochs[:] = content["training"]["epochs"]


@dataclass(frozen=True)
class Faces:
    """The faces of a split where the compute is, or on the host if they do not fit there."""

    images: torch.Tensor  # uint8 N,H,W,C
    targets: torch.Tensor  # float32 N,7
    labels: torch.Tensor  # int64 N
    weights: torch.Tensor  # float32 N, of each face in the loss
    device: torch.device

    def batches(self, rows: list[torch.Tensor]) -> Iterator[torch.Tensor]:
        """The images of each batch on the device; from the host, the next batch travels while one is computed."""
        if self.images.device == self.device:
            yield from (self.images[chosen] for chosen in rows)
            return
        with ThreadPoolExecutor(1) as loader:
            pending = [loader.submit(self._fetch, chosen) for chosen in rows[:2]]
            for following in [*rows[2:], None, None]:
                yield pending.pop(0).result().to(self.device, non_blocking=True)
                if following is not None:
                    pending.append(loader.submit(self._fetch, following))

    def _fetch(self, rows: torch.Tensor) -> torch.Tensor:
        return self.images[rows.cpu()].pin_memory()


def place_faces(data: FaceData, recipe: Recipe, device: torch.device) -> Faces:
    """The training faces of a recipe with their targets and weights."""
    if recipe.conflicts == "drop":
        data = without_conflicts(data)
    images = torch.from_numpy(data.images)
    if device.type == "cuda" and images.nbytes < DEVICE_SHARE * torch.cuda.mem_get_info(device)[0]:
        images = images.to(device)
    labels = torch.from_numpy(data.labels).to(device)
    weights = torch.from_numpy(class_weights(data.labels)).to(device)
    return Faces(
        images,
        torch.from_numpy(make_targets(data, recipe)).to(device),
        labels,
        weights[labels] if recipe.class_weights else torch.ones(len(labels), device=device),
        device,
    )


# ── one run ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def fit(flags: config.Train, after_epoch: Callable[[dict[str, Any]], None] | None = None) -> dict[str, Any]:
    """Trains until the last epoch or until val stops improving; returns the history, as in the history file.

    After every epoch the last checkpoint, the best one and the history are on disk; then `after_epoch` gets the epoch's
    figures and may end the run by an exception of its own.
    """
    recipe, run = flags.settings, flags.run
    check_recipe(recipe)
    device = resolve_device(flags.device)
    dtype = autocast_dtype(device, flags.amp)
    data = load_shared(flags)
    spec = lookup(MODELS, flags.model, "model")
    training = start_training(flags, device, dtype)
    identity = {"recipe": to_plain(recipe), "seed": flags.seed, "fingerprint": data.fingerprint}
    if flags.resume:
        resume(training, require(run.last_checkpoint, run.command("train.py")), identity)
    history = {
        "run": run.identity(),
        "recipe_name": flags.recipe,
        **identity,
        "loss": effective_loss(data, recipe),
        "device": device_name(device),
        "processes": world_size(),
        "precision": str(dtype).removeprefix("torch."),
        "command": command_line(),
        "parameters": count_parameters(training.model),
        "data": {"fingerprint": data.fingerprint, "counts": data.counts()},
        "versions": library_versions(),
    }
    if is_main():
        print(f"{run.name}: {history['parameters']:,} parameters, {history['device']}, {history['precision']}")
        print(describe(data))
    faces, val = place_faces(data.split("train"), recipe, device), data.split("val")
    loss = LOSSES[history["loss"]]

    for epoch in range(len(training.epochs) + 1, recipe.epochs + 1):
        if should_stop(training.epochs, recipe):
            break
        started = time.perf_counter()
        learnt = train_one_epoch(training, faces, loss, spec, recipe, epoch=epoch, seed=flags.seed, dtype=dtype)
        scores = validate(training.deployed, spec, val, device, dtype)
        training.epochs.append({"epoch": epoch, **learnt, **scores, "seconds": time.perf_counter() - started})
        save_epoch(training, flags, identity, history)
        if after_epoch:
            after_epoch(training.epochs[-1])
    return finish(training, flags, history)


def load_shared(flags: config.Train) -> FaceData:
    """The data set; where several processes run, the first one makes the cache."""
    for turn in (True, False):
        if is_main() == turn:
            data = load_faces(flags.dataset, flags.data_dir, flags.outputs_dir)
        barrier()
    return data


def start_training(flags: config.Train, device: torch.device, dtype: torch.dtype) -> Training:
    recipe = flags.settings
    seed_everything(flags.seed)
    model = create_model(flags.model, recipe.weights, recipe.dropout)
    set_stochastic_depth(model, recipe.stochastic_depth)
    if recipe.init_from:
        path = Run(recipe.init_from, "", outputs_dir=flags.outputs_dir).best_checkpoint
        load_backbone_of(model, flags.model, require(path, "python train.py --model … for that run"))
    model = model.to(device)
    forward = model
    if world_size() > 1:
        share_batch_norm(model)
        ids = [device.index or torch.cuda.current_device()] if device.type == "cuda" else None
        forward = DistributedDataParallel(model, device_ids=ids, broadcast_buffers=False)
    if flags.compile:
        forward = torch.compile(forward)
    average = AveragedModel(model, multi_avg_fn=ema_function(recipe.ema_decay), use_buffers=True)
    optimizer = lookup(OPTIMIZERS, recipe.optimizer, "optimizer")(parameter_groups(model, recipe), recipe)
    scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
    return Training(model, forward, average if recipe.ema_decay else None, optimizer, scaler, [])


def resume(training: Training, path: Path, identity: dict[str, Any]) -> None:
    """Goes on from a last checkpoint; UserError if it was made with other settings, another seed or other data."""
    content = read_tensors(path)
    saved = content["identity"]
    changed = [name for name in ("seed", "fingerprint") if saved[name] != identity[name]]
    changed += [name for name, value in identity["recipe"].items() if saved["recipe"].get(name) != value]
    if changed:
        raise UserError(f"--resume needs the settings that {path} was made with; these differ: {', '.join(changed)}")
    training.restore(content)
    if is_main():
        print(f"going on after epoch {len(training.epochs)} of {path}")


def check_recipe(recipe: Recipe) -> None:
    if recipe.epochs < 1 or recipe.batch_size < 2:
        raise UserError("--epochs must be at least 1 and --batch-size at least 2")
    parts = recipe.accumulate * world_size()
    if recipe.batch_size % parts:
        raise UserError(f"--batch-size {recipe.batch_size} cannot be split into {parts} equal parts")


# ── one epoch ────────────────────────────────────────────────────────────────────────────────────────────────────────


def train_one_epoch(
    training: Training,
    faces: Faces,
    loss: Callable[[torch.Tensor, torch.Tensor, Recipe], torch.Tensor],
    spec: ModelSpec,
    recipe: Recipe,
    *,
    epoch: int,
    seed: int,
    dtype: torch.dtype,
) -> dict[str, float]:
    """One pass over the faces in an order and with variations that (seed, epoch) alone decide.

    Every process prepares the whole batch, which is cheap, and computes on its part of it: so the variations, mixing
    included, do not depend on the number of processes.
    """
    device, view = faces.device, grown(spec, recipe, epoch)
    seed_everything(seed, epoch)  # dropout
    generator = torch.Generator(device).manual_seed(combine_seeds(seed, epoch))
    batches = draw_batches(faces, recipe, generator)
    training.model.train()
    totals = torch.zeros(2, device=device)  # loss and correct faces, summed over this process's parts
    started, seen = time.perf_counter(), 0
    bar = tqdm(
        total=sum(map(len, batches)), desc=f"epoch {epoch}/{recipe.epochs}", unit=" faces", disable=not is_main()
    )
    with bar:
        for step, (rows, images) in enumerate(zip(batches, faces.batches(batches), strict=True)):
            rate = learning_rate(recipe, epoch - 1 + step / len(batches), training.epochs)
            set_learning_rate(training.optimizer, rate)
            inputs = augment(images, view, recipe, generator)
            inputs, targets = mix(inputs, faces.targets[rows], recipe, generator)
            own = own_part(torch.arange(len(rows), device=device))
            part = inputs[own], targets[own], faces.weights[rows][own], faces.labels[rows][own]
            totals += update_weights(training, part, loss, recipe, dtype)
            seen += len(rows)
            bar.update(len(rows))
            if step % CHECK_EVERY == CHECK_EVERY - 1:
                bar.set_postfix(loss=f"{check_finite(totals[0].item() * world_size() / seen, epoch):.3f}")
    losses, correct = sum_over_processes(totals).tolist()
    return {
        "train_loss": check_finite(losses / seen, epoch),
        "train_accuracy": correct / seen,
        "lr": learning_rate(recipe, epoch - 1, training.epochs),
        "images_per_second": seen / (time.perf_counter() - started),
    }


def grown(spec: ModelSpec, recipe: Recipe, epoch: int) -> ModelSpec:
    """The spec with the face's side of this epoch, a multiple of 4: early epochs on small faces cost little.

    Howard's progressive resizing (DAWNBench, 2018); for models whose head takes a grid of any size.
    """
    if recipe.start_size == 1:
        return spec
    progress = min((epoch - 1) / max(0.7 * recipe.epochs, 1), 1)
    share = recipe.start_size + (1 - recipe.start_size) * progress
    side = 4 * round(share * spec.image_size / 4)
    return replace(spec, image_size=side, resize=round(side * spec.scaled_size / spec.image_size))


def draw_batches(faces: Faces, recipe: Recipe, generator: torch.Generator) -> list[torch.Tensor]:
    """The rows of an epoch in random order, in whole batches (batch norm dislikes a small last one)."""
    count = len(faces.labels)
    if recipe.balanced_sampling:
        counts = torch.bincount(faces.labels).clamp(min=1)
        order = torch.multinomial(1 / counts[faces.labels].float(), count, replacement=True, generator=generator)
    else:
        order = torch.randperm(count, generator=generator, device=generator.device)
    batches = order.split(recipe.batch_size)
    parts = recipe.accumulate * world_size()
    if len(batches[-1]) < recipe.batch_size and (len(batches) > 1 or len(batches[-1]) % parts):
        batches = batches[:-1]
    if not batches:
        raise UserError(f"{count} faces in train are too few for {parts} equal parts of a batch; use a smaller batch")
    return list(itertools.islice(batches, recipe.max_steps))


def update_weights(
    training: Training,
    part: tuple[torch.Tensor, ...],
    loss: Callable[[torch.Tensor, torch.Tensor, Recipe], torch.Tensor],
    recipe: Recipe,
    dtype: torch.dtype,
) -> torch.Tensor:
    """One step on (images, targets, weights, labels); returns (sum of losses, correct faces) of this process."""
    training.optimizer.zero_grad(set_to_none=True)
    totals = compute_gradient(training, part, loss, recipe, dtype)
    if recipe.sam_rho:
        training.scaler.unscale_(training.optimizer) if training.scaler.is_enabled() else None
        with uphill(training.model, recipe.sam_rho):
            training.optimizer.zero_grad(set_to_none=True)
            compute_gradient(training, part, loss, recipe, dtype)
    if recipe.clip_norm:
        training.scaler.unscale_(training.optimizer)
        torch.nn.utils.clip_grad_norm_(training.model.parameters(), recipe.clip_norm)
    training.scaler.step(training.optimizer)
    training.scaler.update()
    if training.average:
        training.average.update_parameters(training.model)
    return totals


def compute_gradient(training, part, loss, recipe, dtype) -> torch.Tensor:
    """Adds the gradient of the mean loss over the whole batch; returns (sum of losses, correct faces)."""
    totals = torch.zeros(2, device=part[0].device)
    pieces = list(zip(*(values.chunk(recipe.accumulate) for values in part), strict=True))
    for number, (images, targets, weights, labels) in enumerate(pieces, start=1):
        waiting = number < len(pieces) and isinstance(training.forward, DistributedDataParallel)
        with training.forward.no_sync() if waiting else nullcontext():
            with autocast(images.device, dtype):
                logits = training.forward(images)
            values = weights * loss(logits.float(), targets, recipe)
            training.scaler.scale(values.mean() / len(pieces)).backward()
        totals += torch.stack([values.detach().sum(), (logits.argmax(1) == labels).sum()])
    return totals


def check_finite(loss: float, epoch: int) -> float:
    if not math.isfinite(loss):
        raise UserError(f"the loss is {loss} in epoch {epoch}; try a smaller --lr, or --no-amp")
    return loss


def validate(
    model: FaceClassifier, spec: ModelSpec, val: FaceData, device: torch.device, dtype: torch.dtype
) -> dict[str, float]:
    logits = predict_split(model, spec, val.images, device=device, dtype=dtype, progress="validating")
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
    """Writes the best checkpoint if this epoch is it, then the last one, then the history."""
    if not is_main():
        return
    run, epoch = flags.run, training.epochs[-1]
    best = best_epoch(training.epochs, flags.settings.monitor)
    info = {
        "epoch": epoch["epoch"],
        "metrics": {name: value for name, value in epoch.items() if name.startswith("val_")},
        "identity": identity,
        "dataset": flags.dataset,
        "versions": library_versions(),
    }
    if best == epoch["epoch"]:
        save_checkpoint(run.best_checkpoint, flags.model, training.deployed, **info)
    save_checkpoint(run.last_checkpoint, flags.model, training.model, **info, training=training.state())
    write_json(run.history, {**history, **progress(training.epochs, best), "finished": False})
    log_epoch(run, epoch)
    print(f"  val loss {epoch['val_loss']:.4f}, accuracy {epoch['val_accuracy']:.2%}, best epoch {best}")


def log_epoch(run: Run, epoch: dict[str, Any]) -> None:
    """TensorBoard events; an epoch that is repeated after an interruption replaces what it left."""
    with SummaryWriter(run.logs, purge_step=epoch["epoch"]) as writer:
        for name, value in epoch.items():
            split, _, kind = name.rpartition("_")
            if name != "epoch":
                writer.add_scalar(f"{kind}/{split}" if split in ("train", "val") else name, value, epoch["epoch"])


def progress(epochs: list[dict[str, Any]], best: int) -> dict[str, Any]:
    return {"epochs": epochs, "best_epoch": best, "minutes": sum(epoch["seconds"] for epoch in epochs) / 60}


def finish(training: Training, flags: config.Train, history: dict[str, Any]) -> dict[str, Any]:
    run, best = flags.run, best_epoch(training.epochs, flags.settings.monitor)
    history = {**history, **progress(training.epochs, best), "finished": True}
    if is_main():
        write_json(run.history, history)
        title = f"Training of {run.model} on {DATASETS[run.dataset].title}"
        plot_training_curves(run.plot("training_curves"), training.epochs, best, title)
        accuracy = training.epochs[best - 1]["val_accuracy"]
        minutes = history["minutes"]
        print(f"best epoch {best} with {accuracy:.2%} on val after {minutes:.1f} minutes: {run.best_checkpoint}")
    return history


# ── the command ──────────────────────────────────────────────────────────────────────────────────────────────────────


def parse_flags(arguments: list[str]) -> list[config.Train]:
    """One set of flags per model to train; each starts from its model's recipe, which single flags then change."""
    first = argparse.ArgumentParser(add_help=False)
    first.add_argument("--model", default=config.Train.model)
    first.add_argument("--recipe", default="")
    first.add_argument("--all", action="store_true")
    chosen, _ = first.parse_known_args(arguments)
    return [parse_model_flags(arguments, name, chosen.recipe) for name in (MODELS if chosen.all else [chosen.model])]


def parse_model_flags(arguments: list[str], model: str, recipe: str) -> config.Train:
    recipe = recipe or lookup(MODELS, model, "model").recipe
    default = config.Train(settings=lookup(RECIPES, recipe, "recipe"))
    flags = tyro.cli(config.Train, args=arguments, default=default, config=(tyro.conf.OmitArgPrefixes,))
    return replace(flags, model=model, recipe=recipe)


def main() -> None:
    runs = parse_flags(sys.argv[1:])
    with processes():
        fit_all(runs)


def fit_all(runs: list[config.Train]) -> None:
    """Trains one run after the other; one that fails does not keep the others from being trained."""
    failures = {}
    for flags in runs:
        try:
            fit(flags)
        except KeyboardInterrupt:
            if flags.run.last_checkpoint.exists():
                print(f"\nevery finished epoch is kept in {flags.run.last_checkpoint}; go on with --resume")
            raise
        except UserError as error:
            if len(runs) == 1:
                raise
            failures[flags.model] = error
    if failures:
        raise UserError("\n".join(f"{model}: {error}" for model, error in failures.items()))


if __name__ == "__main__":
    run_script(main)
