"""The faces that a run explains: chosen by the flags, with their images and what the network says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from config import Explain
from ferlib.data.decoding import DecodedPicture, central_square, decode
from ferlib.data.facts import dataset_facts
from ferlib.evaluation.predictions import find_predictions
from ferlib.explanations.choice import choose_rows, make_face, needs_predictions
from ferlib.explanations.records import ExplainedFace
from ferlib.explanations.subject import Subject
from ferlib.inference.engine import name_of
from ferlib.inference.splits import predict_split
from ferlib.runtime.distributed import from_first, is_main
from ferlib.runtime.errors import UserError
from ferlib.runtime.notes import print_note
from ferlib.runtime.terminal import printable


@dataclass(frozen=True)
class Chosen:
    """The faces to explain, and their images."""

    faces: list[ExplainedFace]
    images: np.ndarray  # uint8 N,H,W,C in the order of the faces


def choose_faces(subject: Subject, flags: Explain) -> Chosen:
    """The faces that the flags name, with predicted probabilities; only these are predicted.

    --only wrong and right need the predictions of the whole split: those that evaluate.py saved of this checkpoint on
    these faces are taken, or else all faces are predicted, which is printed.
    """
    labels: list[int | None]
    if flags.image:
        facts = dataset_facts(flags.dataset)
        images = np.stack(
            [central_square(picture.image, facts.size, facts.channels) for picture in decode_all(flags.image)]
        )
        names = [printable(path.name) for path in flags.image]
        labels, rows = [None] * len(images), list(range(len(images)))
    else:
        test = subject.data.split("test")
        predictions = predict_classes(subject, test.images) if needs_predictions(flags) else None
        chosen = choose_rows(test.labels, flags, predictions)
        images, rows = test.images[chosen], chosen.tolist()
        names, labels = list(map(str, test.names[chosen])), test.labels[chosen].tolist()
    columns = zip(rows, names, labels, images, predict_probabilities(subject, images), strict=True)
    return Chosen([make_face(*column, flags) for column in columns], images)


def decode_all(paths: Sequence[Path]) -> list[DecodedPicture]:
    """The pictures, whose notes are printed; UserError that names all that cannot be read."""
    pictures, errors = [], []
    for path in paths:
        try:
            pictures.append(decode(path))
        except UserError as error:
            errors.append(str(error))
            continue
        if notes := [note for note in pictures[-1].notes if note != "grey"]:
            print_note(f"{path}: {'; '.join(notes)}")
    if errors:
        raise UserError(*errors)
    return pictures


def predict_classes(subject: Subject, images: np.ndarray) -> np.ndarray:
    """Predicted classes of the whole test split: saved ones in the same precision, or predicted now."""
    classes = from_first(saved_classes(subject) if is_main() else None)  # machines may have no folder in common
    if classes is not None:
        return classes
    if is_main():
        print(f"--only needs the predicted class of all {len(images):,} test faces: predicting them")
    return predict_probabilities(subject, images, "choosing faces").argmax(1)


def saved_classes(subject: Subject) -> np.ndarray | None:
    """Predicted classes of the test split that evaluate.py saved of this checkpoint in the same precision."""
    saved = find_predictions(subject.run.predictions, subject.checkpoint_digest, subject.data.fingerprint)
    return saved.probabilities.argmax(1) if saved and saved.precision == precision_of(subject) else None


def precision_of(subject: Subject) -> str:
    """Name of the type in which torch predicts the classes, such as float32."""
    return name_of(subject.model.dtype)


def predict_probabilities(subject: Subject, images: np.ndarray, progress: str | None = None) -> np.ndarray:
    """float64 N×7 of uint8 faces N×H×W×C; UserError if they are not finite."""
    options: dict[str, Any] = {"device": subject.device, "dtype": subject.model.dtype, "progress": progress}
    logits = predict_split(subject.model.classifier, subject.spec, images, **options)
    probabilities = torch.softmax(logits.double(), dim=1).numpy()
    if not np.isfinite(probabilities).all():
        raise UserError("the model's logits are not finite; try --no-amp, or train it again")
    return probabilities
