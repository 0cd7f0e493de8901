"""The Haar cascade: Viola & Jones, "Rapid object detection using a boosted cascade of simple features" (2001).

Its file comes with OpenCV. It finds upright faces only and gives no landmarks; OpenCV's cascade of eyes gives the
tilt of a head no more accurately than 0°.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import cv2.data
import numpy as np

from ferlib.faces.crops import DetectedFace
from ferlib.faces.detection import Search

NEIGHBOURS = 3  # overlapping windows at least that the cascade must accept
SMALLEST_FACE = 24  # pixels of its side


def open_haar(_weights: Path | None, min_score: float) -> Search:
    """Detections with a score of `min_score` or more; OpenCV brings the weights."""
    cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_alt2.xml")

    def search(picture: np.ndarray) -> list[DetectedFace]:
        grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        boxes, neighbours = cascade.detectMultiScale2(grey, 1.1, NEIGHBOURS, minSize=(SMALLEST_FACE, SMALLEST_FACE))
        faces = [to_face(box, count) for box, count in zip(np.asarray(boxes), neighbours, strict=True)]
        return [face for face in faces if face.score >= min_score]

    return search


def to_face(box: np.ndarray, neighbours: int) -> DetectedFace:
    """The score rises with the number of overlapping accepted windows, from 0.5 at NEIGHBOURS towards 1."""
    return DetectedFace(tuple(box.astype(float).tolist()), 1 - 0.5 ** (int(neighbours) / NEIGHBOURS))
