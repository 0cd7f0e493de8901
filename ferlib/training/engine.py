"""The engine of training: the state of a training, its faces on the device, one epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

import config
from config import EMOTIONS
from ferlib.data.face_data import FaceData
from ferlib.networks.checkpoints import load_backbone_of
from ferlib.networks.classifier import FaceClassifier
from ferlib.networks.specs import ModelSpec
from ferlib.runtime.devices import autocast, seed_everything
from ferlib.runtime.distributed import is_main, own_part, sum_over_processes, synchronize_batch_norm, world_size
from ferlib.runtime.errors import UserError, lookup
from ferlib.runtime.files import require
from ferlib.runtime.runs import Run
from ferlib.runtime.seeds import combine_seeds
from ferlib.training.augmentation import augment, mix
from ferlib.training.losses import Loss, class_weights, make_targets, without_conflicts
from ferlib.training.optimizers import OPTIMIZERS, ema_update, parameter_groups, perturbed_weights
from ferlib.training.schedules import BETTER, learning_rate, set_learning_rate
from models import create_model
from recipes import Objective, Recipe

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # images N×C×H×W, targets N×classes, weights N
CHECK_EVERY = 50  # steps between two checks of the loss, each of which waits for the device
DEVICE_SHARE = 0.4  # of the free memory of a GPU that the decoded faces may fill; a larger set stays on the host


@dataclass
class Training:
    """The state of a training: all that a run needs to go on."""

    model: FaceClassifier
    forward: Callable  # the model, compiled or spread over processes
    average: AveragedModel | None  # exponential moving average of the weights
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler  # does nothing unless the precision is float16
    epochs: list[dict[str, Any]]  # the history so far

    @property
    def deployed(self) -> FaceClassifier:
        """The weights that are validated and kept as the best."""
        return cast(FaceClassifier, self.average.module) if self.average else self.model

    def state(self) -> dict[str, Any]:
        """The state without the model's own weights, as tensors and plain Python."""
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


def place_faces(data: FaceData, objective: Objective, device: torch.device) -> Faces:
    """The training faces with the targets and weights that an objective gives them."""
    if objective.conflicts == "drop":
        data = without_conflicts(data)
    images = torch.from_numpy(data.images)
    if device.type == "cuda" and images.nbytes < DEVICE_SHARE * torch.cuda.mem_get_info(device)[0]:
        images = images.to(device)
    labels = torch.from_numpy(data.labels).to(device)
    weights = torch.from_numpy(class_weights(data.labels, len(data.classes))).to(device)
    targets = make_targets(data, loss=objective.loss, conflicts=objective.conflicts)
    return Faces(
        images,
        torch.from_numpy(targets).to(device),
        labels,
        weights[labels] if objective.class_weights else torch.ones(len(labels), device=device),
        device,
    )


def start_training(
    flags: config.Train, device: torch.device, dtype: torch.dtype, classes: Sequence[str] = EMOTIONS
) -> Training:
    """The state before the first epoch; UserError for weights that cannot be had or do not fit."""
    recipe = flags.settings
    seed_everything(flags.seed)
    model = initial_model(flags, classes).to(device)
    forward: Callable = model
    if world_size() > 1:
        synchronize_batch_norm(model, device)
        ids = [device.index or torch.cuda.current_device()] if device.type == "cuda" else None
        forward = DistributedDataParallel(model, device_ids=ids, broadcast_buffers=False)
    if flags.compile:
        forward = torch.compile(forward)
    average = None
    if recipe.optimization.ema_decay:
        average = AveragedModel(model, multi_avg_fn=ema_update(recipe.optimization.ema_decay), use_buffers=True)
    scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
    return Training(model, forward, average, make_optimizer(model, recipe), scaler, [])


def initial_model(flags: config.Train, classes: Sequence[str]) -> FaceClassifier:
    """The model with the weights that training starts from: random, ImageNet's, a file's, or a run's backbone."""
    settings = flags.settings
    weights = "none" if flags.init_from else settings.training.weights
    model = create_model(flags.model, weights, settings.regularization.dropout, classes, flags.image_size)
    if flags.init_from:
        path = Run(flags.init_from, "", outputs_dir=flags.outputs_dir).best_checkpoint
        load_backbone_of(model, flags.model, require(path, "python train.py --model … for that run"))
    return model


