"""The test faces behind the figures of the report: found in the decoded cache, sorted into the cells of a matrix."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from config import EMOTIONS
from ferlib.data.cache import find_cached
from ferlib.data.face_data import FaceData
from ferlib.evaluation.predictions import SavedPredictions, read_predictions
from ferlib.evaluation.saved_runs import ModelReport
from ferlib.report.pictures import Sheet, thumbnail_sheet
from ferlib.runtime.errors import UserError

SHEET_FACES = 4000  # thumbnails of a data set at most, so that a page of many models stays small
CELL_FACES = 8  # thumbnails of a cell at most
ERRORS = 12  # the most confident ones that are shown


@dataclass(frozen=True)
class Shown:
    """A test face that the page shows in a cell."""

    key: tuple  # of its thumbnail
    index: int
    name: str
    probability: float  # of the predicted class


@dataclass(frozen=True)
class Cell:
    """A cell of a confusion matrix: the number of its faces, and the most confident of them."""

    true: str
    predicted: str
    count: int
    share: float  # of the true class
    faces: tuple[Shown, ...]


@dataclass
class FaceStore:
    """The test splits that the runs on a data set were scored on, read from the cache."""

    outputs_dir: Path
    dataset: str
    _found: dict[tuple, FaceData | None] = field(default_factory=dict)

    def of(self, model: ModelReport) -> FaceData | None:
        """The test split of this run; None where its cache is gone."""
        fingerprint = model.fingerprint
        if fingerprint is None:
            return None
        key = (fingerprint, model.run.fold)
        if key not in self._found:
            data = find_cached(self.dataset, self.outputs_dir, fingerprint, model.run.fold)
            self._found[key] = data.split("test") if data else None
        return self._found[key]

    def pixels(self, model: ModelReport, index: int, name: str) -> np.ndarray | None:
        """uint8 H×W×C of a face; None where it is not in the cache, or has another name."""
        faces = self.of(model)
        if faces is None or not 0 <= index < len(faces) or str(faces.names[index]) != name:
            return None
        return faces.images[index]


def face_key(model: ModelReport, index: int) -> tuple:
    """The same for two runs that were scored on the same faces."""
    return model.fingerprint, model.run.fold, int(index)


# ── predictions ──────────────────────────────────────────────────────────────────────────────────────────────────────


def read_run_predictions(model: ModelReport, left_out: list[str]) -> SavedPredictions | None:
    """The predictions of a run; None where they are gone, damaged (told in `left_out`) or not of its results."""
    path = model.run.predictions
    if not model.results or not path.exists():
        return None
    try:
        found = read_predictions(path, model.scoring_command)
    except UserError as error:
        left_out.append(f"predictions are left out: {error}")
        return None
    return found if count_cells(found).tolist() == model.results["confusion_matrix"] else None


def count_cells(predictions: SavedPredictions) -> np.ndarray:
    """Confusion matrix 7×7 of counts."""
    matrix = np.zeros((len(EMOTIONS),) * 2, dtype=np.int64)
    np.add.at(matrix, (predictions.labels, predictions.probabilities.argmax(1)), 1)
    return matrix


# ── cells ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def confusion_cells(
    model: ModelReport, predictions: SavedPredictions | None, count: int = CELL_FACES
) -> list[list[Cell]]:
    """The confusion matrix with the `count` most confident faces of each cell, true classes in rows."""
    matrix = model.results["confusion_matrix"]
    return [
        [
            Cell(
                EMOTIONS[true],
                EMOTIONS[predicted],
                faces,
                faces / max(1, sum(row)),
                tuple(most_confident(model, predictions, true, predicted, count)) if predictions else (),
            )
            for predicted, faces in enumerate(row)
        ]
        for true, row in enumerate(matrix)
    ]


def most_confident(
    model: ModelReport, predictions: SavedPredictions, true: int, predicted: int, count: int
) -> Iterator[Shown]:
    """The faces of one cell whose predicted class is the most probable, most probable first."""
    classes = predictions.probabilities.argmax(1)
    rows = np.flatnonzero((predictions.labels == true) & (classes == predicted))
    confidence = predictions.probabilities[rows, predicted]
    for row in rows[np.argsort(-confidence, kind="stable")][:count]:
        name, probability = str(predictions.names[row]), float(predictions.probabilities[row, predicted])
        yield Shown(face_key(model, row), int(row), name, probability)


def cell_faces(models: Iterable[ModelReport]) -> int:
    """How many faces of each cell keep the thumbnails of all models within SHEET_FACES."""
    return max(2, min(CELL_FACES, SHEET_FACES // (len(EMOTIONS) ** 2 * max(1, len(list(models))))))


def worst_errors(model: ModelReport) -> list[dict[str, Any]]:
    """The most confident errors with the keys of their thumbnails."""
    return [error | {"key": face_key(model, error["index"])} for error in model.results["confident_errors"][:ERRORS]]


# ── thumbnails ───────────────────────────────────────────────────────────────────────────────────────────────────────


def make_sheet(faces: FaceStore, wanted: Iterable[tuple[ModelReport, int, str]]) -> Sheet | None:
    """Thumbnails of the wanted faces (model, index, name), each once; None where no face is in the cache."""
    pixels = {}
    for model, index, name in wanted:
        key = face_key(model, index)
        if key not in pixels:
            pixels[key] = faces.pixels(model, index, name)
    return thumbnail_sheet({key: image for key, image in pixels.items() if image is not None})
