"""The package openvino, where it is installed."""

from __future__ import annotations

import importlib.util
import sys
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
