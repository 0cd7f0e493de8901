"""export.py: the shipped file predicts as the run, the card says what was measured."""

import json
import random
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import config
import evaluate
import export
from damage import mutated_json
from ferlib.inference.confidence import read_calibration
from ferlib.networks.checkpoints import read_checkpoint
from ferlib.networks.tensor_files import read_tensors, save_tensors
from ferlib.report.model_card import is_uneven, origin_of, portable_command
from ferlib.runtime import runs
from ferlib.runtime.digests import digest_file
from ferlib.runtime.errors import UserError
from ferlib.runtime.runs import Run, named_checkpoint
from models import load_checkpoint


def test_shipped_model(tiny_run, tmp_path):
    flags = config.Evaluate(tag="tiny", outputs_dir=tiny_run.outputs_dir, device="cpu", figures=False)
    results = evaluate.evaluate(flags)
    weights, card = export.export(tiny_run, tmp_path)
    assert weights.stat().st_size < 0.6 * tiny_run.best_checkpoint.stat().st_size
    faces = torch.rand(4, 1, 48, 48, generator=torch.Generator().manual_seed(0))
    models = [load_checkpoint(path, torch.device("cpu")).model for path in (tiny_run.best_checkpoint, weights)]
    assert next(models[1].parameters()).dtype == torch.float32
    with torch.inference_mode():
        first, second = (model(faces) for model in models)
    torch.testing.assert_close(first, second, atol=0.02, rtol=0.02)
    shipped = read_calibration(weights, digest_file(weights))
    assert shipped == read_calibration(tiny_run.best_checkpoint, digest_file(tiny_run.best_checkpoint))
    assert shipped.is_fitted
    text = card.read_text()
    assert "accuracy on val, views: single" in text
    assert f"{results['calibrated']['temperature']:.2f}" in text
    assert f"**{results['accuracy']:.2%}**".replace("%", "\u202f%") in text
    for words in ("seed 0", "`quick`", "MB in half precision", "Limits of use", "Disgust"):
        assert words in text


def test_the_command_begins_anew_and_names_no_folder_of_a_machine():
    command = "python train.py --model m --resume --data-dir '/my data' --recipe scratch --outputs-dir=o"
    assert portable_command(command) == "python train.py --model m --recipe scratch"
    command = "python train.py --weights /my/one.pth --teacher /my/two.pth fer2013 --tag a"
    assert portable_command(command) == "python train.py --weights one.pth --teacher two.pth fer2013 --tag a"
    command = "python train.py --weights pretrained/one.pth"
    assert portable_command(command) == command


def test_a_run_must_have_been_evaluated(tmp_path):
    run = Run("mini_resnet", "synthetic", "none", tmp_path)
    with pytest.raises(UserError, match=r"does not exist; run: python train\.py"):
        export.export(run, tmp_path)


def test_results_of_another_checkpoint_are_not_shipped(evaluated, tmp_path):
    content = json.loads(evaluated.results.read_text())
    for checkpoint in ({"digest": "of the earlier training"}, {"path": "/elsewhere/other.pth"}):
        change(evaluated.results, checkpoint=content["checkpoint"] | checkpoint)
        with pytest.raises(UserError, match="is of another checkpoint than"):
            export.export(evaluated, tmp_path / "shipped")
    assert not (tmp_path / "shipped").exists()


def test_results_of_a_file_of_the_same_name_elsewhere_are_not_shipped(evaluated, tmp_path):
    backup = tmp_path / "backup" / evaluated.best_checkpoint.name
    backup.parent.mkdir()
    backup.write_bytes(b"weights of an earlier training")
    of_backup = {"path": str(backup), "digest": digest_file(backup)}
    change(evaluated.results, checkpoint=json.loads(evaluated.results.read_text())["checkpoint"] | of_backup)
    with pytest.raises(UserError, match="is of another checkpoint than"):
        export.export(evaluated, tmp_path / "shipped")


def test_scores_in_8_bits_are_not_those_of_the_shipped_file(evaluated, tmp_path):
    change(evaluated.results, precision="int8")
    with pytest.raises(UserError, match=r"in 8 bits, .*; run: python evaluate\.py"):
        export.export(evaluated, tmp_path / "shipped")
    assert not (tmp_path / "shipped").exists()


def test_the_card_has_the_size_of_the_run(evaluated, tmp_path):
    change(evaluated.history, image_size=64)
    assert "face of 64×64 pixels" in export.export(evaluated, tmp_path)[1].read_text()


