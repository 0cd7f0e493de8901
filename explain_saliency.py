"""Gradients of the pixels: where a small change of a face changes the model's answer most, and what pixels add to it.

python explain_saliency.py --model resnet50 --dataset fer2013 --samples 20 --method saliency
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import captum
import numpy as np
import torch
import torch.nn.functional as F
from captum.attr import GuidedBackprop, InputXGradient, IntegratedGradients, Saliency
from torch import nn

import config
from ferlib.explanations.driver import Method, explain_run, face_seeds, own_flags, run_explainer
from ferlib.explanations.records import Attribution
from ferlib.explanations.subject import open_run
from ferlib.figures.heatmaps import QUESTION, draw_heatmap
from ferlib.runtime.errors import UserError, run_script

FACES_PER_CALL = {"cpu": 8, "mps": 16, "cuda": 64}
Maps = tuple[torch.Tensor, dict[str, torch.Tensor]]  # N×H×W, and the name and N values of each fact


class Score(nn.Module):
    """The explained number of each face: images N×C×H×W and target weights N×7 → N."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return (self.model(images) * targets).sum(1)


class Loss(Score):
    """The cross-entropy of the class with the largest target weight: images N×C×H×W, weights N×7 → N."""

    def forward(self, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(self.model(images), targets.argmax(1), reduction="none")


# ── colours to one value per pixel ───────────────────────────────────────────────────────────────────────────────────


def strongest(gradients: torch.Tensor) -> torch.Tensor:
    """N×C×H×W → N×H×W: the largest absolute value among the colours."""
    return gradients.abs().amax(1)


def total(contributions: torch.Tensor) -> torch.Tensor:
    """N×C×H×W → N×H×W: the sum over the colours."""
    return contributions.sum(1)


# ── the methods: model, faces N×C×H×W, target weights N×7, seeds N, settings → maps and facts ────────────────────────


def differentiate(function: nn.Module, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """∂function/∂pixel of each face, N×C×H×W."""
    return Saliency(function).attribute(to_leaf(images), additional_forward_args=targets, abs=False)


def to_leaf(images: torch.Tensor) -> torch.Tensor:
    return images.detach().requires_grad_()


def saliency(model, images, targets, seeds, settings) -> Maps:
    """|∂f/∂x|: Simonyan et al., "Deep inside convolutional networks" (2014), section 3.1."""
    return strongest(differentiate(Score(model), images, targets)), {}


def loss_gradient(model, images, targets, seeds, settings) -> Maps:
    """|∂L/∂x| of the cross-entropy L, divided by its largest value in the face.

    The derivative vanishes as the model grows sure, so that its size says little; "peak" keeps it. As ∂L/∂x sums over
    all classes, a class that f is contrasted with makes no difference.
    """
    maps = strongest(differentiate(Loss(model), images, targets))
    peaks = maps.amax((1, 2))
    return maps / torch.where(peaks > 0, peaks, 1)[:, None, None], {"peak": peaks}


def smoothgrad(model, images, targets, seeds, settings) -> Maps:
    """|mean of ∂f/∂x over copies with Gaussian noise|; the noise of a face depends on its seed alone.

    Smilkov et al., "SmoothGrad: removing noise by adding noise" (2017), section 3. "class_kept" is the share of the
    copies that the model takes for the same class as the face: where it is small, they are other faces to the model.
    """
    means, kept = [], []
    for image, target, seed in zip(images, targets, seeds, strict=True):
        copies = make_noisy(image, seed, settings).split(settings.batch_size)
        parts = [differentiate(Score(model), part, target.expand(len(part), -1)) for part in copies]
        means.append(torch.cat(parts).mean(0))
        labels = torch.cat([predict(model, part) for part in copies])
        kept.append((labels == predict(model, image[None])).float().mean())
    return strongest(torch.stack(means)), {"class_kept": torch.stack(kept)}


def make_noisy(image: torch.Tensor, seed: int, settings: config.ExplainSaliency) -> torch.Tensor:
    """Copies of a face C×H×W with noise: samples×C×H×W."""
    generator = torch.Generator().manual_seed(seed)  # of the CPU: the same noise on every device
    noise = torch.randn(settings.smooth_samples, *image.shape, generator=generator)
    return image + settings.smooth_sd * noise.to(image.device)


@torch.no_grad()
def predict(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    return model(images).argmax(1)


def input_x_gradient(model, images, targets, seeds, settings) -> Maps:
    """x · ∂f/∂x: what each pixel adds to f beside a black one, if f were linear.

    Shrikumar et al., "Not just a black box" (2016), section 3.
    """
    contributions = InputXGradient(Score(model)).attribute(to_leaf(images), additional_forward_args=targets)
    return total(contributions.detach()), {}


def integrated_gradients(model, images, targets, seeds, settings) -> Maps:
    """(x − x') · mean of ∂f/∂x on the straight way from the grey face x' to x, by Gauss-Legendre quadrature.

    Sundararajan et al., "Axiomatic attribution for deep networks" (2017), section 3. The sum of a map is f(x) − f(x')
    but for the completeness gap.
    """
    options = {"n_steps": settings.steps, "internal_batch_size": max(settings.batch_size, len(images))}
    method, baseline = IntegratedGradients(Score(model)), settings.baseline
    maps = total(method.attribute(images.detach(), baseline, additional_forward_args=targets, **options))
    with torch.no_grad():
        rise = Score(model)(images, targets) - Score(model)(torch.full_like(images, baseline), targets)
    gap = maps.double().sum((1, 2)) - rise
    return maps, {"logit_above_baseline": rise, "completeness_gap": gap}


def guided_backprop(model, images, targets, seeds, settings) -> Maps:
    """|∂f/∂x| with every ReLU passing back positive gradients only.

    Springenberg et al., "Striving for simplicity: the all convolutional net" (2015), section 3.4. Other activations
    are left as they are: the SiLUs of efficientnet_b0 pass their true gradients, and only the ReLU of its head is
    guided. Close to an edge detector: it changes little when the weights do (Adebayo et al., "Sanity checks for
    saliency maps", 2018).
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Setting backward hooks", UserWarning)
        gradients = GuidedBackprop(Score(model)).attribute(to_leaf(images), additional_forward_args=targets)
    return strongest(gradients), {}


@dataclass(frozen=True)
class Gradients:
    """A method of the family."""

    title: str
    compute: Callable[..., Maps]
    unit: str
    signed: bool = False
    flags: tuple[str, ...] = ()  # that it reads
    note: str = ""  # of the settings, with the flags' names in braces
    output: str = "logit"
    question: str = QUESTION


PER_PIXEL = "|∂ logit / ∂ pixel|"
METHODS = {
    "saliency": Gradients("Saliency", saliency, PER_PIXEL, note="absolute gradient of the logit"),
    "loss_gradient": Gradients(
        "Loss gradient",
        loss_gradient,
        "share of the peak",
        note="absolute gradient of the cross-entropy · 1 is its largest value in this face",
        output="loss",
        question="explained: the loss of {label}",
    ),
    "smoothgrad": Gradients(
        "SmoothGrad",
        smoothgrad,
        PER_PIXEL,
        flags=("smooth_samples", "smooth_sd"),
        note="mean gradient of the logit over {smooth_samples} noisy copies (sd {smooth_sd:g}) · seed {seed}",
    ),
    "input_x_gradient": Gradients(
        "Input × gradient", input_x_gradient, "Δ logit", signed=True, note="gradient of the logit times pixel"
    ),
    "integrated_gradients": Gradients(
        "Integrated gradients",
        integrated_gradients,
        "Δ logit",
        signed=True,
        flags=("steps", "baseline"),
        note="{steps} steps of the logit's gradient from a face of grey {baseline:g}",
    ),
    "guided_backprop": Gradients(
        "Guided backpropagation",
        guided_backprop,
        PER_PIXEL,
        note="gradient of the logit, ReLUs pass back what is positive",
    ),
}


# ── explaining ───────────────────────────────────────────────────────────────────────────────────────────────────────


def explain_faces(
    model: nn.Module,
    images: torch.Tensor,
    targets: torch.Tensor,
    seeds: Sequence[int],
    settings: config.ExplainSaliency,
) -> list[Attribution]:
    """The map of each face of N×C×H×W in 0..1 for the target weights N×7."""
    found = []
    for start in range(0, len(images), settings.batch_size):
        part = slice(start, start + settings.batch_size)
        maps, facts = METHODS[settings.method].compute(model, images[part], targets[part], seeds[part], settings)
        values = {name: column.tolist() for name, column in facts.items()}
        for row, each in enumerate(maps.float().cpu().numpy()):
            found.append(Attribution(each, facts={name: column[row] for name, column in values.items()}))
    return found


def attribute(
    model: nn.Module, images: torch.Tensor, targets: torch.Tensor, settings: config.ExplainSaliency
) -> np.ndarray:
    """Maps of the target, signed where the method is: images N×C×H×W in 0..1, targets N×7 → float32 N×H×W."""
    seeds = face_seeds(settings.seed, len(images))
    return np.stack([item.map for item in explain_faces(model, images, targets, seeds, settings)])


# ── the command ──────────────────────────────────────────────────────────────────────────────────────────────────────


def check(settings: config.ExplainSaliency) -> None:
    """UserError for settings that make no sense."""
    if min(settings.smooth_samples, settings.steps) < 1:
        raise UserError("--smooth-samples and --steps must be 1 or more")
    if settings.smooth_sd < 0 or not 0 <= settings.baseline <= 1:
        raise UserError("--smooth-sd must be 0 or more, --baseline a grey in 0..1")


def describe(settings: config.ExplainSaliency) -> str:
    """The line of settings under a figure."""
    method = METHODS[settings.method]
    return f"{method.title}: {method.note.format(**vars(settings))}"


def explain(settings: config.ExplainSaliency) -> dict[str, Any]:
    """Explains the chosen faces; writes maps, figures and summary and returns the summary."""
    check(settings)
    row = METHODS[settings.method]
    subject = open_run(settings)
    own = {name: value for name, value in own_flags(settings).items() if name in ("method", *row.flags)}
    look = {"unit": row.unit, "signed": row.signed, "summed": row.signed, "question": row.question}
    method = Method(
        name=settings.method,
        output=row.output,
        settings={**own, "captum": captum.__version__},
        explain=partial(explain_faces, subject.model, settings=settings),
        draw=partial(
            draw_heatmap,
            method_title=row.title,
            run=subject.run.name,
            footer=describe(settings),
            meaning="bright: a change here changes most",
            **look,
        ),
        faces_per_call=FACES_PER_CALL[subject.device.type],
    )
    return explain_run(subject, method)


def main() -> dict[str, Any]:
    return run_explainer(config.ExplainSaliency, explain)


if __name__ == "__main__":
    run_script(main)
