"""Notes to the user: each line once in a process, and collected for those who keep them beside a result."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator

from ferlib.runtime.terminal import printable

_collecting: list[list[str]] = []


def print_note(text: str) -> None:
    """Prints a line once in a process, and only in the first process of torchrun; nothing for an empty text."""
    if text:
        if _collecting:
            _collecting[-1].append(text)
        print_once(text)


@functools.cache
def print_once(text: str) -> None:
    """Prints a note at the first call with its text."""
    if os.environ.get("RANK", "0") == "0":
        print(f"note: {printable(text)}", flush=True)


@contextlib.contextmanager
def notes_collected() -> Iterator[list[str]]:
    """The notes of the block, as it goes on; those that were printed before too, but none of a block in it."""
    notes: list[str] = []
    _collecting.append(notes)
    try:
        yield notes
    finally:
        _collecting.pop()
