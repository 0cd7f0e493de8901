"""The engine of training: one epoch, one step, one gradient."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import torch
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from ferlib.networks.specs import ModelSpec
from ferlib.runtime.devices import autocast, seed_everything
from ferlib.runtime.distributed import is_main, own_part, sum_over_processes, world_size
from ferlib.runtime.errors import UserError
from ferlib.runtime.progress import FaceBar
from ferlib.runtime.seeds import combine_seeds
from ferlib.training.augmentation import augment, mix
from ferlib.training.batches import Batch, Faces, draw_batches
from ferlib.training.losses import Criterion
from ferlib.training.optimizers import perturbed_weights
from ferlib.training.schedules import BETTER, learning_rate, set_learning_rate
from ferlib.training.state import Training
from recipes import Recipe

CHECK_EVERY = 50  # steps between two checks of the loss, each of which waits for the device


def train_one_epoch(
    training: Training,
    faces: Faces,
    loss: Criterion,
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
    bar = FaceBar(total=sum(map(len, batches)), desc=f"epoch {epoch}/{epochs}", disable=not is_main())
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
                (inputs[own], targets[own], loss.weigh(targets)[own]),
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
    """The spec with the side of the faces in an epoch, which grows from `start_size` of the full one in multiples of 4.

    Howard's progressive resizing (DAWNBench, 2018): early epochs on small faces cost little. The full side is reached
    after 70 % of the epochs, at the latest in the last one. UserError for a model that takes faces of one size only.
    """
    if start_size == 1:
        return spec
    if spec.fixed_size:
        raise UserError(f"this model takes faces of {spec.image_size} px only; use --start-size 1")
    growing = min(0.7 * epochs, epochs - 1)  # epochs until the full side
    if epoch - 1 >= growing:
        return spec
    share = start_size + (1 - start_size) * (epoch - 1) / growing
    side = min(4 * max(round(share * spec.image_size / 4), 1), spec.image_size)
    return replace(spec, image_size=side, resize=round(side * spec.scaled_size / spec.image_size))


def update_weights(
    training: Training,
    batch: Batch,
    loss: Criterion,
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
    training: Training, batch: Batch, loss: Criterion, *, dtype: torch.dtype, accumulate: int = 1
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
            of_votes = (weights * loss.of_votes(auxiliary.pop().float(), targets)).mean() if loss.votes_weight else 0.0
            branches = sum((weights * loss(branch.float(), targets)).mean() for branch in auxiliary)
            objective = values.mean() + training.model.auxiliary_weight * branches + of_votes
            training.scaler.scale(objective / len(pieces)).backward()
        totals += torch.stack([values.detach().sum(), (logits.argmax(1) == loss.labels(targets).argmax(1)).sum()])
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
