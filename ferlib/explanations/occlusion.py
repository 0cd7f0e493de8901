"""Occlusion: how far the probability of a class falls where a square of the face is replaced by the baseline.

Zeiler & Fergus, "Visualizing and understanding convolutional networks" (2014), section 4.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from ferlib.explanations.baselines import make_baseline
from ferlib.explanations.records import Attribution, maps_of
from ferlib.explanations.targets import face_seeds, target_weights


def occlusion(
    model: nn.Module,
    images: torch.Tensor,
    targets: torch.Tensor,
    *,
    window: float = 0.2,
    stride: float = 0.1,
    baseline: str | float = "grey",
    batch_size: int = 64,
) -> np.ndarray:
    """The mean fall of the target's probability over the squares that cover a pixel: float32 N×H×W.

    model: images N×C×H×W in 0..1 → logits N×K. targets: classes N, or weights N×K of the probabilities. window,
    stride: side of the squares and step between two, as shares of the side. baseline: see baselines.make_baseline.
    """
    options: dict[str, Any] = {"window": window, "stride": stride, "baseline": baseline, "batch_size": batch_size}
    found = explain(model, images, targets, seeds=face_seeds(0, len(images)), **options)
    return maps_of(found)


def explain(
    model: nn.Module,
    images: torch.Tensor,
    targets: torch.Tensor,
    *,
    seeds: Sequence[int],  # noqa: ARG001 — nothing is random here
    window: float = 0.2,
    stride: float = 0.1,
    baseline: str | float = "grey",
    batch_size: int = 64,
) -> list[Attribution]:
    """As `occlusion`, an attribution per face. The array "falls" holds the falls of the squares, rows×columns."""
    windows = make_windows(images.shape[-2:], window, stride).to(images.device)
    flat = windows.flatten(0, 1)
    filled = make_baseline(images, baseline)
    weights = target_weights(model, images, targets).to(images.device)
    falls = measure_falls(model, images, weights, flat, filled, batch_size)
    covered = flat.flatten(1).float()
    maps = (falls @ covered / covered.sum(0)).view(-1, *images.shape[-2:])
    tables = falls.view(-1, *windows.shape[:2])
    return [make_attribution(*row) for row in zip(maps.cpu().numpy(), tables.cpu().numpy(), strict=True)]


def count_passes(image_size: int, window: float, stride: float, **_: Any) -> int:
    """Forward passes of single images that a face takes."""
    return 1 + make_windows((image_size, image_size), window, stride).flatten(0, 1).shape[0]


def make_windows(size: Sequence[int], window: float, stride: float) -> torch.Tensor:
    """bool rows×columns×H×W: the pixels that each square hides."""
    down, right = (slide_window(side, window, stride) for side in size)
    return down[:, None, :, None] & right[None, :, None, :]


def slide_window(side: int, window: float, stride: float) -> torch.Tensor:
    """bool positions×side: which of `side` pixels in a row a sliding window covers at each of its positions.

    window, stride: shares of the side, rounded to pixels, at least one. The last window is cut off at the border.
    """
    width, step = max(round(window * side), 1), max(round(stride * side), 1)
    starts = torch.arange(0, side - width + step, step)[:, None]
    pixels = torch.arange(side)
    return (pixels >= starts) & (pixels < starts + width)


@torch.inference_mode()
def measure_falls(
    model: nn.Module,
    images: torch.Tensor,
    targets: torch.Tensor,
    windows: torch.Tensor,
    filled: torch.Tensor,
    batch_size: int,
) -> torch.Tensor:
    """Fall of the targets' probabilities N×K under each window M×H×W that shows the image `filled`: float32 N×M.

    A batch holds windows of several faces.
    """
    hidden = torch.cat([torch.zeros_like(windows[:1]), windows])[:, None]  # the first hides nothing
    pairs = torch.arange(len(images) * len(hidden), device=images.device)
    parts = []
    for pair in pairs.split(batch_size):
        face, window = pair // len(hidden), pair % len(hidden)
        faces = torch.where(hidden[window], filled[face], images[face])
        probabilities = model(faces.contiguous(memory_format=torch.channels_last)).softmax(1)
        parts.append((probabilities * targets[face]).sum(1))
    table = torch.cat(parts).view(len(images), len(hidden))
    return table[:, :1] - table[:, 1:]


def make_attribution(values: np.ndarray, falls: np.ndarray) -> Attribution:
    """The attribution of a face from its map H×W and the falls of the squares."""
    facts = {"largest_fall": float(falls.max()), "largest_rise": float(-falls.min())}
    return Attribution(values, {"falls": falls.astype(np.float32)}, facts)
