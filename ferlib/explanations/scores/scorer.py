"""All scores of a face that take passes of the network, of all methods at once: what they share is paid once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from ferlib.explanations.baselines import make_baseline
from ferlib.explanations.binding import Explain
from ferlib.explanations.coalitions import coalitions, shapley_values
from ferlib.explanations.records import Attribution
from ferlib.explanations.regions import outcomes, predict, show
from ferlib.explanations.scores import curves, infidelity, road, simple_maps, truth
from ferlib.explanations.scores.columns import OF_LOGIT
from ferlib.explanations.transplants import FindDonor, match
from ferlib.explanations.warping import onto
from ferlib.runtime.seeds import combine_seeds

EXACT = "regions"  # the method whose table of all sets of regions is the truth
PIXEL_FILLS = ("blur", "mean")
TRANSPLANT = "transplant"  # the face of another class that looks most like it, moved onto it


@dataclass(frozen=True)
class Scored:
    """A method that is scored."""

    explain: Explain
    output: str  # what its values are of: the probability, else they are compared with the logit


@dataclass(frozen=True)
class Scorer:
    """What scoring needs of a network."""

    methods: Mapping[str, Scored]  # EXACT among them
    network: nn.Module  # for many forward passes
    modules: tuple[nn.Module, ...]  # whose passes are counted
    regions: int
    find_donor: FindDonor | None
    batch_size: int
    baseline: str | float = "grey"  # the fill of the squares of infidelity

    @property
    def names(self) -> tuple[str, ...]:
        """All rows: the methods and the simple maps."""
        return (*self.methods, *simple_maps.MAPS)


@dataclass
class Face:
    """A face with its maps, while it is scored."""

    image: torch.Tensor  # C×H×W
    target: np.ndarray  # float64 K: weights of the outputs
    seed: int
    maps: dict[str, np.ndarray]  # H×W as they are shown
    densities: dict[str, np.ndarray]  # H×W that can be summed
    exact: Attribution

    @property
    def regions(self) -> np.ndarray:
        """int16 H×W."""
        return self.exact.arrays["regions"]


def explain(
    model: nn.Module,  # noqa: ARG001 — the scorer has it
    images: torch.Tensor,
    targets: torch.Tensor,
    *,
    seeds: Sequence[int],
    scorer: Scorer,
    **_: Any,
) -> list[Attribution]:
    """An attribution per face of N×C×H×W: the exact values of its regions, and the scores of all methods.

    targets: weights N×K of the outputs. Facts: "scores" (row → name → number), "curves" (row → fill → outputs of
    deletion and of insertion at STEPS + 1 shares of the pixels), "passes", "landmarks_found". Arrays: "method_maps"
    float16 M×H×W, each as shares of its peak, and "sums" float32 M×n (of the regions) in the order of Scorer.names,
    "regions" int16 H×W, "landmarks" float32 5×2, "exact" float32 2×n: Shapley values of the probability and of the
    logit.
    """
    found, costs = make_maps(scorer, images, targets, seeds)
    weights = targets.cpu().double().numpy()
    return [
        score_face(
            scorer,
            Face(
                image,
                weights[number],
                seed,
                {name: rows[number].map.astype(np.float64) for name, rows in found.items()},
                {name: truth.density(rows[number]) for name, rows in found.items()},
                found[EXACT][number],
            ),
            {name: rows[number].facts for name, rows in found.items()},
            costs,
        )
        for number, (image, seed) in enumerate(zip(images, seeds, strict=True))
    ]


def make_maps(
    scorer: Scorer, images: torch.Tensor, targets: torch.Tensor, seeds: Sequence[int]
) -> tuple[dict[str, list[Attribution]], dict[str, dict[str, float]]]:
    """The attributions of all rows, and seconds and passes of a face of each method."""
    found: dict[str, list[Attribution]] = {}
    costs: dict[str, dict[str, float]] = {}
    for name, method in scorer.methods.items():
        start = time.perf_counter()
        with count_images(scorer.modules) as count:
            found[name] = method.explain(images, targets, seeds)
        seconds = (time.perf_counter() - start) / len(images)
        costs[name] = {"seconds": seconds, "passes": count() / len(images)}
    for name in simple_maps.MAPS:
        found[name] = simple_maps.explain(name, images, seeds)
    return found, costs


@contextmanager
def count_images(modules: Sequence[nn.Module]) -> Iterator[Callable[[], int]]:
    """Counts the images that go through any of the modules within the block."""
    total = 0

    def count(_module: nn.Module, inputs: tuple) -> None:
        nonlocal total
        total += len(inputs[0])

    handles = [module.register_forward_pre_hook(count) for module in modules]
    try:
        yield lambda: total
    finally:
        for handle in handles:
            handle.remove()


def count_passes(_image_size: int, **_: Any) -> int:
    """Forward passes of single images that a face takes, about: LIME's and those of exact values among them."""
    return 3500


