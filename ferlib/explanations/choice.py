"""Which faces are explained, and for which class: a part of the test split, the same for every method, or pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from config import EMOTIONS, Explain
from ferlib.data.decoding import central_square, decode
from ferlib.data.facts import DatasetFacts, dataset_facts
from ferlib.explanations.records import Face, Target
from ferlib.runtime.errors import UserError
from ferlib.runtime.seeds import combine_seeds

CLASS_OF: dict[str, Callable[[Face], int | None]] = {
    "predicted": lambda face: face.predicted,
    "true": lambda face: face.true,
    "runner-up": lambda face: face.runner_up,
    **{name: lambda face, label=label: label for label, name in enumerate(EMOTIONS)},
}


@dataclass(frozen=True)
class Candidates:
    """Faces that could be explained, with what the model makes of them."""

    images: np.ndarray  # uint8 N,H,W,C
    names: Sequence[str]
    labels: np.ndarray | None  # int64 N; None: nobody knows
    probabilities: np.ndarray  # float64 N,7


def choose_faces(candidates: Candidates, flags: Explain) -> list[Face]:
    """The faces that the flags name, each with its target; UserError for flags that name none."""
    return [ask(make_face(candidates, int(index), flags.seed), flags) for index in choose_rows(candidates, flags)]


def choose_rows(candidates: Candidates, flags: Explain) -> np.ndarray:
    """Row numbers of the chosen faces in ascending order."""
    count = len(candidates.images)
    if flags.image:
        return np.arange(count)
    rows = filter_rows(candidates, flags.only)
    if flags.indices:
        wrong = [index for index in flags.indices if not 0 <= index < count]
        if wrong:
            raise UserError(f"--indices {wrong[0]}: the test split has the faces 0 to {count - 1}")
        rows = np.intersect1d(rows, flags.indices)
    if len(rows) == 0:
        raise UserError(f"no face of the test split is left by --only {flags.only} and --indices {flags.indices}")
    if flags.indices or flags.samples == "all":
        return rows
    return rows[pick_faces(candidates.labels[rows], flags.samples, flags.seed)]


def filter_rows(candidates: Candidates, only: str) -> np.ndarray:
    """Rows of the faces that are recognised wrong or right, or of one true class; all for ""."""
    correct = candidates.probabilities.argmax(1) == candidates.labels
    masks = {"": np.ones(len(correct), dtype=bool), "wrong": ~correct, "right": correct}
    masks |= {name: candidates.labels == label for label, name in enumerate(EMOTIONS)}
    return np.flatnonzero(lookup_word(masks, only, "--only"))


def pick_faces(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Indices of `count` faces, spread over the classes as evenly as they allow, in ascending order.

    labels: N class numbers. The same seed gives the same faces, and a smaller count gives a part of them. All faces if
    there are no more than `count`; UserError if count < 1 or there is no face at all.
    """
    if count < 1:
        raise UserError(f"{count} faces were asked for; at least one is needed")
    if len(labels) == 0:
        raise UserError("there is no face to pick from")
    order = np.random.default_rng(seed).permutation(len(labels))
    rank = np.empty(len(labels), dtype=np.int64)  # how many faces of its class come before it
    for label in np.unique(labels):
        members = order[labels[order] == label]
        rank[members] = np.arange(len(members))
    return np.sort(np.lexsort((labels, rank))[:count])  # every class's first face, every class's second, …


def make_face(candidates: Candidates, index: int, seed: int) -> Face:
    """The face with its predicted class as the target."""
    probabilities = candidates.probabilities[index]
    return Face(
        index=index,
        name=str(candidates.names[index]),
        true=None if candidates.labels is None else int(candidates.labels[index]),
        probabilities=probabilities,
        target=Target(int(probabilities.argmax())),
        seed=combine_seeds(seed, index),
        source=hashlib.sha256(np.ascontiguousarray(candidates.images[index])).hexdigest()[:16],
    )


def ask(face: Face, flags: Explain) -> Face:
    """The face with the target that the flags want.

    Where --against names the target's own class (its predicted class is the true one, say), the runner-up stands in,
    or the predicted class where the target is the runner-up.
    """
    label = lookup_word(CLASS_OF, flags.target, "--target")(face)
    against = lookup_word(CLASS_OF, flags.against, "--against")(face) if flags.against else None
    if label is None or (flags.against and against is None):
        raise UserError(f"nobody knows the true class of {face.name}; name a class instead of 'true'")
    if against == label:
        against = face.predicted if label == face.runner_up else face.runner_up
    return replace(face, target=Target(label, against))


def describe_question(flags: Explain) -> str:
    """In words: "predicted class", "Fear rather than Surprise"."""
    words = [f"{word} class" if word in ("predicted", "true") else word for word in (flags.target, flags.against)]
    return " rather than ".join(word for word in words if word)


def lookup_word(table: dict, word: str, flag: str):
    """The row of a table whose words may be written in any case."""
    named = {name.lower(): row for name, row in table.items()}
    if word.lower() not in named:
        raise UserError(f"{flag} {word} is unknown; valid are {', '.join(name for name in table if name)}")
    return named[word.lower()]


# ── pictures ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def read_pictures(paths: Sequence[Path], dataset: str) -> tuple[np.ndarray, list[str]]:
    """Pictures of one face each as uint8 N×H×W×C of the data set's size, and their names."""
    return np.stack([read_picture(path, dataset_facts(dataset)) for path in paths]), [path.name for path in paths]


def read_picture(path: Path, facts: DatasetFacts) -> np.ndarray:
    """The central square of a picture, scaled to the size of the data set's faces; UserError if it cannot be read."""
    return central_square(decode(path).image, facts.size, facts.channels)
