"""The prediction of one face: where it was detected, its crop, its probabilities, its attribution map."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from config import EMOTIONS
from ferlib.faces.crops import DetectedFace


@dataclass(frozen=True)
class FacePrediction:
    """A face of a picture with the probabilities that a model predicts for its crop."""

    face: DetectedFace
    probabilities: np.ndarray  # float32 7, in the order of EMOTIONS
    crop: np.ndarray  # uint8 S×S×3 RGB: the input of the model
    map: np.ndarray | None = None  # float32 S×S: attributions of the crop's pixels, where a method was chosen
    words: str = ""  # what the attributions say, of methods that have words
    regions: dict[str, Any] = field(default_factory=dict)  # of named regions: values, expected_units of the emotion
    candidates: tuple[str, ...] = ()  # the prediction set, most probable first; (): the checkpoint is not calibrated

    @property
    def box(self) -> tuple[float, float, float, float]:
        """x, y, width, height in pixels of the picture."""
        return self.face.box

    @property
    def label(self) -> str:
        """Name of the class with the highest probability."""
        return EMOTIONS[self.code]

    @property
    def code(self) -> int:
        """Index of the class with the highest probability."""
        return int(self.probabilities.argmax())

    @property
    def is_unsure(self) -> bool:
        """Whether the prediction set has more classes than the predicted one."""
        return len(self.candidates) > 1

    @property
    def confidence(self) -> float:
        """The highest probability, 0..1."""
        return float(self.probabilities.max())
