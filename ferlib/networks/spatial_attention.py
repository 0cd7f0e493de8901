"""ResNet-34 with spatial attention: in every block, positions of the residual are weighted before the sum.

The attention is the spatial half of Woo et al., "CBAM: Convolutional block attention module" (2018), section 3.
"""

import torch
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet


class SpatialAttention(nn.Module):
    """F ⊗ σ(f([AvgPool(F); MaxPool(F)])): a 7×7 convolution over the mean and the maximum of the channels.

    Woo et al. 2018, equation 3; with a batch norm before the sigmoid, as in the authors' code.
    """

    def __init__(self, side: int = 7):
        super().__init__()
        self.convolution = nn.Conv2d(2, 1, side, padding=side // 2, bias=False)
        self.norm = nn.BatchNorm2d(1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """N×C×h×w → N×C×h×w."""
        maps = torch.cat([features.mean(1, keepdim=True), features.amax(1, keepdim=True)], 1)  # N,2,h,w
        return features * self.norm(self.convolution(maps)).sigmoid()


class SpatialAttentionBlock(BasicBlock):
    """y = ReLU(attention(F(x)) + shortcut(x))."""

    def __init__(self, in_channels: int, channels: int, *options, **more):
        super().__init__(in_channels, channels, *options, **more)
        self.attention = SpatialAttention()

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """N×C×h×w → N×channels×h'×w'."""
        residual = self.relu(self.bn1(self.conv1(features)))
        residual = self.attention(self.bn2(self.conv2(residual)))
        return self.relu(residual + (self.downsample(features) if self.downsample else features))


class SpatialAttentionResNet34(ResNet):
    """N×3×H×W → N×512; torchvision's layers keep their names, so that its ResNet-34 weights fit."""

    def __init__(self):
        super().__init__(SpatialAttentionBlock, [3, 4, 6, 3])
        self.fc = nn.Identity()
