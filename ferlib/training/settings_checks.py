"""What of a run's settings does not fit together, with its model or with its data."""

from __future__ import annotations

import config
from ferlib.data.face_data import FaceData
from ferlib.networks.classifier import FaceClassifier, count_features
from ferlib.runtime.distributed import is_main, world_size
from ferlib.runtime.errors import UserError
from ferlib.runtime.notes import print_note
from ferlib.training.augmentation import SMALLEST
from ferlib.training.engine import spec_of_epoch
from ferlib.training.losses import effective_loss
from models import model_spec, resized
from recipes import RECIPES, Recipe

NEARLY_1 = 1 - 1e-6
RANGES = {  # of settings that are shares; no setting is below 0
    "dropout": (0, NEARLY_1),
    "label_smoothing": (0, NEARLY_1),
    "ema_decay": (0, NEARLY_1),
    "momentum": (0, NEARLY_1),
    "layer_decay": (1e-6, 1),
    "drop": (0, 1),
    "flip": (0, 1),
    "shift": (0, 1),
    "scale": (0, NEARLY_1),
    "brightness": (0, 1),
    "contrast": (0, 1),
    "erasing": (0, 1),
    "erasing_area": (SMALLEST, 1),
    "start_size": (0.1, 1),
}
COUNTS = ("accumulate", "restart_epochs", "step_epochs")  # settings from 1 up


def check_settings(recipe: Recipe, snapshots: bool) -> None:
    """UserError for settings that do not fit together."""
    schedule, batch_size = recipe.learning_rate.schedule, recipe.training.batch_size
    if snapshots and schedule != "warm_restarts":
        raise UserError(f"--snapshots needs cycles: --schedule warm_restarts instead of {schedule}")
    numbers = {name: value for name, value in recipe.flat().items() if isinstance(value, int | float)}
    if negative := [f"--{name.replace('_', '-')} {value}" for name, value in numbers.items() if value < 0]:
        raise UserError(f"{', '.join(negative)}: no setting of a recipe is below 0")
    for name, (low, high) in RANGES.items():
        if not low <= numbers[name] <= high:
            raise UserError(f"--{name.replace('_', '-')} {numbers[name]} is out of range; it is in {low:g} to {high:g}")
    if none := [f"--{name.replace('_', '-')}" for name in COUNTS if not numbers[name]]:
        raise UserError(f"{', '.join(none)} must be at least 1")
    if 0 < recipe.learning_rate.lr < recipe.learning_rate.min_lr:
        raise UserError(
            f"--lr {numbers['lr']:g} is below --min-lr {numbers['min_lr']:g}, to which it would rise; lower that too"
        )
    if recipe.learning_rate.backbone_lr is not None and not recipe.learning_rate.lr:
        raise UserError("--lr 0 leaves nothing of which --backbone-lr would be a share; give both above 0, or one")
    objective = recipe.objective
    if objective.teacher_weight > 1 or not objective.teacher_temperature:
        raise UserError("--teacher-weight is a share in 0..1, and --teacher-temperature is above 0")
    if recipe.training.epochs < 1 or batch_size < 2:
        raise UserError("--epochs must be at least 1 and --batch-size at least 2")
    parts = recipe.training.accumulate * world_size()
    if batch_size % parts:
        raise UserError(f"--batch-size {batch_size} cannot be split into {parts} equal parts")


def check_smallest_faces(model: FaceClassifier, flags: config.Train) -> None:
    """UserError where the faces of the first epoch are too small for the model."""
    start, full = flags.settings.augmentation.start_size, resized(model_spec(flags.model), flags.image_size)
    first = spec_of_epoch(full, start, 1, flags.settings.training.epochs)
    if first.image_size < full.image_size:
        try:
            count_features(model.backbone, first)
        except UserError as error:
            raise UserError(f"--start-size {start:g}: {error}") from error


def check_votes(flags: config.TrainingStage, data: FaceData, *, resumed: bool = False) -> None:
    """UserError for a loss of votes that are not known; a note where it is the recipe's, or where a run goes on."""
    if effective_loss(flags.settings.objective.loss, data) == flags.settings.objective.loss:
        return
    lacking = f"this copy of {data.facts.title} has no annotators' votes"
    if not resumed and (flags.recipe not in RECIPES or RECIPES[flags.recipe].objective.loss != "votes"):
        raise UserError(f"--loss votes: {lacking}; use another loss, such as cross_entropy")
    if is_main():
        print_note(f"{lacking}: in place of their loss, the run trains on the labels with cross-entropy")
