"""YuNet by OpenVINO, for videos: the detections of yunet.py in a quarter of the time on CPUs.

Wu, Peng & Yu, "YuNet: A tiny millisecond-level face detector" (2023), section 3: an anchor-free head at three strides;
a cell's score is the geometric mean of its probabilities of a face and of an object.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ferlib.faces.crops import DetectedFace
from ferlib.faces.detection import MAX_OVERLAP, Search
from ferlib.faces.yunet import CANDIDATES
from ferlib.runtime.errors import UserError
from ferlib.runtime.openvino import core, import_openvino

STRIDES = (8, 16, 32)
HEADS = ("cls", "obj", "bbox", "kps")  # probabilities of a face and of an object, box, landmarks
PARTS = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}  # numbers of a cell


def open_yunet(weights: Path, min_score: float, threads: int = 1) -> Search:
    """As yunet.open_yunet; UserError for a file of another kind."""
    openvino = import_openvino()
    try:
        model = with_pictures(core().read_model(weights))
        settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False}
        request = core().compile_model(model, "CPU", settings).create_infer_request()
        names = [f"{head}_{stride}" for stride in STRIDES for head in HEADS]
        outputs = {name: request.model_outputs.index(request.get_compiled_model().output(name)) for name in names}
    except RuntimeError as error:
        raise UserError(f"{weights} is not a YuNet that OpenVINO can read: {str(error).splitlines()[-1]}") from error

    def search(picture: np.ndarray) -> list[DetectedFace]:
        padded = pad(picture)
        request.infer({0: openvino.Tensor(padded[None], shared_memory=True)})
        found = {name: request.get_output_tensor(number).data[0] for name, number in outputs.items()}
        return decode(found, padded.shape[1], min_score)

    return search


def with_pictures(model: Any) -> Any:
    """The network with pictures uint8 1×H×W×3 RGB as its input, instead of float 1×3×H×W BGR."""
    from openvino import Layout, Type
    from openvino.preprocess import ColorFormat, PrePostProcessor

    steps = PrePostProcessor(model)
    steps.input().tensor().set_element_type(Type.u8).set_layout(Layout("NHWC")).set_color_format(ColorFormat.RGB)
    steps.input().tensor().set_spatial_dynamic_shape()
    steps.input().model().set_layout(Layout("NCHW"))
    steps.input().preprocess().convert_element_type(Type.f32).convert_color(ColorFormat.BGR)
    return steps.build()


def pad(picture: np.ndarray) -> np.ndarray:
    """Black below and on the right, so that both sides are multiples of the largest stride."""
    height, width = picture.shape[:2]
    down, right = -height % STRIDES[-1], -width % STRIDES[-1]
    return np.ascontiguousarray(np.pad(picture, ((0, down), (0, right), (0, 0))) if down or right else picture)


def decode(outputs: dict[str, np.ndarray], width: int, min_score: float) -> list[DetectedFace]:
    """The faces in the outputs HEAD_STRIDE, cells×numbers, of a picture `width` pixels wide."""
    rows = np.concatenate([decode_stride(outputs, stride, width, min_score) for stride in STRIDES])
    rows = rows[np.argsort(-rows[:, 0], kind="stable")[:CANDIDATES]]
    kept = cv2.dnn.NMSBoxes(rows[:, 1:5].tolist(), rows[:, 0].tolist(), min_score, MAX_OVERLAP)
    return [to_face(rows[number]) for number in np.asarray(kept, int).ravel()]


def decode_stride(outputs: dict[str, np.ndarray], stride: int, width: int, min_score: float) -> np.ndarray:
    """float32 faces×15: score, left, top, width, height and landmarks of the cells that reach the score."""
    face, thing, boxes, points = (outputs[f"{head}_{stride}"].reshape(-1, PARTS[head]) for head in HEADS)
    scores = np.sqrt(face.clip(0, 1) * thing.clip(0, 1))[:, 0]
    cells = np.flatnonzero(scores >= min_score)
    down, right = np.divmod(cells, width // stride)
    corner = np.stack([right, down], 1).astype(np.float32)
    sizes = np.exp(boxes[cells, 2:]) * stride
    lefts = (corner + boxes[cells, :2]) * stride - sizes / 2
    landmarks = (points[cells] + np.tile(corner, 5)) * stride
    return np.concatenate([scores[cells, None], lefts, sizes, landmarks], 1)


def to_face(row: np.ndarray) -> DetectedFace:
    """A row of decode_stride."""
    return DetectedFace(tuple(row[1:5].tolist()), float(row[0]), row[5:].reshape(5, 2).copy())
