"""A twin of a run: the same model with the same settings, trained on drawn faces with a flaw on purpose."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from config import RUN_SETTINGS, Stage, Train
from ferlib.evaluation.stage_shapes import HISTORY
from ferlib.runtime.distributed import from_first, is_main
from ferlib.runtime.errors import UserError
from ferlib.runtime.files import read_json
from ferlib.runtime.runs import Run
from models import model_spec
from recipes import RECIPES, Recipe, changed, recorded

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
    """The flags that train the run of a stage: as its history says, else with the recipe of its model."""
    spec = model_spec(flags.model)
    history = history_of(flags.run)
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


def train_if_missing(flags: Train, fit: Callable[[Train], Any]) -> None:
    """Trains a run that is not there, and ends one that was interrupted, by `fit`.

    UserError where the run was trained with other settings.
    """
    history: dict[str, Any] = from_first(history_of(flags.run) if is_main() else {})
    found, wanted = history.get("recipe", {}), flags.settings.flat()
    if other := [name for name, value in wanted.items() if history and recorded(found, name) != value]:
        raise UserError(
            f"{flags.run.name} was trained with other settings than are compared here ({', '.join(other)}): "
            f"give the runs to compare another --tag, or remove {flags.run.history}"
        )
    if history.get("finished") and flags.run.best_checkpoint.exists():
        return
    if is_main():
        print(f"training {flags.run.name}, which is not there yet")
    fit(replace(flags, resume=bool(history) and flags.run.last_checkpoint.exists()))


def history_of(run: Run) -> dict[str, Any]:
    """The history of a run; empty where there is none."""
    return read_json(run.history, run.command("train.py"), HISTORY) if run.history.exists() else {}
