"""What decides the weights of a run: compared before a run goes on, or is used in place of another."""

from __future__ import annotations

from typing import Any

import numpy as np

import config
from config import LATER_SETTINGS
from ferlib.data.face_data import FaceData
from ferlib.runtime.digests import digest
from ferlib.training.teachers import Teachers, digests_of
from recipes import Recipe, recorded


def run_settings(flags: config.Train) -> dict[str, Any]:
    """All settings that decide the weights, as plain Python."""
    return {"recipe": flags.settings.flat(), **flags.beside_recipe(), "seed": flags.seed}


def identity_of(flags: config.Train, data: FaceData, teachers: Teachers) -> dict[str, Any]:
    """All that decides the weights of a run: its settings, the data, and the files of its teachers."""
    return {
        **run_settings(flags),
        "fingerprint": data.fingerprint,
        "teacher_digests": digests_of(teachers),
        **votes_identity(flags.settings, data),
    }


def votes_identity(recipe: Recipe, data: FaceData) -> dict[str, str]:
    """A digest of the annotators' votes where a recipe learns from them: they are no part of the fingerprint."""
    if recipe.objective.loss != "votes" and not recipe.objective.votes_weight:
        return {}
    votes = b"" if data.votes is None else np.ascontiguousarray(data.votes).tobytes()
    return {"votes": digest(votes)}


def changed_settings(saved: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Names of the settings that are not as wanted: fields of the recipe, the seed and what else is given.

    What was saved before there was a setting counts as made with its default.
    """
    saved = {**LATER_SETTINGS, **saved}
    changed = [name for name, value in wanted.items() if name != "recipe" and saved.get(name) != value]
    return changed + [name for name, value in wanted["recipe"].items() if recorded(saved["recipe"], name) != value]
