"""Expressions of all faces in a photo: faces detected, cropped, classified and, where a method is chosen, explained.

Imports no torch and no OpenCV until a photo is predicted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from config import EMOTIONS
from ferlib.faces.detectors import open_detector
from ferlib.runtime.errors import lookup

if TYPE_CHECKING:
    from ferlib.data.decoding import Source
    from ferlib.explanations.records import Attribution
    from ferlib.explanations.specs import Method
    from ferlib.faces.crops import DetectedFace
    from ferlib.faces.detection import Detector
    from ferlib.faces.face_model import FaceModel
    from ferlib.faces.photos import Photo
    from ferlib.faces.predictions import FacePrediction


def predict_single_image(
    image: Source,
    model: FaceModel | None = None,
    detector: Detector | None = None,
    *,
    explain: str = "",
    target: str = "",
    whole: bool = False,
) -> list[FacePrediction]:
    """The faces of a picture with their probabilities, the largest first; an empty list if there is no face.

    image: a file, a PIL image or an array uint8 H×W×3 RGB. model: open_face_model(…), by default the shipped one.
    detector: open_detector(…), by default "auto". explain: a row of explanations.methods.METHODS, whose maps explain
    the predicted class or `target`. whole: the picture is one face, cropped already. UserError for pictures that cannot
    be read and for unknown names.
    """
    from ferlib.faces.photos import read_photo

    found = None if whole else detector or usual_detector()
    return predict_photo(read_photo(image), model or shipped_model(), found, explain, target)


@lru_cache(maxsize=1)
def shipped_model() -> FaceModel:
    """The model of pretrained/, loaded once."""
    from ferlib.faces.face_model import open_face_model

    return open_face_model()


@lru_cache(maxsize=1)
def usual_detector() -> Detector:
    """The detector "auto", opened once."""
    return open_detector()


def predict_photo(
    photo: Photo,
    face_model: FaceModel,
    detector: Detector | None,
    method: str = "",
    target: str = "",
    **settings: Any,
) -> list[FacePrediction]:
    """The faces of a photo, the largest first; an empty list where there is none.

    detector: None takes the photo's central square as one face. method: a row of METHODS that computes a map of each
    face. target: the class that is explained, by default each face's predicted one. settings: those of the method.
    UserError for unknown methods, targets and settings.
    """
    from ferlib.explanations.crops import explain_faces
    from ferlib.explanations.methods import find_method
    from ferlib.faces.crops import whole_face
    from ferlib.faces.predictions import FacePrediction

    targets = class_index(target) if target else None
    faces = detector(photo.pixels) if detector else [whole_face(photo.pixels)]
    if not faces:
        return []
    crops = cut_crops(photo, faces, face_model.crop_size) if detector else whole_crop(photo, face_model)
    probabilities = face_model.probabilities(crops)
    sets = [face_model.calibration.candidates(row) for row in probabilities]
    predicted = zip(faces, probabilities, crops, strict=True)
    found = [FacePrediction(*row, candidates=names) for row, names in zip(predicted, sets, strict=True)]
    if not method:
        return found
    labels = probabilities.argmax(1).tolist() if targets is None else [targets] * len(faces)
    attributions = explain_faces(face_model, crops, method, labels, **settings)
    return [
        explained(item, find_method(method), label, each)
        for item, label, each in zip(found, labels, attributions, strict=True)
    ]


def explained(item: FacePrediction, row: Method, label: int, found: Attribution) -> FacePrediction:
    """The face with its attribution for a class; its words name the probability that is shown of the face."""
    name, facts = EMOTIONS[label], found.facts | {"probability": float(item.probabilities[label])}
    return replace(item, map=found.map, words=row.describe(name, facts), regions=row.name_regions(name, found.facts))


def cut_crops(photo: Photo, faces: Sequence[DetectedFace], size: int) -> np.ndarray:
    """The faces' crops: uint8 N×size×size×3."""
    from ferlib.faces.crops import crop_face

    return np.stack([crop_face(photo.pixels, face, size) for face in faces])


def whole_crop(photo: Photo, face_model: FaceModel) -> np.ndarray:
    """The photo's central square as a training face is read, and as --image of the explain scripts: uint8 1×S×S×3."""
    from PIL import Image

    from ferlib.data.decoding import central_square

    channels = 1 if face_model.grey else 3
    square = central_square(Image.fromarray(photo.pixels), face_model.crop_size, channels)
    return np.broadcast_to(square, (*square.shape[:2], 3))[None].copy()


def class_index(name: str) -> int:
    """The index of an expression, in upper or lower case; UserError that lists the seven for other names."""
    return lookup({emotion: code for code, emotion in enumerate(EMOTIONS)}, name.capitalize(), "expression")
