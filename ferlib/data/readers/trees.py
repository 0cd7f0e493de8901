"""The files of a data set, as relative paths that can be opened."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ferlib.data.picture_files import optional_endings
from ferlib.runtime.digests import digest
from ferlib.runtime.errors import UserError

FER_PLUS = "fer2013new.csv"  # the votes of FER+; they belong to the CSV that they lie beside
MISSING = (-1, 0)  # size and time of a file that cannot be looked at


class Tree:
    """The files below a folder, or a single file in it; paths are relative and use slashes."""

    def __init__(self, root: Path, only: tuple[str, ...] | None = None):
        self.root = root
        self.folder, self.only = (root, only) if root.is_dir() else (root.parent, (root.name, FER_PLUS))
        self.files = sorted(self._walk())
        self.paths = [path for path, *_ in self.files]

    def _walk(self) -> Iterator[tuple[str, int, int]]:
        """(path, size, time of change) of every file; at the top only the entries named in `only`.

        A folder that a link repeats below itself is entered once.
        """
        pending: list[tuple[str, str, tuple[object, ...]]] = [(str(self.folder), "", (identity(self.folder),))]
        while pending:
            folder, above, parents = pending.pop()
            for entry in scan(folder):
                path = f"{above}{entry.name}"
                if not above and self.only is not None and entry.name not in self.only:
                    continue
                if is_folder(entry):
                    if identity(entry) not in parents:
                        pending.append((entry.path, f"{path}/", (*parents, identity(entry))))
                elif not entry.name.startswith("."):
                    yield path, *size_and_time(entry)

    def open(self, path: str) -> IO[bytes]:
        """A file below, for reading; UserError if it is missing, no regular file, or cannot be read."""
        place = self.folder / path
        try:
            if not stat.S_ISREG(place.stat().st_mode):  # opening a named pipe waits for its writer
                raise UserError(f"{place} is no regular file; remove it, or put the file in its place")
            return place.open("rb")
        except OSError as error:
            raise UserError(f"{place} is missing or broken: {error.strerror}") from error

    def locate(self, path: str) -> str:
        """A file below as errors call it."""
        return str(self.folder / path)

    def size(self, path: str) -> int:
        """Bytes of a file below, unpacked."""
        return next(size for name, size, _ in self.files if name == path)

    def signature(self) -> str:
        """Changes when any file below is added, removed or written, or when pictures of its kinds become readable."""
        optional = optional_endings(self.paths)
        return digest(str(self.root.resolve()), self.files, *([optional] if optional else []))


def identity(folder: Path | os.DirEntry[str]) -> tuple[int, int]:
    """What identifies a folder, by whatever path it is reached."""
    facts = folder.stat()
    return facts.st_dev, facts.st_ino


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or a link to one; a link to itself is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def scan(folder: Path | str) -> list[os.DirEntry[str]]:
    """The entries of a folder; UserError where it cannot be read, as its faces would be missing."""
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise UserError(
            f"{folder} cannot be read: {error.strerror}; change its permissions, or move it away"
        ) from error


def size_and_time(file: Path | os.DirEntry[str]) -> tuple[int, int]:
    """Of a file; MISSING for a broken link and a file that is gone, which a reader reports if it needs it."""
    try:
        facts = file.stat()
    except OSError:
        return MISSING
    return facts.st_size, facts.st_mtime_ns
