"""Gradients of the pixels: saliency, SmoothGrad, input × gradient, integrated gradients and others, by captum."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from captum.attr import GuidedBackprop, InputXGradient, IntegratedGradients, Saliency
from torch import nn

from ferlib.explanations.baselines import grey_level, make_baseline
from ferlib.explanations.records import Attribution, maps_of
from ferlib.explanations.targets import face_seeds, target_weights
from ferlib.runtime.errors import lookup

Maps = tuple[torch.Tensor, dict[str, torch.Tensor]]  # N×H×W, and the name and N values of each fact


def gradient_map(
    model: nn.Module,
    images: torch.Tensor,
    targets: torch.Tensor,
    *,
    kind: str = "saliency",
    seed: int = 0,
    batch_size: int = 64,
    **settings: Any,
) -> np.ndarray:
    """Maps of a method of KINDS, signed where the method is: float32 N×H×W.

    model: images N×C×H×W in 0..1 → logits N×K. targets: classes N, or weights N×K of the logits. settings: num_samples
    and noise_sd of smoothgrad, steps and baseline of integrated_gradients. UserError for unknown kinds.
    """
    seeds = face_seeds(seed, len(images))
    found = explain(model, images, targets, seeds=seeds, kind=kind, batch_size=batch_size, **settings)
    return maps_of(found)


def explain(
    model: nn.Module,
    images: torch.Tensor,
    targets: torch.Tensor,
    *,
    seeds: Sequence[int],
    kind: str,
    batch_size: int = 64,
    **settings: Any,
) -> list[Attribution]:
    """As `gradient_map`, an attribution per face with one seed each."""
    compute = lookup(KINDS, kind, "gradient method")
    weights = target_weights(model, images, targets).to(images.device)
    found = []
    for start in range(0, len(images), batch_size):
        part = slice(start, start + batch_size)
        options = {"seeds": seeds[part], "batch_size": batch_size, **settings}
        maps, facts = compute(model, images[part], weights[part], **options)
        values = {name: column.tolist() for name, column in facts.items()}
        for row, each in enumerate(maps.float().cpu().numpy()):
            found.append(Attribution(each, facts={name: column[row] for name, column in values.items()}))
    return found


class TargetLogit(nn.Module):
    """The target's logit: images N×C×H×W and target weights N×K → N."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """N values."""
        return (self.model(images) * targets).sum(1)


