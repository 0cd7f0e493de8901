"""Pixel-identical faces within and between splits."""

from __future__ import annotations

import numpy as np

from ferlib.data.face_data import FaceData
from ferlib.data.facts import SPLITS


def training_copies(data: FaceData, *, exclude_leaks: bool = False) -> np.ndarray:
    """bool N: which faces of the test split have a pixel-identical copy among the training faces.

    exclude_leaks: whether the training left out its faces that stand in val or test; then there is none.
    """
    faces = data.split("test")
    if exclude_leaks or not (data.splits == SPLITS.index("train")).any():
        return np.zeros(len(faces), dtype=bool)
    return find_copies(faces, data.split("train"))


def find_copies(faces: FaceData, others: FaceData) -> np.ndarray:
    """bool N: which of the N faces have a pixel-identical copy in `others`; none where the images differ in shape."""
    if faces.images.shape[1:] != others.images.shape[1:]:
        return np.zeros(len(faces), dtype=bool)
    known = {face.tobytes() for face in others.images}
    return np.array([face.tobytes() in known for face in faces.images], dtype=bool)


def copy_numbers(data: FaceData) -> np.ndarray:
    """int64 N: a number for each face, the same for pixel-identical ones."""
    return number_copies(data.images)


def number_copies(images: np.ndarray) -> np.ndarray:
    """int64 N: a number from 0 up for each picture N×…, in the order of their first, the same for identical ones."""
    numbers: dict[bytes, int] = {}
    found = (numbers.setdefault(image.tobytes(), len(numbers)) for image in images)
    return np.fromiter(found, np.int64, len(images))
