"""Predictions of a split on disk: written by evaluate.py and ensemble.py, read by every later stage."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from ferlib.data.face_data import FaceData
from ferlib.runtime.errors import UserError
from ferlib.runtime.files import atomic_path


@dataclass(frozen=True)
class SavedPredictions:
    """Logits and probabilities of the faces of a split, in their order."""

    labels: np.ndarray  # int64 N
    probabilities: np.ndarray  # float N,7
    logits: np.ndarray  # float N,7
    names: np.ndarray  # str N
    checkpoint: str = ""  # SHA-256 of the checkpoint's file; "": several checkpoints
    fingerprint: str = ""  # of the data set
    views: str = "single"  # a row of inference.views.VIEWS
    precision: str = ""  # float32, bfloat16 or float16


FIELDS = [field.name for field in fields(SavedPredictions)]


def make_predictions(
    faces: FaceData, logits: np.ndarray, probabilities: np.ndarray, *, views: str, precision: str, checkpoint: str = ""
) -> SavedPredictions:
    """Predictions of `faces` from logits and probabilities N×7; arguments as the fields of SavedPredictions."""
    return SavedPredictions(
        faces.labels, probabilities, logits, faces.names, checkpoint, faces.fingerprint, views, precision
    )


def save_predictions(path: Path, predictions: SavedPredictions) -> None:
    """Writes an npz file with an array for each field."""
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **vars(predictions))


def read_predictions(path: Path, command: str) -> SavedPredictions:
    """The content of a predictions file; UserError naming `command` where it is broken or of another shape."""
    try:
        with np.load(path) as saved:
            columns: dict[str, Any] = {name: plain(saved[name]) for name in FIELDS}
            return SavedPredictions(**columns)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} cannot be read as predictions ({error}); run: {command}") from error


def plain(array: np.ndarray) -> np.ndarray | str:
    """Arrays as they are, texts of no axis as str."""
    return str(array) if array.ndim == 0 else array


def find_predictions(path: Path, checkpoint_digest: str, fingerprint: str) -> SavedPredictions | None:
    """The single-view predictions of one checkpoint on one version of the data; None where the file holds no such.

    checkpoint_digest: SHA-256 of the checkpoint's file. fingerprint: of the data set.
    """
    try:
        found = read_predictions(path, "")
    except UserError:
        return None
    identity = (found.checkpoint, found.fingerprint, found.views)
    return found if identity == (checkpoint_digest, fingerprint, "single") else None
