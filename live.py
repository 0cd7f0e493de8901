"""Emotions of every face of a camera or a video, frame by frame, with Grad-CAM.

python live.py --source 0
python live.py --source film.mp4 --output out.mp4 --csv out.csv --profile
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
import torch
import tyro
from tqdm import tqdm

import config
from config import EMOTIONS
from ferlib.faces.crops import DetectedFace, crop_face, crop_matrix
from ferlib.faces.detection import Detector
from ferlib.faces.detectors import open_detector
from ferlib.faces.face_model import FaceModel, open_face_model
from ferlib.figures.timeline import plot_timeline
from ferlib.runtime.errors import UserError, run_script
from ferlib.runtime.runs import timeline_path
from ferlib.video.log import Log, open_log
from ferlib.video.overlay import draw
from ferlib.video.pipeline import Rate, Stopwatch, ahead
from ferlib.video.recording import Recorder, Window, open_window, recording
from ferlib.video.sources import Frame, Source, open_source
from ferlib.video.tracking import Sighting, Tracker, smooth

TITLE = "Facial expressions (q ends)"

# ── the steps, each a stream of what the one before gives ────────────────────────────────────────────────────────────


def detect_faces(
    frames: Iterator[Frame], detector: Detector, watch: Stopwatch
) -> Iterator[tuple[Frame, list[DetectedFace]]]:
    """Every frame with its faces."""
    for frame in frames:
        with watch("detect"):
            found = detector(frame.picture)
        yield frame, found


def read_faces(
    found: Iterator[tuple[Frame, list[DetectedFace]]], model: FaceModel, cam: bool, smoothing: float, watch: Stopwatch
) -> Iterator[tuple[Frame, list[Sighting]]]:
    """Every frame with what the model makes of its faces, whose numbers and probabilities hold over time."""
    tracker = Tracker()
    for frame, faces in found:
        with watch("model"):
            sightings = look(frame, faces, model, tracker, cam, smoothing)
        yield frame, sightings


def look(
    frame: Frame, faces: Sequence[DetectedFace], model: FaceModel, tracker: Tracker, cam: bool, smoothing: float
) -> list[Sighting]:
    """Tracks and reads the faces of one frame; a map answers why the label that is shown, which is the smoothed one."""
    tracks = tracker.update([face.box for face in faces], frame.time)
    if not faces:
        return []
    crops = np.stack([crop_face(frame.picture, face, model.crop_size) for face in faces])

    def smoothed(rows: np.ndarray) -> np.ndarray:
        """N×7 of this frame → N×7 over time."""
        pairs = zip(tracks, rows, strict=True)
        return np.stack([smooth(track, row, frame.time, smoothing) for track, row in pairs])

    if cam:
        _, maps = model.cam(crops, lambda rows: smoothed(rows).argmax(1))
    else:
        smoothed(model.probabilities(crops))
        maps = [None] * len(faces)
    return [
        Sighting(track.number, face.box, track.probabilities, values, crop_matrix(face, model.crop_size))
        for track, face, values in zip(tracks, faces, maps, strict=True)
    ]


def stream(
    source: Source, detector: Detector, model: FaceModel, flags: config.Live, watch: Stopwatch
) -> Iterator[tuple[Frame, list[Sighting]]]:
    """Every frame and its sightings; reading, detecting and the model's work go on in threads of their own."""
    frames = until(flags.seconds, source.frames())
    frames = frames if source.live else ahead(watch.timed("read", frames))  # a camera has its own thread
    found = ahead(detect_faces(frames, detector, watch))
    return ahead(read_faces(found, model, flags.cam, flags.smoothing, watch))


def until(seconds: float | None, frames: Iterator[Frame]) -> Iterator[Frame]:
    """The frames of the first so many seconds, all of them for None."""
    with closing(frames):
        for frame in frames:
            if seconds is not None and frame.time >= seconds:
                return
            yield frame


# ── the loop ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Loop:
    """Takes the frames one by one; remembers how many, how fast, and how it ended."""

    log: Log
    recorder: Recorder | None
    window: Window | None
    watch: Stopwatch
    rate: Rate = field(default_factory=Rate)
    frames: int = 0
    seconds: float = 0.0
    error: UserError | None = None  # a camera that was lost: what came before is kept

    def follow(self, stream: Iterator[tuple[Frame, list[Sighting]]], length: int | None) -> None:
        """Takes frames until the stream ends, q is pressed in the window, or ctrl-C."""
        start = time.perf_counter()
        with closing(stream), tqdm(total=length, unit=" frames") as progress:
            try:
                for frame, sightings in stream:
                    more = self.take(frame, sightings)
                    progress.set_postfix_str(in_words(sightings), refresh=False)
                    progress.update()
                    if not more:
                        break
            except KeyboardInterrupt:
                progress.write("stopped; what there is so far is saved", file=sys.stderr)
            except UserError as error:
                if not self.frames:
                    raise
                self.error = error
            self.seconds = time.perf_counter() - start

    def take(self, frame: Frame, sightings: Sequence[Sighting]) -> bool:
        """Logs, draws, writes and shows one frame; False where the person at the window wants no more."""
        self.frames += 1
        rate = self.rate.tick()
        with self.watch("write"):
            self.log.add(frame, sightings)
        if not (self.recorder or self.window):
            return True
        with self.watch("draw"):
            draw(frame.picture, sightings, rate)
        if self.recorder:
            with self.watch("write"):
                self.recorder.add(frame.picture, frame.time)
        if self.window is None:
            return True
        with self.watch("show"):
            return self.window.show(frame.picture, frame.time)


