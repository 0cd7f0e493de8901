"""Zip and tar archives as trees: read where they are, members bounded, damage named with the member."""

from __future__ import annotations

import gzip
import io
import posixpath
import tarfile
import tempfile
import threading
import zipfile
from collections.abc import Callable, Collection, Mapping
from functools import cached_property
from pathlib import Path
from typing import IO, TypeVar

from ferlib.data.picture_files import optional_endings, picture_endings
from ferlib.data.readers.trees import FER_PLUS, Tree, size_and_time
from ferlib.runtime.damage import ARCHIVE_DAMAGE
from ferlib.runtime.digests import digest
from ferlib.runtime.errors import UserError
from ferlib.runtime.files import explain_unwritable

SMALL = 1 << 20  # bytes of a member that is unpacked at once
BOMB_SIZE, BOMB_RATIO = 1 << 27, 200  # a member or archive that unpacks to more than both is refused
PICTURES = 1 << 29  # bytes of a member that is not a table; it is held in memory
TABLES = (".csv", ".txt")
ENCRYPTED = 1  # flag of a zip member
Result = TypeVar("Result")


class ArchiveTree(Tree):
    """The members of an archive, and the votes of FER+ where they lie beside it."""

    def __init__(self, root: Path):
        self.root = root
        self._lock = threading.Lock()
        votes = root.with_name(FER_PLUS)
        self._votes = votes if votes.is_file() else None

    @cached_property
    def _sizes(self) -> dict[str, int]:
        """Path and unpacked size of every member."""
        raise NotImplementedError

    def _open(self, path: str) -> IO[bytes]:
        """A member for reading, with the lock held; may raise any of ARCHIVE_DAMAGE, then and when it is read."""
        raise NotImplementedError

    @cached_property
    def paths(self) -> list[str]:  # type: ignore[override]
        """Every member but hidden files and those that macOS adds, in order."""
        paths = sorted(path for path in self._sizes if is_visible(path))
        beside = self._votes is not None and not any(path.endswith(FER_PLUS) for path in paths)
        return [*paths, FER_PLUS] if beside else paths

    @property
    def members(self) -> Collection[str]:
        """The paths in the archive itself, without the votes beside it."""
        return self._sizes.keys()

    def open(self, path: str) -> IO[bytes]:
        """A member for reading; small ones are unpacked at once, so that threads read them side by side.

        UserError, at once or while it is read, for one that is missing, damaged, encrypted or suspiciously large.
        """
        if path not in self._sizes and path == FER_PLUS and self._votes is not None:
            votes = self._votes
            return explain(lambda: votes.open("rb"), str(votes))
        with self._lock:
            file = explain(lambda: self._open(path), self.locate(path))
            size = self._sizes[path]
            if size >= SMALL and path.lower().endswith(TABLES):
                return io.BufferedReader(Member(file, self.locate(path)), SMALL)
            if size > PICTURES:
                raise UserError(f"{self.locate(path)} unpacks to {size / 1e9:,.1f} GB, which is refused; remove it")
            with file:
                return io.BytesIO(explain(file.read, self.locate(path)))

    def locate(self, path: str) -> str:
        """A member as errors call it."""
        return f"{self.root} ({path})"

    def size(self, path: str) -> int:
        """Bytes of a member, unpacked."""
        return self._votes.stat().st_size if path not in self._sizes and self._votes else self._sizes[path]

    def signature(self) -> str:
        """Changes when the archive, or the votes beside it, are written, or when more kinds of pictures can be read.

        Whether the archive has any of them is not looked at: the list of a tar archive's files is long in reading.
        """
        files = [self.root] if self._votes is None else [self.root, self._votes]
        parts = [part for file in files for part in size_and_time(file)]
        return digest(str(self.root.resolve()), *parts, optional_endings(picture_endings()))


class ZipTree(ArchiveTree):
    """The files of a zip archive."""

    def __init__(self, root: Path):
        super().__init__(root)
        self._archive = explain(lambda: zipfile.ZipFile(root), str(root), "is not a whole zip archive")
        check_bomb(sum(self._sizes.values()), root.stat().st_size, str(root))

    @cached_property
    def _sizes(self) -> dict[str, int]:
        return {path: member.file_size for path, member in self._members.items()}

    @cached_property
    def _members(self) -> dict[str, zipfile.ZipInfo]:
        """The last member of each path, as unpacking would leave it; some Windows programs write \\ for /."""
        members = [member for member in self._archive.infolist() if not member.is_dir()]
        return {member.filename.replace("\\", "/"): member for member in members}

    def _open(self, path: str) -> IO[bytes]:
        member = self._members[path]
        if member.flag_bits & ENCRYPTED:
            raise UserError(f"{self.locate(path)} is encrypted; unpack the archive with its password and remove it")
        check_bomb(member.file_size, member.compress_size, self.locate(path))
        try:
            return self._archive.open(member)
        except NotImplementedError as error:
            raise UserError(
                f"{self.locate(path)} is packed by a method that Python cannot unpack (number "
                f"{member.compress_type}); unpack the archive with another program and remove it"
            ) from error


