"""The result of a photo: its faces, their crops as the network gets them, their probabilities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from ferlib.explanations.photo_predictions import predict_photo
from ferlib.faces.crops import DetectedFace
from ferlib.faces.face_model import FaceModel, to_grey
from ferlib.faces.photos import Photo, read_photo
from ferlib.runtime.errors import UserError
from ferlib.webpage.resources import Resources

LONGEST_SIDE = 3000  # pixels of a photo that is kept in memory


@dataclass(frozen=True)
class PhotoResult:
    """The faces of a photo and what was predicted for each."""

    photo: np.ndarray  # uint8 H×W×3
    faces: tuple[DetectedFace, ...]  # the largest first
    crops: np.ndarray  # uint8 N×S×S×3, grey for a network that gets grey faces
    margin: int  # pixels at each border of a crop outside of the network's input
    probabilities: np.ndarray  # float32 N×7
    model: str  # its name for people

    def code(self, face: int) -> int:
        """Index of the class with the highest probability of a face."""
        return int(self.probabilities[face].argmax())


def predict_upload(path: str, model: str, detector: str, resources: Resources) -> PhotoResult:
    """The result of an uploaded photo; UserError for unreadable and too large ones, and for those without a face."""
    photo = shrink(read_photo(path, "this picture", resources.max_pixels).pixels)
    network = resources.open_model(model)
    found = predict_photo(Photo(photo), network, resources.open_detector(detector))
    if not found:
        raise UserError(
            "No face was found in this picture. Use one in which a face looks towards the camera, upright and well "
            "lit, or choose another detector under “Model and detector”."
        )
    crops = np.stack([item.crop for item in found])
    inputs = np.repeat(to_grey(crops), 3, axis=3) if network.grey else crops
    probabilities = np.stack([item.probabilities for item in found])
    faces = tuple(item.face for item in found)
    return PhotoResult(photo, faces, inputs, input_margin(network), probabilities, network.label)


def shrink(photo: np.ndarray) -> np.ndarray:
    """The photo uint8 H×W×3, scaled down to LONGEST_SIDE where it is larger."""
    picture = Image.fromarray(photo)
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    return np.asarray(picture)


def input_margin(network: FaceModel) -> int:
    """Pixels at each border of a crop that the central view, the network's input, leaves out."""
    spec = network.spec
    return round((spec.scaled_size - spec.image_size) / 2 * network.crop_size / spec.scaled_size)
