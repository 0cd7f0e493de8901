"""Gradients of all logits by OpenVINO, an image at a time."""

from __future__ import annotations

import numpy as np
import openvino as ov
import torch
from torch import nn

from ferlib.inference.folding import fold, frozen_copy
from ferlib.inference.reversed_graph import gradient_model

PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}


class OpenVinoGradients(nn.Module):
    """A model on the CPU with gradients of its logits by OpenVINO.

    model: images → logits, for forward passes. compiled: image 1×C×H×W, identity → gradients classes×C×H×W.
    """

    def __init__(self, model: nn.Module, compiled: ov.CompiledModel):
        super().__init__()
        self.model, self.compiled = model, compiled
        self.identity = np.eye(compiled.output(0).shape[0], dtype=np.float32)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits N×classes."""
        return self.model(images)

    @torch.no_grad()
    def class_gradients(self, images: torch.Tensor) -> torch.Tensor:
        """Gradients of every logit with respect to the images N×C×H×W: classes×N×C×H×W."""
        pixels = images.contiguous().numpy()  # planar, as the graph takes them
        rows = (pixels[row : row + 1] for row in range(len(pixels)))
        parts = [self.compiled([row, self.identity], share_outputs=False)[0] for row in rows]
        return torch.from_numpy(np.stack(parts, 1))


@torch.inference_mode(False)
@torch.no_grad()
def openvino_gradients(
    model: nn.Module, classifier: nn.Module, images: torch.Tensor, precision: str, threads: int
) -> OpenVinoGradients:
    """The model with gradients of the classifier's logits by OpenVINO; NotReversibleError where it has no rule.

    model: computes these logits. images: at least one N×C×H×W, for the shape. precision: float32 or bfloat16.
    """
    example = images[:1].clone(memory_format=torch.contiguous_format)  # of inference mode, it could not be traced
    folded = frozen_copy(classifier)
    fold(folded, example)
    network = ov.convert_model(folded, example_input=example, input=[list(example.shape)])
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": PRECISIONS[precision],
    }
    return OpenVinoGradients(model, ov.Core().compile_model(gradient_model(network), "CPU", settings))
