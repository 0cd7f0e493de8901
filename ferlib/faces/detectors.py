"""Finds the faces in photos and frames, with where their eyes are; YuNet, RetinaFace or the Haar cascade."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock

import cv2
import numpy as np

from ferlib.faces.crops import DetectedFace as DetectedFace
from ferlib.faces.crops import crop_face as crop_face
from ferlib.faces.crops import crop_matrix as crop_matrix
from ferlib.faces.crops import crop_outline as crop_outline
from ferlib.faces.crops import head_angle as head_angle
from ferlib.faces.crops import spread_map as spread_map
from ferlib.faces.crops import whole_face as whole_face
from ferlib.faces.weights import Weights, find_weights
from ferlib.runtime.errors import UserError, lookup

SIDES = (640, 1600)  # longest sides at which a picture is searched: large faces are found at the first
FINE_FACE = 100  # pixels: side below which faces are taken from the finer searches
SMALLEST_SIDE = 320  # to which smaller pictures are scaled up
SHORTEST_SIDE = 64  # of what the networks are given: of less, OpenCV's YuNet makes faces of nothing
GREY = (128, 128, 128)  # beyond the picture
MARGIN = 0.25  # of the longest side: grey around a picture in which nothing was found, as a face may fill it
HAAR_NEIGHBOURS = 3  # windows at least that must agree
LOOK_SIDE = 224  # of the levelled window in which a face is looked at again
LOOK_WIDTH = 1.5  # of the window, against that of the face's crop
LOOK_SCORE = 0.5  # for a face that is known to be there
LOOKS = 2  # at most
STILL = math.radians(2)  # a change of the tilt below which no further look is needed
MAX_OVERLAP = 0.3  # intersection over union of two boxes above which they are one face


# ── the detectors: a picture uint8 H×W×3 RGB and the lowest score → faces ────────────────────────────────────────────

Search = Callable[[np.ndarray], list[DetectedFace]]


def open_yunet(weights: Path, min_score: float) -> Search:
    """YuNet: Wu, Peng & Yu, "YuNet: A tiny millisecond-level face detector" (2023), as OpenCV runs it."""
    try:
        network = cv2.FaceDetectorYN.create(str(weights), "", (320, 320), min_score, MAX_OVERLAP, 500)
    except cv2.error as error:
        raise UserError(f"{weights} is not a YuNet that OpenCV {cv2.__version__} can read: {error.err}") from error

    def search(picture: np.ndarray) -> list[DetectedFace]:
        network.setInputSize((picture.shape[1], picture.shape[0]))
        rows = network.detect(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1]
        return [read_yunet(row) for row in rows] if rows is not None else []

    return search


def read_yunet(row: np.ndarray) -> DetectedFace:
    """Its 15 numbers: box, landmarks, score."""
    return DetectedFace(tuple(row[:4].tolist()), float(min(row[14], 1)), row[4:14].reshape(5, 2).copy())


def open_retinaface(weights: Path, min_score: float) -> Search:
    """RetinaFace with a MobileNet (architectures/retinaface.py), on the CPU."""
    import torch  # here, as the other detectors do without it

    from ferlib.faces.retinaface import RetinaFace, find_faces

    network = RetinaFace().eval()
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
        network.load_state_dict({name.removeprefix("module."): value for name, value in state.items()})
    except Exception as error:  # whatever unpickling and loading raise: the file is another one
        raise UserError(f"{weights} does not hold RetinaFace-MobileNet0.25: {str(error).splitlines()[0]}") from error
    network = network.to(memory_format=torch.channels_last)

    def search(picture: np.ndarray) -> list[DetectedFace]:
        found = find_faces(network, torch.from_numpy(np.ascontiguousarray(picture)), min_score)
        return [read_retinaface(*row) for row in zip(*(values.numpy() for values in found), strict=True)]

    return search


def read_retinaface(corners: np.ndarray, score: np.float32, landmarks: np.ndarray) -> DetectedFace:
    left, top, right, bottom = corners.tolist()
    return DetectedFace((left, top, right - left, bottom - top), float(score), landmarks)


def open_haar(weights: Path | None, min_score: float) -> Search:
    """Viola & Jones, "Rapid object detection using a boosted cascade of simple features" (2001), OpenCV's cascade.

    No landmarks: it finds upright faces only, of which OpenCV's cascade of eyes would tell the tilt no better than 0.
    """
    cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_alt2.xml")

    def search(picture: np.ndarray) -> list[DetectedFace]:
        grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        found = cascade.detectMultiScale2(grey, 1.1, HAAR_NEIGHBOURS, minSize=(24, 24))
        faces = [read_haar(*row) for row in zip(*found, strict=True)]
        return [face for face in faces if face.score >= min_score]

    return search


def read_haar(box: np.ndarray, neighbours: int) -> DetectedFace:
    """The score grows with the windows nearby in which the cascade saw a face too: from 0.5 with the fewest allowed."""
    return DetectedFace(tuple(box.astype(float).tolist()), 1 - 0.5 ** (int(neighbours) / HAAR_NEIGHBOURS))


@dataclass(frozen=True)
class DetectorKind:
    """A row of DETECTORS."""

    title: str
    open: Callable[[Path | None, float], Search]
    min_score: float  # below which a find is left out
    weights: Weights | None = None
    looks_again: bool = False  # for landmarks that can be trusted


DETECTORS = {
    "yunet": DetectorKind(
        "YuNet",
        open_yunet,
        min_score=0.6,
        weights=Weights(
            "face_detection_yunet_2026may.onnx",
            "ebafce4e3c118d6554634be5c27ab333b4c047a9a8c3faf1d7cf93101c22f0f0",
            urls=(
                "https://github.com/opencv/opencv_zoo/raw/main/models/face_detection_yunet/"
                "face_detection_yunet_2026may.onnx",
                "https://huggingface.co/opencv/face_detection_yunet/resolve/main/face_detection_yunet_2026may.onnx",
            ),
            source="https://github.com/opencv/opencv_zoo/tree/main/models/face_detection_yunet",
        ),
        looks_again=True,
    ),
    "retinaface": DetectorKind(
        "RetinaFace-MobileNet0.25",
        open_retinaface,
        min_score=0.8,
        weights=Weights(
            "retinaface_mobilenet0.25_Final.pth",
            "2979b33ffafda5d74b6948cd7a5b9a7a62f62b949cef24e95fd15d2883a65220",
            source="https://github.com/biubug6/Pytorch_Retinaface",
        ),
    ),
    "haar": DetectorKind("Haar cascade", open_haar, min_score=0.5),
}


# ── a picture of any size ────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Detector:
    """Finds the faces of a picture of any size: detector(picture uint8 H×W×3 RGB) → faces, the largest first."""

    name: str
    search: Search
    min_score: float
    sides: Sequence[int] = SIDES
    look: Search | None = None  # by which each face is looked at again
    lock: Lock = field(default_factory=Lock)  # OpenCV's detectors keep state; pages ask from several threads

    def __call__(self, picture: np.ndarray) -> list[DetectedFace]:
        check_picture(picture)
        longest = max(picture.shape[:2])
        first, *finer = sorted({max(min(side, longest), SMALLEST_SIDE) for side in self.sides})
        with self.lock:
            found = search_at(self.search, picture, first)
            for side in finer:
                found += [face for face in search_at(self.search, picture, side) if self.is_sure(face, side / longest)]
            faces = merge(found) or merge(search_framed(self.search, picture))
            if self.look:
                faces = [look_again(self.look, picture, face) for face in faces]
        return sorted(faces, key=lambda face: -face.area)

    def is_sure(self, face: DetectedFace, factor: float) -> bool:
        """Of a face found at a finer scale: small there, as larger ones were found before, and of half the doubt.

        The finer the scale, the more there is to take for a face.
        """
        return face.score >= (1 + self.min_score) / 2 and math.sqrt(face.area) * factor < FINE_FACE


def check_picture(picture: np.ndarray) -> None:
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
        raise ValueError(f"faces are sought in uint8 H×W×3, not in {picture.dtype} {picture.shape}")


def search_at(search: Search, picture: np.ndarray, side: int) -> list[DetectedFace]:
    """Faces of the picture, found with its longest side scaled to `side`."""
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


def search_framed(search: Search, picture: np.ndarray) -> list[DetectedFace]:
    """Faces of the picture within a grey frame, as detectors expect something around a face."""
    margin = math.ceil(MARGIN * max(picture.shape[:2]))
    framed = cv2.copyMakeBorder(picture, *[margin] * 4, cv2.BORDER_CONSTANT, value=GREY)
    return [face.moved((1, 1), (-margin, -margin)) for face in search_at(search, framed, SMALLEST_SIDE)]


def look_again(search: Search, picture: np.ndarray, face: DetectedFace) -> DetectedFace:
    """The face with landmarks that were found with it large and, as far as its tilt is known, upright.

    YuNet's landmarks follow a tilted head by a quarter of the way only, the less the smaller the face: in FER2013's
    faces tilted by 20° it sees 5°, and 15° after this (benchmarks/bench_faces.py).
    """
    for _ in range(LOOKS):
        edge = (1 - LOOK_WIDTH) * LOOK_SIDE / 2
        matrix = crop_matrix(face, LOOK_SIDE) @ np.array([(LOOK_WIDTH, 0, edge), (0, LOOK_WIDTH, edge), (0, 0, 1)])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        window = cv2.warpAffine(picture, matrix, (LOOK_SIDE, LOOK_SIDE), flags=flags, borderValue=GREY)
        found = [other for other in search(window) if is_central(other)]
        if not found:
            return face
        before, landmarks = head_angle(face), max(found, key=lambda other: other.score).landmarks
        face = replace(face, landmarks=((landmarks - 0.5) @ matrix[:, :2].T + matrix[:, 2] + 0.5).astype(np.float32))
        if abs(head_angle(face) - before) < STILL:
            return face
    return face


def is_central(face: DetectedFace) -> bool:
    """Whether it is the one in the middle of a window, and not a neighbour."""
    x, y, width, height = face.box
    return max(abs(x + width / 2 - LOOK_SIDE / 2), abs(y + height / 2 - LOOK_SIDE / 2)) < LOOK_SIDE / 8


def merge(faces: Sequence[DetectedFace]) -> list[DetectedFace]:
    """Of finds that overlap the one with the best score."""
    if not faces:
        return []
    boxes, scores = [face.box for face in faces], [face.score for face in faces]
    return [faces[row] for row in cv2.dnn.NMSBoxes(boxes, scores, 0.0, MAX_OVERLAP)]


def open_detector(
    name: str = "auto",
    weights: Path | None = None,
    min_score: float | None = None,
    sides: Sequence[int] = SIDES,
    look_again: bool = True,
) -> Detector:
    """A detector of DETECTORS; "auto" takes YuNet, or the Haar cascade and says so where no weights can be had.

    weights: a file instead of the cached or downloaded one. min_score: 0..1, by default the detector's own. sides: the
    longest sides at which larger pictures are searched; one alone is faster and misses small faces. look_again: whether
    YuNet looks at each face again, some 2 ms, to see how far the head is tilted. UserError for unknown names, missing
    weights and files that hold something else.
    """
    if name == "auto":
        name, weights = choose_detector(weights)
    kind = lookup(DETECTORS, name, "detector")
    path = find_weights(weights, kind.weights) if kind.weights else None
    least = kind.min_score if min_score is None else min_score
    look = kind.open(path, LOOK_SCORE) if look_again and kind.looks_again else None
    return Detector(name, kind.open(path, least), least, sides, look)


def choose_detector(weights: Path | None) -> tuple[str, Path | None]:
    """YuNet with its weights, RetinaFace where those given are such, else the Haar cascade."""
    if weights is not None:
        return ("retinaface" if Path(weights).suffix in (".pth", ".pt") else "yunet"), weights
    try:
        return "yunet", find_weights(None, DETECTORS["yunet"].weights)
    except UserError as error:
        print(f"faces are sought with the Haar cascade, which misses more of them: {error}", file=sys.stderr)
        return "haar", None
