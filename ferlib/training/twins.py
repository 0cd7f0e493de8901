"""A twin of a run: the same model with the same settings, trained on drawn faces with a flaw on purpose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from config import RUN_SETTINGS, Stage, Train
from ferlib.runtime.errors import UserError
from ferlib.training.trained import history_of
from models import model_spec
from recipes import RECIPES, SETTINGS, Recipe, changed

SHARED = ("model", "dataset", "tag", "data_dir", "outputs_dir", "device", "amp", "seed", "fold")  # with other stages
# What lets a network learn labels by heart: no random changes of the faces, nothing against overfitting.
BY_HEART: dict[str, Any] = {
    **dict.fromkeys(
        ("flip", "rotation", "shift", "scale", "brightness", "contrast", "erasing", "mixup", "cutmix"), 0.0
    ),
    **dict.fromkeys(("dropout", "weight_decay", "label_smoothing"), 0.0),
    "class_weights": False,
    "start_size": 1.0,
    "epochs": 60,
    "patience": 0,
}


def original_flags(flags: Stage) -> Train:
    """The flags that train the run of a stage: as its history says, else with the recipe of its model.

    UserError for a history with settings that are not known here.
    """
    spec = model_spec(flags.model)
    history = history_of(flags.run)
    if unknown := sorted(history.get("recipe", {}).keys() - SETTINGS.keys()):
        raise UserError(f"{flags.run.history} has settings of another version ({', '.join(unknown)}); train it again")
    recipe = history.get("recipe_name", spec.recipe)
    own: dict[str, Any] = {name: getattr(flags, name) for name in SHARED}
    for name in RUN_SETTINGS:
        if name in history:
            own[name] = tuple(history[name]) if isinstance(history[name], list) else history[name]
    settings = changed(Recipe(), **history["recipe"]) if history else RECIPES[spec.recipe]
    return Train(**own | {"seed": history.get("seed", flags.seed)}, recipe=recipe, settings=settings)


def twin_flags(original: Train, dataset: str, settings: Mapping[str, Any] | None = None) -> Train:
    """The flags of its twin on another data set, with other values of some settings."""
    return replace(original, dataset=dataset, settings=changed(original.settings, **(settings or {})))
