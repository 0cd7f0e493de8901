"""score_explanations.py --clever-hans, --permuted-labels: drawn faces with a flaw, the pair of networks, verdicts."""

import json
from dataclasses import replace

import numpy as np
import pytest

import datasets
import score_explanations
import train
from config import EMOTIONS, Score
from ferlib.data.facts import dataset_facts
from ferlib.data.synthetic.variants import (
    PERMUTED,
    PLANTED,
    SHORTCUTS,
    box,
    plant,
    shortcut_mask,
    variant_name,
    variant_of,
)
from ferlib.evaluation.saved_runs import read_models
from ferlib.explanations.region_words import describe_surround, surround_share
from ferlib.explanations.scores.clever_hans import EXPOSES, MISSES, UNCLEAR, decide, judge, points_at
from ferlib.explanations.scores.terminal import describe_test
from ferlib.runtime.errors import UserError
from ferlib.runtime.files import write_json
from ferlib.training.twins import BY_HEART, original_flags, train_if_missing, twin_flags
from recipes import changed

# ── faces ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def load(kind, outputs):
    return datasets.load_faces(variant_name(kind) if kind else "synthetic", outputs / "no-data", outputs)


@pytest.mark.parametrize("kind", SHORTCUTS)
def test_a_shortcut_is_in_one_class_of_training_and_nowhere_else(kind, shared_outputs):
    drawn, flawed = load("", shared_outputs), load(kind, shared_outputs)
    np.testing.assert_array_equal(flawed.labels, drawn.labels)
    changed = (flawed.images != drawn.images).reshape(len(drawn), -1).any(1)
    np.testing.assert_array_equal(changed, (drawn.labels == PLANTED) & (drawn.splits != 2))
    row = np.flatnonzero(changed)[0]
    outside = (flawed.images[row] != drawn.images[row]).any(-1) & ~shortcut_mask(48, kind)
    assert not outside.any()
    np.testing.assert_array_equal(flawed.images[row], plant(drawn.images[row], kind))


def test_permuted_labels_are_those_of_the_split(shared_outputs):
    drawn, flawed = load("", shared_outputs), load(PERMUTED, shared_outputs)
    np.testing.assert_array_equal(flawed.images, drawn.images)
    assert flawed.counts() == drawn.counts()
    same = flawed.labels == drawn.labels
    assert same[drawn.splits == 2].all()
    for split in (0, 1):
        assert same[drawn.splits == split].mean() < 0.25  # one in seven by chance


def test_shortcuts_grow_with_the_picture():
    for kind in ("patch", "caption"):
        shares = [shortcut_mask(side, kind).mean() for side in (48, 96, 224)]
        assert np.ptp(shares) < 0.01
        rows, columns = box(48, kind)
        assert plant(np.full((48, 48, 3), 128, np.uint8), kind)[rows, columns].std() > 80  # seen on any ground
    assert shortcut_mask(48, "tint").all()
    assert variant_of(variant_name("tint")) == "tint"
    assert variant_of("synthetic") == variant_of("fer2013") == ""
    assert dataset_facts("synthetic_patch").places == ()


# ── verdicts ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_mask_exposes_and_its_opposite_misses():
    mask = shortcut_mask(48, "patch")
    rng = np.random.default_rng(0)
    honest = rng.random((40, 48, 48))
    found = judge(honest, np.broadcast_to(mask, (40, 48, 48)).astype(float), mask)
    assert found["mass_cheating"] == {"mean": 1, "low": 1, "high": 1}
    assert found["mass_honest"]["mean"] == pytest.approx(mask.mean(), rel=0.05)
    assert (found["exposed"]["mean"], found["false_alarms"]["mean"]) == (1, 0)
    assert found["verdict"] == EXPOSES
    assert judge(honest, np.broadcast_to(~mask, (40, 48, 48)).astype(float), mask)["verdict"] == MISSES


def test_a_map_that_always_points_there_exposes_nothing():
    mask = shortcut_mask(48, "caption")
    same = np.broadcast_to(mask, (40, 48, 48)).astype(float)
    assert judge(same, same, mask)["verdict"] == UNCLEAR