@pytest.fixture
def evaluated(tiny_run, tmp_path):
    """A copy of an evaluated run, whose files may be changed."""
    if not tiny_run.results.exists():
        evaluate.evaluate(config.Evaluate(tag="tiny", outputs_dir=tiny_run.outputs_dir, device="cpu", figures=False))
    run = replace(tiny_run, outputs_dir=tmp_path)
    run.history.parent.mkdir()
    for path in (tiny_run.history, tiny_run.results, tiny_run.best_checkpoint):
        shutil.copy(path, run.history.parent)
    return run


def change(path, **parts):
    path.write_text(json.dumps(json.loads(path.read_text()) | parts))


def test_mutated_files_of_a_run_are_a_card_or_one_line(evaluated, tmp_path):
    draw = random.Random(0)
    for path in 20 * (evaluated.history, evaluated.results):
        whole = path.read_text()
        path.write_text(json.dumps(mutated_json(json.loads(whole), draw)))
        with suppress(UserError):
            export.export(evaluated, tmp_path / "shipped")
        path.write_text(whole)


def test_figures_that_a_small_test_split_does_not_have_are_dashes(evaluated, tmp_path):
    change(evaluated.results, mean_auc=None, without_training_copies=None)
    text = export.export(evaluated, tmp_path / "shipped")[1].read_text(encoding="utf-8")
    assert ", \u2013 |" in text
    assert "without faces that have a copy" not in text


def test_a_name_that_no_page_may_hold_is_escaped_on_the_card(evaluated, tmp_path):
    change(evaluated.history, command="python train.py --dataset 'folder:/d\udcff\x1b[31m'")
    text = export.export(evaluated, tmp_path / "shipped")[1].read_text(encoding="utf-8")
    assert "`python train.py --dataset 'folder:/d\\xff\\x1b[31m'`" in text


@pytest.mark.parametrize("seen", [True, False])
def test_the_card_tells_that_test_faces_may_have_been_seen(evaluated, tmp_path, seen):
    change(evaluated.results, may_have_seen=seen)
    text = export.export(evaluated, tmp_path / "shipped")[1].read_text(encoding="utf-8")
    assert ("| caution | trained on another version or fold" in text) == seen


def test_the_card_tells_how_much_of_the_recipe_was_trained(evaluated, tmp_path):
    def told(**changes):
        change(evaluated.history, **changes)
        text = export.export(evaluated, tmp_path, replace=True)[1].read_text(encoding="utf-8")
        return next(line for line in text.splitlines() if line.startswith("| recipe |"))

    history = json.loads(evaluated.history.read_text())
    count, recipe = len(history["epochs"]), history["recipe"]
    assert f"`, {count} epochs" in told(recipe=recipe | {"epochs": count}, max_steps=None)
    longer = {"recipe": recipe | {"epochs": count + 7}, "max_steps": None}
    assert f"`, {count} of {count + 7} epochs (val brought no further gain), seed" in told(**longer, finished=True)
    assert f"`, {count} of {count + 7} epochs (unfinished), seed" in told(**longer, finished=False)
    assert f"`, {count} epochs of 1,200 steps at most, seed" in told(recipe=recipe | {"epochs": count}, max_steps=1200)


def test_a_network_that_lies_there_is_only_replaced_when_that_is_wanted(evaluated, tmp_path):
    weights, card = export.export(evaluated, tmp_path)
    weights.write_bytes(b"another network")
    before = card.read_bytes()
    with pytest.raises(UserError, match=r"\.pth exists; add --replace to write over it"):
        export.export(evaluated, tmp_path)
    assert (weights.read_bytes(), card.read_bytes()) == (b"another network", before)
    export.export(evaluated, tmp_path, replace=True)
    assert read_tensors(weights)["model"] == evaluated.model


@pytest.mark.parametrize(
    ("dataset", "said"),
    [("synthetic:tint", "drawn faces"), ("ferplus8", "ten people each"), ("rafdb", "some 40 annotators"),
     ("folder:/mine", "of whose origin this card knows nothing")],
)  # fmt: skip
def test_the_card_says_where_the_faces_come_from(dataset, said):
    assert said in origin_of(dataset)


def test_classes_are_rare_where_others_have_many_times_as_many_faces():
    assert is_uneven([436, 7215])
    assert not is_uneven([20, 21])


def test_an_exported_run_is_found_by_its_name(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "shipped_checkpoint", lambda name="fer2013": tmp_path / f"{runs.SHIPPED[name]}.pth")
    (tmp_path / "my_run.pth").touch()
    assert named_checkpoint(Path("my_run")) == tmp_path / "my_run.pth"
    assert named_checkpoint(Path("other")) == Path("other")
    assert named_checkpoint(Path("small")) == tmp_path / f"{runs.SHIPPED['small']}.pth"


