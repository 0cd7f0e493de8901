"""Frames of files and of cameras: all of the former, the newest of the latter; messages where there are none."""

import os
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from ferlib.runtime.errors import UserError
from ferlib.video import sources
from ferlib.video.sources import Camera, Folder, VideoFile, local_path, open_source


def plain(value: int, height: int = 48, width: int = 64) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def write_video(path: Path, values: list[int], fps: float = 20) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), fps, (64, 48))
    for value in values:
        writer.write(plain(value))
    writer.release()
    return path


class FakeCapture:
    """A camera that gives the pictures of `script`, None standing for a failed read; then it fails for ever."""

    scripts: list = []  # noqa: RUF012 - one for each time it is opened; none: it does not open
    opened: list = []  # noqa: RUF012 - the addresses that were asked for
    delay = 0.0  # seconds that a read takes

    def __init__(self, address):
        type(self).opened.append(address)
        self.script = type(self).scripts.pop(0) if type(self).scripts else None
        self.length = len(self.script or ())
        self.released = False

    def isOpened(self):
        return self.script is not None and not self.released

    def read(self):
        time.sleep(self.delay)
        picture = self.script.pop(0) if self.script else None
        return picture is not None, picture

    def get(self, _property):
        return 0.0

    def release(self):
        self.released = True


class FakeFilm(FakeCapture):
    """A capture of known length whose pictures come 40 ms after one another."""

    start = 0.0  # milliseconds: time of the first picture

    def get(self, wanted):
        known = {
            cv2.CAP_PROP_FPS: 25.0,
            cv2.CAP_PROP_FRAME_COUNT: self.length,
            cv2.CAP_PROP_POS_MSEC: self.start + 40 * (self.length - len(self.script) - 1),
        }
        return known[wanted]


@pytest.fixture
def camera(monkeypatch):
    """Makes a Camera of scripts, one for each time it is opened."""

    def make(*scripts, delay=0.0, **options):
        FakeCapture.scripts, FakeCapture.opened, FakeCapture.delay = list(scripts), [], delay
        monkeypatch.setattr(sources.cv2, "VideoCapture", FakeCapture)
        return Camera(0, **{"pauses": (0.01, 0.01), "timeout": 1.0} | options)

    return make


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_video_file_gives_every_frame_with_its_time(tmp_path):
    source = open_source(str(write_video(tmp_path / "film.avi", [0, 40, 80, 120, 160])))
    frames = list(source.frames())
    assert (source.live, source.fps, source.length, source.name) == (False, 20, 5, "film.avi")
    assert [frame.number for frame in frames] == [0, 1, 2, 3, 4]
    assert [frame.time for frame in frames] == pytest.approx([0, 0.05, 0.1, 0.15, 0.2])
    assert [frame.picture.mean() for frame in frames] == pytest.approx([0, 40, 80, 120, 160], abs=4)


def test_times_count_from_the_first_frame(tmp_path, monkeypatch):
    path = tmp_path / "film.mkv"
    path.write_bytes(b"")
    FakeCapture.scripts, FakeCapture.opened, FakeCapture.delay = [[plain(1)] * 3, [plain(1)] * 3], [], 0.0
    monkeypatch.setattr(FakeFilm, "start", 86_400_000.0)
    monkeypatch.setattr(sources.cv2, "VideoCapture", FakeFilm)
    assert [frame.time for frame in VideoFile(path).frames()] == pytest.approx([0, 0.04, 0.08])


def test_a_file_named_by_its_address_is_a_file(tmp_path):
    address = write_video(tmp_path / "my film.avi", [0, 40, 80]).as_uri()
    assert "%20" in address
    source = open_source(address)
    assert (source.live, source.name, source.length) == (False, "my film.avi", 3)
    assert [frame.time for frame in source.frames()] == pytest.approx([0, 0.05, 0.1])
    assert local_path(address) == tmp_path / "my film.avi"
    assert local_path("2") is local_path("rtsp://house/door") is None


def test_a_film_at_an_address_is_read_once_and_to_its_end(monkeypatch):
    FakeCapture.scripts, FakeCapture.opened, FakeCapture.delay = [[plain(1)] * 3 for _ in range(3)], [], 0.0
    monkeypatch.setattr(sources.cv2, "VideoCapture", FakeFilm)
    source = open_source("https://me:secret@house/clip.mp4")
    assert (source.live, source.name, source.length) == (False, "https://house/clip.mp4", 3)
    assert [frame.time for frame in source.frames()] == pytest.approx([0, 0.04, 0.08])
    assert FakeCapture.opened == ["https://me:secret@house/clip.mp4"] * 3


def test_frames_are_rgb(tmp_path):
    path = tmp_path / "red.png"
    cv2.imwrite(str(path), np.full((8, 8, 3), (0, 0, 255), np.uint8))  # OpenCV's order: blue, green, red
    (frame,) = open_source(str(tmp_path)).frames()
    assert frame.picture[0, 0].tolist() == [255, 0, 0]


