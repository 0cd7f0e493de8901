"""train.py: it learns, stops, resumes bit for bit, refuses what is wrong."""

import dataclasses
import json
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

import config
import train
from config import RECIPES, Recipe
from models import MODELS, create_model, load_checkpoint, read_tensors
from transforms import center_view
from utils import UserError

CPU = torch.device("cpu")


def test_it_learns(train_flags, synthetic):
    flags = train_flags("learns", epochs=6, max_steps=None, lr=3e-3, warmup_epochs=0, dropout=0.0)
    history = train.fit(flags)
    first, last = history["epochs"][0], history["epochs"][-1]
    assert last["train_loss"] < first["train_loss"] - 0.2
    assert last["train_accuracy"] > max(first["train_accuracy"], 1 / 7) + 0.05
    assert history["finished"]


def test_files_of_a_run(tiny_run):
    history = json.loads(tiny_run.history.read_text())
    assert history["run"] == {"model": "mini_resnet", "dataset": "synthetic", "tag": "tiny"}
    assert [epoch["epoch"] for epoch in history["epochs"]] == [1, 2]
    assert history["recipe"]["max_steps"] == 4
    assert history["data"]["counts"]["train"]
    assert tiny_run.plot("training_curves").exists()
    best = read_tensors(tiny_run.best_checkpoint)
    assert best["epoch"] == history["best_epoch"]
    assert best["metrics"]["val_accuracy"] == history["epochs"][best["epoch"] - 1]["val_accuracy"]


def test_best_checkpoint_has_the_validation_accuracy_it_claims(tiny_run, synthetic):
    checkpoint = load_checkpoint(tiny_run.best_checkpoint, CPU)
    val = synthetic.split("val")
    with torch.inference_mode():
        logits = checkpoint.model(center_view(torch.from_numpy(val.images), checkpoint.spec))
    accuracy = (logits.argmax(1).numpy() == val.labels).mean()
    assert accuracy == pytest.approx(checkpoint.info["metrics"]["val_accuracy"], abs=0.04)  # trained in bfloat16


@pytest.mark.parametrize("options", [{"optimizer": "adamw"}, {"optimizer": "sgd", "ema_decay": 0.9, "mixup": 0.2}])
def test_resumed_run_ends_as_the_uninterrupted_one(train_flags, monkeypatch, options):
    tag = options["optimizer"]
    whole = train_flags(f"whole_{tag}", epochs=3, **options)
    train.fit(whole)
    broken = train_flags(f"broken_{tag}", epochs=3, **options)
    original = train.train_one_epoch

    def killed_in_epoch_3(*args, epoch, **kwargs):
        if epoch == 3:
            raise KeyboardInterrupt
        return original(*args, epoch=epoch, **kwargs)

    monkeypatch.setattr(train, "train_one_epoch", killed_in_epoch_3)
    with pytest.raises(KeyboardInterrupt):
        train.fit(broken)
    assert not json.loads(broken.run.history.read_text())["finished"]
    monkeypatch.setattr(train, "train_one_epoch", original)
    train.fit(replace(broken, resume=True))
    for kind in ("best_checkpoint", "last_checkpoint"):
        first, second = (read_tensors(getattr(flags.run, kind)) for flags in (whole, broken))
        assert first["epoch"] == second["epoch"]
        assert all(torch.equal(first["state"][name], second["state"][name]) for name in first["state"])


def test_resume_of_a_finished_run_changes_nothing(train_flags):
    flags = train_flags("finished")
    first = train.fit(flags)
    assert train.fit(replace(flags, resume=True))["epochs"] == first["epochs"]


def test_resume_refuses_other_settings(train_flags):
    flags = train_flags("settings", epochs=1)
    with pytest.raises(UserError, match=r"settings_last\.pth does not exist; run: python train\.py"):
        train.fit(replace(flags, resume=True))
    train.fit(flags)
    changed = replace(flags, resume=True, seed=1, settings=replace(flags.settings, lr=0.5))
    with pytest.raises(UserError, match="these differ: seed, lr"):
        train.fit(changed)


