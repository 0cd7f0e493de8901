"""Exact Shapley values of a face's regions: every set of regions is shown to the network, the others are filled.

Strumbelj & Kononenko, "An efficient explanation of individual classifications using game theory" (2010), equation 2, of
named regions in place of features: no sampling, hence no seed and no sampling error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from config import EMOTIONS
from ferlib.explanations.baselines import make_baseline
from ferlib.explanations.coalitions import (
    coalitions,
    interactions,
    shapley_values,
    smallest_changing,
    smallest_keeping,
)
from ferlib.explanations.face_regions import PARTITIONS, regions_of
from ferlib.explanations.records import Attribution, maps_of
from ferlib.explanations.targets import target_weights
from ferlib.explanations.transplants import Donor, FindDonor, find_transplant
from ferlib.faces.landmarks import MEAN_LANDMARKS
from ferlib.runtime.errors import UserError, lookup

RUNNER_UP = "runner_up"
Fill = Callable[[torch.Tensor, np.ndarray], torch.Tensor]  # images N×C×H×W, landmarks N×5×2 → what hides them


@dataclass(frozen=True)
class Placed:
    """Faces with their landmarks and regions."""

    landmarks: np.ndarray  # float64 N×5×2, as shares of the side
    found: np.ndarray  # bool N: found in the face, else those of the mean face
    regions: np.ndarray  # int16 N×H×W: numbers of the partition's regions


Place = Callable[[torch.Tensor], Placed]  # images N×C×H×W in 0..1 → their regions


def regions(
    model: nn.Module,
    images: torch.Tensor,
    targets: torch.Tensor,
    *,
    landmarks: np.ndarray | None = None,
    partition: str = "ten",
    baseline: str | float = "grey",
    output: str = "probability",
    batch_size: int = 64,
) -> np.ndarray:
    """Each region's exact Shapley value at its pixels: float32 N×S×S.

    model: images N×C×S×S in 0..1 → logits N×K. targets: classes N, or weights N×K of the outcomes. landmarks: N×5×2 as
    shares of the side (faces.landmarks.find_landmarks), by default those of an average face. baseline: see
    baselines.make_baseline. UserError for unknown names.
    """
    lookup(PARTITIONS, partition, "partition")
    points = np.repeat(MEAN_LANDMARKS[None], len(images), 0) if landmarks is None else landmarks
    side, known = images.shape[-1], np.full(len(images), landmarks is not None)
    placed = Placed(points, known, np.stack([regions_of(each, side, partition) for each in points]))
    options: dict[str, Any] = {"partition": partition, "output": output, "batch_size": batch_size}
    found = explain(
        model,
        images,
        target_weights(model, images, targets),
        seeds=(),
        place=lambda _: placed,
        fills={str(baseline): lambda faces, _: make_baseline(faces, baseline)},
        baseline=str(baseline),
        **options,
    )
    return maps_of(found)


def explain(
    model: nn.Module,
    images: torch.Tensor,
    targets: torch.Tensor,
    *,
    seeds: Sequence[int],  # noqa: ARG001 — nothing is random here
    place: Place,
    fills: Mapping[str, Fill],
    find_donor: FindDonor | None = None,
    baseline: str = "grey",
    partition: str = "ten",
    counterfactual: str = RUNNER_UP,
    output: str = "probability",
    batch_size: int = 64,
) -> list[Attribution]:
    """An attribution per face, whose map shows each region's Shapley value at the region's pixels.

    model: images N×C×H×W in 0..1 → logits N×7. targets: weights N×7 of the outcomes. fills: by name, what hides a
    region; `baseline` names the one of the values, and the others tell how much the values depend on it. output: the
    outcome of a set of regions, the probability or the logit of the target. find_donor: None where there are no other
    faces. counterfactual: the class of the donor, or RUNNER_UP (the second most probable one), or "none".

    Arrays: "regions" int16 H×W, "landmarks" float32 5×2 as shares of the side, "logits" float32 2ⁿ×7 of all sets in the
    order of coalitions(), "values" float32 n×7 and "interactions" float32 n×n, of the target; with a donor "donor" and
    "transplant" uint8 H×W×C, black where there is none. Facts: see `describe`; fills (see `compare_fills`);
    landmarks_found; counterfactual (see `exchange`).
    """
    names = PARTITIONS[partition]
    placed = place(images)
    checks = single_sets(len(names))
    found = []
    games = play(model, images, placed, fills, baseline, len(names), batch_size)
    for number, (weights, logits) in enumerate(zip(targets.cpu().double().numpy(), games, strict=True)):
        tables = {name: outcomes(each, output) for name, each in logits.items()}
        own, face = tables[baseline], logits[baseline][-1]
        facts = describe(names, logits[baseline], own, weights)
        facts["fills"] = compare_fills({name: table @ weights for name, table in tables.items()}, baseline, checks)
        facts["landmarks_found"] = bool(placed.found[number])
        arrays = {
            "regions": placed.regions[number],
            "landmarks": placed.landmarks[number].astype(np.float32),
            "logits": logits[baseline].astype(np.float32),
            "values": shapley_values(own).astype(np.float32),
            "interactions": interactions(own @ weights).astype(np.float32),
        }
        if find_donor is not None:
            label = class_of_donor(counterfactual, face)
            of_face = images[number], placed.landmarks[number]
            donor = None if label is None else find_donor(*of_face, label)
            facts["counterfactual"], pictures = exchange(
                model, *of_face, placed.regions[number], names, donor, label, batch_size
            )
            arrays |= pictures
        values = shapley_values(own @ weights)
        found.append(Attribution(values[placed.regions[number]].astype(np.float32), arrays, facts))
    return found


def play(
    model: nn.Module,
    images: torch.Tensor,
    placed: Placed,
    fills: Mapping[str, Fill],
    baseline: str,
    players: int,
    batch_size: int,
) -> list[dict[str, np.ndarray]]:
    """Logits float64 of each face: under the baseline of all sets 2ⁿ×K, under each other fill of the single_sets."""
    shown = coalitions(players)
    rows = {name: shown if name == baseline else shown[single_sets(players)] for name in fills}
    masks = {name: torch.from_numpy(each).bool().to(images.device) for name, each in rows.items()}
    filled = {name: fill(images, placed.landmarks) for name, fill in fills.items()}
    regions = torch.from_numpy(placed.regions.astype(np.int64)).to(images.device)
    pictures = (
        show(images[number], filled[name][number], regions[number], part)
        for number in range(len(images))
        for name in fills
        for part in masks[name].split(batch_size)
    )
    logits = predict(model, pictures, batch_size).double().cpu().numpy()
    lengths = [len(each) for each in rows.values()]
    parts = np.split(logits, np.cumsum(lengths * len(images))[:-1])
    return [dict(zip(rows, parts[start : start + len(rows)], strict=True)) for start in range(0, len(parts), len(rows))]


def class_of_donor(counterfactual: str, logits: np.ndarray) -> int | None:
    """The class that a counterfactual is to be of; None for "none", or where the face is of that class already."""
    if counterfactual == "none":
        return None
    label = int(np.argsort(-logits)[1]) if counterfactual == RUNNER_UP else EMOTIONS.index(counterfactual)
    return None if label == logits.argmax() else label


def exchange(
    model: nn.Module,
    image: torch.Tensor,
    landmarks: np.ndarray,
    regions: np.ndarray,
    names: Sequence[str],
    donor: Donor | None,
    label: int | None,
    batch_size: int,
) -> tuple[dict[str, Any] | None, dict[str, np.ndarray]]:
    """The counterfactual of a face as facts, and its pictures.

    Facts: label (class number), regions (the donor's, null where even all of them do not make it that class),
    probability, donor (its name), passes; null without a donor.
    """
    if donor is None or label is None:
        black = np.zeros((*image.shape[1:], len(image)), np.uint8)
        return None, {"donor": black, "transplant": black}
    found = find_transplant(model, image, landmarks, regions, tuple(names), donor, label, batch_size)
    facts = {
        "label": label,
        "donor": donor.name,
        "regions": found.regions,
        "probability": found.probability,
        "passes": found.passes,
    }
    return facts, {"donor": to_bytes(donor.image), "transplant": to_bytes(found.image)}


def to_bytes(image: torch.Tensor) -> np.ndarray:
    """uint8 H×W×C from C×H×W in 0..1."""
    return (image * 255).round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy()


def count_passes(_image_size: int, partition: str = "ten", **_: Any) -> int:
    """Forward passes of single images that a face takes with four fills."""
    players = len(PARTITIONS[partition])
    return 2**players + 3 * (2 * players + 2)


def single_sets(players: int) -> np.ndarray:
    """Rows of the table: no region, each alone, all but each, all."""
    alone = 2 ** np.arange(players)
    return np.concatenate([[0], alone, 2**players - 1 - alone, [2**players - 1]])


def show(image: torch.Tensor, filled: torch.Tensor, regions: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """The image C×H×W with the regions H×W that the masks M×n do not show taken from `filled`: M×C×H×W."""
    visible = masks.bool()[:, regions.flatten()].view(-1, 1, *regions.shape)
    return torch.where(visible, image, filled)


@torch.inference_mode()
def predict(model: nn.Module, pictures: Iterator[torch.Tensor], batch_size: int) -> torch.Tensor:
    """Logits float32 M×K of all pictures, in batches that join short parts; UserError if they are not finite."""
    found, waiting = [], torch.empty(0)
    for part in pictures:
        waiting = torch.cat([waiting, part]) if len(waiting) else part
        while len(waiting) >= batch_size:
            batch, waiting = waiting[:batch_size], waiting[batch_size:]
            found.append(model(batch.contiguous(memory_format=torch.channels_last)).float())
    if len(waiting):
        found.append(model(waiting.contiguous(memory_format=torch.channels_last)).float())
    logits = torch.cat(found)
    if not logits.isfinite().all():
        raise UserError("the model's logits are not finite; try --no-amp, or train it again")
    return logits


def outcomes(logits: np.ndarray, output: str) -> np.ndarray:
    """float64 M×K: the logits, or their softmax."""
    if output == "logit":
        return logits
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def describe(names: Sequence[str], logits: np.ndarray, values: np.ndarray, weights: np.ndarray) -> dict[str, Any]:
    """What the summary says of a face.

    values: each region's Shapley value of the target, which with hidden, the target's outcome of the face with all of
    them filled, add up to its outcome; that is computed among the sets, in bfloat16 within 0.02 of the probability.
    label: the class of the face. keeping: the smallest set of regions that is classified as it is; without: the
    smallest set whose removal changes the class, becomes: to which; each null where there is none. pair: the strongest
    interaction.
    """
    label = int(logits[-1].argmax())
    shapley = shapley_values(values @ weights)
    pairs = interactions(values @ weights)
    first, second = sorted(map(int, np.unravel_index(np.abs(pairs).argmax(), pairs.shape)))
    keeping, changing = smallest_keeping(logits, label), smallest_changing(logits, label)
    return {
        "values": dict(zip(names, shapley.tolist(), strict=True)),
        "hidden": float(values[0] @ weights),
        "outcome": float(values[-1] @ weights),
        "keeping": None if keeping is None else members(names, keeping),
        "without": None if changing is None else members(names, len(logits) - 1 - changing),
        "becomes": None if changing is None else int(logits[changing].argmax()),
        "label": label,
        "pair": {"regions": [names[first], names[second]], "value": float(pairs[first, second])},
    }


def members(names: Sequence[str], row: int) -> list[str]:
    """The regions of a row of the table."""
    return [name for number, name in enumerate(names) if row >> number & 1]


def compare_fills(tables: Mapping[str, np.ndarray], baseline: str, checks: np.ndarray) -> dict[str, float]:
    """Correlation −1..1 of the regions' effects under the baseline with those under each other fill.

    tables: outcomes by fill, of the baseline of all sets and else of the rows `checks`, which are those of single_sets.
    The effect of a region is the mean of what it adds to no region and to all the others, the first and the last term
    of a Shapley value.
    """
    effects = single_effects(tables[baseline][checks])
    others = {name: single_effects(table) for name, table in tables.items() if name != baseline}
    return {name: correlation(effects, other) for name, other in others.items()}


def single_effects(values: np.ndarray) -> np.ndarray:
    """float64 n from outcomes of the rows of single_sets."""
    players = len(values) // 2 - 1
    alone, without = values[1 : players + 1], values[players + 1 : -1]
    return (alone - values[0] + values[-1] - without) / 2


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson's; 0 where one of both is constant."""
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])
