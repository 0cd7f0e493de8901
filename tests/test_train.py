"""train.py and fitting.py: it learns, stops, resumes bit for bit, refuses what is wrong."""

import dataclasses
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import config
import evaluate
import recipes
import train
from conftest import TINY
from ferlib.data.readers.affectnet import AFFECTNET_EMOTIONS
from ferlib.inference.views import center_view
from ferlib.networks.checkpoints import deployed_state, read_checkpoint, read_tensors
from ferlib.runtime.errors import UserError
from ferlib.runtime.files import write_json
from ferlib.runtime.runs import Run
from ferlib.training import batches, engine, fitting
from ferlib.training.batches import Faces, draw_batches
from ferlib.training.losses import Criterion, class_weights, cross_entropy
from ferlib.training.selection import best_epoch, should_stop
from ferlib.training.state import start_training
from models import MODELS, create_model, load_checkpoint, resized
from recipes import RECIPES, Recipe, Selection, changed

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
    assert history["max_steps"] == 4
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
    assert accuracy == pytest.approx(checkpoint.info["metrics"]["val_accuracy"], abs=0.04)


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
    assert best_epoch(epochs, "loss") == 2
    assert best_epoch(epochs, "accuracy") == 2
    assert should_stop(epochs, Selection(patience=1, monitor="loss"))
    assert not should_stop(epochs, Selection(patience=2, monitor="loss"))
    assert not should_stop(epochs, Selection(patience=0, monitor="loss"))
    assert not should_stop([], Selection(patience=1, monitor="loss"))


def stops_after(selection, **metrics):
    """The number of epochs after which training stops; metrics: the values of each on val."""
    epochs = [dict(zip(metrics, values, strict=True)) for values in zip(*metrics.values(), strict=True)]
    return next((n for n in range(1, len(epochs) + 1) if should_stop(epochs[:n], selection)), None)


def test_gains_below_min_delta_do_not_keep_a_training_going():
    losses = [1.0, 0.95, 0.91, 0.85, 0.80, 0.76, 0.70, 0.69]  # gains of more than 0.1: 0.85, then 0.70
    assert stops_after(Selection(patience=2, min_delta=0.1), val_loss=losses) == 3
    assert stops_after(Selection(patience=3, min_delta=0.1), val_loss=losses) is None
    assert stops_after(Selection(patience=1), val_loss=losses) is None
    accuracies = [0.5, 0.55, 0.62, 0.65, 0.7, 0.73]
    rising = Selection(monitor="accuracy", patience=2, min_delta=0.1)
    assert stops_after(rising, val_accuracy=accuracies) == 5
    exactly = [1.0, 0.75, 0.5, 0.25]  # a gain of min_delta itself is none
    assert stops_after(Selection(patience=1, min_delta=0.25), val_loss=exactly) == 2


def test_a_training_stops_on_another_metric_than_that_of_its_best_epoch():
    falling, rising, level = [0.9, 0.8, 0.7, 0.6], [0.9, 1.0, 1.1, 1.2], [0.5, 0.6, 0.4, 0.4]
    metrics = {"val_loss": falling, "val_objective": rising, "val_accuracy": level}
    for stop_on, expected in (("loss", None), ("objective", 3), ("accuracy", 4), ("monitor", 4)):
        selection = Selection(monitor="accuracy", stop_on=stop_on, patience=2)
        assert stops_after(selection, **metrics) == expected, stop_on