def test_loss_that_is_not_finite_stops_the_run(train_flags):
    flags = train_flags("nan", optimizer="sgd", lr=1e30, clip_norm=0.0, max_steps=6, warmup_epochs=0.0)
    with pytest.raises(UserError, match=r"the loss is (nan|inf).*try a smaller --lr"):
        train.fit(flags)
    assert not flags.run.best_checkpoint.exists()


def test_early_stopping(train_flags):
    history = train.fit(train_flags("patience", epochs=9, lr=1e-12, min_lr=1e-12, patience=2, monitor="accuracy"))
    assert len(history["epochs"]) == 3
    assert history["best_epoch"] == 1


def test_best_epoch_is_the_earliest_of_equals():
    epochs = [
        {"epoch": 1, "val_loss": 2.0, "val_accuracy": 0.5},
        {"epoch": 2, "val_loss": 1.0, "val_accuracy": 0.7},
        {"epoch": 3, "val_loss": 1.5, "val_accuracy": 0.7},
    ]
    assert train.best_epoch(epochs, "loss") == 2
    assert train.best_epoch(epochs, "accuracy") == 2
    assert train.should_stop(epochs, Recipe(patience=1, monitor="loss"))
    assert not train.should_stop(epochs, Recipe(patience=2, monitor="loss"))
    assert not train.should_stop(epochs, Recipe(patience=0, monitor="loss"))


def test_learning_rate_by_hand():
    cosine = Recipe(lr=1.0, min_lr=0.1, schedule="cosine", t_max=10, epochs=30)
    assert train.learning_rate(cosine, 0) == 1
    assert train.learning_rate(cosine, 5) == pytest.approx(0.55)
    assert train.learning_rate(cosine, 2.5) == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi / 4)) / 2)
    assert train.learning_rate(cosine, 20) == pytest.approx(0.1)
    one_cycle = Recipe(lr=1.0, min_lr=0, schedule="one_cycle", t_max=None, epochs=10, warmup_epochs=2)
    assert [train.learning_rate(one_cycle, epoch) for epoch in (1, 2, 6, 10)] == [0.5, 1, 0.5, 0]


def test_faces_grow_to_their_full_size():
    spec, recipe = MODELS["fer_resnet_wide"], RECIPES["scratch"]
    sizes = [train.grown(spec, recipe, epoch).image_size for epoch in range(1, recipe.epochs + 1)]
    assert sizes == sorted(sizes)
    assert sizes[0] < 0.7 * spec.image_size
    assert set(sizes[int(0.75 * len(sizes)) :]) == {spec.image_size}
    assert train.grown(spec, recipe, recipe.epochs) == spec
    assert train.grown(spec, replace(recipe, start_size=1.0), 1) is spec


def test_class_weights_balance_the_classes():
    labels = torch.tensor([0] * 6 + [1] * 2)
    weights = train.class_weights(labels)
    assert weights[:2].tolist() == pytest.approx([8 / 12, 8 / 4])
    assert not weights[2:].any()
    assert weights[labels].mean() == 1


def test_moving_average_by_hand():
    update = train.ema_function(0.5)
    average, weights = [torch.tensor([0.0])], [torch.tensor([1.0])]
    update(average, weights, 0)  # decay 0.1 in the first update, min(0.5, 1 / 10)
    assert average[0].item() == pytest.approx(0.9)
    update(average, weights, 1000)
    assert average[0].item() == pytest.approx(0.95)
    counters = [torch.tensor(3)]
    update(counters, [torch.tensor(7)], 5)
    assert counters[0].item() == 7


def test_no_weight_decay_on_biases_and_norms():
    decayed, free = train.parameter_groups(create_model("mini_resnet"), 0.1)
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.1, 0)
    assert all(parameter.ndim > 1 for parameter in decayed["params"])
    assert all(parameter.ndim == 1 for parameter in free["params"])


