"""Cuts of a film are found, motion and light are none; no number, smoothing or region goes on behind a cut."""

from itertools import permutations

import cv2
import numpy as np
import pytest
from skimage import data

from ferlib.data.synthetic.faces import draw_faces
from ferlib.explanations import crops as crops_module
from ferlib.faces.crops import DetectedFace
from ferlib.video.cuts import CutFinder
from ferlib.video.pipeline import Stopwatch
from ferlib.video.regions import RegionNaming
from ferlib.video.sources import Frame
from ferlib.video.stages import track_faces

HAPPY, SAD = 3, 5
SCENES = ("astronaut", "cat", "coffee", "rocket")
BOX = (110.0, 60.0, 100.0, 110.0)


def scene(name: str, side: int = 480) -> np.ndarray:
    """A photo with room for motion around it: uint8 480×480×3."""
    return cv2.resize(getattr(data, name)(), (side, side), interpolation=cv2.INTER_AREA)


def window(picture: np.ndarray, right: float = 0, down: float = 0) -> np.ndarray:
    """A part uint8 240×320×3 of a scene, moved by shares of its width and height."""
    left, top = round(80 + 320 * right), round(120 + 240 * down)
    return picture[top : top + 240, left : left + 320].copy()


def zoomed(picture: np.ndarray, scale: float = 1.0, degrees: float = 0.0) -> np.ndarray:
    matrix = cv2.getRotationMatrix2D((160, 120), degrees, scale)
    return cv2.warpAffine(picture, matrix, (320, 240), borderMode=cv2.BORDER_REFLECT)


def lit(picture: np.ndarray, gain: float) -> np.ndarray:
    return np.clip(picture * gain, 0, 255).astype(np.uint8)


def is_cut(first: np.ndarray, second: np.ndarray) -> bool:
    find = CutFinder()
    assert not find(first)
    return find(second)


@pytest.mark.parametrize(("first", "second"), [*permutations(SCENES, 2)])
def test_another_scene_is_a_cut(first, second):
    assert is_cut(window(scene(first)), window(scene(second)))


@pytest.mark.parametrize("name", SCENES)
def test_motion_and_light_are_no_cuts(name):
    picture = scene(name)
    first = window(picture)
    moved = [window(picture, right, down) for right, down in ((0.03, 0), (-0.1, 0), (0.05, -0.05), (0, 0.1))]
    moved += [zoomed(first, 1.1), zoomed(first, 0.95, 5)]
    assert not any(is_cut(first, second) for second in [first, *moved, lit(first, 1.4), lit(first, 0.3)])


def test_noise_in_the_dark_is_no_cut():
    rng = np.random.default_rng(0)
    assert not is_cut(*rng.integers(0, 30, (2, 240, 320, 3), np.uint8))


def test_frames_of_any_size_are_compared():
    assert is_cut(scene("astronaut"), window(scene("cat")))
    assert not is_cut(scene("cat", 16), scene("cat", 900))


# ── tracks ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class Fixed:
    """A model that predicts Happy for three frames, then Sad."""

    crop_size = 48

    def __init__(self):
        self.codes = [HAPPY] * 3 + [SAD] * 3

    def probabilities(self, crops):
        return np.eye(7)[[self.codes.pop(0)] * len(crops)]


@pytest.fixture
def track(monkeypatch):
    """The tracked face of each of six frames 40 ms after one another; its regions are named in the first."""
    monkeypatch.setattr(crops_module, "region_explainer", lambda _: lambda crops, _: [{"mouth": 0.1} for _ in crops])

    def run(pictures):
        model = Fixed()
        frames = [(Frame(n, n / 25, picture), [DetectedFace(BOX, 0.9)]) for n, picture in enumerate(pictures)]
        with RegionNaming(model, every=10) as naming:
            tracked = track_faces(iter(frames), model, False, 0.3, Stopwatch(), naming)
            return [face for _, (face,) in tracked]

    return run


def shot(name: str, face: np.ndarray, moves: float = 0.0) -> list[np.ndarray]:
    """Three frames of a drawn face at one place of a scene that moves behind it."""
    frames = [window(scene(name), moves * number) for number in range(3)]
    for frame in frames:
        frame[60:170, 110:210] = cv2.resize(face, (100, 110))
    return frames


def test_behind_a_cut_a_face_at_the_same_place_is_another_one(track):
    first, second = draw_faces(2, 96, subjects=2, workers=1).images
    found = track(shot("coffee", first) + shot("rocket", second))
    assert [face.track for face in found] == [1, 1, 1, 2, 2, 2]
    assert found[3].probabilities.tolist() == np.eye(7)[SAD].tolist()
    assert found[2].regions is not None
    assert found[3].regions is None


def test_slow_motion_keeps_number_and_smoothing(track):
    (face,) = draw_faces(1, 96, subjects=1, workers=1).images
    found = track(shot("coffee", face, 0.02) + shot("coffee", face, 0.03))
    assert [face.track for face in found] == [1] * 6
    assert found[3].probabilities[SAD] == pytest.approx(1 - np.exp(-0.04 / 0.3))
