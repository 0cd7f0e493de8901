"""Untrained models of the zoo that answer to what they see, and faces for them."""

import functools

import torch
from torch import nn

from explanations import LogitModel
from models import MODELS, create_model

ONE_HOT = torch.eye(7)


@functools.cache
def make_model(name: str, dtype: torch.dtype = torch.float32) -> LogitModel:
    """Random weights, batch norms with the statistics of a few random faces: without them, signals fade on the way."""
    torch.manual_seed(0)
    classifier = create_model(name, dropout=0.0)
    for module in classifier.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean of all batches
    with torch.no_grad():
        classifier.train()(random_faces(4, MODELS[name].image_size, seed=9))
    return LogitModel(classifier, dtype)


def random_faces(count: int, side: int, channels: int = 1, seed: int = 0) -> torch.Tensor:
    """Noise in 0..1, N×C×side×side."""
    return torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(seed))
