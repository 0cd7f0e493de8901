"""Runs that a benchmark needs trained: what is done is not done again, and a training that was stopped goes on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import config
import train
from ferlib.runtime.errors import UserError
from ferlib.runtime.files import read_json
from ferlib.training import fitting, resuming


def finished_history(wanted: config.Train) -> tuple[dict[str, Any], bool]:
    """The history of a run, trained as far as that was not done yet, and whether anything was left to train.

    UserError for a finished run of the same name that was trained with other settings.
    """
    run = wanted.run
    history = read_json(run.history, run.command("train.py")) if run.history.exists() else {"finished": False}
    if not history["finished"]:
        return train.fit(replace(wanted, resume=run.last_checkpoint.exists())), True
    if different := resuming.changed_settings(history, fitting.run_settings(wanted)):
        raise UserError(
            f"{run.name} was trained with other settings, give another --tag; these differ: {', '.join(different)}"
        )
    return history, False
