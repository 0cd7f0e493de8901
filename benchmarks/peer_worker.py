"""Runs one recogniser on faces and on a photo, inside of the environment that its package is installed in.

Started by benchmarks/bench_peers.py with a request, a JSON file; imports numpy and the package alone.

The request names the recogniser ("open", a row of OPENERS), the task (a row of TASKS), its inputs and the file for the
answer, which is JSON; scores go to an npy file beside it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

MANY = 1e9  # passes for which a network is worth converting
Scores = Callable[[np.ndarray], np.ndarray]  # grey faces uint8 N×48×48 → N×classes, in the package's own order
Photo = Callable[[str], int]  # a picture's file → number of faces found and named, as a user of the package calls it


# ── recognisers ──────────────────────────────────────────────────────────────────────────────────────────────────────


def open_ours(checkpoint: str) -> tuple[Scores, Photo]:
    """A shipped network by its name, on the engine that predict.py takes for many faces."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from config import EngineFlags
    from ferlib.explanations.photo_predictions import predict_single_image
    from ferlib.faces.detectors import open_detector
    from ferlib.faces.face_model import open_face_model
    from ferlib.runtime.digests import digest_file
    from ferlib.runtime.runs import shipped_checkpoint

    path = shipped_checkpoint(checkpoint)
    model, detector = open_face_model(checkpoint=path), open_detector("auto")
    model.use_engine(EngineFlags(), digest_file(path), MANY)
    return (
        lambda faces: model.probabilities(to_colour(faces)),
        lambda path: len(predict_single_image(path, model, detector)),
    )


def open_fer(_checkpoint: str) -> tuple[Scores, Photo]:
    import cv2
    from fer.fer import FER

    recogniser = FER()

    def scores(faces: np.ndarray) -> np.ndarray:
        return recogniser._classify_emotions(centred(np.stack([cv2.resize(face, (64, 64)) for face in faces])))

    return scores, lambda path: len(recogniser.detect_emotions(cv2.imread(path)))


def open_what_the_face(_checkpoint: str) -> tuple[Scores, Photo]:
    import torch
    from PIL import Image
    from what_the_face_classification.inference import Image_classifier

    recogniser = Image_classifier()
    recogniser.net.eval()

    @torch.no_grad()
    def scores(faces: np.ndarray) -> np.ndarray:
        batch = torch.stack([recogniser.transform(Image.fromarray(face)) for face in faces])
        return recogniser.net(batch.float()).softmax(1).numpy()

    return scores, lambda path: int(recogniser.predict(Image.open(path))[0] != "no face detected")


def open_pyemotion(_checkpoint: str) -> tuple[Scores, Photo]:
    import cv2
    import torch
    from PyEmotion import DetectFace

    recogniser = DetectFace(device="cpu")

    @torch.no_grad()
    def scores(faces: np.ndarray) -> np.ndarray:
        return recogniser.network(torch.stack([recogniser.transform(face) for face in faces])).numpy()

    return scores, lambda path: int(recogniser.predict_emotion(cv2.imread(path))[1] != "NoFace")


OPENERS = {
    "ours": open_ours,
    "ours-small": open_ours,
    "fer": open_fer,
    "what-the-face": open_what_the_face,
    "pyemotion": open_pyemotion,
}


def to_colour(faces: np.ndarray) -> np.ndarray:
    """Grey faces N×S×S as N×S×S×3."""
    return np.repeat(faces[..., None], 3, axis=3)


def centred(faces: np.ndarray) -> np.ndarray:
    """uint8 → float32 in -1..1, as fer's detect_emotions."""
    return ((faces.astype(np.float32) / 255) - 0.5) * 2


# ── tasks ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def score(request: dict[str, Any]) -> dict[str, Any]:
    """Scores of all faces, N×classes, in the npy file "scores"."""
    scores, _ = OPENERS[request["open"]](request["checkpoint"])
    faces = np.load(request["faces"])
    np.save(request["scores"], np.concatenate([scores(batch) for batch in batches(faces, 64)]))
    return {}


def measure_speed(request: dict[str, Any]) -> dict[str, Any]:
    """Faces a second by batch size, over whole batches for the seconds that are asked for after one that warms up."""
    scores, _ = OPENERS[request["open"]](request["checkpoint"])
    faces = np.load(request["faces"])
    rates = {}
    for size in request["batch_sizes"]:
        batch = faces[:size]
        scores(batch)
        started, done = time.perf_counter(), 0
        while time.perf_counter() - started < request["seconds"]:
            scores(batch)
            done += size
        rates[str(size)] = done / (time.perf_counter() - started)
    return {"rates": rates}


def read_photo(request: dict[str, Any]) -> dict[str, Any]:
    """Faces found in the photo, and the median seconds of further looks at it, "looks" in number."""
    _, photo = OPENERS[request["open"]](request["checkpoint"])
    found, seconds = photo(request["photo"]), []
    for _ in range(request["looks"]):
        started = time.perf_counter()
        photo(request["photo"])
        seconds.append(time.perf_counter() - started)
    return {"found": found, "warm": float(np.median(seconds)) if seconds else None}


def measure_size(request: dict[str, Any]) -> dict[str, Any]:
    """Bytes of "requirements" and of what they require, which of these are absent, and the first one's version."""
    sizes: dict[str, int] = {}
    absent: set[str] = set()
    names = required_names(request["requirements"])
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in sizes or name in absent:
            continue
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            absent.add(name)
            continue
        sizes[name] = sum(file_size(Path(str(path.locate()))) for path in found.files or ())
        waiting.extend(required_names(found.requires or ()))
    version = metadata.version(names[0]) if names[0] in sizes else ""
    return {"installed": sum(sizes.values()), "absent": sorted(absent), "version": version}


TASKS = {"score": score, "speed": measure_speed, "photo": read_photo, "size": measure_size}


def batches(faces: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(faces), size):
        yield faces[start : start + size]


def required_names(requirements: list[str] | tuple[str, ...]) -> list[str]:
    """Names of the requirements, written as in the metadata of a package, that apply to this interpreter."""
    from pip._vendor.packaging.requirements import Requirement
    from pip._vendor.packaging.utils import canonicalize_name

    found = map(Requirement, requirements)
    return [canonicalize_name(each.name) for each in found if not each.marker or each.marker.evaluate({"extra": ""})]


def file_size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def main() -> None:
    request = json.loads(Path(sys.argv[1]).read_text())
    answer = TASKS[request["task"]](request)
    Path(request["answer"]).write_text(json.dumps(answer))


if __name__ == "__main__":
    main()