def test_gradient_norm_is_clipped(train_flags):
    training = train.start_training("mini_resnet", replace(RECIPES["quick"], optimizer="sgd"), 0, CPU, torch.float32)
    loss = 1e4 * F.cross_entropy(training.model(torch.rand(4, 1, 48, 48)), torch.tensor([0, 1, 2, 3]))
    train.update_weights(training, loss, clip_norm=1.0)
    norm = torch.stack([p.grad.norm() for p in training.model.parameters()]).norm()
    assert norm == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_takes_a_training_step(name):
    recipe = replace(RECIPES[MODELS[name].recipe], weights="none", ema_decay=0.9)
    training = train.start_training(name, recipe, 0, CPU, torch.float32)
    before = [parameter.clone() for parameter in training.model.parameters()]
    images = torch.randint(0, 256, (4, 48, 48, 1), dtype=torch.uint8)
    small = replace(MODELS[name], image_size=64 if MODELS[name].image_size > 64 else MODELS[name].image_size)
    scores = train.train_one_epoch(
        training, training.model, images, torch.tensor([0, 1, 2, 3]), None, small,
        replace(recipe, batch_size=4, warmup_epochs=0), epoch=1, seed=0, dtype=torch.float32,
    )  # fmt: skip
    assert math.isfinite(scores["train_loss"])
    after = training.model.parameters()
    assert all(not torch.equal(old, new) for old, new in zip(before, after, strict=True) if new.ndim > 1)


def test_flags_start_from_the_models_recipe():
    [flags] = train.parse_flags(["--model", "resnet50", "--dataset", "fer2013", "--lr", "0.5"])
    assert (flags.recipe, flags.settings.lr, flags.settings.batch_size) == ("fine_tune", 0.5, 64)
    assert flags.settings == replace(RECIPES["fine_tune"], lr=0.5)
    [flags] = train.parse_flags(["--model=fer_vgg", "--recipe", "quick", "--no-amp"])
    assert flags.settings == RECIPES["quick"]
    assert not flags.amp


def test_all_models(monkeypatch):
    flags = train.parse_flags(["--all", "--dataset", "fer2013", "--epochs", "2"])
    assert [f.model for f in flags] == list(MODELS)
    assert all(f.settings.epochs == 2 for f in flags)
    assert {f.model: f.recipe for f in flags} == {name: spec.recipe for name, spec in MODELS.items()}
    tried = []

    def fit(flags):
        tried.append(flags.model)
        if flags.model == "resnet50":
            raise UserError("no weights")

    monkeypatch.setattr(train, "fit", fit)
    monkeypatch.setattr("sys.argv", ["train.py", "--all"])
    with pytest.raises(UserError, match="resnet50: no weights"):
        train.main()
    assert tried == list(MODELS), "one model's failure must not keep the others from being trained"


def test_unknown_names_and_flags(capsys):
    with pytest.raises(UserError, match="unknown recipe 'fast'"):
        train.parse_flags(["--recipe", "fast"])
    with pytest.raises(UserError, match="unknown model"):
        train.parse_flags(["--model", "vgg99"])
    with pytest.raises(SystemExit):
        train.parse_flags(["--learning-rate", "1"])
    assert "learning-rate" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"batch_size": 1}])
def test_senseless_settings(train_flags, wrong):
    with pytest.raises(UserError, match="--epochs must be at least 1 and --batch-size at least 2"):
        train.fit(train_flags("wrong", **wrong))


def test_every_recipe_field_is_a_flag():
    fields = {field.name.replace("_", "-") for field in dataclasses.fields(config.Recipe)}
    assert {"epochs", "max-steps", "weights", "ema-decay"} <= fields
    [flags] = train.parse_flags(["--ema-decay", "0.5", "--max-steps", "3", "--no-class-weights"])
    assert (flags.settings.ema_decay, flags.settings.max_steps, flags.settings.class_weights) == (0.5, 3, False)
