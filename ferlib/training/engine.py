"""The engine of training: a model with all that changes while it learns, its faces on the device, one epoch."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

import config
from config import EMOTIONS
from ferlib.data.face_data import FaceData
from ferlib.networks.checkpoints import load_backbone_of
from ferlib.networks.classifier import FaceClassifier, set_stochastic_depth
from ferlib.networks.specs import ModelSpec
from ferlib.runtime.devices import autocast, seed_everything
from ferlib.runtime.distributed import is_main, own_part, share_batch_norm, sum_over_processes, world_size
from ferlib.runtime.errors import UserError, lookup
from ferlib.runtime.files import require
from ferlib.runtime.runs import Run
from ferlib.runtime.seeds import combine_seeds
from ferlib.training.augmentation import augment, mix
from ferlib.training.losses import class_weights, make_targets, without_conflicts
from ferlib.training.optimizers import OPTIMIZERS, ema_function, parameter_groups, uphill
from ferlib.training.schedules import learning_rate, set_learning_rate
from models import create_model
from recipes import Recipe

Loss = Callable[[torch.Tensor, torch.Tensor, Recipe], torch.Tensor]  # a row of losses.LOSSES
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
    targets: torch.Tensor  # float32 N,classes
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
    weights = torch.from_numpy(class_weights(data.labels, len(data.classes))).to(device)
    return Faces(
        images,
        torch.from_numpy(make_targets(data, recipe)).to(device),
        labels,
        weights[labels] if recipe.class_weights else torch.ones(len(labels), device=device),
        device,
    )


def start_training(
    flags: config.Train, device: torch.device, dtype: torch.dtype, classes: Sequence[str] = EMOTIONS
) -> Training:
    recipe = flags.settings
    seed_everything(flags.seed)
    weights = "none" if recipe.init_from else recipe.weights  # the run's take their place
    model = create_model(flags.model, weights, recipe.dropout, classes, recipe.image_size)
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
    average = None
    if recipe.ema_decay:
        average = AveragedModel(model, multi_avg_fn=ema_function(recipe.ema_decay), use_buffers=True)
    optimizer = lookup(OPTIMIZERS, recipe.optimizer, "optimizer")(parameter_groups(model, recipe), recipe)
    scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
    return Training(model, forward, average, optimizer, scaler, [])


# ── one epoch ────────────────────────────────────────────────────────────────────────────────────────────────────────


def train_one_epoch(
    training: Training,
    faces: Faces,
    loss: Loss,
    spec: ModelSpec,
    recipe: Recipe,
    *,
    epoch: int,
    seed: int,
    dtype: torch.dtype,
    rest: Callable[[int, tqdm], float] = lambda _step, _bar: 0.0,
) -> dict[str, float]:
    """One pass over the faces in an order and with variations that (seed, epoch) alone decide.

    Every process prepares the whole batch, which is cheap, and computes on its part of it: so the variations, mixing
    included, do not depend on the number of processes. Before each step `rest` gets its number and the progress bar; it
    may wait, and returns the seconds, which count nowhere but in `paused_seconds`.
    """
    device, view = faces.device, grown(spec, recipe, epoch)
    seed_everything(seed, epoch)  # dropout
    generator = torch.Generator(device).manual_seed(combine_seeds(seed, epoch))
    batches = draw_batches(faces, recipe, generator)
    training.model.train()
    totals = torch.zeros(2, device=device)  # loss and correct faces, summed over this process's parts
    started, seen, paused = time.perf_counter(), 0, 0.0
    bar = tqdm(
        total=sum(map(len, batches)), desc=f"epoch {epoch}/{recipe.epochs}", unit=" faces", disable=not is_main()
    )
    with bar:
        for step, (rows, images) in enumerate(zip(batches, faces.batches(batches), strict=True)):
            paused += rest(step, bar)
            rate = learning_rate(recipe, epoch - 1 + step / len(batches), training.epochs)
            set_learning_rate(training.optimizer, rate)
            inputs = augment(images, view, recipe, generator)
            inputs, targets = mix(inputs, faces.targets[rows], recipe, generator)
            own = own_part(torch.arange(len(rows), device=device))
            part = inputs[own], targets[own], faces.weights[rows][own]
            totals += update_weights(training, part, loss, recipe, dtype)
            seen += len(rows)
            bar.update(len(rows))
            if step % CHECK_EVERY == CHECK_EVERY - 1:
                waited = {"paused": f"{paused:.0f} s"} if paused else {}
                bar.set_postfix(loss=f"{check_finite(totals[0].item() * world_size() / seen, epoch):.3f}", **waited)
    losses, correct = sum_over_processes(totals).tolist()
    return {
        "train_loss": check_finite(losses / seen, epoch),
        "train_accuracy": correct / seen,
        "lr": learning_rate(recipe, epoch - 1, training.epochs),
        "images_per_second": seen / (time.perf_counter() - started - paused),
        "paused_seconds": paused,
    }


def grown(spec: ModelSpec, recipe: Recipe, epoch: int) -> ModelSpec:
    """The spec with the face's side of this epoch, a multiple of 4: early epochs on small faces cost little.

    Howard's progressive resizing (DAWNBench, 2018). UserError for a model that takes faces of one size only.
    """
    if recipe.start_size == 1:
        return spec
    if spec.fixed_size:
        raise UserError(f"this model takes faces of {spec.image_size} px only; use --start-size 1")
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
    loss: Loss,
    recipe: Recipe,
    dtype: torch.dtype,
) -> torch.Tensor:
    """One step on (images, targets, weights); returns (sum of losses, correct faces) of this process.

    A face counts as correct if the class with the largest share of its target is found: mixed faces have one too.
    """
    training.optimizer.zero_grad(set_to_none=True)
    totals = compute_gradient(training, part, loss, recipe, dtype)
    if recipe.sam_rho:
        with uphill(training.model, recipe.sam_rho):  # only the gradient's direction counts, not the scaler's factor
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


def compute_gradient(
    training: Training, part: tuple[torch.Tensor, ...], loss: Loss, recipe: Recipe, dtype: torch.dtype
) -> torch.Tensor:
    """Adds the gradient of the mean loss over the whole batch; returns (sum of losses, correct faces).

    The losses of a model's auxiliary heads count towards the gradient only.
    """
    totals = torch.zeros(2, device=part[0].device)
    pieces = list(zip(*(values.chunk(recipe.accumulate) for values in part), strict=True))
    for number, (images, targets, weights) in enumerate(pieces, start=1):
        waiting = number < len(pieces) and isinstance(training.forward, DistributedDataParallel)
        with training.forward.no_sync() if waiting else nullcontext():
            with autocast(images.device, dtype):
                outputs = training.forward(images)
            logits, *auxiliary = outputs if isinstance(outputs, tuple) else (outputs,)
            values = weights * loss(logits.float(), targets, recipe)
            branches = sum((weights * loss(branch.float(), targets, recipe)).mean() for branch in auxiliary)
            objective = values.mean() + training.model.auxiliary_weight * branches
            training.scaler.scale(objective / len(pieces)).backward()
        totals += torch.stack([values.detach().sum(), (logits.argmax(1) == targets.argmax(1)).sum()])
    return totals


def check_finite(loss: float, epoch: int) -> float:
    if not math.isfinite(loss):
        raise UserError(f"the loss is {loss} in epoch {epoch}; try a smaller --lr, or --no-amp")
    return loss
