"""ModelSpec: what differs between models, and how the rows of models.MODELS are written; imports no torch."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALVES = (0.5, 0.5, 0.5)  # mean and standard deviation with which the Inception networks were trained
GREY_MEAN, GREY_STD = (0.508,), (0.255,)  # of the FER2013 training faces
NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class ModelSpec:
    """What differs between models."""

    backbone: Callable[[], nn.Module]  # N×channels×image_size×image_size → N×features, random weights
    cam_layer: str  # module whose output, N×C×h×w unless to_grid makes it so, the CAM family reads
    image_size: int
    resize: int | None = None  # side to which a face is scaled before its centre is cropped; default: image_size
    fixed_size: bool = False  # takes faces of image_size only, at least in training
    channels: int = 3
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    hidden: int | None = None  # width of a hidden layer in the head
    to_grid: Callable[[torch.Tensor], torch.Tensor] | None = None  # the CAM layer's output → N×C×h×w
    auxiliary: tuple[int, ...] = ()  # features of each branch that the backbone gives beside its own in training
    auxiliary_weight: float = 0.0  # of the loss of each such branch
    imagenet: Callable[[], dict[str, torch.Tensor]] | None = None  # the backbone's ImageNet weights
    new_parts: tuple[str, ...] = ()  # modules named so are not in the ImageNet weights and stay random
    recipe: str = "fast"  # row of recipes.RECIPES

    @property
    def scaled_size(self) -> int:
        """Side to which a face is scaled before its centre is cropped, in pixels."""
        return self.resize or self.image_size


def network(path: str, *arguments: Any, **options: Any) -> Callable[[], Any]:
    """Builds MODULE:CLASS of ferlib.networks, imported at the first call: the table of models needs no torch."""
    return partial(call, f"ferlib.networks.{path}", *arguments, **options)


def call(path: str, *arguments: Any, **options: Any) -> Any:
    """What the function or class at MODULE:NAME returns."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)(*arguments, **options)


def from_scratch(backbone: Callable[[], nn.Module], cam_layer: str, **facts: Any) -> ModelSpec:
    """A row of a backbone for small grey faces."""
    return ModelSpec(backbone, cam_layer, channels=1, mean=GREY_MEAN, std=GREY_STD, **facts)


def from_torchvision(
    name: str,
    classifier: str,
    cam_layer: str,
    *,
    image_size: int = 224,
    auxiliary: Mapping[str, int] = NOTHING,
    arguments: Mapping[str, Any] = NOTHING,
    recipe: str = "finetune",
    **facts: Any,
) -> ModelSpec:
    """A row of torchvision's `name` without its `classifier`.

    auxiliary: the classifiers of its auxiliary branches and how many features go into each. arguments: of its builder.
    """
    return ModelSpec(
        network("torchvision_backbones:without_classifiers", name, (classifier, *auxiliary), arguments),
        cam_layer,
        image_size,
        hidden=512,
        auxiliary=tuple(auxiliary.values()),
        imagenet=network("torchvision_backbones:torchvision_state", name),
        recipe=recipe,
        **facts,
    )


def from_resnet(name: str, backbone: Callable[[], nn.Module], cam_layer: str, **facts: Any) -> ModelSpec:
    """A row of a torchvision ResNet with new parts, which keeps the names of its layers and so takes its weights."""
    defaults: dict[str, Any] = {
        "imagenet": network("torchvision_backbones:torchvision_state", name),
        "hidden": 512,
        "recipe": "finetune",
    }
    return ModelSpec(backbone, cam_layer, 224, **defaults | facts)
