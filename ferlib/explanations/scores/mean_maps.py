"""What the network looks at as a whole: maps moved to a mean face by landmarks, averaged over groups of faces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from config import EMOTIONS
from ferlib.explanations.face_regions import TEN
from ferlib.explanations.scores.summary import interval
from ferlib.explanations.warping import into_frame

SIDE = 64  # pixels of the mean face
FEWEST = 2  # faces of a group


@dataclass(frozen=True)
class Group:
    """Faces of which one class is explained, predicted all right or all wrong."""

    emotion: str
    right: bool
    rows: tuple[int, ...]

    @property
    def name(self) -> str:
        """Of its arrays."""
        return f"{self.emotion}_{'right' if self.right else 'wrong'}"


def group_faces(faces: Sequence[Mapping[str, Any]]) -> Iterator[Group]:
    """The groups of at least FEWEST faces of a summary, by the class that their maps explain, with --target another one
    than the predicted; faces of unknown class are in none."""
    for emotion in EMOTIONS:
        for right in (True, False):
            rows = [
                row
                for row, face in enumerate(faces)
                if face["target"] == emotion and face["true"] and (face["true"] == face["predicted"]) == right
            ]
            if len(rows) >= FEWEST:
                yield Group(emotion, right, tuple(rows))


def into_mean_face(pictures: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """float32 N×SIDE×SIDE: pictures or maps N×H×W whose faces have landmarks N×5×2, in the frame of a face.

    0 where the frame reaches beyond a picture.
    """
    moved = [
        into_frame(torch.from_numpy(np.asarray(each, np.float32))[None], points, SIDE, "zeros")[0]
        for each, points in zip(pictures, landmarks.astype(np.float64), strict=True)
    ]
    return torch.stack(moved).numpy()


def average(maps: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """float32 SIDE×SIDE: the mean of maps N×H×W in the frame, each divided by its root mean square first.

    So every face has the same weight, whatever the size of its values.
    """
    sizes = np.sqrt(np.square(maps).mean((1, 2)))
    return into_mean_face(maps / np.where(sizes > 0, sizes, 1)[:, None, None], landmarks).mean(0)


def average_face(images: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """float32 SIDE×SIDE: the mean of grey faces N×H×W in the frame, of those that reach there; 0.5 where none does."""
    covered = into_mean_face(np.ones_like(images), landmarks).sum(0)
    total = into_mean_face(images, landmarks).sum(0)
    return np.where(covered > 0.5, total / np.maximum(covered, 0.5), 0.5).astype(np.float32)


def region_shares(sums: np.ndarray) -> np.ndarray:
    """float64 N×n: the share of each region in the positive sums N×n of a face; zeros where none is positive."""
    positive = np.maximum(sums.astype(np.float64), 0)
    total = positive.sum(1, keepdims=True)
    return positive / np.where(total > 0, total, 1)


def describe_shares(sums: np.ndarray, groups: Sequence[Group], names: Sequence[str]) -> dict[str, Any]:
    """Row → group → region → mean share with its 95 % interval, and the number of faces, as plain Python.

    sums: N×M×n of the rows' maps over the regions.
    """
    found: dict[str, Any] = {}
    for row, name in enumerate(names):
        shares = region_shares(sums[:, row])
        found[name] = {
            group.name: {
                "faces": len(group.rows),
                **{region: share_of(shares[list(group.rows), place]) for place, region in enumerate(TEN)},
            }
            for group in groups
        }
    return found


def share_of(values: np.ndarray) -> dict[str, float | None]:
    """Mean and interval."""
    low, high = interval(values)
    return {"mean": float(values.mean()), "low": low, "high": high}
