"""Occlusion: how far the probability of an expression falls where a grey square hides a part of the face.

python explain_occlusion.py --model resnet50 --dataset fer2013 --samples 20 --window 0.2
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

import config
from ferlib.explanations.driver import Method, explain_run, face_seeds, own_flags, run_explainer
from ferlib.explanations.records import Attribution
from ferlib.explanations.subject import open_run
from ferlib.figures.heatmaps import draw_heatmap
from ferlib.runtime.errors import UserError, run_script

FACES_PER_CALL = {"cpu": 4, "mps": 8, "cuda": 32}


def cover(side: int, window: float, stride: float) -> torch.Tensor:
    """bool places×side: which of `side` pixels in a row a sliding window covers at each of its places.

    window, stride: shares of the side, rounded to pixels, at least one. The last window is cut off at the border.
    """
    width, step = max(round(window * side), 1), max(round(stride * side), 1)
    starts = torch.arange(0, side - width + step, step)[:, None]
    pixels = torch.arange(side)
    return (pixels >= starts) & (pixels < starts + width)


def make_windows(size: Sequence[int], settings: config.ExplainOcclusion) -> torch.Tensor:
    """bool rows×columns×H×W: the pixels that each square hides."""
    down, right = (cover(side, settings.window, settings.stride) for side in size)
    return down[:, None, :, None] & right[None, :, None, :]


@torch.inference_mode()
def measure_falls(
    model: nn.Module,
    images: torch.Tensor,
    targets: torch.Tensor,
    windows: torch.Tensor,
    settings: config.ExplainOcclusion,
) -> torch.Tensor:
    """Fall of the target's probability (of two classes: of the difference) under each window M×H×W: float32 N×M.

    A batch takes windows of several faces.
    """
    hidden = torch.cat([torch.zeros_like(windows[:1]), windows])[:, None]  # the first hides nothing
    pairs = torch.arange(len(images) * len(hidden), device=images.device)
    answers = []
    for pair in pairs.split(settings.batch_size):
        face, window = pair // len(hidden), pair % len(hidden)
        faces = images[face].masked_fill(hidden[window], settings.hide_value)
        probabilities = model(faces.contiguous(memory_format=torch.channels_last)).softmax(1)
        answers.append((probabilities * targets[face]).sum(1))
    table = torch.cat(answers).view(len(images), len(hidden))
    return table[:, :1] - table[:, 1:]


def explain_faces(
    model: nn.Module,
    images: torch.Tensor,
    targets: torch.Tensor,
    seeds: Sequence[int],
    settings: config.ExplainOcclusion,
) -> list[Attribution]:
    """Signed maps of faces N×C×H×W in 0..1 for the target weights N×7; nothing is drawn from the seeds.

    Zeiler & Fergus, "Visualizing and understanding convolutional networks" (2014), section 4.2: a pixel's value is the
    mean fall over the windows that cover it. The array "falls" holds the windows themselves, rows×columns.
    """
    windows = make_windows(images.shape[-2:], settings).to(images.device)
    flat = windows.flatten(0, 1)
    falls = measure_falls(model, images, targets, flat, settings)
    cover_pixels = flat.flatten(1).float()
    maps = (falls @ cover_pixels / cover_pixels.sum(0)).view(-1, *images.shape[-2:])
    tables = falls.view(-1, *windows.shape[:2])
    return [describe_face(*row) for row in zip(maps.cpu().numpy(), tables.cpu().numpy(), strict=True)]


def describe_face(values: np.ndarray, falls: np.ndarray) -> Attribution:
    facts = {"largest_fall": float(falls.max()), "largest_rise": float(-falls.min())}
    return Attribution(values, {"falls": falls.astype(np.float16)}, facts)


def attribute(
    model: nn.Module, images: torch.Tensor, targets: torch.Tensor, settings: config.ExplainOcclusion
) -> np.ndarray:
    """Signed falls of the target's probability: images N×C×H×W in 0..1, targets N×7 → float32 N×H×W."""
    seeds = face_seeds(settings.seed, len(images))
    return np.stack([item.map for item in explain_faces(model, images, targets, seeds, settings)])


# ── the command ──────────────────────────────────────────────────────────────────────────────────────────────────────


def check(settings: config.ExplainOcclusion) -> None:
    """UserError for windows that leave a part of the face uncovered."""
    if not 0 < settings.stride <= settings.window <= 1:
        raise UserError("--window and --stride are shares of the side: above 0, at most 1, the stride not the larger")
    if not 0 <= settings.hide_value <= 1:
        raise UserError("--hide-value must be a grey in 0..1")


def describe(settings: config.ExplainOcclusion) -> str:
    """The line of settings under a figure."""
    return (
        f"Occlusion: squares of {100 * settings.window:g} % of the side and grey {settings.hide_value:g}, every "
        f"{100 * settings.stride:g} % · a pixel shows the mean of the squares over it"
        + " · network in 8 bits"
        * settings.int8
    )


def explain(settings: config.ExplainOcclusion) -> dict[str, Any]:
    """Explains the chosen faces; writes maps, figures and summary and returns the summary."""
    check(settings)
    subject = open_run(settings)
    passes = 1 + make_windows((subject.spec.image_size,) * 2, settings).flatten(0, 1).shape[0]
    look = {"method_title": "Occlusion", "unit": "Δ probability", "signed": True}
    method = Method(
        name="occlusion",
        output="probability",
        settings=own_flags(settings),
        explain=partial(explain_faces, subject.prepared(passes, settings.int8), settings=settings),
        draw=partial(draw_heatmap, **look, run=subject.run.name, footer=describe(settings)),
        faces_per_call=FACES_PER_CALL[subject.device.type],
    )
    return explain_run(subject, method)


def main() -> dict[str, Any]:
    return run_explainer(config.ExplainOcclusion, explain)


if __name__ == "__main__":
    run_script(main)
