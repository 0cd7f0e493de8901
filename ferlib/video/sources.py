"""Sources of frames: all frames of a video file or a folder of pictures, the newest one of a camera or a stream."""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit
from urllib.request import url2pathname

import cv2
import numpy as np

from ferlib.faces.photos import read_photo
from ferlib.runtime.errors import UserError
from ferlib.runtime.terminal import printable

PICTURES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
FPS = 25.0  # frames per second of a folder, and of a source that reports none
TIMEOUT = 10.0  # seconds without a frame after which a camera counts as lost
PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)  # seconds before each attempt to open a lost camera again


@dataclass(frozen=True)
class Frame:
    """One picture of a source."""

    number: int  # from 0
    time: float  # seconds since the first frame
    picture: np.ndarray  # uint8 H×W×3, RGB


class Source(Protocol):
    """A source of frames."""

    live: bool  # frames arrive at their own pace, and those that are not consumed in time are dropped

    @property
    def name(self) -> str:
        """Its name for people."""

    @property
    def fps(self) -> float:
        """Frames per second that the source reports."""

    @property
    def length(self) -> int | None:
        """Number of frames, None where it is not known."""

    @property
    def dropped(self) -> int:
        """Number of frames that arrived and were not consumed."""

    def frames(self) -> Iterator[Frame]:
        """The frames in their order."""


def open_source(text: str) -> Source:
    """The source named `text`: the number or device of a camera, an address, a folder of pictures or a video file.

    UserError where it does not exist or cannot be opened.
    """
    path = local_path(text)
    if path is None:
        return Camera(int(text)) if text.isdigit() else open_address(text)
    if path.is_dir():
        return Folder(path)
    if not path.exists():
        raise UserError(
            f"--source {text} does not exist; give the number of a camera, a video file, a folder or an address"
        )
    if path.is_char_device():
        return Camera(str(path))
    if not path.is_file():  # a pipe would be waited for without end
        raise UserError(f"--source {text} is neither a file, nor a folder, nor a camera")
    if path.suffix.lower() in PICTURES:
        raise UserError(f"--source {text} is a single picture; run: python predict.py {text}")
    return VideoFile(path)


def local_path(text: str) -> Path | None:
    """The path that a source is named by, also as file://…; None for the number of a camera and other addresses."""
    if text.lower().startswith("file://"):
        return Path(url2pathname(urlsplit(text).path))
    return None if text.isdigit() or "://" in text else Path(text)


def open_address(address: str) -> Source:
    """A film that ends as a file, of which every frame is read; a stream without an end as a camera."""
    camera = Camera(address)
    if camera.capture.get(cv2.CAP_PROP_FRAME_COUNT) <= 0:
        return camera
    camera.capture.release()
    return VideoFile(address)


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────


class VideoFile:
    """All frames of a video file, with the file's own times since its first frame."""

    live = False
    dropped = 0

    def __init__(self, place: Path | str):
        """place: its path, or the address of one that is not on this computer."""
        self.place, self.shown = place, without_password(str(place))
        self.name = place.name if isinstance(place, Path) else self.shown
        with open_capture(place) as capture:
            if not capture.isOpened():
                raise UserError(
                    f"{self.shown} cannot be opened as a video; it is damaged, or of a format that OpenCV does not read"
                )
            self.fps = plausible_fps(capture.get(cv2.CAP_PROP_FPS))
            self.length = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT))) or None

    def frames(self) -> Iterator[Frame]:
        """UserError for a file without a readable frame."""
        number, first, last = 0, None, -1 / self.fps
        with open_capture(self.place) as capture:
            while (picture := read_rgb(capture)) is not None:
                stamp = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                first = stamp if first is None else first
                last = stamp - first if stamp - first > last else last + 1 / self.fps  # some files hold no times
                yield Frame(number, last, picture)
                number += 1
        if number == 0:
            raise UserError(f"{self.shown} holds no frame that can be read")
        if self.length and number < 0.9 * self.length:
            warn_once(f"{self.name} ends after {number} of {self.length} frames; the file may be damaged")


class Folder:
    """All pictures of a folder, sorted by name, as frames at `fps` per second."""

    live = False
    dropped = 0

    def __init__(self, path: Path, fps: float = FPS):
        self.path, self.name, self.fps = path, path.name, fps
        self.files = sorted(filter(is_picture, path.iterdir()), key=natural_order)
        self.length = len(self.files)
        if not self.files:
            raise UserError(f"{path} holds no picture; the endings read are {', '.join(PICTURES)}")

    def frames(self) -> Iterator[Frame]:
        """Pictures turned upright by their EXIF; a note for unreadable ones, UserError where all are unreadable."""
        readable = 0
        for number, file in enumerate(self.files):
            try:
                photo = read_photo(file)
            except UserError as error:
                warn_once(f"left out: {error}")
                continue
            readable += 1
            yield Frame(number, number / self.fps, photo.pixels)
        if not readable:
            raise UserError(f"none of the {self.length} pictures in {self.path} can be read")


def is_picture(path: Path) -> bool:
    """Whether a path is a file that is named as a picture, and no hidden one."""
    return path.suffix.lower() in PICTURES and path.is_file() and not path.name.startswith(".")


