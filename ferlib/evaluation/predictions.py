"""Predictions of a split on disk: written by evaluate.py and ensemble.py, read by every later stage."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax

from config import EMOTIONS
from ferlib.data.face_data import FaceData
from ferlib.runtime.arrays import DamagedError, read_npz
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
    """Writes an npz file with an array for each field; UserError for logits that are not finite."""
    if not (np.isfinite(predictions.logits).all() and np.isfinite(predictions.probabilities).all()):
        raise UserError(f"the logits for {path.name} are not finite; try --no-amp, or train the model again")
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **vars(predictions))


def read_predictions(path: Path, command: str) -> SavedPredictions:
    """The content of a predictions file; UserError naming `command` where it is damaged or of another shape."""
    try:
        arrays = read_npz(path, ("labels", "probabilities", "logits", "names"))
        columns: dict[str, Any] = {name: plain(arrays[name]) for name in FIELDS}
        found = SavedPredictions(**columns)
        check_predictions(found, path)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist; run: {command}") from error
    except KeyError as error:
        raise UserError(f"{path} lacks {error}; run: {command}") from error
    except DamagedError as error:
        raise UserError(f"{error}; run: {command}") from error
    return found


def check_predictions(found: SavedPredictions, path: Path) -> None:
    """DamagedError for arrays of other kinds or shapes, labels that are no class, probabilities that are none or
    another network's than the logits."""
    shape = len(found.labels), len(EMOTIONS)
    right = (
        found.labels.dtype.kind == "i"
        and found.names.dtype.kind == "U"
        and all(array.dtype.kind == "f" and array.shape == shape for array in (found.probabilities, found.logits))
        and len(found.labels) > 0
        and 0 <= found.labels.min() <= found.labels.max() < len(EMOTIONS)
        and found.labels.shape == found.names.shape == shape[:1]
        and all(isinstance(each, str) for each in (found.checkpoint, found.fingerprint, found.views, found.precision))
        and found.probabilities.min() >= 0
        and np.allclose(found.probabilities.sum(1), 1, atol=0.01)
    )
    if not right:
        raise DamagedError(f"{path} does not hold the predictions of a split")
    if not np.allclose(softmax(found.logits.astype(np.float64), axis=1), found.probabilities, atol=0.001):
        raise DamagedError(f"the logits and the probabilities in {path} contradict each other")


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
