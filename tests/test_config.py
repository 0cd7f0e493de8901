"""config.py: names, paths and commands that the stages agree on."""

import dataclasses
import json
from pathlib import Path

import pytest

import config
import models
import recipes
from config import EMOTIONS
from ferlib.data.facts import DATASETS
from ferlib.runtime.runs import Run
from ferlib.training import optimizers
from recipes import RECIPES


def test_official_counts_of_fer2013():
    counts = DATASETS["fer2013"].official_counts
    assert [sum(counts[split]) for split in ("train", "val", "test")] == [28709, 3589, 3589]
    assert all(len(row) == len(EMOTIONS) for row in counts.values())


def test_official_counts_of_rafdb():
    counts = DATASETS["rafdb"].official_counts
    assert [sum(counts[split]) for split in ("train", "test")] == [12271, 3068]


def test_default_recipe_of_the_imagenet_models():
    recipe = RECIPES[models.MODELS["resnet50"].recipe]
    assert models.MODELS["resnet50"].image_size == models.MODELS["efficientnet_b0"].image_size == 224
    assert (recipe.weights, recipe.optimizer, recipe.lr, recipe.weight_decay) == ("imagenet", "adamw", 1e-4, 1e-4)
    assert (recipe.schedule, recipe.t_max, recipe.min_lr) == ("cosine", 30, 1e-6)
    assert (recipe.batch_size, recipe.epochs, recipe.monitor, recipe.patience) == (64, 30, "loss", 8)
    assert (recipe.label_smoothing, recipe.class_weights, recipe.clip_norm) == (0.1, True, 1.0)
    assert (recipe.flip, recipe.rotation, recipe.brightness, recipe.contrast) == (0.5, 10, 0.2, 0.2)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_names_what_exists(name):
    recipe = RECIPES[name]
    assert recipe.optimizer in optimizers.OPTIMIZERS
    assert recipe.schedule in optimizers.SCHEDULES
    assert recipe.monitor in optimizers.BETTER


def test_run_name_and_paths():
    run = Run("resnet50", "fer2013", outputs_dir=Path("out"))
    assert run.name == "resnet50_fer2013"
    assert Run("resnet50", "fer2013", "seed1").name == "resnet50_fer2013_seed1"
    assert run.best_checkpoint == Path("out/checkpoints/resnet50_fer2013_best.pth")
    assert run.plot("roc_curves") == Path("out/plots/resnet50_fer2013_roc_curves.png")
    figure = run.explanation_figure("lime", 7, "Angry", "Sad")
    assert figure == Path("out/explanations/lime/resnet50_fer2013/007_Angry_predSad.png")


def test_command_can_be_pasted_into_a_shell():
    assert Run("a", "b").command("train.py") == "python train.py --model a --dataset b"
    command = Run("a", "b", "c", Path("my out")).command("evaluate.py")
    assert command == "python evaluate.py --model a --dataset b --tag c --outputs-dir 'my out'"


def test_flags_become_plain_python():
    plain = config.to_plain(config.Train())
    assert json.loads(json.dumps(plain))["settings"]["lr"] == recipes.Recipe().lr
    assert plain["outputs_dir"] == "outputs"
    assert set(plain) == {field.name for field in dataclasses.fields(config.Train)}
