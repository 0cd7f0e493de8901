"""Untrained models of the zoo that answer to what they see, at a small size, and faces for them."""

import functools
from dataclasses import replace

import torch
from torch import nn

from ferlib.explanations.subject import LogitModel
from ferlib.networks.classifier import FaceClassifier, set_dropout
from models import MODELS, ModelSpec, model_spec

ONE_HOT = torch.eye(7)
TIMM = ("timm/convnext_tiny", "timm/swin_tiny_patch4_window7_224", "timm/vit_small_patch16_224")
ZOO = (*MODELS, *TIMM)
LARGER = {"vgg19_bn", "resnet34", "resnet101", "resnet152", "efficientnet_b2", "cifar_resnet56"}  # of the same blocks
KINDS = tuple(name for name in ZOO if name not in LARGER)
SIDES = {"inception_v3": 128}  # of models that cannot do with 64 px


def small_spec(name: str) -> ModelSpec:
    """The facts of a model for small faces; transformers are built for such."""
    spec = model_spec(name)
    side = SIDES.get(name, min(spec.image_size, 64))
    backbone = functools.partial(spec.backbone, img_size=side) if name in TIMM[1:] else spec.backbone
    return replace(spec, backbone=backbone, image_size=side, resize=None)


def make_model(name: str, dtype: torch.dtype = torch.float32) -> LogitModel:
    return LogitModel(make_classifier(name), dtype)


@functools.cache
@torch.inference_mode(False)  # it is kept, and whoever asks first may be in that mode
def make_classifier(name: str) -> FaceClassifier:
    """Random weights, batch norms with the statistics of a few random faces: without them, signals fade on the way."""
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
