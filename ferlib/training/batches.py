"""The training faces on the device, with their targets and weights, and the batches of an epoch."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from ferlib.data.face_data import FaceData
from ferlib.runtime.distributed import world_size
from ferlib.runtime.errors import UserError
from ferlib.training.losses import class_weights, join_targets, without_conflicts
from recipes import Objective, Recipe

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # images N×C×H×W, targets N×kinds·classes, weights N
DEVICE_SHARE = 0.4  # of the free memory of a GPU that the decoded faces may fill; a larger set stays on the host


@dataclass(frozen=True)
class Faces:
    """The training faces where the compute is, or on the host if they do not fit there."""

    images: torch.Tensor  # uint8 N,H,W,C
    targets: torch.Tensor  # float32 N,kinds·classes, as losses.Criterion reads them
    labels: torch.Tensor  # int64 N
    device: torch.device
    class_weights: torch.Tensor | None = None  # float32, of each class in the loss; none: all are 1

    def batches(self, rows: list[torch.Tensor]) -> Iterator[torch.Tensor]:
        """The images of each batch on the device; from the host, the next batch travels while one is computed."""
        if self.images.device == self.device:
            yield from (self.images[chosen] for chosen in rows)
            return
        with ThreadPoolExecutor(1) as loader:
            pending = [loader.submit(self._fetch, chosen) for chosen in rows[:2]]
            for number in range(len(rows)):
                yield pending.pop(0).result().to(self.device, non_blocking=True)
                if number + 2 < len(rows):
                    pending.append(loader.submit(self._fetch, rows[number + 2]))

    def _fetch(self, rows: torch.Tensor) -> torch.Tensor:
        return self.images[rows.cpu()].pin_memory()


def place_faces(data: FaceData, objective: Objective, device: torch.device, taught: np.ndarray | None = None) -> Faces:
    """The training faces with the targets and class weights that an objective gives them.

    taught: the teachers' probabilities N×classes, if there are any.
    """
    if objective.conflicts == "drop":
        kept = without_conflicts(data)
        data, taught = data.select(kept), None if taught is None else taught[kept]
    images = torch.from_numpy(data.images)
    if device.type == "cuda" and images.nbytes < DEVICE_SHARE * torch.cuda.mem_get_info(device)[0]:
        images = images.to(device)
    labels = torch.from_numpy(data.labels).to(device)
    targets = torch.from_numpy(join_targets(data, objective, taught)).to(device)
    weights = torch.from_numpy(class_weights(data.labels, len(data.classes))).to(device)
    return Faces(images, targets, labels, device, weights if objective.class_weights else None)


def draw_batches(labels: torch.Tensor, recipe: Recipe, generator: torch.Generator) -> list[torch.Tensor]:
    """The rows of an epoch in random order, in whole batches, as a small last one has noisy batch-norm statistics.

    UserError where the faces are too few for a batch.
    """
    size, parts = recipe.training.batch_size, recipe.training.accumulate * world_size()
    if recipe.objective.balanced_sampling:
        frequencies = torch.bincount(labels).clamp(min=1)[labels].float()
        order = torch.multinomial(1 / frequencies, len(labels), replacement=True, generator=generator)
    else:
        order = torch.randperm(len(labels), generator=generator, device=generator.device)
    batches = order.split(size)
    if len(batches[-1]) < size and (len(batches) > 1 or len(batches[-1]) % parts):
        batches = batches[:-1]
    if not batches:
        raise UserError(
            f"{len(labels)} faces in train are too few for {parts} equal parts of a batch; use a smaller batch"
        )
    return list(batches)
