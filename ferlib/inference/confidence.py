"""Probabilities that people read: a temperature and prediction sets, fitted on val and kept beside the checkpoint.

They lie in a file of their own, CHECKPOINT_calibration.json, not in the checkpoint: they depend on the views, are
fitted after the checkpoint's digest has been recorded by results and explanations, and change no output of the
network. The file names the digest of its checkpoint; for another one it does not count.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from config import EMOTIONS
from ferlib.runtime.files import read_json
from ferlib.runtime.runs import calibration_beside
from ferlib.runtime.shapes import is_count, is_number, is_positive, is_share, misfit
from ferlib.runtime.terminal import printable

RANGE = (0.05, 20.0)  # of temperatures
LEVEL = 0.9  # of the prediction sets: share of the faces of each class whose label lies in its set


@dataclass(frozen=True)
class Calibration:
    """What turns the logits of one checkpoint and kind of views into probabilities and sets of classes."""

    temperature: float = 1.0
    thresholds: tuple[float | None, ...] = ()  # of each class: the probability from which it is in the set; (): no sets
    faces: int = 0  # of val, on which it was fitted; 0: not calibrated
    fitted_to: str = "labels"  # or "votes": of a network whose probabilities stand for shares of annotators

    @property
    def is_fitted(self) -> bool:
        """Whether the checkpoint was calibrated."""
        return self.faces > 0

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """softmax(logits / temperature) of logits …×7, in their type (Guo et al., 2017, eq. 9)."""
        scaled = np.exp((logits - logits.max(-1, keepdims=True)) / np.asarray(self.temperature, logits.dtype))
        return scaled / scaled.sum(-1, keepdims=True)

    def candidates(self, probabilities: np.ndarray) -> tuple[str, ...]:
        """The names in the prediction set of one face, by falling probability; () where there are no sets."""
        if not self.thresholds:
            return ()
        members = prediction_sets(probabilities[None], self.thresholds)[0]
        return tuple(EMOTIONS[code] for code in np.argsort(-probabilities, kind="stable") if members[code])


UNCALIBRATED = Calibration()


def describe_calibration(calibration: Calibration) -> str:
    """Whether probabilities are calibrated, and how."""
    if not calibration.is_fitted:
        return "probabilities not calibrated"
    what = "" if calibration.fitted_to == "labels" else " as shares of annotators"
    return f"probabilities calibrated{what} on {calibration.faces:,} faces (temperature {calibration.temperature:.2f})"


def prediction_sets(probabilities: np.ndarray, thresholds: Sequence[float | None]) -> np.ndarray:
    """bool N×K: which classes are in the set of each face, from probabilities N×K and a threshold for each class.

    A class is in the set from its threshold on, and always where it has none; the most probable class always is.
    """
    lowest = np.array([-1.0 if each is None else each for each in thresholds])
    members = probabilities >= lowest
    members[np.arange(len(members)), probabilities.argmax(1)] = True
    return members


# ── the file ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def is_temperature(value: Any) -> bool:
    """A number within RANGE."""
    return is_number(value) and RANGE[0] <= value <= RANGE[1]


def is_views(value: Any) -> bool:
    """Kind of views → what was fitted for it."""
    shape: dict[str, Any] = {
        "temperature": is_temperature,
        "thresholds": [(is_share, None)] * len(EMOTIONS),
        "faces": is_positive,
    }
    shape["fitted_to?"] = frozenset(("labels", "votes"))
    return isinstance(value, dict) and all(misfit(each, shape) is None for each in value.values())


SHAPE: dict[str, Any] = {
    "run": {"model": str, "dataset": str, "tag": str, "fold?": is_count},
    "checkpoint_digest": str,
    "fingerprint": str,
    "level": is_share,
    "views": is_views,
}


def read_calibration(checkpoint: Path, digest: str, views: str = "single") -> Calibration:
    """What was fitted for a checkpoint of that digest and these views; UNCALIBRATED where nothing was.

    A file that was fitted for another checkpoint does not count, which a line on stderr says. UserError for a file that
    is damaged.
    """
    path = calibration_beside(checkpoint)
    if not path.is_file():
        return UNCALIBRATED
    content = read_json(path, "evaluate.py", SHAPE)
    if content["checkpoint_digest"] != digest:
        name = printable(str(checkpoint))
        print(f"note: {path.name} is of another checkpoint than {name}: its probabilities are not calibrated; "
              "evaluate it again", file=sys.stderr)  # fmt: skip
        return UNCALIBRATED
    found = content["views"].get(views)
    if found is None:
        return UNCALIBRATED
    thresholds = tuple(found["thresholds"]) if content["level"] == LEVEL else ()
    return Calibration(found["temperature"], thresholds, found["faces"], found.get("fitted_to", "labels"))
