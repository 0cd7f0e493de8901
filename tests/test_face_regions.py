"""faces/landmarks.py, explanations/face_regions.py, region_fills.py, warping.py: regions where they lie on a face."""

import numpy as np
import pytest
import torch

from ferlib.data.synthetic.faces import draw_faces
from ferlib.explanations.face_regions import ELEVEN, LEFT_EYE, MOUTH, NOSE, RIGHT_EYE, SURROUND, TEN, regions_of
from ferlib.explanations.region_fills import make_fills, placer
from ferlib.explanations.warping import into_frame, onto, out_of_frame
from ferlib.faces.crops import DetectedFace
from ferlib.faces.landmarks import (
    FRAME_LANDMARKS,
    MEAN_LANDMARKS,
    crop_landmarks,
    find_landmarks,
    frame_matrix,
    to_frame,
)


def turn(landmarks, degrees, scale=1.0):
    angle = np.radians(degrees)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (landmarks - 0.5) @ rotation.T * scale + 0.5


def named(regions, names, place):
    """The region at a place (x, y) as shares of the side."""
    row, column = (np.array(place)[::-1] * len(regions)).astype(int)
    return names[regions[row, column]]


@pytest.mark.parametrize("degrees", [0, 25, -40, 180])
@pytest.mark.parametrize("names", [TEN, ELEVEN])
def test_landmarks_lie_in_their_regions(degrees, names):
    landmarks = turn(MEAN_LANDMARKS, degrees, 0.8)
    regions = regions_of(landmarks, 96, "ten" if names is TEN else "eleven")
    found = [named(regions, names, place) for place in landmarks]
    assert found == [LEFT_EYE, RIGHT_EYE, NOSE, MOUTH, MOUTH]
    assert {names[number] for number in np.unique(regions)} == set(names)
    assert regions.dtype == np.int16


def test_the_brows_count_one_by_one_in_eleven_regions():
    ten, eleven = (regions_of(MEAN_LANDMARKS, 96, name) for name in ("ten", "eleven"))
    brows = ten == TEN.index("brows")
    assert {ELEVEN[number] for number in np.unique(eleven[brows])} == {"left brow", "right brow"}
    assert np.array_equal(eleven[~brows] >= 3, ten[~brows] >= 2)
    left = eleven == ELEVEN.index("left brow")
    assert left[:, :48].sum() > 0.9 * left.sum()


def test_a_turned_face_has_turned_regions():
    upright = regions_of(MEAN_LANDMARKS, 90)
    assert np.array_equal(regions_of(turn(MEAN_LANDMARKS, 180), 90), upright[::-1, ::-1])


def test_regions_outside_of_the_picture_have_no_pixels():
    close = (MEAN_LANDMARKS - MEAN_LANDMARKS[2]) * 6 + 0.5  # the nose fills the picture
    assert {TEN[number] for number in np.unique(regions_of(close, 48))} == {NOSE, MOUTH, "cheeks"}


def test_the_corners_of_an_average_picture_are_not_the_face():
    regions = regions_of(MEAN_LANDMARKS, 96)
    for place in ((0.01, 0.01), (0.99, 0.01), (0.01, 0.99), (0.99, 0.99)):
        assert named(regions, TEN, place) == SURROUND


def test_the_frame_fits_its_own_landmarks():
    matrix = frame_matrix(FRAME_LANDMARKS)
    np.testing.assert_allclose(matrix, [[1, 0, 0], [0, 1, 0]], atol=1e-12)
    moved = FRAME_LANDMARKS @ np.array([[0.3, 0.1], [-0.05, 0.4]]) + (0.5, 0.2)
    places = to_frame(moved, 1000)
    row, column = (moved[0][::-1] * 1000).astype(int)
    np.testing.assert_allclose(places[row, column], FRAME_LANDMARKS[0], atol=0.005)


def test_a_central_crop_moves_landmarks_outwards():
    np.testing.assert_allclose(crop_landmarks(np.array([[0.5, 0.25]]), 0.5), [[0.5, 0.0]])


def detector(*faces):
    """A search that finds the same faces, landmarks as shares of the padded picture's face area."""

    def search(picture):
        return [
            DetectedFace((0, 0, len(picture) / 2, len(picture) / 2), score, landmarks) for score, landmarks in faces
        ]

    return search


def test_faces_without_usable_landmarks_have_those_of_the_mean_face():
    pictures = np.zeros((2, 48, 48, 3), np.uint8)
    flat = np.float32([[10, 10], [90, 10], [50, 11], [20, 12], [80, 12]])
    mirrored = np.float32(MEAN_LANDMARKS[[1, 0, 2, 4, 3]] * 100)
    for faces in ([], [(0.5, np.float32(MEAN_LANDMARKS * 100))], [(0.9, flat)], [(0.9, mirrored)], [(0.9, None)]):
        landmarks, found = find_landmarks(pictures, detector(*faces))
        assert not found.any()
        np.testing.assert_array_equal(landmarks, [MEAN_LANDMARKS] * 2)
    landmarks, found = find_landmarks(pictures, detector((0.9, np.float32(MEAN_LANDMARKS * 100))))
    assert found.all()


def test_a_face_moved_into_the_frame_and_back_is_the_same():
    face = torch.from_numpy(draw_faces(1, 64, workers=1).images).permute(0, 3, 1, 2)[0].float() / 255
    back = out_of_frame(into_frame(face, MEAN_LANDMARKS, 256), MEAN_LANDMARKS, 64)
    assert (back - face)[:, 8:-8, 8:-8].abs().mean() < 0.02
    same = onto(face, MEAN_LANDMARKS, MEAN_LANDMARKS, 64)
    torch.testing.assert_close(same, face, atol=1e-4, rtol=0)
    turned = onto(face, MEAN_LANDMARKS, turn(MEAN_LANDMARKS, 180), 64)
    torch.testing.assert_close(turned, face.flip(1, 2), atol=1e-4, rtol=0)


def test_fills():
    images = torch.rand(2, 1, 24, 24, generator=torch.Generator().manual_seed(0))
    background = torch.full((3, 1, 24, 24), 0.25)
    place = placer(None, 1.0, "ten")
    placed = place(images)
    assert not placed.found.any()
    assert placed.regions.shape == (2, 24, 24)
    fills = make_fills("0.7", place, lambda: background)
    assert list(fills) == ["0.7", "grey", "mean", "blur", "background"]
    filled = {name: fill(images, placed.landmarks) for name, fill in fills.items()}
    assert all(each.shape == images.shape for each in filled.values())
    assert filled["0.7"].unique().tolist() == pytest.approx([0.7])
    torch.testing.assert_close(filled["background"], torch.full_like(images, 0.25))
    assert list(make_fills("background", place, lambda: background)) == ["grey", "mean", "blur", "background"]


def test_the_mean_face_is_that_of_faces_in_one_place():
    """Faces turned by ± 30° average to the face that is upright."""
    face = torch.from_numpy(draw_faces(1, 64, workers=1).images).permute(0, 3, 1, 2)[0].float() / 255
    landmarks = np.stack([turn(MEAN_LANDMARKS, degrees, 0.7) for degrees in (30, -30)])
    faces = torch.stack([onto(face, MEAN_LANDMARKS, points, 64) for points in landmarks])

    class Placed:
        pass

    placed = Placed()
    placed.landmarks = landmarks
    mean = make_fills("background", lambda _: placed, lambda: faces)["background"](face[None], MEAN_LANDMARKS[None])[0]
    assert (mean - face)[:, 12:-12, 12:-12].abs().mean() < 0.04