# ── a face ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def score_face(
    scorer: Scorer, face: Face, facts: Mapping[str, Mapping[str, Any]], costs: Mapping[str, dict[str, float]]
) -> Attribution:
    """The scores of a face, as `explain` says."""
    sums = {name: truth.region_sums(each, face.regions, scorer.regions) for name, each in face.densities.items()}
    filled = {name: make_baseline(face.image[None], name)[0] for name in PIXEL_FILLS}
    behind = make_baseline(face.image[None], scorer.baseline)[0]
    squares = infidelity.draw_squares(face.image.shape[1], face.image.shape[2], combine_seeds(face.seed, 11))
    region_fills = {**filled, **transplant(scorer, face)}
    orders = {name: curves.pixel_order(values, combine_seeds(face.seed, 12)) for name, values in face.maps.items()}
    rows = {name: curves.region_rows(curves.region_order(each, face.seed)) for name, each in sums.items()}
    needed = np.unique(np.concatenate([np.concatenate(each) for each in rows.values()]))
    pictures: dict[tuple, torch.Tensor] = {
        ("face",): face.image[None],
        ("squares",): infidelity.replaced(face.image, behind, squares),
        **{("filled", fill): each[None] for fill, each in filled.items()},
        **{("regions", fill): show_regions(face, each, needed, scorer.regions) for fill, each in region_fills.items()},
    }
    rng = np.random.default_rng(combine_seeds(face.seed, 13))
    for name, order in orders.items():
        shown = curves.shown_pixels(order)
        for fill, each in filled.items():
            pictures["pixels", fill, name] = curves.fill_hidden(face.image, each, shown)
        pictures["road", name] = impute_all(face, name, order, rng)
    outputs = run(scorer, pictures, face.target)
    places = {int(row): place for place, row in enumerate(needed)}
    scores: dict[str, dict[str, float]] = {}
    drawn: dict[str, dict[str, list[list[float]]]] = {}
    falls = {kind: outputs["face",][kind] - outputs["squares",][kind] for kind in ("probability", "logit")}
    for name in face.maps:
        own: dict[str, float] = dict(costs.get(name, {}))
        drawn[name] = {}
        for fill in filled:
            curve = pixel_curves(outputs, fill, name)
            drawn[name][fill] = curve.tolist()
            own[f"pixels_{fill}"] = curves.area(curve[1]) - curves.area(curve[0])
        for fill in region_fills:
            deleted, inserted = (
                outputs["regions", fill]["probability"][[places[int(row)] for row in side]] for side in rows[name]
            )
            own[f"regions_{fill}"] = curves.area(inserted) - curves.area(deleted)
        own["road"] = road.road(outputs["road", name]["probability"])
        for column, output in infidelity_columns(scorer, name).items():
            own[column] = infidelity.infidelity(face.densities[name], squares, falls[output])
        if "r2" in facts[name]:
            own["r2"] = float(facts[name]["r2"])
        scores[name] = own
    arrays = kept_arrays(scorer, face, sums)
    passes = sum(len(each) for each in pictures.values())
    found: dict[str, Any] = {"scores": scores, "curves": drawn, "passes": passes}
    return Attribution(face.exact.map, arrays, found | {"landmarks_found": face.exact.facts.get("landmarks_found")})


