"""The drawn faces are deterministic, balanced, recognisable, and differ from neutral only where the evidence says."""

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from config import EMOTIONS
from ferlib.data.synthetic import faces as synthetic_faces
from ferlib.data.synthetic import sheet
from ferlib.data.synthetic.action_units import ACTION_UNIT_NAMES, ACTION_UNITS, DISPLACEMENTS
from ferlib.data.synthetic.faces import EVIDENCE_THRESHOLD, NEUTRAL, draw_face, draw_faces
from ferlib.data.synthetic.identities import NEUTRAL_SHAPE, sample_identity
from ferlib.data.synthetic.rendering import REGIONS

MOVED = {  # the regions that every variant of an emotion's prototype moves
    "Angry": {"brows", "eyes", "mouth"},
    "Disgust": {"nose", "eyes", "mouth", "cheeks"},
    "Fear": {"brows", "eyes", "mouth"},
    "Happy": {"eyes", "mouth", "cheeks"},
    "Neutral": set(),
    "Sad": {"brows", "mouth"},
    "Surprise": {"brows", "eyes", "mouth"},
}
UNTOUCHED = {"Fear": {"nose"}, "Happy": {"brows"}, "Sad": {"cheeks"}, "Neutral": set(REGIONS)}


@pytest.fixture(scope="module")
def faces():
    """210 faces of 48 × 48: 10 subjects, each in every emotion."""
    return draw_faces(210, workers=1)


def difference_from_neutral(emotion: int, subject: int, sample: int, size: int = 48) -> np.ndarray:
    """The largest channel difference (size,size) between a face and its neutral twin, which has the same noise."""
    face, neutral = (draw_face(e, subject, sample, size).image.astype(int) for e in (emotion, NEUTRAL))
    return np.abs(face - neutral).max(-1)


def test_tables_name_every_emotion_unit_and_shape():
    assert tuple(ACTION_UNITS) == EMOTIONS
    used = {unit for variants in ACTION_UNITS.values() for variant in variants for unit in variant}
    assert used == set(DISPLACEMENTS) == set(ACTION_UNIT_NAMES)
    assert {name for displaced in DISPLACEMENTS.values() for name in displaced} <= set(NEUTRAL_SHAPE)


def test_shapes_types_and_balance(faces):
    assert faces.images.shape == (210, 48, 48, 3)
    assert faces.evidence.shape == (210, 48, 48)
    assert faces.images.dtype == faces.evidence.dtype == np.uint8
    assert faces.labels.dtype == faces.subjects.dtype == np.int64
    assert (np.bincount(faces.labels) == 30).all()
    assert (np.bincount(faces.subjects) == 21).all()
    assert faces.evidence.max() <= len(REGIONS)


def test_same_arguments_give_the_same_bytes():
    first, second = (draw_face(3, 5, 11, seed=2) for _ in range(2))
    assert first.image.tobytes() == second.image.tobytes()
    assert first.evidence.tobytes() == second.evidence.tobytes()
    assert first.action_units == second.action_units


@pytest.mark.parametrize("change", [{"emotion": 4}, {"subject": 6}, {"sample": 12}, {"seed": 3}])
def test_every_argument_changes_the_picture(change):
    arguments = {"emotion": 3, "subject": 5, "sample": 11, "seed": 2}
    assert (draw_face(**arguments).image != draw_face(**arguments | change).image).any()


def test_result_does_not_depend_on_the_number_of_workers(monkeypatch):
    monkeypatch.setattr(synthetic_faces, "CHUNK", 9)
    counted = []
    one, two = draw_faces(30, size=32, workers=1), draw_faces(30, size=32, workers=2, progress=counted.append)
    assert sum(counted) == 30
    for name in ("images", "evidence", "labels", "subjects"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))


def test_identity_belongs_to_the_subject():
    skin = [[draw_face(NEUTRAL, subject, sample).image for sample in range(6)] for subject in range(6)]
    tone = np.array([[image[14:18, 20:28].mean() for image in row] for row in skin])
    assert tone.mean(1).std() > tone.std(1).mean()  # foreheads differ more between subjects than between pictures
    assert sample_identity(0, 1).shape == sample_identity(0, 1).shape
    assert sample_identity(0, 1).shape != sample_identity(0, 2).shape


@pytest.mark.parametrize("size", [32, 48, 75, 224])
def test_any_size(size):
    face = draw_face(6, 0, 0, size)
    assert face.image.shape == (size, size, 3)
    assert face.evidence.shape == (size, size)
    assert face.image.std() > 20