def natural_order(file: Path) -> list[tuple[int, str]]:
    """A sort key by which picture2 comes before picture10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", file.name.lower())]


# ── cameras and streams ──────────────────────────────────────────────────────────────────────────────────────────────


class Camera:
    """The newest frame of a camera or a stream, which a thread reads without pause; older frames are dropped.

    Slow processing lowers the frame rate and adds no delay. A camera that stops is opened again, after pauses.
    """

    live = True
    length = None

    def __init__(self, address: int | str, pauses: tuple[float, ...] = PAUSES, timeout: float = TIMEOUT):
        self.address, self.pauses, self.timeout = address, pauses, timeout
        self.name = f"camera {address}" if isinstance(address, int) else without_password(address)
        self.capture = cv2.VideoCapture(address)
        if not self.capture.isOpened():
            self.capture.release()
            raise UserError(
                f"{self.name} cannot be opened; check that it is connected, that access is allowed and that no other "
                "program uses it"
            )
        self.fps = plausible_fps(self.capture.get(cv2.CAP_PROP_FPS))
        self.frame_ready = threading.Condition()
        self.newest: np.ndarray | None = None
        self.newest_time = 0.0  # of the newest frame's arrival, monotonic seconds
        self.stopped, self.lost = False, False
        self.read = 0  # frames that arrived
        self.used = 0  # frames that were consumed

    @property
    def dropped(self) -> int:
        """Number of frames that arrived and were not consumed."""
        return self.read - self.used

    def frames(self) -> Iterator[Frame]:
        """UserError when the camera is lost and cannot be opened again."""
        self.last_active = time.monotonic()  # of the last frame or attempt to reconnect; not of its opening
        thread = threading.Thread(target=self._read, name=self.name, daemon=True)
        thread.start()
        first = None
        try:
            while True:
                picture, arrived = self._wait()
                first = arrived if first is None else first
                self.used += 1
                yield Frame(self.used - 1, arrived - first, picture)
        finally:
            self.stopped = True
            thread.join(timeout=2)  # a read that blocks ends with the process

    def _wait(self) -> tuple[np.ndarray, float]:
        """The newest frame that was not consumed yet, and the time of its arrival."""
        with self.frame_ready:
            while self.newest is None:
                silent = time.monotonic() - self.last_active
                if self.lost or silent > self.timeout:
                    raise UserError(f"{self.name} is lost: no frame for {silent:.0f} s; check its cable or address")
                self.frame_ready.wait(timeout=0.1)
            picture, self.newest = self.newest, None
            return picture, self.newest_time

    def _read(self) -> None:
        """The reading thread, the only user of the capture: runs until stopped or until the camera is lost."""
        while not self.stopped:
            picture = read_rgb(self.capture)
            if picture is not None:
                self._keep(picture)
            elif not self._reconnect():
                break
        self.capture.release()

    def _keep(self, picture: np.ndarray) -> None:
        with self.frame_ready:
            self.newest, self.newest_time = picture, time.monotonic()
            self.last_active = self.newest_time
            self.read += 1
            self.frame_ready.notify()

    def _reconnect(self) -> bool:
        """Opens the camera again; False, with `lost` set, where every attempt fails."""
        for number, pause in enumerate(self.pauses, start=1):
            warn(f"{self.name} gives no frame; it is opened again in {pause:g} s ({number} of {len(self.pauses)})")
            self._pause(pause)
            if self.stopped:
                return False
            self.capture.release()
            self.capture = cv2.VideoCapture(self.address)
            if self.capture.isOpened() and (picture := read_rgb(self.capture)) is not None:
                self._keep(picture)
                return True
        self.lost = True
        return False

    def _pause(self, seconds: float) -> None:
        """Waits for `seconds` or until stopped; the pause does not count towards the timeout."""
        end = time.monotonic() + seconds
        while not self.stopped and time.monotonic() < end:
            time.sleep(min(0.05, seconds))
            self.last_active = time.monotonic()


# ── helpers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def open_capture(place: Path | str) -> Iterator[cv2.VideoCapture]:
    """OpenCV's capture of a file, released when the block ends."""
    capture = cv2.VideoCapture(str(place))
    try:
        yield capture
    finally:
        capture.release()


def read_rgb(capture: cv2.VideoCapture) -> np.ndarray | None:
    """The next frame as uint8 H×W×3 RGB, None where there is none."""
    there, picture = capture.read()
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB) if there and picture is not None else None


def plausible_fps(fps: float) -> float:
    """Frames per second that a source reports, or FPS where the value is out of 1..240."""
    return fps if 1 <= fps <= 240 else FPS


def without_password(address: str) -> str:
    """An address without user name and password, to be printed."""
    return re.sub(r"(?<=://)[^/@]*@", "", address)


@lru_cache
def warn_once(message: str) -> None:
    """Prints a note on stderr, at the first reading of a file of which the first frames are read twice."""
    warn(message)


def warn(message: str) -> None:
    """Prints a note on stderr."""
    print(f"note: {printable(message)}", file=sys.stderr, flush=True)
