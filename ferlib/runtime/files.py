"""Files written whole or not at all; JSON between the stages."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ferlib.runtime.errors import UserError

SCHEMA = 2  # shape of the JSON files that pass between the stages


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that is moved into place when the block ends well and removed when it does not."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes a stage's JSON file with the number of its shape; ValueError for values that are not finite."""
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