def test_fer_xai_keeps_the_best_accuracy_and_stops_on_the_loss_as_trained(train_flags, monkeypatch):
    """The epoch of the lowest loss is another one, and gains of less than 1e-4 do not count."""
    figures = {
        "val_loss": (1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6),
        "val_objective": (1.5, 1.4, 1.39995, 1.39993, 1.39992, 1.3, 1.2),
        "val_accuracy": (0.5, 0.6, 0.65, 0.7, 0.6, 0.8, 0.9),
        "val_macro_f1": (0.5,) * 7,
    }
    rows = iter([dict(zip(figures, row, strict=True)) for row in zip(*figures.values(), strict=True)])
    monkeypatch.setattr(fitting, "validate", lambda *_: next(rows))
    selection = dataclasses.asdict(RECIPES["fer_xai"].selection) | {"patience": 3}
    flags = train_flags("fer-xai", epochs=7, max_steps=1, **selection)
    history = train.fit(flags)
    assert [epoch["val_objective"] for epoch in history["epochs"]] == [1.5, 1.4, 1.39995, 1.39993, 1.39992]
    assert history["best_epoch"] == read_tensors(flags.run.best_checkpoint)["epoch"] == 4
    assert train.fit(replace(flags, resume=True))["epochs"] == history["epochs"]


def test_the_loss_as_trained_is_that_of_torch_on_val(train_flags, synthetic):
    """Class weights of the training faces, smoothing, and a mean over batches as in training."""
    flags = train_flags("objective", epochs=2, stop_on="objective", class_weighting="terms", class_weights=True)
    history = train.fit(flags)
    saved = load_checkpoint(flags.run.best_checkpoint, CPU)
    val, labels = synthetic.split("val"), torch.from_numpy(synthetic.split("val").labels)
    with torch.inference_mode():
        logits = saved.model(center_view(torch.from_numpy(val.images), saved.spec))
    weights = torch.from_numpy(class_weights(synthetic.split("train").labels, 7))
    loss = torch.nn.CrossEntropyLoss(weight=weights, label_smoothing=0.1)
    batches = zip(logits.split(16), labels.split(16), strict=True)
    expected = sum(loss(z, y).item() * len(y) for z, y in batches) / len(labels)
    epoch = history["epochs"][history["best_epoch"] - 1]
    assert epoch["val_objective"] == pytest.approx(expected, rel=1e-4)
    assert epoch["val_loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-4)


def test_faces_grow_to_their_full_size():
    spec, recipe = MODELS["fer_resnet_wide"], RECIPES["scratch"]
    epochs, start_size = recipe.training.epochs, recipe.augmentation.start_size
    sizes = [engine.spec_of_epoch(spec, start_size, epoch, epochs).image_size for epoch in range(1, epochs + 1)]
    assert sizes == sorted(sizes)
    assert sizes[0] < 0.7 * spec.image_size
    assert set(sizes[int(0.75 * len(sizes)) :]) == {spec.image_size}
    assert engine.spec_of_epoch(spec, start_size, epochs, epochs) == spec
    assert engine.spec_of_epoch(spec, 1.0, 1, epochs) is spec


@pytest.mark.parametrize("side", [42, 46, 50])
@pytest.mark.parametrize("epochs", [1, 2, 3, 10])
def test_faces_end_at_their_full_size_whatever_it_is(side, epochs):
    """Sides that are no multiple of 4, and trainings of few epochs."""
    spec = resized(MODELS["fer_resnet"], side)
    sizes = [engine.spec_of_epoch(spec, 0.64, epoch, epochs).image_size for epoch in range(1, epochs + 1)]
    assert sizes == sorted(sizes)
    assert sizes[-1] == side
    assert all(size % 4 == 0 for size in sizes if size < side)


def test_first_faces_that_are_too_small(train_flags):
    flags = train_flags("small", model="fer_vgg", start_size=0.2, epochs=2)
    with pytest.raises(UserError, match=r"--start-size 0\.2: this model cannot take faces of 8 px"):
        train.fit(flags)


def test_a_run_goes_on_without_the_weights_that_it_began_from(train_flags, tmp_path):
    first = train_flags("lender", epochs=1)
    train.fit(first)
    weights = tmp_path / "weights.pth"
    shutil.copy(first.run.best_checkpoint, weights)
    for tag, source in (("weights", {"weights": str(weights)}), ("backbone", {"init_from": first.run.name})):
        flags = train_flags(f"borrower-{tag}", epochs=1, **source)
        train.fit(flags)
        for path in (weights, first.run.best_checkpoint):
            path.rename(path.with_suffix(".gone"))
        history = train.fit(replace(flags, resume=True, settings=changed(flags.settings, epochs=2)))
        assert len(history["epochs"]) == 2
        for path in (weights, first.run.best_checkpoint):
            path.with_suffix(".gone").rename(path)


def tiny_faces(count=4, side=48):
    images = torch.randint(0, 256, (count, side, side, 1), dtype=torch.uint8)
    labels = torch.arange(count) % 7
    return Faces(images, F.one_hot(labels, 7).float(), labels, CPU)


def start(name, **changes):
    recipe = changed(RECIPES[MODELS[name].recipe], weights="none", warmup_epochs=0, **changes)
    return start_training(config.Train(model=name, settings=recipe), CPU, torch.float32)


def one_step(training, faces, **options):
    batch = faces.images.permute(0, 3, 1, 2) / 255, faces.targets, torch.ones(len(faces.labels))
    return engine.update_weights(training, batch, Criterion(cross_entropy, 7), dtype=torch.float32, **options)


def test_gradient_norm_is_clipped():
    training = start("mini_resnet", optimizer="sgd", dropout=0.0)
    one_step(training, tiny_faces(), clip_norm=0.01)
    norm = torch.stack([p.grad.norm() for p in training.model.parameters()]).norm()
    assert norm == pytest.approx(0.01, rel=1e-3)


def test_accumulated_parts_give_the_gradient_of_the_whole_batch():
    faces = tiny_faces(8)
    weights = []
    for parts in (1, 4):
        training = start("mini_resnet", optimizer="sgd", dropout=0.0)
        for module in training.model.modules():  # batch norm sees only a part of the batch
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum, module.training = 0.0, False
                module.train = lambda mode=True: None
        one_step(training, faces, accumulate=parts)
        weights.append(torch.cat([p.detach().flatten() for p in training.model.parameters()]))
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-4, atol=1e-6)


