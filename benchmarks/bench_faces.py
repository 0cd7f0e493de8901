"""Compares the face detectors: share of faces found, accuracy of the shipped model on their crops, time per frame.

python benchmarks/bench_faces.py --faces 3589 --detector-weights FILE.onnx FILE.pth

Test faces of FER2013, enlarged to 120 px, are placed in the middle of grey frames of 640×480, upright and tilted.
Accuracy is the shipped model's, on the original faces and on the crops of the detections, both over the faces that were
found. False detections are counted in pictures of scikit-image without a face. The framing is the position of the
detector's box in the data set's own pictures; ferlib/faces/crops.py holds YuNet's.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import skimage.data
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parents[1]))

import datasets
from ferlib.faces.crops import DetectedFace, crop_face, head_angle
from ferlib.faces.detection import Detector
from ferlib.faces.detectors import DETECTORS, open_detector
from ferlib.faces.face_model import FaceModel, open_face_model
from ferlib.runtime.devices import device_name
from ferlib.runtime.errors import UserError
from ferlib.runtime.flags import parse_flags

WIDTH, HEIGHT, SIDE = 640, 480, 120
FACELESS = (
    "coffee", "chelsea", "rocket", "brick", "grass", "gravel", "coins", "clock", "text", "page", "moon", "retina"
)  # fmt: skip
HEADLINE = "detector          tilt    found      raw  cropped  tilt found    ms   box in the face's picture"


@dataclass(frozen=True)
class Flags:
    """Compare the face detectors: python benchmarks/bench_faces.py --faces 1000"""

    faces: int = 1000  # of the test split, chosen at random
    tilts: tuple[int, ...] = (0, 20, -20)  # degrees
    detectors: tuple[str, ...] = tuple(DETECTORS)
    detector_weights: tuple[Path, ...] = ()  # instead of the cached ones: .onnx of YuNet, .pth of RetinaFace
    data_dir: Path = Path("data")
    outputs_dir: Path = Path("outputs")
    device: str = "auto"
    seed: int = 0


def frame(face: np.ndarray, tilt: float) -> np.ndarray:
    """A face uint8 S×S×1 in the middle of a grey picture, turned clockwise by `tilt` degrees."""
    picture = np.full((HEIGHT, WIDTH), 128, np.uint8)
    left, top = (WIDTH - SIDE) // 2, (HEIGHT - SIDE) // 2
    picture[top : top + SIDE, left : left + SIDE] = cv2.resize(face, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    if tilt:
        turn = cv2.getRotationMatrix2D((WIDTH / 2, HEIGHT / 2), -tilt, 1)
        picture = cv2.warpAffine(picture, turn, (WIDTH, HEIGHT), borderValue=128)
    return np.repeat(picture[..., None], 3, axis=2)


def open_all(flags: Flags) -> dict[str, Detector]:
    """The detectors whose weights are available; the reason is printed for the others."""
    given = {".onnx": "yunet", ".pth": "retinaface"}
    files = {given.get(path.suffix, ""): path for path in flags.detector_weights}
    found = {}
    for name in flags.detectors:
        try:
            found[name] = open_detector(name, files.get(name))
        except UserError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
    if "yunet" in found:
        found["yunet, unrefined"] = replace(found["yunet"], refiner=None)
    return found


def accuracy(model: FaceModel, crops: Sequence[np.ndarray], labels: np.ndarray) -> float:
    return float((model.probabilities(np.stack(crops)).argmax(1) == labels).mean())


def measure(
    detector: Detector, model: FaceModel, images: np.ndarray, labels: np.ndarray, tilt: int
) -> dict[str, float]:
    """Share found, accuracy on the original faces and on the crops, median tilt found (°), milliseconds per frame."""
    rows, finds, crops, seconds = [], [], [], []
    for row, image in enumerate(tqdm(images, desc=f"{detector.name} {tilt}°", unit=" frames", leave=False)):
        picture = frame(image, tilt)
        started = time.perf_counter()
        found = detector(picture)
        seconds.append(time.perf_counter() - started)
        if found:
            rows.append(row)
            finds.append(found[0])
            crops.append(crop_face(picture, found[0], model.crop_size))
    return {
        "found": len(rows) / len(images),
        "raw": accuracy(model, np.repeat(images[rows], 3, axis=3), labels[rows]),
        "cropped": accuracy(model, crops, labels[rows]),
        "tilt": float(np.median([math.degrees(head_angle(face)) for face in finds])),
        "ms": 1000 * float(np.median(seconds)),
        **({} if tilt else framing(finds)),
    }


def framing(finds: Sequence[DetectedFace]) -> dict[str, float]:
    """Medians over upright faces: √ of the box's area and its centre, as shares of the data set's picture."""
    boxes = np.array([face.box for face in finds])
    centres = boxes[:, :2] + boxes[:, 2:] / 2 - ((WIDTH - SIDE) / 2, (HEIGHT - SIDE) / 2)
    across, down = np.median(centres, axis=0) / SIDE
    return {"side": float(np.median(np.sqrt(boxes[:, 2] * boxes[:, 3]))) / SIDE, "across": across, "down": down}


def count_false(detector: Detector) -> int:
    """Detections in pictures without a face."""
    pictures = [getattr(skimage.data, name)() for name in FACELESS]
    colour = [picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2) for picture in pictures]
    return sum(len(detector(np.ascontiguousarray(picture[..., :3]))) for picture in colour)


def main() -> None:
    flags = parse_flags(Flags)
    test = datasets.load_faces("fer2013", flags.data_dir, flags.outputs_dir).split("test")
    order = np.random.default_rng(flags.seed).permutation(len(test.images))[: flags.faces]
    images, labels = test.images[np.sort(order)], test.labels[np.sort(order)]
    model = open_face_model(device=flags.device)
    print(f"{model.label} on {device_name(model.device)}; {len(images)} test faces of {SIDE} px in {WIDTH}×{HEIGHT}")
    print(HEADLINE)
    detectors = open_all(flags)
    for name, detector in detectors.items():
        for tilt in flags.tilts:
            row = measure(detector, model, images, labels, tilt)
            box = f"   side {row['side']:.3f}, centre {row['across']:.3f} {row['down']:.3f}" if "side" in row else ""
            shares = "".join(f"{100 * row[key]:>8.1f}%" for key in ("found", "raw", "cropped"))
            print(f"{name:<17}{tilt:>4}°{shares}{row['tilt']:>10.1f}°{row['ms']:>7.1f}{box}", flush=True)
    false = ", ".join(f"{name} {count_false(detector)}" for name, detector in detectors.items())
    print(f"false detections in {len(FACELESS)} pictures without a face: {false}")


if __name__ == "__main__":
    main()
