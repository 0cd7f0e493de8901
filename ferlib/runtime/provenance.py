"""What made a result: library versions, the command, its flags."""

from __future__ import annotations

import contextlib
import dataclasses
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


def provenance() -> dict[str, Any]:
    """The command and the library versions, as every JSON file of a stage holds them."""
    return {"command": command_line(), "versions": library_versions()}


def library_versions() -> dict[str, str]:
    """Python's version and those of the libraries that results depend on."""
    versions = {"python": platform.python_version()}
    for package in ("torch", "torchvision", "numpy", "scikit-learn", "scikit-image", "lime", "shap"):
        with contextlib.suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions


def command_line() -> str:
    """The command that started this process, as one would type it."""
    return " ".join(["python", Path(sys.argv[0]).name, *sys.argv[1:]])


def to_plain(config: object) -> dict:
    """A dataclass of flags as plain Python (strings for paths), fit for JSON and for checkpoints."""
    values = dataclasses.asdict(config)
    return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}
