"""Runs that are needed trained: what is done is not done again, and a training that was stopped goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from config import Train
from ferlib.evaluation.stage_shapes import HISTORY
from ferlib.runtime.distributed import from_first, is_main
from ferlib.runtime.errors import UserError
from ferlib.runtime.files import read_json
from ferlib.runtime.runs import Run, check_dataset
from ferlib.training.fitting import load_training
from ferlib.training.identity import changed_settings, identity_of, initial_identity
from ferlib.training.resuming import depends_on_length
from ferlib.training.teachers import find_teachers

LATER = ("fingerprint", "teacher_digests", "votes", "initial_digest")  # what histories of earlier versions do not hold
Fit = Callable[[Train], dict[str, Any]]  # trains a run and returns its history


def train_if_missing(wanted: Train, fit: Fit, *, extended: bool = False) -> tuple[dict[str, Any], bool]:
    """The history of a run, trained by `fit` as far as that was not done yet, and whether anything was left to train.

    UserError for a run of the same name on another data set or another version of it, with other settings, teachers or
    votes, or begun for fewer epochs (unless it may be `extended`), and for one of which only the weights, or only the
    history, are there: neither is replaced.
    """
    run = wanted.run
    history = from_first(history_of(run) if is_main() else None) or {}
    if history:
        check_dataset(history["run"]["dataset"], run)
        data, teachers = load_training(wanted)[0], find_teachers(wanted)
        identity = identity_of(wanted, data, teachers, initial_identity(wanted))
        known = {name: identity[name] for name in LATER if name in identity} | history
        different = changed_settings(known, identity)
        begun = history.get("begun_for_epochs")
        if begun and not extended and depends_on_length(wanted.settings):
            different.append(f"epochs (begun for {begun[0]})")
        if different:
            raise UserError(
                f"{run.name} was trained with other settings, give another --tag; these differ: {', '.join(different)}"
            )
    elif found := [path for path in (run.best_checkpoint, run.last_checkpoint) if path.exists()]:
        raise UserError(
            f"{found[0]} has no history, so that its settings are not known: give another --tag, or move it"
        )
    if not history.get("finished"):
        if is_main():
            print(f"training {run.name}, which is not there yet" if not history else f"going on with {run.name}")
        return fit(replace(wanted, resume=run.last_checkpoint.exists())), True
    if not run.best_checkpoint.exists():
        raise UserError(f"the weights of {run.name} are gone; train it again: {run.command('train.py')}")
    return history, False


def history_of(run: Run) -> dict[str, Any]:
    """The history of a run; empty where there is none."""
    return read_json(run.history, run.command("train.py"), HISTORY) if run.history.exists() else {}