class TarTree(ArchiveTree):
    """The files of a tar archive, which is unzipped at the first look, once and as a whole, to a nameless file."""

    @cached_property
    def _archive(self) -> tarfile.TarFile:
        return explain(lambda: open_tar(self.root), str(self.root), "is not a whole tar archive")

    @cached_property
    def _members(self) -> dict[str, tarfile.TarInfo]:
        """The last regular file of each path, and of each link to one; UserError where the list breaks off."""

        def members() -> list[tarfile.TarInfo]:
            found, file = self._archive.getmembers(), self._archive.fileobj
            assert file is not None
            file.seek(self._archive.offset)  # tarfile takes a damaged header for the end
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError("its list of files breaks off")
            return found

        found = explain(members, str(self.root), "is not a whole tar archive")
        last = {posixpath.normpath(member.name): member for member in found}
        files = {path: resolve_link(path, last) for path in last}
        return {path: member for path, member in files.items() if member is not None}

    @cached_property
    def _sizes(self) -> dict[str, int]:
        return {path: member.size for path, member in self._members.items()}

    def _open(self, path: str) -> IO[bytes]:
        file = self._archive.extractfile(self._members[path])
        assert file is not None  # of a regular file
        return file


def resolve_link(path: str, members: Mapping[str, tarfile.TarInfo]) -> tarfile.TarInfo | None:
    """The regular file of a path, which may be a link to it, as where a file is stored once for several names.

    None for folders, devices, and links that lead to none, outside, or in a circle.
    """
    seen: set[str] = set()
    while path in members and path not in seen:
        seen.add(path)
        member = members[path]
        if member.isreg():
            return member
        if not (member.islnk() or member.issym()):
            return None
        start = "" if member.islnk() else posixpath.dirname(path)
        path = posixpath.normpath(posixpath.join(start, member.linkname))
    return None


class Member(io.RawIOBase):
    """A member that is read bit by bit; UserError where the archive turns out damaged."""

    def __init__(self, file: IO[bytes], name: str):
        self._file, self._name = file, name

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fills the buffer as far as there is content."""
        content = explain(lambda: self._file.read(len(buffer)), self._name)
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        """Closes the member; the archive stays open."""
        if not self.closed:
            self._file.close()
        super().close()


def explain(act: Callable[[], Result], name: str, fault: str = "is missing or broken") -> Result:
    """What `act` returns; UserError that names the archive or member for whatever its format's library raises."""
    try:
        return act()
    except ARCHIVE_DAMAGE as error:
        if isinstance(error, OSError) and error.errno:
            raise UserError(f"{name} cannot be read: {error.strerror}") from error
        reason = str(error) or type(error).__name__
        if isinstance(error, UnicodeDecodeError):
            reason = "the name of a file in it is not UTF-8"
        raise UserError(f"{name} {fault} ({reason}); download it again") from error


def open_tar(path: Path) -> tarfile.TarFile:
    """A tar archive for reading in any order: one that is compressed is first unzipped to a nameless file."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    if not packed:
        return tarfile.open(path, "r:", errors="surrogateescape")
    size = path.stat().st_size
    with explain_unwritable(Path(tempfile.gettempdir()) / path.stem), gzip.open(path) as file:
        plain = tempfile.TemporaryFile()  # noqa: SIM115 — the archive reads it from here on
        while chunk := file.read(SMALL):
            plain.write(chunk)
            check_bomb(plain.tell(), size, str(path))
        plain.seek(0)
    return tarfile.open(fileobj=plain, mode="r:", errors="surrogateescape")


def check_bomb(unpacked: int, packed: int, name: str) -> None:
    """UserError for sizes that no data set has, and that would fill the memory or disk."""
    if unpacked > BOMB_SIZE and unpacked > BOMB_RATIO * packed:
        raise UserError(
            f"{name} would unpack from {packed / 1e6:,.1f} MB to {unpacked / 1e6:,.0f} MB or more, which no data set "
            "does: it is refused; download it again, or unpack it yourself"
        )


def is_visible(path: str) -> bool:
    """Whether a member is neither hidden nor one of those that macOS adds."""
    return not path.rpartition("/")[2].startswith(".") and not path.startswith("__MACOSX/")
