"""A run that goes on from its last checkpoint: whether it may, and what more epochs than planned change."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from config import LATER_SETTINGS
from ferlib.evaluation.scored_checkpoints import is_epoch_of
from ferlib.networks.checkpoints import read_checkpoint
from ferlib.runtime.cores import take_threads
from ferlib.runtime.distributed import is_main
from ferlib.runtime.errors import UserError
from ferlib.runtime.terminal import counted
from ferlib.training.identity import changed_settings
from ferlib.training.selection import best_epoch, is_complete, should_stop
from ferlib.training.state import Training
from recipes import RECIPES, Recipe, recorded

BEGINNING = ("initial_digest",)  # of the identity, what no later epoch depends on
UNRECORDED = ("votes",)  # of the identity, what earlier versions did not record and is taken to be as it was
BY_LENGTH = ("cosine", "one_cycle")  # schedules whose rate at an epoch depends on the number of all epochs


def resume(training: Training, path: Path, identity: dict[str, Any], recipe: Recipe) -> dict[str, Any]:
    """Goes on from a last checkpoint, to more epochs than it was begun for where the recipe has more.

    Returns what of the identity its beginning decided.

    UserError for a checkpoint of other settings, seed, data, or of an earlier version.
    """
    content = read_checkpoint(path)
    if not content.get("training") or not content.get("identity"):
        raise UserError(f"{path} is no last checkpoint of a training; --resume goes on from one")
    planned, wanted = check_identity(path, content["identity"], identity), recipe.training.epochs
    try:
        training.restore(content)
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise UserError(
            f"{path} is damaged, or of an earlier version ({error}); train again without --resume"
        ) from error
    done = len(training.epochs)
    take_threads(content["training"].get("threads", torch.get_num_threads()))
    if wanted < min(done, planned):
        so_far = counted(done, "epoch of this run is", "epochs of this run are")
        raise UserError(f"--epochs {wanted}: {so_far} done; name more, or {planned} to keep them")
    if wanted != planned:
        if should_stop(training.epochs, recipe.selection):
            raise UserError(
                f"--epochs {wanted}: this run ended after epoch {done}, as the last {recipe.selection.patience} "
                "brought no gain on val (patience), and another number changes nothing; train anew with --patience 0"
            )
        training.planned.append(planned)
    if is_main():
        print(f"going on after epoch {done} of {path}")
        if wanted != planned:
            print(describe_extension(recipe, planned))
    return {name: content["identity"].get(name) for name in BEGINNING if content["identity"].get(name)}


def best_is_behind(path: Path, epochs: list[dict[str, Any]], recipe: Recipe, identity: dict[str, Any]) -> bool:
    """Whether the best checkpoint has to be written anew from the last, as the run ended between writing the two.

    So it is where the last epoch is the best, whatever the file holds. UserError where it is not, and the file is
    missing or another training's. It may be an epoch ahead, as earlier versions wrote it first.
    """
    best = best_epoch(epochs, recipe.selection.monitor)
    info = read_checkpoint(path) if path.is_file() else {}
    if info.get("epoch") == best and is_epoch_of(info, {"epochs": epochs}):
        return False
    if best == len(epochs):
        return True
    if not info:
        raise UserError(f"{path}, with epoch {best}, is missing: put it back, or train again without --resume")
    if (
        is_of(info.get("identity"), identity)
        and info.get("epoch") == len(epochs) + 1
        and not is_complete(epochs, recipe)
    ):
        return False
    raise UserError(
        f"{path} is not epoch {best} of the training that goes on, but of another one: put the right file back, or "
        "train again without --resume"
    )


def is_of(saved: Any, identity: dict[str, Any]) -> bool:
    """Whether a checkpoint states the identity of a run, however many epochs it was begun for."""
    if not isinstance(saved, dict) or "recipe" not in saved:
        return False
    wanted = {name: value for name, value in identity.items() if name not in BEGINNING}
    return set(changed_settings(saved, wanted)) <= {"epochs"}


MADE_BY = ("device", "precision", "command", "processes", "versions")  # of the history, in the last checkpoint too


def record_so_far(before: dict[str, Any], done: int, now: dict[str, Any], complete: bool) -> dict[str, Any]:
    """Commands, hardware and libraries of a run that is resumed after `done` epochs, so far and from now on.

    before: as its last checkpoint states them. complete: whether no further epoch is
    trained. Empty where earlier versions wrote it; of processes and versions, what they did not state is as it is now.
    """
    if not before:
        return {}
    if "processes" not in before and re.sub(r"^\d+ × ", "", now["device"]) == before["device"]:
        before = before | {"device": now["device"]}  # of a version that did not say how many there were
    earlier = list(before["earlier_commands"])
    if complete:
        kept = {name: before.get(name, now[name]) for name in MADE_BY}
        return kept | ({"earlier_commands": earlier} if earlier else {})
    hardware: dict[str, Any] = {name: joined(before[name], now[name], done + 1) for name in ("device", "precision")}
    known = before.get("versions", {})
    hardware["versions"] = known | {
        name: joined(known.get(name, version), version, done + 1) for name, version in now["versions"].items()
    }
    earlier += [] if before["command"] == now["command"] else [before["command"]]
    return hardware | ({"earlier_commands": earlier} if earlier else {})


def joined(before: str, now: str, epoch: int) -> str:
    """What was used before an epoch, and what from it on where that is something else."""
    last = re.split(r"; from epoch \d+: ", before)[-1]
    return before if last == now else f"{before}; from epoch {epoch}: {now}"


def depends_on_length(recipe: Recipe) -> bool:
    """Whether the first epochs of a run depend on how many there are."""
    return recipe.learning_rate.schedule in BY_LENGTH or recipe.augmentation.start_size < 1


def describe_extension(recipe: Recipe, planned: int) -> str:
    """What differs from a run that was begun for as many epochs."""
    wanted = recipe.training.epochs
    line = f"the run was begun for {counted(planned, 'epoch')} and goes on to {wanted}"
    parts = []
    if recipe.learning_rate.schedule in BY_LENGTH:
        parts.append(f"the learning rate follows the schedule {recipe.learning_rate.schedule} of {wanted} epochs")
    if recipe.augmentation.start_size < 1:
        parts.append(f"the size of the faces that of {wanted} epochs")
    if not parts:
        return f"{line}; its schedule does not depend on the number of epochs"
    return f"{line}: from here on {' and '.join(parts)}, so that it is not a run of {wanted} epochs from the start"


def check_identity(path: Path, saved: dict[str, Any], wanted: dict[str, Any]) -> int:
    """The number of epochs that a checkpoint's run was begun for.

    UserError unless its other settings, seed and data are those that are wanted.
    """
    saved = {**{name: wanted[name] for name in UNRECORDED if name in wanted}, **LATER_SETTINGS, **saved}
    if missing := [name for name in wanted if name not in (*saved, *BEGINNING)]:
        raise UserError(f"{path} was begun by an earlier version, which did not record {missing[0]}; train it again")
    planned = recorded(saved["recipe"], "epochs")
    later = {name: value for name, value in wanted.items() if name not in BEGINNING}
    as_long = {**later, "recipe": {**wanted["recipe"], "epochs": planned}}
    if changed := changed_settings(saved, as_long):
        recipe_hint = find_recipe(saved) if set(changed) & set(wanted["recipe"]) else ""
        were = ", ".join(f"{name} (was {saved.get(name, recorded(saved['recipe'], name))})" for name in changed)
        raise UserError(f"--resume needs the settings that {path} was made with; these differ: {were}{recipe_hint}")
    return planned


def find_recipe(saved: dict[str, Any]) -> str:
    """A sentence on the row of RECIPES that has the settings of a checkpoint, but for the epochs; empty for none."""
    for name, recipe in RECIPES.items():
        if not set(changed_settings(saved, {"recipe": recipe.flat()})) - {"epochs"}:
            return f". Its settings are those of --recipe {name}"
    return ""
