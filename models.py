"""The zoo: MODELS maps a name to its facts; create a model, save it, load it back from its checkpoint alone."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import nn
from torchvision.ops import StochasticDepth

from architectures.fer_vgg import FerVgg
from architectures.small_resnet import SmallResNet
from config import EMOTIONS
from utils import SCHEMA, UserError, atomic_path, lookup

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
GREY_MEAN, GREY_STD = (0.508,), (0.255,)  # of the FER2013 training faces
GREY_WEIGHTS = (0.299, 0.587, 0.114)  # ITU-R BT.601 luma, as Pillow's convert("L")


@dataclass(frozen=True)
class ModelSpec:
    """What differs between models."""

    backbone: Callable[[], nn.Module]  # N×channels×image_size×image_size → N×features, random weights
    cam_layer: str  # module whose output N×C×h×w the CAM family reads
    image_size: int
    resize: int | None = None  # side to which a face is scaled before its centre is cropped; default: image_size
    channels: int = 3
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    hidden: int | None = None  # width of a hidden layer in the head
    imagenet: Callable[[], Any] | None = None  # torchvision's weights of the backbone
    recipe: str = "fast"  # row of config.RECIPES

    @property
    def scaled_size(self) -> int:
        return self.resize or self.image_size


def without_classifier(name: str, classifier: str) -> nn.Module:
    """The torchvision model `name` with random weights, its `classifier` replaced by the identity."""
    model = torchvision.models.get_model(name, weights=None)
    setattr(model, classifier, nn.Identity())
    return model


def from_torchvision(name: str, classifier: str, cam_layer: str) -> ModelSpec:
    return ModelSpec(
        partial(without_classifier, name, classifier),
        cam_layer,
        image_size=224,
        hidden=512,
        imagenet=lambda: torchvision.models.get_model_weights(name).DEFAULT,
        recipe="fer_xai",
    )


def from_scratch(backbone: Callable[[], nn.Module], cam_layer: str, **facts) -> ModelSpec:
    return ModelSpec(backbone, cam_layer, channels=1, mean=GREY_MEAN, std=GREY_STD, **facts)


MODELS = {
    "resnet50": from_torchvision("resnet50", "fc", cam_layer="backbone.layer4"),
    "efficientnet_b0": from_torchvision("efficientnet_b0", "classifier", cam_layer="backbone.features"),
    "fer_vgg": from_scratch(FerVgg, "backbone.features", image_size=40, resize=48, recipe="fer_vgg"),
    "fer_resnet": from_scratch(
        partial(SmallResNet, (32, 64, 128, 256), (1, 1, 2, 2), grid=2), "backbone.stages", image_size=44, resize=48
    ),
    "fer_resnet_wide": from_scratch(
        partial(SmallResNet, (32, 64, 192, 320), (1, 1, 2, 2), grid=2), "backbone.stages", image_size=44, resize=48
    ),
    "mini_resnet": from_scratch(
        partial(SmallResNet, (16, 32, 64, 128), (1, 1, 1, 1), grid=3), "backbone.stages", image_size=48, recipe="quick"
    ),
}


class FaceClassifier(nn.Module):
    """Faces in 0..1, grey or RGB → logits: colour conversion and normalisation belong to the model.

    So a checkpoint is complete, and every explanation is one of pixels that a person can look at.
    """

    def __init__(self, spec: ModelSpec, num_classes: int = len(EMOTIONS)):
        super().__init__()
        self.channels = spec.channels
        self.register_buffer("mean", torch.tensor(spec.mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).view(-1, 1, 1), persistent=False)
        self.register_buffer("grey_weights", torch.tensor(GREY_WEIGHTS).view(-1, 1, 1), persistent=False)
        self.backbone = spec.backbone()
        self.head = make_head(count_features(self.backbone, spec), spec.hidden, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """images: float N×C×H×W in 0..1 with C = 1 or 3; returns logits N×classes."""
        if self.channels == 1 and images.shape[1] == 3:
            images = (images * self.grey_weights).sum(1, keepdim=True)
        return self.head(self.backbone((images - self.mean) / self.std))  # a grey face broadcasts to three channels


def count_features(backbone: nn.Module, spec: ModelSpec) -> int:
    """Width of the backbone's output, from one blank face."""
    backbone.eval()
    with torch.inference_mode():
        return backbone(torch.zeros(1, spec.channels, spec.image_size, spec.image_size)).shape[1]


def make_head(features: int, hidden: int | None, num_classes: int) -> nn.Sequential:
    if hidden is None:
        return nn.Sequential(nn.Dropout(), nn.Linear(features, num_classes))
    return nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Dropout(), nn.Linear(hidden, num_classes))


def set_dropout(model: nn.Module, probability: float) -> None:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = probability


