"""explanations/landmark_detector.py: what is said, recorded and kept where faces are not placed by their landmarks."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

import config
from ferlib.explanations import driver, landmark_detector
from ferlib.explanations.landmark_detector import describe_placed, open_landmarks
from ferlib.explanations.lime import explain
from ferlib.explanations.methods import METHODS
from ferlib.explanations.records import Attribution, ExplainedFace, Target
from ferlib.explanations.region_words import describe_placement
from ferlib.explanations.scores.stages import CLEVER_HANS, SANITY, SCORES, STABILITY
from ferlib.explanations.superpixels import segmenter
from ferlib.explanations.terminal import describe_summary
from ferlib.figures.explanations import figure_of
from ferlib.runtime.errors import UserError
from zoo import ONE_HOT

SIDE = 48


@pytest.fixture
def no_weights(monkeypatch):
    """YuNet is neither in the cache nor can it be downloaded; the times of failed downloads that were remembered."""
    remembered = []

    def fail(*_):
        raise UserError("no connection")

    monkeypatch.setattr(landmark_detector, "failed_lately", lambda _: bool(remembered))
    monkeypatch.setattr(landmark_detector, "find_weights", fail)
    monkeypatch.setattr(landmark_detector, "remember_failure", remembered.append)
    landmark_detector.print_note.cache_clear()
    yield remembered
    landmark_detector.print_note.cache_clear()


def test_a_missing_detector_is_noted_once(no_weights, capsys):
    assert open_landmarks() is None
    assert open_landmarks() is None, "for a day no download is tried"
    assert len(no_weights) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert "faces are placed as on an average face, as YuNet's weights are missing" in printed.err
    assert "download face_detection_yunet" in printed.err
    assert "Haar" not in printed.err


def key_of(method, **values):
    subject = SimpleNamespace(
        engine=SimpleNamespace(title="torch 2", precision="float32"),
        model=SimpleNamespace(dtype=torch.float32),
        data=SimpleNamespace(fingerprint="few"),
        checkpoint_digest="digest",
        device=torch.device("cpu"),
    )
    return driver.fingerprint(subject, method, {**method.defaults, **values}, config.Score())


PLACED = {
    "lime": (METHODS["lime"], {"segmentation": "facial"}),
    "regions": (METHODS["regions"], {}),
    **{
        stage.title: (stage, {"methods": ["regions"], "baseline": "grey"})
        for stage in (SCORES, STABILITY, SANITY, CLEVER_HANS)
    },
}
NOT_PLACED = {"slic": (METHODS["lime"], {"segmentation": "slic"}), "saliency": (METHODS["saliency"], {})}


@pytest.mark.parametrize("name", [*PLACED, *NOT_PLACED])
def test_faces_are_placed_again_when_the_detector_has_come(monkeypatch, name):
    method, values = (PLACED | NOT_PLACED)[name]
    keys = set()
    for detector in ("none", "weights, openvino 1"):
        monkeypatch.setattr(driver, "describe_detector", lambda detector=detector: detector)
        keys.add(key_of(method, **values))
    assert len(keys) == (2 if name in PLACED else 1)


def explain_facial():
    """LIME of two faces of random pixels by their parts."""
    images = torch.rand(2, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(SIDE * SIDE, 7))
    return explain(network, images, ONE_HOT[[0, 1]], seeds=[1, 2], segments=segmenter("facial"), num_samples=60)


def test_each_face_records_whether_its_landmarks_were_found(no_weights, monkeypatch):
    found = explain_facial()
    assert [each.facts["landmarks_found"] for each in found] == [False, False]
    words = METHODS["lime"].describe("Fear", found[0].facts | {"r2": 0.9})
    assert words == "The regions are placed as on an average face, as no landmarks were found."
    numbers, placed = segmenter("slic")(np.zeros((SIDE, SIDE, 1)), 0), segmenter("slic").place
    assert np.array_equal(placed(np.zeros((SIDE, SIDE, 1)), 0)[0], numbers)
    assert placed(np.zeros((SIDE, SIDE, 1)), 0)[1] is None


def test_where_landmarks_were_found_nothing_is_said():
    assert describe_placement("Fear", {"landmarks_found": True}) == describe_placement("Fear", {}) == ""


@pytest.mark.parametrize(("found", "words"), [(True, "placed by landmarks"), (False, "placed as on an average face")])
def test_the_footnote_of_a_face_says_how_it_was_placed(found, words):
    method = METHODS["lime"]
    draw = figure_of(method, {**method.defaults, "segmentation": "facial", "seed": 0}, "run")
    assert "landmarks" not in draw.keywords["footer"]
    face = ExplainedFace(0, "0.png", 1, np.full(7, 1 / 7), Target(2), seed=0)
    values = np.linspace(-1, 1, 36, dtype=np.float32).reshape(6, 6)
    arrays = {"segments": np.arange(36).reshape(6, 6), "standard_errors": np.abs(values)}
    facts = {"r2": 0.5, "segments": 36, "landmarks_found": found}
    figure = draw(face, np.zeros((6, 6, 1), np.float32), Attribution(values, arrays, facts))
    assert words in " ".join(figure.get_supxlabel().replace("\N{NO-BREAK SPACE}", " ").split())


def test_how_the_faces_of_a_run_were_placed():
    faces = [{"landmarks_found": found} for found in (True, True, False)]
    assert describe_placed(faces) == "2 of 3 faces placed by landmarks, the others as on an average face"
    assert describe_placed(faces[:2]) == "2 of 2 faces placed by landmarks"
    assert describe_placed(faces[2:]) == "faces placed as on an average face"
    assert describe_placed([{"landmarks_found": None}, {}]) == ""
    summary = {"method": "regions", "faces": faces, "seconds_per_face": 1.0, "settings": {}}
    assert "2 of 3 faces placed by landmarks" in describe_summary(summary, config.Explain())
