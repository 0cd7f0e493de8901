"""Networks compiled where the number of passes pays for it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import torch
from torch import nn

COMPILE_WORTH = 120  # seconds of forward passes from which compiling them, some 10 to 20 s, pays off


class CompiledIfWorth(nn.Module):
    """A frozen model that is compiled for batches of one shape if the remaining passes take longer than COMPILE_WORTH.

    Only forward passes gain by it (operations between two convolutions become one pass over memory): passes with
    gradients, and batches of other shapes, use the model as it is. The first whole batch selects kernels; the time of
    the second one decides.
    """

    def __init__(self, model: nn.Module, shape: torch.Size, passes: int):
        super().__init__()
        self.model, self.shape, self.batches = model, shape, passes // shape[0]
        self.chosen: Callable[[torch.Tensor], torch.Tensor] | None = None
        self.warm = False

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits N×7."""
        if images.shape != self.shape or torch.is_grad_enabled():
            return self.model(images)
        if self.chosen is not None:
            return self.chosen(images)
        start = time.perf_counter()
        outputs = self.model(images)
        outputs[0, 0].item()  # waits for the device
        if self.warm:
            worth = (time.perf_counter() - start) * self.batches >= COMPILE_WORTH
            self.chosen = compile_or_keep(self.model, images) if worth else self.model
        self.warm = True
        return outputs


def compile_or_keep(model: nn.Module, images: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """The compiled model, tried on the images; the model itself, which is printed, where it cannot be compiled."""
    compiled = torch.compile(model, dynamic=False)
    try:
        compiled(images)
    except Exception as error:  # no compiler, no Triton, an unsupported operation: many classes of errors
        reason = " ".join(str(error).splitlines()[:2])  # of the compiler, the second line says what is wrong
        print(f"not compiled, which takes a little longer: {reason}", file=sys.stderr)
        return model
    return compiled
