"""RetinaFace with a MobileNet of a quarter of the width: faces and five landmarks of each, in one pass over a picture.

Deng et al., "RetinaFace: Single-stage dense face localisation in the wild" (2019); MobileNet: Howard et al. (2017);
the pyramid of features: Lin et al., "Feature pyramid networks" (2017); the context modules: Najibi et al., "SSH: Single
stage headless face detector" (2017). The names of the parts are those of the published weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import nms

from ferlib.faces.crops import DetectedFace
from ferlib.faces.detection import Search
from ferlib.networks.tensor_files import read_tensors
from ferlib.runtime.errors import UserError

STRIDES = (8, 16, 32)  # of the three levels of the pyramid, in pixels
ANCHORS = ((16, 32), (64, 128), (256, 512))  # sides of each level's square anchors in pixels
VARIANCES = (0.1, 0.2)  # by which centres and the logarithm of sizes were divided in training, as in SSD
MEAN_BGR = (104.0, 117.0, 123.0)
LEAK, WIDTH = 0.1, 64


def convolve(in_channels: int, out_channels: int, size: int, stride: int = 1, leak: float | None = LEAK) -> nn.Module:
    """Convolution, batch norm and, unless `leak` is None, a leaky ReLU."""
    layers = [
        nn.Conv2d(in_channels, out_channels, size, stride, padding=size // 2, bias=False),
        nn.BatchNorm2d(out_channels),
    ]
    return nn.Sequential(*layers, *([] if leak is None else [nn.LeakyReLU(leak)]))


def separable(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """A depthwise 3×3 convolution and a pointwise one, each with batch norm (Howard et al. 2017, figure 3)."""
    return nn.Sequential(
        nn.Conv2d(in_channels, in_channels, 3, stride, padding=1, groups=in_channels, bias=False),
        nn.BatchNorm2d(in_channels),
        nn.LeakyReLU(LEAK),
        nn.Conv2d(in_channels, out_channels, 1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.LeakyReLU(LEAK),
    )


def stage(*shapes: tuple[int, int, int]) -> nn.Sequential:
    """Separable convolutions of (input channels, output channels, stride), one after the other."""
    return nn.Sequential(*(separable(*shape) for shape in shapes))


class MobileNet(nn.Module):
    """N×3×H×W → features of stride 8, 16 and 32 with 64, 128 and 256 channels."""

    def __init__(self) -> None:
        super().__init__()
        first = convolve(3, 8, 3, stride=2)
        self.stage1 = nn.Sequential(first, *stage((8, 16, 1), (16, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 1)))
        self.stage2 = stage((64, 128, 2), *[(128, 128, 1)] * 5)
        self.stage3 = stage((128, 256, 2), (256, 256, 1))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Features of stride 8, 16 and 32."""
        fine = self.stage1(images)
        middle = self.stage2(fine)
        return fine, middle, self.stage3(middle)


class FeaturePyramid(nn.Module):
    """Adds to each level the coarser one, upsampled (Lin et al. 2017, figure 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.output1, self.output2, self.output3 = (convolve(channels, WIDTH, 1) for channels in (64, 128, 256))
        self.merge1, self.merge2 = convolve(WIDTH, WIDTH, 3), convolve(WIDTH, WIDTH, 3)

    def forward(self, features: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """Three levels of features → as many with 64 channels each."""
        fine, middle, coarse = self.output1(features[0]), self.output2(features[1]), self.output3(features[2])
        middle = self.merge2(middle + F.interpolate(coarse, middle.shape[-2:], mode="nearest"))
        fine = self.merge1(fine + F.interpolate(middle, fine.shape[-2:], mode="nearest"))
        return fine, middle, coarse


class ContextModule(nn.Module):
    """Receptive fields of 3×3, 5×5 and 7×7 cells in parallel, of stacked 3×3 ones (Najibi et al. 2017, section 3.3)."""

    def __init__(self) -> None:
        super().__init__()
        half, quarter = WIDTH // 2, WIDTH // 4
        self.conv3X3 = convolve(WIDTH, half, 3, leak=None)
        self.conv5X5_1 = convolve(WIDTH, quarter, 3)
        self.conv5X5_2 = convolve(quarter, quarter, 3, leak=None)
        self.conv7X7_2 = convolve(quarter, quarter, 3)
        self.conv7x7_3 = convolve(quarter, quarter, 3, leak=None)

    def forward(self, cells: torch.Tensor) -> torch.Tensor:
        """N×64×h×w → N×64×h×w."""
        shared = self.conv5X5_1(cells)
        parts = self.conv3X3(cells), self.conv5X5_2(shared), self.conv7x7_3(self.conv7X7_2(shared))
        return F.relu(torch.cat(parts, 1))


class Head(nn.Module):
    """`numbers` outputs for each anchor: N×64×h×w → N×(h·w·2)×numbers."""

    def __init__(self, numbers: int):
        super().__init__()
        self.numbers = numbers
        self.conv1x1 = nn.Conv2d(WIDTH, len(ANCHORS[0]) * numbers, 1)

    def forward(self, cells: torch.Tensor) -> torch.Tensor:
        """N×64×h×w → N×(h·w·2)×numbers."""
        return self.conv1x1(cells).permute(0, 2, 3, 1).reshape(len(cells), -1, self.numbers)


class RetinaFace(nn.Module):
    """Pictures N×3×H×W (BGR less MEAN_BGR) → of A anchors: logits N×A×2, box offsets N×A×4, landmark offsets N×A×10."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.fpn = MobileNet(), FeaturePyramid()
        self.ssh1, self.ssh2, self.ssh3 = (ContextModule() for _ in STRIDES)
        self.ClassHead, self.BboxHead, self.LandmarkHead = (
            nn.ModuleList(Head(numbers) for _ in STRIDES) for numbers in (2, 4, 10)
        )

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits, box offsets and landmark offsets of all anchors."""
        modules = (self.ssh1, self.ssh2, self.ssh3)
        levels = [module(cells) for module, cells in zip(modules, self.fpn(self.body(images)), strict=True)]
        heads = (self.ClassHead, self.BboxHead, self.LandmarkHead)
        logits, boxes, landmarks = (
            torch.cat([head(cells) for head, cells in zip(row, levels, strict=True)], 1) for row in heads
        )
        return logits, boxes, landmarks


# ── from offsets to faces ────────────────────────────────────────────────────────────────────────────────────────────


def make_anchors(height: int, width: int) -> torch.Tensor:
    """A×4: centre x, centre y, width, height in pixels of every anchor, in the order of the heads' rows."""
    levels = []
    for stride, sides in zip(STRIDES, ANCHORS, strict=True):
        rows = (torch.arange(math.ceil(height / stride)) + 0.5) * stride
        columns = (torch.arange(math.ceil(width / stride)) + 0.5) * stride
        y, x, side = torch.meshgrid(rows, columns, torch.tensor(sides, dtype=torch.float32), indexing="ij")
        levels.append(torch.stack([x, y, side, side], -1).reshape(-1, 4))
    return torch.cat(levels)


