"""Detection at several scales of a picture: detections merged, landmarks refined, turned heads found.

Faces that lie or stand on their head are rarely found, and YuNet gives those that it finds the landmarks of an upright
one: its network has seen few. They have low scores, by which they are told apart, and are searched in turned pictures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise, product
from threading import Lock

import cv2
import numpy as np

from ferlib.faces.crops import DetectedFace, crop_matrix, head_angle, sample
from ferlib.runtime.errors import UserError

Search = Callable[[np.ndarray], list[DetectedFace]]  # a picture uint8 H×W×3 RGB → the faces found at its own scale

SIDES = (640, 1600)  # pixels of the longest side at which a picture is searched: large faces are found at the first
FINE_FACE = 100  # pixels: side below which faces are taken from the finer scales
SMALLEST_FACE = 48  # pixels: smaller faces of a large picture are not searched for; they have less detail than crops
FINER = 4.0  # the most by which the scale grows from one search of a large picture to the next
TILE, SHARED = (
    1600,
    192,
)  # pixels: side of the tiles of a large picture, and what neighbours share: a FINE_FACE and more
SMALLEST_SIDE = 320  # pixels of the longest side to which smaller pictures are enlarged
SHORTEST_SIDE = 64  # pixels of a network's input: below, OpenCV's YuNet finds faces in empty pictures
GREY = (128, 128, 128)  # of padding
LONGEST_PADDED = 4  # times the shorter side: the longer side of a picture that a face may fill
MARGIN = 0.25  # of the longest side: padding of a picture without detections, as a face may fill it
FARTHEST = 10  # times the longest side of a picture: coordinates of a face are smaller
MAX_OVERLAP = 0.3  # intersection over union of two boxes above which they are one face
REFINE_SIDE = 224  # pixels of the window in which landmarks are refined
REFINE_WIDTH = 1.5  # side of the window as a multiple of the face crop's
REFINE_PASSES = 2  # at most
REFINE_TOLERANCE = math.radians(2)  # a change of the head's angle below which the refinement ends
ROLLED = math.radians(50)  # the head's angle from which it may be a quarter turn
TURNS = (180, 90, 270)  # degrees clockwise
SURER = 0.03  # by which the score of a head in a turned window must exceed that of the upright one


@dataclass(frozen=True)
class Detector:
    """Detects the faces of a picture of any size: detector(picture uint8 H×W×3 RGB) → faces, the largest first."""

    name: str
    search: Search
    min_score: float  # 0..1, that of `search`
    sides: Sequence[int] = SIDES  # pixels of the longest side at which larger pictures are searched
    refiner: Search | None = None  # detects the face again in a levelled window
    sure: float = 0.88  # score from which a face that is not tilted much is upright
    reach: int = 24  # pixels: width of the smallest faces that `search` finds reliably
    fine_pixels: float = 0  # of a large picture at its finest scale at most; 0: `sides` alone are searched
    turns: bool = True  # whether heads that lie or stand on their head are searched
    lock: Lock = field(default_factory=Lock)  # OpenCV's detectors keep state and are called from several threads

    def __call__(self, picture: np.ndarray) -> list[DetectedFace]:
        """Faces in the picture's pixels; ValueError for arrays other than uint8 H×W×3."""
        check_picture(picture)
        with self.lock:
            faces = self.find_upright(picture)
            if self.turns:
                faces = self.add_turned(picture, faces)
        return sorted(faces, key=lambda face: -face.area)

    def smallest_face(self, picture: np.ndarray) -> float:
        """Width in pixels of the smallest faces of a picture that are searched for."""
        usual, tiled = self.factors(picture)
        return self.reach / min(1.0, [*usual, *tiled][-1])

    def factors(self, picture: np.ndarray) -> tuple[list[float], list[float]]:
        """Scales at which a picture is searched, ascending: those of `sides`, and the finer ones of a large picture."""
        height, width = picture.shape[:2]
        longest = max(height, width)
        usual = [side / longest for side in sorted({max(min(side, longest), SMALLEST_SIDE) for side in self.sides})]
        finest = min(self.reach / SMALLEST_FACE, math.sqrt(self.fine_pixels / (height * width)))
        finest *= min(height, width) > SMALLEST_FACE / 2  # in a thinner strip there is no face
        steps = math.ceil(math.log(finest / usual[-1], FINER)) if finest > usual[-1] else 0
        return usual, [usual[-1] * (finest / usual[-1]) ** (step / steps) for step in range(1, steps + 1)]

    def find_upright(self, picture: np.ndarray) -> list[DetectedFace]:
        """Faces of heads that are upright or tilted."""
        (first, *finer), tiled = self.factors(picture)
        found = search_at(self.search, picture, first)
        for factor in finer:
            found += self.search_finer(picture, factor)
        faces = merge(found)
        for factor in tiled:
            extra = [face for face in self.search_finer(picture, factor) if face.score >= self.least_extra]
            faces = merge([*faces, *extra], settled=len(faces))
        faces = faces or merge(search_padded(self.search, picture))
        return [refine_landmarks(self.refiner, picture, face) for face in faces] if self.refiner else faces

    def search_finer(self, picture: np.ndarray, factor: float) -> list[DetectedFace]:
        """Faces found at a finer scale than the first."""
        return [face for face in search_at(self.search, picture, factor) if self.accepts_fine(face, factor)]

    def add_turned(self, picture: np.ndarray, faces: list[DetectedFace]) -> list[DetectedFace]:
        """The faces with those of heads that lie or stand on their head, for which the picture is searched turned.

        It is, where no face was found, and where the window around a doubtful one is surer when turned; without a
        network for windows, where no face is sure. If one face is surely upright, of the detections of one head the
        surest is taken; if none is, the faces of the surest turn.
        """
        doubtful = [face for face in faces if not self.is_sure(face)]
        found = [self.find_turn(picture, face) for face in doubtful]
        turns = [turn for turn in TURNS if turn in found]
        any_sure = len(doubtful) < len(faces)
        if not any_sure and (not faces or None in found or self.refiner is None):
            turns = list(TURNS)
        readings = {0: faces} | {turn: self.find_turned(picture, turn) for turn in turns}
        if any_sure and turns:
            return merge([face for reading in readings.values() for face in reading])
        scores = {turn: upright_score(reading, turn) for turn, reading in readings.items()}
        surest = max(scores, key=lambda turn: scores[turn])
        return readings[surest] if scores[surest] > scores[0] + SURER else faces

    def is_sure(self, face: DetectedFace) -> bool:
        """Whether the head is surely upright, or tilted less than half a quarter turn."""
        return face.score >= self.sure and abs(head_angle(face)) < ROLLED

    def find_turn(self, picture: np.ndarray, face: DetectedFace) -> int | None:
        """The turn at which the face's window gives the surest detection; None if all are unsure."""
        window, search = cut_window(picture, replace(face, landmarks=None)), self.refiner or self.search
        scores = {turn: central_score(search(turn_back(window, turn))) for turn in (0, *TURNS)}
        best = max(scores, key=lambda turn: scores[turn])
        if scores[best] < self.least_fine:
            return None
        surer = 0.0 if abs(head_angle(face)) > ROLLED else SURER
        return best if scores[best] > scores[0] + surer else 0

    def find_turned(self, picture: np.ndarray, turn: int) -> list[DetectedFace]:
        """Faces of heads that are turned clockwise by so many degrees."""
        upright = turn_back(picture, turn)
        found = [face for face in self.find_upright(upright) if face.score >= self.least_extra]
        return [face.turned(turn, upright.shape[:2]) for face in found]

    @property
    def least_fine(self) -> float:
        """Score from which a detection at a finer scale counts: half of the allowed doubt."""
        return (1 + self.min_score) / 2

    @property
    def least_extra(self) -> float:
        """Score from which a detection in a tile or of a turned head counts: a sure one's where nothing refines it."""
        return self.least_fine if self.refiner else max(self.least_fine, self.sure)

    def accepts_fine(self, face: DetectedFace, factor: float) -> bool:
        """Whether a detection at a finer scale counts: small at that scale, and of at least the score `least_fine`.

        Larger faces are found at the coarser scale, and finer scales give more false detections.
        """
        return face.score >= self.least_fine and math.sqrt(face.area) * factor < FINE_FACE


