"""Detectors on a photo and on drawn faces, crops with known answers, weights and their download."""

import hashlib
import math
from dataclasses import replace
from pathlib import Path
from typing import get_args, get_type_hints

import cv2
import numpy as np
import pytest
import skimage.data

from config import App, Live, Predict
from ferlib.data.synthetic.faces import draw_face
from ferlib.faces import detectors, openvino_yunet
from ferlib.faces import weights as detector_weights
from ferlib.faces.crops import (
    DetectedFace,
    crop_face,
    crop_matrix,
    crop_outline,
    head_angle,
    warp_map,
    whole_face,
)
from ferlib.faces.detection import Detector
from ferlib.faces.detectors import DETECTORS, detector_title, open_detector
from ferlib.faces.weights import Weights
from ferlib.runtime.errors import UserError
from ferlib.runtime.openvino import is_installed

SHARED = Path(__file__).parents[2] / "shared" / "models"
ASTRONAUT = (178, 60, 92, 117)  # box of the face
EYES = np.array([(203, 102), (246, 103)])


def weights_of(name):
    """The detector's weights in ../shared; the test is skipped where they are not there."""
    if DETECTORS[name].weights is None:
        return None
    path = SHARED / DETECTORS[name].weights.file
    if not path.exists():
        pytest.skip(f"{path} is not there")
    return path


@pytest.fixture(scope="session")
def astronaut():
    return skimage.data.astronaut()


@pytest.mark.parametrize("kind", [App, Live, Predict])
def test_the_flag_detector_lists_the_table(kind):
    assert get_args(get_type_hints(kind)["detector"]) == ("auto", *DETECTORS)


def test_titles_of_detectors():
    assert all(kind.title for kind in DETECTORS.values())
    assert detector_title(Detector("haar", lambda picture: [], 0.5)) == "Haar cascade"
    assert "each picture is one face" in detector_title(None)


@pytest.fixture(scope="session", params=DETECTORS)
def detector(request):
    return open_detector(request.param, weights_of(request.param))


@pytest.fixture(scope="session")
def yunet():
    return open_detector("yunet", weights_of("yunet"))


def overlap(one, other):
    """Intersection over union of two boxes."""
    width, height = (
        min(one[axis] + one[axis + 2], other[axis] + other[axis + 2]) - max(one[axis], other[axis]) for axis in (0, 1)
    )
    shared = max(width, 0) * max(height, 0)
    return shared / (one[2] * one[3] + other[2] * other[3] - shared)


