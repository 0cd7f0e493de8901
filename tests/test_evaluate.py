"""evaluate.py on a tiny trained run: what it writes agrees with scikit-learn on what it saved."""

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

import config
import evaluate
from ferlib.data.copies import training_copies
from ferlib.data.facts import SPLITS, dataset_facts
from ferlib.evaluation import scoring
from ferlib.evaluation.metrics import HEADLINES, compute_metrics
from ferlib.evaluation.predictions import SavedPredictions, find_predictions, read_predictions, save_predictions
from ferlib.evaluation.scoring import learned_votes, score_predictions
from ferlib.evaluation.terminal import summarize
from ferlib.inference import splits as prediction
from ferlib.inference.confidence import read_calibration
from ferlib.networks.checkpoints import read_checkpoint, save_checkpoint
from ferlib.networks.tensor_files import save_tensors
from ferlib.runtime.digests import digest, digest_file
from ferlib.runtime.errors import UserError
from ferlib.runtime.files import read_json
from models import create_model

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def flags(tiny_run):
    return config.Evaluate(tag="tiny", outputs_dir=tiny_run.outputs_dir, device="cpu")


@pytest.fixture(scope="module")
def results(flags):
    return evaluate.evaluate(flags)


def test_results_agree_with_the_saved_predictions(flags, results, synthetic):
    saved = np.load(flags.run.predictions)
    test = synthetic.split("test")
    labels, probabilities = saved["labels"], saved["probabilities"]
    assert np.array_equal(labels, test.labels)
    assert np.array_equal(saved["names"], test.names)
    assert probabilities.shape == saved["logits"].shape == (len(test), 7)
    np.testing.assert_allclose(torch.from_numpy(saved["logits"]).softmax(1).numpy(), probabilities, rtol=1e-6)
    predictions = probabilities.argmax(1)
    assert results["accuracy"] == accuracy_score(labels, predictions)
    assert results["macro_f1"] == pytest.approx(f1_score(labels, predictions, average="macro"))
    assert results["mean_auc"] == pytest.approx(roc_auc_score(labels, probabilities, multi_class="ovr"))


def test_results_file(flags, results):
    saved = read_json(flags.run.results, "")
    assert {key: saved[key] for key in results} == results
    assert results["without_training_copies"]["samples"] == results["samples"]
    assert results["without_training_copies"]["accuracy"] == results["accuracy"]
    low, high = results["intervals"]["accuracy"]
    assert low < results["accuracy"] < high
    for kind in ("confusion_matrix", "roc_curves"):
        assert flags.run.plot(kind).exists()


def test_predictions_name_their_checkpoint_and_data(flags, results, synthetic):
    digest = digest_file(flags.run.best_checkpoint)
    for path, split in ((flags.run.predictions, "test"), (flags.run.val_predictions, "val")):
        found = find_predictions(path, digest, synthetic.fingerprint)
        assert np.array_equal(found.names, synthetic.split(split).names)
        assert found.precision == results["precision"]
        assert find_predictions(path, "another", synthetic.fingerprint) is None
        assert find_predictions(path, digest, "another") is None


def test_predictions_of_several_views_are_not_taken_for_single_ones(flags, synthetic, tmp_path):
    elsewhere = replace(flags, outputs_dir=tmp_path, checkpoint=flags.run.best_checkpoint, views="flip", figures=False)
    shutil.copytree(flags.outputs_dir / "cache", tmp_path / "cache")
    evaluate.evaluate(elsewhere)
    saved = read_predictions(elsewhere.run.predictions, "")
    assert saved.views == "flip"
    assert find_predictions(elsewhere.run.predictions, saved.checkpoint, saved.fingerprint) is None


def test_broken_predictions(tmp_path):
    np.savez(tmp_path / "older.npz", labels=np.zeros(1))
    (tmp_path / "broken.npz").write_bytes(b"half a file")
    logits, labels = 9 * np.eye(7), np.arange(7)
    save_predictions(
        tmp_path / "other.npz", SavedPredictions(labels, np.full((7, 7), 1 / 7), logits, labels.astype(str))
    )
    reasons = {
        "other.npz": "the logits and the probabilities in .*other.npz contradict each other",
        "older.npz": "lacks probabilities, logits, names",
        "broken.npz": "holds code",
        "none.npz": "does not exist",
    }
    for name, reason in reasons.items():
        with pytest.raises(UserError, match=rf"{reason}.*; run: the command"):
            read_predictions(tmp_path / name, "the command")
        assert find_predictions(tmp_path / name, "", "") is None


