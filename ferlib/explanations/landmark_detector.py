"""The detector whose landmarks place the regions of a face: YuNet, or none where its weights are missing."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ferlib.faces.detectors import YUNET, open_detector
from ferlib.faces.weights import failed_lately, find_weights, remember_failure
from ferlib.runtime.errors import UserError
from ferlib.runtime.openvino import is_installed

if TYPE_CHECKING:
    from ferlib.faces.detection import Search


def open_landmarks() -> Search | None:
    """YuNet's search; None, with a printed note, where its weights cannot be had."""
    from ferlib.faces.landmarks import LEAST

    weights = find_yunet()
    if weights is None:
        return None
    return open_detector("yunet", weights, min_score=LEAST, refine=False, fast=True).search


def describe_detector() -> str:
    """The detector as a part of the key of what depends on it: its weights and the library that computes it."""
    if find_yunet() is None:
        return "none"
    if is_installed():
        return f"{YUNET.sha256}, openvino {metadata.version('openvino')}"
    import cv2

    return f"{YUNET.sha256}, opencv {cv2.__version__}"


def find_yunet() -> Path | None:
    """YuNet's weights; None, with a printed note, where they cannot be had. For a day after a failed download it is
    not tried again."""
    if not failed_lately(YUNET):
        try:
            return find_weights(None, YUNET)
        except UserError:
            remember_failure(YUNET)
    print_note()
    return None


@cache
def print_note() -> None:
    """Once a process, and in the first one only."""
    from ferlib.runtime.distributed import is_main  # loads torch, which tables and figures do without

    if is_main():
        print(
            "note: faces are placed as on an average face, as YuNet's weights are missing: "
            f"download {YUNET.file} from {YUNET.source} into {YUNET.cached.parent}",
            file=sys.stderr,
        )


def describe_placed(faces: Iterable[Mapping[str, Any]]) -> str:
    """How the faces of a summary were placed, in words; "" where none was, or where it is not known."""
    found = [face["landmarks_found"] for face in faces if face.get("landmarks_found") is not None]
    if not found:
        return ""
    if not any(found):
        return "faces placed as on an average face"
    others = ", the others as on an average face" * (not all(found))
    return f"{sum(found)} of {len(found)} faces placed by landmarks{others}"
