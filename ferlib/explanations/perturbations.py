"""Faces with some of their segments replaced by the baseline, and the network's probabilities of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import nn

from ferlib.explanations.baselines import make_baseline
from ferlib.explanations.pairs import balanced_masks
from ferlib.runtime.errors import UserError
from ferlib.runtime.seeds import combine_seeds

Sampling = Literal["paired", "independent"]
Segments = np.ndarray | Callable[[np.ndarray, int], np.ndarray]  # H×W or N×H×W; or (image H×W×C, seed) → H×W
Placed = tuple[np.ndarray, bool | None]  # segments H×W, and whether landmarks placed them (superpixels.Segmenter.place)


@dataclass
class PerturbedFace:
    """A face, its segments, perturbation masks and the probabilities of the perturbed images."""

    image: torch.Tensor  # C,H,W in 0..1
    baseline: torch.Tensor  # C,H,W: replaces hidden regions
    segments: np.ndarray  # int16 H,W
    random: np.random.RandomState  # lime's generator: the same seed gives the same masks
    masks: np.ndarray  # uint8 perturbations,regions: 1 shown, 0 hidden
    probabilities: np.ndarray  # float64 perturbations,K; of the first masks, the others are not predicted yet
    seed: int  # of paired masks
    sampling: Sampling = "paired"  # of its masks
    landmarks_found: bool | None = None  # whether they placed the segments; None of segments that they do not place

    def draw_masks(self, count: int, sampling: Sampling) -> PerturbedFace:
        """Adds `count` masks in which each region is shown with probability ½; the very first one shows all regions.

        independent: as the lime package draws them. paired: each mask is followed by its complement, the first one by
        that of no regions, and the others are balanced (pairs.balanced_masks).
        """
        done, regions = self.masks.shape
        self.sampling = sampling
        if sampling == "independent":
            drawn = self.random.randint(0, 2, count * regions).reshape(count, regions).astype(np.uint8)
            drawn[: done == 0] = 1
        else:
            ends = np.repeat([[1], [0]], regions, axis=1).astype(np.uint8)[done : done + count]
            start, stop = max(done - 2, 0), max(done + count - 2, 0)
            drawn = np.concatenate([ends, balanced_masks(start, stop, regions, self.seed)])
        self.masks = np.concatenate([self.masks, drawn])
        return self


def segment_faces(
    images: torch.Tensor, seeds: Sequence[int], segments: Segments, baseline: str | float, classes: int
) -> Iterator[PerturbedFace]:
    """The faces with their segments; beside a GPU, those of the next faces are computed while it works."""
    if not callable(segments):
        numbers = np.broadcast_to(segments, (len(images), *images.shape[2:]))
        yield from perturbed_faces(images, ((each, None) for each in numbers), seeds, baseline, classes)
        return
    function = segments
    place: Callable[[np.ndarray, int], Placed] = getattr(segments, "place", lambda *given: (function(*given), None))
    pixels = images.permute(0, 2, 3, 1).cpu().numpy()
    own_seeds = [combine_seeds(seed, 1) for seed in seeds]
    with ThreadPoolExecutor() if images.device.type != "cpu" else nullcontext() as pool:
        placed = (pool.map if pool else map)(place, pixels, own_seeds)
        yield from perturbed_faces(images, placed, seeds, baseline, classes)


def perturbed_faces(
    images: torch.Tensor, segments: Iterable[Placed], seeds: Sequence[int], baseline: str | float, classes: int
) -> Iterator[PerturbedFace]:
    """Faces N×C×H×W without masks."""
    for image, (numbers, landmarks), seed in zip(images, segments, seeds, strict=True):
        filled = region_means(image, numbers) if baseline == "region" else make_baseline(image[None], baseline)[0]
        none = np.zeros((0, int(numbers.max()) + 1), np.uint8)
        random, outputs = np.random.RandomState(seed), np.zeros((0, classes))
        yield PerturbedFace(image, filled, numbers, random, none, outputs, seed, landmarks_found=landmarks)


def region_means(image: torch.Tensor, segments: np.ndarray) -> torch.Tensor:
    """Each pixel of C×H×W replaced by the mean of its region."""
    numbers = torch.from_numpy(segments.astype(np.int64)).to(image.device).flatten()
    sums = torch.zeros(len(image), int(segments.max()) + 1, device=image.device)
    sums.index_add_(1, numbers, image.flatten(1))
    return (sums / torch.bincount(numbers))[:, numbers].view_as(image)


def perturb(face: PerturbedFace, masks: torch.Tensor) -> torch.Tensor:
    """The face with hidden regions replaced: masks bool M×regions on its device → M×C×H×W, channels last."""
    numbers = torch.from_numpy(face.segments.astype(np.int64)).to(masks.device)
    visible = masks.gather(1, numbers.flatten().expand(len(masks), -1)).view(-1, *numbers.shape, 1)
    image, filled = face.image.permute(1, 2, 0), face.baseline.permute(1, 2, 0)
    blended = torch.lerp(filled, image, visible.to(image.dtype))  # exact at 0 and 1; `where` is slower
    return blended.permute(0, 3, 1, 2)


@torch.inference_mode()
def predict_perturbations(model: nn.Module, faces: Iterable[PerturbedFace], batch_size: int) -> list[PerturbedFace]:
    """Adds the probabilities of all masks that have none yet; a batch holds perturbations of several faces."""
    outputs: dict[int, list[torch.Tensor]] = {}
    seen: dict[int, PerturbedFace] = {}
    for batch in batch_masks(faces, batch_size):
        parts = [perturb(face, masks) for face, masks in batch]
        images = torch.cat(parts) if len(parts) > 1 else parts[0]  # spares a copy
        probabilities = model(images.contiguous(memory_format=torch.channels_last)).double().softmax(1)
        for (face, _), part in zip(batch, probabilities.split([len(masks) for _, masks in batch]), strict=True):
            seen[id(face)] = face
            outputs.setdefault(id(face), []).append(part)
    for number, face in seen.items():
        found = torch.cat(outputs[number]).cpu().numpy()
        if not np.isfinite(found).all():
            raise UserError("the model's probabilities are not finite; try --no-amp, or train it again")
        face.probabilities = np.concatenate([face.probabilities, found])
    return list(seen.values())


def batch_masks(faces: Iterable[PerturbedFace], batch_size: int) -> Iterator[list[tuple[PerturbedFace, torch.Tensor]]]:
    """Batches of masks without probabilities, each a list of faces with some of their masks."""
    batch, room = [], batch_size
    for face in faces:
        masks = torch.from_numpy(face.masks[len(face.probabilities) :]).bool().to(face.image.device)
        while len(masks):
            part, masks = masks[:room], masks[room:]
            batch.append((face, part))
            room -= len(part)
            if not room:
                yield batch
                batch, room = [], batch_size
    if batch:
        yield batch