def test_copies_are_searched_once(flags, results, monkeypatch):
    calls = []
    monkeypatch.setattr(
        scoring, "training_copies", lambda data, **known: calls.append(1) or training_copies(data, **known)
    )
    evaluate.evaluate(replace(flags, compare_views=True, figures=False))
    assert len(calls) == 1


@pytest.fixture
def leaky(synthetic, monkeypatch):
    """The drawn faces with copies in train of five test faces and three val faces."""
    rows = {split: np.flatnonzero(synthetic.splits == code) for code, split in enumerate(SPLITS)}
    images = np.array(synthetic.images)
    images[rows["train"][:5]] = images[rows["test"][:5]]
    images[rows["train"][5:8]] = images[rows["val"][:3]]
    data = replace(synthetic, images=images)
    monkeypatch.setattr(evaluate, "load_stage", lambda _: data)
    return data


def saved_with(flags, path, **settings):
    """The flags with a checkpoint that was trained with other settings beside the recipe."""
    content = read_checkpoint(flags.run.best_checkpoint)
    identity = content["identity"]
    recipe = identity["recipe"] | settings.pop("recipe", {})
    save_tensors(path, {**content, "identity": {**identity, **settings, "recipe": recipe}})
    return replace(flags, tag="without-leaks", checkpoint=path, figures=False)


def test_a_training_without_leaks_has_no_copies(flags, leaky, tmp_path):
    results = evaluate.evaluate(saved_with(flags, tmp_path / "clean.pth", exclude_leaks=True))
    clean = results["without_training_copies"]
    assert results["exclude_leaks"] is True
    assert (clean["samples"], clean["accuracy"]) == (results["samples"], results["accuracy"])
    assert results["on_val"]["clean_samples"] == results["on_val"]["samples"]
    text = summarize(results)
    assert "none of these faces has a copy or near copy in train: --exclude-leaks left those out" in text
    assert "without a copy in train" not in text


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"exclude_leaks": True, "init_from": "another"},
        {"exclude_leaks": True, "teacher": ["another"]},
        {"exclude_leaks": True, "recipe": {"weights": "another.pth"}},
        {"exclude_leaks": True, "fingerprint": "of another version of the data"},
    ],
)
def test_other_trainings_may_have_learned_from_copies(flags, leaky, tmp_path, settings):
    results = evaluate.evaluate(saved_with(flags, tmp_path / "leaky.pth", **settings))
    assert results["exclude_leaks"] is False
    assert results["without_training_copies"]["samples"] == results["samples"] - 5
    assert results["on_val"]["clean_samples"] == results["on_val"]["samples"] - 3


def test_summary_reads_well(results):
    text = summarize(results)
    assert f"{results['accuracy']:.2%}" in text
    assert "95 % interval" in text
    for name in ("macro F1", "ECE", "weighted mean", "confused", "pattern", "surest error"):
        assert name in text


def test_other_splits_are_scored_but_not_saved(flags, results):
    before = flags.run.results.read_bytes()
    val = evaluate.evaluate(replace(flags, split="val"))
    assert val["samples"] != 0
    assert val["without_training_copies"] is None
    assert flags.run.results.read_bytes() == before


def test_batches_do_not_change_the_result(flags, results):
    again = evaluate.evaluate(replace(flags, batch_size=7, figures=False, amp=False))
    once = evaluate.evaluate(replace(flags, batch_size=500, figures=False, amp=False))
    assert again["confusion_matrix"] == once["confusion_matrix"]


def test_unknown_names(flags):
    with pytest.raises(UserError, match=r"unknown model 'resnet'; did you mean .*Valid names: .*resnet50"):
        evaluate.evaluate(replace(flags, model="resnet"))
    with pytest.raises(UserError, match="unknown data set 'fer'"):
        evaluate.evaluate(replace(flags, dataset="fer", checkpoint=flags.run.best_checkpoint))


@pytest.mark.parametrize("views", ["flip", "ten_crop"])
def test_views_are_averaged(flags, results, views):
    averaged = evaluate.evaluate(replace(flags, views=views, split="val"))
    assert averaged["views"] == views
    assert 0 <= averaged["accuracy"] <= 1


