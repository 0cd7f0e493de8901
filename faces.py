"""Faces in photos and frames: detected, levelled by the eyes, cropped as the faces that the models were trained on."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock

import cv2
import numpy as np

from detector_weights import Weights, find_weights
from utils import UserError, lookup

SIDES = (640, 1600)  # longest sides at which a picture is searched: large faces are found at the first
FINE_FACE = 100  # pixels: side below which faces are taken from the finer searches
SMALLEST_SIDE = 320  # to which smaller pictures are scaled up
MARGIN = 0.25  # of the longest side: grey around a picture in which nothing was found, as a face may fill it
HAAR_NEIGHBOURS = 3  # windows at least that must agree
MAX_OVERLAP = 0.3  # intersection over union of two boxes above which they are one face


@dataclass(frozen=True)
class DetectedFace:
    """A face in a picture: box and landmarks in its pixels, the corner of the picture being (0, 0)."""

    box: tuple[float, float, float, float]  # x, y of the upper left corner, width, height
    score: float  # 0..1
    landmarks: np.ndarray | None = (
        None  # float32 5×2: left eye in the picture, right eye, nose, left and right corner of the mouth
    )

    @property
    def area(self) -> float:
        return self.box[2] * self.box[3]

    def moved(self, scale: tuple[float, float], shift: tuple[float, float]) -> DetectedFace:
        """In a picture of which this one is a scaled and then shifted part: x ↦ x · scale + shift."""
        x, y, width, height = self.box
        box = (x * scale[0] + shift[0], y * scale[1] + shift[1], width * scale[0], height * scale[1])
        landmarks = None if self.landmarks is None else (self.landmarks * scale + shift).astype(np.float32)
        return replace(self, box=box, landmarks=landmarks)


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

    from architectures.retinaface import RetinaFace, find_faces

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
    return [face.moved((width / size[0], height / size[1]), (0, 0)) for face in search(scaled)]


def search_framed(search: Search, picture: np.ndarray) -> list[DetectedFace]:
    """Faces of the picture within a grey frame, as detectors expect something around a face."""
    margin = math.ceil(MARGIN * max(picture.shape[:2]))
    framed = cv2.copyMakeBorder(picture, *[margin] * 4, cv2.BORDER_CONSTANT, value=(128, 128, 128))
    return [face.moved((1, 1), (-margin, -margin)) for face in search_at(search, framed, SMALLEST_SIDE)]


def merge(faces: Sequence[DetectedFace]) -> list[DetectedFace]:
    """Of finds that overlap the one with the best score."""
    if not faces:
        return []
    boxes, scores = [face.box for face in faces], [face.score for face in faces]
    return [faces[row] for row in cv2.dnn.NMSBoxes(boxes, scores, 0.0, MAX_OVERLAP)]


def open_detector(
    name: str = "auto", weights: Path | None = None, min_score: float | None = None, sides: Sequence[int] = SIDES
) -> Detector:
    """A detector of DETECTORS; "auto" takes YuNet, or the Haar cascade and says so where no weights can be had.

    weights: a file instead of the cached or downloaded one. min_score: 0..1, by default the detector's own. sides: the
    longest sides at which larger pictures are searched; one alone is faster and misses small faces. UserError for
    unknown names, missing weights and files that hold something else.
    """
    if name == "auto":
        name, weights = choose_detector(weights)
    kind = lookup(DETECTORS, name, "detector")
    path = find_weights(weights, kind.weights) if kind.weights else None
    least = kind.min_score if min_score is None else min_score
    return Detector(name, kind.open(path, least), least, sides)


def choose_detector(weights: Path | None) -> tuple[str, Path | None]:
    """YuNet with its weights, RetinaFace where those given are such, else the Haar cascade."""
    if weights is not None:
        return ("retinaface" if Path(weights).suffix in (".pth", ".pt") else "yunet"), weights
    try:
        return "yunet", find_weights(None, DETECTORS["yunet"].weights)
    except UserError as error:
        print(f"faces are sought with the Haar cascade, which misses more of them: {error}", file=sys.stderr)
        return "haar", None


# ── cropping ─────────────────────────────────────────────────────────────────────────────────────────────────────────

# Where YuNet's box lies in FER2013's own pictures, medians over 1,500 training faces: the square root of its area and
# its centre, as shares of the picture's side. benchmarks/bench_faces.py measures them.
BOX_SIDE = 0.904
BOX_CENTRE = (0.504, 0.519)
CLOSE_EYES = 0.15  # of the box's side: eyes nearer than that are those of a profile and say little of the head's tilt


def head_angle(face: DetectedFace) -> float:
    """Radians by which the line of the eyes falls to the right; 0 where it is not known."""
    if face.landmarks is None:
        return 0.0
    across, down = (face.landmarks[1] - face.landmarks[0]).tolist()
    return math.atan2(down, across) if math.hypot(across, down) > CLOSE_EYES * math.sqrt(face.area) else 0.0


def crop_matrix(face: DetectedFace, size: int) -> np.ndarray:
    """float64 2×3: from the pixels of a crop size×size to those of the picture, whose centres are whole numbers."""
    x, y, width, height = face.box
    centre = np.array([x + width / 2, y + height / 2])
    step = math.sqrt(face.area) / BOX_SIDE / size
    cosine, sine = step * math.cos(head_angle(face)), step * math.sin(head_angle(face))
    turn = np.array([[cosine, -sine], [sine, cosine]])
    start = centre - turn @ (np.array(BOX_CENTRE) * size - 0.5) - 0.5
    return np.concatenate([turn, start[:, None]], axis=1)


def crop_face(picture: np.ndarray, face: DetectedFace, size: int) -> np.ndarray:
    """The face, its eyes level, framed as FER2013's: picture uint8 H×W×3 RGB → uint8 size×size×3 RGB.

    A face cut off by the picture's border goes on with the border's pixels.
    """
    finer = max(1, math.ceil(math.sqrt(face.area) / BOX_SIDE / size))  # so that no pixel of the picture is skipped
    matrix = crop_matrix(face, size * finer)
    crop = cv2.warpAffine(
        picture,
        matrix,
        (size * finer, size * finer),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return crop if finer == 1 else cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA)


def whole_face(picture: np.ndarray) -> DetectedFace:
    """The face of a picture that is one, cropped already: crop_face takes the picture's central square."""
    height, width = picture.shape[:2]
    side = min(height, width)
    x, y = (whole / 2 + (share - 0.5) * side for whole, share in zip((width, height), BOX_CENTRE, strict=True))
    half = BOX_SIDE * side / 2
    return DetectedFace((x - half, y - half, 2 * half, 2 * half), 1.0)


def crop_outline(face: DetectedFace) -> np.ndarray:
    """float32 4×2: the corners of what crop_face takes, clockwise from the upper left one, in the picture's pixels."""
    corners = np.array([(-0.5, -0.5, 1), (0.5, -0.5, 1), (0.5, 0.5, 1), (-0.5, 0.5, 1)])
    return (corners @ crop_matrix(face, 1).T + 0.5).astype(np.float32)


def spread_map(values: np.ndarray, face: DetectedFace, height: int, width: int) -> np.ndarray:
    """A map S×S of a crop, laid over the picture where the crop was taken: float32 height×width, 0 elsewhere."""
    return cv2.warpAffine(np.asarray(values, np.float32), crop_matrix(face, len(values)), (width, height))
