"""The package openvino, where it is installed."""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from typing import Any

from ferlib.runtime.errors import UserError

PACKAGES = ("openvino", "nncf")  # of the extra "fast"


def is_installed() -> bool:
    """Whether the packages of OpenVINO are there; they are not imported for it."""
    return all(importlib.util.find_spec(package) for package in PACKAGES)


class NotConvertibleError(UserError):
    """A network that OpenVINO cannot compute, and why."""


def import_openvino() -> Any:
    """The package openvino, whose import would else report itself to its maker over the network.

    NotConvertibleError where it is there and cannot be loaded.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # an import of it fails, as without it
    try:
        import openvino
    except (ImportError, OSError) as error:
        raise NotConvertibleError(f"OpenVINO is installed and cannot be loaded ({error})") from error
    return openvino


@cache
def core() -> Any:
    """The one Core of this process, whose plugin stays loaded to its end.

    Each Core loads a plugin of its own, which gives the thread another stack for signals and, unloaded, the one before
    back. Two that are unloaded in the order in which they came leave a stack that is gone, and the next ctrl-C is a
    segmentation fault.
    """
    made = import_openvino().Core()
    made.get_versions("CPU")  # loads the plugin, before others load and unload theirs
    return made
