"""training/teachers.py and the second head: runs that teach others, and annotators' votes as a second target."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import softmax

import config
import ferlib.training.teachers as teachers
from datasets import load_stage
from ferlib.data import held_out
from ferlib.data.facts import DATASETS, SPLITS
from ferlib.inference.splits import open_predictor
from ferlib.networks.checkpoints import read_checkpoint
from ferlib.runtime.digests import digest_file
from ferlib.runtime.errors import UserError
from ferlib.runtime.files import read_json
from ferlib.runtime.runs import shipped_checkpoint
from ferlib.training import fitting
from ferlib.training.batches import place_faces
from ferlib.training.trained import train_if_missing
from models import load_checkpoint
from recipes import RECIPES, Objective, changed

CPU = torch.device("cpu")


def flags_of(outputs, tag, dataset="synthetic", teacher=(), **settings):
    recipe = changed(RECIPES["quick"], epochs=1, **settings)
    return config.Train(
        tag=tag, dataset=dataset, teacher=teacher, settings=recipe, outputs_dir=outputs, max_steps=3, amp=False
    )


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """A folder with a trained run `one` and `two`."""
    folder = tmp_path_factory.mktemp("teachers")
    for seed, tag in enumerate(("one", "two")):
        fitting.fit(replace(flags_of(folder, tag), seed=seed))
    return folder


def teach(flags, train):
    """The targets of the teachers that the flags name."""
    known = teachers.find_teachers(flags)
    return teachers.teach(known, teachers.digests_of(known), train, flags)


def test_targets_are_the_mean_of_the_teachers(outputs):
    flags = flags_of(outputs, "student", teacher=("mini_resnet:one", "mini_resnet:two"), teacher_temperature=3.0)
    train = load_stage(flags).split("train")
    found = teach(flags, train)
    expected = []
    for tag in ("one", "two"):
        predict = open_predictor(replace(flags.run, tag=tag), amp=False)
        expected.append(softmax(predict(train.images, "flip").numpy() / 3, axis=1))
    np.testing.assert_allclose(found, np.mean(expected, axis=0), atol=1e-5)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)


def test_teachers_are_asked_once(outputs, monkeypatch):
    flags = flags_of(outputs, "student", teacher=("mini_resnet:one",))
    train = load_stage(flags).split("train")
    first = teach(flags, train)
    monkeypatch.setattr(teachers, "open_teacher", lambda *_: pytest.fail("asked again"))
    assert np.array_equal(teach(flags, train), first)
    for damaged in (outputs / "cache" / "teachers").glob("*.npz"):
        damaged.write_bytes(b"damaged")
    with pytest.raises(pytest.fail.Exception, match="asked again"):
        teach(flags, train)


def test_a_teacher_that_is_replaced_after_it_was_recorded_is_refused(outputs):
    flags = replace(flags_of(outputs, "student", teacher=("mini_resnet:one",)), teacher_views="five_crop")
    known = teachers.find_teachers(flags)
    with pytest.raises(UserError, match="was replaced while it was read; run the command again"):
        teachers.teach(known, {"mini_resnet:one": "another digest"}, load_stage(flags).split("train"), flags)


def test_other_views_are_other_predictions(outputs):
    flags = flags_of(outputs, "student", teacher=("mini_resnet:one",))
    train = load_stage(flags).split("train")
    single = replace(flags, teacher_views="single")
    assert not np.array_equal(*(teach(each, train) for each in (flags, single)))


def test_a_student_records_its_teachers_and_goes_on_with_the_same_only(outputs):
    path = outputs / "checkpoints" / "mini_resnet_synthetic_one_best.pth"
    flags = flags_of(outputs, "student", teacher=(str(path),))
    fitting.fit(flags)
    history = read_json(flags.run.history, "")
    assert list(history["teacher"]) == [str(path)]
    assert history["teacher_digests"] == {str(path): teachers.digest_file(path)}
    longer = replace(flags, resume=True, settings=changed(flags.settings, epochs=2))
    other = replace(longer, teacher=("mini_resnet:two",))
    with pytest.raises(UserError, match="these differ: teacher"):
        fitting.fit(other)
    assert len(fitting.fit(longer)["epochs"]) == 2


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        (
            ("mini_resnet:none",),
            "does not exist; run: python train.py --model mini_resnet --dataset synthetic --tag none",
        ),
        (("mini_resnet:one", "mini_resnet:one"), "names a network twice"),
        (("fer2013", str(shipped_checkpoint())), "names a network twice"),
        (("nothing.pt",), "nothing.pt does not exist"),
        (("nothing:one",), "nothing"),
        (("none.pth",), "none.pth does not exist"),
        (("mini_resnet:student2",), "is the run that is trained"),
    ],
)
def test_teachers_that_cannot_be(outputs, teacher, message):
    flags = flags_of(outputs, "student2", teacher=teacher)
    if "student2" in teacher[0]:
        flags.run.best_checkpoint.write_bytes(b"there")
    with pytest.raises(UserError, match=message):
        teachers.find_teachers(flags)


@pytest.mark.parametrize("kind", ["best", "last"])
def test_the_run_itself_by_another_path(outputs, kind):
    flags = flags_of(outputs, "own")
    fitting.fit(flags)
    path = outputs / ".." / outputs.name / "checkpoints" / f"{flags.run.name}_{kind}.pth"
    with pytest.raises(UserError, match="is the run that is trained"):
        teachers.find_teachers(replace(flags, teacher=(str(path),)))


def test_a_folder_does_not_hide_a_shipped_network(outputs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small").mkdir()
    [(_, path)] = teachers.find_teachers(flags_of(outputs, "student", teacher=("small",))).values()
    assert path == shipped_checkpoint("small")


@pytest.mark.parametrize("source", [{"teacher": ("mini_resnet:one",)}, {"init_from": "mini_resnet_synthetic_one"}])
def test_networks_that_may_have_seen_the_test_faces(outputs, monkeypatch, capsys, source):
    """Of another version of the same set; where the split is the published one, that is noted."""
    original = fitting.load_shared
    monkeypatch.setattr(fitting, "load_shared", lambda flags: replace(original(flags), fingerprint="another"))
    flags = replace(flags_of(outputs, "student"), **source)
    with pytest.raises(UserError, match="one was trained on another version or fold of the faces of synthetic"):
        fitting.fit(flags)
    weights = flags_of(outputs, "student", weights=str(flags_of(outputs, "one").run.best_checkpoint))
    with pytest.raises(
        UserError, match=r"--weights .* was trained on another version or fold of the faces of synthetic"
    ):
        fitting.fit(weights)
    monkeypatch.setattr(held_out, "is_published", lambda *_: True)
    fitting.fit(flags)
    assert "one was trained on another copy of" in capsys.readouterr().out


def published_copy(labels=None, splits=None):
    """FER2013 by its numbers: as many faces of each class and split as were published."""
    counts = DATASETS["fer2013"].official_counts
    if labels is None:
        labels = np.concatenate([np.repeat(np.arange(7), counts[split]) for split in SPLITS])
        splits = np.repeat(np.arange(3), [sum(counts[split]) for split in SPLITS])
    faces = load_stage(config.Stage()).select(np.zeros(len(labels), int))
    return replace(faces, labels=labels, splits=splits, dataset="fer2013", fingerprint="new")


def test_a_published_split_is_the_same_in_every_copy():
    copy, generator = published_copy(), np.random.default_rng(0)
    mixed = published_copy(copy.labels, generator.permutation(copy.splits))
    fewer = copy.select(np.flatnonzero(generator.random(len(copy)) < 0.9))
    small = copy.select(np.arange(0, len(copy), 300))
    assert all(held_out.is_published(each.counts(), each.facts) for each in (copy, fewer))
    others = (mixed, small, load_stage(config.Stage()))
    assert not any(held_out.is_published(each.counts(), each.facts) for each in others)
    earlier = {"dataset": "fer2013", "identity": {"fingerprint": "old"}}
    assert not held_out.may_have_seen(earlier, copy), "its split is not known, and taken for the published one"
    assert held_out.may_have_seen(earlier, mixed)
    assert held_out.may_have_seen(earlier | {"data": held_out.data_facts(mixed)}, copy)
    assert not held_out.may_have_seen(earlier | {"data": held_out.data_facts(fewer)}, copy)


@pytest.mark.parametrize("name", ["ferplus", "ferplus8"])
def test_sets_of_the_same_faces_are_one_set(name):
    """A network of FER+ has seen FER2013's Training, from which a copy without parts takes its val."""
    copy, generator = published_copy(), np.random.default_rng(0)
    mixed = published_copy(copy.labels, generator.permutation(copy.splits))
    counts = {split: list(numbers) for split, numbers in DATASETS[name].official_counts.items()}
    network = {"dataset": name, "identity": {"fingerprint": "old"}, "data": {"counts": counts, "folder": None}}
    assert held_out.may_have_seen(network, mixed)
    assert not held_out.may_have_seen(network, copy), "the published split is the same"
    assert not held_out.may_have_seen(network | {"dataset": "rafdb"}, mixed)