def decode_boxes(offsets: torch.Tensor, anchors: torch.Tensor) -> torch.Tensor:
    """A×4 → left, top, right, bottom (Liu et al., "SSD: Single shot multibox detector", 2016, equation 2)."""
    centres = anchors[:, :2] + offsets[:, :2] * VARIANCES[0] * anchors[:, 2:]
    sizes = anchors[:, 2:] * torch.exp(offsets[:, 2:] * VARIANCES[1])
    return torch.cat([centres - sizes / 2, centres + sizes / 2], 1)


def decode_landmarks(offsets: torch.Tensor, anchors: torch.Tensor) -> torch.Tensor:
    """A×10 → A×5×2: left eye, right eye, nose, left and right corner of the mouth, as they lie in the picture."""
    return anchors[:, None, :2] + offsets.view(-1, 5, 2) * VARIANCES[0] * anchors[:, None, 2:]


@torch.inference_mode()
def find_faces(
    model: RetinaFace, picture: torch.Tensor, min_score: float, max_overlap: float = 0.4
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Faces in a picture uint8 H×W×3 RGB, by falling score: boxes K×4 (left, top, right, bottom), scores K in 0..1,
    landmarks K×5×2.

    Of boxes whose intersection over union exceeds `max_overlap` the one with the highest score is kept.
    """
    mean = torch.tensor(MEAN_BGR, device=picture.device).view(3, 1, 1)
    images = picture.flip(2).permute(2, 0, 1)[None].float() - mean
    logits, box_offsets, landmark_offsets = (output[0] for output in model(images))
    scores = logits.softmax(1)[:, 1]
    kept = scores >= min_score
    anchors = make_anchors(*picture.shape[:2]).to(picture.device)[kept]
    boxes, scores = decode_boxes(box_offsets[kept], anchors), scores[kept]
    best = nms(boxes, scores, max_overlap)
    return boxes[best], scores[best], decode_landmarks(landmark_offsets[kept], anchors)[best]


# ── as a detector ────────────────────────────────────────────────────────────────────────────────────────────────────


def open_retinaface(weights: Path, min_score: float) -> Search:
    """Detections with a score of `min_score` or more, with five landmarks, on the CPU; UserError for other files."""
    network = load_weights(weights).to(memory_format=torch.channels_last)

    def search(picture: np.ndarray) -> list[DetectedFace]:
        found = find_faces(network, torch.from_numpy(np.ascontiguousarray(picture)), min_score)
        return [to_face(*row) for row in zip(*(values.numpy() for values in found), strict=True)]

    return search


def load_weights(path: Path) -> RetinaFace:
    """The network in evaluation mode; UserError for a file that holds something else."""
    network = RetinaFace().eval()
    try:
        state = read_tensors(path)
        network.load_state_dict({name.removeprefix("module."): value for name, value in state.items()})
    except (UserError, RuntimeError, TypeError, AttributeError) as error:  # no weights, or those of another network
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{path} does not hold RetinaFace-MobileNet0.25: {reason}") from error
    return network


def to_face(corners: np.ndarray, score: np.float32, landmarks: np.ndarray) -> DetectedFace:
    """Corners left, top, right, bottom; landmarks 5×2."""
    left, top, right, bottom = corners.tolist()
    return DetectedFace((left, top, right - left, bottom - top), float(score), landmarks)
