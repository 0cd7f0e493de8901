"""Heads of any size and turn: tiles of large pictures, quarter turns, sideways videos; geometry with known answers."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import skimage.data

from ferlib.faces.crops import DetectedFace, crop_face, head_angle
from ferlib.faces.detection import Detector, checked, tile_starts, turn_back
from ferlib.faces.detectors import open_detector
from ferlib.faces.photo_rows import describe_photo
from ferlib.faces.photos import Photo
from ferlib.faces.predictions import FacePrediction
from ferlib.runtime.errors import UserError
from ferlib.video.sources import Folder
from ferlib.video.turning import common_turn, upright
from test_faces import weights_of

EYES = np.array([(2, 2), (5, 2), (3.5, 4), (2, 5), (5, 5)], np.float32)


@pytest.fixture(scope="module")
def astronaut():
    return skimage.data.astronaut()


@pytest.fixture(scope="module", params=["yunet", "haar"])
def detector(request):
    return open_detector(request.param, weights_of(request.param))


def bright_squares(picture):
    """A search that takes each white spot for a face with level eyes, of the spot's own size."""
    spots = cv2.connectedComponentsWithStats((picture.min(2) > 200).astype(np.uint8))[2][1:]
    return [DetectedFace((float(x), float(y), float(w), float(h)), 0.95) for x, y, w, h, _ in spots]


def notes_of(picture, faces, detector):
    items = [FacePrediction(face, np.full(7, 1 / 7), np.zeros((4, 4, 3), np.uint8)) for face in faces]
    return describe_photo("p.png", Photo(picture), items, detector)["notes"]


# ── large pictures ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("side", [1601, 2000, 8000, 12_345])
def test_tiles_cover_a_side_and_share_more_than_a_face(side):
    length, tiles = tile_starts(side)
    starts, firsts, lasts = zip(*tiles, strict=True)
    assert length <= 1600
    assert (starts[0], starts[-1] + length) == (0, side)
    assert firsts[1:] == lasts[:-1]
    for start, following, end in zip(starts, starts[1:], lasts, strict=False):
        assert start + length - following >= 190
        assert following + 90 <= end <= start + length - 90


def test_each_face_of_a_large_picture_is_found_once_and_in_place():
    picture = np.zeros((1500, 12_000, 3), np.uint8)
    places = [(x, y) for x in range(100, 11_900, 331) for y in (40, 700, 1400)]
    for x, y in places:
        picture[y : y + 60, x : x + 60] = 255
    detector = Detector("stub", lambda part: [f for f in bright_squares(part) if f.box[2] >= 24], 0.6, fine_pixels=20e6)
    found = sorted(face.box[:2] for face in detector(picture))
    assert np.abs(np.array(found) - sorted(places)).max() < 3
    assert len(replace(detector, fine_pixels=0)(picture)) == 0
    assert detector.smallest_face(picture) == pytest.approx(48)


def test_what_is_too_small_is_said():
    stub = Detector("stub", lambda part: [], 0.6, fine_pixels=20e6)
    for shape, smallest in (((512, 512), None), ((1200, 1600), None), ((1500, 2000), 30), ((1500, 16_000), 48)):
        picture = np.zeros((*shape, 3), np.uint8)
        sizes = [note for note in notes_of(picture, [], stub) if "searched" in note]
        assert sizes == ([f"faces below about {smallest} px are not searched for"] if smallest else [])
    coarse = replace(stub, fine_pixels=4e6)
    assert coarse.smallest_face(np.zeros((1500, 16_000, 3), np.uint8)) == pytest.approx(24 / (4e6 / 24e6) ** 0.5)


def test_the_faces_of_a_panorama(astronaut):
    head = cv2.resize(astronaut[0:230, 90:360], (300, 256), interpolation=cv2.INTER_AREA)  # a face of 102 pixels
    picture = cv2.resize(skimage.data.coffee(), (10_400, 700))
    lefts = range(100, 10_100, 1250)
    for left in lefts:
        picture[200:456, left : left + 300] = head
    detector = open_detector("yunet", weights_of("yunet"))
    found = sorted(face.box[0] for face in detector(picture))
    assert np.abs(np.array(found) - [left + 98 for left in lefts]).max() < 20
    assert replace(detector, fine_pixels=0)(picture) == []


def test_a_picture_longer_than_opencv_samples():
    """The window of a face in 40,000 pixels is that of the same face in a part of them, border included."""
    long = np.random.default_rng(0).integers(0, 256, (60, 40_000, 3), np.uint8)
    for left in (-10, 5, 20_000, 39_970):
        face = DetectedFace((left, 8, 40, 44), 0.9, EYES * 8 + np.float32([left, 8]))
        start = min(max(left - 100, 0), 39_700)
        part = replace(face.moved((1, 1), (-start, 0)))
        assert np.array_equal(crop_face(long, face, 48), crop_face(long[:, start : start + 300].copy(), part, 48))