def test_only_test_is_published_of_rafdb():
    """Val is drawn from train: in another copy it may be drawn otherwise."""
    counts = DATASETS["rafdb"].official_counts
    assert not held_out.is_published({**counts, "val": [1] * 7}, DATASETS["rafdb"])


def test_a_folder_is_known_by_where_it_lies(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    faces = replace(load_stage(config.Stage(dataset="synthetic")), fingerprint="new")
    faces = replace(faces, dataset=f"folder:{tmp_path}/faces/")
    old = {"identity": {"fingerprint": "old"}}
    for name in ("folder:faces", f"folder:{tmp_path}/faces", f"folder:{tmp_path}/./faces/"):
        assert held_out.is_other_version({"dataset": name, **old}, faces), name
    assert not held_out.is_other_version({"dataset": "folder:other", **old}, faces)
    there = {"dataset": "folder:faces", "data": {"folder": "/elsewhere/faces"}, **old}
    assert not held_out.is_other_version(there, faces), "of the same name in another working directory"


@pytest.mark.parametrize("settings", [{"teacher_temperature": 0.0}, {"teacher_weight": 1.5}, {"teacher_weight": -1.0}])
def test_weights_and_temperatures_that_cannot_be(outputs, settings):
    with pytest.raises(UserError, match="--teacher-"):
        fitting.fit(flags_of(outputs, "student", teacher=("mini_resnet:one",), **settings))


def test_dropped_faces_take_their_teachers_along(outputs):
    """Faces with an identical face of another label are left out, and the others keep their own row."""
    images = np.stack([np.full((4, 4, 1), grey, np.uint8) for grey in (1, 2, 1, 3)])
    train = load_stage(flags_of(outputs, "student")).split("train").select(np.arange(4))
    train = replace(train, images=images, labels=np.array([0, 1, 2, 3]))
    taught = np.eye(7, dtype=np.float32)[[6, 5, 4, 3]]
    faces = place_faces(train, Objective(conflicts="drop"), CPU, taught)
    assert faces.targets[:, 7:].argmax(1).tolist() == [5, 3]


# ── annotators' votes ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def with_votes(monkeypatch):
    """The drawn faces with votes: 0.75 for the label, the rest for the next class."""
    original = fitting.load_shared

    def load(flags):
        data = original(flags)
        eye = np.eye(7, dtype=np.float32)
        return replace(data, votes=0.75 * eye[data.labels] + 0.25 * eye[(data.labels + 1) % 7])

    monkeypatch.setattr(fitting, "load_shared", load)


def test_votes_are_learned_by_a_head_of_their_own(tmp_path, with_votes):
    flags = flags_of(tmp_path, "votes", votes_weight=1.0, lr=0.0)
    before = replace(flags, tag="before")
    fitting.fit(before)
    learned = replace(flags, settings=changed(flags.settings, lr=3e-3))
    fitting.fit(learned)
    states = [read_checkpoint(each.run.best_checkpoint)["state"] for each in (before, learned)]
    assert "votes_head.1.weight" in states[0]
    assert not torch.equal(*(state["votes_head.1.weight"] for state in states))


def test_a_checkpoint_with_the_second_head_predicts_with_the_first(tmp_path, with_votes):
    flags = flags_of(tmp_path, "votes", votes_weight=1.0)
    fitting.fit(flags)
    loaded = load_checkpoint(flags.run.best_checkpoint, CPU)
    logits = loaded.model(torch.rand(2, 1, 48, 48))
    assert logits.shape == (2, 7)
    assert set(loaded.model.train()(torch.rand(2, 1, 48, 48))[1].shape) == {2, 7}


def test_weights_are_taken_over_with_and_without_the_second_head(tmp_path, with_votes):
    votes = flags_of(tmp_path, "votes", votes_weight=1.0)
    fitting.fit(votes)
    plain = flags_of(tmp_path, "plain", weights=str(votes.run.best_checkpoint))
    fitting.fit(plain)
    again = flags_of(tmp_path, "again", weights=str(plain.run.best_checkpoint), votes_weight=1.0)
    fitting.fit(again)
    assert "votes_head.1.weight" not in read_checkpoint(plain.run.best_checkpoint)["state"]
    assert "votes_head.1.weight" in read_checkpoint(again.run.best_checkpoint)["state"]


def test_a_run_on_votes_goes_on_bit_for_bit(tmp_path, with_votes):
    flags = flags_of(tmp_path, "whole", votes_weight=0.5, ema_decay=0.9, mixup=0.2)
    settings = changed(flags.settings, epochs=2)
    whole = replace(flags, settings=settings)
    fitting.fit(whole)
    parts = replace(whole, tag="parts")

    def stop(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fitting.fit(parts, stop)
    fitting.fit(replace(parts, resume=True))
    states = [read_checkpoint(each.run.last_checkpoint)["state"] for each in (whole, parts)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_votes_that_are_not_known(tmp_path):
    with pytest.raises(UserError, match="no annotators' votes"):
        fitting.fit(flags_of(tmp_path, "votes", votes_weight=0.5))


def test_a_run_is_known_by_the_content_of_its_initial_weights(outputs):
    start = flags_of(outputs, "one").run.best_checkpoint
    copy = outputs / "start.pth"
    shutil.copy(start, copy)
    flags = flags_of(outputs, "begun", weights=str(copy))
    history, _ = train_if_missing(flags, fitting.fit)
    assert history["initial_digest"] == digest_file(start)
    assert train_if_missing(flags, lambda _: pytest.fail("trained again"))[1] is False
    shutil.copy(flags_of(outputs, "two").run.best_checkpoint, copy)
    with pytest.raises(UserError, match=r"these differ: initial_digest$"):
        train_if_missing(flags, fitting.fit)
    longer = replace(flags, settings=changed(flags.settings, epochs=flags.settings.training.epochs + 1), resume=True)
    assert fitting.fit(longer)["initial_digest"] == digest_file(start), "a run that goes on does not read it again"
    copy.unlink()
    assert fitting.fit(replace(longer, settings=longer.settings))["initial_digest"] == digest_file(start)


def test_a_loss_of_votes_that_are_not_known(tmp_path, capsys):
    """Asked for by a flag it is an error; where the recipe has it, what is done instead is said."""
    flags = flags_of(tmp_path, "votes", loss="votes")
    with pytest.raises(UserError, match=r"--loss votes: this copy of .* has no annotators' votes"):
        fitting.fit(flags)
    history = fitting.fit(replace(flags, recipe="emotion_xai"))
    assert history["loss"] == "cross_entropy"
    assert "the run trains on the labels with cross-entropy" in capsys.readouterr().out
