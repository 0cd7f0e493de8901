"""The stages from frames to tracked faces, each a generator that runs in a thread of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing

import numpy as np

from ferlib.explanations.crops import cam_of_crops
from ferlib.faces.crops import DetectedFace, crop_face, crop_matrix
from ferlib.faces.detection import Detector
from ferlib.faces.face_model import FaceModel
from ferlib.video.cuts import CutFinder
from ferlib.video.pipeline import Stopwatch, prefetch
from ferlib.video.regions import RegionNaming
from ferlib.video.sources import Frame, Source
from ferlib.video.tracking import TrackedFace, Tracker, smooth


def process_frames(
    source: Source,
    detector: Detector,
    model: FaceModel,
    *,
    cam: bool,
    smoothing: float,
    seconds: float | None = None,
    stopwatch: Stopwatch | None = None,
    naming: RegionNaming | None = None,
) -> Iterator[tuple[Frame, list[TrackedFace]]]:
    """Every frame of a source with its faces; reading, detection and the model run in threads of their own.

    cam: whether each face has a HiResCAM map. smoothing: time constant in seconds of the probabilities. seconds: time
    of the source at which the frames end. stopwatch: measures the stages. naming: adds values of regions on demand.
    """
    stopwatch = stopwatch or Stopwatch()
    frames = until(seconds, source.frames())
    frames = frames if source.live else prefetch(stopwatch.timed("read", frames))  # a camera has its own thread
    detected = prefetch(detect_faces(frames, detector, stopwatch))
    return prefetch(track_faces(detected, model, cam, smoothing, stopwatch, naming))


def until(seconds: float | None, frames: Iterator[Frame]) -> Iterator[Frame]:
    """The frames before a time in seconds, all of them for None."""
    with closing(frames):  # type: ignore[type-var] # generators have close
        for frame in frames:
            if seconds is not None and frame.time >= seconds:
                return
            yield frame


def detect_faces(
    frames: Iterator[Frame], detector: Detector, stopwatch: Stopwatch
) -> Iterator[tuple[Frame, list[DetectedFace]]]:
    """Every frame with its detected faces."""
    for frame in frames:
        with stopwatch("detect"):
            faces = detector(frame.picture)
        yield frame, faces


def track_faces(
    detected: Iterator[tuple[Frame, list[DetectedFace]]],
    model: FaceModel,
    cam: bool,
    smoothing: float,
    stopwatch: Stopwatch,
    naming: RegionNaming | None = None,
) -> Iterator[tuple[Frame, list[TrackedFace]]]:
    """Every frame with its tracked faces and their probabilities, smoothed with a time constant in seconds.

    At a cut all tracks end, and with them smoothing and the named regions.
    """
    tracker, is_cut = Tracker(), CutFinder()
    for frame, faces in detected:
        with stopwatch("model"):
            if is_cut(frame.picture):
                tracker.end_all()
            tracked = classify_faces(frame, faces, model, tracker, cam, smoothing)
        yield frame, naming.update(frame, faces, tracked) if naming else tracked


def classify_faces(
    frame: Frame, faces: Sequence[DetectedFace], model: FaceModel, tracker: Tracker, cam: bool, smoothing: float
) -> list[TrackedFace]:
    """The tracked faces of one frame; a map explains the class that is shown: the largest smoothed probability."""
    tracks = tracker.update([face.box for face in faces], frame.time)
    if not faces:
        return []
    crops = np.stack([crop_face(frame.picture, face, model.crop_size) for face in faces])

    def smooth_rows(rows: np.ndarray) -> np.ndarray:
        """Probabilities N×7 of this frame → N×7 smoothed over time."""
        pairs = zip(tracks, rows, strict=True)
        return np.stack([smooth(track, row, frame.time, smoothing) for track, row in pairs])

    maps: Sequence[np.ndarray | None] = [None] * len(faces)
    if cam:
        maps = list(cam_of_crops(model, crops, lambda rows: smooth_rows(rows).argmax(1))[1])
    else:
        smooth_rows(model.probabilities(crops))
    return [
        TrackedFace(track.number, face.box, track.probabilities, values, crop_matrix(face, model.crop_size))
        for track, face, values in zip(tracks, faces, maps, strict=True)
    ]