def test_views_are_compared(flags, results):
    compared = evaluate.evaluate(replace(flags, compare_views=True, figures=False))
    assert compared["accuracy"] == results["accuracy"]
    assert list(compared["other_views"]) == ["flip", "five_crop", "ten_crop"]
    alone = evaluate.evaluate(replace(flags, views="flip", figures=False))
    assert compared["other_views"]["flip"]["accuracy"] == alone["accuracy"]
    assert "flip " in summarize(compared)


def test_average_of_views_by_hand():
    probabilities = torch.tensor([[[0.2, 0.8]], [[0.6, 0.4]]])
    averaged = prediction.average_views(list(probabilities.log()))
    torch.testing.assert_close(averaged.softmax(1), torch.tensor([[0.4, 0.6]]))


def test_missing_and_foreign_checkpoints(flags, tmp_path):
    with pytest.raises(UserError, match=r"run: python train\.py --model mini_resnet --dataset synthetic --tag none"):
        evaluate.evaluate(replace(flags, tag="none"))
    path = tmp_path / "vgg.pth"
    save_checkpoint(path, "fer_vgg", create_model("fer_vgg"), epoch=1, metrics={})
    with pytest.raises(UserError, match=r"holds a fer_vgg; use --model fer_vgg$"):
        evaluate.evaluate(replace(flags, checkpoint=path))
    save_checkpoint(path, "fer_vgg", create_model("fer_vgg"), epoch=1, metrics={}, dataset="fer2013")
    with pytest.raises(UserError, match=r"holds a fer_vgg; use --model fer_vgg --dataset fer2013$"):
        evaluate.evaluate(replace(flags, checkpoint=path))


def test_a_checkpoint_of_another_data_set_is_noted(tmp_path, capsys):
    path, note = tmp_path / "other.pth", "note: other.pth was trained on fer2013, and --dataset is synthetic\n"
    for trained, words in (("fer2013", note), ("synthetic", "")):
        save_checkpoint(path, "mini_resnet", create_model("mini_resnet"), dataset=trained)
        evaluate.open_checkpoint(config.Evaluate(checkpoint=path, device="cpu"))
        assert capsys.readouterr().out == words


@pytest.mark.parametrize("seen", [True, False])
def test_a_network_of_another_version_of_the_data_may_have_seen_the_test_faces(flags, tmp_path, seen):
    """As it is with a checkpoint of another fold, or after pictures were added to a folder."""
    content = read_checkpoint(flags.run.best_checkpoint)
    content["identity"]["fingerprint"] = "another" if seen else content["identity"]["fingerprint"]
    torch.save(content, path := tmp_path / "other.pth")
    found = evaluate.evaluate(replace(flags, checkpoint=path, tag=f"seen-{seen}"))
    assert found["may_have_seen"] == seen
    assert ("faces of val or test may be training faces" in summarize(found)) == seen


@pytest.mark.parametrize("known", [True, False])
def test_a_training_that_knew_no_votes_is_calibrated_to_labels(synthetic, known):
    """The loss of votes falls back to cross-entropy without them; they may be found later."""
    votes = np.eye(7, dtype=np.float32)[synthetic.labels]
    identity = {"recipe": {"loss": "votes"}, "votes": digest(votes.tobytes() if known else b"")}
    predict = SimpleNamespace(checkpoint=SimpleNamespace(info={"identity": identity}))
    assert (learned_votes(predict, replace(synthetic, votes=votes)) is not None) == known


def test_headline_figures_again_without_the_copies(synthetic):
    """Five test faces become copies of train faces; the clean figures are those of the others alone."""
    test = np.flatnonzero(synthetic.splits == SPLITS.index("test"))
    images = np.array(synthetic.images)
    images[test[:5]] = images[synthetic.splits == SPLITS.index("train")][:5]
    data = replace(synthetic, images=images)
    probabilities = np.random.default_rng(0).dirichlet(np.ones(7), len(test))
    clean = score_predictions(data.split("test"), probabilities, training_copies(data))["without_training_copies"]
    alone = compute_metrics(synthetic.labels[test[5:]], probabilities[5:], synthetic.subjects[test[5:]])
    assert clean["samples"] == len(test) - 5
    assert set(clean) == {"samples", "intervals", "per_class", *HEADLINES}
    assert all(clean[name] == alone[name] for name in clean)


def test_a_batch_without_faces_is_refused(tiny_run):
    with pytest.raises(UserError, match="--batch-size 0"):
        prediction.open_predictor(tiny_run, batch_size=0, device="cpu")


