"""Where frames come from: every one of a video file or a folder of pictures, the newest one of a camera or a stream."""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from ferlib.runtime.errors import UserError

PICTURES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
FPS = 25.0  # frames per second of a folder, and of a source that does not say
PATIENCE = 10.0  # seconds without a frame after which a camera counts as lost
PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)  # seconds before each try to open a lost camera again


@dataclass(frozen=True)
class Frame:
    """One picture of a source."""

    number: int  # from 0
    time: float  # seconds since the first frame
    picture: np.ndarray  # uint8 H×W×3, RGB


class Source(Protocol):
    """Anything that gives frames."""

    name: str  # for people
    live: bool  # frames come by themselves and those not taken in time are dropped
    fps: float  # frames per second, as the source says
    length: int | None  # number of frames, None where it is not known
    dropped: int  # frames that came and were not taken

    def frames(self) -> Iterator[Frame]: ...


def open_source(text: str) -> Source:
    """The source called `text`: the number of a camera, the address of a stream, a folder of pictures or a video file.

    Raises UserError where there is no such thing or it cannot be opened.
    """
    if text.isdigit():
        return Camera(int(text))
    if "://" in text:
        return Camera(text)
    path = Path(text)
    if path.is_dir():
        return Folder(path)
    if not path.exists():
        raise UserError(
            f"--source {text} does not exist; give the number of a camera, a video file, a folder or an address"
        )
    if path.suffix.lower() in PICTURES:
        raise UserError(f"--source {text} is a single picture; run: python predict.py {text}")
    return VideoFile(path)


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────


class VideoFile:
    """Every frame of a video file, at the time that the file gives it."""

    live = False
    dropped = 0

    def __init__(self, path: Path):
        with capturing(path) as capture:
            if not capture.isOpened():
                raise UserError(f"{path} cannot be opened as a video; is it whole, and of a kind that OpenCV reads?")
            self.path, self.name = path, path.name
            self.fps = plausible_fps(capture.get(cv2.CAP_PROP_FPS))
            self.length = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT))) or None

    def frames(self) -> Iterator[Frame]:
        """Raises UserError for a file without a readable frame."""
        number, last = 0, -1 / self.fps
        with capturing(self.path) as capture:
            while (picture := read_rgb(capture)) is not None:
                stamp = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                last = stamp if stamp > last else last + 1 / self.fps  # some files give no times
                yield Frame(number, last, picture)
                number += 1
        if number == 0:
            raise UserError(f"{self.path} holds no frame that can be read")
        if self.length and number < 0.9 * self.length:
            warn(f"{self.name} ends after {number} of {self.length} frames; is the file damaged?")


class Folder:
    """Every picture of a folder in the order of the names, as if taken `fps` times a second."""

    live = False
    dropped = 0

    def __init__(self, path: Path, fps: float = FPS):
        self.path, self.name, self.fps = path, path.name, fps
        self.files = sorted((file for file in path.iterdir() if file.suffix.lower() in PICTURES), key=natural_order)
        self.length = len(self.files)
        if not self.files:
            raise UserError(f"{path} holds no picture; known kinds are {', '.join(PICTURES)}")

    def frames(self) -> Iterator[Frame]:
        """Turned as EXIF says; an unreadable picture is named and left out. UserError where all are unreadable."""
        readable = 0
        for number, file in enumerate(self.files):
            picture = decode_picture(file)
            if picture is None:
                warn(f"{file} is not a readable picture and is left out")
                continue
            readable += 1
            yield Frame(number, number / self.fps, picture)
        if not readable:
            raise UserError(f"none of the {self.length} pictures in {self.path} can be read")


