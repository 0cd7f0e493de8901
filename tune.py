"""Searches settings with Optuna: a grid or TPE, several workers on one study, a table and plots at the end.

python tune.py --preset vgg_paper --epochs 30
python tune.py --model fer_vgg --dataset fer2013 --search lr=1e-3..1e-1:log batch_size=64,128 --trials 30 --workers 2
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import config
import train
from ferlib.data.facts import dataset_facts
from ferlib.runtime.errors import lookup, run_script
from ferlib.runtime.flags import parse_flags
from ferlib.runtime.provenance import command_line
from ferlib.training.search.presets import PRESETS
from ferlib.training.search.space import parse_search
from models import model_spec
from recipes import RECIPES, changed


def parse_study(arguments: Sequence[str]) -> config.Tune:
    """Flags that start from the preset, its settings from the model's recipe; single flags then change both.

    UserError for the name of a preset, a model, a recipe, a data set or a setting that does not exist.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in ("--preset", "--model", "--recipe"):
        first.add_argument(name, default="")
    chosen, _ = first.parse_known_args(arguments)
    preset = dict(lookup(PRESETS, chosen.preset, "preset")) if chosen.preset else {}
    settings = preset.pop("settings", {})
    model = chosen.model or preset.get("model", config.Tune.model)
    recipe = chosen.recipe or model_spec(model).recipe
    start = changed(lookup(RECIPES, recipe, "recipe"), **settings)
    default = config.Tune(**{"model": model, "preset": chosen.preset, "recipe": recipe, **preset}, settings=start)
    owner = f"preset {chosen.preset} on recipe {recipe}" if chosen.preset else f"recipe {recipe}"
    description = f"{config.Tune.__doc__}\n\nDefaults: {owner}; --preset takes {', '.join(PRESETS)}."
    flags = parse_flags(config.Tune, arguments, default, description)
    dataset_facts(flags.dataset)
    parse_search(flags.search)
    return replace(flags, study=flags.study or flags.preset or flags.run.name)


def search(flags: config.Tune) -> dict[str, Any]:
    """Goes on with a study until all its trials are done; returns the content of study.json."""
    from ferlib.figures.tuning import plot_study
    from ferlib.training.search.results import write_results
    from ferlib.training.search.study import open_study, prepare_study
    from ferlib.training.search.workers import run_workers

    prepare_study(flags)
    try:
        run_workers(flags, train.fit)
    except KeyboardInterrupt:
        print(f"\nevery finished trial is kept in {flags.folder}; go on with the same command: {command_line()}")
        raise
    content = write_results(open_study(flags), flags)
    plot_study(flags.folder, content, flags.format)
    return content


def print_results(flags: config.Tune, content: dict[str, Any]) -> None:
    """The table of trials, best first, the means by setting, and the command that trains with the best settings."""
    from ferlib.evaluation.terminal import shown
    from ferlib.training.search.results import describe_params

    print(f"\n{'trial':>5}  {'val':>7}  {'epoch':>5}  settings")
    for row in content["trials"]:
        accuracy = "" if row["val_accuracy"] is None else f"{row['val_accuracy']:.2%}"
        note = "" if row["state"] == "complete" else f"  ({row['state']}{': ' * bool(row['error'])}{row['error']})"
        print(f"{row['trial']:>5}  {accuracy:>7}  {row['best_epoch'] or '':>5}  {describe_params(row['params'])}{note}")
    for name, values in content["by_field"].items():
        means = ", ".join(
            f"{value} {shown(summary['mean'], '.2%')} ({summary['trials']}{' + ' * bool(stopped)}{stopped or ''})"
            for value, summary in values.items()
            for stopped in [summary["stopped"]]
        )
        early = any(summary["stopped"] for summary in values.values())
        print(f"mean by {name} ({'whole trials + those stopped early, not in it' if early else 'trials'}): {means}")
    print(f"table and plots: {flags.folder}\ntrain with the best settings: {content['train_command']}")


def main() -> None:
    """Reads the flags, runs the study, prints its results."""
    flags = parse_study(sys.argv[1:])
    print_results(flags, search(flags))


if __name__ == "__main__":
    run_script(main)
