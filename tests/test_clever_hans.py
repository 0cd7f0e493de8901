"""score_explanations.py --clever-hans, --permuted-labels: drawn faces with a flaw, the pair of networks, verdicts."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

import datasets
import score_explanations
import train
from config import EMOTIONS, Score
from ferlib.data.face_data import FaceData
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
from ferlib.explanations.scores.clever_hans import EXPOSES, MISSES, UNCLEAR, box_of, decide, judge, points_at, seen_mask
from ferlib.explanations.scores.terminal import describe_test
from ferlib.inference.views import center_view
from ferlib.networks.specs import ModelSpec
from ferlib.runtime.errors import UserError
from ferlib.runtime.files import write_json
from ferlib.training.trained import train_if_missing
from ferlib.training.twins import BY_HEART, original_flags, twin_flags
from models import model_spec
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
    assert decide(share(0.4, 0.3, 0.49), share(0.1, 0.0, 0.2)) == MISSES
    assert decide(share(1.0, 0.94, 1.0), share(0.3, 0.2, 0.45)) == EXPOSES
    assert decide(share(1.0, 0.94, 1.0), share(0.45, 0.3, 0.6)) == UNCLEAR  # it would cry wolf


def test_what_was_not_learned_has_no_verdict():
    mask = shortcut_mask(48, "patch")
    maps = np.broadcast_to(mask, (40, 48, 48)).astype(float)
    found = judge(np.random.default_rng(0).random((40, 48, 48)), maps, mask, learned=False)
    assert found["verdict"] is None
    assert found["exposed"]["mean"] == 1


def share(mean, low, high):
    return {"mean": mean, "low": low, "high": high}


def test_a_tint_has_no_place():
    maps = np.random.default_rng(0).random((3, 8, 8))
    assert set(judge(maps, maps, shortcut_mask(8, "tint")).values()) == {None}


def test_the_surround_is_an_alarm():
    from ferlib.explanations.face_regions import SURROUND, TEN

    values = dict.fromkeys(TEN, 0.1) | {SURROUND: 0.5}
    assert surround_share(values) == pytest.approx(0.5 / 1.4)
    assert "shortcut" in describe_surround(values)
    assert describe_surround(values | {SURROUND: 0.2}) is None
    assert surround_share(values | {SURROUND: -0.5}) == 0


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
    history, trained = train_if_missing(original, lambda _: pytest.fail("trained again"))
    assert (history["run"]["tag"], trained) == ("tiny", False)
    for other in (
        twin_flags(original, "synthetic", {"dropout": 0.9}),
        replace(original, seed=7),
        replace(original, max_steps=9),
    ):
        with pytest.raises(UserError, match=r"other settings.*(dropout|seed|max_steps)"):
            train_if_missing(other, lambda _: pytest.fail("trained"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"fingerprint": "another"}, "these differ: fingerprint"),
        ({"teacher_digests": {"other": "0"}}, "these differ: teacher_digests"),
    ],
)
def test_a_run_on_other_data_or_of_other_teachers_is_not_taken(tiny_run, tmp_path, change, said):
    run = replace(tiny_run, outputs_dir=tmp_path)
    write_json(run.history, json.loads(tiny_run.history.read_text()) | change)
    original = replace(original_flags(flags_of(tiny_run)), outputs_dir=tmp_path)
    with pytest.raises(UserError, match=said):
        train_if_missing(original, lambda _: pytest.fail("trained"))


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_a_run_that_was_extended_is_not_one_of_as_many_epochs(tiny_run, tmp_path, schedule):
    """Unless its epochs do not depend on how many there are."""
    run = replace(tiny_run, outputs_dir=tmp_path)
    history = json.loads(tiny_run.history.read_text())
    recipe = history["recipe"] | {"schedule": schedule, "start_size": 1.0}
    write_json(run.history, history | {"recipe": recipe, "begun_for_epochs": [1]})
    run.best_checkpoint.touch()
    original = original_flags(flags_of(run))
    if schedule == "constant":
        train_if_missing(original, lambda _: pytest.fail("trained"))
    else:
        with pytest.raises(UserError, match=r"these differ: epochs \(begun for 1\)"):
            train_if_missing(original, lambda _: pytest.fail("trained"))
        train_if_missing(original, lambda _: pytest.fail("trained"), extended=True)


def test_weights_without_a_history_are_not_trained_over(tiny_run, tmp_path):
    original = replace(original_flags(flags_of(tiny_run)), outputs_dir=tmp_path)
    original.run.best_checkpoint.parent.mkdir(parents=True)
    original.run.best_checkpoint.touch()
    with pytest.raises(UserError, match="no history"):
        train_if_missing(original, lambda _: pytest.fail("trained"))


def test_an_honest_run_is_not_taken_for_the_twin(tiny_run, tmp_path):
    """`--dataset synthetic --tag patch` has the name of the twin on synthetic_patch."""
    original = replace(original_flags(flags_of(tiny_run)), outputs_dir=tmp_path)
    taken = replace(original, tag="patch").run
    taken.history.parent.mkdir(parents=True)
    history = json.loads(tiny_run.history.read_text())
    taken.history.write_text(json.dumps(history | {"run": history["run"] | {"tag": "patch"}}))
    twin = twin_flags(replace(original, tag=""), "synthetic_patch")
    assert twin.run.name == taken.name
    with pytest.raises(UserError, match="already the name of a run on synthetic;"):
        train_if_missing(twin, lambda _: pytest.fail("trained"))


def test_settings_of_another_version_are_named(tiny_run, tmp_path):
    run = replace(tiny_run, outputs_dir=tmp_path)
    run.history.parent.mkdir(parents=True)
    history = json.loads(tiny_run.history.read_text())
    run.history.write_text(json.dumps(history | {"recipe": history["recipe"] | {"warp": 1}}))
    with pytest.raises(UserError, match=r"another version \(warp\)"):
        original_flags(flags_of(run))


def test_an_interrupted_run_goes_on(tiny_run, tmp_path):
    begun = []

    def begin(flags):
        begun.append(flags)
        return {}

    original = replace(original_flags(flags_of(tiny_run)), outputs_dir=tmp_path)
    train_if_missing(original, begin)
    history = json.loads(tiny_run.history.read_text()) | {"finished": False}
    original.run.history.parent.mkdir(parents=True)
    original.run.history.write_text(json.dumps(history))
    original.run.last_checkpoint.touch()
    train_if_missing(original, begin)
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


def test_the_mask_is_where_a_network_that_crops_sees_the_shortcut():
    """fer_resnet takes the inner 44 of 48 pixels: the patch of rows 2 to 9 lies in rows 0 to 7 of what it sees."""

    @dataclass
    class Cropping:
        data: FaceData
        spec: ModelSpec

        def views(self, images):
            return center_view(torch.from_numpy(images), self.spec)

    data = FaceData("synthetic", np.zeros((1, 48, 48, 3), np.uint8), *[np.zeros(1)] * 3, "")
    mask = seen_mask(Cropping(data, model_spec("fer_resnet")), "patch")
    assert mask.shape == (44, 44)
    assert box_of(mask) == [0, 0, 8, 8]


def test_the_report_reads_the_test(exposed, tiny_run):
    found = read_models(tiny_run.outputs_dir, "synthetic")
    model = next(model for model in found.models if model.run == tiny_run)
    assert model.clever_hans["patch"].items() >= exposed.items()


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content["methods"]["hirescam"].update(false_alarms=None),
        lambda content: content["methods"]["hirescam"]["exposed"].update(low=None),
        lambda content: content.update(shortcut="tint"),
        lambda content: content["networks"]["cheating"].update(checkpoint_digest="another"),
    ],
)
def test_a_damaged_or_stale_test_is_left_out_by_name(exposed, tiny_run, damage):
    path = tiny_run.clever_hans("patch")
    whole = path.read_text()
    content = json.loads(whole)
    damage(content)
    path.write_text(json.dumps(content))
    try:
        found = read_models(tiny_run.outputs_dir, "synthetic")
    finally:
        path.write_text(whole)
    assert not next(model for model in found.models if model.run == tiny_run).clever_hans
    assert any("the test with a patch" in line for line in found.left_out)


def test_permuted_labels_are_a_column(tiny_run, monkeypatch):
    monkeypatch.setitem(BY_HEART, "epochs", 1)
    with pytest.raises(UserError, match="% of them by heart"):
        score_explanations.score(flags_of(tiny_run, permuted_labels=True, samples=2))
    monkeypatch.setattr(score_explanations, "BY_HEART_AT_LEAST", 0)
    found = score_explanations.score(flags_of(tiny_run, permuted_labels=True, samples=2))
    cells = [found["table"][name]["permuted"] for name in ("regions", "hirescam", "saliency")]
    assert all(0 <= cell["mean"] <= 1 and cell["faces"] == 2 for cell in cells)
    assert Path(found["networks"]["permuted"]["checkpoint"]).name.endswith("synthetic_permuted_tiny_last.pth")
    assert (found["baseline"], found["explained"]) == ("grey", "predicted class")


def test_flags_that_make_no_sense(tiny_run, tmp_path):
    for changes in ({"clever_hans": True}, {"permuted_labels": True}):
        with pytest.raises(UserError, match="--dataset synthetic"):
            score_explanations.check(flags_of(replace(tiny_run, dataset="fer2013"), **changes))
        with pytest.raises(UserError, match="--checkpoint"):
            score_explanations.check(flags_of(tiny_run, checkpoint=tmp_path, **changes))


def test_faces_and_class_are_those_of_the_test(tiny_run):
    for changes in ({"only": "wrong"}, {"indices": (1, 2)}, {"target": "Happy"}):
        with pytest.raises(UserError, match="chooses faces and class itself"):
            score_explanations.check(flags_of(tiny_run, clever_hans=True, **changes))


@pytest.mark.slow
def test_a_network_that_cheats_is_exposed(tmp_path):
    """A pair that is trained in earnest: the patch turns faces into Sad, and HiResCAM shows it."""
    settings = {"recipe": "quick", "outputs_dir": tmp_path, "device": "cpu"}
    parsed = train.parse_run(["--epochs", "12"], "mini_resnet", "")
    train.fit(replace(parsed, **settings))
    flags = Score(outputs_dir=tmp_path, samples=40, methods=("hirescam", "occlusion"), clever_hans=True)
    found = score_explanations.expose(flags)
    assert found["learned"]
    assert found["networks"]["honest"]["called_planted"] < 0.3
    assert found["methods"]["hirescam"]["mass_cheating"]["low"] > 3 * found["area"]
    assert found["networks"]["cheating"]["surround"]["low"] > found["networks"]["honest"]["surround"]["high"]
