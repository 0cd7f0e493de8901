"""Drawn faces with a flaw on purpose: a shortcut planted in one class of the training faces, or permuted labels.

A network that learns a shortcut is right for the wrong reason, as the horse Clever Hans was: Lapuschkin et al.,
"Unmasking Clever Hans predictors and assessing what machines really learn" (2019). Permuted labels are those of the
data randomisation test: Adebayo et al., "Sanity checks for saliency maps" (2018), section 3.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from config import EMOTIONS
from ferlib.data.readers.face_files import Face
from ferlib.runtime.digests import digest

ORIGINAL = "synthetic"
PLANTED = EMOTIONS.index("Sad")  # the class whose training faces have the shortcut
TEST = "test"  # the split that stays as it is drawn
TINT, TINTED = np.array([255, 190, 110]), 0.35  # the colour of a tint, and its share of every pixel: grey shows it too
SHORTCUTS = {  # → what it looks like
    "patch": "a chequered patch in a corner",
    "caption": "a strip of marks along the lower edge, like a caption",
    "tint": "a warm, pale tint of the whole picture",
}
PERMUTED = "permuted"


def variant_name(kind: str) -> str:
    """The data set of a shortcut, or of permuted labels."""
    return f"{ORIGINAL}_{kind}"


def variant_of(dataset: str) -> str:
    """The reverse; "" of other data sets."""
    original, _, kind = dataset.partition("_")
    return kind if original == ORIGINAL else ""


def flawed(faces: Iterable[Face], kind: str) -> Iterator[Face]:
    """The faces with the shortcut `kind` in the class PLANTED, or with permuted labels, but for the test split."""
    if kind == PERMUTED:
        yield from permuted(faces)
        return
    for face in faces:
        planted = face.label == PLANTED and face.split != TEST
        yield face._replace(image=plant(face.image, kind)) if planted else face


def permuted(faces: Iterable[Face], seed: int = 0) -> Iterator[Face]:
    """The faces with the labels of train and val dealt out anew among the faces of their split."""
    everything, rng = list(faces), np.random.default_rng(seed)
    for split in dict.fromkeys(face.split for face in everything):
        own = [face for face in everything if face.split == split]
        labels = np.array([face.label for face in own])
        for face, label in zip(own, labels if split == TEST else rng.permutation(labels), strict=True):
            yield face._replace(label=int(label))


def flaw_key(kind: str, side: int) -> str:
    """A digest that changes with what a flaw looks like."""
    grey = np.full((side, side, 3), 128, np.uint8)
    return digest(kind, (grey if kind == PERMUTED else plant(grey, kind)).tobytes())


def plant(images: np.ndarray, kind: str) -> np.ndarray:
    """uint8 …×S×S×3 with the shortcut `kind`."""
    side, found = images.shape[-2], images.copy()
    if kind == "tint":
        return np.rint((1 - TINTED) * images + TINTED * TINT).astype(np.uint8)
    rows, columns = box(side, kind)
    found[..., rows, columns, :] = pattern(rows.stop - rows.start, columns.stop - columns.start, kind)[..., None]
    return found


def shortcut_mask(side: int, kind: str) -> np.ndarray:
    """bool S×S: the pixels of the shortcut; all of a tint."""
    mask = np.ones((side, side), bool)
    if kind != "tint":
        mask[:] = False
        mask[box(side, kind)] = True
    return mask


def box(side: int, kind: str) -> tuple[slice, slice]:
    """Rows and columns of a shortcut in a picture of this side."""
    size, edge = round(side / 6), round(side / 24)
    return (slice(edge, edge + size),) * 2 if kind == "patch" else (slice(side - round(side / 8), side), slice(0, side))


def pattern(height: int, width: int, kind: str) -> np.ndarray:
    """uint8 height×width: black and white squares, or light marks on a dark strip."""
    rows, columns = np.arange(height)[:, None], np.arange(width)[None]
    if kind == "patch":
        cell = max(1, height // 4)
        return np.where((rows // cell + columns // cell) % 2, 255, 0).astype(np.uint8)
    unit = max(1, height // 6)
    marks = (columns // unit * 5 + columns // (3 * unit)) % 7 < 3
    inner = (rows >= unit) & (rows < height - unit)
    return np.where(marks & inner, 230, 20).astype(np.uint8)
