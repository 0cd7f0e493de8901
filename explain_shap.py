"""SHAP: Shapley values of a face's pixels for all seven expressions, by expected gradients.

python explain_shap.py --model resnet50 --dataset fer2013 --samples 20 --bg-samples 100
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import shap
import torch
import tyro
from torch import nn

import config
from distributed import processes
from explanation_figures import draw_shap
from explanations import Attribution, Method, Subject, explain_run, face_seeds, open_run, own_flags, pick_faces
from utils import run_script


def choose_background(subject: Subject, count: int) -> torch.Tensor:
    """`count` faces of the train split, balanced over the classes: float32 N×C×size×size in 0..1."""
    train = subject.data.split("train")
    return subject.views(train, pick_faces(train.labels, count, subject.config.seed))


@torch.no_grad()
def predict_logits(model: nn.Module, images: torch.Tensor, batch_size: int) -> torch.Tensor:
    """float64 N×7 on the CPU."""
    return torch.cat([model(batch).cpu().double() for batch in images.split(batch_size)])


def explain_faces(
    model: nn.Module,
    images: torch.Tensor,
    targets: Sequence[int],
    seeds: Sequence[int],
    background: torch.Tensor,
    settings: config.ExplainShap,
) -> list[Attribution]:
    """Shapley values of the logits for each face of a batch N×C×H×W in 0..1, summed over the colour channels.

    Erion et al., "Improving performance of deep learning models with axiomatic attribution priors and expected
    gradients", Nature Machine Intelligence 2021, eq. 3: the mean over background faces x' and α uniform in 0..1 of
    (x − x') · ∂f(x' + α (x − x')) / ∂x. The values of a class sum to f(x) − mean f(x') but for the error of sampling,
    which the fact "completeness_gap" gives for the target.
    """
    with torch.no_grad():  # shap passes the whole background through the model at once
        explainer = shap.GradientExplainer(model, background, batch_size=settings.batch_size)
    logits = predict_logits(model, images, settings.batch_size)
    baseline = predict_logits(model, background, settings.batch_size).mean(0)
    attributions = []
    for image, target, seed, rise in zip(images, targets, seeds, (logits - baseline).numpy(), strict=True):
        values = explainer.shap_values(image[None], nsamples=settings.shap_samples, rseed=seed)  # 1,C,H,W,classes
        maps = values[0].sum(0).transpose(2, 0, 1).astype(np.float32)  # classes,H,W
        facts = {
            "logit_above_background": float(rise[target]),
            "completeness_gap": float(maps[target].sum(dtype=np.float64) - rise[target]),
        }
        attributions.append(Attribution(maps[target], {"class_maps": maps.astype(np.float16)}, facts))
    return attributions


def attribute(
    model: nn.Module,
    images: torch.Tensor,
    targets: Sequence[int],
    settings: config.ExplainShap,
    background: torch.Tensor,
) -> np.ndarray:
    """Signed Shapley values of the target's logit: images N×C×H×W in 0..1 → float32 N×H×W."""
    seeds = face_seeds(settings.seed, len(images))
    return np.stack([item.map for item in explain_faces(model, images, targets, seeds, background, settings)])


def describe(settings: config.ExplainShap) -> str:
    """The line of settings under a figure."""
    return (
        f"SHAP: expected gradients of the logits, {settings.shap_samples} draws over {settings.bg_samples} background "
        f"faces of the train split · seed {settings.seed}"
    )


def explain(settings: config.ExplainShap) -> dict[str, Any]:
    """Explains faces of the test split; writes maps, figures and summary and returns the summary."""
    subject = open_run(settings)
    background = choose_background(subject, settings.bg_samples)
    method = Method(
        name="shap",
        output="logit",
        settings={**own_flags(settings), "background_faces": len(background)},
        explain=partial(explain_faces, subject.model, background=background, settings=settings),
        draw=partial(draw_shap, run=subject.run.name, footer=describe(settings)),
    )
    return explain_run(subject, method)


def main() -> dict[str, Any]:
    flags = tyro.cli(config.ExplainShap)
    with processes():
        return explain(flags)


if __name__ == "__main__":
    run_script(main)
