"""Targets from labels, votes and conflicting copies, and the losses against them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F

from ferlib.data.copies import copy_numbers
from ferlib.data.face_data import FaceData

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # logits N×classes, targets N×classes → losses N


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
    """Losses N of logits N×classes against target distributions N×classes (Szegedy et al., 2016, section 7)."""
    return F.cross_entropy(logits, targets, label_smoothing=label_smoothing, reduction="none")


def focal(logits: torch.Tensor, targets: torch.Tensor, gamma: float = 2.0) -> torch.Tensor:
    """−Σ t (1 − p)^γ log p (Lin et al., "Focal Loss", 2017, equation 4), for target distributions."""
    log_probabilities = logits.log_softmax(1)
    return -(targets * (1 - log_probabilities.exp()) ** gamma * log_probabilities).sum(1)


def vote_divergence(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """KL divergence of the model's distribution from the annotators' (Barsoum et al., 2016, section 3.4)."""
    return F.kl_div(logits.log_softmax(1), targets, reduction="none").sum(1)


LOSSES: dict[str, Callable[[float, float], Loss]] = {  # label smoothing, focal gamma → loss
    "cross_entropy": lambda smoothing, _: partial(cross_entropy, label_smoothing=smoothing),
    "focal": lambda _, gamma: partial(focal, gamma=gamma),
    "votes": lambda *_: vote_divergence,
}


def make_loss(name: str, *, label_smoothing: float = 0.0, focal_gamma: float = 2.0) -> Loss:
    """The loss `name`, a row of LOSSES, with its settings."""
    return LOSSES[name](label_smoothing, focal_gamma)


def effective_loss(loss: str, data: FaceData) -> str:
    """The loss, or cross-entropy in place of votes where the data set has none."""
    return "cross_entropy" if loss == "votes" and data.votes is None else loss


def make_targets(data: FaceData, *, loss: str = "cross_entropy", conflicts: str = "keep") -> np.ndarray:
    """Target distributions float32 N×classes: votes for the loss of that name where the data set has them, or labels.

    conflicts: with "share", identical faces of different labels have the mean of their targets.
    """
    if loss == "votes" and data.votes is not None:
        return data.votes.astype(np.float32)
    classes = len(data.classes)
    targets = np.eye(classes, dtype=np.float32)[data.labels]
    if conflicts == "share":
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