def test_balanced_sampling_draws_every_class_equally(generator):
    labels = torch.tensor([0] * 900 + [1] * 100)
    recipe = changed(Recipe(), balanced_sampling=True, batch_size=100)
    rows = torch.cat(draw_batches(labels, recipe, generator))
    assert 400 < (labels[rows] == 1).sum() < 600


@pytest.mark.parametrize("count", [1, 2, 5])
def test_batches_come_in_order_from_the_host(monkeypatch, count):
    """With a device of its own, each batch is fetched in a thread while the one before is computed."""
    faces = replace(tiny_faces(10), device=torch.device("meta"))
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, *_args, **_options: tensor)
    rows = [torch.tensor([number, 2 * number % 10]) for number in range(count)]
    found = list(faces.batches(rows))
    assert len(found) == count
    assert all(torch.equal(batch, faces.images[chosen]) for batch, chosen in zip(found, rows, strict=True))


def test_batches_are_whole(generator):
    labels = torch.zeros(250, dtype=torch.long)
    batches = draw_batches(labels, changed(Recipe(), batch_size=100), generator)
    assert [len(batch) for batch in batches] == [100, 100]
    assert len(torch.cat(batches).unique()) == 200
    assert len(draw_batches(labels, changed(Recipe(), batch_size=500), generator)[0]) == 250


@pytest.mark.parametrize(
    "settings",
    [
        {"loss": "focal"}, {"sam_rho": 0.05}, {"balanced_sampling": True}, {"accumulate": 2},
        {"optimizer": "radam"}, {"schedule": "step"}, {"cutmix": 1.0},
    ],
    ids=lambda settings: next(iter(settings)),
)  # fmt: skip
def test_settings_that_no_recipe_takes_train_as_well(train_flags, settings):
    tag = next(iter(settings)).replace("_", "-")
    flags = train_flags(tag, epochs=1, **settings)
    history = fitting.fit(flags)
    assert history["finished"]
    assert history["recipe"] == flags.settings.flat() == changed(TINY, epochs=1, **settings).flat()
    plain, other = (read_tensors(run.best_checkpoint)["state"] for run in (plain_run(train_flags), flags.run))
    assert any(not torch.equal(plain[name], other[name]) for name in plain), "the setting changes nothing"


