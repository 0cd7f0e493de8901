"""Operations on whole numbers of 8 bits."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple
from weakref import WeakValueDictionary

import torch
from torch import fx

from ferlib.inference.int8 import gradients
from ferlib.inference.int8.graphs import POOL

STEPS = 255  # of an activation's range
WEIGHT_STEPS = 127  # on either side of zero
NUMBERS = itertools.count()
PACKED: WeakValueDictionary[int, PackedConvolution] = WeakValueDictionary()  # for graphs, which cannot hold the weights


class Steps(NamedTuple):
    """What the 256 numbers of 8 bits stand for: scale · (number − zero)."""

    scale: float
    zero: int

    @classmethod
    def of(cls, low: float, high: float) -> Steps:
        scale = max(high - low, 1e-6) / STEPS
        return cls(scale, round(-low / scale))


def to_whole(features: torch.Tensor, scale: float, zero: int) -> torch.Tensor:
    whole = (torch.round(features.float() * (1 / scale)) + zero).clamp(0, STEPS).to(torch.uint8)
    return whole.contiguous(memory_format=torch.channels_last)


def to_real(features: torch.Tensor, scale: float, zero: int) -> torch.Tensor:
    return (features.to(torch.bfloat16) - zero) * scale  # exact but for the product


def pool(
    features: torch.Tensor,
    kernel: list[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    whole_cells: bool = False,
    zero: int = 0,
) -> torch.Tensor:
    return torch.ops.quantized.max_pool2d(features, kernel, stride or kernel, padding, dilation, whole_cells)


# by what they are in floating point: operations that move numbers; their last argument is the one that stands for zero
MOVES = {POOL: pool, **{move: move for move in gradients.MOVES}}


class PackedConvolution:
    """The weights of a convolution as oneDNN wants them, and how its output is handed on.

    geometry: stride, padding, dilation and groups. batch: N, C, H and W of what comes. activation: by oneDNN's name.
    entry, exit, added: what the numbers of 8 bits of its input, its output and its summand stand for; without `exit`
    its output is in bfloat16.
    """

    def __init__(
        self,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        geometry: Sequence,
        batch: list[int],
        activation: str,
        entry: Steps,
        exit: Steps | None,
        added: Steps | None,
    ):
        self.geometry = geometry
        self.scales = weight.abs().amax((1, 2, 3)).clamp(min=1e-8) / WEIGHT_STEPS
        whole = torch.round(weight / self.scales.view(-1, 1, 1, 1)).clamp(-WEIGHT_STEPS, WEIGHT_STEPS).to(torch.int8)
        self.channels, _, *self.kernel = weight.shape
        self.zeros = torch.zeros(self.channels, dtype=torch.int32)
        self.bias = None if bias is None else bias.float()
        self.input, self.output, self.added = entry, exit or Steps(1.0, 0), added
        self.dtype = torch.bfloat16 if exit is None else torch.uint8
        self.after = activation
        self.is_product = added is not None and [*self.kernel, *geometry[0], *geometry[1]] == [1, 1, 1, 1, 0, 0]
        if self.is_product:  # oneDNN's product adds in place, where its convolution makes a copy
            self.weight = torch.ops.onednn.qlinear_prepack(whole.flatten(1), None)
        else:
            self.weight = torch.ops.onednn.qconv_prepack(whole, self.scales, *self.input, *self.geometry, batch)
        self.number = next(NUMBERS)
        PACKED[self.number] = self

    def __call__(self, features: torch.Tensor) -> torch.Tensor:
        return torch.ops.onednn.qconv2d_pointwise(
            features, *self.input, self.weight, self.scales, self.zeros, self.bias, *self.geometry, *self.output,
            self.dtype, self.after, [], "",
        )  # fmt: skip

    def add(self, features: torch.Tensor, added: torch.Tensor) -> None:
        """Adds what a call returns, but for its activation, to `added` in place, and takes that of the sum."""
        after = (*self.output, self.dtype, *self.added, "sum", 1.0, self.after, [], "")
        if self.is_product:
            cells, total = (tensor.permute(0, 2, 3, 1) for tensor in (features, added))
            torch.ops.onednn.qlinear_pointwise.binary(
                cells.flatten(0, 2), *self.input, self.weight, self.scales, self.zeros,
                total.view(-1, self.channels), self.bias, *after,
            )  # fmt: skip
        else:
            torch.ops.onednn.qconv2d_pointwise.binary(
                features, *self.input, self.weight, self.scales, self.zeros, added, self.bias, *self.geometry, *after
            )

    def blank(self, features: torch.Tensor) -> torch.Tensor:
        """What a call returns, but for its values."""
        stride, padding, dilation, _ = self.geometry
        sides = [
            (side + 2 * pad - gap * (taps - 1) - 1) // step + 1
            for side, pad, gap, taps, step in zip(
                features.shape[2:], padding, dilation, self.kernel, stride, strict=True
            )
        ]
        shape = (features.shape[0], self.channels, *sides)
        return torch.empty(shape, dtype=self.dtype, device=features.device, memory_format=torch.channels_last)


def convolve(features: torch.Tensor, number: int) -> torch.Tensor:
    """Convolution `number` of uint8 features N×C×H×W."""
    return PACKED[number](features)


@fx.node.has_side_effect
def convolve_and_add(features: torch.Tensor, added: torch.Tensor, number: int) -> None:
    """Adds convolution `number` of uint8 features N×C×H×W to `added`, uint8 too."""
    PACKED[number].add(features, added)


# the same for the compiler, which must not look into them; called without it they take 50 µs longer
OPAQUE = {
    convolve: torch.library.custom_op("faces::int8_convolution", convolve, mutates_args=()),
    convolve_and_add: torch.library.custom_op("faces::int8_sum", convolve_and_add, mutates_args=("added",)),
}


@OPAQUE[convolve].register_fake
def _(features: torch.Tensor, number: int) -> torch.Tensor:
    return PACKED[number].blank(features)
