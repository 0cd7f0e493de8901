"""Layers whose gradients are slow on the CPU, with faster ones of the same values."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn


def speed_up_gradients(model: nn.Module) -> None:
    """Gives layers whose gradients are slow on the CPU faster ones of the same values."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and is_plain_strided(module):
            module.__class__ = strided_kind(module)
        elif type(module) is nn.AdaptiveAvgPool2d and module.output_size in (1, (1, 1)):
            module.__class__ = GlobalAverage


class GlobalAverage(nn.AdaptiveAvgPool2d):
    """The mean over the cells, whose gradient is expanded from one number a channel instead of copied to every cell.

    Squeeze-and-excitation adds that gradient to another one, and adding a copy of another memory layout is slow.
    """

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """N×C×h×w → N×C×1×1."""
        return _GlobalAverage.apply(features)


class _GlobalAverage(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: torch.Tensor) -> torch.Tensor:
        ctx.shape = features.shape
        return features.mean((2, 3), keepdim=True)

    @staticmethod
    def backward(ctx: Any, gradients: torch.Tensor) -> torch.Tensor:
        return (gradients / math.prod(ctx.shape[2:])).expand(ctx.shape)


STEM_CHANNELS = 4


def is_plain_strided(layer: nn.Conv2d) -> bool:
    """Whether a convolution has a stride, zero padding and no dilation."""
    plain = layer.padding_mode == "zeros" and not isinstance(layer.padding, str) and set(layer.dilation) == {1}
    return plain and max(layer.stride) > 1


def strided_kind(layer: nn.Conv2d) -> type[nn.Conv2d]:
    """The class with faster gradients for this layer; its own class where there is none."""
    if layer.groups == layer.in_channels == layer.out_channels:
        return StridedDepthwise
    if layer.groups == 1 and layer.in_channels <= STEM_CHANNELS and len(set(layer.stride)) == 1:
        return StridedStem
    return type(layer)


class Strided(nn.Conv2d):
    """A convolution with a stride, whose weights are fixed, with a fast gradient of its input by `input_gradient`."""

    input_gradient: ClassVar[Callable[..., torch.Tensor]]

    def _conv_forward(self, images: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        if torch.is_autocast_enabled(images.device.type):
            images = images.to(weight.dtype)
        return _Strided.apply(images, weight, bias, self.stride, self.padding, self.groups, self.input_gradient)


class _Strided(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        images: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        stride: tuple[int, int],
        padding: tuple[int, int],
        groups: int,
        input_gradient: Callable[..., torch.Tensor],
    ) -> torch.Tensor:
        ctx.save_for_backward(weight)
        ctx.size, ctx.stride, ctx.padding, ctx.input_gradient = images.shape[-2:], stride, padding, input_gradient
        return F.conv2d(images, weight, bias, stride, padding, groups=groups)

    @staticmethod
    def backward(ctx: Any, gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        return ctx.input_gradient(gradients, weight, ctx.size, ctx.stride, ctx.padding), *(None,) * 6


def input_gradient_by_shuffle(
    gradients: torch.Tensor,
    weight: torch.Tensor,
    size: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> torch.Tensor:
    """Gradient of a convolution's input N×C×`size`, given its output's and the weight O×C×k×k; equal strides.

    One convolution without a stride computes the pixels of all phases (see input_gradient_by_phase) as channels, which
    are then rearranged (Shi et al., "Real-time single image and video super-resolution using an efficient sub-pixel
    convolutional neural network", 2016, section 2.2): with three channels, one phase alone leaves the processor idle.
    """
    step = stride[0]
    phases, margins = phases_as_channels(weight, size, step, padding, gradients.shape[-2:])
    phases = phases.contiguous(memory_format=torch.channels_last)
    return F.pixel_shuffle(F.conv2d(F.pad(gradients, margins), phases), step)[..., : size[0], : size[1]]


def phases_as_channels(
    weight: torch.Tensor, size: Sequence[int], step: int, padding: Sequence[int], cells: Sequence[int]
) -> tuple[torch.Tensor, tuple[int, int, int, int]]:
    """The weight (C · step²)×O×k'×k' of that convolution, and the zeros to put around the gradients N×O×`cells`."""
    sides = zip(weight.shape[-2:], padding, size, cells, strict=True)
    (row_ends, row_margins), (column_ends, column_margins) = (group_taps(step, *side) for side in sides)
    whole = F.pad(weight, (*column_ends, *row_ends))
    outputs, channels, *taps = whole.shape
    rows, columns = (side // step for side in taps)
    phases = whole.view(outputs, channels, rows, step, columns, step).flip(2, 4).permute(1, 3, 5, 0, 2, 4)
    return phases.reshape(-1, outputs, rows, columns), (*column_margins, *row_margins)


def group_taps(step: int, taps: int, padding: int, pixels: int, cells: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Zeros around the taps of one side, so that groups of `step` begin with phase 0; and around the gradients."""
    before = -padding % step
    after = -(taps + before) % step
    groups, offset = (before + taps + after) // step, (padding + before) // step
    return (before, after), (groups - 1 - offset, -(-pixels // step) + offset - cells)


def input_gradient_by_phase(
    gradients: torch.Tensor,
    weight: torch.Tensor,
    size: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> torch.Tensor:
    """Gradient of a depthwise convolution's input N×C×`size`, given its output's and the weight C×1×k×k.

    Pixels whose coordinates have the same remainder modulo the stride are reached by the same taps of the kernel, so
    each such phase is a small convolution without a stride (Shi et al., "Is the deconvolution layer the same as a
    convolutional layer?", 2016).
    """
    shape = (*gradients.shape[:2], *size)
    spread = torch.empty(shape, dtype=gradients.dtype, memory_format=torch.channels_last)
    sides = zip(size, stride, padding, weight.shape[-2:], gradients.shape[-2:], strict=True)
    rows, columns = ([find_phase(phase, *side) for phase in range(side[1])] for side in sides)
    for i, (row_taps, *row_padding) in enumerate(rows):
        for j, (column_taps, *column_padding) in enumerate(columns):
            taps = weight[:, :, row_taps, column_taps].flip(2, 3)
            padded = F.pad(gradients, (*column_padding, *row_padding))
            pixels = spread[:, :, i :: stride[0], j :: stride[1]]
            pixels.copy_(F.conv2d(padded, taps, groups=len(weight)) if taps.numel() else torch.zeros(()))
    return spread


def find_phase(phase: int, size: int, stride: int, padding: int, taps: int, outputs: int) -> tuple[slice, int, int]:
    """Of the pixels phase, phase + stride, …: the taps that reach them, and the zeros to add before and after.

    Pixel i gets output o through tap i + padding − stride · o.
    """
    first = (phase + padding) % stride
    reach = len(range(first, taps, stride)) - 1
    offset = (phase + padding) // stride
    pixels = len(range(phase, size, stride))
    return slice(first, None, stride), reach - offset, offset + pixels - outputs


class StridedDepthwise(Strided):
    """The CPU kernel of a depthwise layer's gradient takes 10 to 30 times as long as its forward pass."""

    input_gradient = staticmethod(input_gradient_by_phase)


class StridedStem(Strided):
    """The CPU kernel of the gradient of three channels takes some 6 times as long as the forward pass."""

    input_gradient = staticmethod(input_gradient_by_shuffle)
