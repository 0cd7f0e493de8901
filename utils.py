"""Small helpers that every stage uses: errors for people, registries, whole-file writes, seeds; imports no torch."""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import platform
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

Row = TypeVar("Row")
SCHEMA = 1  # shape of the JSON files that pass between the stages


class UserError(Exception):
    """What is wrong and what to do, in words for the person at the terminal."""


def run_script(main: Callable[[], object]) -> None:
    """Runs a script's main; prints a UserError or ctrl-C as one line instead of a traceback (exit codes 1 and 130)."""
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        sys.exit(130)


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Holds ctrl-C back until the block ends; a process started in it inherits the mask and never sees one.

    A handler set by the new process itself comes too late: ctrl-C goes to the whole group while Python is starting.
    The mask alone does not hold it back from this process: the kernel hands the signal to any other thread (OpenMP's,
    a progress bar's), and Python's main thread is interrupted all the same. So it is noted, and raised at the end.
    """
    handler = signal.getsignal(signal.SIGINT)
    noting = handler is not None and threading.current_thread() is threading.main_thread()
    maskable = hasattr(signal, "pthread_sigmask")
    noted = []
    if maskable:
        resource_tracker.ensure_running()  # multiprocessing starts it with the first process, which lifts the mask
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    if noting:
        signal.signal(signal.SIGINT, lambda *_: noted.append(True))
    try:
        yield
    finally:
        if maskable:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if noting:
            signal.signal(signal.SIGINT, handler)
        if noted:
            signal.raise_signal(signal.SIGINT)


def lookup(table: Mapping[str, Row], name: str, kind: str) -> Row:
    """The row `name` of a registry; UserError that lists the valid names otherwise."""
    if name in table:
        return table[name]
    close = difflib.get_close_matches(name, table, n=1)
    hint = f"; did you mean {close[0]}?" if close else "."
    raise UserError(f"unknown {kind} '{name}'{hint} Valid names: {', '.join(table)}")


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that is moved into place when the block ends well and removed when it does not."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: dict[str, Any]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps({"schema": SCHEMA, **content}, indent=1, allow_nan=False) + "\n")


def read_json(path: Path, command: str) -> dict[str, Any]:
    """Content of a stage's JSON file; UserError naming `command` where it is missing, broken or of another shape."""
    try:
        content = json.loads(require(path, command).read_text())
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not valid JSON ({error}); run again: {command}") from error
    if content.get("schema") != SCHEMA:
        raise UserError(f"{path} has shape {content.get('schema')}, this version reads {SCHEMA}; run again: {command}")
    return content


def require(path: Path, command: str) -> Path:
    """`path` if it exists, else a UserError with the command that makes it."""
    if not Path(path).exists():
        raise UserError(f"{path} does not exist; run: {command}")
    return Path(path)


# ── where a result came from ─────────────────────────────────────────────────────────────────────────────────────────


def library_versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in ("torch", "torchvision", "numpy", "scikit-learn", "scikit-image", "lime", "shap"):
        with contextlib.suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions


def command_line() -> str:
    """The command that started this process, as one would type it."""
    return " ".join(["python", Path(sys.argv[0]).name, *sys.argv[1:]])


# ── seeds ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def combine_seeds(*seeds: int) -> int:
    """One 32-bit seed from several numbers; streams of different tuples are independent."""
    return int(np.random.SeedSequence(seeds).generate_state(1)[0])