def in_words(sightings: Sequence[Sighting]) -> str:
    """The line at the terminal: every face's number, label and confidence."""
    faces = [f"#{one.track} {EMOTIONS[one.label]} {one.probabilities[one.label]:.0%}" for one in sightings]
    return "  ".join(faces[:4]) + ("  …" if len(faces) > 4 else "") if faces else "no face"


# ── before and after ─────────────────────────────────────────────────────────────────────────────────────────────────


def check(flags: config.Live) -> None:
    if not (math.isfinite(flags.smoothing) and flags.smoothing >= 0):
        raise UserError(f"--smoothing {flags.smoothing:g} is not a number of seconds from 0 up")
    if flags.seconds is not None and not flags.seconds > 0:
        raise UserError(f"--seconds {flags.seconds:g} is not a number of seconds above 0")
    if flags.detection_side is not None and flags.detection_side < 64:
        raise UserError(f"--detection-side {flags.detection_side} is too small to find a face; 320 or more is usual")


def choose_window(flags: config.Live, source: Source) -> Window | None:
    """The window, or None and a word about it; UserError where nothing else would take the frames."""
    window = open_window(TITLE, paced=not source.live) if flags.window else None
    if window is None and not (flags.output or flags.csv or flags.jsonl):
        raise UserError(
            "no window can be shown here (OpenCV's headless wheel has none, or there is no screen); "
            "give --output out.mp4, --csv FILE or --jsonl FILE"
            if flags.window
            else "--no-window needs something to write: give --output out.mp4, --csv FILE or --jsonl FILE"
        )
    if window is None and flags.window:
        print("note: no window can be shown here; going on without", file=sys.stderr)
    return window


def open_fast_detector(flags: config.Live) -> Detector:
    """The detector at one size of frame: at 640 pixels the Haar cascade takes 120 ms a frame, ten times YuNet's."""
    detector = open_detector(flags.detector, flags.detector_weights)
    return replace(detector, sides=(flags.detection_side or (320 if detector.name == "haar" else 640),))


def share_cores(device: torch.device) -> None:
    """Halves the cores between the detector and the model, which work at the same time."""
    share = max(1, (os.cpu_count() or 2) // 2)
    cv2.setNumThreads(share)
    if device.type == "cpu":
        torch.set_num_threads(share)


def run(flags: config.Live) -> Loop:
    """Reads the source to its end and writes what was asked for; UserError for what cannot be opened or is lost."""
    check(flags)
    source = open_source(flags.source)
    with ExitStack() as stack:
        window = choose_window(flags, source)
        if window:
            stack.callback(window.close)
        detector = open_fast_detector(flags)
        model = open_face_model(
            flags.model, flags.dataset, flags.tag, flags.checkpoint, flags.outputs_dir, flags.device
        )
        share_cores(model.device)
        log = stack.enter_context(open_log(flags.csv, flags.jsonl))
        recorder = stack.enter_context(recording(flags.output, source.fps))
        loop = Loop(log, recorder, window, Stopwatch())
        loop.follow(stream(source, detector, model, flags, loop.watch), source.length)
    report(loop, source, flags)
    if loop.error:
        raise loop.error
    return loop


def report(loop: Loop, source: Source, flags: config.Live) -> None:
    """Draws the timeline and says what was done."""
    rate = loop.frames / loop.seconds
    dropped = f", {source.dropped} dropped" if source.live else ""
    print(f"{source.name}: {loop.frames} frames in {loop.seconds:.1f} s, {rate:.1f} frames/s{dropped}")
    written: list[Path] = [path for path in (flags.output, flags.csv, flags.jsonl) if path]
    if loop.log.history:
        timeline = timeline_path(flags.outputs_dir, flags.output or flags.csv or flags.jsonl)
        plot_timeline(timeline, loop.log.history, source.name, flags.smoothing)
        written.append(timeline)
    else:
        print("no face was found in any frame")
    for path in written:
        print(f"→ {path}")
    if flags.profile:
        print(profile(loop))


def profile(loop: Loop) -> str:
    """A table: milliseconds of each step per frame, and its share of all steps."""
    frames, steps = max(loop.frames, 1), loop.watch.seconds
    rows = [
        f"{step:<8}{1000 * seconds / frames:8.2f} ms{seconds / sum(steps.values()):8.0%}"
        for step, seconds in steps.items()
    ]
    note = "from end to end: reading, detecting, the model and the rest run at once"
    whole = f"{'a frame':<8}{1000 * loop.seconds / frames:8.2f} ms   {note}"
    return "\n".join([f"{'step':<8}{'per frame':>11}{'share':>8}", *rows, whole])


def main() -> Loop:
    return run(tyro.cli(config.Live))


if __name__ == "__main__":
    run_script(main)
