"""explanations/choice.py: which faces are explained, and for which class."""

import numpy as np
import pytest

import config
from config import EMOTIONS
from ferlib.explanations.choice import check_words, choose_rows, describe_target, make_face, pick_faces
from ferlib.explanations.records import Target
from ferlib.runtime.errors import UserError

COUNT = 70
LABELS = np.arange(COUNT) % 7
PROBABILITIES = np.random.default_rng(0).dirichlet(np.ones(7), COUNT)
PREDICTED = PROBABILITIES.argmax(1)


def choose(**flags):
    """Rows of the faces that the flags name, their names checked first."""
    flags = config.Explain(**flags)
    check_words(flags)
    return choose_rows(LABELS, flags, PREDICTED).tolist()


def choose_targets(true=LABELS, **flags):
    """All faces with the target that the flags name."""
    flags = config.Explain(**flags)
    check_words(flags)
    image = np.zeros((4, 4, 1), np.uint8)
    rows = zip(true, PROBABILITIES, strict=True)
    return [make_face(index, f"{index}.png", label, image, p, flags) for index, (label, p) in enumerate(rows)]


def test_pick_faces_spreads_over_the_classes():
    labels = np.random.default_rng(0).integers(0, 7, 500)
    picked = pick_faces(labels, 20, seed=0)
    assert sorted(np.bincount(labels[picked], minlength=7)) == [2, 3, 3, 3, 3, 3, 3]
    assert (np.diff(picked) > 0).all()


def test_pick_faces_is_nested_and_seeded():
    labels = np.random.default_rng(0).integers(0, 7, 500)
    assert set(pick_faces(labels, 10, seed=0)) < set(pick_faces(labels, 20, seed=0))
    assert np.array_equal(pick_faces(labels, 20, seed=0), pick_faces(labels, 20, seed=0))
    assert not np.array_equal(pick_faces(labels, 20, seed=0), pick_faces(labels, 20, seed=1))


def test_pick_faces_fills_up_from_other_classes_and_stops_at_all():
    labels = np.array([0, 0, 0, 0, 0, 3])
    assert np.bincount(labels[pick_faces(labels, 4, seed=0)]).tolist() == [3, 0, 0, 1]
    assert pick_faces(labels, 100, seed=0).tolist() == list(range(6))


@pytest.mark.parametrize(("labels", "count"), [([0, 1], 0), ([0, 1], -3), ([], 5)])
def test_pick_faces_refuses_nothing(labels, count):
    with pytest.raises(UserError):
        pick_faces(np.array(labels, dtype=np.int64), count, seed=0)


def test_faces_can_be_all_or_named_or_filtered():
    correct = PREDICTED == LABELS
    assert choose(samples="all") == list(range(COUNT))
    assert choose(indices=(9, 3)) == [3, 9]
    assert choose(samples="all", only="wrong") == np.flatnonzero(~correct).tolist()
    assert choose(samples="all", only="RIGHT") == np.flatnonzero(correct).tolist()
    assert {LABELS[row] for row in choose(samples=5, only="fear")} == {EMOTIONS.index("Fear")}
    assert len(choose(samples=5, only="fear")) == 5


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"only": "blurry"}, "--only blurry is unknown; valid are wrong, right, Angry"),
        ({"indices": (3, 70)}, "--indices 70: the test split has the faces 0 to 69"),
        ({"indices": (0,), "only": "Sad"}, "no face of the test split is left"),
        ({"target": "Joy"}, "--target Joy is unknown; valid are predicted, true, runner-up, Angry"),
        ({"against": "Joy"}, "--against Joy is unknown"),
        (
            {"target": "Fear", "against": "fear"},
            "--target and --against are both Fear; a class is compared with another",
        ),
        ({"against": "predicted"}, "--target and --against are both predicted"),
        ({"samples": 0}, "at least one"),
    ],
)
def test_flags_that_name_no_face_or_class(flags, message):
    with pytest.raises(UserError, match=message):
        choose(**flags)


def test_the_target_is_what_the_flags_name():
    for face in choose_targets(target="true"):
        assert face.target == Target(face.true)
    for face in choose_targets(target="fear", against="surprise"):
        assert face.target.name == "Fear rather than Surprise"
        assert face.target.weights().tolist() == [0, 0, 1, 0, 0, 0, -1]
    for face in choose_targets(against="true"):
        against = face.runner_up if face.correct else face.true
        assert face.target == Target(face.predicted, against)
    for face in choose_targets(target="runner-up", against="true"):
        against = face.predicted if face.true == face.runner_up else face.true
        assert face.target == Target(face.runner_up, against)
    for face in choose_targets(target="true", against="Sad"):
        if face.true == EMOTIONS.index("Sad") != face.predicted:
            assert face.target == Target(face.true, face.predicted)
    with pytest.raises(UserError, match=r"the true class of 0\.png is not known"):
        choose_targets(true=[None] * COUNT, target="true")
    assert describe_target("Fear", "runner-up") == "Fear rather than runner-up"
    assert describe_target("predicted", "") == "predicted class"


def test_the_summary_counts_the_faces_whose_contrast_is_another_one():
    faces = choose_targets(against="true")
    correct = sum(face.correct for face in faces)
    assert 0 < correct < COUNT
    assert describe_target("predicted", "true", faces) == (
        f"predicted class rather than true class; for {correct} of {COUNT} faces both are one class: "
        "rather than the most probable other one"
    )
    wrong = [face for face in faces if not face.correct]
    assert describe_target("predicted", "true", wrong) == "predicted class rather than true class"
