"""The layouts of AffectNet: folders as on Kaggle, and the archive of its authors."""

from __future__ import annotations

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ferlib.data.facts import DatasetFacts
from ferlib.data.readers.face_files import (
    CLASSES,
    Face,
    FaceFile,
    decode_faces,
    note_left_out,
    of_known_class,
    pictures_of,
)
from ferlib.data.readers.folders import class_folders, with_missing_splits, with_splits
from ferlib.data.readers.recognition import AFFECTNET_LABEL, other_sets
from ferlib.data.readers.trees import Tree
from ferlib.runtime.damage import NUMPY_DAMAGE
from ferlib.runtime.errors import UserError
from ferlib.runtime.notes import print_note

AFFECTNET_EMOTIONS = ("Neutral", "Happy", "Sad", "Surprise", "Fear", "Disgust", "Angry", "Contempt")  # codes 0..7

CODES = range(11)  # 8 none, 9 uncertain, 10 no face
LABEL_BYTES = 4096  # of a file with one number, which has some 130


def affectnet_folders(tree: Tree, facts: DatasetFacts) -> Iterator[Face] | None:
    """Folders named by class or by the codes 0..7, below train and val (and test), as on Kaggle."""
    if other_sets(tree, "affectnet"):
        return None  # other sets have folders of the same names, or the codes of other classes
    files = with_splits(tree, class_folders(tree, AFFECTNET_EMOTIONS))
    if files and not is_named_affectnet(tree, files[0].path):
        print_note(
            f"{tree.root}: its {len(files):,} pictures are read as AffectNet; folders of other sets have the same "
            "names, so see that these are AffectNet's"
        )
    return decode_faces(tree, with_missing_splits(of_known_class(files, facts), facts), facts) if files else None


def is_named_affectnet(tree: Tree, path: str) -> bool:
    """Whether the folders or the archive of a file are called AffectNet."""
    return "affectnet" in f"{tree.root.parent.name}/{tree.root.name}/{path}".lower()


def affectnet_official(tree: Tree, facts: DatasetFacts) -> Iterator[Face] | None:
    """train_set and val_set with images/N.jpg and annotations/N_exp.npy, as its authors send it."""
    found = [match for path in tree.paths if (match := AFFECTNET_LABEL.fullmatch(path))]
    if not found:
        return None
    with ThreadPoolExecutor() as pool:
        codes = pool.map(lambda match: read_code(tree, match[0]), found)
        files = [
            FaceFile(f"{match['part']}/images/{match['number']}.jpg", code, match["split"])
            for match, code in zip(found, codes, strict=True)
        ]
    folders = {f"{match['part']}/images/" for match in found}
    pictures = [path for path in pictures_of(tree) if path.rpartition("/")[0] + "/" in folders]
    note_left_out(tree, files, pictures, "as they have no annotation")
    return decode_faces(tree, with_missing_splits(of_known_class(files, facts), facts), facts)


def read_code(tree: Tree, path: str) -> int:
    """Index into CLASSES; codes above 7 (none, uncertain, no face) give an index that no set has."""
    try:
        with tree.open(path) as file:
            content = file.read(LABEL_BYTES)
        array = np.load(io.BytesIO(content), allow_pickle=False)
        code = float(array.item()) if isinstance(array, np.ndarray) and array.size == 1 else np.nan
        if code not in CODES:
            raise ValueError(f"it is not a whole number from 0 to {CODES.stop - 1}")
    except NUMPY_DAMAGE as error:
        pickled = "pickle" in str(error)
        reason = "it is a pickled object, which may run any program and is not loaded" if pickled else str(error)
        raise UserError(f"{tree.locate(path)} does not hold the code of an expression ({reason})") from error
    return CLASSES.index(AFFECTNET_EMOTIONS[int(code)]) if code < len(AFFECTNET_EMOTIONS) else len(CLASSES)
