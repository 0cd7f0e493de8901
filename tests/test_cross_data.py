"""cross_data.py and the folds of evaluate.py: a run on other sets, every subject tested once."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import config
import datasets
import evaluate
import models
import train
from config import EMOTIONS
from datasets import in_folds
from ferlib.data.facts import SPLITS
from ferlib.evaluation.cross_data import keep_classes
from ferlib.evaluation.metrics import clean_metrics
from ferlib.evaluation.scoring import evaluate_run
from ferlib.evaluation.terminal import summarize_elsewhere
from ferlib.report.page import check_names
from ferlib.runtime import notes
from ferlib.runtime.errors import UserError
from ferlib.runtime.runs import Run, check_same_set

PEOPLE = ("KA", "KL", "KM", "KR", "MK", "NA", "NM", "TM", "UY", "YM")


@pytest.fixture
def flags(tiny_run):
    return config.Evaluate(tag="tiny", outputs_dir=tiny_run.outputs_dir, device="cpu", amp=False, figures=False)


def write_folders(root, images, labels):
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = root / "test" / EMOTIONS[label] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.squeeze()).save(path)
    for name in EMOTIONS[:6]:
        for part in ("train", "val"):
            (root / part / name).mkdir(parents=True)
            Image.new("L", (48, 48)).save(root / part / name / "a.png")


def test_a_run_on_other_faces(flags, synthetic, tmp_path):
    test = synthetic.split("test")
    rows = np.flatnonzero(test.labels < 6)[:40]
    write_folders(tmp_path / "faces", test.images[rows], test.labels[rows])
    (results,) = evaluate.evaluate_on_others(replace(flags, on=(f"folder:{tmp_path / 'faces'}",)))
    assert results["samples"] == len(rows)
    assert results["left_out"] == ["Surprise"]
    assert np.array(results["confusion_matrix"])[:, 6].sum() == 0, "a class that the set does not have was predicted"
    saved = json.loads(flags.run.elsewhere(results["on"]).read_text())
    assert saved["accuracy"] == results["accuracy"]
    assert "the set has no Surprise" in summarize_elsewhere(results)


def test_a_run_on_its_own_faces_gives_its_own_results(flags, synthetic):
    own = evaluate.evaluate(flags)
    (results,) = evaluate.evaluate_on_others(replace(flags, on=("synthetic",)))
    assert results["confusion_matrix"] == own["confusion_matrix"]
    assert results["without_training_copies"]["samples"] == own["without_training_copies"]["samples"]


@pytest.mark.parametrize(("excluded", "copies"), [(False, 5), (True, 0)])
def test_training_faces_that_were_left_out_are_no_copies(flags, synthetic, monkeypatch, excluded, copies):
    test, train_rows = (np.flatnonzero(synthetic.splits == SPLITS.index(split)) for split in ("test", "train"))
    images = np.array(synthetic.images)
    images[train_rows[:5]] = images[test[:5]]
    leaky = replace(synthetic, images=images)
    monkeypatch.setattr(models.Checkpoint, "excludes_leaks", lambda *_: excluded)
    monkeypatch.setattr(evaluate, "load_stage", lambda _: leaky)
    monkeypatch.setattr(evaluate, "load_faces", lambda *_: leaky)
    (results,) = evaluate.evaluate_on_others(replace(flags, on=("synthetic",)))
    assert results["without_training_copies"]["samples"] == results["samples"] - copies


def test_probabilities_of_the_classes_that_there_are():
    kept = keep_classes(np.array([[0.5, 0.2, 0.3]]), np.array([1, 2]))
    np.testing.assert_allclose(kept, [[0, 0.4, 0.6]])


def test_copies_of_training_faces_are_told():
    labels, copies = np.array([0, 1, 1]), np.array([False, True, False])
    figures = clean_metrics(labels, np.eye(7)[[0, 0, 0]], copies)
    assert (figures["samples"], figures["accuracy"]) == (2, 0.5)
    assert clean_metrics(labels, np.eye(7)[[0, 0, 0]], np.ones(3, bool))["accuracy"] is None


def test_sets_that_there_are_not(flags, tmp_path):
    for name, message in (("rafbd", "unknown data set 'rafbd'; did you mean rafdb"), ("rafdb", "no RAF-DB")):
        with pytest.raises(UserError, match=message):
            evaluate.evaluate_on_others(replace(flags, on=(name,), data_dir=tmp_path))


@pytest.mark.parametrize("more", [{"split": "val"}, {"all_folds": True}, {"compare_views": True}])
def test_flags_of_the_own_test_part_are_refused(flags, more):
    with pytest.raises(UserError, match="leave out --split, --all-folds and --compare-views"):
        evaluate.evaluate_on_others(replace(flags, on=("synthetic",), **more))


def test_a_set_that_cannot_be_used_for_copies_is_named(flags, monkeypatch, capsys):
    monkeypatch.setattr(evaluate, "load_stage", lambda _: (_ for _ in ()).throw(UserError("a.png cannot be read")))
    notes.print_once.cache_clear()
    assert evaluate.load_own(flags) is None
    assert "note: synthetic is not used: a.png cannot be read" in capsys.readouterr().out
    monkeypatch.setattr(
        evaluate, "load_stage", lambda _: (_ for _ in ()).throw(UserError("two:", "  a.png", "  b.png"))
    )
    assert evaluate.load_own(flags) is None
    assert "note: synthetic is not used: two:;   a.png;   b.png" in capsys.readouterr().out


def test_figures_on_a_set_whose_name_has_the_same_file_are_not_replaced(flags, tmp_path):
    path = flags.run.elsewhere("folder:a/b")
    assert path == flags.run.elsewhere("folder:a-b")
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"on": "folder:a/b"}))
    with pytest.raises(UserError, match="is of folder:a/b already"):
        check_same_set(path, "on", "folder:a-b")
    check_same_set(path, "on", "folder:a/b")


def test_a_run_on_a_set_whose_name_has_the_same_files_is_not_replaced(flags, tmp_path):
    run = replace(flags.run, dataset="folder:a-b")
    run.results.parent.mkdir(exist_ok=True)
    run.results.write_text(json.dumps({"run": {**run.identity(), "dataset": "folder:a/b"}}))
    with pytest.raises(UserError, match="is of folder:a/b already; use another --outputs-dir for folder:a-b"):
        evaluate_run(run, None, None)
    with pytest.raises(UserError, match="the reports on folder:a-b and folder:a/b have one file"):
        check_names(["folder:a-b"], ["fer2013", "folder:a/b", "folder:a-b"])
    check_names(["folder:a/b", "fer2013"], ["fer2013", "folder:a/b"])


def test_the_command_of_joined_folds_joins_them():
    run = Run("mini_resnet", "jaffe", "big_all-folds")
    assert run.command("evaluate.py") == "python evaluate.py --model mini_resnet --dataset jaffe --tag big --all-folds"
    assert replace(run, tag="all-folds").command("evaluate.py").endswith("--dataset jaffe --all-folds")
    assert replace(run, tag="my-all-folds").command("train.py").endswith("--tag my-all-folds")
    assert run.command("explain_lime.py").endswith("--tag big_all-folds")


@pytest.mark.parametrize("tag", ["fold2", "big_fold10", "all-folds", "x_all-folds"])
def test_tags_that_are_names_of_folds_are_refused(flags, tag):
    with pytest.raises(UserError, match="that is the name of a fold's files"):
        _ = replace(flags, tag=tag).run
    assert replace(flags, tag="folded").run.tag == "folded"


def test_sets_for_pre_training_are_refused(flags, tmp_path):
    for code in range(8):
        for part in ("train", "val"):
            path = tmp_path / "affectnet" / part / str(code) / "a.png"
            path.parent.mkdir(parents=True)
            Image.new("L", (48, 48)).save(path)
    with pytest.raises(UserError, match="nothing is scored on other classes"):
        evaluate.evaluate_on_others(replace(flags, on=("affectnet8",), data_dir=tmp_path))


def test_every_subject_is_tested_by_a_model_that_never_saw_it(train_flags, synthetic, tmp_path):
    for person in PEOPLE:
        for number, code in enumerate(("AN", "DI", "FE", "HA", "NE", "SA", "SU")):
            path = tmp_path / "jaffe" / f"{person}.{code}1.{number}.tiff"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(synthetic.images[synthetic.labels == number][PEOPLE.index(person) % 5]).save(path)
    run = train_flags("folds", dataset="jaffe", data_dir=tmp_path, epochs=1, max_steps=1, all_folds=True)
    for fold in in_folds(run):
        train.fit(fold)
    flags = config.Evaluate(**{name: getattr(run, name) for name in ("model", "dataset", "tag", "data_dir")},
                            outputs_dir=run.outputs_dir, device="cpu", amp=False, all_folds=True)  # fmt: skip
    results = evaluate.evaluate_folds(flags)
    assert results["samples"] == len(datasets.load_stage(flags)) == 70
    assert [fold["samples"] for fold in results["folds"]] == [7] * 10
    accuracies = [fold["accuracy"] for fold in results["folds"]]
    assert results["accuracy"] == pytest.approx(np.mean(accuracies)) == pytest.approx(results["mean"]["accuracy"])
    assert results["sd"]["accuracy"] == pytest.approx(np.std(accuracies, ddof=1))
    written = Run("mini_resnet", "jaffe", "folds_all-folds", run.outputs_dir)
    assert json.loads(written.results.read_text())["folds"] == results["folds"]
    with np.load(written.predictions) as saved:
        assert len(saved["labels"]) == 70
    assert run.run.name == "mini_resnet_jaffe_folds"
    assert in_folds(run)[2].run.command("train.py").count("--fold 3") == 1


def test_copies_are_not_known_where_pictures_differ_in_shape(flags, synthetic, tmp_path):
    """Those of a folder are scaled to 112×112 and cannot be equal, pixel by pixel."""
    test = synthetic.split("test")
    write_folders(tmp_path / "faces", test.images[:20], test.labels[:20])
    (results,) = evaluate.evaluate_on_others(replace(flags, on=(f"folder:{tmp_path / 'faces'}",)))
    assert results["without_training_copies"] is None


def test_sets_without_subjects_have_no_folds(flags):
    with pytest.raises(UserError, match="Synthetic faces is not split by subject; leave --all-folds out"):
        evaluate.evaluate_folds(replace(flags, all_folds=True))


def test_folds_are_scored_by_their_own_runs(flags, tmp_path):
    for wrong in ({"checkpoint": tmp_path / "a.pth"}, {"split": "val"}):
        with pytest.raises(UserError, match="every fold by that fold's own run"):
            evaluate.evaluate_folds(replace(flags, dataset="jaffe", all_folds=True, **wrong))
