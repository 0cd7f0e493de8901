"""The models and detectors behind the page, opened when they are first chosen, and the limits of photos."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from config import EngineFlags
from ferlib.faces.detection import Detector
from ferlib.faces.detectors import open_detector
from ferlib.faces.face_model import FaceModel, open_face_model
from ferlib.inference.engine import ENDLESS
from ferlib.runtime.runs import calibration_beside
from ferlib.webpage.computations import Computations

KEPT = 3  # models and detectors that stay open
open_detector_once = lru_cache(maxsize=KEPT)(open_detector)


@lru_cache(maxsize=KEPT)
def open_model_once(checkpoint: Path, device: str, engine: EngineFlags, _state: tuple[int, ...]) -> FaceModel:
    """The model of a checkpoint in one state of its file."""
    return open_face_model(checkpoint=checkpoint, device=device, flags=engine, passes=ENDLESS)


def state_of_file(path: Path) -> tuple[int, int]:
    """Size and time of change of a file; zeros where there is none."""
    try:
        facts = path.stat()
    except OSError:
        return 0, 0
    return facts.st_size, facts.st_mtime_ns


@dataclass(frozen=True)
class Resources:
    """The models by their names on the page, and how models and detectors are opened."""

    models: Mapping[str, Path]  # name for people → checkpoint; the first one is chosen at first
    device: str = "auto"
    detector: str = "auto"  # the one that is chosen at first
    detector_weights: Path | None = None  # of that detector, instead of the cached or downloaded ones
    max_pixels: int = 50_000_000  # of a photo
    engine: EngineFlags = field(default_factory=EngineFlags)
    computations: Computations = field(default_factory=Computations)

    @property
    def first_model(self) -> str:
        """Name of the model that is chosen at first."""
        return next(iter(self.models))

    def open_model(self, name: str) -> FaceModel:
        """A model by its name on the page, as its file is now."""
        return open_model_once(self.models[name], self.device, self.engine, self.state_of(name))

    def state_of(self, name: str) -> tuple[int, ...]:
        """Size and time of change of a model's file and of its calibration's, which differ when it was trained or
        evaluated again; zeros without a file."""
        path = self.models[name]
        return *state_of_file(path), *state_of_file(calibration_beside(path))

    def open_detector(self, name: str) -> Detector:
        """A detector by its name, or "auto"; UserError where its weights are missing."""
        return open_detector_once(name, self.detector_weights if name == self.detector else None)
