"""What decides the weights of a run: compared before a run goes on, or is used in place of another."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import config
from config import LATER_SETTINGS
from ferlib.data.face_data import FaceData
from ferlib.runtime.digests import digest, digest_file
from ferlib.runtime.runs import Run
from ferlib.training.teachers import Teachers, digests_of
from recipes import Recipe, recorded


def run_settings(flags: config.Train) -> dict[str, Any]:
    """All settings that decide the weights, as plain Python."""
    return {"recipe": flags.settings.flat(), **flags.beside_recipe(), "seed": flags.seed}


def identity_of(flags: config.Train, data: FaceData, teachers: Teachers, initial: Mapping[str, str]) -> dict[str, Any]:
    """All that decides the weights of a run: its settings, the data, the files of its teachers, and `initial`."""
    return {
        **run_settings(flags),
        "fingerprint": data.fingerprint,
        "teacher_digests": digests_of(teachers),
        **initial,
        **votes_identity(flags.settings, data),
    }


def initial_identity(flags: config.Train) -> dict[str, str]:
    """The SHA-256 of the file that the first weights come from; empty for random and ImageNet ones, and without it."""
    weights = flags.settings.training.weights
    if flags.init_from:
        path = Run(flags.init_from, "", outputs_dir=flags.outputs_dir).best_checkpoint
    elif weights in ("none", "imagenet"):
        return {}
    else:
        path = Path(weights)
    return {"initial_digest": digest_file(path)} if path.is_file() else {}


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
