"""The log of tracked faces: a line of CSV and of JSON for every face of every frame, and each track's history."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO

import numpy as np

from config import EMOTIONS
from ferlib.runtime.errors import UserError
from ferlib.runtime.files import atomic_path
from ferlib.video.regions import RegionValues
from ferlib.video.sources import Frame
from ferlib.video.tracking import TrackedFace

HEADER = ("frame", "time", "track", "x", "y", "width", "height", *EMOTIONS, "label", "confidence")
REGIONS = "regions"  # the column of the words, and the key of the values
PART = 1 << 16  # bytes read at once from the end of a file
SPACING = 0.1  # seconds at least between two points of a track's history


def to_row(frame: Frame, face: TrackedFace) -> list[object]:
    """A line of the CSV: time in seconds, box in pixels, smoothed probabilities."""
    box = [round(float(side), 1) for side in face.box]
    probabilities = [round(float(value), 4) for value in face.probabilities]
    label = [EMOTIONS[face.code], probabilities[face.code]]
    return [frame.number, round(frame.time, 3), face.track, *box, *probabilities, *label]


def to_record(frame: Frame, face: TrackedFace, found: RegionValues | None = None) -> dict[str, object]:
    """A line of the JSON lines: the same, the box as [x, y, width, height] and the probabilities by class.

    found: the values of the face's regions, where they are new.
    """
    values = dict(zip(HEADER, to_row(frame, face), strict=True))
    box = [values.pop(side) for side in ("x", "y", "width", "height")]
    probabilities = {emotion: values.pop(emotion) for emotion in EMOTIONS}
    record = {**values, "box": box, "probabilities": probabilities}
    if found:
        record[REGIONS] = {region: round(value, 4) for region, value in found.values.items()}
    return record


class Log:
    """Writes a line for every face of every frame, and keeps the history of each track.

    regions: whether the table has a column of the strongest regions. failed: as in whole_lines.
    """

    def __init__(
        self,
        table: TextIO | None = None,
        lines: TextIO | None = None,
        *,
        regions: bool = False,
        failed: Sequence[UserError] = (),
    ):
        self.failed = failed
        self.table = csv.writer(table) if table else None
        self.lines, self.regions = lines, regions
        self.named: dict[int, RegionValues] = {}  # by track: the values of regions that were logged last
        self.history: dict[int, list[tuple[float, np.ndarray]]] = {}  # by track: seconds, probabilities (7)
        if self.table:
            self.table.writerow((*HEADER, REGIONS) if regions else HEADER)

    def add(self, frame: Frame, faces: Sequence[TrackedFace]) -> None:
        """Logs the faces of the next frame."""
        for face in faces:
            found = self.new_regions(face)
            if self.table:
                words = [", ".join(found.strongest) if found else ""] if self.regions else []
                self.table.writerow([*to_row(frame, face), *words])
            if self.lines:
                self.lines.write(json.dumps(to_record(frame, face, found)) + "\n")
            points = self.history.setdefault(face.track, [])
            if not points or frame.time - points[-1][0] >= SPACING - 1e-6:
                points.append((frame.time, np.asarray(face.probabilities, np.float32)))

    def new_regions(self, face: TrackedFace) -> RegionValues | None:
        """The values of a face's regions in the first of its lines after they were computed; None elsewhere."""
        if face.regions is None or face.regions is self.named.get(face.track):
            return None
        self.named[face.track] = face.regions
        return face.regions


@contextmanager
def open_log(table: Path | None, lines: Path | None, *, regions: bool = False) -> Iterator[Log]:
    """A log whose CSV and JSON lines are moved into place when the block ends without an error; regions: see Log."""
    with ExitStack() as stack:
        failed: list[UserError] = []
        files = [stack.enter_context(whole_lines(path, failed)) if path else None for path in (table, lines)]
        yield Log(*files, regions=regions, failed=failed)


@contextmanager
def whole_lines(path: Path, failed: list[UserError]) -> Iterator[TextIO]:
    """A text file that is moved into place when the block ends without an error, with its whole lines.

    failed: gets the error of a disk that is full before the end, where the lines so far are kept.
    """
    with atomic_path(path) as temporary:
        file = temporary.open("w", newline="", encoding="utf-8")
        try:
            yield file
        finally:
            try:
                file.close()
            except OSError as error:  # of what was buffered
                failed.append(UserError(f"{path} ends early, as it cannot be written: {error.strerror or error}"))
            cut_after_last_line(temporary)


def cut_after_last_line(path: Path) -> None:
    """Removes what follows the last line feed of a file."""
    with path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - PART)
            file.seek(start)
            if (last := file.read(end - start).rfind(b"\n")) >= 0:
                file.truncate(start + last + 1)
                return
            end = start
        file.truncate(0)