def plain_run(train_flags):
    flags = train_flags("plain", epochs=1)
    if not flags.run.best_checkpoint.exists():
        fitting.fit(flags)
    return flags.run


def test_snapshots_are_kept_at_the_end_of_every_cycle(train_flags):
    cyclic = {"schedule": "warm_restarts", "restart_epochs": 1, "warmup_epochs": 0.0, "epochs": 3}
    flags = train_flags("snapshots", snapshots=True, max_steps=2, **cyclic)
    fitting.fit(flags)
    epochs = [read_tensors(flags.run.checkpoint(f"cycle{cycle}"))["epoch"] for cycle in (1, 2)]
    assert epochs == [1, 3]


def test_the_cosine_ends_with_the_last_epoch(train_flags):
    history = fitting.fit(train_flags("cosine", epochs=3, max_steps=1, warmup_epochs=0.0, lr=1e-3, min_lr=0.0))
    rates = [epoch["lr"] for epoch in history["epochs"]]
    assert rates == pytest.approx([1e-3, 0.75e-3, 0.25e-3])


@pytest.mark.parametrize("per_epoch", [False, True])
def test_the_rate_changes_at_each_step_or_once_an_epoch(train_flags, monkeypatch, per_epoch):
    rates = []
    original = engine.set_learning_rate
    monkeypatch.setattr(engine, "set_learning_rate", lambda o, rate: (rates.append(rate), original(o, rate)))
    history = fitting.fit(train_flags(f"per-epoch-{per_epoch}", per_epoch=per_epoch, max_steps=3, warmup_epochs=0.0))
    begun = [epoch["lr"] for epoch in history["epochs"]]
    assert [rates[0], rates[3]] == begun
    assert begun[0] > begun[1]
    assert len(set(rates)) == (2 if per_epoch else 6)


def test_backbone_of_another_run(train_flags, shared_outputs):
    first = train_flags("source", epochs=1)
    train.fit(first)
    flags = train_flags("target", epochs=1, init_from=first.run.name, backbone_lr=1e-9, weights="imagenet")
    train.fit(flags)
    source, target = (read_tensors(f.run.best_checkpoint)["state"] for f in (first, flags))
    kernels = [name for name in source if name.startswith("backbone") and source[name].ndim == 4]
    assert all(torch.allclose(source[name], target[name], atol=1e-4) for name in kernels)
    assert not torch.allclose(source["head.1.weight"], target["head.1.weight"], atol=1e-3)
    with pytest.raises(UserError, match=r"nothing_best\.pth does not exist"):
        train.fit(train_flags("target", init_from="nothing"))
    with pytest.raises(
        UserError, match=r"--weights a\.pth and --init-from mini_resnet_\w+ both name the weights to start"
    ):
        train.fit(train_flags("target", init_from=first.run.name, weights="a.pth"))


def test_conflicting_faces_that_are_left_out_are_counted(train_flags, monkeypatch, capsys):
    monkeypatch.setattr(batches, "without_conflicts", lambda data: np.arange(3, len(data)))
    history = train.fit(train_flags("conflicts", epochs=1, conflicts="drop"))
    assert history["conflicts_dropped"] == 3
    assert "training faces left out, as copies of them have other labels: 3\n" in capsys.readouterr().out
    assert "conflicts_dropped" not in train.fit(train_flags("conflicts", epochs=1))