# ── votes and contempt ───────────────────────────────────────────────────────────────────────────────────────────────


def ferplus(counts, synthetic):
    """A set named FER+ with so many test faces of each class."""
    labels = np.repeat(np.arange(7), counts)
    faces = synthetic.select(np.zeros(len(labels), int))
    return replace(faces, dataset="ferplus", labels=labels, splits=np.full(len(labels), SPLITS.index("test")))


def test_faces_of_contempt_count_as_errors(synthetic):
    official = dataset_facts("ferplus").official_counts["test"]
    found = scoring.with_contempt(ferplus(official, synthetic), 3000, "test")
    assert found == {"samples": 3153, "contempt": 16, "accuracy": pytest.approx(3000 / 3153)}
    assert scoring.with_contempt(ferplus(official, synthetic), 3000, "val") is None
    assert scoring.with_contempt(ferplus((1,) * 7, synthetic), 7, "test") is None
    assert scoring.with_contempt(synthetic, 1, "test") is None


def test_agreement_with_votes_is_printed(results):
    values = {"one_annotator": 0.616, "most_annotators": 0.674}
    labels = {"one_annotator": 0.589, "most_annotators": 0.64}
    more = {
        "against_votes": {"faces": 3573, "predictions": values, "labels": labels},
        "with_contempt": {"samples": 3153, "contempt": 16, "accuracy": 0.85},
    }
    text = summarize(results | more)
    assert "61.60% of one annotator (the labels: 58.90%), 67.40% of most annotators (the labels: 64.00%)" in text
    assert "85.00% of 3,153 faces; the 16 of contempt count as errors" in text
    assert results["against_votes"] is None
    assert "annotator" not in summarize(results)


# ── val and calibration ──────────────────────────────────────────────────────────────────────────────────────────────


def test_val_is_scored_with_the_views_of_test(flags, synthetic):
    results = evaluate.evaluate(replace(flags, figures=False))
    saved, found = read_predictions(flags.run.val_predictions, ""), results["on_val"]
    assert found["accuracy"] == accuracy_score(saved.labels, saved.probabilities.argmax(1))
    assert (found["views"], found["samples"]) == ("single", len(synthetic.split("val")))
    assert found["clean_samples"] == found["samples"]  # drawn faces have no copies
    assert "on val" in summarize(results)


def test_copies_in_val_are_told_apart(synthetic, flags, results):
    val = np.flatnonzero(synthetic.splits == SPLITS.index("val"))
    images = np.array(synthetic.images)
    images[val[:3]] = images[synthetic.splits == SPLITS.index("train")][:3]
    data = replace(synthetic, images=images)
    saved = read_predictions(flags.run.val_predictions, "")
    found = scoring.score_val(data, saved)
    correct = (saved.probabilities.argmax(1) == saved.labels)[3:]
    assert (found["clean_samples"], found["clean_accuracy"]) == (len(val) - 3, correct.mean())


def test_the_calibration_lies_beside_the_checkpoint(flags, results):
    digest = digest_file(flags.run.best_checkpoint)
    fitted = read_calibration(flags.run.best_checkpoint, digest)
    assert fitted.temperature == results["calibrated"]["temperature"]
    assert list(fitted.thresholds) == results["calibrated"]["sets"]["thresholds"]
    assert results["calibrated"]["on_val"]["after"]["nll"] <= results["calibrated"]["on_val"]["before"]["nll"]
    assert "temperature" in summarize(results)


def test_other_views_are_calibrated_beside_the_single_one(flags, tmp_path):
    checkpoint = tmp_path / "copied_best.pth"
    shutil.copy(flags.run.best_checkpoint, checkpoint)
    changes = {"views": "flip", "tag": "flipped", "checkpoint": checkpoint, "calibrate": True, "figures": False}
    evaluate.evaluate(replace(flags, **changes))
    digest = digest_file(checkpoint)
    for views in ("single", "flip"):
        assert read_calibration(checkpoint, digest, views).is_fitted
    assert not read_calibration(checkpoint, digest, "ten_crop").is_fitted


def test_calibration_needs_val_and_test(flags):
    with pytest.raises(UserError, match="--calibrate fits on val when test is scored"):
        evaluate.evaluate(replace(flags, calibrate=True, split="val"))
    with pytest.raises(UserError, match="leave --precision int8 out"):
        evaluate.evaluate(replace(flags, calibrate=True, precision="int8"))