def test_the_card_tells_that_a_training_was_extended(evaluated, tmp_path):
    assert "| extended |" not in export.export(evaluated, tmp_path / "shipped")[1].read_text(encoding="utf-8")
    change(evaluated.history, begun_for_epochs=[1, 2])
    text = export.export(evaluated, tmp_path / "again")[1].read_text(encoding="utf-8")
    assert "| extended | begun for 1, then 2 epochs, then continued to" in text


def test_the_card_tells_teachers_and_extra_labels(evaluated, tmp_path):
    history = json.loads(evaluated.history.read_text())
    changes = {"votes_weight": 1.0, "teacher_weight": 0.3, "teacher_temperature": 2.0, "weights": "/my/start.pth"}
    change(
        evaluated.history,
        recipe=history["recipe"] | changes,
        teacher=["mini_resnet:one", "/my/teacher.pth"],
        teacher_views="flip",
    )
    text = export.export(evaluated, tmp_path / "shipped")[1].read_text(encoding="utf-8")
    assert "| teachers | mini_resnet:one, teacher.pth (weight 0.3, temperature 2.0, views: flip) |" in text
    assert "| extra labels | the votes of FER+" in text
    assert "/my" not in text
    assert "and no others" not in text
    assert "weights at the start: start.pth, whose training counts too |" in text


def test_the_card_of_a_training_without_leaks_has_no_figures_without_copies(evaluated, tmp_path):
    text = export.export(evaluated, tmp_path / "shipped", replace=True)[1].read_text(encoding="utf-8")
    assert "| the first without faces that have a copy in training |" in text
    assert "| recall without copies |" in text
    change(evaluated.history, exclude_leaks=True, leaks={"faces": 1922, "exact": 1703, "near": 219})
    change(evaluated.results, exclude_leaks=True)
    text = export.export(evaluated, tmp_path / "shipped", replace=True)[1].read_text(encoding="utf-8")
    assert "| left out of training | 1,922 faces that stand in val or test, 219 of them as near copies |" in text
    assert "| copies of val and test in training | none, nor near copies: `--exclude-leaks` left them out |" in text
    assert "without training copies" not in text
    assert "without copies" not in text
    assert "without faces that have a copy" not in text


def test_a_class_without_clean_faces_has_no_recall_without_copies(evaluated, tmp_path):
    results = json.loads(evaluated.results.read_text())
    results["without_training_copies"]["per_class"][1] |= {"support": 0, "recall": 0.0}
    change(evaluated.results, **results)
    text = export.export(evaluated, tmp_path / "shipped")[1].read_text(encoding="utf-8")
    assert next(line for line in text.splitlines() if line.startswith("| Disgust")).endswith("| – | 0 |")


def test_the_card_tells_targets_and_that_no_other_faces_were_seen(evaluated, tmp_path):
    text = export.export(evaluated, tmp_path / "shipped", replace=True)[1].read_text(encoding="utf-8")
    assert "training faces and no others; weights at the start: none |" in text
    assert "| targets |" not in text
    change(evaluated.history, loss="votes", init_from="resnet34_sa_affectnet8")
    text = export.export(evaluated, tmp_path / "shipped", replace=True)[1].read_text(encoding="utf-8")
    assert "weights at the start: resnet34_sa_affectnet8, whose training counts too |" in text
    assert "| targets | the distribution of the annotators' votes" in text


def test_the_head_of_votes_is_not_shipped(evaluated, tmp_path):
    content = read_checkpoint(evaluated.best_checkpoint)
    head = {
        name.replace("head.", "votes_head.", 1): value for name, value in content["state"].items() if "head." in name
    }
    save_tensors(evaluated.best_checkpoint, {**content, "state": content["state"] | head})
    results = json.loads(evaluated.results.read_text())
    change(evaluated.results, checkpoint=results["checkpoint"] | {"digest": digest_file(evaluated.best_checkpoint)})
    parameters = results["parameters"]
    weights, card = export.export(evaluated, tmp_path / "shipped")
    assert read_checkpoint(weights)["state"].keys() == content["state"].keys()
    assert f"{parameters - sum(value.numel() for value in head.values()):,} parameters" in card.read_text("utf-8")


PRETRAINED = sorted((Path(__file__).parents[1] / "pretrained").glob("*.pth"))


@pytest.mark.parametrize("path", PRETRAINED, ids=lambda path: path.stem)
def test_every_shipped_checkpoint_loads(path):
    checkpoint = load_checkpoint(path, torch.device("cpu"))
    size = checkpoint.spec.image_size
    with torch.inference_mode():
        assert checkpoint.model(torch.rand(2, 1, size, size)).isfinite().all()
    assert path.with_suffix(".md").exists()
    assert path.stat().st_size < 12e6
