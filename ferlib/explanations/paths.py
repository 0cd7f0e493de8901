"""Where the explanations of a run lie."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from config import EMOTIONS
from ferlib.explanations.records import ExplainedFace
from ferlib.runtime.runs import Run

FIGURE_NAME = re.compile(rf"\d{{3,}}_({'|'.join(EMOTIONS)}|unknown)_pred({'|'.join(EMOTIONS)})\.(png|pdf|svg)")


@dataclass(frozen=True)
class Paths:
    """Where a run's explanations lie; those of pictures have a folder of their own."""

    run: Run
    method: str
    folder: str = ""  # below the run's

    @property
    def maps(self) -> Path:
        """All maps in one file."""
        path = self.run.explanation_maps(self.method)
        return path.parent / self.folder / path.name

    @property
    def summary(self) -> Path:
        """Settings and facts."""
        path = self.run.explanation_summary(self.method)
        return path.parent / self.folder / path.name

    @property
    def table(self) -> Path:
        """The picture of what the summary says of all faces."""
        return self.summary.with_name("table.png")

    def figure(self, face: ExplainedFace) -> Path:
        """The figure of a face."""
        true = "unknown" if face.true is None else EMOTIONS[face.true]
        path = self.run.explanation_figure(self.method, face.index, true, EMOTIONS[face.predicted])
        return path.parent / self.folder / path.name


def remove_stale_figures(paths: Paths, keep: Sequence[str | None]) -> None:
    """Removes the figures that an earlier run left and the summary no longer names, in every format."""
    for path in paths.summary.parent.iterdir():
        if FIGURE_NAME.fullmatch(path.name) and path.with_suffix(".png").name not in keep:
            path.unlink()
