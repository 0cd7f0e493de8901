"""ResNet-50 with the attention of Woo et al., "CBAM: Convolutional block attention module" (2018)."""

import torch
from torch import nn
from torchvision.models.resnet import Bottleneck, ResNet

from ferlib.networks.spatial_attention import SpatialAttention


class ChannelAttention(nn.Module):
    """F ⊗ σ(MLP(AvgPool(F)) + MLP(MaxPool(F))), one two-layer perceptron for both (Woo et al. 2018, equation 2)."""

    def __init__(self, channels: int, reduction: int = 16):
        super().__init__()
        hidden = channels // reduction
        self.perceptron = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """N×C×h×w → N×C×h×w."""
        weights = self.perceptron(features.mean((2, 3))) + self.perceptron(features.amax((2, 3)))  # N,C
        return features * weights.sigmoid()[..., None, None]


class CbamBottleneck(Bottleneck):
    """y = ReLU(M(F(x)) + shortcut(x)): channels are weighted first, then positions (equation 1 and figure 3)."""

    def __init__(self, in_channels: int, channels: int, *options, **more):
        super().__init__(in_channels, channels, *options, **more)
        self.attention = nn.Sequential(ChannelAttention(channels * self.expansion), SpatialAttention())

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """N×C×h×w → N×4·channels×h'×w'."""
        residual = self.relu(self.bn1(self.conv1(features)))
        residual = self.relu(self.bn2(self.conv2(residual)))
        residual = self.attention(self.bn3(self.conv3(residual)))
        return self.relu(residual + (self.downsample(features) if self.downsample else features))


class CbamResNet50(ResNet):
    """N×3×H×W → N×2048; torchvision's layers keep their names, so that its ResNet-50 weights fit."""

    def __init__(self):
        super().__init__(CbamBottleneck, [3, 4, 6, 3])
        self.fc = nn.Identity()
