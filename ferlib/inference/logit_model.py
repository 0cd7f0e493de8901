"""A classifier frozen for evaluation: images to float32 logits, in mixed precision."""

from __future__ import annotations

import torch
from torch import nn

from ferlib.runtime.devices import autocast


class LogitModel(nn.Module):
    """A classifier in evaluation mode and mixed precision: images N×C×H×W in 0..1 → float32 logits N×7.

    Its parameters are frozen: explanations need gradients of the pixels only.
    """

    def __init__(self, classifier: nn.Module, dtype: torch.dtype = torch.float32):
        super().__init__()
        self.classifier = classifier.eval().requires_grad_(False)
        self.dtype = dtype

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits N×7."""
        with autocast(images.device, self.dtype):
            return self.classifier(images).float()
