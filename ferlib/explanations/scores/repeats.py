"""Maps of a face made again: with another seed, fill or segmentation, of noisy copies, of networks at random."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from ferlib.explanations.binding import Explain
from ferlib.explanations.records import Attribution
from ferlib.explanations.scores import simple_maps, stability, truth
from ferlib.runtime.seeds import combine_seeds

STAGES = 6  # of a network whose layers are randomised from the head down


@dataclass(frozen=True)
class Repeats:
    """A method and the same under other choices."""

    explain: Explain
    fill: Explain | None = None  # another baseline
    segmentation: Explain | None = None  # another division into regions
    random: bool = True  # its maps depend on the seed
    redrawn: Explain | None = None  # other background faces, which another seed draws


def explain_stability(
    model: nn.Module,  # noqa: ARG001 — the methods have it
    images: torch.Tensor,
    targets: torch.Tensor,
    *,
    seeds: Sequence[int],
    repeats: Mapping[str, Repeats],
    **_: Any,
) -> list[Attribution]:
    """An attribution per face whose fact "stability" holds, of each method and simple map:

    seed_rank and seed_top (rank correlation of the map with one of another seed, which also draws other background
    faces; share of its strongest pixels that are the same), fill_rank (with the face blurred instead of grey),
    segmentation_rank (with other regions), sensitivity (Stability.max_sensitivity); each only where the choice exists.
    """
    found = []
    for image, target, seed in zip(images, targets, seeds, strict=True):
        own = {name: measure(each, image[None], target[None], seed) for name, each in repeats.items()}
        simple = {name: measure(repeats_of(name), image[None], target[None], seed) for name in simple_maps.MAPS}
        found.append(Attribution(np.zeros(image.shape[1:], np.float32), {}, {"stability": own | simple}))
    return found


def repeats_of(name: str) -> Repeats:
    """A simple map as a method."""
    return Repeats(lambda images, _targets, seeds: simple_maps.explain(name, images, seeds), random=name == "random")


def measure(repeats: Repeats, image: torch.Tensor, target: torch.Tensor, seed: int) -> dict[str, float]:
    """The scores of a method for a face 1×C×H×W."""
    here = map_of(repeats.explain, image, target, seed)
    found: dict[str, float] = {"seed_rank": 1.0, "seed_top": 1.0}
    if repeats.random:
        again = map_of(repeats.redrawn or repeats.explain, image, target, combine_seeds(seed, 21))
        found = {"seed_rank": ranks(here, again), "seed_top": stability.top_overlap(here, again)}
    for name, other in (("fill_rank", repeats.fill), ("segmentation_rank", repeats.segmentation)):
        if other is not None:
            found[name] = ranks(here, map_of(other, image, target, seed))
    copies = stability.noisy_copies(image[0], combine_seeds(seed, 22))
    maps = [each.map for each in repeats.explain(copies, target.expand(len(copies), -1), [seed] * len(copies))]
    found["sensitivity"] = stability.max_sensitivity(here, maps)
    return found


def map_of(explain: Explain, image: torch.Tensor, target: torch.Tensor, seed: int) -> np.ndarray:
    """The map H×W of one face."""
    return explain(image, target, [seed])[0].map.astype(np.float64)


def ranks(one: np.ndarray, other: np.ndarray) -> float:
    """Rank correlation of the pixels of two maps."""
    return truth.rank_correlation(one.ravel(), other.ravel())


# ── sanity ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def explain_sanity(
    model: nn.Module,  # noqa: ARG001 — the methods have it
    images: torch.Tensor,
    targets: torch.Tensor,
    *,
    seeds: Sequence[int],
    stages: Sequence[Mapping[str, Explain]],
    **_: Any,
) -> list[Attribution]:
    """An attribution per face whose fact "sanity" holds a curve of each method.

    Adebayo et al., "Sanity checks for saliency maps" (2018), section 3.1, cascading randomisation: the rank correlation
    of the absolute map with that of the network whose layers are randomised from the head down, one more part at each
    stage; stages: the methods of the network itself, then of each stage. A method whose curve stays high does not show
    what the network has learned.
    """
    curves: dict[str, list[list[float]]] = {name: [] for name in stages[0]}
    for name in stages[0]:
        maps = [[each.map for each in stage[name](images, targets, seeds)] for stage in stages]
        for first, *others in zip(*maps, strict=True):
            curves[name].append([1.0, *(ranks(np.abs(first), np.abs(other)) for other in others)])
    return [
        Attribution(
            np.zeros(images.shape[2:], np.float32), {}, {"sanity": {name: rows[face] for name, rows in curves.items()}}
        )
        for face in range(len(images))
    ]


def randomised(network: nn.Module, seed: int, stages: int = STAGES) -> Iterator[nn.Module]:
    """Copies of a network whose layers are randomised, one more part of them in each: from the head to the input.

    A layer's weights and buffers are permuted, each within itself, so that their distribution stays.
    """
    layers = [name for name, module in network.named_modules() if has_weights(module)]
    for part in np.array_split(np.arange(len(layers)), min(stages, len(layers)))[::-1]:
        made = copy.deepcopy(network)
        generator = torch.Generator().manual_seed(seed)
        for name in layers[part[0] :]:
            permute(made.get_submodule(name), generator)
        yield made


def has_weights(module: nn.Module) -> bool:
    """Whether a module itself has parameters."""
    return any(True for _ in module.parameters(recurse=False))


@torch.no_grad()
def permute(module: nn.Module, generator: torch.Generator) -> None:
    """Shuffles the values of each of the module's own tensors."""
    for tensor in [*module.parameters(recurse=False), *module.buffers(recurse=False)]:
        if tensor.is_floating_point():
            order = torch.randperm(tensor.numel(), generator=generator).to(tensor.device)
            tensor.copy_(tensor.flatten()[order].view_as(tensor))
