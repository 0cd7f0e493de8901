"""The zoo: MODELS maps a name to its facts; create a model, save it, load it back from its checkpoint alone.

python models.py    prints every model with its size, its cost and its speed on this machine
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import tyro
from torch import nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode
from torchvision.ops import StochasticDepth

import config
from config import EMOTIONS
from ferlib.networks.bam import BamResNet50
from ferlib.networks.cbam import CbamResNet50
from ferlib.networks.cifar_resnet import CifarResNet
from ferlib.networks.fer_vgg import FerVgg
from ferlib.networks.residual_masking import ResidualMaskingNetwork
from ferlib.networks.small_resnet import SmallResNet
from ferlib.networks.spatial_attention import SpatialAttentionResNet34
from ferlib.networks.specs import HALVES, ModelSpec, from_resnet, from_scratch, from_timm, from_torchvision
from ferlib.runtime.devices import autocast, autocast_dtype, device_name, resolve_device
from utils import SCHEMA, UserError, atomic_path, lookup, run_script

GREY_WEIGHTS = (0.299, 0.587, 0.114)  # ITU-R BT.601 luma, as Pillow's convert("L")
TIMM = "timm/"  # before the name of any timm backbone

MODELS = {
    # ── torchvision ──────────────────────────────────────────────────────────────────────────────────────────────────
    "alexnet": from_torchvision("alexnet", "classifier.6", "backbone.features.11"),
    "vgg19_bn": from_torchvision("vgg19_bn", "classifier.6", "backbone.features.51"),
    "resnet18": from_torchvision("resnet18", "fc", "backbone.layer4"),
    "resnet34": from_torchvision("resnet34", "fc", "backbone.layer4"),
    "resnet50": from_torchvision("resnet50", "fc", "backbone.layer4"),
    "resnet101": from_torchvision("resnet101", "fc", "backbone.layer4"),
    "resnet152": from_torchvision("resnet152", "fc", "backbone.layer4"),
    "densenet121": from_torchvision("densenet121", "classifier", "backbone.features"),
    "googlenet": from_torchvision(
        "googlenet",
        "fc",
        "backbone.inception5b",
        mean=HALVES,
        std=HALVES,
        auxiliary={"aux1.fc2": 1024, "aux2.fc2": 1024},
        auxiliary_weight=0.3,  # Szegedy et al., "Going deeper with convolutions" (2015), section 5
        arguments={"init_weights": True},
    ),
    "inception_v3": from_torchvision(
        "inception_v3",
        "fc",
        "backbone.Mixed_7c",
        image_size=299,
        fixed_size=True,  # the auxiliary branch takes the 17×17 cells of 299 px and no fewer
        mean=HALVES,
        std=HALVES,
        auxiliary={"AuxLogits.fc": 768},
        auxiliary_weight=0.4,  # as in torchvision's training
        arguments={"init_weights": True},
    ),
    "efficientnet_b0": from_torchvision("efficientnet_b0", "classifier", "backbone.features"),
    "efficientnet_b2": from_torchvision("efficientnet_b2", "classifier", "backbone.features", image_size=288),
    "mobilenet_v3_small": from_torchvision("mobilenet_v3_small", "classifier.3", "backbone.features"),
    # ── with attention ───────────────────────────────────────────────────────────────────────────────────────────────
    "resnet34_sa": from_resnet("resnet34", SpatialAttentionResNet34, "backbone.layer4", new_parts=("attention",)),
    "cbam_resnet50": from_resnet("resnet50", CbamResNet50, "backbone.layer4", new_parts=("attention",)),
    "bam_resnet50": from_resnet(
        "resnet50", BamResNet50, "backbone.layer4", new_parts=("attention1", "attention2", "attention3")
    ),
    "rmn": from_resnet(
        "resnet34",
        ResidualMaskingNetwork,
        "backbone.mask4",
        new_parts=("mask1", "mask2", "mask3", "mask4"),
        hidden=None,
        recipe="residual_masking",
    ),
    # ── for small grey faces ─────────────────────────────────────────────────────────────────────────────────────────
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
    "cifar_resnet20": from_scratch(partial(CifarResNet, 20), "backbone.stages", image_size=44, resize=48),
    "cifar_resnet56": from_scratch(partial(CifarResNet, 56), "backbone.stages", image_size=44, resize=48),
}


def model_spec(name: str) -> ModelSpec:
    """The facts of the model `name`: a row of MODELS, or timm's of any backbone as timm/NAME; UserError otherwise."""
    if name.startswith(TIMM):
        return from_timm(name.removeprefix(TIMM))
    return lookup(MODELS, name, "model")


