"""Gradients of every logit from one forward pass."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn


def class_gradients(model: nn.Module, images: torch.Tensor) -> Iterator[torch.Tensor]:
    """Gradients of each logit in turn with respect to the images N×C×H×W, from one forward pass."""
    with torch.enable_grad():
        images = images.detach().requires_grad_()
        totals = model(images).sum(0).unbind()
    for label, total in enumerate(totals, start=1):
        yield torch.autograd.grad(total, images, retain_graph=label < len(totals))[0]
