"""What live.py knows of every face in every frame, as CSV, as JSON lines and over time."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO

import numpy as np

from config import EMOTIONS
from ferlib.runtime.files import atomic_path
from ferlib.video.sources import Frame
from ferlib.video.tracking import Sighting

HEADER = ("frame", "time", "track", "x", "y", "width", "height", *EMOTIONS, "label", "confidence")
SPACING = 0.1  # seconds at least between two points of a face in its history


def to_row(frame: Frame, sighting: Sighting) -> list[object]:
    """A line of the CSV: time in seconds, box in pixels, smoothed probabilities."""
    box = [round(float(side), 1) for side in sighting.box]
    probabilities = [round(float(value), 4) for value in sighting.probabilities]
    label = sighting.label
    return [
        frame.number,
        round(frame.time, 3),
        sighting.track,
        *box,
        *probabilities,
        EMOTIONS[label],
        probabilities[label],
    ]


def to_record(frame: Frame, sighting: Sighting) -> dict[str, object]:
    """A line of the JSON lines: the same, the box as [x, y, width, height] and the probabilities by class."""
    values = dict(zip(HEADER, to_row(frame, sighting), strict=True))
    box = [values.pop(side) for side in ("x", "y", "width", "height")]
    probabilities = {emotion: values.pop(emotion) for emotion in EMOTIONS}
    return {**values, "box": box, "probabilities": probabilities}


class Log:
    """Writes a line for every face of every frame, and keeps the history of each face."""

    def __init__(self, table: TextIO | None = None, lines: TextIO | None = None):
        self.table = csv.writer(table) if table else None
        self.lines = lines
        self.history: dict[int, list[tuple[float, np.ndarray]]] = {}  # by track: seconds, probabilities (7)
        if self.table:
            self.table.writerow(HEADER)

    def add(self, frame: Frame, sightings: Sequence[Sighting]) -> None:
        for sighting in sightings:
            if self.table:
                self.table.writerow(to_row(frame, sighting))
            if self.lines:
                self.lines.write(json.dumps(to_record(frame, sighting)) + "\n")
            points = self.history.setdefault(sighting.track, [])
            if not points or frame.time - points[-1][0] >= SPACING - 1e-6:
                points.append((frame.time, np.asarray(sighting.probabilities, np.float32)))


@contextmanager
def open_log(table: Path | None, lines: Path | None) -> Iterator[Log]:
    """A log whose files are moved into place when the block ends well."""
    with ExitStack() as stack:

        def open_text(path: Path | None) -> TextIO | None:
            temporary = path and stack.enter_context(atomic_path(path))
            return temporary and stack.enter_context(open(temporary, "w", newline="", encoding="utf-8"))

        yield Log(open_text(table), open_text(lines))