def resized(spec: ModelSpec, image_size: int | None) -> ModelSpec:
    """The facts of the same model for faces of another side; UserError for a model that takes its own only."""
    if image_size in (None, spec.image_size):
        return spec
    if spec.fixed_size or image_size < 1:
        raise UserError(f"--image-size {image_size}: this model takes faces of {spec.image_size} px")
    resize = spec.resize and round(spec.resize * image_size / spec.image_size)
    return replace(spec, image_size=image_size, resize=resize)


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
        self.auxiliary_heads = nn.ModuleList(nn.Linear(width, num_classes) for width in spec.auxiliary)
        self.auxiliary_weight = spec.auxiliary_weight

    def forward(self, images: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """images: float N×C×H×W in 0..1 with C = 1 or 3; returns logits N×classes.

        In training, a model with auxiliary heads returns their logits beside its own, which are the first.
        """
        if self.channels == 1 and images.shape[1] == 3:
            images = (images * self.grey_weights).sum(1, keepdim=True)
        features = self.backbone((images - self.mean) / self.std)  # a grey face broadcasts to three channels
        if isinstance(features, torch.Tensor):
            return self.head(features)
        features, *branches = features
        return self.head(features), *(head(branch) for head, branch in zip(self.auxiliary_heads, branches, strict=True))


def count_features(backbone: nn.Module, spec: ModelSpec) -> int:
    """Width of the backbone's output, from one blank face on the meta device, where nothing is computed."""
    state = {name: value.to("meta") for name, value in backbone.state_dict(keep_vars=True).items()}
    state |= {name: value.to("meta") for name, value in backbone.named_buffers()}
    face = torch.zeros(1, spec.channels, spec.image_size, spec.image_size, device="meta")
    try:
        with torch.no_grad():
            return functional_call(backbone.eval(), state, face).shape[1]
    except RuntimeError as error:  # a side below what the strides of the network leave something of
        raise UserError(f"this model cannot see faces of {spec.image_size} px ({error}); use a larger one") from error


def make_head(features: int, hidden: int | None, num_classes: int) -> nn.Sequential:
    if hidden is None:
        return nn.Sequential(nn.Dropout(), nn.Linear(features, num_classes))
    return nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Dropout(), nn.Linear(hidden, num_classes))


def set_dropout(model: nn.Module, probability: float) -> None:
    """Of all layers that drop anything; timm's backbones are full of such that do not."""
    for module in model.modules():
        if isinstance(module, nn.Dropout) and module.p > 0:
            module.p = probability


def create_model(
    name: str,
    weights: str = "none",
    dropout: float = 0.4,
    classes: Sequence[str] = EMOTIONS,
    image_size: int | None = None,
) -> FaceClassifier:
    """The model `name` with random, ImageNet or saved weights, in channels_last memory format.

    weights: "none", "imagenet" (torchvision's or timm's, needs a network or a filled cache) or a file: a checkpoint of
    this project or a state dict of the same backbone. image_size: side of its faces, by default the model's own.
    UserError for unknown names, and for weights or sides that do not fit.
    """
    spec = resized(model_spec(name), image_size)
    model = FaceClassifier(spec, len(classes))
    set_dropout(model, dropout)
    if weights == "imagenet":
        state = imagenet_state(name, spec)
        load_backbone(model.backbone, state, f"the ImageNet weights of {name}", spec.new_parts)
    elif weights != "none":
        load_file(model, name, Path(weights), classes, spec.new_parts)
    return model.to(memory_format=torch.channels_last)


