"""The CIFAR-10 ResNets of He et al., "Deep residual learning" (2016), section 4.2: for small faces, of any depth."""

import torch
import torch.nn.functional as F
from torch import nn

from ferlib.networks.small_resnet import residual_branch


class PaddedBlock(nn.Module):
    """y = ReLU(F(x) + x) with two 3×3 convolutions in F (equation 1).

    Where the block halves the side, the shortcut takes every second cell and pads new channels with zeros (option A): a
    shortcut has no parameters.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.residual = residual_branch(in_channels, out_channels, stride)
        self.stride, self.new_channels = stride, out_channels - in_channels
        self.activation = nn.ReLU(inplace=True)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """N×C×h×w → N×out_channels×h'×w'."""
        shortcut = F.pad(features[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new_channels))
        return self.activation(self.residual(features) + shortcut)


class CifarResNet(nn.Module):
    """N×channels×H×W → N×(4·width): a 3×3 stem of stride 1 and three stages of n blocks, depth = 6n + 2.

    ValueError for another depth.
    """

    def __init__(self, depth: int, width: int = 16, channels: int = 1):
        super().__init__()
        blocks, rest = divmod(depth - 2, 6)
        if rest or blocks < 1:
            raise ValueError(f"a depth of {depth} is not 6n + 2; take {6 * max(blocks, 1) + 2}")
        self.stem = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )
        first = [PaddedBlock(width, width, 1)]
        halving = [[PaddedBlock(width, 2 * width, 2)], [PaddedBlock(2 * width, 4 * width, 2)]]
        stages = []
        for stage, head in enumerate([first, *halving]):
            stages += head + [PaddedBlock(width << stage, width << stage, 1) for _ in range(blocks - 1)]
        self.stages = nn.Sequential(*stages)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """N×channels×H×W → N×(4·width)."""
        return self.stages(self.stem(images)).mean((2, 3))