def test_weights_that_cannot_be_had_are_an_error_before_any_face_is_decoded(train_flags, monkeypatch):
    monkeypatch.setattr(fitting, "load_stage", lambda _flags: pytest.fail("the faces were decoded"))

    def no_network(_name):
        raise UserError("the ImageNet weights of resnet18 could not be downloaded")

    monkeypatch.setattr("ferlib.networks.torchvision_backbones.torchvision_state", no_network)
    with pytest.raises(UserError, match=r"could not be downloaded.*need none: .*fer_vgg, fer_resnet"):
        fitting.fit(train_flags("offline", model="resnet18", weights="imagenet"))
    with pytest.raises(UserError, match=r"has no ImageNet weights"):
        fitting.fit(train_flags("offline", weights="imagenet"))
    with pytest.raises(UserError, match=r"nobody\.pth does not exist"):
        fitting.fit(train_flags("offline", weights="nobody.pth"))


def test_a_last_checkpoint_gives_the_averaged_weights(train_flags):
    """As they are used wherever a checkpoint is loaded, not those that training left off with."""
    flags = train_flags("averaged", epochs=1, max_steps=3, ema_decay=0.5)
    fitting.fit(flags)
    begun = train_flags("from-last", epochs=1, weights=str(flags.run.last_checkpoint), ema_decay=0.5)
    model = start_training(begun, torch.device("cpu"), torch.float32).model
    deployed = load_checkpoint(flags.run.last_checkpoint, torch.device("cpu")).model
    for name, value in model.state_dict().items():
        assert torch.equal(value, deployed.state_dict()[name]), name
    own, average = states_of(flags)
    assert any(not torch.equal(own[name], average[name]) for name in own), "both are the same here"


def states_of(flags):
    """The weights that a last checkpoint trains on with, and their average."""
    content = read_checkpoint(flags.run.last_checkpoint)
    return content["state"], deployed_state(content)


def test_faces_of_another_size(train_flags):
    flags = train_flags("large", epochs=1, image_size=64)
    train.fit(flags)
    checkpoint = load_checkpoint(flags.run.best_checkpoint, CPU)
    assert (checkpoint.spec.image_size, checkpoint.spec.scaled_size) == (64, 64)
    results = evaluate.evaluate(config.Evaluate(tag="large", outputs_dir=flags.outputs_dir, device="cpu", amp=False))
    assert results["accuracy"] >= 0
    assert resized(MODELS["fer_resnet"], 66).resize == 72
    with pytest.raises(UserError, match="takes faces of 299 px"):
        resized(MODELS["inception_v3"], 64)
    with pytest.raises(UserError, match="cannot take faces of 16 px"):
        create_model("alexnet", image_size=16)


def test_eight_classes_first_then_seven(train_flags, tmp_path):
    for code, name in enumerate(AFFECTNET_EMOTIONS):
        for part in ("train", "val"):
            for number in range(12):
                path = tmp_path / "affectnet" / part / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("L", (48, 48), 30 * code + number).save(path)
    first = train_flags("eight", epochs=1, dataset="affectnet8", data_dir=tmp_path, batch_size=16, monitor="macro_f1")
    history = train.fit(first)
    assert history["classes"][7] == "Contempt"
    assert [len(counts) for counts in history["data"]["counts"].values()] == [8] * 3
    saved = read_tensors(first.run.best_checkpoint)
    assert saved["classes"] == history["classes"]
    assert len(saved["state"]["head.1.bias"]) == 8
    second = train_flags("seven", epochs=1, init_from=first.run.name, backbone_lr=1e-9)
    train.fit(second)
    target = read_tensors(second.run.best_checkpoint)["state"]
    assert len(target["head.1.bias"]) == 7
    kernel = "backbone.stem.0.weight"
    assert torch.allclose(saved["state"][kernel], target[kernel], atol=1e-4)
    with pytest.raises(UserError, match="8 classes"):
        evaluate.evaluate(
            config.Evaluate(dataset="affectnet8", tag="eight", data_dir=tmp_path, outputs_dir=first.outputs_dir)
        )


