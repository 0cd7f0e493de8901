"""One process at a time: a lock for every run and stage."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from ferlib.runtime.errors import UserError
from ferlib.runtime.files import explain_unwritable, make_folder

PATIENCE = 0.3  # seconds: longer than is_held takes


def is_held(path: Path) -> bool:
    """Whether a process holds the lock at `path`."""
    if not path.exists():
        return False
    lock = FileLock(path, blocking=False)
    try:
        with lock:
            return False
    except Timeout:
        return True
    except OSError:  # a lock that may not be opened
        return False


@contextlib.contextmanager
def sole_process(path: Path, doing: str) -> Iterator[None]:
    """Holds the lock at `path` while the block runs; the kernel gives it free when the process ends, however it ends.

    doing: "RUN is being trained", for the UserError where another process holds the lock.
    """
    with explain_unwritable(path):
        make_folder(path.parent)
        lock = FileLock(path, timeout=PATIENCE)
        try:
            lock.acquire()
        except Timeout as error:
            raise UserError(
                f"{doing} by another process; wait for it, stop it, or give this run a name of its own with --tag"
            ) from error
    try:
        yield
    finally:
        lock.release()