def imagenet_state(name: str, spec: ModelSpec) -> dict[str, torch.Tensor]:
    if spec.imagenet is None:
        raise UserError(f"{name} has no ImageNet weights; use --weights none or --weights FILE")
    return spec.imagenet()


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


def load_file(
    model: FaceClassifier, name: str, path: Path, classes: Sequence[str], new_parts: tuple[str, ...] = ()
) -> None:
    content = read_tensors(path)
    if "state" not in content:  # a plain state dict
        return load_backbone(model.backbone, content, str(path), new_parts)
    if content["model"] != name:
        raise UserError(f"{path} holds a {content['model']}, not a {name}")
    if content["classes"] != list(classes):
        raise UserError(f"{path} was trained on other classes; take its backbone with --init-from RUN")
    model.load_state_dict(content["state"])


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
    content = {"schema": SCHEMA, **facts, "state": model.state_dict(), **info}
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
    spec = resized(model_spec(content["model"]), content.get("image_size"))
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


# ── the zoo, printed ─────────────────────────────────────────────────────────────────────────────────────────────────

LINE = "{:36} {:>10} {:>13} {:>9}  {:30} {:10} {:>8}"


def print_zoo(flags: config.Zoo) -> None:
    """One line a model: parameters with the head and in millions, multiply-adds of a face in billions, and so on."""
    device = resolve_device(flags.device)
    dtype = autocast_dtype(device)
    print(LINE.format("model", "parameters", "multiply-adds", "input", "CAM layer", "ImageNet", "faces/s"))
    for name in [*MODELS, *(TIMM + name for name in flags.timm)]:
        speed = f"{measure_speed(name, device, dtype, flags.batch_size):.0f}" if flags.speed else ""
        print(LINE.format(*describe(name), speed), flush=True)
    print("parameters in millions, multiply-adds of one face in billions; ImageNet: weights to start from,")
    print("partly: all but the new attention")
    if flags.speed:
        precision = str(dtype).removeprefix("torch.")
        print(f"faces/s: in evaluation, {flags.batch_size} at a time, {device_name(device)}, {precision}")


def describe(name: str) -> list[str]:
    """The facts of a line."""
    spec = model_spec(name)
    with torch.device("meta"):
        model = FaceClassifier(spec).eval()
    weights = ("partly" if spec.new_parts else "yes") if spec.imagenet else "no"
    cost = count_multiply_adds(model, spec) / 1e9
    sees = f"{spec.image_size} {'grey' if spec.channels == 1 else 'RGB'}"
    layer = spec.cam_layer.removeprefix("backbone.")
    return [name, f"{count_parameters(model) / 1e6:.2f}", f"{cost:.2f}", sees, layer, weights]


def count_multiply_adds(model: FaceClassifier, spec: ModelSpec) -> int:
    """Of the convolutions and matrix products of one face; `model` is on the meta device, where nothing is computed."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, spec.channels, spec.image_size, spec.image_size, device="meta"))
    return counter.get_total_flops() // 2


@torch.inference_mode()
def measure_speed(name: str, device: torch.device, dtype: torch.dtype, batch_size: int, seconds: float = 1.0) -> float:
    """Faces per second, from whole batches for at least so many seconds after two that choose kernels."""
    spec, model = model_spec(name), create_model(name).eval().to(device)
    faces = torch.zeros(batch_size, spec.channels, spec.image_size, spec.image_size, device=device)
    faces = faces.contiguous(memory_format=torch.channels_last)
    with autocast(device, dtype):
        for _ in range(2):
            model(faces)[0, 0].item()
        started, done = time.perf_counter(), 0
        while time.perf_counter() - started < seconds:
            model(faces)[0, 0].item()  # waits for the device
            done += batch_size
    return done / (time.perf_counter() - started)


def main() -> None:
    print_zoo(tyro.cli(config.Zoo))


if __name__ == "__main__":
    run_script(main)