def create_model(
    name: str, weights: str = "none", dropout: float = 0.4, classes: Sequence[str] = EMOTIONS
) -> FaceClassifier:
    """The model `name` with random, ImageNet or saved weights, in channels_last memory format.

    weights: "none", "imagenet" (torchvision's, needs a network or a filled torch cache) or a file: a checkpoint of this
    project or a state dict of the torchvision model. UserError for unknown names and weights that do not fit.
    """
    spec = lookup(MODELS, name, "model")
    model = FaceClassifier(spec, len(classes))
    set_dropout(model, dropout)
    if weights == "imagenet":
        load_backbone(model.backbone, imagenet_state(name, spec), f"the ImageNet weights of {name}")
    elif weights != "none":
        load_file(model, name, Path(weights), classes)
    return model.to(memory_format=torch.channels_last)


def imagenet_state(name: str, spec: ModelSpec) -> dict[str, torch.Tensor]:
    if spec.imagenet is None:
        raise UserError(f"{name} has no ImageNet weights; use --weights none or --weights FILE")
    weights = spec.imagenet()
    try:
        return weights.get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError) as error:  # no network; a download cut short fails the hash
        raise UserError(
            f"the ImageNet weights of {name} are not in the torch cache and could not be downloaded ({error}). Either "
            f"train from random weights with --weights none, or fetch {weights.url} elsewhere and use --weights FILE"
        ) from error


def set_stochastic_depth(model: nn.Module, probability: float) -> None:
    """Skips the residual branch of block l of L with probability p·l/L (Huang et al., 2016, equation 4)."""
    blocks = [module for module in model.modules() if isinstance(module, StochasticDepth)]
    for number, block in enumerate(blocks, start=1):
        block.p = probability * number / len(blocks)


def load_backbone_of(model: FaceClassifier, name: str, path: Path) -> None:
    """Takes over the backbone of a checkpoint of the same model, whatever the classes of its head."""
    content = read_tensors(path)
    if content.get("model") != name or "state" not in content:
        raise UserError(f"{path} holds a {content.get('model', 'plain state dict')}, not a run of {name}")
    prefix = "backbone."
    state = {key.removeprefix(prefix): value for key, value in content["state"].items() if key.startswith(prefix)}
    load_backbone(model.backbone, state, str(path))


def load_file(model: FaceClassifier, name: str, path: Path, classes: Sequence[str]) -> None:
    content = read_tensors(path)
    if "state" not in content:  # a plain state dict
        return load_backbone(model.backbone, content, str(path))
    if content["model"] != name:
        raise UserError(f"{path} holds a {content['model']}, not a {name}")
    if content["classes"] != list(classes):
        raise UserError(f"{path} was trained on other classes; take its backbone with --init-from RUN")
    model.load_state_dict(content["state"])


def load_backbone(backbone: nn.Module, state: dict[str, torch.Tensor], source: str) -> None:
    """Loads what the backbone has and leaves the classifier of `state` out; UserError if a layer does not fit."""
    own = backbone.state_dict()
    wrong = [key for key, value in own.items() if key not in state or state[key].shape != value.shape]
    wrong = [key for key in wrong if not key.endswith("num_batches_tracked")]
    if wrong:
        raise UserError(f"{source} do not fit: {wrong[0]} and {len(wrong) - 1} other layers are missing or misshapen")
    backbone.load_state_dict({key: value for key, value in state.items() if key in own}, strict=False)


def count_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


# ── checkpoints ──────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Checkpoint:
    """A model as it was saved, ready to predict."""

    model: FaceClassifier
    spec: ModelSpec
    info: dict[str, Any]  # all that was saved beside the weights


def save_checkpoint(
    path: Path, name: str, model: FaceClassifier, *, classes: Sequence[str] = EMOTIONS, **info: Any
) -> None:
    """Writes the weights, the classes and `info` (tensors and plain Python only) whole or not at all."""
    content = {"schema": SCHEMA, "model": name, "classes": list(classes), "state": model.state_dict(), **info}
    with atomic_path(path) as temporary:
        torch.save(content, temporary)


def load_checkpoint(path: Path, device: torch.device) -> Checkpoint:
    """Rebuilds a model from its checkpoint, on `device`, in evaluation mode.

    UserError if the file is not one, or if its classes are not the seven emotions.
    """
    content = read_tensors(path)
    if content.get("schema") != SCHEMA or "state" not in content:
        raise UserError(f"{path} is not a checkpoint of this version; train it again")
    if content["classes"] != list(EMOTIONS):
        count = len(content["classes"])
        raise UserError(f"{path} was pre-trained on {count} classes; fine-tune it with train.py --init-from RUN")
    spec = lookup(MODELS, content["model"], "model")
    model = FaceClassifier(spec)
    state = deployed_state(content)
    del content["state"]
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(f"{path} does not fit {content['model']}: {error}") from error
    return Checkpoint(model.eval().to(device, memory_format=torch.channels_last), spec, content)


def deployed_state(content: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The weights that were validated: of a last checkpoint with an average of the weights, that average."""
    average = content.get("training", {}).get("average")
    if not average:
        return content["state"]
    return {name.removeprefix("module."): value for name, value in average.items() if name != "n_averaged"}


def read_tensors(path: Path) -> dict[str, Any]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise UserError(f"{path} cannot be read as a torch checkpoint: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}, not a checkpoint or state dict")
    return content