def canvas(*pictures, height=480, width=640):
    """A grey picture with others at given corners: (picture, x, y), …"""
    sheet = np.full((height, width, 3), 128, np.uint8)
    for picture, x, y in pictures:
        sheet[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
    return sheet


def rotated(picture, degrees, centre=(224, 120)):
    return cv2.warpAffine(picture, cv2.getRotationMatrix2D(centre, degrees, 1), picture.shape[1::-1])


# ── detecting ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_face_is_found_where_it_is(detector, astronaut):
    (face,) = detector(astronaut)
    assert overlap(face.box, ASTRONAUT) > 0.7
    assert 0.5 < face.score <= 1


def test_landmarks_lie_on_the_face(detector, astronaut):
    (face,) = detector(astronaut)
    if detector.name == "haar":
        assert face.landmarks is None
        return
    assert face.landmarks.shape == (5, 2)
    assert face.landmarks.dtype == np.float32
    assert np.abs(face.landmarks[:2] - EYES).max() < 6
    nose, left, right = face.landmarks[2:]
    assert left[0] < nose[0] < right[0]
    assert EYES[:, 1].max() < nose[1] < min(left[1], right[1])


def test_retinaface_agrees_with_yunet(astronaut, yunet):
    ours = open_detector("retinaface", weights_of("retinaface"))
    mirrored = np.ascontiguousarray(astronaut[:, ::-1])
    for picture in (astronaut, mirrored, rotated(astronaut, 20), cv2.resize(astronaut, (900, 700))):
        (one,), (other,) = ours(picture), yunet(picture)
        assert overlap(one.box, other.box) > 0.75
        assert np.abs(one.landmarks - other.landmarks).max() < 0.1 * math.sqrt(other.area)


def test_several_faces_the_largest_first(yunet, astronaut):
    part = astronaut[20:220, 120:330]
    faces_found = yunet(canvas((part, 20, 20), (cv2.resize(part, None, fx=0.5, fy=0.5), 400, 300)))
    assert len(faces_found) == 2
    assert faces_found[0].area > 2 * faces_found[1].area
    assert faces_found[1].box[0] > 400


def test_a_small_face_of_a_large_picture_is_found(yunet, astronaut):
    small = cv2.resize(astronaut, (110, 110), interpolation=cv2.INTER_AREA)  # a face of 19 pixels
    picture = canvas((small, 900, 700), height=1200, width=1600)
    (face,) = yunet(picture)
    assert overlap(face.box, [900 + 178 * 110 / 512, 700 + 60 * 110 / 512, 92 * 110 / 512, 117 * 110 / 512]) > 0.6
    assert replace(yunet, sides=(640,))(picture) == []


def test_a_huge_picture_is_searched_small(yunet, astronaut):
    (face,) = yunet(cv2.resize(astronaut, (4096, 4096)))
    assert overlap([value / 8 for value in face.box], ASTRONAUT) > 0.7


def test_a_face_that_fills_a_tiny_picture_is_found(yunet, astronaut):
    tiny = cv2.resize(astronaut[66:176, 170:280], (48, 48), interpolation=cv2.INTER_AREA)
    (face,) = yunet(tiny)
    assert overlap(face.box, (4, 0, 40, 48)) > 0.6


def test_no_face_in_nothing(detector):
    assert detector(np.full((300, 400, 3), 90, np.uint8)) == []
    assert detector(np.zeros((1, 1, 3), np.uint8)) == []
    for shape in ((5, 2000), (3000, 1), (40, 1000)):
        assert detector(np.full((*shape, 3), 255, np.uint8)) == []


def test_drawn_faces_are_found_by_the_networks(detector):
    if detector.name == "haar":
        pytest.skip("the cascade knows photographs only")
    pictures = [
        draw_face(emotion, subject, 7 * subject + emotion, 128).image for subject in (0, 1) for emotion in range(7)
    ]
    assert sum(len(detector(canvas((picture, 200, 100)))) == 1 for picture in pictures) >= 12


def test_finer_finds_need_to_be_sure_and_small():
    """A search that finds the same doubtful face at every scale, and a sure one that is large at the finer scale."""
    doubtful = DetectedFace((10, 10, 20, 20), 0.7)
    finds = {640: [], 1600: [doubtful, replace(doubtful, score=0.85), DetectedFace((300, 300, 200, 200), 0.99)]}
    found = Detector("test", lambda picture: finds.get(max(picture.shape), []), 0.6)(
        np.zeros((1600, 1600, 3), np.uint8)
    )
    assert [face.score for face in found] == [0.85]


def test_pictures_of_other_kinds_are_refused(detector):
    for wrong in (
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3)),
        np.zeros((0, 8, 3), np.uint8),
    ):
        with pytest.raises(ValueError, match="uint8"):
            detector(wrong)


# ── cropping ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_crop_of_an_upright_box_is_a_square_of_the_picture():
    """A box that is framed as the constants say gives back exactly the 48×48 pixels around it."""
    picture = np.random.default_rng(0).integers(0, 256, (120, 150, 3), np.uint8)
    face = whole_face(picture[30:78, 40:88]).moved((1, 1), (40, 30))
    assert np.array_equal(crop_face(picture, face, 48), picture[30:78, 40:88])
    np.testing.assert_allclose(crop_outline(face), [(40, 30), (88, 30), (88, 78), (40, 78)], atol=1e-4)


def test_a_larger_face_is_averaged_down():
    picture = np.zeros((96, 96, 3), np.uint8)
    picture[::2, ::2] = 200  # every fourth pixel; of 2×2 each, one
    crop = crop_face(picture, whole_face(picture), 48)
    assert np.abs(crop[1:-1, 1:-1].astype(int) - 50).max() <= 2


