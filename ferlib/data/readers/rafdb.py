"""The layouts of RAF-DB: folders as on Kaggle, and the archive of its authors."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

from ferlib.data.facts import DatasetFacts
from ferlib.data.readers.face_files import Face, FaceFile, decode_faces, parse_code, with_validation
from ferlib.data.readers.trees import Tree
from ferlib.data.votes import RAFDB_EMOTIONS, with_rafdb_votes
from ferlib.runtime.errors import UserError

RAFDB_FACE = re.compile(r"(?:^|/)(?P<split>train|test)/(?P<code>\d+)/[^/]+\.(?:jpe?g|png)$", re.I)
RAFDB_LIST = "EmoLabel/list_patition_label.txt"  # spelled so by its authors


def rafdb_folders(tree: Tree, facts: DatasetFacts) -> Iterator[Face] | None:
    """DATASET/train|test/1..7/*.jpg, as on Kaggle."""
    files = []
    for path in tree.paths:
        if match := RAFDB_FACE.search(path):
            files.append(FaceFile(path, parse_code(match["code"], RAFDB_EMOTIONS, 1, path), match["split"]))
    return with_rafdb_votes(tree, decode_faces(tree, with_validation(files, facts), facts)) if files else None


def rafdb_official(tree: Tree, facts: DatasetFacts) -> Iterator[Face] | None:
    """Image/aligned/*_aligned.jpg with the labels in EmoLabel/list_patition_label.txt, as its authors send it."""
    lists = [path for path in tree.paths if path.endswith(RAFDB_LIST)]
    if not lists:
        return None
    folder = lists[0].removesuffix(RAFDB_LIST) + "Image/aligned"
    with io.TextIOWrapper(tree.open(lists[0]), "utf-8") as file:
        files = [
            parse_rafdb_line(line, folder, f"{tree.root}/{lists[0]}, row {row}")
            for row, line in enumerate(file, start=1)
            if line.strip()
        ]
    return with_rafdb_votes(tree, decode_faces(tree, with_validation(files, facts), facts))


def parse_rafdb_line(line: str, folder: str, where: str) -> FaceFile:
    """The file and label of a line such as "train_00001.jpg 5"; UserError for other lines."""
    match line.split():
        case [name, code] if name.startswith(("train_", "test_")):
            path = f"{folder}/{Path(name).stem}_aligned.jpg"
            return FaceFile(path, parse_code(code, RAFDB_EMOTIONS, 1, where), name.split("_")[0])
    raise UserError(f"{where}: '{line.strip()}' is not 'train_NNNNN.jpg CODE' or 'test_NNNNN.jpg CODE'")
