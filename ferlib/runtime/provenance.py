"""What made a result: the command and the library versions."""

from __future__ import annotations

import contextlib
import platform
import re
import shlex
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
    for package in ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "scikit-image", "lime", "shap", "captum"):
        with contextlib.suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions


def command_line() -> str:
    """The command that started this process, as one would type it, less a password in an address."""
    words = ["python", Path(sys.argv[0]).name, *sys.argv[1:]]
    return shlex.join(re.sub(r"(://[^:/@\s]+):[^@\s]+@", r"\1:***@", word) for word in words)
