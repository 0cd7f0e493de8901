"""The face detectors: DETECTORS maps a name to its title, its weights and its function; open one by name.

Imports no OpenCV and no torch: a row names its function as MODULE:NAME, which `open_detector` imports.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ferlib.faces.weights import Weights, failed_lately, find_weights, remember_failure
from ferlib.runtime.errors import UserError, lookup
from ferlib.runtime.openvino import is_installed

if TYPE_CHECKING:
    from ferlib.faces.detection import Detector, Search

NO_YUNET = (
    "note: YuNet cannot be downloaded (--detector yunet says why); the Haar cascade, used instead, errs more often"
)
REFINE_SCORE = 0.5  # lowest score of a detection in the window of a face that was detected already


@dataclass(frozen=True)
class DetectorKind:
    """A row of DETECTORS."""

    title: str
    function: str  # MODULE:NAME in ferlib.faces: (file of weights, lowest score) → Search
    min_score: float  # 0..1 below which a detection is dropped
    weights: Weights | None = None
    fast: str = ""  # MODULE:NAME of a faster function that needs OpenVINO
    refines: bool = False  # landmarks are computed a second time in a levelled window of the face
    sure: float = 0.88  # score from which a face is upright; most of those that lie or stand on their head have less
    reach: int = 24  # pixels: width of the smallest faces that are found reliably
    fine_pixels: float = 20e6  # of a large picture, scaled for the search for small faces, at most

    def open(self, weights: Path | None, min_score: float, fast: bool = False) -> Search:
        """The search of one scale of a picture; UserError for a file that holds something else.

        fast: by OpenVINO where it is installed and there is such a function; it takes longer to open.
        """
        from ferlib.faces.detection import checked

        module, _, name = (self.fast if fast and self.fast and is_installed() else self.function).partition(":")
        search = getattr(importlib.import_module(f"ferlib.faces.{module}"), name)(weights, min_score)
        return checked(search, str(weights or self.title))


YUNET = Weights(
    "face_detection_yunet_2026may.onnx",
    "ebafce4e3c118d6554634be5c27ab333b4c047a9a8c3faf1d7cf93101c22f0f0",
    urls=(
        "https://github.com/opencv/opencv_zoo/raw/main/models/face_detection_yunet/face_detection_yunet_2026may.onnx",
        "https://huggingface.co/opencv/face_detection_yunet/resolve/main/face_detection_yunet_2026may.onnx",
    ),
    source="https://github.com/opencv/opencv_zoo/tree/main/models/face_detection_yunet",
)
RETINAFACE = Weights(
    "retinaface_mobilenet0.25_Final.pth",
    "2979b33ffafda5d74b6948cd7a5b9a7a62f62b949cef24e95fd15d2883a65220",
    source="https://github.com/biubug6/Pytorch_Retinaface",
)
DETECTORS = {
    "yunet": DetectorKind(
        "YuNet", "yunet:open_yunet", 0.6, weights=YUNET, fast="openvino_yunet:open_yunet", refines=True
    ),
    "retinaface": DetectorKind(
        "RetinaFace-MobileNet0.25", "retinaface:open_retinaface", 0.8, weights=RETINAFACE, sure=0.99, reach=28
    ),
    "haar": DetectorKind("Haar cascade", "haar:open_haar", min_score=0.5, sure=0.96, reach=28, fine_pixels=4e6),
}


def open_detector(
    name: str = "auto",
    weights: Path | None = None,
    min_score: float | None = None,
    sides: Sequence[int] | None = None,
    refine: bool = True,
    fast: bool = False,
) -> Detector:
    """A detector of DETECTORS; "auto": YuNet, or the Haar cascade where YuNet's weights are missing.

    weights: a file instead of the cached or downloaded one. min_score: 0..1, by default the detector's own. sides:
    pixels of the longest side at which larger pictures are searched, by default detection.SIDES and, of pictures that
    are much larger, tiles of finer scales; a single one is faster and misses small faces.
    refine: whether YuNet's landmarks are computed a second time in a levelled window of each face, about 2 ms a face.
    fast: whether YuNet is computed by OpenVINO, where it is installed: for many pictures.
    UserError for unknown names, missing weights and files that hold something else.
    """
    if name == "auto":
        name, weights = choose_detector(weights)
    kind = lookup(DETECTORS, name, "detector")
    path = find_weights(weights, kind.weights) if kind.weights else None
    from ferlib.faces.detection import SIDES, Detector

    least = kind.min_score if min_score is None else min_score
    refiner = kind.open(path, REFINE_SCORE, fast) if refine and kind.refines else None
    return Detector(
        name,
        kind.open(path, least, fast),
        least,
        sides or SIDES,
        refiner,
        sure=kind.sure,
        reach=kind.reach,
        fine_pixels=0 if sides else kind.fine_pixels,
    )


def choose_detector(weights: Path | None) -> tuple[str, Path | None]:
    """Name and weights: YuNet, RetinaFace where the given file is one of PyTorch, Haar where there are no weights.

    Of a failed download there is a note, and one in every later process of the day in which it is not tried again.
    """
    if weights is not None:
        return ("retinaface" if Path(weights).suffix in (".pth", ".pt") else "yunet"), weights
    if failed_lately(YUNET):
        note_haar()
        return "haar", None
    try:
        return "yunet", find_weights(None, YUNET)
    except UserError:
        note_haar.cache_clear()
        note_haar()
        remember_failure(YUNET)
        return "haar", None


@cache
def note_haar() -> None:
    """Says, once in a process, that the cascade stands in for YuNet."""
    print(NO_YUNET, file=sys.stderr)


def detector_title(detector: Detector | None) -> str:
    """Name of a detector for people; without one, each picture is taken as one face."""
    return DETECTORS[detector.name].title if detector else "none, each picture is one face"