def natural_order(file: Path) -> list[tuple[int, str]]:
    """A key that sorts picture2 before picture10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", file.name.lower())]


def decode_picture(file: Path) -> np.ndarray | None:
    """uint8 H×W×3 RGB, None where the file is no readable picture (OpenCV refuses pictures above 2^30 pixels)."""
    try:
        picture = cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_COLOR)  # imread fails on odd names on Windows
    except (OSError, cv2.error):
        return None
    return None if picture is None else cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


# ── cameras and streams ──────────────────────────────────────────────────────────────────────────────────────────────


class Camera:
    """The newest frame of a camera or a stream: a thread reads all the time and forgets what nobody took.

    So a slow computer drops frames and stays close to the present. A camera that stops is opened again, after pauses.
    """

    live = True
    length = None

    def __init__(self, address: int | str, pauses: tuple[float, ...] = PAUSES, patience: float = PATIENCE):
        self.address, self.pauses, self.patience = address, pauses, patience
        self.name = f"camera {address}" if isinstance(address, int) else without_password(address)
        self.capture = cv2.VideoCapture(address)
        if not self.capture.isOpened():
            self.capture.release()
            raise UserError(f"{self.name} cannot be opened; is it there, allowed, and free of other programs?")
        self.fps = plausible_fps(self.capture.get(cv2.CAP_PROP_FPS))
        self.news = threading.Condition()
        self.newest: np.ndarray | None = None
        self.taken = 0.0  # when the newest frame came, monotonic seconds
        self.alive = time.monotonic()  # when the camera last showed life
        self.stopped, self.lost = False, False
        self.read = 0  # frames that the camera gave
        self.used = 0  # frames that were handed out

    @property
    def dropped(self) -> int:
        return self.read - self.used

    def frames(self) -> Iterator[Frame]:
        """Raises UserError when the camera is lost for good."""
        thread = threading.Thread(target=self._read, name=self.name, daemon=True)
        thread.start()
        first = None
        try:
            while True:
                picture, taken = self._wait()
                first = taken if first is None else first
                self.used += 1
                yield Frame(self.used - 1, taken - first, picture)
        finally:
            self.stopped = True
            thread.join(timeout=2)  # a read that hangs ends with the program

    def _wait(self) -> tuple[np.ndarray, float]:
        """The newest frame that was not handed out yet, and when it came."""
        with self.news:
            while self.newest is None:
                silent = time.monotonic() - self.alive
                if self.lost or silent > self.patience:
                    raise UserError(f"{self.name} is lost: no frame for {silent:.0f} s; check its cable or address")
                self.news.wait(timeout=0.1)
            picture, self.newest = self.newest, None
            return picture, self.taken

    def _read(self) -> None:
        """Keeps the newest frame until stopped or until the camera is lost; the only one to touch the capture."""
        while not self.stopped:
            picture = read_rgb(self.capture)
            if picture is not None:
                self._keep(picture)
            elif not self._reconnect():
                break
        self.capture.release()

    def _keep(self, picture: np.ndarray) -> None:
        with self.news:
            self.newest, self.taken = picture, time.monotonic()
            self.alive = self.taken
            self.read += 1
            self.news.notify()

    def _reconnect(self) -> bool:
        """Opens the camera again; False, and `lost` is set, where every try fails."""
        for number, pause in enumerate(self.pauses, start=1):
            warn(f"{self.name} gives no frame; trying again in {pause:g} s ({number} of {len(self.pauses)})")
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
        """Waits for so long, or until stopped; a camera that is being tried again is not silent."""
        end = time.monotonic() + seconds
        while not self.stopped and time.monotonic() < end:
            time.sleep(min(0.05, seconds))
            self.alive = time.monotonic()


# ── helpers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def capturing(path: Path) -> Iterator[cv2.VideoCapture]:
    """A capture of a file, released when the block ends."""
    capture = cv2.VideoCapture(str(path))
    try:
        yield capture
    finally:
        capture.release()


def read_rgb(capture: cv2.VideoCapture) -> np.ndarray | None:
    """The next frame as uint8 H×W×3 RGB, None where there is none."""
    there, picture = capture.read()
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB) if there and picture is not None else None


def plausible_fps(fps: float) -> float:
    """What a source says of its frames per second, or FPS where it says nothing or nonsense."""
    return fps if 1 <= fps <= 240 else FPS


def without_password(address: str) -> str:
    """An address fit for the screen."""
    return re.sub(r"(?<=://)[^/@]*@", "", address)


def warn(message: str) -> None:
    print(f"note: {message}", file=sys.stderr, flush=True)