def check_picture(picture: np.ndarray) -> None:
    """ValueError for arrays other than uint8 H×W×3."""
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
        raise ValueError(f"faces are detected in uint8 H×W×3, not in {picture.dtype} {picture.shape}")


def checked(search: Search, name: str) -> Search:
    """The same search; UserError, with the name of its file, where OpenCV cannot run it or its boxes are impossible."""

    def run(picture: np.ndarray) -> list[DetectedFace]:
        try:
            faces = search(picture)
        except cv2.error as error:
            raise UserError(f"{name} cannot be run as a face detector: {error.err or error}") from error
        largest = FARTHEST * max(picture.shape[:2])
        for face in faces:
            points = [*face.box, *([] if face.landmarks is None else face.landmarks.ravel().tolist())]
            if not (np.abs(points).max() < largest and min(face.box[2:]) > 0 and 0 <= face.score <= 1):
                raise UserError(f"{name} gives boxes that are impossible: its weights are damaged; download it again")
        return faces

    return run


def search_at(search: Search, picture: np.ndarray, factor: float) -> list[DetectedFace]:
    """Faces found in the picture scaled by a factor, in pixels of the picture itself."""
    height, width = picture.shape[:2]
    size = max(round(width * factor), 1), max(round(height * factor), 1)
    scaled = picture
    if size != (width, height):
        scaled = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
    below, beside = max(SHORTEST_SIDE - size[1], 0), max(SHORTEST_SIDE - size[0], 0)
    if below or beside:
        scaled = cv2.copyMakeBorder(scaled, 0, below, 0, beside, cv2.BORDER_CONSTANT, value=GREY)
    found = search_tiles(search, scaled) if max(size) > TILE else search(scaled)
    return [face.moved((width / size[0], height / size[1]), (0, 0)) for face in found]


