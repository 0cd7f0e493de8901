"""The state of a training: model, average of the weights, optimiser, history; made, saved and restored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

import config
from config import EMOTIONS
from ferlib.networks.checkpoints import load_backbone_of
from ferlib.networks.classifier import FaceClassifier
from ferlib.runtime.devices import seed_everything
from ferlib.runtime.distributed import synchronize_batch_norm, world_size
from ferlib.runtime.errors import UserError, lookup
from ferlib.runtime.files import require
from ferlib.runtime.runs import Run
from ferlib.training.convolutions import use_fast_gradients
from ferlib.training.optimizers import OPTIMIZERS, ema_update, parameter_groups
from models import create_model
from recipes import Recipe


@dataclass
class Training:
    """The state of a training: all that a run needs to go on."""

    model: FaceClassifier
    forward: Callable  # the model, compiled or spread over processes
    average: AveragedModel | None  # exponential moving average of the weights
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler  # does nothing unless the precision is float16
    epochs: list[dict[str, Any]]  # the history so far
    made_by: dict[str, Any] = field(default_factory=dict)  # commands and hardware so far, of a run that was resumed
    planned: list[int] = field(default_factory=list)  # numbers of epochs that it was begun for, before it was extended

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
            "planned": self.planned,
            "threads": torch.get_num_threads(),
        }

    def restore(self, content: dict[str, Any]) -> None:
        """The inverse of saving: `content` is a last checkpoint."""
        self.model.load_state_dict(content["state"])
        if self.average:
            self.average.load_state_dict(content["training"]["average"])
        self.optimizer.load_state_dict(content["training"]["optimizer"])
        self.scaler.load_state_dict(content["training"]["scaler"])
        self.epochs[:] = content["training"]["epochs"]
        self.made_by.update(content.get("made_by") or {})
        self.planned[:] = content["training"].get("planned", [])


def start_training(
    flags: config.Train, device: torch.device, dtype: torch.dtype, classes: Sequence[str] = EMOTIONS
) -> Training:
    """The state before the first epoch; UserError for weights that cannot be had or do not fit."""
    recipe = flags.settings
    seed_everything(flags.seed)
    model = initial_model(flags, classes).to(device)
    if device.type == "cpu" and dtype == torch.bfloat16:
        use_fast_gradients(model)
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
    return Training(model, forward, average, make_optimizer(model, recipe, dtype), scaler, [])


def initial_model(flags: config.Train, classes: Sequence[str]) -> FaceClassifier:
    """The model with the weights that training starts from: random, ImageNet's, a file's, or a run's backbone."""
    settings = flags.settings
    if flags.init_from and not flags.resume and settings.training.weights not in ("none", "imagenet"):
        raise UserError(
            f"--weights {settings.training.weights} and --init-from {flags.init_from} both name the weights to start "
            "from; give one of them"
        )
    if flags.resume:  # the last checkpoint has the weights
        flags = replace(flags, init_from="")
    weights = "none" if flags.init_from or flags.resume else settings.training.weights
    votes = settings.objective.votes_weight > 0
    model = create_model(flags.model, weights, settings.regularization.dropout, classes, flags.image_size, votes=votes)
    if flags.init_from:
        path = Run(flags.init_from, "", outputs_dir=flags.outputs_dir).best_checkpoint
        load_backbone_of(model, flags.model, require(path, "python train.py --model … for that run"))
    return model


def make_optimizer(model: FaceClassifier, recipe: Recipe, dtype: torch.dtype) -> torch.optim.Optimizer:
    """The optimiser of a recipe for the parameters of a model that is trained in a precision."""
    groups = parameter_groups(
        model.backbone,
        model.heads,
        lr=recipe.learning_rate.lr,
        backbone_lr=recipe.learning_rate.backbone_lr,
        layer_decay=recipe.learning_rate.layer_decay,
        weight_decay=recipe.regularization.weight_decay,
        decay_all=recipe.regularization.decay_all,
    )
    make = lookup(OPTIMIZERS, recipe.optimization.optimizer, "optimizer")
    return make(groups, recipe.learning_rate.lr, recipe.optimization.momentum, dtype)
