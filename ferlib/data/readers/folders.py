"""Any folder of class-named folders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ferlib.data.facts import DatasetFacts
from ferlib.data.readers.face_files import (
    CLASSES,
    PICTURE,
    Face,
    FaceFile,
    class_named,
    decode_faces,
    of_known_class,
    parse_code,
    with_test,
    with_validation,
)
from ferlib.data.readers.trees import Tree
from ferlib.runtime.errors import UserError

SPLIT_FOLDERS = {"train": "train", "training": "train", "train_class": "train", "val": "val", "valid": "val",
                 "validation": "val", "val_class": "val", "test": "test", "testing": "test"}  # fmt: skip


def any_folders(tree: Tree, facts: DatasetFacts) -> Iterator[Face] | None:
    """CLASS/*.jpg, or the same below train, val and test; splits that are missing are taken from train."""
    files = class_folders(tree)
    return decode_faces(tree, with_missing_splits(of_known_class(files, facts), facts), facts) if files else None


def class_folders(tree: Tree, codes: Sequence[str] = ()) -> list[FaceFile]:
    """The pictures in folders named by class or code, the split by a folder above; empty if no folder is named so.

    UserError if only some folders with pictures are: a misspelt class should not be lost in silence.
    """
    files, unknown = [], set()
    for path in tree.paths:
        *above, folder, _ = ("", *path.split("/")) if path.count("/") else ("", "", path)
        if not PICTURE.search(path):
            continue
        label = class_of_folder(folder, codes, f"{tree.root}/{path}")
        if label is None:
            unknown.add(folder)
        else:
            splits = (SPLIT_FOLDERS[name.lower()] for name in reversed(above) if name.lower() in SPLIT_FOLDERS)
            files.append(FaceFile(path, label, next(splits, "train")))
    if files and unknown:
        names = ", ".join(sorted(unknown)[:5])
        raise UserError(
            f"{tree.root}: folders with pictures that name no class: {names}; known are {', '.join(CLASSES)}"
        )
    return files


def class_of_folder(folder: str, codes: Sequence[str], where: str) -> int | None:
    """Index into CLASSES of a folder's name or of its code into `codes`; None for other names."""
    if codes and folder.isdigit():
        return parse_code(folder, codes, 0, where)
    name = class_named(folder)
    return None if name is None else CLASSES.index(name)


def with_missing_splits(files: Sequence[FaceFile], facts: DatasetFacts) -> list[FaceFile]:
    """All three splits: a set's only other split beside train is its test, as in papers on AffectNet."""
    splits = {file.split for file in files}
    if "test" not in splits and "val" in splits:
        files = [file._replace(split="test") if file.split == "val" else file for file in files]
    elif "test" not in splits:
        files = with_test(files, facts)
    return with_validation(files, facts) if "val" not in {file.split for file in files} else list(files)