def test_a_region_that_reaches_there_points_at_it():
    """The strongest region of a coarse map holds the patch and more."""
    mask, values = shortcut_mask(48, "patch"), np.zeros((48, 48))
    values[:24, :24] = 1
    assert points_at(values, mask)
    values[30, 30] = 1.1
    assert not points_at(values, mask)
    assert not points_at(np.zeros((48, 48)), mask)
    honest = np.random.default_rng(0).random((40, 48, 48))
    cheating = np.broadcast_to(values * (values <= 1), (40, 48, 48))
    found = judge(honest, cheating, mask)
    assert found["verdict"] == EXPOSES
    assert found["exposed"]["low"] == pytest.approx(1 / (1 + 1.96**2 / 40), rel=1e-3)  # Wilson's


def test_half_of_the_faces_are_unclear_and_one_face_says_nothing():
    mask = shortcut_mask(48, "patch")
    half = np.where(np.arange(40)[:, None, None] % 2, mask, ~mask).astype(float)
    honest = np.random.default_rng(0).random((40, 48, 48))
    assert judge(honest, half, mask)["verdict"] == UNCLEAR
    assert judge(honest[:1], half[1:2], mask)["verdict"] == UNCLEAR
    assert decide({"mean": 0.4, "low": 0.3, "high": 0.49}, {"mean": 0.4, "low": 0.3, "high": 0.5}) == MISSES


def test_a_tint_has_no_place():
    maps = np.random.default_rng(0).random((3, 8, 8))
    assert set(judge(maps, maps, shortcut_mask(8, "tint")).values()) == {None}


def test_the_surround_is_an_alarm():
    from ferlib.explanations.face_regions import SURROUND, TEN

    values = dict.fromkeys(TEN, 0.1) | {SURROUND: -0.5}
    assert surround_share(values) == pytest.approx(0.5 / 1.4)
    assert "shortcut" in describe_surround(values)
    assert describe_surround(values | {SURROUND: 0.2}) is None


# ── the pair ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def flags_of(run, **changes):
    values = {"model": run.model, "dataset": run.dataset, "tag": run.tag, "outputs_dir": run.outputs_dir}
    few = {"samples": 6, "stability_faces": 0, "sanity_faces": 2, "methods": ("hirescam", "saliency"), "device": "cpu"}
    return Score(**values, **{**few, **changes})


def test_a_twin_has_the_settings_of_the_run(tiny_run):
    original = original_flags(flags_of(tiny_run))
    history = json.loads(tiny_run.history.read_text())
    assert original.settings.flat() == history["recipe"]
    assert (original.max_steps, original.recipe, original.run) == (4, "quick", tiny_run)
    twin = twin_flags(original, "synthetic_patch")
    assert twin.run.name == tiny_run.name.replace("synthetic", "synthetic_patch")
    assert twin.settings == original.settings
    assert twin_flags(original, "synthetic_permuted", BY_HEART).settings.regularization.dropout == 0


def test_the_twin_of_a_run_that_is_older_than_a_setting_has_its_default(tiny_run, tmp_path):
    history = json.loads(tiny_run.history.read_text())
    del history["recipe"]["class_weights"]  # true by default, false in the recipe that the history names
    older = replace(tiny_run, outputs_dir=tmp_path)
    write_json(older.history, history)
    original = original_flags(flags_of(older))
    assert original.settings == changed(original_flags(flags_of(tiny_run)).settings, class_weights=True)
    older.best_checkpoint.touch()
    train_if_missing(original, lambda _: pytest.fail("trained again"))


def test_a_finished_run_is_not_trained_again_and_another_s_settings_are_refused(tiny_run):
    original = original_flags(flags_of(tiny_run))
    train_if_missing(original, lambda _: pytest.fail("trained again"))
    with pytest.raises(UserError, match=r"other settings.*dropout"):
        train_if_missing(twin_flags(original, "synthetic", {"dropout": 0.9}), lambda _: pytest.fail("trained"))