def test_size_changes_the_resolution_only():
    small, large = (draw_face(3, 1, 4, size).image.astype(float) for size in (48, 192))
    shrunk = large.reshape(48, 4, 48, 4, 3).mean((1, 3))
    assert np.abs(shrunk - small).mean() < 8
    assert draw_face(3, 1, 4, 48).action_units == draw_face(3, 1, 4, 192).action_units


@pytest.mark.parametrize("emotion", range(len(EMOTIONS)), ids=EMOTIONS)
def test_evidence_lies_where_the_action_units_act(emotion):
    name = EMOTIONS[emotion]
    drawn = [draw_face(emotion, subject, subject, 64, intensity=1.0) for subject in range(8)]
    share = np.array([[np.mean(face.evidence == k + 1) for k in range(len(REGIONS))] for face in drawn]).mean(0)
    for region, part in zip(REGIONS, share, strict=True):
        if region in MOVED[name]:
            assert part > 0.002, region
        if region in UNTOUCHED.get(name, ()):
            assert part < 0.002, region


@pytest.mark.parametrize("emotion", range(len(EMOTIONS)), ids=EMOTIONS)
def test_face_equals_its_neutral_twin_outside_the_evidence(emotion):
    for subject in range(4):
        difference = difference_from_neutral(emotion, subject, subject)
        evidence = draw_face(emotion, subject, subject).evidence > 0
        assert difference[~evidence].max() <= EVIDENCE_THRESHOLD + 1  # 1 for rounding
        assert (difference[evidence] > 0).all()


def test_evidence_of_expressions_is_neither_empty_nor_everything(faces):
    share = (faces.evidence > 0).mean((1, 2))
    assert (share[faces.labels == NEUTRAL] == 0).all()
    expressive = share[faces.labels != NEUTRAL]
    assert 0.02 < expressive.mean() < 0.3
    assert expressive.min() > 0.002
    assert expressive.max() < 0.6


def test_evidence_grows_with_intensity():
    share = [np.mean([(draw_face(6, s, s, intensity=i).evidence > 0).mean() for s in range(5)]) for i in (0, 0.4, 1)]
    assert share[0] == 0
    assert share[0] < share[1] < share[2]


def test_action_units_follow_the_prototypes():
    for emotion, name in enumerate(EMOTIONS):
        prototypes = [set(variant) for variant in ACTION_UNITS[name]]
        for sample in range(10):
            units = draw_face(emotion, 0, sample, 32).action_units
            assert set(units) in prototypes
            assert all(0 < intensity <= 1 for intensity in units.values())


def test_linear_classifier_learns_expressions_of_unseen_subjects():
    drawn = draw_faces(560, size=32, subjects=40)
    pixels = drawn.images.mean(-1).reshape(-1, 16, 2, 16, 2).mean((2, 4)).reshape(560, 256)
    pixels = (pixels - pixels.mean(1, keepdims=True)) / pixels.std(1, keepdims=True)
    train = drawn.subjects < 30
    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.3).fit(pixels[train], drawn.labels[train])
    accuracy = model.score(pixels[~train], drawn.labels[~train])
    assert 0.35 < accuracy < 0.95  # chance is 0.14


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"emotion": 7}, "valid: 0 Angry, 1 Disgust"),
        ({"emotion": -1}, "valid: 0 Angry"),
        ({"size": 31}, "valid: 32 to 512"),
        ({"size": 513}, "valid: 32 to 512"),
        ({"subject": -1}, "must be 0 or more"),
        ({"seed": -1}, "must be 0 or more"),
        ({"intensity": 1.5}, "valid: 0 to 1"),
    ],
)
def test_bad_arguments_say_what_is_valid(arguments, message):
    with pytest.raises(ValueError, match=message):
        draw_face(**{"emotion": 3, "subject": 0, "sample": 0} | arguments)


@pytest.mark.parametrize("arguments", [{"count": 0}, {"count": 7, "size": 8}, {"count": 7, "subjects": 0}])
def test_bad_sets_are_refused(arguments):
    with pytest.raises(ValueError, match=r"must be 1 or more|valid"):
        draw_faces(**arguments)


def test_contact_sheet_is_written(tmp_path):
    sheet.main(tmp_path / "sheet.png", size=32, subjects=1, evidence=True)
    assert (tmp_path / "sheet.png").stat().st_size > 1000
