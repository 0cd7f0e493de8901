"""Values of regions on demand: those of the method, of the largest faces, kept while the class stays, in a thread."""

from dataclasses import replace
from threading import Event, Thread

import numpy as np
import pytest

from ferlib.data.synthetic.faces import draw_faces
from ferlib.explanations import crops as crops_module
from ferlib.explanations.crops import explain_faces, region_explainer
from ferlib.explanations.region_words import join_sides
from ferlib.faces.crops import DetectedFace, crop_face
from ferlib.runtime.errors import UserError
from ferlib.video.pipeline import Stopwatch
from ferlib.video.regions import KEPT, LARGEST, RegionNaming, RegionValues
from ferlib.video.sources import Frame
from ferlib.video.tracking import TrackedFace

HAPPY, SAD = 3, 5


def frame(time: float = 0.0, picture: np.ndarray | None = None) -> Frame:
    return Frame(round(25 * time), time, np.zeros((48, 48, 3), np.uint8) if picture is None else picture)


def tracked(track: int = 1, code: int = HAPPY) -> TrackedFace:
    return TrackedFace(track, (0, 0, 40, 40), np.eye(7)[code])


def detected(side: float = 40) -> DetectedFace:
    return DetectedFace((0, 0, side, side), 0.9)


class FakeModel:
    crop_size = 48


@pytest.fixture
def explained(monkeypatch):
    """The classes that a function in place of the method was called with; every mouth has the value of its call."""
    codes = []

    def explain(crops, targets):
        codes.extend(targets)
        return [{"mouth": 0.1 * len(codes)} for _ in crops]

    monkeypatch.setattr(crops_module, "region_explainer", lambda _: explain)
    return codes


# ── values ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_values_are_those_of_the_method(shipped):
    """As predict.py --explain regions computes them, with its counterfactual and its other fills."""
    picture = np.full((160, 160, 3), 90, np.uint8)
    picture[20:140, 20:140] = draw_faces(1, 120, subjects=1, workers=1).images[0]
    face = DetectedFace((25, 20, 108, 118), 0.9)
    crop = crop_face(picture, face, shipped.crop_size)
    code = int(shipped.probabilities(crop[None]).argmax())
    with RegionNaming(shipped, every=1.0) as naming:
        (named,) = naming.update(frame(picture=picture), [face], [tracked(code=code)])
    (expected,) = explain_faces(shipped, crop[None], "regions")
    assert named.regions.code == code
    assert list(named.regions.values) == list(expected.facts["values"])
    assert list(named.regions.values.values()) == pytest.approx(list(expected.facts["values"].values()), abs=1e-3)
    assert sum(named.regions.values.values()) == pytest.approx(
        expected.facts["outcome"] - expected.facts["hidden"], abs=1e-3
    )


def test_each_batch_takes_its_turn(shipped, crops):
    """Another thread predicts between two batches of an explanation, and is not kept until its end."""
    explain, turns, done = region_explainer(shipped), [], Event()

    def predict():
        while not done.is_set():
            shipped.probabilities(crops[:1])
            turns.append(1)

    thread = Thread(target=predict)
    thread.start()
    before = len(turns)
    explain(crops[:1], [HAPPY])
    taken = len(turns) - before
    done.set()
    thread.join()
    assert taken > 3


def test_the_two_strongest_with_sides_joined():
    values = {"mouth": -0.3, "left eye": 0.2, "right eye": 0.18, "brows": 0.25, "nose": 0.001}
    assert RegionValues(values, HAPPY, 0.0).strongest == ["both eyes +0.38", "mouth −0.30"]
    assert join_sides(values)["both eyes"] == pytest.approx(0.38)
    assert RegionValues({"nose": 0.001}, HAPPY, 0.0).strongest == ["nose 0.00"]


# ── requests ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_nothing_happens_unless_it_is_asked_for(explained):
    with RegionNaming(FakeModel()) as naming:
        faces = [tracked()]
        assert naming.update(frame(), [detected()], faces) == faces
        assert naming.thread._threads == set()
    assert explained == []


def test_a_request_is_answered_once_with_the_next_face(explained):
    asked = Event()
    with RegionNaming(FakeModel(), asked) as naming:
        asked.set()
        assert naming.update(frame(0), [], []) == []
        (named,) = naming.update(frame(1), [detected()], [tracked()])
        assert named.regions == RegionValues({"mouth": 0.1}, HAPPY, 1)
        assert naming.update(frame(2), [detected()], [tracked()])[0].regions is named.regions
        assert naming.update(frame(1 + KEPT), [detected()], [tracked()])[0].regions is None
    assert explained == [HAPPY]


def test_requests_at_an_interval(explained):
    with RegionNaming(FakeModel(), every=0.2) as naming:
        named = [naming.update(frame(n / 20), [detected()], [tracked()])[0].regions for n in range(12)]
    assert [each.time for each in named] == [0] * 4 + [0.2] * 4 + [0.4] * 4
    assert len(explained) == 3


def test_words_end_with_their_class_and_do_not_come_back(explained):
    with RegionNaming(FakeModel(), every=10) as naming:
        codes = [HAPPY, HAPPY, SAD, HAPPY]
        faces = [naming.update(frame(n / 25), [detected()], [tracked(code=code)])[0] for n, code in enumerate(codes)]
    assert [face.regions is not None for face in faces] == [True, True, False, False]


def test_the_largest_faces_alone(explained):
    sides = [30, 60, 20, 50, 40, 10]
    faces = [tracked(number, code=number) for number in range(6)]
    with RegionNaming(FakeModel(), every=1) as naming:
        named = naming.update(frame(), [detected(side) for side in sides], faces)
    assert explained == [1, 3, 4, 0]
    assert len(explained) == LARGEST
    assert [face.regions is not None for face in named] == [True, True, False, True, True, False]


def test_frames_go_on_while_values_are_computed(monkeypatch):
    """As of a camera: the values come with the first frame after they are computed, to a face of the same class."""
    go_on, stopwatch = Event(), Stopwatch()

    def explain(_crops, _targets):
        assert go_on.wait(10)
        return [{"mouth": 0.5}]

    monkeypatch.setattr(crops_module, "region_explainer", lambda _: explain)
    asked = Event()
    with RegionNaming(FakeModel(), asked, waits=False, stopwatch=stopwatch) as naming:
        asked.set()
        faces, here = [detected(), detected(30)], [tracked(1), tracked(2, SAD)]
        assert [face.regions for face in naming.update(frame(0), faces, here)] == [None, None]
        assert naming.update(frame(0.04), faces, here)[0].regions is None
        go_on.set()
        naming.thread.submit(lambda: None).result()  # after both faces
        here = [tracked(1), replace(tracked(2), probabilities=np.eye(7)[HAPPY])]
        first, second = naming.update(frame(0.08), faces, here)
    assert first.regions == RegionValues({"mouth": 0.5}, HAPPY, 0.08)
    assert second.regions is None  # it was explained as Sad
    assert stopwatch.seconds["regions"] > 0


def test_errors_of_the_thread_are_raised(monkeypatch):
    def explain(_crops, _targets):
        raise UserError("the model's logits are not finite")

    monkeypatch.setattr(crops_module, "region_explainer", lambda _: explain)
    with RegionNaming(FakeModel(), every=1) as naming, pytest.raises(UserError, match="not finite"):
        naming.update(frame(), [detected()], [tracked()])
