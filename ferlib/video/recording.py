"""Annotated frames written to a video file or an animated picture."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from PIL import Image

from ferlib.runtime.errors import UserError, lookup
from ferlib.runtime.files import atomic_path

ANIMATION_SIDE = 480  # pixels of the longer side of an animated picture at most
ANIMATION_FPS = 12.5  # at most, a frame every 80 ms: browsers slow down GIFs that are much faster
ANIMATION_FRAMES = 900  # held in memory until the end: 72 s, about 50 MB at 480×360
WHOLE = 0.98  # of the frames written, the share that a whole file holds at least
FINE_FPS = 65  # above it, MPEG-4 holds hundredths of a frame per second, not thousandths: its fractions have 16 bits
CODECS = {".mp4": "mp4v", ".avi": "MJPG"}  # available in OpenCV's wheels on every system


# ── kinds of files ───────────────────────────────────────────────────────────────────────────────────────────────────


class Sink(Protocol):
    """A file of frames of one size, uint8 H×W×3 RGB."""

    def write(self, picture: np.ndarray) -> None:
        """Appends a frame."""

    def close(self) -> None:
        """Completes the file."""


class Movie:
    """A video file written by OpenCV's encoders."""

    def __init__(self, path: Path, size: tuple[int, int], fps: float):
        codec = cv2.VideoWriter.fourcc(*CODECS[path.suffix.lower()])
        self.writer = cv2.VideoWriter(str(path), codec, fps, size)
        if not self.writer.isOpened():
            raise UserError(
                f"OpenCV cannot write {path.suffix} files of {size[0]}×{size[1]} pixels and {fps:g} frames per second "
                "here; give an --output that ends in .gif"
            )

    def write(self, picture: np.ndarray) -> None:
        """Encodes a frame."""
        self.writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        """Completes the file."""
        self.writer.release()


class Animation:
    """An animated picture of at most ANIMATION_SIDE pixels, in an endless loop, encoded when it is closed."""

    step = 1  # ms, in which the format counts

    def __init__(self, path: Path, size: tuple[int, int], fps: float):
        self.path, self.fps = path, fps
        scale = min(1, ANIMATION_SIDE / max(size))
        self.size = max(1, round(scale * size[0])), max(1, round(scale * size[1]))
        self.frames: list[np.ndarray] = []  # as JPEG, to save memory

    def write(self, picture: np.ndarray) -> None:
        """Keeps a frame; those after ANIMATION_FRAMES are dropped, with a note."""
        if len(self.frames) == ANIMATION_FRAMES:
            return
        small = cv2.resize(picture, self.size, interpolation=cv2.INTER_AREA)
        self.frames.append(cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 97])[1])
        if len(self.frames) == ANIMATION_FRAMES:
            seconds = ANIMATION_FRAMES / self.fps
            print(f"note: an animated picture holds {seconds:.0f} s; for more, give an .mp4", file=sys.stderr)

    def close(self) -> None:
        """Encodes the file."""
        first, *others = self.images()
        first.save(self.path, save_all=True, append_images=others, duration=self.durations(), loop=0)

    def durations(self) -> list[int]:
        """Milliseconds of each frame, in the steps of the format, whose rounding does not add up."""
        times = np.round(np.arange(len(self.frames) + 1) * (1000 / self.fps / self.step)) * self.step
        return np.diff(times).astype(int).tolist()

    def images(self) -> Iterator[Image.Image]:
        """The frames kept."""
        return (Image.fromarray(decode(frame)) for frame in self.frames)


