"""Files of tensors and plain Python as torch saves them: written whole or not at all, read without running code."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import pickletools
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

import torch

from ferlib.runtime.damage import ARCHIVE_DAMAGE
from ferlib.runtime.errors import UserError
from ferlib.runtime.files import atomic_path

NAMES_CODE = {"GLOBAL", "STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4"}  # opcodes of pickle
TENSORS = ("torch", "collections OrderedDict")  # what pickled tensors name, with the opcode GLOBAL


class Recorder(io.RawIOBase):
    """A file for torch.save, whose own errors do not say what the system answered."""

    def __init__(self, file: IO[bytes]):
        self.file = file
        self.error: OSError | None = None

    def writable(self) -> bool:
        """Always."""
        return True

    def write(self, data: Any) -> int:
        """Writes and returns the number of bytes; keeps the error where the system refuses them."""
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise


def save_tensors(path: Path, content: dict[str, Any]) -> None:
    """Writes tensors and plain Python, whole or not at all; UnwritableError where the disk does not take them."""
    with atomic_path(path) as temporary, temporary.open("wb", buffering=0) as file:
        recorder = Recorder(file)
        try:
            torch.save(content, cast(IO[bytes], recorder))
        except (RuntimeError, OSError):
            raise recorder.error or OSError(errno.EIO, os.strerror(errno.EIO)) from None


def read_tensors(path: Path) -> dict[str, Any]:
    """The content of a file that torch.save wrote, tensors and plain Python.

    UserError for a file that is missing, damaged, holds code or values that are not finite. Of an archive, the form of
    torch since 2020, every part has a checksum; of older files, a change that leaves finite values is not seen.
    """
    return read_open(path, identify=False)[0]


def read_identified(path: Path) -> tuple[dict[str, Any], str]:
    """As read_tensors, and the SHA-256 of what was read, even where another file takes its place meanwhile."""
    return read_open(path, identify=True)


def read_open(path: Path, *, identify: bool) -> tuple[dict[str, Any], str]:
    """As read_tensors, with the SHA-256 of the same open file, or ""."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path} is no file" if path.exists() else f"{path} does not exist")
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols
            digest = hashlib.file_digest(file, "sha256").hexdigest() if identify else ""
            check_archive(path, file)
            file.seek(0)
            content = torch.load(file, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except Exception as error:  # unpickling bytes that are no pickle raises any kind of error
        raise UserError(f"{path} {describe_unreadable(path, error)}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}, not a checkpoint or state dict")
    for name, tensor in named_tensors(content):
        # of float16 itself, isfinite is 20 times slower
        if tensor.is_floating_point() and not tensor.float().isfinite().all():
            raise UserError(f"{path} holds values that are not finite, in {name}; train it again or take another file")
    return content, digest


def check_archive(path: Path, file: IO[bytes]) -> None:
    """UserError for a zip archive with a part whose checksum or size is wrong; other files are left to torch."""
    if not zipfile.is_zipfile(file):
        return
    with zipfile.ZipFile(file) as archive:
        if any(part.compress_type != zipfile.ZIP_STORED for part in archive.infolist()):
            raise UserError(f"{path} is a compressed archive, not a file that torch.save wrote")
        if damaged := archive.testzip():
            raise UserError(f"{path} is damaged: {damaged} does not match its checksum; train again or copy it again")


def describe_unreadable(path: Path, error: Exception) -> str:
    """Why a file cannot be read; torch's own message would advise to run the code in it."""
    if isinstance(error, MemoryError) or "not enough memory" in str(error):
        return "needs more memory than there is"
    if holds_code(pickle_of(path)):
        return "holds code, not weights, and is not opened; save its weights alone: torch.save(model.state_dict(), …)"
    return "is not a file of weights that torch.save wrote, or it is damaged"


def pickle_of(path: Path) -> bytes:
    """The part of a file that is a pickle: of an archive its data.pkl, else the first MiB."""
    try:
        with zipfile.ZipFile(path) as archive:
            name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
            return archive.read(name)
    except (StopIteration, *ARCHIVE_DAMAGE):
        with path.open("rb") as file:
            return file.read(1 << 20)


def holds_code(data: bytes) -> bool:
    """Whether one of the whole pickles in `data` names functions or classes other than torch's."""
    stream = io.BytesIO(data)
    while True:
        try:
            opcodes = list(pickletools.genops(stream))
        except (ValueError, UnicodeDecodeError):  # the end, or no pickle
            return False
        if any(code.name in NAMES_CODE and not str(text).startswith(TENSORS) for code, text, _ in opcodes):
            return True


def named_tensors(content: Any, name: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor in nested dicts and lists, with the path to it."""
    if isinstance(content, torch.Tensor):
        yield name, content
    elif isinstance(content, dict | list | tuple):
        items = content.items() if isinstance(content, dict) else enumerate(content)
        for key, value in items:
            yield from named_tensors(value, f"{name}.{key}" if name else str(key))
