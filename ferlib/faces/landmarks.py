"""Five landmarks of faces that fill their picture, as those of data sets do, and the frame of a face that they give."""

from __future__ import annotations

import numpy as np

from ferlib.faces.crops import DetectedFace
from ferlib.faces.detection import Search, search_padded

# Medians over 1,475 of 1,500 training faces of FER2013, as shares of the picture's side, in the order of
# crops.LANDMARKS; in the others YuNet found no face with a score of LEAST.
MEAN_LANDMARKS = np.array([(0.306, 0.381), (0.685, 0.378), (0.484, 0.591), (0.344, 0.761), (0.655, 0.761)])
LEAST = 0.6
# The frame of a face: the origin between the eyes, x from the left eye to the right one, whose distance is 1, y down.
# Medians of the same faces, made symmetric.
FRAME_LANDMARKS = np.array([(-0.5, 0), (0.5, 0), (0, 0.58), (-0.41, 1.05), (0.41, 1.05)])
FLATTEST = 0.2  # of the frame's two axes: the shorter as a share of the longer one; flatter ones are no face's


def find_landmarks(pictures: np.ndarray, search: Search) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks float64 N×5×2 of pictures uint8 N×S×S×3 as shares of the side, and bool N whether they were found.

    search: of a detector with landmarks. Of several faces the one nearest to the picture's size counts; where none is
    found, or none that could be one, the landmarks are MEAN_LANDMARKS.
    """
    landmarks = np.repeat(MEAN_LANDMARKS[None], len(pictures), 0)
    found = np.zeros(len(pictures), bool)
    for number, picture in enumerate(pictures):
        faces = [face for face in search_padded(search, picture) if is_usable(face, len(picture))]
        if faces:
            best = max(faces, key=lambda face: face.score * face.area)
            landmarks[number], found[number] = np.asarray(best.landmarks) / len(picture), True
    return landmarks, found


def is_usable(face: DetectedFace, side: int) -> bool:
    """Whether a detection is sure, and has landmarks that span a frame."""
    if face.landmarks is None or face.score < LEAST:
        return False
    axes = frame_matrix(face.landmarks / side)[:, :2]
    longest, shortest = np.linalg.svd(axes, compute_uv=False)
    return bool(np.linalg.det(axes) > 0 and shortest > FLATTEST * longest)


def frame_matrix(landmarks: np.ndarray) -> np.ndarray:
    """float64 2×3: the affine map from the frame of a face to where its landmarks 5×2 lie, by least squares."""
    frame = np.column_stack([FRAME_LANDMARKS, np.ones(len(FRAME_LANDMARKS))])
    return np.linalg.lstsq(frame, landmarks, rcond=None)[0].T


def to_frame(landmarks: np.ndarray, side: int) -> np.ndarray:
    """float64 side×side×2: where each pixel's centre lies in the frame of the face with these landmarks."""
    matrix = frame_matrix(landmarks)
    centres = (np.arange(side) + 0.5) / side
    places = np.stack(np.meshgrid(centres, centres), axis=-1)
    return (places - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T


def crop_landmarks(landmarks: np.ndarray, share: float) -> np.ndarray:
    """Landmarks of the picture in its central square whose side is `share` of the picture's."""
    return 0.5 + (landmarks - 0.5) / share
