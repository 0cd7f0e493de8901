"""Any backbone of timm as a ModelSpec, from timm's metadata."""

from __future__ import annotations

import difflib
import functools
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import timm
import torch
from torch import nn

from ferlib.networks.packaged_weights import find_packaged, packaged_state
from ferlib.networks.specs import ModelSpec
from ferlib.networks.torchvision_backbones import unavailable
from ferlib.runtime.errors import UserError


@functools.cache
def from_timm(name: str) -> ModelSpec:
    """The specification of a backbone of timm, from timm's metadata and one blank image on the meta device.

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
        recipe="finetune",
    )


def has_weights(facts: Mapping[str, Any]) -> bool:
    """Whether timm names a place to get weights from."""
    return any(facts.get(place) for place in ("hf_hub_id", "url", "file"))


def timm_state(name: str, facts: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """timm's default weights of `name` without the classifier, of a package that holds them or from timm's hub.

    UserError if they cannot be had.
    """
    if packaged := find_packaged(name):
        return packaged_state(packaged, name, timm.create_model(name, num_classes=0).state_dict())
    try:
        return timm.create_model(name, pretrained=True, num_classes=0).state_dict()
    except (OSError, RuntimeError) as error:
        address = facts.get("hf_hub_id") and f"https://huggingface.co/{facts['hf_hub_id']}"
        raise unavailable(f"timm/{name}", address or facts["url"], error) from error


def find_cells(model: nn.Module, shape: tuple[int, ...]) -> tuple[str, Callable[[torch.Tensor], torch.Tensor] | None]:
    """The CAM layer of a timm backbone, and the map that makes a grid of its output where it is none.

    The last of the layers from which timm takes features, or the norm of each cell that follows it: before such a norm,
    activations and their gradients are orthogonal, so their product is 0. In transformers whose head reads the class
    token alone, the patch tokens influence it last through the attention of the last block: there the layer is that
    block's first norm. The layer is "" where no output has rows and columns.
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
    """Output of `layer` for blank images on the meta device, where nothing is computed; None if it is not used."""
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
