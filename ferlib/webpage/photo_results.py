"""The result of a photo: its faces, their crops as the network gets them, their probabilities; a few hundred kB."""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ferlib.data.decoding import open_picture
from ferlib.faces.crops import DetectedFace, crop_face
from ferlib.faces.detection import Detector
from ferlib.faces.detectors import DETECTORS
from ferlib.faces.face_model import FaceModel, to_grey
from ferlib.faces.photos import read_photo
from ferlib.inference.confidence import describe_calibration
from ferlib.runtime.errors import UserError
from ferlib.webpage.pictures import EncodedPhoto, encode_crop, encode_photo
from ferlib.webpage.resources import Resources

LONGEST_SIDE = 3000  # pixels of the photo in which faces are searched
MAX_FACES = 64  # of a photo; the largest ones
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF")  # of Pillow; it opens some with other programs
BROKEN = (  # what Pillow raises for some broken pictures beside OSError, ValueError and SyntaxError
    RuntimeError, TypeError, AttributeError, LookupError, ArithmeticError, struct.error, zlib.error,
)  # fmt: skip
UNREADABLE = "this picture cannot be read as a picture; take a JPEG, PNG or WebP"


@dataclass(frozen=True)
class PhotoResult:
    """The faces of a photo and what was predicted for each; the photo itself is kept as the page shows it only."""

    photo: EncodedPhoto
    size: tuple[int, int]  # height and width of the photo in which the faces were found
    faces: tuple[DetectedFace, ...]  # the largest first
    close_ups: tuple[bytes, ...]  # the crop of each face in more pixels than the network gets, as JPEG
    crops: np.ndarray  # uint8 N×S×S×3, grey for a network that gets grey faces
    margin: int  # pixels at each border of a crop outside of the network's input
    probabilities: np.ndarray  # float32 N×7
    model: str  # its name for people
    detector: str  # the same
    found: int  # number of faces in the photo, those beyond MAX_FACES included
    candidates: tuple[tuple[str, ...], ...] = ()  # the prediction set of each face; empty: the model is not calibrated
    calibration: str = ""  # whether the probabilities are calibrated, and to what, in words
    chosen: str = ""  # the model's name on the page
    state: tuple[int, ...] = ()  # of its file, as Resources.state_of
    smallest: int = 0  # pixels of the upload: width below which faces were not searched for; 0: none of note

    @property
    def volume(self) -> int:
        """Bytes of memory, about."""
        return len(self.photo.uri) + sum(map(len, self.close_ups)) + self.crops.nbytes

    def code(self, face: int) -> int:
        """Index of the class with the highest probability of a face."""
        return int(self.probabilities[face].argmax())


def predict_upload(path: str, model: str, detector: str, resources: Resources) -> PhotoResult:
    """The result of an uploaded photo; UserError for unreadable and too large ones, and for those without a face."""
    upload = read_upload(path, resources.max_pixels)
    photo = shrink(upload)
    state = resources.state_of(model)
    network, search = resources.open_model(model), resources.open_detector(detector)
    faces = search(photo)
    if not faces:
        raise UserError(
            "No face was found in this picture. Use one in which a face looks towards the camera, upright and well "
            "lit, or choose another detector under “Model and detector”."
        )
    kept = tuple(faces[:MAX_FACES])
    crops = np.stack([crop_face(photo, face, network.crop_size) for face in kept])
    probabilities = network.probabilities(crops)
    if not np.isfinite(probabilities).all():
        raise UserError("This model gives no numbers for this picture: its weights are broken. Choose another model.")
    return PhotoResult(
        photo=encode_photo(photo),
        size=photo.shape[:2],
        faces=kept,
        close_ups=tuple(encode_crop(photo, face) for face in kept),
        crops=np.repeat(to_grey(crops), 3, axis=3) if network.grey else crops,
        margin=input_margin(network),
        probabilities=probabilities,
        model=network.label,
        detector=DETECTORS[search.name].title,
        found=len(faces),
        candidates=tuple(network.calibration.candidates(row) for row in probabilities),
        calibration=describe_calibration(network.calibration),
        chosen=model,
        state=state,
        smallest=smallest_face(search, photo, upload.shape[1] / photo.shape[1]),
    )


def smallest_face(search: Detector, photo: np.ndarray, scale: float) -> int:
    """Pixels of the upload, `scale` times those of the photo, below which faces are missed; 0 where that is usual."""
    width = search.smallest_face(photo) * scale
    return math.ceil(width) if width > search.reach else 0


def read_upload(path: str, max_pixels: int) -> np.ndarray:
    """The pixels uint8 H×W×3 of an upload; UserError for broken and too large ones and for other FORMATS."""
    try:
        if not has_known_format(path):
            raise UserError(UNREADABLE)
        return read_photo(path, "this picture", max_pixels).pixels
    except BROKEN as error:
        raise UserError(UNREADABLE) from error


def has_known_format(path: str) -> bool:
    """Whether a picture is of FORMATS; True also for files that read_photo refuses with a reason of their own."""
    try:
        with open_picture(path) as picture:
            return picture.format in FORMATS
    except (OSError, Image.DecompressionBombError):
        return True


def shrink(photo: np.ndarray) -> np.ndarray:
    """The photo uint8 H×W×3, scaled down to LONGEST_SIDE where it is larger."""
    picture = Image.fromarray(photo)
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    return np.asarray(picture)


def input_margin(network: FaceModel) -> int:
    """Pixels at each border of a crop that the central view, the network's input, leaves out."""
    spec = network.spec
    return round((spec.scaled_size - spec.image_size) / 2 * network.crop_size / spec.scaled_size)
