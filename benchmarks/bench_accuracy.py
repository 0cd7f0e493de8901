"""Minutes of training until an accuracy on val, and what the run then reaches on test: training as a whole.

python benchmarks/bench_accuracy.py --model fer_resnet_wide --recipe scratch
python benchmarks/bench_accuracy.py --model fer_resnet --target 0.65 --epochs 13

The target is by default 70.88 %, the published accuracy of a ResNet-50 that starts from ImageNet weights. The minutes
are those of training and validation; a run that is there already, whole or begun, is read or gone on with. As the
learning rate falls to the end of a run, a shorter run reaches a lower target sooner than a longer one does.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

sys.path.insert(0, str(Path(__file__).parents[1]))

import config
import evaluate
import train
from ferlib.runtime.errors import lookup, run_script
from ferlib.training.trained import train_if_missing
from models import model_spec
from recipes import RECIPES, changed


@dataclass(frozen=True)
class Flags:
    model: str = "fer_resnet_wide"
    recipe: str = "scratch"  # a row of recipes.RECIPES
    epochs: int | None = None  # default: the recipe's
    target: float = 0.7088  # accuracy on val
    seed: int = 0
    dataset: str = "fer2013"
    data_dir: Path = Path("data")
    outputs_dir: Path = Path("outputs")
    tag: str = "accuracy"  # of the run


def trained_run(flags: Flags) -> tuple[config.Train, dict[str, Any]]:
    """The run and its history, from where it stands."""
    model_spec(flags.model)
    recipe = lookup(RECIPES, flags.recipe, "recipe")
    run = config.Train(
        model=flags.model,
        dataset=flags.dataset,
        tag=flags.tag,
        seed=flags.seed,
        data_dir=flags.data_dir,
        outputs_dir=flags.outputs_dir,
        recipe=flags.recipe,
        settings=changed(recipe, epochs=flags.epochs or recipe.training.epochs),
    )
    return run, train_if_missing(run, train.fit)[0]


def minutes_to(target: float, epochs: list[dict[str, Any]]) -> tuple[int, float] | None:
    """The first epoch whose accuracy on val is the target or more, and the minutes until its end; None if none is."""
    minutes = 0.0
    for epoch in epochs:
        minutes += epoch["seconds"] / 60
        if epoch["val_accuracy"] >= target:
            return epoch["epoch"], minutes
    return None


def main() -> None:
    flags = tyro.cli(Flags)
    run, history = trained_run(flags)
    shared = {name: getattr(run, name) for name in ("model", "dataset", "tag", "data_dir", "outputs_dir")}
    results = evaluate.evaluate(config.Evaluate(**shared, compare_views=True, figures=False))
    views = ", ".join(f"{name} {other['accuracy']:.2%}" for name, other in results["other_views"].items())
    found = minutes_to(flags.target, history["epochs"])
    reached = f"in epoch {found[0]} after {found[1]:.1f} minutes" if found else "not reached"
    best = max(epoch["val_accuracy"] for epoch in history["epochs"])
    epochs = len(history["epochs"])
    print(f"{history['device']}, {history['precision']}: {epochs} epochs, {history['minutes']:.1f} minutes")
    print(f"{flags.target:.2%} on val: {reached}; best {best:.2%}")
    print(f"on test: single {results['accuracy']:.2%}, {views}")


if __name__ == "__main__":
    run_script(main)