class TargetLoss(TargetLogit):
    """The cross-entropy of the class with the largest target weight: images N×C×H×W, weights N×K → N."""

    def forward(self, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """N values."""
        return F.cross_entropy(self.model(images), targets.argmax(1), reduction="none")


def strongest_colour(gradients: torch.Tensor) -> torch.Tensor:
    """N×C×H×W → N×H×W: the largest absolute value among the colours."""
    return gradients.abs().amax(1)


def sum_colours(contributions: torch.Tensor) -> torch.Tensor:
    """N×C×H×W → N×H×W: the sum over the colours."""
    return contributions.sum(1)


def differentiate(function: nn.Module, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """∂function/∂pixel of each face, N×C×H×W."""
    return Saliency(function).attribute(to_leaf(images), additional_forward_args=targets, abs=False)


def to_leaf(images: torch.Tensor) -> torch.Tensor:
    """The images as a leaf of the graph."""
    return images.detach().requires_grad_()


# ── the methods: model, faces N×C×H×W, target weights N×K, seeds N and settings → maps and facts ─────────────────────


def saliency(model: nn.Module, images: torch.Tensor, targets: torch.Tensor, **_: Any) -> Maps:
    """|∂f/∂x|: Simonyan et al., "Deep inside convolutional networks" (2014), section 3.1."""
    return strongest_colour(differentiate(TargetLogit(model), images, targets)), {}


def loss_gradient(model: nn.Module, images: torch.Tensor, targets: torch.Tensor, **_: Any) -> Maps:
    """|∂L/∂x| of the cross-entropy L, divided by its largest value in the face, which is the fact "peak".

    The derivative vanishes as the predicted probability approaches 1, so its size is not comparable between faces. As
    ∂L/∂x sums over all classes, a class that f is contrasted with makes no difference.
    """
    maps = strongest_colour(differentiate(TargetLoss(model), images, targets))
    peaks = maps.amax((1, 2))
    return maps / torch.where(peaks > 0, peaks, 1)[:, None, None], {"peak": peaks}


def smoothgrad(
    model: nn.Module,
    images: torch.Tensor,
    targets: torch.Tensor,
    *,
    seeds: Sequence[int],
    num_samples: int = 50,
    noise_sd: float = 0.03,
    batch_size: int = 64,
) -> Maps:
    """|mean of ∂f/∂x over copies with Gaussian noise|; the noise of a face depends on its seed alone.

    Smilkov et al., "SmoothGrad: removing noise by adding noise" (2017), section 3. The fact "class_kept" is the share
    of the copies with the same predicted class as the face.
    """
    means, kept = [], []
    for image, target, seed in zip(images, targets, seeds, strict=True):
        copies = add_noise(image, seed, num_samples, noise_sd).split(batch_size)
        parts = [differentiate(TargetLogit(model), part, target.expand(len(part), -1)) for part in copies]
        means.append(torch.cat(parts).mean(0))
        labels = torch.cat([predict(model, part) for part in copies])
        kept.append((labels == predict(model, image[None])).float().mean())
    return strongest_colour(torch.stack(means)), {"class_kept": torch.stack(kept)}


def add_noise(image: torch.Tensor, seed: int, num_samples: int, noise_sd: float) -> torch.Tensor:
    """Copies of a face C×H×W with Gaussian noise: num_samples×C×H×W."""
    generator = torch.Generator().manual_seed(seed)  # of the CPU: the same noise on every device
    noise = torch.randn(num_samples, *image.shape, generator=generator)
    return image + noise_sd * noise.to(image.device)


@torch.no_grad()
def predict(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Predicted classes N."""
    return model(images).argmax(1)


def input_x_gradient(model: nn.Module, images: torch.Tensor, targets: torch.Tensor, **_: Any) -> Maps:
    """x · ∂f/∂x: the first-order change of f between a black image and x.

    Shrikumar et al., "Not just a black box" (2016), section 3.
    """
    contributions = InputXGradient(TargetLogit(model)).attribute(to_leaf(images), additional_forward_args=targets)
    return sum_colours(contributions.detach()), {}


def integrated_gradients(
    model: nn.Module,
    images: torch.Tensor,
    targets: torch.Tensor,
    *,
    steps: int = 50,
    baseline: str | float = "grey",
    batch_size: int = 64,
    **_: Any,
) -> Maps:
    """(x − x') · mean of ∂f/∂x on the straight path from the baseline x' to x, by Gauss-Legendre quadrature.

    Sundararajan et al., "Axiomatic attribution for deep networks" (2017), section 3. The sum of a map is f(x) − f(x')
    up to the completeness gap; "sum_of_sizes" is that of its absolute values.
    """
    start = make_baseline(images, baseline)
    level = grey_level(baseline)
    options = {"n_steps": steps, "internal_batch_size": max(batch_size, len(images))}
    method, output = IntegratedGradients(TargetLogit(model)), TargetLogit(model)
    baselines = start if level is None else level
    maps = sum_colours(method.attribute(images.detach(), baselines, additional_forward_args=targets, **options))
    with torch.no_grad():
        rise = output(images, targets) - output(start, targets)
    gap, sizes = maps.double().sum((1, 2)) - rise, maps.double().abs().sum((1, 2))
    return maps, {"logit_above_baseline": rise, "completeness_gap": gap, "sum_of_sizes": sizes}


def guided_backprop(model: nn.Module, images: torch.Tensor, targets: torch.Tensor, **_: Any) -> Maps:
    """|∂f/∂x| with every ReLU passing back positive gradients only.

    Springenberg et al., "Striving for simplicity: the all convolutional net" (2015), section 3.4. Other activations
    pass their true gradients: the SiLUs of efficientnet_b0 do, and only the ReLU of its head is guided. The map changes
    little with the weights (Adebayo et al., "Sanity checks for saliency maps", 2018).
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Setting backward hooks", UserWarning)
        gradients = GuidedBackprop(TargetLogit(model)).attribute(to_leaf(images), additional_forward_args=targets)
    return strongest_colour(gradients), {}


KINDS: dict[str, Callable[..., Maps]] = {
    "saliency": saliency,
    "loss_gradient": loss_gradient,
    "smoothgrad": smoothgrad,
    "input_x_gradient": input_x_gradient,
    "integrated_gradients": integrated_gradients,
    "guided_backprop": guided_backprop,
}