# ── turned heads ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_a_face_turned_with_its_picture_is_where_its_pixels_are(turn):
    picture = np.random.default_rng(0).integers(0, 256, (30, 50, 3), np.uint8)
    face = DetectedFace((12, 3, 7, 9), 0.9)
    other = face.turned(turn, (30, 50))
    turned = np.rot90(picture, -turn // 90)
    x, y, width, height = map(int, other.box)
    patch = np.rot90(turned[y : y + height, x : x + width], turn // 90)
    assert np.array_equal(patch, picture[3:12, 12:19])
    assert other.turn == turn
    assert np.cos(head_angle(other)) == pytest.approx(np.cos(np.radians(turn)))
    with_eyes = replace(face, landmarks=EYES + np.float32([12, 3])).turned(turn, (30, 50))
    assert np.exp(1j * head_angle(with_eyes)) == pytest.approx(np.exp(1j * np.radians(turn)))
    assert np.array_equal(turn_back(turned, turn), picture)


def test_an_upright_photo_is_read_as_before(detector, astronaut):
    (face,) = detector(astronaut)
    (before,) = replace(detector, turns=False, fine_pixels=0)(astronaut)
    assert (face.box, face.score, face.turn) == (before.box, before.score, 0)
    assert face.landmarks is None or np.array_equal(face.landmarks, before.landmarks)
    assert notes_of(astronaut, [face], detector) == []


def test_an_upright_photo_costs_no_more_searches(astronaut):
    inner, calls = open_detector("yunet", weights_of("yunet")), []

    def counted(picture):
        calls.append(picture.shape)
        return inner.search(picture)

    replace(inner, search=counted)(astronaut)
    assert calls == [(512, 512, 3)]


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_a_turned_photo_gives_the_upright_crop(detector, astronaut, turn):
    picture = np.ascontiguousarray(np.rot90(astronaut, -turn // 90))
    (face,), (before,) = detector(picture), detector(astronaut)
    if (detector.name, turn) == ("haar", 180):
        assert face.score == pytest.approx(before.score)
    assert face.turn == turn
    difference = crop_face(picture, face, 48).astype(int) - crop_face(astronaut, before, 48)
    assert np.abs(difference).mean() < 1
    sides = {90: "90° to the left", 180: "180°", 270: "90° to the right"}
    assert notes_of(picture, [face], detector) == [f"turned by {sides[turn]} for detection"]


def test_one_head_that_stands_on_its_head_beside_an_upright_one(astronaut):
    picture = np.full((520, 1080, 3), 120, np.uint8)
    picture[:512, :512], picture[:512, 560:1072] = astronaut, np.rot90(astronaut, 2)
    detector = open_detector("yunet", weights_of("yunet"))
    faces = sorted(detector(picture), key=lambda face: face.box[0])
    assert [face.turn for face in faces] == [0, 180]
    assert notes_of(picture, faces, detector) == ["for 1 of 2 faces turned by 180° for detection"]
    crops = [crop_face(picture, face, 48).astype(int) for face in faces]
    assert np.abs(crops[0] - crops[1]).mean() < 25  # of 58 where one stays on its head


# ── damaged detectors ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "face",
    [
        DetectedFace((np.nan, 0, 5, 5), 0.9),
        DetectedFace((0, 0, 5, 0), 0.9),
        DetectedFace((0, 0, 1e9, 5), 0.9),
        DetectedFace((0, 0, 5, 5), np.nan),
        DetectedFace((0, 0, 5, 5), 0.9, np.full((5, 2), np.inf, np.float32)),
    ],
)
def test_impossible_boxes_are_an_error(face):
    with pytest.raises(UserError, match=r"weights\.onnx gives boxes that are impossible"):
        checked(lambda picture: [face], "weights.onnx")(np.zeros((8, 8, 3), np.uint8))


def test_what_opencv_cannot_run_is_an_error():
    with pytest.raises(UserError, match=r"weights\.onnx cannot be run as a face detector"):
        checked(lambda picture: [cv2.resize(picture, (0, 0))], "weights.onnx")(np.zeros((8, 8, 3), np.uint8))


# ── videos ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_sideways_video_is_turned_once(tmp_path, astronaut, capsys):
    small = cv2.resize(astronaut, (256, 256), interpolation=cv2.INTER_AREA)
    for number in range(12):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.rot90(small, -1)[:, 56:, ::-1])
    detector = replace(open_detector("haar"), sides=(320,))
    source = upright(Folder(tmp_path), detector)
    frames = list(source.frames())
    assert (len(frames), source.length, source.live) == (12, 12, False)
    assert np.array_equal(frames[5].picture, small[:200])
    assert "is turned by 270° clockwise" in capsys.readouterr().err


def test_an_upright_video_and_a_camera_are_left_alone(tmp_path, astronaut, capsys):
    cv2.imwrite(str(tmp_path / "0.png"), astronaut[..., ::-1])
    source = Folder(tmp_path)
    assert upright(source, open_detector("haar")) is source
    source.live = True
    assert upright(source, None) is source
    assert capsys.readouterr().err == ""


def test_the_turn_of_most_first_frames_counts():
    def seen(*turns):
        frames = [type("Frame", (), {"picture": turn}) for turn in turns]
        return common_turn(frames, lambda turn: [] if turn is None else [DetectedFace((0, 0, 9, 9), 0.9, turn=turn)])

    assert seen(None, 90, 90, 0, 0, 0) == 90  # three frames with a face decide
    assert seen(90) == seen(None, 90, 90) == 90
    assert seen(90, 180, 270) == seen(None, None) == seen() == seen(None, 90, None) == 0
