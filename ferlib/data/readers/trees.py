"""The files of a data set, in a folder or in a zip archive alike."""

from __future__ import annotations

import io
import os
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ferlib.data.facts import DatasetFacts
from ferlib.runtime.digests import digest
from ferlib.runtime.errors import UserError

FER_PLUS = "fer2013new.csv"  # the votes of FER+; they belong to the CSV that they lie beside
FOLDERS = ("train", "val", "test", "Image", "EmoLabel", "train_set", "val_set", "cohn-kanade-images", "Emotion")


class Tree:
    """The files below a folder, or a single file in it; paths are relative and use slashes."""

    def __init__(self, root: Path, only: tuple[str, ...] | None = None):
        self.root = root
        self.folder, self.only = (root, only) if root.is_dir() else (root.parent, (root.name, FER_PLUS))
        self.files = sorted(self._walk())
        self.paths = [path for path, *_ in self.files]

    def _walk(self) -> Iterator[tuple[str, int, int]]:
        """(path, size, time of change) of every file; at the top only the entries named in `only`."""
        entries = os.scandir(self.folder)
        pending = [(entry, entry.name) for entry in entries if self.only is None or entry.name in self.only]
        while pending:
            entry, path = pending.pop()
            if entry.is_dir():
                pending += [(child, f"{path}/{child.name}") for child in os.scandir(entry)]
            elif not entry.name.startswith("."):
                facts = entry.stat()
                yield path, facts.st_size, facts.st_mtime_ns

    def open(self, path: str) -> IO[bytes]:
        """A file below, for reading; OSError or KeyError if it is missing."""
        return (self.folder / path).open("rb")

    def signature(self) -> str:
        """Changes when any file below is added, removed or written."""
        return digest(str(self.root.resolve()), self.files)


class ZipTree(Tree):
    """The files of a zip archive, read where they are."""

    def __init__(self, root: Path):
        self.root = root
        self._lock = threading.Lock()
        try:
            self._archive = zipfile.ZipFile(root)
        except zipfile.BadZipFile as error:
            raise UserError(f"{root} is not a whole zip archive ({error}); download it again") from error
        self.paths = sorted(self._archive.namelist())

    def open(self, path: str) -> IO[bytes]:
        """A file of the archive; small ones are unpacked at once, so that threads read them side by side."""
        with self._lock:
            if self._archive.getinfo(path).file_size < 1 << 20:
                return io.BytesIO(self._archive.read(path))
            return self._archive.open(path)

    def signature(self) -> str:
        """Changes when the archive is written."""
        facts = self.root.stat()
        return digest(str(self.root.resolve()), facts.st_size, facts.st_mtime_ns)


def candidate_trees(facts: DatasetFacts, data_dir: Path) -> Iterator[Tree]:
    """The places below `data_dir` where the data set may lie: a file, a folder, a zip beside or inside the folder."""
    in_data_dir = not any(Path(place).is_absolute() for place in facts.places)
    if in_data_dir and not data_dir.is_dir():
        return
    for place in (data_dir / name for name in facts.places):
        if place.exists():
            yield Tree(place)
            if place.is_dir():
                yield from map(ZipTree, sorted(place.glob("*.zip")))
        archive = place.with_name(f"{place.name}.zip")
        if archive.exists():
            yield ZipTree(archive)
    if in_data_dir:
        yield Tree(data_dir, only=FOLDERS)  # the data folder is the data set itself
