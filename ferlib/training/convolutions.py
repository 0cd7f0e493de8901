"""Convolutions whose gradients in bfloat16 are fast on CPUs, where oneDNN's own are not.

oneDNN emulates the gradients of depthwise convolutions in bfloat16: networks full of them train at half the speed of
float32. Its gradient of the kernel of wide layers on few cells takes up to four times as long as the same sum
written as one product of matrices. benchmarks/bench_train.py measures both.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.grad import conv2d_input

FEW_CELLS = 64  # cells of the output, up to which the product of matrices is faster
WIDE = 12_000  # input times output channels, from which it is


class KernelGradient(torch.autograd.Function):
    """A convolution whose gradient of the kernel is one product of matrices."""

    @staticmethod
    def forward(ctx: Any, images: torch.Tensor, kernel: torch.Tensor, stride: int, padding: int) -> torch.Tensor:
        """images N×C×H×W, kernel O×C×k×k, both of one type → N×O×H'×W'."""
        ctx.save_for_backward(images, kernel)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(images, kernel, None, stride, padding)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None, None]:
        """The gradients of images and kernel."""
        images, kernel = ctx.saved_tensors
        of_images = of_kernel = None
        if ctx.needs_input_grad[0]:
            of_images = conv2d_input(images.shape, kernel, gradient, ctx.stride, ctx.padding)
        if ctx.needs_input_grad[1]:
            of_kernel = kernel_gradient(gradient, images, kernel.shape[-1], ctx.stride, ctx.padding)
        return of_images, of_kernel, None, None


def kernel_gradient(gradient: torch.Tensor, images: torch.Tensor, side: int, stride: int, padding: int) -> torch.Tensor:
    """O×C×side×side: sums over all cells of gradient N×O×H×W times the patch of images N×C×H'×W' that the cell saw."""
    (count, out_channels, height, width), channels = gradient.shape, images.shape[1]
    padded = F.pad(images.permute(0, 2, 3, 1), (0, 0, padding, padding, padding, padding))
    patches = padded.new_empty(count, height, width, side, side, channels)
    for down in range(side):
        rows = slice(down, down + stride * (height - 1) + 1, stride)
        for right in range(side):
            columns = slice(right, right + stride * (width - 1) + 1, stride)
            patches[:, :, :, down, right] = padded[:, rows, columns]
    cells = gradient.permute(0, 2, 3, 1).reshape(-1, out_channels)
    product = cells.T @ patches.view(len(cells), -1)
    return product.view(out_channels, side, side, channels).permute(0, 3, 1, 2)


class WideConv2d(nn.Conv2d):
    """A convolution of many channels without bias, groups and dilation, with equal strides and paddings."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """N×C×H×W → N×O×H'×W', as nn.Conv2d."""
        stride, padding, side = self.stride[0], int(self.padding[0]), self.kernel_size[0]
        cells = [(length + 2 * padding - side) // stride + 1 for length in input.shape[2:]]
        if not torch.is_autocast_enabled("cpu") or cells[0] * cells[1] > FEW_CELLS:
            return super().forward(input)
        dtype = torch.get_autocast_dtype("cpu")
        return KernelGradient.apply(input.to(dtype), self.weight.to(dtype), stride, padding)


class InFloat32:
    """Placed before a class of convolutions, it keeps autocast from them."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """As the class that follows, in float32."""
        with torch.autocast("cpu", enabled=False):
            return super().forward(input.float())  # type: ignore[misc]


def use_fast_gradients(model: nn.Module) -> None:
    """Gives the convolutions of a model, in place, the class above that suits them; their weights stay as they are."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.groups > 1:
            kind = type(module)
            module.__class__ = type(f"{kind.__name__}InFloat32", (InFloat32, kind), {})
        elif type(module) is nn.Conv2d and is_wide(module):
            module.__class__ = WideConv2d


def is_wide(module: nn.Conv2d) -> bool:
    """Whether a convolution is one that WideConv2d computes."""
    plain = module.bias is None and module.dilation == (1, 1) and module.padding_mode == "zeros"
    square = all(len(set(sides)) == 1 for sides in (module.kernel_size, module.stride, module.padding))
    wide = module.in_channels * module.out_channels >= WIDE
    return plain and square and not isinstance(module.padding, str) and module.kernel_size[0] > 1 and wide
