"""Checkpoints: tensors and plain Python, read with weights_only, written whole or not at all."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from config import EMOTIONS
from ferlib.networks.classifier import FaceClassifier
from ferlib.runtime.errors import UserError
from ferlib.runtime.files import atomic_path

CHECKPOINT_SCHEMA = 1  # shape of a checkpoint


def load_backbone(
    backbone: nn.Module, state: dict[str, torch.Tensor], source: str, new_parts: tuple[str, ...] = ()
) -> None:
    """Loads what the backbone has and leaves the classifier of `state` out.

    Modules named as one of `new_parts` may be missing. UserError if any other layer is, or does not fit.
    """
    own = backbone.state_dict()
    new = {key for key in own if key not in state and not set(new_parts).isdisjoint(key.split("."))}
    new |= {key for key in own if key.endswith("num_batches_tracked")}
    wrong = [key for key in own if key not in new and (key not in state or state[key].shape != own[key].shape)]
    if wrong:
        raise UserError(f"{source} do not fit: {wrong[0]} and {len(wrong) - 1} other layers are missing or misshapen")
    backbone.load_state_dict({key: value for key, value in state.items() if key in own}, strict=False)


def save_checkpoint(
    path: Path,
    name: str,
    model: FaceClassifier,
    *,
    classes: Sequence[str] = EMOTIONS,
    image_size: int | None = None,
    **info: Any,
) -> None:
    """Writes the weights, what rebuilds the model, and `info` (tensors and plain Python only), whole or not at all."""
    facts = {"model": name, "classes": list(classes), "image_size": image_size}
    content = {"schema": CHECKPOINT_SCHEMA, **facts, "state": model.state_dict(), **info}
    with atomic_path(path) as temporary:
        torch.save(content, temporary)


def deployed_state(content: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The weights that were validated: of a last checkpoint with an average of the weights, that average."""
    average = content.get("training", {}).get("average")
    if not average:
        return content["state"]
    return {name.removeprefix("module."): value for name, value in average.items() if name != "n_averaged"}


def read_tensors(path: Path) -> dict[str, Any]:
    """The content of a checkpoint or state dict, tensors and plain Python; UserError for any other file."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise UserError(f"{path} cannot be read as a torch checkpoint: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}, not a checkpoint or state dict")
    return content


def load_backbone_of(model: FaceClassifier, name: str, path: Path) -> None:
    """Takes over the backbone of a checkpoint of the same model, whatever the classes of its head."""
    content = read_tensors(path)
    if content.get("model") != name or "state" not in content:
        raise UserError(f"{path} holds a {content.get('model', 'plain state dict')}, not a run of {name}")
    prefix = "backbone."
    state = {key.removeprefix(prefix): value for key, value in content["state"].items() if key.startswith(prefix)}
    load_backbone(model.backbone, state, str(path))


def load_file(
    model: FaceClassifier, name: str, path: Path, classes: Sequence[str], new_parts: tuple[str, ...] = ()
) -> None:
    """Loads a checkpoint of this project, or a plain state dict of the backbone; UserError for what does not fit."""
    content = read_tensors(path)
    if "state" not in content:  # a plain state dict
        load_backbone(model.backbone, content, str(path), new_parts)
        return
    if content["model"] != name:
        raise UserError(f"{path} holds a {content['model']}, not a {name}")
    if content["classes"] != list(classes):
        raise UserError(f"{path} was trained on other classes; take its backbone with --init-from RUN")
    model.load_state_dict(content["state"])
