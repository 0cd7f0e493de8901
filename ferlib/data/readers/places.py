"""Where a data set may lie below the data folder, and what lies there instead."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from ferlib.data.facts import DOWNLOADS, DatasetFacts
from ferlib.data.readers.archives import TarTree, ZipTree
from ferlib.data.readers.parts import is_part
from ferlib.data.readers.trees import Tree, scan
from ferlib.runtime.errors import UserError

# of whole data sets, beside those named by a part
FOLDERS = ("Image", "EmoLabel", "cohn-kanade-images", "Emotion", "FER2013Train", "FER2013Valid", "FER2013Test")
COMPETITION = ("train.csv", "test.csv")  # FER2013 without the labels of test: no whole data set
ARCHIVES = (".zip", ".tar.gz", ".tgz", ".tar")
OTHER_ARCHIVES = (".rar", ".7z", ".tar.bz2", ".tar.xz", ".tar.zst", ".gz")  # not read
SHOWN = 8  # entries of a folder that an error lists


class MissingError(UserError):
    """A data set that is nowhere in the data folder."""


def candidate_trees(facts: DatasetFacts, data_dir: Path) -> Iterator[Tree]:
    """The places below `data_dir` where the data set may lie: a file, a folder, an archive beside or inside it."""
    if any(Path(place).is_absolute() for place in facts.places):
        for place in map(Path, facts.places):
            yield from trees_at([place, *(place.with_name(f"{place.name}{ending}") for ending in ARCHIVES)])
    elif data_dir.is_dir():
        names = sorted(entry.name for entry in scan(data_dir))
        found = dict.fromkeys(name for place in facts.places for name in names_of_place(place, names))
        yield from trees_at(data_dir / name for name in found)
        parts = [name for name in names if name in FOLDERS or is_part(name)]
        yield Tree(data_dir, only=tuple(parts))  # the data folder is the data set itself
        if "fer2013" in facts.places and any(name in names for name in COMPETITION):
            yield Tree(data_dir, only=COMPETITION)


def names_of_place(place: str, names: list[str]) -> list[str]:
    """The names that stand for a place: its own, with the ending of an archive, then other spellings of both."""
    exact = [name for name in (place, *(f"{place}{ending}" for ending in ARCHIVES)) if name in names]
    return exact + [name for name in names if name not in exact and plain_name(name) == plain_name(place)]


def plain_name(name: str) -> str:
    """A name without the ending of an archive, capitals, - and _ and the number of a repeated download."""
    name = re.sub(r"\.(?:zip|tar\.gz|tgz|tar)$", "", name.lower())
    name = re.sub(r" ?\(\d+\)(?=$|\.csv$)", "", name)
    return DOWNLOADS.get(name, re.sub(r"[ _-]", "", name))


def trees_at(paths: Iterable[Path]) -> Iterator[Tree]:
    """Those of the paths that exist, as trees: folders and the archives in them, archives, other files."""
    for path in paths:
        if path.is_dir():
            yield Tree(path)
            inside = sorted(path / entry.name for entry in scan(path) if is_archive(path / entry.name))
            yield from map(open_archive, inside)
        elif is_archive(path):
            yield open_archive(path)
        elif path.is_file():
            yield Tree(path)


def is_archive(path: Path) -> bool:
    """Whether a regular file has the name of an archive that can be read."""
    return path.name.lower().endswith(ARCHIVES) and not path.name.startswith(".") and path.is_file()


def open_archive(path: Path) -> Tree:
    """The tree of an archive."""
    return ZipTree(path) if path.name.lower().endswith(".zip") else TarTree(path)


def describe_folder(folder: Path) -> str:
    """What a data folder holds, for the error that says that a data set is not in it."""
    if not folder.is_dir():
        return "there is no such folder"
    visible = [entry for entry in scan(folder) if not entry.name.startswith(".")]
    entries = [entry for entry in visible if entry.name != "README.md"]
    seen = [describe_entry(folder / entry.name) for entry in sorted(entries, key=lambda entry: entry.name)[:SHOWN]]
    more = f" and {len(entries) - SHOWN} more" if len(entries) > SHOWN else ""
    nothing = "it holds README.md only" if visible else "it is empty"
    return f"it holds {', '.join(seen)}{more}" if seen else nothing


def describe_entry(path: Path) -> str:
    """An entry of a data folder with the first thing in it."""
    if path.name.lower().endswith(OTHER_ARCHIVES) and not path.name.lower().endswith(ARCHIVES):
        return f"{path.name} (an archive that is not read; unpack it)"
    try:
        if path.is_dir():
            first = min((entry.name for entry in scan(path)), default="")
            return f"{path.name}/ ({first}, …)" if first else f"{path.name}/ (empty)"
        if path.name.lower().endswith(".zip") and is_archive(path):
            first = next(iter(open_archive(path).paths), "empty")
            nested = first.lower().endswith((*ARCHIVES, *OTHER_ARCHIVES))
            return f"{path.name} ({first}, …{', archives in an archive: unpack it' if nested else ''})"
    except UserError:
        return f"{path.name} (cannot be read)"
    return path.name if path.is_file() else f"{path.name} (neither a file nor a folder)"
