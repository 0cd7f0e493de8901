"""Results of a study: a row for every trial, means by setting, importance of the settings, as JSON and as a table."""

from __future__ import annotations

import shlex
import statistics
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

import config
from ferlib.runtime.errors import UserError
from ferlib.runtime.files import atomic_path, write_json
from ferlib.runtime.provenance import command_line, library_versions
from ferlib.runtime.runs import Run
from ferlib.training.search.space import parse_search
from recipes import RECIPES, Recipe

STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned"}  # of trials with a result


def trial_run(flags: config.Tune, number: int) -> Run:
    """The run of a trial, below the study's folder."""
    return Run(flags.model, flags.dataset, f"{flags.study}-{number:03d}", flags.folder, flags.fold)


def list_results(study: optuna.Study, flags: config.Tune) -> list[dict[str, Any]]:
    """One row per trial with a result, best first: whole runs, then stopped ones by their best epoch, then failed."""
    rows = [trial_result(trial, flags) for trial in study.get_trials(deepcopy=False, states=tuple(STATES))]
    return sorted(rows, key=lambda row: (row["state"] != "complete", -(row["val_accuracy"] or 0), row["trial"]))


def trial_result(trial: FrozenTrial, flags: config.Tune) -> dict[str, Any]:
    """The row of a trial with a result."""
    epochs, error = trial.intermediate_values, trial.user_attrs.get("error", "")
    highest = max(epochs, key=lambda epoch: epochs[epoch], default=None)
    best = trial.user_attrs.get("best_epoch", highest)  # of a whole run the one whose weights are kept
    assert trial.duration is not None
    return {
        "trial": trial.number,
        "state": "failed" if error else STATES[trial.state],
        "val_accuracy": None if best is None else epochs[best],
        "val_macro_f1": trial.user_attrs.get("val_macro_f1"),
        "best_epoch": best,
        "epochs": len(epochs),
        "minutes": trial.duration.total_seconds() / 60,
        "seed": trial.user_attrs.get("seed", flags.seed),
        "run": trial_run(flags, trial.number).name,
        "host": trial.user_attrs.get("host", ""),
        "error": error,
        "params": trial.params,
    }


def write_results(study: optuna.Study, flags: config.Tune) -> dict[str, Any]:
    """Writes study.json and results.csv; returns the content of study.json. UserError if no trial was whole."""
    space = parse_search(flags.search)
    rows = list_results(study, flags)
    complete = [row for row in rows if row["state"] == "complete"]
    if not complete:
        reason = f"; trial {rows[0]['trial']} failed: {rows[0]['error']}" if rows else ""
        raise UserError(f"no trial of study {flags.study} was finished{reason}")
    choices = [name for name, distribution in space.items() if isinstance(distribution, CategoricalDistribution)]
    content = {
        "study": flags.study,
        **study.user_attrs["identity"],
        "sampler": flags.sampler,
        "pruner": flags.pruner,
        "best": complete[0],
        "train_command": train_command(flags, complete[0]),
        "importance": importance(study, flags.seed),
        "by_field": {name: summarise(group_accuracies(complete, name), stopped_early(rows, name)) for name in choices},
        "trials": rows,
        "command": command_line(),
        "versions": library_versions() | {"optuna": optuna.__version__},
    }
    write_json(flags.folder / "study.json", content)
    write_table(flags.folder / "results.csv", rows)
    return content


def group_accuracies(rows: list[dict[str, Any]], name: str) -> dict[str, list[float]]:
    """Accuracies by value of a field, the value with the best mean first."""
    groups: dict[str, list[float]] = {}
    for row in rows:
        groups.setdefault(str(row["params"][name]), []).append(row["val_accuracy"])
    return dict(sorted(groups.items(), key=lambda group: -statistics.mean(group[1])))


def stopped_early(rows: list[dict[str, Any]], name: str) -> Counter[str]:
    """How many trials with each value of a field were stopped, as others were better: no mean has them."""
    return Counter(str(row["params"][name]) for row in rows if row["state"] == "pruned")


def summarise(groups: dict[str, list[float]], stopped: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    """Number of whole trials and of those stopped early; mean, standard deviation and best accuracy of the whole.

    Null where all trials were stopped early; these values come last.
    """
    return {
        value: {
            "trials": len(accuracies),
            "stopped": stopped.get(value, 0),
            "mean": statistics.mean(accuracies) if accuracies else None,
            "sd": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
            "best": max(accuracies, default=None),
        }
        for value, accuracies in (groups | {value: [] for value in sorted(stopped.keys() - groups.keys())}).items()
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
    usual = RECIPES[flags.recipe] if flags.recipe else Recipe()
    defaults = usual.flat() | config.Train().beside_recipe() | {"seed": config.Train.seed}
    shared = flags.settings.flat() | flags.beside_recipe()
    wanted = shared | best["params"] | {"seed": best["seed"]}
    parts = ["--model", flags.model, "--dataset", flags.dataset, "--tag", "tuned"]
    parts += ["--recipe", flags.recipe] if flags.recipe else []
    parts += ["--fold", str(flags.fold)] if flags.fold else []
    parts += [] if flags.amp else ["--no-amp"]
    for name in ("data_dir", "outputs_dir"):
        if (place := getattr(flags, name)) != getattr(config.Train, name):
            parts += [f"--{name.replace('_', '-')}", str(place)]
    for name, value in wanted.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            parts += [f"--{flag}" if value else f"--no-{flag}"] if value != defaults[name] else []
        elif value != defaults[name]:
            parts += [f"--{flag}", *map(str, value if isinstance(value, list) else [value])]
    return shlex.join(["python", "train.py", *parts])


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    """A CSV with a row for every trial, its settings as columns."""
    import pandas as pd

    table = pd.DataFrame([{**row, **row["params"]} for row in rows], dtype=object).drop(columns="params")
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False)


def describe_params(params: dict[str, Any]) -> str:
    """Settings in one line: optimizer=sgd, lr=0.01."""
    return ", ".join(
        f"{name}={f'{value:.4g}' if isinstance(value, float) else value}" for name, value in params.items()
    )
