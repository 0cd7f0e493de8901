"""Any folder of class-named folders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ferlib.data.facts import DatasetFacts
from ferlib.data.picture_files import is_picture, left_out
from ferlib.data.readers.face_files import (
    CLASSES,
    Face,
    FaceFile,
    class_named,
    decode_faces,
    of_known_class,
    parse_code,
    visible_files,
    with_test,
    with_validation,
)
from ferlib.data.readers.parts import splits_of
from ferlib.data.readers.trees import Tree
from ferlib.runtime.errors import UserError
from ferlib.runtime.notes import print_note

NAMED = 10  # folders that an error names


def any_folders(tree: Tree, facts: DatasetFacts) -> Iterator[Face] | None:
    """CLASS/*.jpg, or the same below train, val and test; splits that are missing are taken from train."""
    files = with_splits(tree, class_folders(tree))
    if not files:
        return None
    if {file.split for file in files} == {"train", "val"}:
        print_note(f"{tree.root}: its only part beside train is the test split; 15 % of train are val")
    known = of_known_class(files, facts)
    if extra := len(files) - len(known):
        names = ", ".join(CLASSES[len(facts.classes) :])
        print_note(f"{tree.root}: {extra:,} of {len(files):,} pictures are left out, as {names} is none of the classes")
    return decode_faces(tree, with_missing_splits(known, facts), facts)


def class_folders(tree: Tree, codes: Sequence[str] = ()) -> list[FaceFile]:
    """The pictures in folders named by class or code, all as train; empty if no folder is named so.

    UserError if only some folders with pictures are: a misspelt class should not be lost in silence. Other files in
    class folders are counted in a printed line; UserError if there are only such.
    """
    files, unknown, others = [], set(), []
    for path in visible_files(tree):
        folder = path.split("/")[-2] if "/" in path else ""
        known_format = is_picture(path)
        label = class_of_folder(folder, codes, f"{tree.root}/{path}" if known_format else "")
        if not known_format:
            others += [path] if label is not None else []
        elif label is None:
            unknown.add(folder or "the uppermost one")
        else:
            files.append(FaceFile(path, label))
    line = left_out(tree.root, others, len(files) + len(others))
    if files and unknown:
        more = f" and {len(unknown) - NAMED} more" if len(unknown) > NAMED else ""
        names = ", ".join(sorted(unknown)[:NAMED]) + more
        raise UserError(
            f"{tree.root}: folders with pictures that name no class: {names}; known are {', '.join(CLASSES)}"
        )
    if others and not files:
        raise UserError(line)
    print_note(line)
    return files


def with_splits(tree: Tree, files: Sequence[FaceFile]) -> list[FaceFile]:
    """The files with the splits that folders above their class folders name."""
    splits = splits_of([file.path for file in files], tree.root) if files else []
    return [file._replace(split=split) for file, split in zip(files, splits, strict=True)]


def class_of_folder(folder: str, codes: Sequence[str], where: str) -> int | None:
    """Index into CLASSES of a folder's name or of its code into `codes`; None for other names.

    UserError for codes that there are not, if `where` says where they are.
    """
    if codes and folder.isdigit():
        return parse_code(folder, codes, 0, where) if where or folder in map(str, range(len(codes))) else None
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