def test_a_folder_is_read_in_the_order_that_people_count(tmp_path, capsys):
    for number in (10, 2, 1):
        cv2.imwrite(str(tmp_path / f"face{number}.png"), plain(number))
    (tmp_path / "face3.png").write_bytes(b"no picture")
    (tmp_path / "notes.txt").write_text("left out without a word")
    source = Folder(tmp_path, fps=10)
    frames = list(source.frames())
    assert source.length == 4
    assert [int(frame.picture.mean()) for frame in frames] == [1, 2, 10]
    assert [frame.time for frame in frames] == pytest.approx([0, 0.1, 0.3])
    assert "face3.png cannot be read as a picture" in capsys.readouterr().err


def test_the_exif_tag_turns_a_picture(tmp_path):
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    Image.new("RGB", (20, 10)).save(tmp_path / "turned.jpg", exif=exif)
    (frame,) = Folder(tmp_path).frames()
    assert frame.picture.shape == (20, 10, 3)


def test_a_damaged_end_is_said(tmp_path, capsys, monkeypatch):
    source = VideoFile(write_video(tmp_path / "film.avi", [0] * 5))
    source.length = 50
    assert len(list(source.frames())) == 5
    assert "ends after 5 of 50 frames" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.mp4", None, "does not exist"),
        ("text.mp4", b"no video", "cannot be opened as a video"),
        ("face.jpg", b"", "single picture; run: python predict.py"),
    ],
)
def test_what_is_no_source_is_said(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        open_source(str(path))


def test_folders_without_readable_pictures_are_refused(tmp_path):
    with pytest.raises(UserError, match="holds no picture"):
        open_source(str(tmp_path))
    (tmp_path / "broken.png").write_bytes(b"?")
    with pytest.raises(UserError, match="none of the 1 pictures"):
        list(open_source(str(tmp_path)).frames())


# ── cameras ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_numbers_are_cameras_and_addresses_streams(monkeypatch):
    FakeCapture.scripts, FakeCapture.opened = [[], []], []
    monkeypatch.setattr(sources.cv2, "VideoCapture", FakeCapture)
    assert open_source("2").name == "camera 2"
    stream = open_source("rtsp://me:secret@house/door")
    assert (stream.live, stream.name) == (True, "rtsp://house/door")
    assert FakeCapture.opened == [2, "rtsp://me:secret@house/door"]


@pytest.mark.skipif(os.name == "nt", reason="needs devices that are files")
def test_a_device_is_a_camera(tmp_path, monkeypatch):
    FakeCapture.scripts, FakeCapture.opened = [[]], []
    monkeypatch.setattr(sources.cv2, "VideoCapture", FakeCapture)
    (tmp_path / "door").symlink_to(os.devnull)  # as udev names cameras below /dev/v4l
    source = open_source(str(tmp_path / "door"))
    assert (source.live, FakeCapture.opened) == (True, [str(tmp_path / "door")])


def test_a_camera_that_does_not_open_is_said(camera):
    with pytest.raises(UserError, match="camera 0 cannot be opened"):
        camera()


def test_a_slow_reader_drops_frames_and_gets_the_newest(camera):
    source = camera([plain(value) for value in range(100)] + [None], delay=0.002, pauses=())
    frames = source.frames()
    seen = []
    with pytest.raises(UserError):
        for frame in frames:
            seen.append((int(frame.picture.mean()), source.read, frame.time))
            time.sleep(0.03)
    values, given, times = zip(*seen, strict=True)
    assert 3 <= len(values) < 60  # about every fifteenth
    assert list(values) == sorted(set(values))
    assert all(count - value <= 3 for value, count in zip(values, given, strict=True))  # not a frame of long ago
    assert times[0] == 0
    assert times[-1] == pytest.approx(0.002 * values[-1], abs=0.25)
    assert values[-1] == 99
    assert source.dropped == 100 - len(values)


def test_a_lost_camera_is_opened_again(camera, capsys):
    source = camera([plain(1), None], None, [plain(2), plain(3)], delay=0.01)
    FakeCapture.scripts[0] = None  # the first try fails
    values = []
    with pytest.raises(UserError, match="camera 0 is lost"):
        for frame in source.frames():
            values.append(int(frame.picture.mean()))
    assert values[0] == 1
    assert 3 in values
    assert "opened again in 0.01 s (1 of 2)" in capsys.readouterr().err


def test_a_camera_that_hangs_is_lost(camera):
    source = camera([plain(1)] * 10, delay=0.5, timeout=0.05)
    with pytest.raises(UserError, match="no frame for"):
        next(source.frames())


def test_a_slow_start_does_not_lose_a_camera(camera):
    source = camera([plain(1)] * 10, delay=0.05, timeout=0.5)
    time.sleep(0.6)
    assert next(source.frames()).number == 0


def test_the_reading_thread_ends_with_its_reader(camera):
    source = camera([plain(1)] * 10_000, delay=0.001)
    before = threading.active_count()
    frames = source.frames()
    next(frames)
    assert threading.active_count() == before + 1
    frames.close()
    assert threading.active_count() == before
    assert source.capture.released
