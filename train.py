"""Trains a classifier of seven emotions: best and last checkpoint, history, training curves.

python train.py --model resnet50 --dataset fer2013
torchrun --nproc-per-node 2 train.py --model resnet50 --dataset fer2013
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import config
from datasets import in_folds
from ferlib.data.facts import dataset_facts
from ferlib.report.plots import remove_training_plots
from ferlib.runtime.errors import UserError, lookup, run_script
from ferlib.runtime.flags import parse_flags
from models import MODELS, model_spec
from recipes import RECIPES


def parse_runs(arguments: Sequence[str]) -> list[config.Train]:
    """One set of flags per model and fold to train; each starts from its model's recipe, which single flags change.

    UserError for the name of a model, a recipe or a data set that does not exist.
    """
    first = argparse.ArgumentParser(add_help=False)
    first.add_argument("--model", default=config.Train.model)
    first.add_argument("--recipe", default="")
    first.add_argument("--all", action="store_true")
    chosen, _ = first.parse_known_args(arguments)
    models = list(MODELS) if chosen.all else [chosen.model]
    return [run for name in models for run in in_folds(parse_run(arguments, name, chosen.recipe))]


def parse_run(arguments: Sequence[str], model: str, recipe: str) -> config.Train:
    """The flags of one model."""
    named, recipe = recipe, recipe or model_spec(model).recipe
    default = config.Train(model=model, recipe=recipe, settings=lookup(RECIPES, recipe, "recipe"))
    owner = "" if named else f", that of {model}"
    description = f"{config.Train.__doc__}\n\nDefaults: recipe {recipe}{owner}; --recipe takes {', '.join(RECIPES)}."
    flags = parse_flags(config.Train, arguments, default, description)
    dataset_facts(flags.dataset)
    return replace(flags, model=model, recipe=recipe)


def fit(flags: config.Train, after_epoch: Callable[[dict[str, Any]], None] | None = None) -> dict[str, Any]:
    """Trains one run and draws its curves; returns its history. See ferlib.training.fitting.fit."""
    from ferlib.figures.training import plot_run
    from ferlib.runtime.distributed import is_main
    from ferlib.training import fitting

    def tell(epoch: dict[str, Any]) -> None:
        if is_main():
            remove_training_plots(flags.run)  # they lack this epoch, or are of a training that this one replaced
        if after_epoch:
            after_epoch(epoch)

    history = fitting.fit(flags, tell)
    if is_main():
        plot_run(flags.run, history, flags.format)
    return history


def fit_all(runs: Sequence[config.Train]) -> None:
    """Trains one run after the other; one that fails does not keep the others from being trained.

    With --resume, those of several runs that were not begun yet are begun.
    """
    failures = {}
    for flags in runs:
        last = flags.run.last_checkpoint
        try:
            fit(replace(flags, resume=flags.resume and (len(runs) == 1 or last.exists())))
        except KeyboardInterrupt:
            if last.exists():
                print(f"\nevery finished epoch is kept in {last}; go on with --resume")
            raise
        except UserError as error:
            if len(runs) == 1:
                raise
            failures[flags.run.name] = error
    if failures:
        raise UserError(*(f"{run}: {error}" for run, error in failures.items()))


def main() -> None:
    """Reads the flags, then trains in as many processes as torchrun has started."""
    runs = parse_runs(sys.argv[1:])
    from ferlib.runtime.distributed import processes

    with processes():
        fit_all(runs)


if __name__ == "__main__":
    run_script(main)
