"""Where annotated frames go: a video file, an animated picture, a window."""

from __future__ import annotations

import math
import os
import sys
import time
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
ANIMATION_FPS = 12.5  # every 80 ms; browsers slow GIFs down that are much faster
ANIMATION_FRAMES = 900  # held in memory until the end: 72 s, some 50 MB at 480×360
CODECS = {".mp4": "mp4v", ".avi": "MJPG"}  # that OpenCV's wheels have on every system


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Sink(Protocol):
    """A file that grows by frames of one size, uint8 H×W×3 RGB."""

    def write(self, picture: np.ndarray) -> None: ...

    def close(self) -> None: ...


class Movie:
    """A video file by OpenCV's encoders."""

    def __init__(self, path: Path, size: tuple[int, int], fps: float):
        codec = cv2.VideoWriter_fourcc(*CODECS[path.suffix.lower()])
        self.writer = cv2.VideoWriter(str(path), codec, fps, size)
        if not self.writer.isOpened():
            raise UserError(f"OpenCV cannot write {path.suffix} files here; give an --output that ends in .gif")

    def write(self, picture: np.ndarray) -> None:
        self.writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        self.writer.release()


class Animation:
    """An animated picture of at most ANIMATION_SIDE pixels, without end, made when the last frame has come."""

    def __init__(self, path: Path, size: tuple[int, int], fps: float):
        self.path, self.fps = path, fps
        scale = min(1, ANIMATION_SIDE / max(size))
        self.size = tuple(max(1, round(scale * side)) for side in size)
        self.frames: list[np.ndarray] = []  # as JPEG, to save memory

    def write(self, picture: np.ndarray) -> None:
        if len(self.frames) == ANIMATION_FRAMES:
            return
        small = cv2.resize(picture, self.size, interpolation=cv2.INTER_AREA)
        self.frames.append(cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 97])[1])
        if len(self.frames) == ANIMATION_FRAMES:
            seconds = ANIMATION_FRAMES / self.fps
            print(f"note: an animated picture holds {seconds:.0f} s; for more, give an .mp4", file=sys.stderr)

    def close(self) -> None:
        first, *others = self.images()
        first.save(self.path, save_all=True, append_images=others, duration=round(1000 / self.fps), loop=0)

    def images(self) -> Iterator[Image.Image]:
        return (Image.fromarray(decode(frame)) for frame in self.frames)


class Gif(Animation):
    """With one palette for all frames: one for each would flicker."""

    def images(self) -> Iterator[Image.Image]:
        spread = self.frames[:: -(-len(self.frames) // 16)]  # at most 16 of them
        together = Image.fromarray(np.concatenate([decode(frame) for frame in spread]))
        palette = together.quantize(256, Image.Quantize.FASTOCTREE)  # which keeps rare colours, such as those of maps
        return (image.quantize(palette=palette, dither=Image.Dither.NONE) for image in super().images())


def decode(jpeg: np.ndarray) -> np.ndarray:
    """uint8 H×W×3 RGB."""
    return cv2.imdecode(jpeg, cv2.IMREAD_COLOR)[..., ::-1].copy()


SINKS = {".mp4": Movie, ".avi": Movie, ".gif": Gif, ".webp": Animation}


class Recorder:
    """Writes frames at a constant rate so that the file shows them when they happened.

    A frame is repeated where the next one came late, and left out where it came early: the video of a camera that gave
    18 frames a second, or of a file whose frames are not evenly spaced, is as long as what it shows.
    """

    def __init__(self, path: Path, fps: float):
        """`fps`: of the source; that of an animated picture is at most ANIMATION_FPS."""
        self.path = path
        self.sink_type = lookup(SINKS, path.suffix.lower(), "kind of --output")
        self.fps = min(fps, ANIMATION_FPS) if issubclass(self.sink_type, Animation) else fps
        self.sink: Sink | None = None
        self.size = (0, 0)
        self.written = 0

    def add(self, picture: np.ndarray, seconds: float) -> None:
        """picture: uint8 H×W×3 RGB, fitted to the first one's size; seconds since the first one."""
        if self.sink is None:
            self.size = (picture.shape[1], picture.shape[0])
            self.sink = self.sink_type(self.path, self.size, self.fps)
        due = math.floor(seconds * self.fps + 1e-3) + 1 - self.written
        for _ in range(due):
            self.sink.write(fit(picture, self.size))
        self.written += max(due, 0)

    def close(self) -> None:
        if self.sink is not None:
            self.sink.close()


@contextmanager
def recording(path: Path | None, fps: float) -> Iterator[Recorder | None]:
    """A recorder whose file is moved into place when the block ends well, None where there is no path."""
    if path is None:
        yield None
        return
    lookup(SINKS, path.suffix.lower(), "kind of --output")
    with atomic_path(path) as temporary:
        recorder = Recorder(temporary, fps)
        try:
            yield recorder
        finally:
            recorder.close()
        if recorder.written == 0:
            raise UserError(f"{path} was not written: there was no frame")


def fit(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The picture scaled into width × height, black at the sides where its shape is another."""
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


# ── window ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class Window:
    """A window on the screen; with `paced`, frames are held until their time has come."""

    def __init__(self, title: str, paced: bool):
        self.title, self.paced = title, paced
        self.start: float | None = None
        cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)

    def show(self, picture: np.ndarray, seconds: float) -> bool:
        """Shows uint8 H×W×3 RGB; False once the person has pressed q or Esc, or has closed the window."""
        cv2.imshow(self.title, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        key = cv2.waitKey(self._wait(seconds)) & 0xFF
        closed = cv2.getWindowProperty(self.title, cv2.WND_PROP_VISIBLE) < 1
        return key not in (ord("q"), ord("Q"), 27) and not closed

    def _wait(self, seconds: float) -> int:
        """Milliseconds until the frame's time, at least 1."""
        if self.start is None:
            self.start = time.monotonic() - seconds
        early = self.start + seconds - time.monotonic() if self.paced else 0
        return max(1, round(1000 * early))

    def close(self) -> None:
        cv2.destroyAllWindows()


def open_window(title: str, paced: bool) -> Window | None:
    """A window, None where OpenCV has none (its headless wheel) or there is no screen."""
    linux = sys.platform.startswith("linux")
    if linux and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return None  # OpenCV's Qt would end the program
    try:
        return Window(title, paced)
    except cv2.error:
        return None
