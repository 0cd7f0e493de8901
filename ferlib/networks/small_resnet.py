"""A residual network for faces of 40 to 48 px: 3×3 stem of stride 1, so that no detail is lost before the first block.

Basic blocks after He et al., "Deep Residual Learning" (2016), as in its CIFAR-10 networks (section 4.2).
"""

import torch
import torch.nn.functional as F
from torch import nn


def residual_branch(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """F of a basic block: two 3×3 convolutions, each with batch norm, a ReLU between them."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
    )


class BasicBlock(nn.Module):
    """y = ReLU(F(x) + shortcut(x)) with two 3×3 convolutions in F (He et al. 2016, equation 2)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.residual = residual_branch(in_channels, out_channels, stride)
        nn.init.zeros_(self.residual.get_parameter("4.weight"))  # a block starts as its shortcut
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.AvgPool2d(stride, ceil_mode=True) if stride > 1 else nn.Identity(),
                nn.Conv2d(in_channels, out_channels, 1, bias=False),
                nn.BatchNorm2d(out_channels),
            )
        self.activation = nn.ReLU(inplace=True)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """N×C×h×w → N×out_channels×h'×w'."""
        return self.activation(self.residual(features) + self.shortcut(features))


class CellPool(nn.Module):
    """N×C×H×W → N×C×grid×grid: means over cells, as nn.AdaptiveAvgPool2d; faster where the cells are equal."""

    def __init__(self, grid: int):
        super().__init__()
        self.grid = grid

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """N×C×grid×grid."""
        height, width = features.shape[2:]
        if height % self.grid or width % self.grid:
            return F.adaptive_avg_pool2d(features, self.grid)
        return F.avg_pool2d(features, (height // self.grid, width // self.grid))


class SmallResNet(nn.Module):
    """N×channels×H×W → N×(widths[-1]·grid²); every stage after the first halves the side.

    The last stage is averaged to grid×grid cells: 1 is global pooling, more keeps the positions of features.
    """

    def __init__(self, widths: tuple[int, ...], blocks: tuple[int, ...], channels: int = 1, grid: int = 1):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(channels, widths[0], 3, padding=1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU(inplace=True)
        )
        stages, width_in = [], widths[0]
        for stage, (width, depth) in enumerate(zip(widths, blocks, strict=True)):
            for block in range(depth):
                stages.append(BasicBlock(width_in, width, stride=2 if stage and not block else 1))
                width_in = width
        self.stages = nn.Sequential(*stages)
        self.pool = CellPool(grid)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """N×channels×H×W → N×(widths[-1]·grid²)."""
        return self.pool(self.stages(self.stem(images))).flatten(1)
