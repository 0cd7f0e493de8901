"""ResNet-50 with the attention of Park et al., "BAM: Bottleneck attention module" (2018), where its stages end."""

import torch
from torch import nn
from torchvision.models.resnet import Bottleneck, ResNet


def conv_norm_relu(in_channels: int, out_channels: int, side: int = 1, dilation: int = 1) -> list[nn.Module]:
    """A convolution that keeps the size, batch norm, ReLU."""
    padding = dilation * (side // 2)
    convolution = nn.Conv2d(in_channels, out_channels, side, padding=padding, dilation=dilation)
    return [convolution, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)]


class BottleneckAttention(nn.Module):
    """F + F ⊗ M(F) with M(F) = σ(Mc(F) + Ms(F)) (Park et al. 2018, equations 1 and 2).

    channels: Mc(F) = BN(MLP(AvgPool(F))), N×C×1×1 (equation 3), its two layers written as 1×1 convolutions.
    places: Ms(F) = BN(f(f(f(f(F))))), N×1×h×w (equation 4): 1×1, twice 3×3 with dilation 4, 1×1.
    """

    def __init__(self, channels: int, reduction: int = 16, dilation: int = 4):
        super().__init__()
        hidden = channels // reduction
        self.channels = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, hidden, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, channels, 1),
            nn.BatchNorm2d(channels),
        )
        self.places = nn.Sequential(
            *conv_norm_relu(channels, hidden),
            *conv_norm_relu(hidden, hidden, 3, dilation),
            *conv_norm_relu(hidden, hidden, 3, dilation),
            nn.Conv2d(hidden, 1, 1),
            nn.BatchNorm2d(1),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """N×C×h×w → N×C×h×w."""
        return features * (1 + (self.channels(features) + self.places(features)).sigmoid())


class BamResNet50(ResNet):
    """N×3×H×W → N×2048, attention after the first three stages (figure 1).

    torchvision's layers keep their names, so that its ResNet-50 weights fit.
    """

    def __init__(self):
        super().__init__(Bottleneck, [3, 4, 6, 3])
        self.attention1, self.attention2, self.attention3 = map(BottleneckAttention, (256, 512, 1024))
        self.fc = nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """N×3×H×W → N×2048."""
        features = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        features = self.attention1(self.layer1(features))
        features = self.attention2(self.layer2(features))
        features = self.attention3(self.layer3(features))
        return self.avgpool(self.layer4(features)).flatten(1)
