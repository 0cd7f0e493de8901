"""SHAP: Shapley values of a face's pixels for all seven expressions, by expected gradients.

python explain_shap.py --model resnet50 --dataset fer2013 --samples 20 --bg-samples 100
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

import config
from config import EMOTIONS
from ferlib.explanations.choice import pick_faces
from ferlib.explanations.driver import Method, explain_run, face_seeds, own_flags, run_explainer
from ferlib.explanations.maps import sum_blocks
from ferlib.explanations.records import Attribution
from ferlib.explanations.subject import Subject, open_run
from ferlib.figures.shap import draw_shap
from ferlib.inference.class_gradients import class_gradients
from ferlib.runtime.errors import UserError, run_script

FACES_PER_CALL = {"cpu": 1, "mps": 4, "cuda": 16}
WHOLE_SIDE = 64  # maps of all seven classes are saved as they are up to this side, larger ones as sums over blocks


@dataclass(frozen=True)
class Background:
    """The faces that a face is compared with."""

    images: torch.Tensor  # float32 M,C,H,W in 0..1
    logits: np.ndarray  # float64 7: the model's mean over them


@dataclass(frozen=True)
class Draws:
    """Where the gradient of a face is taken: between a background face and the face."""

    rows: np.ndarray  # int64 draws: which background face
    shares: np.ndarray  # float draws: 0 at the background face, 1 at the face


def choose_background(subject: Subject, model: nn.Module, settings: config.ExplainShap) -> Background:
    """`bg_samples` faces of the train split, balanced over the classes."""
    train = subject.data.split("train")
    images = subject.views(train.images[pick_faces(train.labels, settings.bg_samples, settings.seed)])
    return make_background(model, images, settings.batch_size)


def make_background(model: nn.Module, images: torch.Tensor, batch_size: int) -> Background:
    return Background(images, predict_logits(model, images, batch_size).mean(0).numpy())


@torch.inference_mode()
def predict_logits(model: nn.Module, images: torch.Tensor, batch_size: int) -> torch.Tensor:
    """float64 N×7 on the CPU."""
    return torch.cat([model(batch).cpu().double() for batch in images.split(batch_size)])


def draw_evenly(count: int, background: int, seed: int) -> Draws:
    """Draws balanced over the background faces and at equal distances on the way from each of them.

    Every background face is drawn as often as any other, give or take one; the draws of one divide its way into equal
    parts (systematic sampling: Cochran, "Sampling Techniques", 1977, chapter 8), and where the first lies is stratified
    over the faces. Gradients change slowly along a way, so their mean varies far less than with independent draws.
    """
    rng = np.random.default_rng(seed)
    times, more = divmod(count, background)
    faces = rng.permutation(background)
    groups = (faces[:more], times + 1), (faces[more:], times)
    places = [spread(chosen, times, rng) for chosen, times in groups if times and len(chosen)]
    rows, shares = zip(*places, strict=True)
    return Draws(np.concatenate(rows), np.concatenate(shares))


def spread(faces: np.ndarray, times: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """So many draws of each face: rows and shares, one share in each of faces × times equal parts of 0..1."""
    starts = (rng.permutation(len(faces)) + rng.random(len(faces))) / len(faces)
    return np.tile(faces, times), ((starts + np.arange(times)[:, None]) / times).ravel()


def expected_gradients(
    model: nn.Module, images: torch.Tensor, background: torch.Tensor, draws: Sequence[Draws], batch_size: int
) -> torch.Tensor:
    """Shapley values of all logits, summed over the colour channels: faces N×C×H×W → float32 N×7×H×W on the device.

    Erion et al., "Improving performance of deep learning models with axiomatic attribution priors and expected
    gradients" (2021), equation 3: the mean over background faces x' and shares α of (x − x') · ∂f(x' + α (x − x'))/∂x.
    One forward pass serves the seven backward passes of a batch, which takes draws of several faces.
    """
    faces = torch.from_numpy(np.repeat(np.arange(len(images)), [len(each.rows) for each in draws])).to(images.device)
    rows = torch.from_numpy(np.concatenate([each.rows for each in draws])).to(images.device)
    shares = torch.from_numpy(np.concatenate([each.shares for each in draws])).float().to(images.device)
    sums = torch.zeros(len(images), len(EMOTIONS), *images.shape[-2:], device=images.device)
    for face, row, share in zip(*(values.split(batch_size) for values in (faces, rows, shares)), strict=True):
        others = background[row]
        differences = images[face] - others
        inputs = torch.addcmul(others, share.view(-1, 1, 1, 1), differences)
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        for label, gradients in enumerate(class_gradients(model, inputs)):
            sums[:, label].index_add_(0, face, (gradients * differences).sum(1))
    counts = torch.bincount(faces, minlength=len(images))
    return sums / counts.view(-1, 1, 1, 1)


def explain_faces(
    model: nn.Module,
    images: torch.Tensor,
    targets: torch.Tensor,
    seeds: Sequence[int],
    background: Background,
    settings: config.ExplainShap,
) -> list[Attribution]:
    """Shapley values of each face of N×C×H×W in 0..1 for the target weights N×7.

    The values of a class sum to f(x) − mean f(x') but for the error of sampling: the facts say for every class by how
    much its logit exceeds its mean over the background, and by how much the sum misses that.
    """
    draws = [draw_evenly(settings.shap_samples, len(background.images), seed) for seed in seeds]
    values = expected_gradients(model, images, background.images, draws, settings.batch_size)
    rises = predict_logits(model, images, settings.batch_size).numpy() - background.logits
    gaps = values.double().sum((2, 3)).cpu().numpy() - rises
    rows = zip(values.cpu().numpy(), targets.cpu().numpy(), rises, gaps, strict=True)
    return [describe_face(*row) for row in rows]


def describe_face(maps: np.ndarray, target: np.ndarray, rise: np.ndarray, gap: np.ndarray) -> Attribution:
    """The attribution of a face from its maps 7×H×W."""
    facts = {
        "logit_above_background": float(rise @ target),
        "completeness_gap": float(gap @ target),
        "logits_above_background": rise.tolist(),
        "completeness_gaps": gap.tolist(),
    }
    whole = max(maps.shape[1:]) <= WHOLE_SIDE
    class_maps = maps if whole else np.stack([sum_blocks(values)[0] for values in maps])
    return Attribution(np.tensordot(target, maps, 1), {"class_maps": class_maps.astype(np.float16)}, facts)


def attribute(
    model: nn.Module,
    images: torch.Tensor,
    targets: torch.Tensor,
    settings: config.ExplainShap,
    background: Background,
) -> np.ndarray:
    """Signed Shapley values of the target: images N×C×H×W in 0..1, targets N×7 → float32 N×H×W."""
    seeds = face_seeds(settings.seed, len(images))
    return np.stack([item.map for item in explain_faces(model, images, targets, seeds, background, settings)])


def describe(settings: config.ExplainShap, background: int) -> str:
    """The line of settings under a figure."""
    return (
        f"SHAP: expected gradients of the logits, {settings.shap_samples} draws over {background} background "
        f"faces of the train split · seed {settings.seed}" + " · gradients in 8 bits" * settings.int8
    )


def explain(settings: config.ExplainShap) -> dict[str, Any]:
    """Explains the chosen faces; writes maps, figures and summary and returns the summary."""
    if settings.shap_samples < 1:
        raise UserError("--shap-samples must be 1 or more")
    subject = open_run(settings)
    model = subject.prepared_gradients(settings.int8)
    background = choose_background(subject, model, settings)
    count = len(background.images)
    method = Method(
        name="shap",
        output="logit",
        settings={**own_flags(settings), "background_faces": count, "sampling": "systematic"},
        explain=partial(explain_faces, model, background=background, settings=settings),
        draw=partial(draw_shap, run=subject.run.name, footer=describe(settings, count)),
        faces_per_call=FACES_PER_CALL[subject.device.type],
    )
    return explain_run(subject, method)


def main() -> dict[str, Any]:
    return run_explainer(config.ExplainShap, explain)


if __name__ == "__main__":
    run_script(main)
