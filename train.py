"""Trains a classifier of seven emotions: best and last checkpoint, history, training curves.

python train.py --model resnet50 --dataset fer2013
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
import time
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
import tyro
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

import config
from config import DATASETS, EMOTIONS, RECIPES, Recipe, to_plain
from datasets import FaceData, describe, load_faces
from devices import autocast, autocast_dtype, device_name, resolve_device, seed_everything
from evaluate import predict_split
from metrics import average_f1
from models import MODELS, FaceClassifier, ModelSpec, count_parameters, create_model, read_tensors, save_checkpoint
from plots import plot_training_curves
from transforms import augment, mix
from utils import UserError, combine_seeds, command_line, library_versions, lookup, require, run_script, write_json

OPTIMIZERS = {
    "sgd": lambda groups, recipe: torch.optim.SGD(groups, recipe.lr, recipe.momentum, nesterov=recipe.momentum > 0),
    "adam": lambda groups, recipe: torch.optim.Adam(groups, recipe.lr),
    "adamw": lambda groups, recipe: torch.optim.AdamW(groups, recipe.lr),
}
SCHEDULES = {  # share of the learning rate left at a share of the way down
    "cosine": lambda progress: (1 + math.cos(math.pi * progress)) / 2,  # Loshchilov & Hutter, SGDR (2017), equation 5
    "one_cycle": lambda progress: 1 - progress,  # Smith & Topin, Super-Convergence (2018)
}
MONITORS = {"loss": min, "accuracy": max, "macro_f1": max}  # what the better of two values is
CHECK_EVERY = 50  # steps between two looks at the loss; each look waits for the device


@dataclass
class Training:
    """All that changes while a model is trained, and so all that a run needs to go on."""

    model: FaceClassifier
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


def fit(flags: config.Train) -> dict[str, Any]:
    """Trains until the last epoch or until val stops improving; returns the history, as in the history file.

    After every epoch the last checkpoint, the best one and the history are on disk.
    """
    recipe, run = flags.settings, flags.run
    check_recipe(recipe)
    device = resolve_device(flags.device)
    dtype = autocast_dtype(device, flags.amp)
    data = load_faces(flags.dataset, flags.data_dir, flags.outputs_dir)
    spec = lookup(MODELS, flags.model, "model")
    training = start_training(flags.model, recipe, flags.seed, device, dtype)
    identity = {"recipe": to_plain(recipe), "seed": flags.seed, "fingerprint": data.fingerprint}
    if flags.resume:
        resume(training, require(run.last_checkpoint, run.command("train.py")), identity)

    history = {
        "run": run.identity(),
        "recipe_name": flags.recipe,
        **identity,
        "device": device_name(device),
        "precision": str(dtype).removeprefix("torch."),
        "command": command_line(),
        "parameters": count_parameters(training.model),
        "data": {"fingerprint": data.fingerprint, "counts": data.counts()},
        "versions": library_versions(),
    }
    print(f"{run.name}: {history['parameters']:,} parameters, {history['device']}, {history['precision']}")
    print(describe(data))
    train, val = data.split("train"), data.split("val")
    images, labels = torch.from_numpy(train.images).to(device), torch.from_numpy(train.labels).to(device)
    forward = torch.compile(training.model) if flags.compile else training.model
    weights = class_weights(labels) if recipe.class_weights else None

    for epoch in range(len(training.epochs) + 1, recipe.epochs + 1):
        if should_stop(training.epochs, recipe):
            break
        started = time.perf_counter()
        learnt = train_one_epoch(
            training,
            forward,
            images,
            labels,
            weights,
            grown(spec, recipe, epoch),
            recipe,
            epoch=epoch,
            seed=flags.seed,
            dtype=dtype,
        )
        scores = validate(training.deployed, spec, val, device, dtype)
        training.epochs.append({"epoch": epoch, **learnt, **scores, "seconds": time.perf_counter() - started})
        save_epoch(training, flags, identity, history)
    return finish(training, flags, history)


def start_training(name: str, recipe: Recipe, seed: int, device: torch.device, dtype: torch.dtype) -> Training:
    seed_everything(seed)
    model = create_model(name, recipe.weights, recipe.dropout).to(device)
    average = AveragedModel(model, multi_avg_fn=ema_function(recipe.ema_decay), use_buffers=True)
    optimizer = lookup(OPTIMIZERS, recipe.optimizer, "optimizer")(parameter_groups(model, recipe.weight_decay), recipe)
    scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
    return Training(model, average if recipe.ema_decay else None, optimizer, scaler, [])


def parameter_groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay for matrices and kernels, none for biases and norms."""
    kernels = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    return [{"params": kernels, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def ema_function(decay: float):
    """average ← average + (1 − d)(weights − average) with d = min(decay, (1 + n) / (10 + n)) at update n."""

    @torch.no_grad()
    def update(averages: list[torch.Tensor], weights: list[torch.Tensor], updates: torch.Tensor | int) -> None:
        if averages[0].is_floating_point():
            count = int(updates)
            torch._foreach_lerp_(averages, weights, 1 - min(decay, (1 + count) / (10 + count)))
        else:
            torch._foreach_copy_(averages, weights)

    return update


def resume(training: Training, path: Any, identity: dict[str, Any]) -> None:
    """Goes on from a last checkpoint; UserError if it was made with other settings, another seed or other data."""
    content = read_tensors(path)
    saved = content["identity"]
    changed = [name for name in ("seed", "fingerprint") if saved[name] != identity[name]]
    changed += [name for name, value in identity["recipe"].items() if saved["recipe"].get(name) != value]
    if changed:
        raise UserError(f"--resume needs the settings that {path} was made with; these differ: {', '.join(changed)}")
    training.restore(content)
    print(f"going on after epoch {len(training.epochs)} of {path}")


def check_recipe(recipe: Recipe) -> None:
    if recipe.epochs < 1 or recipe.batch_size < 2:
        raise UserError("--epochs must be at least 1 and --batch-size at least 2")


def class_weights(labels: torch.Tensor) -> torch.Tensor:
    """Inverse class frequencies with mean 1 over the faces; 0 for a class that does not occur."""
    counts = torch.bincount(labels, minlength=len(EMOTIONS)).float()
    return torch.where(counts > 0, len(labels) / (counts.clamp(min=1) * (counts > 0).sum()), 0)


# ── one epoch ────────────────────────────────────────────────────────────────────────────────────────────────────────


def train_one_epoch(
    training: Training,
    forward: torch.nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    weights: torch.Tensor | None,
    spec: ModelSpec,
    recipe: Recipe,
    *,
    epoch: int,
    seed: int,
    dtype: torch.dtype,
) -> dict[str, float]:
    """One pass over the faces (uint8 N×H×W×C) in an order and with variations that (seed, epoch) alone decide."""
    device = images.device
    seed_everything(seed, epoch)  # dropout
    generator = torch.Generator(device).manual_seed(combine_seeds(seed, epoch))
    batches = draw_batches(len(images), recipe, generator)
    training.model.train()
    losses, correct = torch.zeros((), device=device), torch.zeros((), device=device)
    started, seen = time.perf_counter(), 0
    with tqdm(total=sum(map(len, batches)), desc=f"epoch {epoch}/{recipe.epochs}", unit=" faces") as bar:
        for step, rows in enumerate(batches):
            set_learning_rate(training.optimizer, recipe, epoch - 1 + step / len(batches))
            faces = augment(images[rows], spec, recipe, generator)
            faces, targets = mix(faces, F.one_hot(labels[rows], len(EMOTIONS)).float(), recipe, generator)
            with autocast(device, dtype):
                logits = forward(faces)
            loss = F.cross_entropy(logits.float(), targets, weights, label_smoothing=recipe.label_smoothing)
            update_weights(training, loss, recipe.clip_norm)
            losses += loss.detach() * len(rows)
            correct += (logits.argmax(1) == labels[rows]).sum()
            seen += len(rows)
            bar.update(len(rows))
            if step % CHECK_EVERY == CHECK_EVERY - 1 or step == len(batches) - 1:
                bar.set_postfix(loss=f"{check_finite(losses.item() / seen, epoch, step):.3f}")
    seconds = time.perf_counter() - started
    return {
        "train_loss": losses.item() / seen,
        "train_accuracy": correct.item() / seen,
        "lr": learning_rate(recipe, epoch - 1),
        "images_per_second": seen / seconds,
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


def draw_batches(count: int, recipe: Recipe, generator: torch.Generator) -> list[torch.Tensor]:
    """The rows of an epoch in random order, in whole batches (batch norm dislikes a small last one)."""
    batches = torch.randperm(count, generator=generator, device=generator.device).split(recipe.batch_size)
    if len(batches) > 1 and len(batches[-1]) < recipe.batch_size:
        batches = batches[:-1]
    return list(itertools.islice(batches, recipe.max_steps))


def update_weights(training: Training, loss: torch.Tensor, clip_norm: float) -> None:
    training.optimizer.zero_grad(set_to_none=True)
    training.scaler.scale(loss).backward()
    if clip_norm:
        training.scaler.unscale_(training.optimizer)
        torch.nn.utils.clip_grad_norm_(training.model.parameters(), clip_norm)
    training.scaler.step(training.optimizer)
    training.scaler.update()
    if training.average:
        training.average.update_parameters(training.model)


def learning_rate(recipe: Recipe, epoch: float) -> float:
    """The rate after `epoch` epochs (a fraction within one): linear warm-up, then the schedule down to min_lr."""
    if epoch < recipe.warmup_epochs:
        return recipe.lr * max(epoch / recipe.warmup_epochs, 0.01)
    fall = max((recipe.t_max or recipe.epochs) - recipe.warmup_epochs, 1e-9)
    share = SCHEDULES[recipe.schedule](min((epoch - recipe.warmup_epochs) / fall, 1))
    return recipe.min_lr + (recipe.lr - recipe.min_lr) * share


def set_learning_rate(optimizer: torch.optim.Optimizer, recipe: Recipe, epoch: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(recipe, epoch)


def check_finite(loss: float, epoch: int, step: int) -> float:
    if not math.isfinite(loss):
        raise UserError(f"the loss is {loss} by step {step + 1} of epoch {epoch}; try a smaller --lr, or --no-amp")
    return loss


def validate(
    model: FaceClassifier, spec: ModelSpec, val: FaceData, device: torch.device, dtype: torch.dtype
) -> dict[str, float]:
    logits = predict_split(model, spec, val.images, device=device, dtype=dtype, progress="validating")
    labels, predictions = torch.from_numpy(val.labels), logits.argmax(1)
    return {
        "val_loss": check_finite(F.cross_entropy(logits, labels).item(), 0, 0),
        "val_accuracy": (predictions == labels).float().mean().item(),
        "val_macro_f1": average_f1(val.labels, predictions.numpy(), "macro"),
    }


# ── after an epoch ───────────────────────────────────────────────────────────────────────────────────────────────────


def best_epoch(epochs: list[dict[str, Any]], monitor: str) -> int:
    """Number of the epoch with the best value on val, the earliest of equals."""
    return MONITORS[monitor](epochs, key=lambda epoch: epoch[f"val_{monitor}"])["epoch"]


def should_stop(epochs: list[dict[str, Any]], recipe: Recipe) -> bool:
    return bool(epochs and recipe.patience and len(epochs) - best_epoch(epochs, recipe.monitor) >= recipe.patience)


def save_epoch(training: Training, flags: config.Train, identity: dict[str, Any], history: dict[str, Any]) -> None:
    """Writes the best checkpoint if this epoch is it, then the last one, then the history."""
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
    minutes = sum(epoch["seconds"] for epoch in training.epochs) / 60
    progress = {"epochs": training.epochs, "best_epoch": best, "minutes": minutes, "finished": False}
    write_json(run.history, {**history, **progress})
    print(f"  val loss {epoch['val_loss']:.4f}, accuracy {epoch['val_accuracy']:.2%}, best epoch {best}")


def finish(training: Training, flags: config.Train, history: dict[str, Any]) -> dict[str, Any]:
    run, best = flags.run, best_epoch(training.epochs, flags.settings.monitor)
    minutes = sum(epoch["seconds"] for epoch in training.epochs) / 60
    history |= {"epochs": training.epochs, "best_epoch": best, "minutes": minutes, "finished": True}
    write_json(run.history, history)
    title = f"Training of {run.model} on {DATASETS[run.dataset].title}"
    plot_training_curves(run.plot("training_curves"), training.epochs, best, title)
    accuracy = training.epochs[best - 1]["val_accuracy"]
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
    failures = {}
    runs = parse_flags(sys.argv[1:])
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
