"""YuNet: Wu, Peng & Yu, "YuNet: A tiny millisecond-level face detector" (2023), as OpenCV runs it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from ferlib.faces.crops import DetectedFace
from ferlib.faces.detection import MAX_OVERLAP, Search
from ferlib.runtime.errors import UserError

CANDIDATES = 5000  # detections at most before those of one face are merged; a face gives about ten


def open_yunet(weights: Path, min_score: float) -> Search:
    """Detections with a score of `min_score` or more, with five landmarks; UserError for a file of another kind."""
    try:
        network = cv2.FaceDetectorYN.create(str(weights), "", (320, 320), min_score, MAX_OVERLAP, CANDIDATES)
    except cv2.error as error:
        raise UserError(f"{weights} is not a YuNet that OpenCV {cv2.__version__} can read: {error.err}") from error

    def search(picture: np.ndarray) -> list[DetectedFace]:
        network.setInputSize((picture.shape[1], picture.shape[0]))
        rows = network.detect(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1]
        return [parse_row(row) for row in rows] if rows is not None else []

    return search


def parse_row(row: np.ndarray) -> DetectedFace:
    """A row of 15 numbers: box, landmarks, score."""
    return DetectedFace(tuple(row[:4].tolist()), float(min(row[14], 1)), row[4:14].reshape(5, 2).copy())
