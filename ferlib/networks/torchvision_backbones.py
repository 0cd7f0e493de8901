"""Backbones of torchvision and their ImageNet weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torchvision
from torch import nn

from ferlib.runtime.errors import UserError


def without_classifiers(name: str, classifiers: tuple[str, ...], arguments: Mapping[str, Any]) -> nn.Module:
    """The torchvision model `name` with random weights, its `classifiers` replaced by the identity."""
    model = torchvision.models.get_model(name, weights=None, **arguments)
    for path in classifiers:
        parent, _, child = path.rpartition(".")
        setattr(model.get_submodule(parent), child, nn.Identity())
    return model


def torchvision_state(name: str) -> dict[str, torch.Tensor]:
    """The best ImageNet weights that torchvision has of `name`; UserError if they cannot be had."""
    weights = torchvision.models.get_model_weights(name).DEFAULT
    try:
        return weights.get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError) as error:  # no network; a download cut short fails the hash
        raise unavailable(name, weights.url, error) from error


def unavailable(name: str, address: str, error: Exception) -> UserError:
    """The error for weights that cannot be had."""
    return UserError(
        f"the ImageNet weights of {name} are not in the cache and could not be downloaded ({error}). Either "
        f"train from random weights with --weights none, or fetch {address} elsewhere and use --weights FILE"
    )
