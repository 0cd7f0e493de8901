"""Files written whole or not at all, what killed processes left removed, and JSON between the stages."""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import platform
import re
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ferlib.runtime.errors import UserError
from ferlib.runtime.shapes import misfit
from ferlib.runtime.terminal import legible, printable

SCHEMA = 2  # shape of the JSON files that pass between the stages
UNWRITABLE = (
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.EIO, errno.ENOTDIR,
    errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP, errno.EMFILE, errno.ENOENT, errno.EINVAL,
)  # fmt: skip
FULL = (errno.ENOSPC, errno.EDQUOT)
TEMPORARY = re.compile(r"\..+\.((?P<host>[\w-]+)-)?(?P<process>\d+)\.tmp(\.\w+)?")  # earlier versions named no host
FORGOTTEN = 24 * 3600  # seconds after which a temporary file of another host counts as left behind
PROBE = 1 << 16  # bytes that are written to learn whether a disk takes any


class UnwritableError(UserError):
    """A file or folder that cannot be written, and why."""


# ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that is moved into place when the block ends well and removed when it does not.

    A link stays, and the file that it leads to is written. UnwritableError where the disk is full, the folder is
    read-only, or the path cannot be one or is a device or a pipe.
    """
    path = written_path(Path(path))
    temporary = temporary_path(path)
    with explain_unwritable(path):
        make_folder(path.parent)
        try:
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            with contextlib.suppress(OSError):  # a read-only folder: the error that brought us here is the better one
                temporary.unlink(missing_ok=True)


def written_path(path: Path) -> Path:
    """The file that is written for `path`, links resolved; UnwritableError for all that exists and is no file."""
    with explain_unwritable(path):
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:
            mode = stat.S_IFREG  # new, or a link to what is not there yet
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(mode):
            raise UnwritableError(f"{printable(str(path))} is a device, a pipe or a socket; name a file")
        return Path(os.path.realpath(path)) if path.is_symlink() else path


def temporary_path(path: Path) -> Path:
    """A hidden path beside `path`, of the same ending, that names this host and process."""
    return path.with_name(f".{path.stem}.{host_name()}-{os.getpid()}.tmp{path.suffix}")


def host_name() -> str:
    """This machine's name in letters, digits, _ and -."""
    return re.sub(r"[^\w-]", "-", platform.node()) or "host"


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it, and removes from it what killed processes left half-written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder)) from error
    remove_leftovers(folder.absolute())


@contextlib.contextmanager
def explain_unwritable(path: Path) -> Iterator[None]:
    """Turns the OSErrors of writing `path` in the block into an UnwritableError that says what, where and why."""
    try:
        yield
    except OSError as error:
        own = error.filename is None or Path(os.fsdecode(error.filename)).parent in (path.parent, *path.parents)
        if error.errno not in UNWRITABLE or not own:
            raise
        raise UnwritableError(describe_unwritable(path, error)) from error


def describe_unwritable(path: Path, error: OSError) -> str:
    """A line on why `path` cannot be written."""
    reason = f"{printable(str(path))} cannot be written: {os.strerror(error.errno or 0)}"
    if error.errno in FULL:
        with contextlib.suppress(OSError):
            free = shutil.disk_usage(existing_folder(path)).free
            reason += f" ({free / 1e6:,.1f} MB are free)"
        return f"{reason}; free some space, then run the command again"
    if error.errno == errno.ENAMETOOLONG:
        return f"{reason}; take a shorter --tag or folder"
    return f"{reason}; name another folder or file, or change its permissions"


def existing_folder(path: Path) -> Path:
    """The nearest folder above `path` that exists."""
    return next(folder for folder in path.absolute().parents if folder.is_dir())


def check_writable(path: Path, size: int = 0) -> None:
    """UnwritableError unless a file of `size` bytes can be written at `path`; found by writing a few to its folder."""
    path = written_path(Path(path))
    with explain_unwritable(path):
        make_folder(path.parent)
        probe = temporary_path(path)
        try:
            with probe.open("wb") as file:
                file.write(bytes(PROBE))
                file.flush()
                os.fsync(file.fileno())
        finally:
            probe.unlink(missing_ok=True)
        free = shutil.disk_usage(path.parent).free
        if free < size:
            raise UnwritableError(
                f"{printable(str(path))} needs about {size / 1e6:,.0f} MB and its disk has {free / 1e6:,.0f} MB free; "
                "free some space, or name another folder"
            )


def write_text(path: Path, text: str) -> Path:
    """Writes a page or a table as UTF-8; returns its path. Names of files may hold characters that no page may."""
    with atomic_path(path) as temporary:
        temporary.write_text(legible(text), encoding="utf-8")
    return path


def check_distinct(outputs: Iterable[Path | None], inputs: Iterable[Path] = ()) -> None:
    """UserError for an output that would replace an input or another output."""
    read, written = {Path(path).resolve() for path in inputs}, set[Path]()
    for path in filter(None, outputs):
        place = Path(path).resolve()
        if place in read:
            raise UserError(f"{printable(str(path))} would be replaced by what is written; name another file or folder")
        if place in written:
            raise UserError(f"{printable(str(path))} is named for two outputs; give each a file of its own")
        written.add(place)


# ── what killed processes left ───────────────────────────────────────────────────────────────────────────────────────


def is_temporary(path: Path) -> bool:
    """Whether a file or folder is one that is still being written, or that a killed process left."""
    return TEMPORARY.fullmatch(path.name) is not None


@functools.cache
def remove_leftovers(folder: Path) -> None:
    """Removes from `folder`, once in a process, the temporary files and folders whose process is gone."""
    for path in folder.iterdir():
        if match := TEMPORARY.fullmatch(path.name):
            with contextlib.suppress(OSError):  # another process may remove it at the same time
                if is_left_behind(path, match["host"], int(match["process"])):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()


def is_left_behind(path: Path, host: str | None, process: int) -> bool:
    """Whether the process that wrote a temporary file is gone; of another host, whether it is a day old."""
    if host == host_name() and os.name != "nt":  # Windows has no call that asks for a process and harms none
        return not is_running(process)
    return time.time() - path.stat().st_mtime > FORGOTTEN


def is_running(process: int) -> bool:
    """Whether a process of this machine runs; not for Windows, where signal 0 would end it."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


# ── JSON ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes a stage's JSON file with the number of its shape; ValueError for values that are not finite."""
    with atomic_path(path) as temporary:
        text = json.dumps({"schema": SCHEMA, **content}, indent=1, allow_nan=False) + "\n"
        temporary.write_text(text, encoding="utf-8")


def read_json(path: Path, command: str, shape: Any = dict) -> dict[str, Any]:
    """Content of a stage's JSON file.

    shape: what its reader looks up, as in runtime.shapes. UserError naming `command` where the file is missing, broken,
    or of another shape.
    """
    advice = f"run again: {command}"
    try:
        content = json.loads(require(path, command).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        reason = "too deep" if isinstance(error, RecursionError) else str(error)
        raise UserError(f"{path} is not valid JSON ({reason}); {advice}") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}; {advice}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__} instead of an object; {advice}")
    if content.get("schema") != SCHEMA:
        raise UserError(f"{path} has shape {content.get('schema')!r:.20}, this version reads {SCHEMA}; {advice}")
    if wrong := misfit(content, shape):
        raise UserError(f"{path} is damaged: {wrong}; {advice}")
    return content


def require(path: Path, command: str) -> Path:
    """`path` if it exists, else a UserError with the command that makes it."""
    if not Path(path).exists():
        raise UserError(f"{path} does not exist; run: {command}")
    return Path(path)