class Gif(Animation):
    """An animation with one palette for all frames: a palette for each frame would flicker."""

    step = 10

    def images(self) -> Iterator[Image.Image]:
        """The frames kept, in 256 colours."""
        spread = self.frames[:: -(-len(self.frames) // 16)]  # at most 16 of them
        together = Image.fromarray(np.concatenate([decode(frame) for frame in spread]))
        palette = together.quantize(256, Image.Quantize.FASTOCTREE)  # it keeps rare colours, such as those of maps
        return (image.quantize(palette=palette, dither=Image.Dither.NONE) for image in super().images())


def decode(jpeg: np.ndarray) -> np.ndarray:
    """The content of a JPEG file as uint8 H×W×3 RGB."""
    return np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR))[..., ::-1].copy()


SINKS: dict[str, type[Movie] | type[Animation]] = {".mp4": Movie, ".avi": Movie, ".gif": Gif, ".webp": Animation}


def check_ending(path: Path) -> type[Movie] | type[Animation]:
    """The row of SINKS that writes a file; UserError that lists the endings otherwise."""
    return lookup(SINKS, path.suffix.lower(), "kind of --output")


# ── recording ────────────────────────────────────────────────────────────────────────────────────────────────────────


class Recorder:
    """Writes frames with times of their own at a constant rate, so that the file lasts as long as its source.

    A frame is repeated until the next one's time, and dropped where the next one falls into the same interval: cameras
    whose rate varies, and files whose frames are not evenly spaced, keep their duration.
    """

    def __init__(self, path: Path, fps: float):
        """fps: of the source; that of an animated picture is at most ANIMATION_FPS, a high one is rounded."""
        self.path = path
        self.sink_type = check_ending(path)
        fps = min(fps, ANIMATION_FPS) if issubclass(self.sink_type, Animation) else fps
        self.fps = round(fps, 2) if fps > FINE_FPS else fps
        self.sink: Sink | None = None
        self.size = (0, 0)
        self.written = 0
        self.last: np.ndarray | None = None  # fitted to the first one's size

    def add(self, picture: np.ndarray, seconds: float) -> None:
        """Appends a picture uint8 H×W×3 RGB, fitted to the first one's size; seconds since the first one."""
        if self.sink is None:
            self.size = (picture.shape[1], picture.shape[0])
            self.sink = self.sink_type(self.path, self.size, self.fps)
        fitted = fit(picture, self.size)
        due = math.floor(seconds * self.fps + 1e-3) + 1 - self.written
        for _ in range(due - 1):
            self.sink.write(fitted if self.last is None else self.last)
        if due > 0:
            self.sink.write(fitted)
            self.written += due
        self.last = fitted

    def close(self) -> None:
        """Completes the file."""
        if self.sink is not None:
            self.sink.close()


@contextmanager
def recording(path: Path | None, fps: float) -> Iterator[Recorder | None]:
    """A recorder whose file is moved into place when the block ends without an error; None without a path.

    UserError for endings other than those of SINKS, and where no frame was written.
    """
    if path is None:
        yield None
        return
    check_ending(path)
    with atomic_path(path) as temporary:
        recorder = Recorder(temporary, fps)
        try:
            yield recorder
        finally:
            recorder.close()
        if recorder.written == 0:
            raise UserError(f"{path} was not written: there was no frame")
        if recorder.sink_type is Movie and count_frames(temporary) < WHOLE * recorder.written:
            raise UserError(f"{path} could not be written whole; free some space on its disk, then run again")


def count_frames(path: Path) -> int:
    """The frames that a video file holds by its index, 0 for an unreadable file: OpenCV's encoders raise no error."""
    capture = cv2.VideoCapture(str(path))
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
    capture.release()
    return count


def fit(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The picture scaled into width × height, with black bars where its aspect ratio differs."""
    height, width = picture.shape[:2]
    if (width, height) == size:
        return picture
    scale = min(size[0] / width, size[1] / height)
    inner = (max(1, round(scale * width)), max(1, round(scale * height)))
    scaled = cv2.resize(picture, inner, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    left, top = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    canvas = np.zeros((size[1], size[0], 3), np.uint8)
    canvas[top : top + inner[1], left : left + inner[0]] = scaled
    return canvas
