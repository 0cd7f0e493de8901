"""The VGG of Khaireddin & Chen, "Facial Emotion Recognition: State of the Art Performance on FER2013" (2021)."""

import torch
from torch import nn


def conv_stage(in_channels: int, out_channels: int) -> nn.Sequential:
    """Two 3×3 convolutions with batch norm and ReLU, then a 2×2 max pooling that halves the side."""
    layers = []
    for channels in (in_channels, out_channels):
        layers += [
            nn.Conv2d(channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers, nn.MaxPool2d(2))


class FerVgg(nn.Module):
    """Eight convolutions in four stages, then two fully connected layers: N×1×40×40 → N×4096."""

    def __init__(self, widths: tuple[int, ...] = (64, 128, 256, 512), hidden: int = 4096):
        super().__init__()
        self.features = nn.Sequential(*map(conv_stage, (1, *widths[:-1]), widths))
        self.pool = nn.AdaptiveAvgPool2d(2)  # changes nothing at 40 px; takes faces of other sizes too
        self.fully_connected = nn.Sequential(
            nn.Linear(widths[-1] * 2 * 2, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """N×1×H×W → N×hidden."""
        return self.fully_connected(self.pool(self.features(images)).flatten(1))
