"""Which faces are explained, and for which class: a part of the test split, the same for every method, or pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from config import EMOTIONS, Explain
from ferlib.explanations.records import ExplainedFace, Target
from ferlib.runtime.errors import UserError
from ferlib.runtime.seeds import combine_seeds

Row = TypeVar("Row")
BY_PREDICTION = ("wrong", "right")  # values of --only that need the predictions of the whole split


def class_rule(label: int) -> Callable[[ExplainedFace], int | None]:
    """The rule that names one class, whatever the face."""
    return lambda _face: label


CLASS_OF: dict[str, Callable[[ExplainedFace], int | None]] = {
    "predicted": lambda face: face.predicted,
    "true": lambda face: face.true,
    "runner-up": lambda face: face.runner_up,
    **{name: class_rule(label) for label, name in enumerate(EMOTIONS)},
}


def check_words(flags: Explain) -> None:
    """UserError for --only, --target and --against that name no class, or the same, or go with no --image.

    Nothing is read for it.
    """
    if flags.image and (flags.only or flags.indices):
        raise UserError("--image explains the pictures that it names; leave --only and --indices out")
    lookup_word(dict.fromkeys(("", *BY_PREDICTION, *EMOTIONS)), flags.only, "--only")
    lookup_word(CLASS_OF, flags.target, "--target")
    if flags.against:
        lookup_word(CLASS_OF, flags.against, "--against")
    if flags.target.lower() == flags.against.lower():
        raise UserError(f"--target and --against are both {flags.target}; a class is compared with another one")


def needs_predictions(flags: Explain) -> bool:
    """Whether the choice depends on the predicted classes of the whole split."""
    return not flags.image and flags.only.lower() in BY_PREDICTION


def choose_rows(labels: np.ndarray, flags: Explain, predictions: np.ndarray | None = None) -> np.ndarray:
    """Rows of the chosen faces of the test split, ascending, from its labels N and, for --only wrong or right,
    predictions N; UserError for flags that name none."""
    rows = filter_rows(labels, predictions, flags.only)
    if flags.indices:
        wrong = [index for index in flags.indices if not 0 <= index < len(labels)]
        if wrong:
            raise UserError(f"--indices {wrong[0]}: the test split has the faces 0 to {len(labels) - 1}")
        rows = np.intersect1d(rows, flags.indices)
    if len(rows) == 0:
        raise UserError(f"no face of the test split is left by --only {flags.only} and --indices {flags.indices}")
    if flags.indices or flags.samples == "all":
        return rows
    return rows[pick_faces(labels[rows], flags.samples, flags.seed)]


def filter_rows(labels: np.ndarray, predictions: np.ndarray | None, only: str) -> np.ndarray:
    """Rows of the faces that are classified wrong or right, or of one true class; all for ""."""
    masks = {"": np.ones(len(labels), dtype=bool)}
    masks |= {name: labels == label for label, name in enumerate(EMOTIONS)}
    if predictions is not None:
        masks |= {"wrong": predictions != labels, "right": predictions == labels}
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


def make_face(
    index: int, name: str, true: int | None, image: np.ndarray, probabilities: np.ndarray, flags: Explain
) -> ExplainedFace:
    """A face of the split, or of the pictures, with the target that the flags name.

    image: uint8 H×W×C as it is in the data set. probabilities: float64 7.
    """
    face = ExplainedFace(
        index=index,
        name=name,
        true=true,
        probabilities=probabilities,
        target=Target(int(probabilities.argmax())),
        seed=combine_seeds(flags.seed, index),
        source=hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()[:16],
    )
    return replace(face, target=choose_target(face, flags.target, flags.against))


def choose_target(face: ExplainedFace, target: str, against: str) -> Target:
    """The target of a face by --target and --against; UserError for a true class that is not known.

    Where --against names the target's own class (its predicted class is the true one, say), the most probable other
    class is taken.
    """
    label, other = named_classes(face, target, against)
    if label is None or (against and other is None):
        raise UserError(f"the true class of {face.name} is not known; name a class instead of 'true'")
    if other == label:
        other = face.runner_up if label == face.predicted else face.predicted
    return Target(label, other)


def named_classes(face: ExplainedFace, target: str, against: str) -> tuple[int | None, int | None]:
    """The classes that --target and --against name for a face; None where it is not known, and without --against."""
    label = lookup_word(CLASS_OF, target, "--target")(face)
    return label, lookup_word(CLASS_OF, against, "--against")(face) if against else None


def describe_target(target: str, against: str, faces: Sequence[ExplainedFace] = ()) -> str:
    """In words: "predicted class", "Fear rather than Surprise", with the faces whose contrast is another one."""
    words = [f"{word} class" if word in ("predicted", "true") else word for word in (target, against)]
    named = " rather than ".join(word for word in words if word)
    replaced = sum(label == other for label, other in (named_classes(face, target, against) for face in faces))
    if not replaced:
        return named
    return f"{named}; for {replaced} of {len(faces)} faces both are one class: rather than the most probable other one"


def lookup_word(table: Mapping[str, Row], word: str, flag: str) -> Row:
    """The row of a table whose words may be written in any case; UserError that lists them otherwise."""
    named = {name.lower(): row for name, row in table.items()}
    if word.lower() not in named:
        raise UserError(f"{flag} {word} is unknown; valid are {', '.join(name for name in table if name)}")
    return named[word.lower()]


def describe_face(face: ExplainedFace) -> dict[str, Any]:
    """What the summary says of a face, as plain Python."""
    return {
        "index": face.index,
        "name": face.name,
        "true": None if face.true is None else EMOTIONS[face.true],
        "predicted": EMOTIONS[face.predicted],
        "target": face.target.name,
        "probability": float(face.probabilities[face.target.label]),
        "probabilities": face.probabilities.tolist(),
    }
