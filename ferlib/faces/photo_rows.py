"""What is written and printed of predicted photos: a row of plain Python each, a CSV of all faces, lines to read."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from config import EMOTIONS
from ferlib.faces.crops import DetectedFace
from ferlib.faces.photos import Photo
from ferlib.runtime.files import atomic_path

SMALL = 24  # pixels: a face whose box is narrower shows less than the faces that the models were trained on


@dataclass(frozen=True)
class FacePrediction:
    """A face in a picture and what the model makes of it."""

    face: DetectedFace
    probabilities: np.ndarray  # float32 7, in the order of EMOTIONS
    crop: np.ndarray  # uint8 S×S×3 RGB: what the model was given
    map: np.ndarray | None = None  # float32 S×S: the explanation over the crop, where one was asked for

    @property
    def box(self) -> tuple[float, float, float, float]:
        """x, y, width, height in pixels of the picture."""
        return self.face.box

    @property
    def label(self) -> str:
        """The expression with the highest probability."""
        return EMOTIONS[int(self.probabilities.argmax())]

    @property
    def confidence(self) -> float:
        """Its probability."""
        return float(self.probabilities.max())


def describe_photo(path: Path, photo: Photo, faces: Sequence[FacePrediction]) -> dict[str, Any]:
    """As plain Python: lengths in pixels of the photo as it is seen upright."""
    height, width = photo.pixels.shape[:2]
    return {
        "photo": str(path),
        "width": width,
        "height": height,
        "notes": [*photo.notes, *([] if faces else ["no face found"])],
        "faces": [describe_face(face) for face in faces],
    }


def describe_face(item: FacePrediction) -> dict[str, Any]:
    landmarks = item.face.landmarks
    return {
        "box": [round(value, 1) for value in item.box],
        "score": round(item.face.score, 4),
        "landmarks": None if landmarks is None else np.round(landmarks.astype(float), 1).tolist(),
        "label": item.label,
        "probabilities": dict(zip(EMOTIONS, item.probabilities.astype(float).round(6).tolist(), strict=True)),
        "small": item.box[2] < SMALL,
    }


def describe_row(row: dict[str, Any]) -> str:
    """What is printed of a photo."""
    if "error" in row:
        return f"error: {row['error']}"
    notes = f" ({'; '.join(row['notes'])})" if row["notes"] else ""
    lines = [f"{row['photo']}{notes}", *(f"  {describe_line(face)}" for face in row["faces"])]
    return "\n".join([*lines, *([f"  → {row['figure']}"] if "figure" in row else [])])


def describe_line(face: dict[str, Any]) -> str:
    order = sorted(face["probabilities"].items(), key=lambda item: -item[1])
    shares = ", ".join(f"{name} {100 * share:.0f} %" for name, share in order[:3])
    x, y, width, height = (round(value) for value in face["box"])
    small = f", too small to say much (below {SMALL} px)" if face["small"] else ""
    return f"{shares}  at {x},{y}, {width}×{height} px{small}"


COLUMNS = ("photo", "face", "x", "y", "width", "height", "score", "label", *EMOTIONS, "error")


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """One line a face, and one for each photo without faces or that could not be read."""
    with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for row in rows:
            writer.writerows(csv_lines(row))


def csv_lines(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if not row.get("faces"):
        yield {"photo": row["photo"], "error": row.get("error", "no face found")}
    for number, face in enumerate(row.get("faces", ()), start=1):
        place = dict(zip(("x", "y", "width", "height"), face["box"], strict=True))
        yield {
            "photo": row["photo"], "face": number, **place, "score": face["score"], "label": face["label"],
            **face["probabilities"],
        }  # fmt: skip
