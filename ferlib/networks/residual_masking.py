"""The network of Pham et al., "Facial expression recognition using residual masking network" (2020)."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet


def residual_block(in_channels: int, out_channels: int) -> BasicBlock:
    """A block that starts as its shortcut, a 1×1 convolution with batch norm."""
    shortcut = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels))
    block = BasicBlock(in_channels, out_channels, downsample=shortcut)
    nn.init.zeros_(block.bn2.weight)
    return block


def upscale(in_channels: int, out_channels: int) -> nn.Sequential:
    """Doubles the side."""
    convolution = nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))


class Mask(nn.Module):
    """F + F ⊗ M(F): M is a small U-Net of `depth` levels, whose channels double from one to the next.

    The U-Net is that of Ronneberger et al. (2015) with residual blocks; its output becomes a mask in 0..1 by a softmax
    over the channels, as in the authors' code.
    """

    def __init__(self, channels: int, depth: int):
        super().__init__()
        widths = [channels * 2**level for level in range(depth + 1)]
        self.encoder = nn.ModuleList(residual_block(*pair) for pair in pairwise(widths))
        steps = list(pairwise(reversed(widths[1:])))
        self.upscalers = nn.ModuleList(upscale(*pair) for pair in steps)
        self.decoder = nn.ModuleList(residual_block(*pair) for pair in steps)
        self.output = residual_block(widths[1], channels)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """N×C×h×w → N×C×h×w."""
        *levels, cells = self.encode(features)
        for upscaler, block, level in zip(self.upscalers, self.decoder, reversed(levels), strict=True):
            larger = upscaler(cells)[..., : level.shape[2], : level.shape[3]]  # an odd side was rounded up
            cells = block(torch.cat([larger, level], 1))
        return features * (1 + self.output(cells).softmax(1))

    def encode(self, features: torch.Tensor) -> list[torch.Tensor]:
        """The cells of every level; each has half the side of the one before it."""
        levels = [self.encoder[0](features)]
        for block in self.encoder[1:]:
            levels.append(block(F.max_pool2d(levels[-1], 2, ceil_mode=True)))
        return levels


class ResidualMaskingNetwork(ResNet):
    """N×3×H×W → N×512: a ResNet-34, each of whose stages is followed by its mask, of 4, 3, 2 and 1 levels.

    torchvision's layers keep their names, so that its ResNet-34 weights fit.
    """

    def __init__(self):
        super().__init__(BasicBlock, [3, 4, 6, 3])
        self.mask1, self.mask2, self.mask3, self.mask4 = map(Mask, (64, 128, 256, 512), (4, 3, 2, 1))
        self.fc = nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """N×3×H×W → N×512."""
        features = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        features = self.mask1(self.layer1(features))
        features = self.mask2(self.layer2(features))
        features = self.mask3(self.layer3(features))
        return self.avgpool(self.mask4(self.layer4(features))).flatten(1)
