"""What a model is trained towards: targets from labels, votes and conflicting copies, and the losses against them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

from ferlib.data.copies import copy_numbers
from ferlib.data.face_data import FaceData
from recipes import Recipe


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    """Loss N of logits N×classes against target distributions N×classes, smoothed (Szegedy et al., 2016, section 7)."""
    return F.cross_entropy(logits, targets, label_smoothing=recipe.label_smoothing, reduction="none")


def focal(logits: torch.Tensor, targets: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    """−Σ t (1 − p)^γ log p (Lin et al., "Focal Loss", 2017, equation 4), for target distributions."""
    log_probabilities = logits.log_softmax(1)
    return -(targets * (1 - log_probabilities.exp()) ** recipe.focal_gamma * log_probabilities).sum(1)


def votes(logits: torch.Tensor, targets: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    """KL divergence of the model's distribution from the annotators' (Barsoum et al., 2016, section 3.4)."""
    return F.kl_div(logits.log_softmax(1), targets, reduction="none").sum(1)


LOSSES: dict[str, Callable[[torch.Tensor, torch.Tensor, Recipe], torch.Tensor]] = {
    "cross_entropy": cross_entropy,
    "focal": focal,
    "votes": votes,
}


def effective_loss(data: FaceData, recipe: Recipe) -> str:
    """The recipe's loss, or cross-entropy where it wants votes and the data set has none."""
    return "cross_entropy" if recipe.loss == "votes" and data.votes is None else recipe.loss


def make_targets(data: FaceData, recipe: Recipe) -> np.ndarray:
    """Target distributions float32 N×classes: votes, or labels; identical faces share theirs with conflicts="share"."""
    if recipe.loss == "votes" and data.votes is not None:
        return data.votes.astype(np.float32)
    classes = len(data.classes)
    targets = np.eye(classes, dtype=np.float32)[data.labels]
    if recipe.conflicts == "share":
        copies = copy_numbers(data)
        sums = np.zeros((copies.max() + 1, classes), np.float32)
        np.add.at(sums, copies, targets)
        targets = (sums / sums.sum(1, keepdims=True))[copies]
    return targets


def without_conflicts(data: FaceData) -> FaceData:
    """The faces less those that have an identical face of another label."""
    copies = copy_numbers(data)
    labels = np.zeros((copies.max() + 1, len(data.classes)), bool)
    labels[copies, data.labels] = True
    return data.select(np.flatnonzero(labels.sum(1)[copies] == 1))


def class_weights(labels: np.ndarray, classes: int) -> np.ndarray:
    """float32, one per class: inverse frequencies with mean 1 over the faces; 0 for a class that does not occur."""
    counts = np.bincount(labels, minlength=classes)
    weights = np.zeros(classes, np.float32)
    weights[counts > 0] = len(labels) / (counts[counts > 0] * (counts > 0).sum())
    return weights