def test_after_epoch_may_end_the_run(train_flags):
    class Pruned(Exception):
        pass

    def prune(epoch):
        assert epoch["epoch"] == 1
        raise Pruned

    flags = train_flags("pruned")
    with pytest.raises(Pruned):
        train.fit(flags, prune)
    assert flags.run.last_checkpoint.exists()


def test_curves_of_fewer_epochs_do_not_stay_beside_the_history(train_flags):
    """Neither those of a training that was replaced, nor those of one that goes on."""
    flags = train_flags("stale", epochs=1)
    curves = flags.run.plot("training_curves")
    train.fit(replace(flags, format=["png", "pdf"]))
    assert curves.exists()

    def stop(epoch):
        raise KeyboardInterrupt

    for again in (flags, replace(train_flags("stale", epochs=3), resume=True)):
        train.fit(flags)
        assert curves.exists()
        with pytest.raises(KeyboardInterrupt):
            train.fit(again, stop)
        assert not curves.exists()
        assert not curves.with_suffix(".pdf").exists()


def test_tensorboard_events(tiny_run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tiny_run.logs)).Reload()
    history = json.loads(tiny_run.history.read_text())["epochs"]
    logged = events.Scalars("accuracy/val")
    assert [event.step for event in logged] == [1, 2]
    assert [event.value for event in logged] == pytest.approx([epoch["val_accuracy"] for epoch in history])


def test_flags_start_from_the_models_recipe():
    [flags] = train.parse_runs(["--model", "resnet50", "--dataset", "fer2013", "--lr", "0.5"])
    assert (flags.recipe, flags.settings.learning_rate.lr, flags.settings.training.batch_size) == ("fer_xai", 0.5, 64)
    assert flags.settings == changed(RECIPES["fer_xai"], lr=0.5)
    [flags] = train.parse_runs(["--model=fer_vgg", "--recipe", "quick", "--no-amp"])
    assert flags.settings == RECIPES["quick"]
    assert not flags.amp


@pytest.mark.parametrize(
    ("arguments", "owner"),
    [
        (["--model", "fer_resnet"], "recipe fast, that of fer_resnet"),
        (["--recipe", "zoo"], "recipe zoo;"),
    ],
)
def test_help_names_the_recipe_whose_settings_it_shows(capsys, arguments, owner):
    with pytest.raises(SystemExit) as end:
        train.parse_runs([*arguments, "--help"])
    assert end.value.code == 0
    assert f"Defaults: {owner}" in capsys.readouterr().out


def test_help_is_grouped_with_a_sentence_for_each_group(capsys):
    with pytest.raises(SystemExit):
        train.parse_runs(["--help"])
    text = capsys.readouterr().out
    for group in dataclasses.fields(Recipe):
        assert f"{group.name.replace('_', '-')} options" in text
        assert group.default_factory.__doc__ in text


def test_all_models(monkeypatch):
    flags = train.parse_runs(["--all", "--dataset", "fer2013", "--epochs", "2"])
    assert [f.model for f in flags] == list(MODELS)
    assert all(f.settings.training.epochs == 2 for f in flags)
    assert {f.model: f.recipe for f in flags} == {name: spec.recipe for name, spec in MODELS.items()}
    tried = []

    def fit(flags):
        tried.append(flags.model)
        if flags.model == "resnet50":
            raise UserError("no weights")

    monkeypatch.setattr(train, "fit", fit)
    monkeypatch.setattr("sys.argv", ["train.py", "--all"])
    with pytest.raises(UserError, match="resnet50_synthetic: no weights"):
        train.main()
    assert tried == list(MODELS), "one model's failure must not keep the others from being trained"


