"""Cost of exact values of facial regions, of LIME, and of scoring, each beside the bare passes that it needs.

python benchmarks/bench_scores.py --model fer_resnet_wide --dataset fer2013 --checkpoint fer2013 --json scores.json

regions: explain_regions.py with its defaults, without the counterfactual and with it. lime: explain_lime.py with 1,000
perturbations. scores: what score_explanations.py does with a face beside making the maps (fills, curves, ROAD,
infidelity). bare: as many passes of the same network with the same engine on one batch that is made once. All take
turns, so that a change of the machine's speed affects all of them; medians of the turns and of their ratios.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import tyro
from torch import nn
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.explained_run import RunFlags, open_run
from ferlib.explanations.choice import pick_faces
from ferlib.explanations.scores import scorer
from ferlib.explanations.scores.setup import Shared, bind_method, provide_scorer
from ferlib.explanations.subject import Subject
from ferlib.runtime.files import write_json
from ferlib.runtime.processor import describe_processor

SCORED = ("lime", "shap", "regions", "occlusion", "hirescam", "gradcam", "saliency", "integrated_gradients")


@dataclass(frozen=True, kw_only=True)
class Flags(RunFlags):
    """Flags of the benchmark."""

    faces: int = 8  # explained in one call
    rounds: int = 5


def main(flags: Flags) -> None:
    """Prints a row per contestant: seconds of a face, passes of a face, ratio to the bare passes."""
    torch.manual_seed(0)
    subject = open_run(flags)
    test = subject.data.split("test")
    images = subject.views(test.images[pick_faces(test.labels, flags.faces, 0)])
    targets = torch.eye(7, device=images.device)[subject.plain()(images).argmax(1)]
    network = Shared(subject, 1_000_000)
    seeds = list(range(flags.faces))
    contestants: dict[str, Callable[[], Any]] = {}
    for name, method, changes in (
        ("regions", "regions", {"counterfactual": "none"}),
        ("regions with a counterfactual", "regions", {"counterfactual": "runner_up"}),
        ("lime, 1,000 perturbations", "lime", {"num_samples": 1000}),
    ):
        explain = bind_method(method, network, **changes)
        contestants[name] = lambda explain=explain: explain(images, targets, seeds)  # type: ignore[misc]
    contestants["scores"] = scoring(network, subject, images, targets, seeds)
    passes = {name: count(network, work) for name, work in contestants.items()}
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    ratios: dict[str, list[float]] = {name: [] for name in contestants}
    batch = images[:1].expand(flags.batch_size, -1, -1, -1).contiguous()
    for _ in tqdm(range(flags.rounds), unit=" rounds"):
        for name, work in contestants.items():
            own = clock(work)
            seconds[name].append(own / flags.faces)
            ratios[name].append(own / clock(lambda name=name: bare(network.forward(0), batch, passes[name])))  # type: ignore[misc]
    rows = {
        name: {
            "seconds": statistics.median(seconds[name]),
            "passes": passes[name] / flags.faces,
            "ratio": statistics.median(ratios[name]),
            "ratios": ratios[name],
        }
        for name in contestants
    }
    print(f"{describe_processor()}; {subject.run.name}, {subject.engine.describe()}, {flags.faces} faces at once")
    for name, row in rows.items():
        print(f"{name:<32}{row['seconds']:8.3f} s a face{row['passes']:8,.0f} passes{row['ratio']:8.2f} × bare passes")
    if flags.json:
        write_json(flags.json, {"processor": describe_processor(), "rows": rows})


def scoring(
    network: Shared, subject: Subject, images: torch.Tensor, targets: torch.Tensor, seeds: list[int]
) -> Callable[[], None]:
    """Scores faces whose maps are made already."""
    made = provide_scorer({"methods": list(SCORED), "baseline": "grey"}, subject, network.plain())["scorer"]
    made = replace(made, network=network.forward(0), modules=network.modules)
    found, _ = scorer.make_maps(made, images, targets, seeds)

    def work() -> None:
        for number, image in enumerate(images):
            scorer.score_face(
                made,
                scorer.Face(
                    image,
                    targets[number].cpu().double().numpy(),
                    seeds[number],
                    {name: rows[number].map.astype("float64") for name, rows in found.items()},
                    {name: scorer.truth.density(rows[number]) for name, rows in found.items()},
                    found[scorer.EXACT][number],
                ),
                {name: rows[number].facts for name, rows in found.items()},
                {},
            )

    return work


def count(network: Shared, work: Callable[[], Any]) -> int:
    """Images that go through the network; this first turn is not timed."""
    with scorer.count_images(network.modules) as counted:
        work()
    return counted()


def clock(work: Callable[[], Any]) -> float:
    """Seconds."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


@torch.inference_mode()
def bare(network: nn.Module, batch: torch.Tensor, passes: int) -> None:
    """So many images, in whole batches but for the last one."""
    for start in range(0, passes, len(batch)):
        network(batch[: passes - start])


if __name__ == "__main__":
    main(tyro.cli(Flags, description=__doc__))
