"""Predicted photos as rows of plain Python for JSON, as a CSV with a line a face, and as lines for the terminal."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from config import EMOTIONS
from ferlib.faces.photos import Photo
from ferlib.faces.predictions import FacePrediction
from ferlib.runtime.files import atomic_path

SMALL = 24  # pixels: faces with a narrower box have less detail than the training faces
COLUMNS = ("photo", "face", "x", "y", "width", "height", "score", "label", *EMOTIONS, "error")


def describe_photo(path: Path, photo: Photo, faces: Sequence[FacePrediction]) -> dict[str, Any]:
    """The row of a photo, its faces included; lengths in pixels of the upright photo."""
    height, width = photo.pixels.shape[:2]
    return {
        "photo": str(path),
        "width": width,
        "height": height,
        "notes": [*photo.notes, *([] if faces else ["no face found"])],
        "faces": [describe_face(face) for face in faces],
    }


def describe_face(item: FacePrediction) -> dict[str, Any]:
    """Box, score, landmarks and probabilities of a face, rounded."""
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
    """The lines that are printed of a photo: its name and notes, its faces, its annotated picture."""
    if "error" in row:
        return f"error: {row['error']}"
    notes = f" ({'; '.join(row['notes'])})" if row["notes"] else ""
    lines = [f"{row['photo']}{notes}", *(f"  {describe_line(face)}" for face in row["faces"])]
    return "\n".join([*lines, *([f"  → {row['figure']}"] if "figure" in row else [])])


def describe_line(face: dict[str, Any]) -> str:
    """The three most probable classes of a face, and its box."""
    order = sorted(face["probabilities"].items(), key=lambda item: -item[1])
    shares = ", ".join(f"{name} {100 * share:.0f} %" for name, share in order[:3])
    x, y, width, height = (round(value) for value in face["box"])
    small = f", less detail than the training faces (narrower than {SMALL} px)" if face["small"] else ""
    return f"{shares}  at {x},{y}, {width}×{height} px{small}"


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """A line for each face, and one for each photo without faces and for each unreadable file."""
    with (
        atomic_path(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for row in rows:
            writer.writerows(csv_lines(row))


def csv_lines(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The lines of a photo: column → value."""
    if not row.get("faces"):
        yield {"photo": row["photo"], "error": row.get("error", "no face found")}
    for number, face in enumerate(row.get("faces", ()), start=1):
        place = dict(zip(("x", "y", "width", "height"), face["box"], strict=True))
        yield {
            "photo": row["photo"], "face": number, **place, "score": face["score"], "label": face["label"],
            **face["probabilities"],
        }  # fmt: skip
