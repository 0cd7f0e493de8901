"""The layout of JAFFE, posed by ten known subjects; folds over the subjects make its splits."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ferlib.data.facts import DatasetFacts
from ferlib.data.picture_files import is_heif, is_picture
from ferlib.data.readers.face_files import (
    CLASSES,
    Face,
    FaceFile,
    class_named,
    decode_faces,
    note_left_out,
    number_subjects,
    of_known_class,
    visible_files,
)
from ferlib.data.readers.trees import Tree
from ferlib.runtime.errors import UserError

# "KA.AN1.39.tiff": subject, expression and its take, number of the picture
JAFFE_FACE = re.compile(r"(?:^|/)(?P<subject>[A-Z]{2})[.-](?P<code>[A-Z]{2})\d[.-]\d+\.\w+$", re.I)


def jaffe_files(tree: Tree, facts: DatasetFacts) -> Iterator[Face] | None:
    """The files that its authors name by subject and expression, in whatever folders."""
    named = [match for path in visible_files(tree) if (match := JAFFE_FACE.search(path))]
    found = [match for match in named if is_picture(match.string)]
    if not found:
        return None
    people = number_subjects(match["subject"].upper() for match in found)
    files = []
    for match in found:
        name = class_named(match["code"])
        if name is None:
            raise UserError(f"{tree.root}/{match.string}: unknown expression '{match['code']}'")
        files.append(FaceFile(match.string, CLASSES.index(name), subject=people[match["subject"].upper()]))
    candidates = {match.string for match in named} | {
        path for path in visible_files(tree) if is_picture(path) or is_heif(path)
    }
    note_left_out(tree, files, sorted(candidates), "as they are no pictures named by subject and expression")
    return decode_faces(tree, of_known_class(files, facts), facts)