def make_optimizer(model: FaceClassifier, recipe: Recipe) -> torch.optim.Optimizer:
    """The optimiser of a recipe for the parameters of a model."""
    groups = parameter_groups(
        model.backbone,
        model.head,
        lr=recipe.learning_rate.lr,
        backbone_lr=recipe.learning_rate.backbone_lr,
        weight_decay=recipe.regularization.weight_decay,
    )
    make = lookup(OPTIMIZERS, recipe.optimization.optimizer, "optimizer")
    return make(groups, recipe.learning_rate.lr, recipe.optimization.momentum)


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
    max_steps: int | None = None,
    before_step: Callable[[int, tqdm], float] = lambda _step, _bar: 0.0,
) -> dict[str, float]:
    """One pass over the faces in an order and with variations that (seed, epoch) alone decide.

    Every process prepares the whole batch, which is cheap, and computes on its part of it: so the variations, mixing
    included, do not depend on the number of processes. `before_step` gets the number of each step and the progress bar;
    it may wait, and returns the seconds of waiting, which count nowhere but in `paused_seconds`.
    """
    device, epochs, augmentation = faces.device, recipe.training.epochs, recipe.augmentation
    view = spec_of_epoch(spec, augmentation.start_size, epoch, epochs)
    rate_at = rate_function(training, recipe)
    seed_everything(seed, epoch)  # dropout
    generator = torch.Generator(device).manual_seed(combine_seeds(seed, epoch))
    batches = draw_batches(faces.labels, recipe, generator)[:max_steps]
    training.model.train()
    totals = torch.zeros(2, device=device)  # loss and correct faces, summed over this process's parts
    started, count, paused = time.perf_counter(), 0, 0.0
    bar = tqdm(total=sum(map(len, batches)), desc=f"epoch {epoch}/{epochs}", unit=" faces", disable=not is_main())
    with bar:
        for step, (rows, images) in enumerate(zip(batches, faces.batches(batches), strict=True)):
            paused += before_step(step, bar)
            set_learning_rate(training.optimizer, rate_at(epoch - 1 + step / len(batches)))
            inputs = augment(images, view, augmentation, generator)
            alphas = {"mixup_alpha": augmentation.mixup, "cutmix_alpha": augmentation.cutmix}
            inputs, targets = mix(inputs, faces.targets[rows], generator, **alphas)
            own = own_part(torch.arange(len(rows), device=device))
            totals += update_weights(
                training,
                (inputs[own], targets[own], faces.weights[rows][own]),
                loss,
                dtype=dtype,
                accumulate=recipe.training.accumulate,
                sam_rho=recipe.regularization.sam_rho,
                clip_norm=recipe.optimization.clip_norm,
            )
            count += len(rows)
            bar.update(len(rows))
            if step % CHECK_EVERY == CHECK_EVERY - 1:
                waited = {"paused": f"{paused:.0f} s"} if paused else {}
                bar.set_postfix(loss=f"{check_finite(totals[0].item() * world_size() / count, epoch):.3f}", **waited)
    losses, correct = sum_over_processes(totals).tolist()
    return {
        "train_loss": check_finite(losses / count, epoch),
        "train_accuracy": correct / count,
        "lr": rate_at(epoch - 1),
        "images_per_second": count / (time.perf_counter() - started - paused),
        "paused_seconds": paused,
    }


def rate_function(training: Training, recipe: Recipe) -> Callable[[float], float]:
    """The learning rate by the number of epochs since the beginning, for the history so far."""
    monitor = recipe.selection.monitor
    values = [epoch[f"val_{monitor}"] for epoch in training.epochs]
    return lambda epoch: learning_rate(
        recipe.learning_rate, epoch, recipe.training.epochs, values=values, better=BETTER[monitor]
    )


