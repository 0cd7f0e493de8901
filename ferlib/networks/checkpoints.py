"""Checkpoints: a model's weights with what rebuilds it, checked when they are read."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from config import EMOTIONS
from ferlib.networks.classifier import FaceClassifier
from ferlib.networks.packaged_weights import FIRST, renamed
from ferlib.networks.tensor_files import read_identified, read_tensors, save_tensors
from ferlib.runtime.errors import UserError
from ferlib.runtime.terminal import counted

CHECKPOINT_SCHEMA = 1  # shape of a checkpoint
CLASSIFIERS = (  # modules at the top in which torchvision's and timm's networks have their classifiers
    "fc", "classifier", "classif", "head", "heads", "head_dist", "heads_dist", "last_linear", "aux_head", "AuxLogits",
    "aux1", "aux2",
)  # fmt: skip
# torchvision's file of densenet121 names its layers as they were in 2017, denselayer1.norm.1 for denselayer1.norm1
LAYER_OF_2017 = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(?=\d)")
VOTES_HEAD = "votes_head."  # beginning of its names in a state dict


def load_backbone(
    backbone: nn.Module, state: dict[str, torch.Tensor], source: str, new_parts: tuple[str, ...] = ()
) -> None:
    """Loads what the backbone has and leaves the classifier of `state` out.

    Modules named as one of `new_parts` may be missing. UserError if any other layer is, or does not fit, and for layers
    of `state` that are neither the backbone's nor a classifier's: those of another, deeper network.
    """
    state = {LAYER_OF_2017.sub(r"\1", key): value for key, value in state.items()}
    own = backbone.state_dict()
    new = {key for key in own if key not in state and not set(new_parts).isdisjoint(key.split("."))}
    new |= {key for key in own if key.endswith("num_batches_tracked")}
    wrong = [key for key in own if key not in new and (key not in state or state[key].shape != own[key].shape)]
    if wrong:
        raise UserError(
            f"{source} do not fit: {wrong[0]} and {counted(len(wrong) - 1, 'other layer')} are missing or misshapen"
        )
    surplus = [key for key in state if key not in own and key.split(".")[0] not in CLASSIFIERS]
    if surplus:
        raise UserError(
            f"{source} do not fit: this model has no {surplus[0]}, nor {counted(len(surplus) - 1, 'other layer')}"
        )
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
    save_tensors(path, content)


def deployed_state(content: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The weights that were validated: of a last checkpoint with an average of the weights, that average."""
    average = (content.get("training") or {}).get("average")
    if not average:
        return content["state"]
    return {name.removeprefix("module."): value for name, value in average.items() if name != "n_averaged"}


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint that save_checkpoint wrote; UserError for any other file."""
    return checked(read_tensors(path), path)


def read_identified_checkpoint(path: Path) -> tuple[dict[str, Any], str]:
    """As read_checkpoint, and the SHA-256 of the file as it was read."""
    content, digest = read_identified(path)
    return checked(content, path), digest


def checked(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """The content of a file; UserError unless it has all parts of a checkpoint."""
    if content.get("schema") != CHECKPOINT_SCHEMA or "state" not in content:
        raise UserError(f"{path} is not a checkpoint of this version; train it again")
    wrong = [name for name, fits in PARTS.items() if not fits(content.get(name))]
    if wrong:
        raise UserError(f"{path} is damaged: its {wrong[0]} is missing or of another kind; train it again")
    return content


def is_names(value: Any) -> bool:
    """Whether a value is a list of texts."""
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def is_state(value: Any) -> bool:
    """Whether a value is a state dict: names and dense tensors."""
    return isinstance(value, dict) and all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor) and tensor.layout is torch.strided
        for name, tensor in value.items()
    )


def is_numbers(value: Any) -> bool:
    """Whether a value is a dict of finite numbers."""
    return isinstance(value, dict) and all(
        isinstance(number, int | float) and math.isfinite(number) for number in value.values()
    )


# what a checkpoint holds beside its schema, and whether a value can be it
PARTS: dict[str, Callable[[Any], bool]] = {
    "model": lambda value: isinstance(value, str),
    "classes": is_names,
    "image_size": lambda value: value is None or (isinstance(value, int) and not isinstance(value, bool)),
    "state": is_state,
    "training": lambda value: value is None or isinstance(value, dict),
    "metrics": lambda value: value is None or is_numbers(value),
    "epoch": lambda value: value is None or isinstance(value, int),
    "data": lambda value: value is None or isinstance(value, dict),
    "dataset": lambda value: value is None or isinstance(value, str),
    "identity": lambda value: value is None or isinstance(value, dict),
}


def load_backbone_of(model: FaceClassifier, name: str, path: Path) -> None:
    """Takes over the backbone of a checkpoint of the same model, whatever the classes of its head."""
    content = read_checkpoint(path)
    if content["model"] != name:
        raise UserError(f"{path} holds a {content['model']}, not a run of {name}")
    prefix = "backbone."
    state = {key.removeprefix(prefix): value for key, value in content["state"].items() if key.startswith(prefix)}
    load_backbone(model.backbone, state, str(path))


def load_file(
    model: FaceClassifier, name: str, path: Path, classes: Sequence[str], new_parts: tuple[str, ...] = ()
) -> None:
    """Loads a checkpoint of this project, or a plain state dict of the backbone; UserError for what does not fit."""
    content = read_tensors(path)
    if "state" not in content:  # a plain state dict
        if not is_state(content):
            raise UserError(f"{path} holds neither a checkpoint of this project nor a state dict")
        if FIRST in content:
            content = renamed(content, name, model.backbone.state_dict(), path)
        load_backbone(model.backbone, content, str(path), new_parts)
        return
    content = read_checkpoint(path)
    if content["model"] != name:
        raise UserError(f"{path} holds a {content['model']}, not a {name}")
    if content["classes"] != list(classes):
        raise UserError(f"{path} was trained on other classes; take its backbone with --init-from RUN")
    load_state(model, deployed_state(content), name, path)


def has_votes_head(state: dict[str, torch.Tensor]) -> bool:
    """Whether a state dict has the second head of a training on annotators' votes."""
    return any(name.startswith(VOTES_HEAD) for name in state)


def load_state(model: FaceClassifier, state: dict[str, torch.Tensor], name: str, path: Path) -> None:
    """Loads all weights of a model; UserError for those of another shape.

    The head of votes is a part of training: it is left out where the model has none, and stays as it is where the state
    has none.
    """
    own = {key: value for key, value in model.state_dict().items() if key.startswith(VOTES_HEAD)}
    state = {key: value for key, value in state.items() if key in own or not key.startswith(VOTES_HEAD)}
    try:
        model.load_state_dict({**own, **state})
    except (RuntimeError, TypeError) as error:
        raise UserError(f"{path} does not fit {name}: {str(error).splitlines()[-1].strip()}") from error