def search_tiles(search: Search, picture: np.ndarray) -> list[DetectedFace]:
    """Faces found in overlapping tiles of equal size; of the part that two share each gives the half next to it."""
    (tall, rows), (wide, columns) = (tile_starts(side) for side in picture.shape[:2])
    found = []
    for (top, upper, lower), (left, first, last) in product(rows, columns):
        tile = np.ascontiguousarray(picture[top : top + tall, left : left + wide])
        for face in search(tile):
            moved = face.moved((1, 1), (left, top))
            x, y, width, height = moved.box
            if first <= x + width / 2 < last and upper <= y + height / 2 < lower:
                found.append(moved)
    return found


def tile_starts(side: int) -> tuple[int, list[tuple[int, float, float]]]:
    """Tiles along a side: their length, and of each the start and the two ends of its own part."""
    count = max(1, math.ceil((side - SHARED) / (TILE - SHARED)))
    length = math.ceil((side + (count - 1) * SHARED) / count)
    starts = np.linspace(0, side - length, count).round().astype(int).tolist()
    ends = [-math.inf, *((start + length + following) / 2 for start, following in pairwise(starts)), math.inf]
    return length, list(zip(starts, ends[:-1], ends[1:], strict=True))


def search_padded(search: Search, picture: np.ndarray) -> list[DetectedFace]:
    """Faces found with grey padding around the picture: detectors expect some background around a face.

    A strip of which a face cannot fill a large part is not searched; padding would make it a picture of gigabytes.
    """
    if max(picture.shape[:2]) > LONGEST_PADDED * min(picture.shape[:2]):
        return []
    margin = math.ceil(MARGIN * max(picture.shape[:2]))
    padded = cv2.copyMakeBorder(picture, margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=GREY)
    return [
        face.moved((1, 1), (-margin, -margin)) for face in search_at(search, padded, SMALLEST_SIDE / max(padded.shape))
    ]


def refine_landmarks(search: Search, picture: np.ndarray, face: DetectedFace) -> DetectedFace:
    """The face with landmarks detected in a window in which it is large and, by its landmarks so far, upright.

    YuNet's landmarks follow a tilted head by about a quarter of the angle, less for small faces: for FER2013's faces
    tilted by 20° they give 5°, and 15° after refinement (benchmarks/bench_faces.py).
    """
    for _ in range(REFINE_PASSES):
        matrix = window_matrix(face)
        central = [other for other in search(cut_window(picture, face)) if is_central(other)]
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


def cut_window(picture: np.ndarray, face: DetectedFace) -> np.ndarray:
    """The face's refinement window, grey beyond the picture: uint8 REFINE_SIDE×REFINE_SIDE×3."""
    return sample(picture, window_matrix(face), REFINE_SIDE, borderValue=GREY)


def upright_score(faces: Sequence[DetectedFace], turn: int) -> float:
    """The highest score of a face whose head is upright, or tilted, after `turn_back`; 0 without any."""
    tilts = [math.remainder(head_angle(face) - math.radians(turn), math.tau) for face in faces]
    return max((face.score for face, tilt in zip(faces, tilts, strict=True) if abs(tilt) < ROLLED), default=0.0)


def turn_back(picture: np.ndarray, turn: int) -> np.ndarray:
    """The picture turned counter-clockwise by a multiple of 90 degrees."""
    return np.ascontiguousarray(np.rot90(picture, turn // 90))


def central_score(faces: Sequence[DetectedFace]) -> float:
    """The highest score of a detection in the middle of a refinement window, 0 without any."""
    return max((face.score for face in faces if is_central(face)), default=0.0)


def is_central(face: DetectedFace) -> bool:
    """Whether a detection lies in the middle of a refinement window; others are neighbours."""
    x, y, width, height = face.box
    return max(abs(x + width / 2 - REFINE_SIDE / 2), abs(y + height / 2 - REFINE_SIDE / 2)) < REFINE_SIDE / 8


def merge(faces: Sequence[DetectedFace], settled: int = 0) -> list[DetectedFace]:
    """Non-maximum suppression: of detections that overlap, the one with the highest score.

    The first `settled` of them were merged before and are kept.
    """
    if not faces:
        return []
    boxes, scores = [face.box for face in faces], [face.score + (row < settled) for row, face in enumerate(faces)]
    return [faces[row] for row in cv2.dnn.NMSBoxes(boxes, scores, 0.0, MAX_OVERLAP)]
