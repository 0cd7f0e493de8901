"""Predicted photos as rows of plain Python for JSON, as a CSV with a line a face, and as lines for the terminal."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from config import EMOTIONS
from ferlib.faces.photos import Photo
from ferlib.faces.predictions import FacePrediction
from ferlib.inference.confidence import LEVEL
from ferlib.runtime.files import atomic_path
from ferlib.runtime.terminal import printable

if TYPE_CHECKING:
    from ferlib.faces.detection import Detector

TURNED_BACK = {90: "90° to the left", 180: "180°", 270: "90° to the right"}  # by the head's turn clockwise
SMALL = 24  # pixels: faces with a narrower box have less detail than the training faces
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how a text begins that a spreadsheet takes for a formula
COLUMNS = ("photo", "face", "x", "y", "width", "height", "score", "label", *EMOTIONS, "error")


def describe_photo(
    path: Path, photo: Photo, faces: Sequence[FacePrediction], detector: Detector | None = None
) -> dict[str, Any]:
    """The row of a photo, its faces included; lengths in pixels of the photo as its EXIF turns it.

    detector: the one that found the faces; the notes name what it misses.
    """
    height, width = photo.pixels.shape[:2]
    return {
        "photo": printable(str(path)),
        "width": width,
        "height": height,
        "notes": [*photo.notes, *([] if faces else ["no face found"]), *describe_search(photo, faces, detector)],
        "faces": [describe_face(face) for face in faces],
    }


def describe_search(photo: Photo, faces: Sequence[FacePrediction], detector: Detector | None) -> Iterator[str]:
    """Notes on how the photo was turned to find faces, and on faces that are too small to be searched for."""
    turns = [item.face.turn for item in faces]
    for turn in sorted({*turns} - {0}):
        some = "" if turns.count(turn) == len(turns) else f"for {turns.count(turn)} of {len(turns)} faces "
        yield f"{some}turned by {TURNED_BACK[turn]} for detection"
    if detector and (smallest := detector.smallest_face(photo.pixels)) > detector.reach:
        yield f"faces below about {math.ceil(smallest)} px are not searched for"


def describe_face(item: FacePrediction) -> dict[str, Any]:
    """Box, score, turn (degrees clockwise), landmarks and probabilities of a face, rounded; of methods with named
    regions also their values, and expected_units, the action units that EMFACS expects of the emotion there."""
    landmarks, regions = item.face.landmarks, dict(item.regions)
    if regions:
        regions["values"] = {name: round(value, 6) for name, value in regions["values"].items()}
    return {
        "box": [round(value, 1) for value in item.box],
        "score": round(item.face.score, 4),
        "turn": item.face.turn,
        "landmarks": None if landmarks is None else np.round(landmarks.astype(float), 1).tolist(),
        "label": item.label,
        "probabilities": dict(zip(EMOTIONS, item.probabilities.astype(float).round(6).tolist(), strict=True)),
        **({"candidates": list(item.candidates)} if item.candidates else {}),
        "small": item.box[2] < SMALL,
        **({"words": item.words} if item.words else {}),
        **regions,
    }


def describe_row(row: dict[str, Any]) -> str:
    """The lines that are printed of a photo: its name and notes, its faces, its annotated picture."""
    if "error" in row:
        return f"error: {row['error']}"
    notes = f" ({'; '.join(row['notes'])})" if row["notes"] else ""
    lines = [f"{row['photo']}{notes}", *(f"  {describe_line(face)}" for face in row["faces"])]
    return "\n".join([*lines, *([f"  → {printable(row['figure'])}"] if "figure" in row else [])])


def describe_line(face: dict[str, Any]) -> str:
    """The three most probable classes of a face, and its box."""
    order = sorted(face["probabilities"].items(), key=lambda item: -item[1])
    shares = ", ".join(f"{name} {100 * share:.0f} %" for name, share in order[:3])
    x, y, width, height = (round(value) for value in face["box"])
    small = f", less detail than the training faces (narrower than {SMALL} px)" if face["small"] else ""
    words = f"\n    {face['words']}" if "words" in face else ""
    sets = f"\n    {describe_candidates(face['candidates'])}" if len(face.get("candidates", ())) > 1 else ""
    return f"{shares}  at {x},{y}, {width}×{height} px{small}{sets}{words}{describe_expected(face)}"


def describe_candidates(names: Sequence[str]) -> str:
    """A prediction set in words: one of Fear, Sad with 90 %, the share of such sets that hold the label."""
    if len(names) == len(EMOTIONS):
        return f"any of the seven with {100 * LEVEL:.0f} %"
    return f"one of {', '.join(names)} with {100 * LEVEL:.0f} %"


def describe_expected(face: dict[str, Any]) -> str:
    """A line of the action units that EMFACS expects of the explained emotion, by region; "" where there are none."""
    units = [f"{region} AU {', '.join(numbers)}" for region, numbers in face.get("expected_units", {}).items()]
    return f"\n    Action units that EMFACS expects of this emotion, not measured: {'; '.join(units)}." if units else ""


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """A line for each face, and one for each photo without faces and for each unreadable file.

    A text that a spreadsheet would compute, such as a name that begins with "=", has a ' before it.
    """
    with (
        atomic_path(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for row in rows:
            writer.writerows(csv_lines(row))


def inert(text: str) -> str:
    """`text` as spreadsheets take it for text (OWASP, "CSV injection")."""
    return f"'{text}" if text.startswith(FORMULA) else text


def csv_lines(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The lines of a photo: column → value."""
    if not row.get("faces"):
        yield {"photo": inert(row["photo"]), "error": inert(row.get("error", "no face found"))}
    for number, face in enumerate(row.get("faces", ()), start=1):
        place = dict(zip(("x", "y", "width", "height"), face["box"], strict=True))
        yield {
            "photo": inert(row["photo"]), "face": number, **place, "score": face["score"], "label": face["label"],
            **face["probabilities"],
        }  # fmt: skip