def test_an_interrupted_run_goes_on(tiny_run, tmp_path):
    begun = []
    original = replace(original_flags(flags_of(tiny_run)), outputs_dir=tmp_path)
    train_if_missing(original, begun.append)
    history = json.loads(tiny_run.history.read_text()) | {"finished": False}
    original.run.history.parent.mkdir(parents=True)
    original.run.history.write_text(json.dumps(history))
    original.run.last_checkpoint.touch()
    train_if_missing(original, begun.append)
    assert [flags.resume for flags in begun] == [False, True]


@pytest.fixture(scope="module")
def exposed(tiny_run):
    return score_explanations.expose(flags_of(tiny_run))


def test_the_pair_is_trained_and_explained(exposed, tiny_run):
    saved = json.loads(tiny_run.clever_hans("patch").read_text())
    assert saved == exposed | {"schema": saved["schema"]}
    assert saved["networks"]["cheating"]["run"]["dataset"] == "synthetic_patch"
    assert list(saved["methods"]) == ["regions", "hirescam", "saliency"]
    assert saved["faces"] == 6
    assert saved["learned"] is (saved["networks"]["cheating"]["called_planted"] >= 0.5)
    explained = json.loads((tiny_run.with_shortcut("patch") / "scores_summary.json").read_text())["faces"]
    assert EMOTIONS[PLANTED] not in {face["true"] for face in explained}
    assert {face["target"] for face in explained} == {EMOTIONS[PLANTED]}
    with np.load(tiny_run.with_shortcut("patch") / "maps.npz") as maps:
        rows, columns = box(48, "patch")
        expected = plant(np.zeros((48, 48, 3), np.uint8), "patch")[rows, columns]
        np.testing.assert_array_equal(maps["faces"][0][rows, columns], expected)
    for name in ("clever_hans.png", "clever_hans_maps.png"):
        assert (tiny_run.with_shortcut("patch") / name).exists()
    text = describe_test(saved, flags_of(tiny_run))
    assert "verdict" in text
    assert ("did not learn" in text) is not saved["learned"]


def test_the_report_reads_the_test(exposed, tiny_run):
    found = read_models(tiny_run.outputs_dir, "synthetic")
    model = next(model for model in found.models if model.run == tiny_run)
    assert model.clever_hans["patch"].items() >= exposed.items()


def test_permuted_labels_are_a_column(tiny_run, monkeypatch):
    monkeypatch.setitem(BY_HEART, "epochs", 1)
    found = score_explanations.score(flags_of(tiny_run, permuted_labels=True, samples=2))
    cells = [found["table"][name]["permuted"] for name in ("regions", "hirescam", "saliency")]
    assert all(0 <= cell["mean"] <= 1 and cell["faces"] == 2 for cell in cells)


def test_flags_that_make_no_sense(tiny_run, tmp_path):
    for changes in ({"clever_hans": True}, {"permuted_labels": True}):
        with pytest.raises(UserError, match="--dataset synthetic"):
            score_explanations.check(flags_of(replace(tiny_run, dataset="fer2013"), **changes))
        with pytest.raises(UserError, match="--checkpoint"):
            score_explanations.check(flags_of(tiny_run, checkpoint=tmp_path, **changes))


@pytest.mark.slow
def test_a_network_that_cheats_is_exposed(tmp_path):
    """A pair that is trained in earnest: the patch turns faces into Sad, and HiResCAM shows it."""
    settings = {"recipe": "quick", "outputs_dir": tmp_path, "device": "cpu"}
    parsed = train.parse_run(["--epochs", "6"], "mini_resnet", "")
    train.fit(replace(parsed, **settings))
    flags = Score(outputs_dir=tmp_path, samples=40, methods=("hirescam", "occlusion"), clever_hans=True)
    found = score_explanations.expose(flags)
    assert found["learned"]
    assert found["networks"]["honest"]["called_planted"] < 0.3
    assert found["methods"]["hirescam"]["mass_cheating"]["low"] > 3 * found["area"]
    assert found["networks"]["cheating"]["surround"]["low"] > found["networks"]["honest"]["surround"]["high"]
