"""Untrained models of the zoo at a small size whose outputs depend on the image, and faces for them."""

import functools
from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from config import EMOTIONS
from ferlib.faces.face_model import FaceModel
from ferlib.inference.logit_model import LogitModel
from ferlib.networks.classifier import FaceClassifier, set_dropout
from models import MODELS, Checkpoint, ModelSpec, model_spec

ONE_HOT = torch.eye(7)
TIMM = ("timm/convnext_tiny", "timm/swin_tiny_patch4_window7_224", "timm/vit_small_patch16_224")
ZOO = (*MODELS, *TIMM)
LARGER = {"vgg19_bn", "resnet34", "resnet101", "resnet152", "efficientnet_b2", "cifar_resnet56"}  # of the same blocks
KINDS = tuple(name for name in ZOO if name not in LARGER)
THREE = ("mini_resnet", "resnet18", "timm/vit_small_patch16_224")  # small and grey, of torchvision, a transformer
LIGHT = tuple(name for name in KINDS if name != "rmn")  # whose residual blocks and attention others have, too
SIDES = {"inception_v3": 128}  # of models that need more than 64 px


def slow_unless(fast: Collection[Any], values: Iterable[Any]) -> list:
    """Parameters of a test: the values, those that are not in `fast` marked slow."""
    return [pytest.param(value, marks=[pytest.mark.slow] * (value not in fast)) for value in values]


def small_spec(name: str) -> ModelSpec:
    """A model's specification for small faces; transformers are built for such."""
    spec = model_spec(name)
    side = SIDES.get(name, min(spec.image_size, 64))
    backbone = functools.partial(spec.backbone, img_size=side) if name in TIMM[1:] else spec.backbone
    return replace(spec, backbone=backbone, image_size=side, resize=None)


def make_model(name: str, dtype: torch.dtype = torch.float32) -> LogitModel:
    """Images → logits."""
    return LogitModel(make_classifier(name), dtype)


@functools.cache
@torch.inference_mode(False)  # it is cached, and the first caller may be in that mode
def make_classifier(name: str) -> FaceClassifier:
    """Random weights; batch norms have the statistics of a few random faces, as activations vanish without them."""
    torch.manual_seed(0)
    spec = small_spec(name)
    classifier = FaceClassifier(spec).to(memory_format=torch.channels_last).eval()
    set_dropout(classifier, 0.0)
    for module in classifier.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train().momentum = None  # the mean of all batches
    with torch.no_grad():
        classifier(random_faces(4, spec.image_size, seed=9))
    return classifier.eval()


def random_faces(count: int, side: int, channels: int = 1, seed: int = 0) -> torch.Tensor:
    """Noise in 0..1, N×C×side×side."""
    return torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(seed))


class Channels(nn.Module):
    """The mean of each colour at the upper left: the logits of the first three classes."""

    def __init__(self):
        super().__init__()
        self.cells = nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.cells(images)[..., :8, :8].mean((2, 3))


def colour_model(dataset: str = "synthetic", size: int = 48) -> FaceModel:
    """A model whose logit of class c is the mean of colour c at the upper left; nothing is normalised."""
    spec = ModelSpec(Channels, "backbone.cells", image_size=size, mean=(0.0,) * 3, std=(1.0,) * 3)
    model = FaceClassifier(spec)
    model.head = nn.Linear(3, len(EMOTIONS), bias=False)
    nn.init.zeros_(model.head.weight)
    model.head.weight.data[:3, :3] = torch.eye(3)
    checkpoint = Checkpoint(model.eval(), spec, {"model": "colours", "dataset": dataset})
    return FaceModel(checkpoint, "colours", torch.device("cpu"))
