"""Which settings help: a recipe with one factor changed at a time, over several seeds, scored on val alone.

python benchmarks/bench_factors.py --dataset fer2013
python benchmarks/bench_factors.py --dataset fer2013 --model fer_resnet_small --factors mixup sam --seeds 0 1 2

The runs are named MODEL_DATASET_FACTOR-SEED; what is done is not done again, and a training that was stopped goes on. A
difference is the mean over the seeds of a factor's best accuracy on val less that of the recipe as it is with the same
seed; its interval is that of Student's t. The test faces are not read.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from scipy import stats

sys.path.insert(0, str(Path(__file__).parents[1]))

import config
import train
from datasets import load_stage
from ferlib.runtime.errors import UserError, lookup, run_script
from ferlib.training.trained import train_if_missing
from models import model_spec, resized
from recipes import RECIPES, changed

BASE = "base"
SIDE = 64  # px, of the factor "larger"
FACTORS: dict[str, dict[str, Any]] = {  # what each changes in the recipe
    BASE: {},
    "mixup": {"mixup": 0.2},
    "sam": {"sam_rho": 0.05},
    "conflicts-dropped": {"conflicts": "drop"},
    "conflicts-shared": {"conflicts": "share"},
    "longer": {},  # twice the epochs
    "larger": {},  # faces of SIDE
    "votes": {"votes_weight": 1.0},
    "taught": {},  # by the shipped network
}


@dataclass(frozen=True, kw_only=True)
class Flags(config.Stage):
    model: str = "fer_resnet"
    dataset: str = "fer2013"
    recipe: str = "fast"  # a row of recipes.RECIPES
    epochs: int | None = None  # default: the recipe's
    factors: tuple[str, ...] = tuple(name for name in FACTORS if name != BASE)
    seeds: tuple[int, ...] = (0, 1, 2)


def settings(factor: str, seed: int, flags: Flags) -> config.Train:
    """How a factor is trained with a seed."""
    recipe = changed(lookup(RECIPES, flags.recipe, "recipe"), **lookup(FACTORS, factor, "factor"))
    epochs = (flags.epochs or recipe.training.epochs) * (2 if factor == "longer" else 1)
    shared = {key.name: getattr(flags, key.name) for key in fields(config.Stage)}
    return config.Train(
        **shared | {"seed": seed, "tag": f"{flags.tag}{factor}-{seed}"},
        recipe=flags.recipe,
        settings=changed(recipe, epochs=epochs),
        image_size=SIDE if factor == "larger" else None,
        teacher=("fer2013",) if factor == "taught" else (),
    )


def best_on_val(wanted: config.Train) -> float:
    """The best accuracy on val of a run, which is trained as far as that is not done yet."""
    history, _ = train_if_missing(wanted, train.fit)
    return max(epoch["val_accuracy"] for epoch in history["epochs"])


def row(factor: str, values: np.ndarray, base: np.ndarray) -> str:
    """A line of the table: accuracy over the seeds, difference from the recipe as it is with its 95 % interval.

    Of a single seed there is neither a deviation nor an interval.
    """
    accuracy, gains = 100 * values.mean(), 100 * (values - base)
    mean, several = gains.mean(), len(values) > 1
    half = stats.t.ppf(0.975, len(gains) - 1) * gains.std(ddof=1) / len(gains) ** 0.5 if several else 0.0
    interval = f" ({mean - half:+.2f} to {mean + half:+.2f})" if several else ""
    deviation = f" ± {100 * values.std(ddof=1):.2f}" if several else ""
    difference = "" if factor == BASE else f"{mean:+.2f}{interval}"
    return f"| {factor} | {accuracy:.2f}{deviation} % | {difference} |"


def check(flags: Flags) -> None:
    """UserError, before anything is trained, for factors and seeds that there are not or that are named twice."""
    for factor in flags.factors:
        lookup(FACTORS, factor, "factor")
    for name, values in (("factors", flags.factors), ("seeds", flags.seeds)):
        if not values or len(set(values)) < len(values):
            raise UserError(f"--{name} needs one or more different values, not: {' '.join(map(str, values)) or 'none'}")
    if min(flags.seeds) < 0:
        raise UserError(f"--seeds {min(flags.seeds)}: seeds are numbers from 0 up")
    if "larger" in flags.factors:
        resized(model_spec(flags.model), SIDE)
    if flags.seed:
        raise UserError(f"--seed {flags.seed} is of a single run; name the seeds with --seeds")
    if any(FACTORS[factor].get("votes_weight") for factor in flags.factors) and load_stage(flags).votes is None:
        raise UserError(f"--factors votes: this copy of {flags.dataset} has no annotators' votes; leave it out")


def main() -> None:
    flags = tyro.cli(Flags)
    check(flags)
    found: dict[str, np.ndarray] = {}
    for factor in (BASE, *flags.factors):
        found[factor] = np.array([best_on_val(settings(factor, seed, flags)) for seed in flags.seeds])
        print(row(factor, found[factor], found[BASE]), flush=True)
    print(f"\n| factor | val, seeds: {len(flags.seeds)} | difference (95 % interval) |\n|---|---|---|")
    for factor, values in found.items():
        print(row(factor, values, found[BASE]))


if __name__ == "__main__":
    run_script(main)