def test_unknown_names_and_flags(capsys):
    with pytest.raises(UserError, match="unknown recipe 'fastest'"):
        train.parse_runs(["--recipe", "fastest"])
    with pytest.raises(UserError, match="unknown model"):
        train.parse_runs(["--model", "vgg99"])
    with pytest.raises(UserError, match="unknown data set 'fer2012'; did you mean fer2013"):
        train.parse_runs(["--dataset", "fer2012"])
    with pytest.raises(SystemExit):
        train.parse_runs(["--learning-rate", "1"])
    assert "learning-rate" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"batch_size": 1}, {"accumulate": 3}])
def test_senseless_settings(train_flags, wrong):
    with pytest.raises(UserError, match=r"--epochs must be|cannot be split into 3 equal parts"):
        train.fit(train_flags("wrong", **wrong))


def test_every_setting_of_a_recipe_is_a_flag():
    assert {"epochs", "weights", "ema_decay"} <= recipes.SETTINGS.keys() == Recipe().flat().keys()
    [flags] = train.parse_runs(["--ema-decay", "0.5", "--max-steps", "3", "--no-class-weights"])
    assert (flags.settings.optimization.ema_decay, flags.max_steps) == (0.5, 3)
    assert not flags.settings.objective.class_weights


def test_resuming_many_runs_begins_those_that_were_not(train_flags, monkeypatch):
    first, second = train_flags("begun", epochs=1), train_flags("not-begun", epochs=1)
    train.fit(first)
    seen = []
    monkeypatch.setattr(train, "fit", lambda flags: seen.append((flags.tag, flags.resume)))
    train.fit_all([replace(flags, resume=True) for flags in (first, second)])
    assert seen == [("begun", True), ("not-begun", False)]
    train.fit_all([replace(second, resume=True)])
    assert seen[-1] == ("not-begun", True), "alone, a run that cannot be resumed is an error"


def test_a_name_that_a_run_on_other_data_has_is_refused(tmp_path):
    first, second = (Run("mini_resnet", f"folder:{name}", "", tmp_path) for name in ("a/b", "a-b"))
    assert first.history == second.history
    write_json(first.history, {"run": first.identity()})
    with pytest.raises(UserError, match=r"the name of a run on folder:a/b; use another --outputs-dir for folder:a-b"):
        train.fit(config.Train(dataset="folder:a-b", outputs_dir=tmp_path, device="cpu"))


@pytest.mark.parametrize(
    ("changes", "settings", "said"),
    [
        ({"max_steps": 0}, {}, "--max-steps 0 is not a number of steps from 1 up"),
        ({"max_steps": -1}, {}, "--max-steps -1 is not a number of steps from 1 up"),
        ({}, {"erasing_area": 0.01}, r"--erasing-area 0\.01 is out of range; it is in 0\.02 to 1"),
        ({}, {"dropout": 1.5}, "--dropout 1.5 is out of range"),
        ({}, {"restart_epochs": 0, "step_epochs": 0}, "--restart-epochs, --step-epochs must be at least 1"),
        ({}, {"accumulate": 0}, "--accumulate must be at least 1"),
        ({}, {"lr": 1e-7}, "--lr 1e-07 is below --min-lr 1e-06"),
        ({}, {"label_smoothing": 1.5}, "--label-smoothing 1.5 is out of range"),
        ({}, {"ema_decay": 2.0}, "--ema-decay 2.0 is out of range"),
        ({}, {"start_size": 0.0}, r"--start-size 0.0 is out of range; it is in 0\.1 to 1"),
        ({}, {"lr": 0.0, "backbone_lr": 1e-4}, "--lr 0 leaves nothing"),
        ({}, {"min_lr": -1.0, "drop": -0.5}, r"--min-lr -1\.0, --drop -0\.5: no setting of a recipe is below 0"),
    ],
)
def test_steps_and_settings_out_of_range_are_refused(tmp_path, changes, settings, said):
    with pytest.raises(UserError, match=said):
        train.fit(config.Train(outputs_dir=tmp_path, device="cpu", settings=changed(Recipe(), **settings), **changes))
