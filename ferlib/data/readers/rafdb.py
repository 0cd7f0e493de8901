"""The layouts of RAF-DB: folders as on Kaggle, and the archive of its authors."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

from ferlib.data.facts import DatasetFacts
from ferlib.data.picture_files import is_picture, left_out
from ferlib.data.readers.face_files import (
    Face,
    FaceFile,
    decode_faces,
    note_left_out,
    parse_code,
    pictures_of,
    visible_files,
    with_validation,
)
from ferlib.data.readers.parts import split_named, splits_of
from ferlib.data.readers.trees import Tree
from ferlib.data.votes import RAFDB_EMOTIONS, with_rafdb_votes
from ferlib.runtime.errors import UserError
from ferlib.runtime.notes import print_note

RAFDB_LIST = "EmoLabel/list_patition_label.txt"  # spelled so by its authors


def rafdb_folders(tree: Tree, facts: DatasetFacts) -> Iterator[Face] | None:
    """DATASET/train|test/1..7/*.jpg, as on Kaggle, with val beside them or not."""
    in_parts = [path for path in visible_files(tree) if is_rafdb_path(path)]
    paths = [path for path in in_parts if is_picture(path)]
    if not paths:
        return None
    print_note(left_out(tree.root, [path for path in in_parts if not is_picture(path)], len(in_parts)))
    files = [
        FaceFile(path, parse_code(path.split("/")[-2], RAFDB_EMOTIONS, 1, path), split)
        for path, split in zip(paths, splits_of(paths, tree.root), strict=True)
    ]
    note_left_out(tree, files, pictures_of(tree), "as they lie in no folder 1 to 7 of train, val or test")
    if "val" not in {file.split for file in files}:
        files = with_validation(files, facts)
    return with_rafdb_votes(tree, decode_faces(tree, files, facts))


def is_rafdb_path(path: str) -> bool:
    """Whether a file lies in a folder named by a number, below a part."""
    names = path.split("/")
    return len(names) > 2 and names[-2].isdecimal() and split_named(names[-3]) is not None


def rafdb_official(tree: Tree, facts: DatasetFacts) -> Iterator[Face] | None:
    """Image/aligned/*_aligned.jpg with the labels in EmoLabel/list_patition_label.txt, as its authors send it."""
    lists = [path for path in tree.paths if path.endswith(RAFDB_LIST)]
    if not lists:
        return None
    folder = lists[0].removesuffix(RAFDB_LIST) + "Image/aligned"
    with io.TextIOWrapper(tree.open(lists[0]), "utf-8", errors="replace") as file:
        files = [
            parse_rafdb_line(line, folder, f"{tree.root}/{lists[0]}, row {row}")
            for row, line in enumerate(file, start=1)
            if line.strip()
        ]
    aligned = [path for path in pictures_of(tree) if path.startswith(f"{folder}/")]
    note_left_out(tree, files, aligned, f"as {RAFDB_LIST} does not list them")
    return with_rafdb_votes(tree, decode_faces(tree, with_validation(files, facts), facts))


def parse_rafdb_line(line: str, folder: str, where: str) -> FaceFile:
    """The file and label of a line such as "train_00001.jpg 5"; UserError for other lines."""
    match line.split():
        case [name, code] if name.startswith(("train_", "test_")):
            path = f"{folder}/{Path(name).stem}_aligned.jpg"
            return FaceFile(path, parse_code(code, RAFDB_EMOTIONS, 1, where), name.split("_")[0])
    raise UserError(f"{where}: '{line.strip()}' is not 'train_NNNNN.jpg CODE' or 'test_NNNNN.jpg CODE'")
