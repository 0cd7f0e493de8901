"""Parts of the test faces that are measured to be hard: dark, low in contrast, blurred, copied, contested.

None of them is a guess about the person shown: groups of people are those that a data set itself gives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ferlib.data.audit.duplicates import copied_faces, either_copies
from ferlib.data.copies import copy_numbers
from ferlib.data.face_data import FaceData
from ferlib.data.facts import SPLITS
from ferlib.data.near_copies import find_near_copies
from ferlib.data.picture_quality import measure_pictures
from ferlib.evaluation.metrics import accuracy_interval
from ferlib.evaluation.paired import Contestant

TAIL = 0.1  # of the faces, that are the darkest or most blurred
AGREED = 0.5  # share of the votes for the most named class, below which a face is contested
FEWEST = 10  # faces of a slice
TAILS = (  # slice, row of picture_quality.MEASURES, whether its largest values are in it (1) or its smallest (-1)
    ("dark", "brightness", -1, f"the darkest {TAIL:.0%} by mean grey value"),
    ("bright", "brightness", 1, f"the brightest {TAIL:.0%} by mean grey value"),
    ("low contrast", "contrast", -1, f"the {TAIL:.0%} with the smallest standard deviation of grey values"),
    ("blurred", "sharpness", -1, f"the {TAIL:.0%} with the smallest Laplacian by contrast (standard deviations)"),
)


@dataclass(frozen=True)
class Slice:
    """Some of the test faces."""

    name: str
    meaning: str
    rows: np.ndarray  # bool N


def find_slices(data: FaceData, groups: Mapping[str, np.ndarray] | None = None) -> list[Slice]:
    """The slices of the test faces that have FEWEST faces and more, and leave as many out.

    groups: bool N of test faces by groups of people, where the data set itself gives them (datasets.load_groups).
    """
    faces = data.split("test")
    measures = measure_pictures(faces.images)
    found = [tail(name, meaning, sign * measures[measure]) for name, measure, sign, meaning in TAILS]
    if any(data.counts()["train"]):
        found += copies_in_training(data)
    if faces.votes is not None and faces.votes.any():
        voted, most = faces.votes.any(1), faces.votes.max(1)
        named = faces.votes[np.arange(len(faces)), faces.labels]
        found += [
            Slice(
                "contested", f"no class has more than {AGREED:.0%} of the annotators’ votes", voted & (most <= AGREED)
            ),
            Slice("agreed", "most annotators name the label", voted & (named > AGREED)),
            Slice("label without votes", "no annotator names the label", voted & (named == 0)),
        ]
    found += [Slice(name, "as the data set’s annotators say", rows) for name, rows in (groups or {}).items()]
    return [each for each in found if FEWEST <= each.rows.sum() <= len(faces) - FEWEST]


def copies_in_training(data: FaceData) -> list[Slice]:
    """The test faces with a copy in the training split, and those with a near copy alone, as the audit finds them."""
    train, test = (data.splits == SPLITS.index(split) for split in ("train", "test"))
    pairs = find_near_copies(data.images, np.flatnonzero(train), np.flatnonzero(test))
    copied = copied_faces(copy_numbers(data), data.splits)["train"][test]
    near = either_copies(data, pairs)["train"][test] & ~copied
    return [
        Slice("copied", "a pixel-identical face is in the training split", copied),
        Slice("nearly copied", "a near copy is in the training split, and no pixel-identical face", near),
    ]


def tail(name: str, meaning: str, values: np.ndarray) -> Slice:
    """The TAIL of the faces with the largest values N; faces of equal value are in or out together."""
    return Slice(name, meaning, values >= np.quantile(values, 1 - TAIL))


def score_slices(
    slices: Sequence[Slice], contestants: Sequence[Contestant], subjects: np.ndarray | None = None
) -> list[dict[str, Any]]:
    """Accuracy of each contestant in each slice and in the rest, with 95 % intervals; of several seeds, of the mean.

    The interval of several seeds is that of their first, moved to the mean: seeds add less than faces do.
    """
    return [
        {
            "name": each.name,
            "meaning": each.meaning,
            "faces": int(each.rows.sum()),
            "contestants": [
                {
                    "name": contestant.name,
                    "inside": score_rows(contestant, each.rows, subjects),
                    "outside": score_rows(contestant, ~each.rows, subjects),
                }
                for contestant in contestants
            ],
        }
        for each in slices
    ]


def score_rows(contestant: Contestant, rows: np.ndarray, subjects: np.ndarray | None) -> dict[str, Any]:
    """Accuracy on some faces (bool N) and its interval."""
    correct = contestant.correct[:, rows]
    ends = accuracy_interval(correct[0], None if subjects is None else subjects[rows])
    shift = float(correct.mean() - correct[0].mean())
    return {"accuracy": float(correct.mean()), "interval": [min(1.0, max(0.0, end + shift)) for end in ends]}
