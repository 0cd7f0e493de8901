"""What passes between computing, drawing and saving an explanation: a face, its target, the attribution; no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from config import EMOTIONS
from ferlib.runtime.errors import UserError


@dataclass(frozen=True)
class Target:
    """What is explained: the output of a class, or its difference from that of another class."""

    label: int
    against: int | None = None

    @property
    def name(self) -> str:
        """For people: "Fear", "Fear rather than Surprise"."""
        if self.against is None:
            return EMOTIONS[self.label]
        return f"{EMOTIONS[self.label]} rather than {EMOTIONS[self.against]}"

    def weights(self) -> np.ndarray:
        """float32 7: the explained output is their product with the model's outputs, 1 for the class, −1 against."""
        weights = np.zeros(len(EMOTIONS), dtype=np.float32)
        weights[self.label] = 1
        if self.against is not None:
            weights[self.against] = -1
        return weights


@dataclass(frozen=True)
class ExplainedFace:
    """A face to explain, with its predicted probabilities."""

    index: int  # in the test split, or among the files given
    name: str
    true: int | None  # None: not known
    probabilities: np.ndarray  # float64, one per class
    target: Target
    seed: int  # of this face's random numbers, made of the run's seed and the index
    source: str = ""  # digest of the pixels in the data set or the file

    @property
    def predicted(self) -> int:
        """The class with the highest probability."""
        return int(self.probabilities.argmax())

    @property
    def runner_up(self) -> int:
        """The class with the second highest probability."""
        return int(np.argsort(-self.probabilities, kind="stable")[1])

    @property
    def correct(self) -> bool | None:
        """Whether the predicted class is the true one; None where that is not known."""
        return None if self.true is None else self.true == self.predicted


@dataclass(frozen=True)
class Attribution:
    """The result of a method for one face."""

    map: np.ndarray  # H×W, positive: evidence for the target
    arrays: dict[str, np.ndarray] = field(default_factory=dict)  # of one shape for all faces; saved beside the maps
    facts: dict[str, Any] = field(default_factory=dict)  # numbers and lists of numbers, saved in the summary

    def rounded(self) -> Attribution:
        """The map as it is saved; so a face that is drawn again looks the same."""
        return Attribution(compact(self.map), self.arrays, self.facts)


def compact(values: np.ndarray) -> np.ndarray:
    """A map in float16, or in float32 where its peak lies outside of float16's normal numbers, in which it would be 0,
    infinite, or rounded by more than 2⁻¹¹ of the peak."""
    limits = np.finfo(np.float16)
    peak, low, high = (float(each) for each in (np.abs(values).max(initial=0), limits.tiny, limits.max))
    return values.astype(np.float16 if peak == 0 or low <= peak <= high else np.float32)


def maps_of(found: Sequence[Attribution]) -> np.ndarray:
    """The maps of several faces: N×H×W."""
    return np.stack([attribution.map for attribution in found])


@dataclass(frozen=True)
class Entry:
    """A finished face as it is saved."""

    attribution: Attribution
    seconds: float

    @property
    def outcome(self) -> Outcome:
        """What the summary says of it."""
        return Outcome(self.seconds, self.attribution.facts)


@dataclass(frozen=True)
class Outcome:
    """What the summary says of a finished face, without its arrays: those of a whole split take gigabytes."""

    seconds: float
    facts: dict[str, Any]


def check_map(method: str, face: ExplainedFace, attribution: Attribution, size: tuple[int, int]) -> None:
    """UserError if a map is not finite, ValueError if it is not of the face's size H×W."""
    if attribution.map.shape != size:
        raise ValueError(f"{method} gave a map of {attribution.map.shape} for a face of {size}")
    if not np.isfinite(attribution.map).all():
        raise UserError(f"{method} gave values that are not finite for face {face.index} ({face.name}); try --no-amp")
