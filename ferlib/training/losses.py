"""Targets from labels, votes and conflicting copies, and the losses against them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F

from ferlib.data.copies import copy_numbers
from ferlib.data.face_data import FaceData
from ferlib.runtime.errors import UserError
from recipes import Objective

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # logits N×classes, targets N×classes → losses N
TINY = 1e-12  # in place of a weight of 0, by which is divided: that of a class without training faces

# Each loss is a sum of terms, one per class, which `class_weights` float32 (classes) multiply.


def cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, label_smoothing: float = 0.0, class_weights: torch.Tensor | None = None
) -> torch.Tensor:
    """Losses N of logits N×classes against target distributions N×classes (Szegedy et al., 2016, section 7)."""
    return F.cross_entropy(logits, targets, class_weights, label_smoothing=label_smoothing, reduction="none")


def focal(
    logits: torch.Tensor, targets: torch.Tensor, gamma: float = 2.0, class_weights: torch.Tensor | None = None
) -> torch.Tensor:
    """−Σ t (1 − p)^γ log p (Lin et al., "Focal Loss", 2017, equation 4), for target distributions."""
    log_probabilities = logits.log_softmax(1)
    terms = targets * (1 - log_probabilities.exp()) ** gamma * log_probabilities
    return -(terms if class_weights is None else class_weights * terms).sum(1)


def vote_divergence(
    logits: torch.Tensor, targets: torch.Tensor, class_weights: torch.Tensor | None = None
) -> torch.Tensor:
    """KL divergence of the model's distribution from the annotators' (Barsoum et al., 2016, section 3.4)."""
    terms = F.kl_div(logits.log_softmax(1), targets, reduction="none")
    return (terms if class_weights is None else class_weights * terms).sum(1)


def distillation(logits: torch.Tensor, teachers: torch.Tensor, temperature: float) -> torch.Tensor:
    """T² times the KL divergence of softmax(logits / T) from the teachers' distribution at that temperature, N.

    Hinton et al., "Distilling the knowledge in a neural network" (2015), section 2.
    """
    return temperature**2 * F.kl_div((logits / temperature).log_softmax(1), teachers, reduction="none").sum(1)


LOSSES: dict[str, Callable[[float, float], Callable[..., torch.Tensor]]] = {  # label smoothing, focal gamma → loss
    "cross_entropy": lambda smoothing, _: partial(cross_entropy, label_smoothing=smoothing),
    "focal": lambda _, gamma: partial(focal, gamma=gamma),
    "votes": lambda *_: vote_divergence,
}


def weighted_terms(
    logits: torch.Tensor, targets: torch.Tensor, loss: Callable[..., torch.Tensor], class_weights: torch.Tensor
) -> torch.Tensor:
    """Losses N with weighted terms, each divided by the weight of its face's target.

    Their mean, weighted by the latter, is the loss of torch.nn.CrossEntropyLoss(weight, label_smoothing=…) for labels.
    """
    return loss(logits, targets, class_weights=class_weights) / (targets @ class_weights).clamp(min=TINY)


@dataclass(frozen=True)
class Criterion:
    """The loss of a training. Targets of several kinds stand beside each other: N×kinds·classes.

    They are those of the labels, then, where they have a weight, those of the teachers, then the shares of the votes.
    """

    of_labels: Loss
    classes: int
    teacher_weight: float = 0.0
    temperature: float = 1.0
    votes_weight: float = 0.0
    class_weights: torch.Tensor | None = None  # float32, one per class; none: all are 1
    by_terms: bool = False  # whether they multiply the terms of the loss of the labels, or the loss of a face

    def __call__(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Losses N of the model's own logits N×classes."""
        losses = self.of_labels(logits, self.labels(targets))
        if not self.teacher_weight:
            return losses
        teachers = targets[:, self.classes : 2 * self.classes]
        return torch.lerp(losses, distillation(logits, teachers, self.temperature), self.teacher_weight)

    def of_votes(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Losses N of the logits N×classes of the votes' head, times their weight; 0 of faces without votes."""
        return self.votes_weight * vote_divergence(logits, targets[:, -self.classes :])

    def labels(self, targets: torch.Tensor) -> torch.Tensor:
        """The targets N×classes that come from the labels."""
        return targets[:, : self.classes]

    def weigh(self, targets: torch.Tensor) -> torch.Tensor:
        """The weights N of a whole batch, by which losses are multiplied before their mean is taken.

        The mean of the class weights over a face's target: of a label its weight, of a mixture that of its shares. By
        terms they have mean 1 over the batch.
        """
        if self.class_weights is None:
            return torch.ones(len(targets), device=targets.device)
        weights = (self.labels(targets) * self.class_weights).sum(1)
        return weights / weights.mean().clamp(min=TINY) if self.by_terms else weights

    def mean_over(self, logits: torch.Tensor, targets: torch.Tensor, batch_size: int) -> float:
        """The weighted loss of the labels, without teachers and votes: the mean over batches, each by its faces."""
        batches = zip(logits.split(batch_size), targets.split(batch_size), strict=True)
        return sum((self.weigh(t) * self.of_labels(z, t)).sum().item() for z, t in batches) / len(logits)


def make_criterion(
    name: str,
    objective: Objective,
    classes: int,
    *,
    weights: torch.Tensor | None = None,
    taught: bool = False,
) -> Criterion:
    """The loss of an objective, `name` in place of its own; weights: of the classes; taught: there are teachers."""
    loss, by_terms = LOSSES[name](objective.label_smoothing, objective.focal_gamma), False
    if weights is not None and objective.class_weighting == "terms":
        loss, by_terms = partial(weighted_terms, loss=loss, class_weights=weights), True
    return Criterion(
        loss,
        classes,
        objective.teacher_weight if taught else 0.0,
        objective.teacher_temperature,
        objective.votes_weight,
        weights,
        by_terms,
    )


def effective_loss(loss: str, data: FaceData) -> str:
    """The loss, or cross-entropy in place of votes where the data set has none."""
    return "cross_entropy" if loss == "votes" and data.votes is None else loss


def join_targets(data: FaceData, objective: Objective, taught: np.ndarray | None) -> np.ndarray:
    """Targets float32 N×kinds·classes as Criterion reads them.

    taught: the teachers' probabilities N×classes, if there are any. UserError for a weight of votes that are not known.
    """
    kinds = [make_targets(data, loss=objective.loss, conflicts=objective.conflicts)]
    if taught is not None and objective.teacher_weight:
        kinds.append(taught.astype(np.float32))
    if objective.votes_weight:
        if data.votes is None:
            raise UserError(f"--votes-weight: this copy of {data.facts.title} has no annotators' votes; use 0")
        kinds.append(data.votes.astype(np.float32))
    return np.concatenate(kinds, axis=1)


def make_targets(data: FaceData, *, loss: str = "cross_entropy", conflicts: str = "keep") -> np.ndarray:
    """Target distributions float32 N×classes: votes for the loss of that name where a face has any, or labels.

    conflicts: with "share", identical faces of different labels have the mean of their targets.
    """
    classes = len(data.classes)
    targets = np.eye(classes, dtype=np.float32)[data.labels]
    if loss == "votes" and data.votes is not None:
        return np.where(data.votes.any(1, keepdims=True), data.votes, targets).astype(np.float32)
    if conflicts == "share":
        copies = copy_numbers(data)
        sums = np.zeros((copies.max() + 1, classes), np.float32)
        np.add.at(sums, copies, targets)
        targets = (sums / sums.sum(1, keepdims=True))[copies]
    return targets


def without_conflicts(data: FaceData) -> np.ndarray:
    """int64: the rows of the faces that have no identical face of another label."""
    copies = copy_numbers(data)
    labels = np.zeros((copies.max() + 1, len(data.classes)), bool)
    labels[copies, data.labels] = True
    return np.flatnonzero(labels.sum(1)[copies] == 1)


def class_weights(labels: np.ndarray, classes: int) -> np.ndarray:
    """float32, one per class: inverse frequencies with mean 1 over the faces; 0 for a class that does not occur."""
    counts = np.bincount(labels, minlength=classes)
    weights = np.zeros(classes, np.float32)
    weights[counts > 0] = len(labels) / (counts[counts > 0] * (counts > 0).sum())
    return weights