def spec_of_epoch(spec: ModelSpec, start_size: float, epoch: int, epochs: int) -> ModelSpec:
    """The spec with the side of the faces in an epoch, a multiple of 4, which grows from `start_size` of the full one.

    Howard's progressive resizing (DAWNBench, 2018): early epochs on small faces cost little. The full side is reached
    after 70 % of the epochs. UserError for a model that takes faces of one size only.
    """
    if start_size == 1:
        return spec
    if spec.fixed_size:
        raise UserError(f"this model takes faces of {spec.image_size} px only; use --start-size 1")
    progress = min((epoch - 1) / max(0.7 * epochs, 1), 1)
    share = start_size + (1 - start_size) * progress
    side = 4 * round(share * spec.image_size / 4)
    return replace(spec, image_size=side, resize=round(side * spec.scaled_size / spec.image_size))


def draw_batches(labels: torch.Tensor, recipe: Recipe, generator: torch.Generator) -> list[torch.Tensor]:
    """The rows of an epoch in random order, in whole batches, as a small last one has noisy batch-norm statistics.

    UserError where the faces are too few for a batch.
    """
    size, parts = recipe.training.batch_size, recipe.training.accumulate * world_size()
    if recipe.objective.balanced_sampling:
        frequencies = torch.bincount(labels).clamp(min=1)[labels].float()
        order = torch.multinomial(1 / frequencies, len(labels), replacement=True, generator=generator)
    else:
        order = torch.randperm(len(labels), generator=generator, device=generator.device)
    batches = order.split(size)
    if len(batches[-1]) < size and (len(batches) > 1 or len(batches[-1]) % parts):
        batches = batches[:-1]
    if not batches:
        raise UserError(
            f"{len(labels)} faces in train are too few for {parts} equal parts of a batch; use a smaller batch"
        )
    return list(batches)


def update_weights(
    training: Training,
    batch: Batch,
    loss: Loss,
    *,
    dtype: torch.dtype,
    accumulate: int = 1,
    sam_rho: float = 0.0,
    clip_norm: float = 0.0,
) -> torch.Tensor:
    """One step on this process's part of a batch; returns (sum of losses, correct faces) of the part.

    A face counts as correct if the class with the largest share of its target is found: mixed faces have one too.
    """
    training.optimizer.zero_grad(set_to_none=True)
    totals = compute_gradient(training, batch, loss, dtype=dtype, accumulate=accumulate)
    if sam_rho:
        with perturbed_weights(training.model, sam_rho):  # the scaler's factor has no part in the direction
            training.optimizer.zero_grad(set_to_none=True)
            compute_gradient(training, batch, loss, dtype=dtype, accumulate=accumulate)
    if clip_norm:
        training.scaler.unscale_(training.optimizer)
        torch.nn.utils.clip_grad_norm_(training.model.parameters(), clip_norm)
    training.scaler.step(training.optimizer)
    training.scaler.update()
    if training.average:
        training.average.update_parameters(training.model)
    return totals


def compute_gradient(
    training: Training, batch: Batch, loss: Loss, *, dtype: torch.dtype, accumulate: int = 1
) -> torch.Tensor:
    """Adds the gradient of the mean loss over the whole batch; returns (sum of losses, correct faces).

    The losses of a model's auxiliary heads count towards the gradient only.
    """
    totals = torch.zeros(2, device=batch[0].device)
    pieces = list(zip(*(values.chunk(accumulate) for values in batch), strict=True))
    for number, (images, targets, weights) in enumerate(pieces, start=1):
        with synchronized_gradients(training.forward, number == len(pieces)):
            with autocast(images.device, dtype):
                outputs = training.forward(images)
            logits, *auxiliary = outputs if isinstance(outputs, tuple) else (outputs,)
            values = weights * loss(logits.float(), targets)
            branches = sum((weights * loss(branch.float(), targets)).mean() for branch in auxiliary)
            objective = values.mean() + training.model.auxiliary_weight * branches
            training.scaler.scale(objective / len(pieces)).backward()
        totals += torch.stack([values.detach().sum(), (logits.argmax(1) == targets.argmax(1)).sum()])
    return totals


def synchronized_gradients(forward: Callable, last: bool) -> AbstractContextManager:
    """Processes add their gradients after the last piece of a batch only."""
    if isinstance(forward, DistributedDataParallel) and not last:
        return forward.no_sync()
    return nullcontext()


def check_finite(loss: float, epoch: int) -> float:
    """The loss; UserError if it is infinite or not a number."""
    if not math.isfinite(loss):
        raise UserError(f"the loss is {loss} in epoch {epoch}; try a smaller --lr, or --no-amp")
    return loss
