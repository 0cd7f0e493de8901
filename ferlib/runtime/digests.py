"""Digests that identify files and settings."""

from __future__ import annotations

import hashlib
from pathlib import Path


def digest(*parts: object) -> str:
    """16 hexadecimal digits that change when the printed form of any part does."""
    return hashlib.blake2b(repr(parts).encode(), digest_size=8).hexdigest()


def digest_file(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
