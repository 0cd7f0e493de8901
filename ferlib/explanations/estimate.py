"""How long a run will take and how much it will write, from its first faces."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ferlib.runtime.progress import describe_duration, describe_rate

LONG = 60.0  # seconds from which a run is announced


@dataclass(frozen=True)
class Estimate:
    """Of the faces that are left."""

    faces: int
    seconds: float  # of a process for a face
    processes: int
    face_size: float  # bytes of a finished face
    figure_size: float | None  # bytes of its figures; None: without figures, 0.0: none is drawn yet
    figure_seconds: float | None = None  # between two figures, of all processes that draw

    @property
    def duration(self) -> float:
        """Seconds until the end."""
        return self.faces * max(self.seconds / self.processes, self.figure_seconds or 0)

    @property
    def size(self) -> int:
        """Bytes that will be written: a face is kept twice, in its own file and in maps.npz."""
        return round(self.faces * (2 * self.face_size + (self.figure_size or 0)))

    def __str__(self) -> str:
        drawing = self.duration > self.faces * self.seconds / self.processes
        slow = ", held up by drawing (--no-figures is faster)" * drawing
        figures = {None: "without figures", 0.0: "and figures"}.get(self.figure_size, "figures included")
        processes = f"{self.processes} process{'es' * (self.processes > 1)}"
        return (
            f"{self.faces:,} faces left, {describe_rate(1 / self.seconds)} on each of {processes}: "
            f"about {describe_duration(self.duration)}{slow}, {describe_size(self.size)} {figures}; "
            "ctrl-C stops it, and the same command goes on"
        )


def mean_size(paths: Iterable[Path]) -> float:
    """Mean size in bytes of the files that are there; 0 for none."""
    sizes = [path.stat().st_size for path in paths if path.is_file()]
    return sum(sizes) / len(sizes) if sizes else 0.0


def describe_size(size: float) -> str:
    """20 kB, 0.5 MB, 12 MB, 1.2 GB."""
    if size < 1e5:
        return f"{size / 1e3:,.0f} kB"
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.{int(size < 1e7)}f} MB"
