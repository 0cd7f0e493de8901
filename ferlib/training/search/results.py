"""What a study found: a row for every trial, means by setting, importance of the settings; table, JSON, printed."""

from __future__ import annotations

import csv
import shlex
import statistics
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

import config
from ferlib.figures.tuning import plot_study
from ferlib.runtime.errors import UserError
from ferlib.runtime.files import atomic_path, write_json
from ferlib.runtime.provenance import command_line, library_versions, to_plain
from ferlib.runtime.runs import Run
from ferlib.training.search.space import parse_search
from recipes import RECIPES, Recipe

STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned"}  # of trials with a result


def trial_run(flags: config.Tune, trial: optuna.Trial | FrozenTrial) -> Run:
    return Run(flags.model, flags.dataset, f"{flags.study}-{trial.number:03d}", flags.folder, flags.fold)


def list_results(study: optuna.Study, flags: config.Tune) -> list[dict[str, Any]]:
    """One row per trial with a result, best first: whole runs, then stopped ones by their best epoch, then failed."""
    rows = [result(trial, flags) for trial in study.get_trials(deepcopy=False, states=tuple(STATES))]
    return sorted(rows, key=lambda row: (row["state"] != "complete", -(row["val_accuracy"] or 0), row["trial"]))


def result(trial: FrozenTrial, flags: config.Tune) -> dict[str, Any]:
    epochs, error = trial.intermediate_values, trial.user_attrs.get("error", "")
    best = max(epochs, key=epochs.get, default=None)
    return {
        "trial": trial.number,
        "state": "failed" if error else STATES[trial.state],
        "val_accuracy": epochs[best] if epochs else None,
        "val_macro_f1": trial.user_attrs.get("val_macro_f1"),
        "best_epoch": best,
        "epochs": len(epochs),
        "minutes": trial.duration.total_seconds() / 60,
        "seed": trial.user_attrs.get("seed", flags.seed),
        "run": trial_run(flags, trial).name,
        "error": error,
        "params": trial.params,
    }


def report(study: optuna.Study, flags: config.Tune) -> dict[str, Any]:
    """Writes the table and the plots of a study, prints the table; returns the content of study.json."""
    space = parse_search(flags.search)
    rows = list_results(study, flags)
    complete = [row for row in rows if row["state"] == "complete"]
    if not complete:
        reason = f"; trial {rows[0]['trial']} failed: {rows[0]['error']}" if rows else ""
        raise UserError(f"no trial of study {flags.study} was finished{reason}")
    choices = [name for name, distribution in space.items() if isinstance(distribution, CategoricalDistribution)]
    groups = {name: group_accuracies(complete, name) for name in choices}
    content = {
        "study": flags.study,
        **study.user_attrs["identity"],
        "sampler": flags.sampler,
        "pruner": flags.pruner,
        "best": complete[0],
        "train_command": train_command(flags, complete[0]),
        "importance": importance(study, flags.seed),
        "by_field": {name: summarise(groups[name]) for name in choices},
        "trials": rows,
        "command": command_line(),
        "versions": library_versions() | {"optuna": optuna.__version__},
    }
    write_json(flags.folder / "study.json", content)
    write_table(flags.folder / "results.csv", rows)
    plot_study(flags, rows, groups, content["importance"])
    print_report(flags, content)
    return content


def group_accuracies(rows: list[dict[str, Any]], name: str) -> dict[str, list[float]]:
    """Accuracies by value of a field, the value with the best mean first."""
    groups: dict[str, list[float]] = {}
    for row in rows:
        groups.setdefault(str(row["params"][name]), []).append(row["val_accuracy"])
    return dict(sorted(groups.items(), key=lambda group: -statistics.mean(group[1])))


def summarise(groups: dict[str, list[float]]) -> dict[str, dict[str, Any]]:
    return {
        value: {
            "trials": len(accuracies),
            "mean": statistics.mean(accuracies),
            "sd": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
            "best": max(accuracies),
        }
        for value, accuracies in groups.items()
    }


def importance(study: optuna.Study, seed: int) -> dict[str, float]:
    """Share of the variance of accuracy that each field alone explains in a random forest fitted to the whole runs.

    Hutter, Hoos & Leyton-Brown, An Efficient Approach for Assessing Hyperparameter Importance (fANOVA, 2014). Empty
    where there is no variance to explain.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len({trial.value for trial in complete}) < 2:
        return {}
    return optuna.importance.get_param_importances(
        study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=seed)
    )


def train_command(flags: config.Tune, best: dict[str, Any]) -> str:
    """The command that trains a model of its own with the best trial's settings."""
    wanted = to_plain(flags.settings) | best["params"] | {"seed": best["seed"]}
    usual = to_plain(RECIPES[flags.recipe] if flags.recipe else Recipe()) | {"seed": config.Train.seed}
    parts = ["--model", flags.model, "--dataset", flags.dataset, "--tag", "tuned"]
    parts += ["--recipe", flags.recipe] if flags.recipe else []
    for name, value in wanted.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            parts += [f"--{flag}" if value else f"--no-{flag}"] if value != usual[name] else []
        elif value != usual[name]:
            parts += [f"--{flag}", str(value)]
    return shlex.join(["python", "train.py", *parts])


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    flat = [{**row, **row["params"]} for row in rows]
    for row in flat:
        del row["params"]
    with atomic_path(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, list(flat[0]))
        writer.writeheader()
        writer.writerows(flat)


def print_report(flags: config.Tune, content: dict[str, Any]) -> None:
    print(f"\n{'trial':>5}  {'val':>7}  {'epoch':>5}  settings")
    for row in content["trials"]:
        accuracy = "" if row["val_accuracy"] is None else f"{row['val_accuracy']:.2%}"
        note = "" if row["state"] == "complete" else f"  ({row['state']}{': ' * bool(row['error'])}{row['error']})"
        print(f"{row['trial']:>5}  {accuracy:>7}  {row['best_epoch'] or '':>5}  {describe_params(row['params'])}{note}")
    for name, values in content["by_field"].items():
        means = ", ".join(f"{value} {summary['mean']:.2%} ({summary['trials']})" for value, summary in values.items())
        print(f"mean by {name} (trials): {means}")
    print(f"table and plots: {flags.folder}\ntrain with the best settings: {content['train_command']}")


def describe_params(params: dict[str, Any]) -> str:
    return ", ".join(
        f"{name}={f'{value:.4g}' if isinstance(value, float) else value}" for name, value in params.items()
    )
