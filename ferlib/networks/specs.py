"""What differs between models: ModelSpec, and how rows of torchvision's, timm's and our own backbones are made."""

from __future__ import annotations

import difflib
import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import timm
import torch
import torchvision
from torch import nn

from utils import UserError

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
        return self.resize or self.image_size


def from_scratch(backbone: Callable[[], nn.Module], cam_layer: str, **facts: Any) -> ModelSpec:
    """A row of a backbone for small grey faces."""
    return ModelSpec(backbone, cam_layer, channels=1, mean=GREY_MEAN, std=GREY_STD, **facts)


# ── torchvision ──────────────────────────────────────────────────────────────────────────────────────────────────────


def from_torchvision(
    name: str,
    classifier: str,
    cam_layer: str,
    *,
    image_size: int = 224,
    auxiliary: Mapping[str, int] = NOTHING,
    arguments: Mapping[str, Any] = NOTHING,
    **facts: Any,
) -> ModelSpec:
    """A row of torchvision's `name` without its `classifier`.

    auxiliary: the classifiers of its auxiliary branches and how many features go into each. arguments: of its builder.
    """
    return ModelSpec(
        partial(without_classifiers, name, (classifier, *auxiliary), arguments),
        cam_layer,
        image_size,
        hidden=512,
        auxiliary=tuple(auxiliary.values()),
        imagenet=partial(torchvision_state, name),
        recipe="fer_xai",
        **facts,
    )


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
    return UserError(
        f"the ImageNet weights of {name} are not in the cache and could not be downloaded ({error}). Either "
        f"train from random weights with --weights none, or fetch {address} elsewhere and use --weights FILE"
    )


def from_resnet(name: str, backbone: Callable[[], nn.Module], cam_layer: str, **facts: Any) -> ModelSpec:
    """A row of a torchvision ResNet with new parts, which keeps the names of its layers and so takes its weights."""
    defaults = {"imagenet": partial(torchvision_state, name), "hidden": 512, "recipe": "fer_xai"}
    return ModelSpec(backbone, cam_layer, 224, **defaults | facts)


# ── timm ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@functools.cache
def from_timm(name: str) -> ModelSpec:
    """The row of any backbone of timm, from timm's own facts and one blank face that costs no computation.

    UserError for a name that timm does not have.
    """
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f"; did you mean {' or '.join(close)}?" if close else "."
        raise UserError(f"timm has no model '{name}'{hint} All: python -c 'import timm; print(timm.list_models())'")
    backbone = partial(timm.create_model, name, num_classes=0)
    with torch.device("meta"):
        model = backbone().eval()
    facts = model.pretrained_cfg
    channels, image_size, _ = facts["input_size"]
    layer, to_grid = find_cells(model, (1, channels, image_size, image_size))
    return ModelSpec(
        backbone,
        layer and f"backbone.{layer}",
        image_size,
        fixed_size=bool(facts.get("fixed_input_size")),
        channels=channels,
        mean=tuple(facts["mean"]),
        std=tuple(facts["std"]),
        hidden=512,
        to_grid=to_grid,
        imagenet=partial(timm_state, name, facts) if has_weights(facts) else None,
        recipe="fer_xai",
    )


def has_weights(facts: Mapping[str, Any]) -> bool:
    return any(facts.get(place) for place in ("hf_hub_id", "url", "file"))


def timm_state(name: str, facts: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """timm's default weights of `name` without the classifier; UserError if they cannot be had."""
    try:
        return timm.create_model(name, pretrained=True, num_classes=0).state_dict()
    except (OSError, RuntimeError) as error:
        address = facts.get("hf_hub_id") and f"https://huggingface.co/{facts['hf_hub_id']}"
        raise unavailable(f"timm/{name}", address or facts["url"], error) from error


def find_cells(model: nn.Module, shape: tuple[int, ...]) -> tuple[str, Callable[[torch.Tensor], torch.Tensor] | None]:
    """The layer of a timm backbone to read, and the map that makes a grid of its output where it is none.

    That is the last of the layers from which timm takes features, or the norm of each cell that follows it: before such
    a norm, activations and their gradients are orthogonal, and a product of both shows nothing. Where a class token
    alone goes on to the head, the others' last say is what the last block's attention sees of them: there it is the
    block's first norm. The layer is "" where none has rows and columns.
    """
    facts = getattr(model, "feature_info", None)
    layer, channels = (facts[-1].get("module", ""), facts[-1]["num_chs"]) if facts else ("", 0)
    output = output_of(model, layer, shape) if layer else None
    if not isinstance(output, torch.Tensor) or output.ndim not in (3, 4):
        return "", None
    has_class_token = output.ndim == 3 and math.isqrt(output.shape[1]) ** 2 < output.shape[1]
    norm = f"{layer}.norm1" if has_class_token else "norm"
    normed = output_of(model, norm, shape)
    layer = norm if isinstance(normed, torch.Tensor) and normed.shape == output.shape else layer
    if output.ndim == 3:
        return layer, tokens_to_grid
    return layer, None if output.shape[1] == channels else channels_last_to_grid


def output_of(model: nn.Module, layer: str, shape: tuple[int, ...]) -> Any:
    """What `layer` gives for blank images on the meta device, where nothing is computed; None if it is not used."""
    outputs = [None]
    for name, module in model.named_modules():
        if name == layer:
            handle = module.register_forward_hook(lambda _, __, output: outputs.append(output))
            with torch.no_grad():
                model(torch.zeros(shape, device="meta"))
            handle.remove()
    return outputs[-1]


def tokens_to_grid(tokens: torch.Tensor) -> torch.Tensor:
    """N×T×C → N×C×s×s with the last s² tokens; those before them are class tokens and registers. Others stay."""
    side = math.isqrt(tokens.shape[1])
    return tokens[:, -side * side :].mT.unflatten(2, (side, side)) if tokens.ndim == 3 else tokens


def channels_last_to_grid(cells: torch.Tensor) -> torch.Tensor:
    """N×h×w×C → N×C×h×w; others stay."""
    return cells.movedim(3, 1) if cells.ndim == 4 else cells