@pytest.mark.parametrize(("name", "least", "most"), [("retinaface", 0.75, 1.25), ("yunet", 0.5, 1.25)])
def test_eyes_are_levelled(name, least, most, astronaut):
    """Tilted heads are turned back: by RetinaFace's landmarks fully, by YuNet's refined ones by more than half."""
    detector = open_detector(name, weights_of(name))
    upright = crop_face(astronaut, detector(astronaut)[0], 96)
    for degrees in (-30, -15, 15, 30):
        picture = rotated(astronaut, degrees)
        face = detector(picture)[0]
        tilt = 3 - degrees  # her own is 3°
        assert least < math.degrees(head_angle(face)) / tilt < most
        alike = cv2.matchTemplate(crop_face(picture, face, 96), upright[24:72, 24:72], cv2.TM_CCOEFF_NORMED)
        assert alike.max() > 0.5
        matrix = crop_matrix(face, 96)
        eyes = (face.landmarks[:2] - 0.5 - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
        assert eyes[0, 1] == pytest.approx(eyes[1, 1], abs=0.01)
        assert eyes[0, 0] < eyes[1, 0]


def test_refined_landmarks_follow_more_of_a_tilt(astronaut):
    picture = rotated(astronaut, 30)
    once, twice = (open_detector("yunet", weights_of("yunet"), refine=refine)(picture)[0] for refine in (False, True))
    assert once.box == twice.box
    assert head_angle(twice) < 2 * head_angle(once) < 0


def test_the_eyes_of_a_profile_say_nothing():
    landmarks = np.array([(50, 50), (52, 60), (50, 70), (50, 80), (51, 81)], np.float32)
    assert head_angle(DetectedFace((0, 0, 100, 120), 0.9, landmarks)) == 0
    assert head_angle(DetectedFace((0, 0, 100, 120), 0.9)) == 0


def test_a_face_cut_by_the_border_goes_on_with_its_pixels():
    picture = np.full((40, 40, 3), 70, np.uint8)
    for box in ((-30, -30, 50, 50), (30, 30, 60, 60), (100, 100, 20, 20)):
        assert (crop_face(picture, DetectedFace(box, 1.0), 32) == 70).all()


def test_a_map_lies_over_the_face_it_belongs_to(astronaut, yunet):
    """A crop laid back over a tilted face is the face."""
    picture = rotated(astronaut, 25)
    face = yunet(picture)[0]
    crop = crop_face(picture, face, 112)
    warped = warp_map(crop[..., 1].astype(np.float32), face, *picture.shape[:2])
    inside = warp_map(np.ones((112, 112), np.float32), face, *picture.shape[:2]) > 0.999
    assert 0.6 * crop_outline_area(face) < inside.sum() < 1.1 * crop_outline_area(face)
    assert np.abs(warped[inside] - picture[..., 1][inside]).mean() < 4
    assert warped[400:].max() == 0


def crop_outline_area(face):
    return cv2.contourArea(crop_outline(face))


# ── weights ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A cache of its own, and a function that makes weights of a content and addresses."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "good").write_bytes(b"weights")
    (tmp_path / "bad").write_bytes(b"a page that says: log in first")

    def make(*names):
        urls = tuple((tmp_path / name).as_uri() for name in names)
        return Weights("file.onnx", hashlib.sha256(b"weights").hexdigest(), urls, source="https://example.org")

    return make


def test_weights_are_downloaded_once(served, tmp_path):
    path = detector_weights.find_weights(None, served("good"))
    assert path.read_bytes() == b"weights"
    assert path.is_relative_to(tmp_path / "cache")
    (tmp_path / "good").unlink()
    assert detector_weights.find_weights(None, served("good")) == path
    assert [file.name for file in path.parent.iterdir()] == ["file.onnx"]


def test_the_next_address_is_tried(served):
    assert detector_weights.find_weights(None, served("missing", "bad", "good")).read_bytes() == b"weights"


@pytest.mark.parametrize("names", [("bad",), ("missing",), ()])
def test_wrong_or_missing_weights_leave_nothing(served, names):
    weights = served(*names)
    with pytest.raises(UserError, match=r"--detector-weights FILE.*--detector haar"):
        detector_weights.find_weights(None, weights)
    assert not weights.cached.exists()


def test_a_checksum_that_differs_is_named(served):
    with pytest.raises(UserError, match=r"30 bytes with the SHA-256 \w+… instead of"):
        detector_weights.find_weights(None, served("bad"))


def test_a_given_file_wins(served, tmp_path):
    assert detector_weights.find_weights(tmp_path / "bad", served("good")) == tmp_path / "bad"
    with pytest.raises(UserError, match="does not exist"):
        detector_weights.find_weights(tmp_path / "none", served("good"))


def test_without_weights_auto_takes_haar_and_says_so(served, monkeypatch, capsys, astronaut):
    missing = served("missing")
    monkeypatch.setattr(detectors, "YUNET", missing)
    monkeypatch.setattr(detectors, "DETECTORS", {**DETECTORS, "yunet": replace(DETECTORS["yunet"], weights=missing)})
    detector = open_detector()
    assert detector.name == "haar"
    assert "Haar cascade" in capsys.readouterr().err
    assert len(detector(astronaut)) == 1
    with pytest.raises(UserError, match="could not be downloaded"):
        open_detector("yunet")


def test_auto_takes_the_kind_of_the_file(monkeypatch):
    for name in ("yunet", "retinaface"):
        assert open_detector("auto", weights_of(name)).name == name


@pytest.mark.parametrize(("name", "message"), [("yunet", "is not a YuNet"), ("retinaface", "does not hold RetinaFace")])
def test_other_files_are_refused(name, message, tmp_path):
    (tmp_path / "file").write_bytes(b"nothing of the kind")
    with pytest.raises(UserError, match=message):
        open_detector(name, tmp_path / "file")


def test_unknown_detectors_are_named():
    with pytest.raises(UserError, match="yunet, retinaface, haar"):
        open_detector("mtcnn")


def test_the_published_checksums_are_those_of_the_files():
    for name in ("yunet", "retinaface"):
        assert hashlib.sha256(weights_of(name).read_bytes()).hexdigest() == DETECTORS[name].weights.sha256


# ── YuNet by OpenVINO ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.skipif(not is_installed(), reason="needs openvino and nncf")
@pytest.mark.parametrize("size", [(512, 512), (640, 480), (333, 517)])
def test_openvino_detects_what_opencv_detects(astronaut, size):
    picture = cv2.resize(astronaut, size)
    slow, fast = (open_detector("yunet", weights_of("yunet"), fast=fast) for fast in (False, True))
    (expected,), (found,) = slow(picture), fast(picture)
    np.testing.assert_allclose(found.box, expected.box, atol=0.05)
    np.testing.assert_allclose(found.landmarks, expected.landmarks, atol=0.05)
    assert found.score == pytest.approx(expected.score, abs=1e-4)


def test_cells_are_decoded_and_overlapping_ones_merged():
    outputs = {}
    for stride, side in ((8, 8), (16, 4), (32, 2)):
        for head, numbers in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10)):
            outputs[f"{head}_{stride}"] = np.zeros((side * side, numbers), np.float32)
    for cell, score in ((8 * 2 + 3, 0.9), (8 * 2 + 4, 0.8)):  # row 2, columns 3 and 4: one face
        outputs["cls_8"][cell], outputs["obj_8"][cell] = score, 1.0
        outputs["bbox_8"][cell] = (0.5 - (cell - 19), 0.5, np.log(3), np.log(2))
        outputs["kps_8"][cell] = 1.0
    (face,) = openvino_yunet.decode(outputs, 64, min_score=0.5)
    assert face.score == pytest.approx(0.9**0.5)
    assert face.box == pytest.approx((3.5 * 8 - 12, 2.5 * 8 - 8, 24, 16))
    np.testing.assert_allclose(face.landmarks, [[32, 24]] * 5)


def test_a_later_process_too_says_that_the_cascade_stands_in_for_yunet(monkeypatch, capsys):
    monkeypatch.setattr(detectors, "failed_lately", lambda _: True)
    detectors.note_haar.cache_clear()  # as in a new process
    for _ in range(2):
        assert detectors.choose_detector(None) == ("haar", None)
    assert capsys.readouterr().err == f"{detectors.NO_YUNET}\n"