def infidelity_columns(scorer: Scorer, name: str) -> dict[str, str]:
    """Column → the output whose falls a row's map should tell: its own, of simple maps both."""
    if name in simple_maps.MAPS:
        return {"infidelity": "probability", "infidelity" + OF_LOGIT: "logit"}
    return {"infidelity": "probability" if scorer.methods[name].output == "probability" else "logit"}


def kept_arrays(scorer: Scorer, face: Face, sums: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of a scored face, as `explain` says; sums: of each row over the regions."""
    table = face.exact.arrays["logits"].astype(np.float64)
    exact = [shapley_values(outcomes(table, kind) @ face.target) for kind in ("probability", "logit")]
    return {
        "method_maps": np.stack([to_peak(face.maps[name]) for name in scorer.names]).astype(np.float16),
        "sums": np.stack([sums[name] for name in scorer.names]).astype(np.float32),
        "regions": face.regions,
        "landmarks": face.exact.arrays["landmarks"],
        "exact": np.stack(exact).astype(np.float32),
    }


def to_peak(values: np.ndarray) -> np.ndarray:
    """A map H×W as shares of its largest size, so that float16 holds small values too."""
    return values / (np.abs(values).max() or 1)


def transplant(scorer: Scorer, face: Face) -> dict[str, torch.Tensor]:
    """The fill TRANSPLANT, where there are training faces."""
    if scorer.find_donor is None:
        return {}
    logits, landmarks = face.exact.arrays["logits"][-1], face.exact.arrays["landmarks"].astype(np.float64)
    donor = scorer.find_donor(face.image, landmarks, int(np.argsort(-logits)[1]))
    if donor is None:
        return {}
    moved = onto(donor.image, donor.landmarks, landmarks, face.image.shape[-1])
    return {TRANSPLANT: match(moved, face.image, torch.ones_like(face.image[0], dtype=torch.bool))}


def show_regions(face: Face, filled: torch.Tensor, rows: np.ndarray, count: int) -> torch.Tensor:
    """The face with the regions of each of the rows of coalitions, the others filled."""
    masks = torch.from_numpy(coalitions(count)[rows]).bool().to(face.image.device)
    regions = torch.from_numpy(face.regions.astype(np.int64)).to(face.image.device)
    return show(face.image, filled, regions, masks)


def impute_all(face: Face, name: str, order: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
    """The pictures of ROAD for a map."""
    image = face.image.cpu().numpy().astype(np.float64)
    removed = road.removed_pixels(face.maps[name], order)
    made = np.stack([road.impute(image, each, rng) for each in removed])
    return torch.from_numpy(made).to(face.image)


def run(
    scorer: Scorer, pictures: Mapping[tuple, torch.Tensor], target: np.ndarray
) -> dict[tuple, dict[str, np.ndarray]]:
    """The target's probability and logit of all pictures, which go through the network in full batches."""
    parts = (part for each in pictures.values() for part in each.split(scorer.batch_size))
    logits = predict(scorer.network, parts, scorer.batch_size).double().cpu().numpy()
    ends = np.cumsum([len(each) for each in pictures.values()])[:-1]
    return {
        key: {kind: outcomes(each, kind) @ target for kind in ("probability", "logit")}
        for key, each in zip(pictures, np.split(logits, ends), strict=True)
    }


def pixel_curves(outputs: Mapping[tuple, dict[str, np.ndarray]], fill: str, name: str) -> np.ndarray:
    """float64 2×STEPS + 1: the probability as pixels are deleted, and as they are inserted."""
    whole, none = (outputs[key]["probability"][0] for key in (("face",), ("filled", fill)))
    deleted, inserted = np.split(outputs["pixels", fill, name]["probability"], 2)
    return np.array([[whole, *deleted, none], [none, *inserted, whole]])
