"""config.py: names, paths and commands that the stages agree on."""

import dataclasses
import re
from pathlib import Path
from typing import get_type_hints

import pytest

import config
import models
from config import EMOTIONS, Train
from ferlib.data.facts import DATASETS
from ferlib.runtime.errors import UserError
from ferlib.runtime.flags import field_comments, parse_flags
from ferlib.runtime.runs import Run
from ferlib.training import optimizers, schedules
from ferlib.training.losses import LOSSES
from recipes import GROUPS, IDLE_AT_ZERO, IDLE_WITHOUT, RECIPES, SETTINGS, Recipe, changed, in_effect

STAGES = [kind for kind in vars(config).values() if dataclasses.is_dataclass(kind) and kind.__module__ == "config"]


def test_official_counts_of_fer2013():
    counts = DATASETS["fer2013"].official_counts
    assert [sum(counts[split]) for split in ("train", "val", "test")] == [28709, 3589, 3589]
    assert all(len(row) == len(EMOTIONS) for row in counts.values())


def test_official_counts_of_rafdb():
    counts = DATASETS["rafdb"].official_counts
    assert [sum(counts[split]) for split in ("train", "test")] == [12271, 3068]


OF_IMAGENET = {
    "weights": "imagenet", "optimizer": "adamw", "lr": 1e-4, "weight_decay": 1e-4, "schedule": "cosine", "min_lr": 1e-6,
    "warmup_epochs": 0.0, "batch_size": 64, "epochs": 30, "patience": 8, "label_smoothing": 0.1, "class_weights": True,
    "clip_norm": 1.0, "dropout": 0.4, "flip": 0.5, "rotation": 10, "brightness": 0.2, "contrast": 0.2,
}  # fmt: skip


def test_the_recipe_of_fer_xai_is_that_of_its_code():
    expected = {"monitor": "accuracy", "stop_on": "objective", "min_delta": 1e-4, "class_weighting": "terms"}
    expected |= {"decay_all": True, "per_epoch": True}
    expected |= {"erasing": 0.2, "erasing_area": 0.33, "erasing_inside": True, "erasing_fill": "mean"}
    assert RECIPES["fer_xai"] == changed(Recipe(), **OF_IMAGENET, **expected)
    trained = {name for name, spec in models.MODELS.items() if spec.recipe == "fer_xai"}
    assert trained == {"resnet50", "efficientnet_b0"}
    assert {models.MODELS[name].image_size for name in trained} == {224}


def test_the_defaults_are_the_recipe_of_the_other_imagenet_models():
    expected = {"monitor": "loss", "stop_on": "monitor", "min_delta": 0.0, "class_weighting": "faces"}
    expected |= {"decay_all": False, "per_epoch": False, "erasing": 0.0, "erasing_area": 0.2, "erasing_inside": False}
    assert RECIPES["finetune"] == Recipe() == changed(Recipe(), **OF_IMAGENET, **expected)
    assert models.MODELS["resnet18"].recipe == models.model_spec("timm/resnet18").recipe == "finetune"


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_names_what_exists(name):
    recipe = RECIPES[name]
    assert recipe.optimization.optimizer in optimizers.OPTIMIZERS
    assert recipe.learning_rate.schedule in schedules.SCHEDULES
    assert {recipe.selection.monitor, recipe.selection.stop_metric} <= schedules.BETTER.keys()
    assert recipe.objective.loss in LOSSES


def test_a_recipe_is_changed_by_the_names_of_its_settings():
    recipe = changed(Recipe(), lr=0.5, mixup=0.2, epochs=7)
    assert (recipe.learning_rate.lr, recipe.augmentation.mixup, recipe.training.epochs) == (0.5, 0.2, 7)
    assert recipe.flat() == Recipe().flat() | {"lr": 0.5, "mixup": 0.2, "epochs": 7}
    assert changed(recipe) == recipe
    with pytest.raises(TypeError, match="a recipe has no t_max"):
        changed(recipe, t_max=3)
    assert len(SETTINGS) == sum(map(len, GROUPS.values())), "two groups share the name of a setting"


@pytest.mark.parametrize("kind", [*STAGES, *get_type_hints(Recipe).values()], ids=lambda kind: kind.__name__)
def test_every_flag_has_a_help_of_its_own(kind, capsys, monkeypatch):
    """--help shows the comment on the line of each flag, and no neighbour's."""
    names = {field.name for field in dataclasses.fields(kind)} - {"settings"}
    comments = {name: comment for name, comment in field_comments(kind).items() if name in names}
    assert not names - comments.keys(), "flags without a comment on their line"
    assert len(set(comments.values())) == len(comments), "two flags share a help"
    text = help_of(kind, capsys, monkeypatch)
    for name, comment in comments.items():
        flag = rf"--{name.replace('_', '-')}(?:, --no-\S+)?(?: [^\s(]+){{0,3}}?" if name != "images" else r"\.\.\.\]+"
        assert re.search(rf" {flag} {re.escape(' '.join(comment.split()))} ", text), f"--{name}: not {comment}"


def help_of(kind, capsys, monkeypatch):
    """What --help prints, in one line, without its boxes."""
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit):
        parse_flags(kind, ["--help"])
    return re.sub(r"[\s│╭╮╰╯─]+", " ", capsys.readouterr().out)


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


@pytest.mark.parametrize("tag", ["a/b", "a b", "a\nb", "\x1b[31m", "\U0001f600"])
def test_a_tag_whose_files_another_tag_would_share_is_refused(tag):
    with pytest.raises(UserError, match="a name is made of letters"):
        _ = Train(tag=tag).run
    assert Train(tag="é-1_b.2").run.name == "mini_resnet_synthetic_é-1_b.2"
    assert Train(model="timm/resnet18").run.name == "timm-resnet18_synthetic"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--batch-size", "1" + 30 * "0"], r"--batch-size 1000.* is out of range; the largest number is 2147483647"),
        (["--settings.lr", "inf"], "--lr inf is not a finite number"),
        (["--max-gpu-temp", "nan"], "--max-gpu-temp nan is not a finite number"),
    ],
)
def test_numbers_out_of_every_range_are_refused(words, said):
    with pytest.raises(UserError, match=said):
        parse_flags(Train, [word.replace("settings.", "") for word in words])
    assert parse_flags(Train, ["--seed", str(2**40)]).seed == 2**40


def test_settings_that_another_one_switches_off():
    assert set(IDLE_WITHOUT) | set(IDLE_AT_ZERO) <= set(SETTINGS)
    assert {other for other, _ in IDLE_WITHOUT.values()} | set(IDLE_AT_ZERO.values()) <= set(SETTINGS)
    whole = Recipe().flat()
    plain = in_effect(whole)
    assert {"momentum", "restart_epochs", "drop", "focal_gamma", "erasing_area"}.isdisjoint(plain)
    assert {"label_smoothing", "class_weighting", "stop_on", "mixup"} <= set(plain), "a 0 says that there was none"
    other = in_effect(whole | {"optimizer": "sgd", "schedule": "step", "loss": "focal", "patience": 0, "erasing": 0.1})
    assert {"momentum", "step_epochs", "drop", "focal_gamma", "erasing_fill"} <= set(other)
    assert {"restart_epochs", "plateau_patience", "label_smoothing", "min_delta"}.isdisjoint(other)
    assert in_effect({"drop": 0.1}) == {}, "a file that is older than a setting has its default"
