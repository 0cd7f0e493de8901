"""Detection at several scales of a picture: detections merged, landmarks refined, faces sorted by size."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from threading import Lock

import cv2
import numpy as np

from ferlib.faces.crops import DetectedFace, crop_matrix, head_angle

Search = Callable[[np.ndarray], list[DetectedFace]]  # a picture uint8 H×W×3 RGB → the faces found at its own scale

SIDES = (640, 1600)  # pixels of the longest side at which a picture is searched: large faces are found at the first
FINE_FACE = 100  # pixels: side below which faces are taken from the finer scales
SMALLEST_SIDE = 320  # pixels of the longest side to which smaller pictures are enlarged
SHORTEST_SIDE = 64  # pixels of a network's input: below, OpenCV's YuNet finds faces in empty pictures
GREY = (128, 128, 128)  # of padding
MARGIN = 0.25  # of the longest side: padding of a picture without detections, as a face may fill it
MAX_OVERLAP = 0.3  # intersection over union of two boxes above which they are one face
REFINE_SIDE = 224  # pixels of the window in which landmarks are refined
REFINE_WIDTH = 1.5  # side of the window as a multiple of the face crop's
REFINE_PASSES = 2  # at most
REFINE_TOLERANCE = math.radians(2)  # a change of the head's angle below which the refinement ends


@dataclass(frozen=True)
class Detector:
    """Detects the faces of a picture of any size: detector(picture uint8 H×W×3 RGB) → faces, the largest first."""

    name: str
    search: Search
    min_score: float  # 0..1, that of `search`
    sides: Sequence[int] = SIDES  # pixels of the longest side at which larger pictures are searched
    refiner: Search | None = None  # detects the face again in a levelled window
    lock: Lock = field(default_factory=Lock)  # OpenCV's detectors keep state and are called from several threads

    def __call__(self, picture: np.ndarray) -> list[DetectedFace]:
        """Faces in the picture's pixels; ValueError for arrays other than uint8 H×W×3."""
        check_picture(picture)
        longest = max(picture.shape[:2])
        first, *finer = sorted({max(min(side, longest), SMALLEST_SIDE) for side in self.sides})
        with self.lock:
            found = search_at(self.search, picture, first)
            for side in finer:
                detections = search_at(self.search, picture, side)
                found += [face for face in detections if self.accepts_fine(face, side / longest)]
            faces = merge(found) or merge(search_padded(self.search, picture))
            if self.refiner:
                faces = [refine_landmarks(self.refiner, picture, face) for face in faces]
        return sorted(faces, key=lambda face: -face.area)

    def accepts_fine(self, face: DetectedFace, factor: float) -> bool:
        """Whether a detection at a finer scale counts: small at that scale, and with half of the allowed doubt.

        Larger faces are found at the coarser scale, and finer scales give more false detections.
        """
        return face.score >= (1 + self.min_score) / 2 and math.sqrt(face.area) * factor < FINE_FACE


def check_picture(picture: np.ndarray) -> None:
    """ValueError for arrays other than uint8 H×W×3."""
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
        raise ValueError(f"faces are detected in uint8 H×W×3, not in {picture.dtype} {picture.shape}")


def search_at(search: Search, picture: np.ndarray, side: int) -> list[DetectedFace]:
    """Faces found with the picture's longest side scaled to `side`, in pixels of the picture itself."""
    height, width = picture.shape[:2]
    factor = side / max(height, width)
    size = max(round(width * factor), 1), max(round(height * factor), 1)
    scaled = picture
    if size != (width, height):
        scaled = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
    below, beside = max(SHORTEST_SIDE - size[1], 0), max(SHORTEST_SIDE - size[0], 0)
    if below or beside:
        scaled = cv2.copyMakeBorder(scaled, 0, below, 0, beside, cv2.BORDER_CONSTANT, value=GREY)
    return [face.moved((width / size[0], height / size[1]), (0, 0)) for face in search(scaled)]


def search_padded(search: Search, picture: np.ndarray) -> list[DetectedFace]:
    """Faces found with grey padding around the picture: detectors expect some background around a face."""
    margin = math.ceil(MARGIN * max(picture.shape[:2]))
    padded = cv2.copyMakeBorder(picture, margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=GREY)
    return [face.moved((1, 1), (-margin, -margin)) for face in search_at(search, padded, SMALLEST_SIDE)]


def refine_landmarks(search: Search, picture: np.ndarray, face: DetectedFace) -> DetectedFace:
    """The face with landmarks detected in a window in which it is large and, by its landmarks so far, upright.

    YuNet's landmarks follow a tilted head by about a quarter of the angle, less for small faces: for FER2013's faces
    tilted by 20° they give 5°, and 15° after refinement (benchmarks/bench_faces.py).
    """
    for _ in range(REFINE_PASSES):
        matrix = window_matrix(face)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        window = cv2.warpAffine(picture, matrix, (REFINE_SIDE, REFINE_SIDE), flags=flags, borderValue=GREY)
        central = [other for other in search(window) if is_central(other)]
        best = max(central, key=lambda other: other.score, default=None)
        if best is None or best.landmarks is None:
            return face
        landmarks = (best.landmarks - 0.5) @ matrix[:, :2].T + matrix[:, 2] + 0.5
        before, face = head_angle(face), replace(face, landmarks=landmarks.astype(np.float32))
        if abs(head_angle(face) - before) < REFINE_TOLERANCE:
            return face
    return face


def window_matrix(face: DetectedFace) -> np.ndarray:
    """float64 2×3: from pixels of the face's refinement window to those of the picture."""
    edge = (1 - REFINE_WIDTH) * REFINE_SIDE / 2
    widened = np.array([(REFINE_WIDTH, 0, edge), (0, REFINE_WIDTH, edge), (0, 0, 1)])
    return crop_matrix(face, REFINE_SIDE) @ widened


def is_central(face: DetectedFace) -> bool:
    """Whether a detection lies in the middle of a refinement window; others are neighbours."""
    x, y, width, height = face.box
    return max(abs(x + width / 2 - REFINE_SIDE / 2), abs(y + height / 2 - REFINE_SIDE / 2)) < REFINE_SIDE / 8


def merge(faces: Sequence[DetectedFace]) -> list[DetectedFace]:
    """Non-maximum suppression: of detections that overlap, the one with the highest score."""
    if not faces:
        return []
    boxes, scores = [face.box for face in faces], [face.score for face in faces]
    return [faces[row] for row in cv2.dnn.NMSBoxes(boxes, scores, 0.0, MAX_OVERLAP)]
