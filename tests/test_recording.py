"""Video files and animated pictures that can be read again, of the right duration."""

import cv2
import numpy as np
import pytest
from PIL import Image

from ferlib.runtime.errors import UserError
from ferlib.video import recording as module
from ferlib.video.recording import Recorder, fit, recording


def plain(value: int, height: int = 48, width: int = 64) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def read_video(path) -> tuple[float, list[np.ndarray]]:
    capture, pictures = cv2.VideoCapture(str(path)), []
    while (result := capture.read())[0]:
        pictures.append(result[1])
    return capture.get(cv2.CAP_PROP_FPS), pictures


@pytest.mark.parametrize("name", ["out.mp4", "out.avi"])
def test_a_video_can_be_read_again(tmp_path, name):
    with recording(tmp_path / "new" / name, 20) as recorder:
        for number in range(10):
            recorder.add(plain(20 * number), number / 20)
    fps, pictures = read_video(tmp_path / "new" / name)
    assert fps == pytest.approx(20)
    assert [picture.mean() for picture in pictures] == pytest.approx([20 * number for number in range(10)], abs=5)
    assert [path.name for path in (tmp_path / "new").iterdir()] == [name]


@pytest.mark.parametrize("fps", [23.976, 59.9401, 65.5873, 119.5873, 239.997])
@pytest.mark.parametrize("name", ["out.mp4", "out.avi"])
def test_averages_of_frame_rates_can_be_written(tmp_path, name, fps):
    with recording(tmp_path / name, fps) as recorder:
        for number in range(4):
            recorder.add(plain(50 * number), number / fps)
    written, pictures = read_video(tmp_path / name)
    assert (written, len(pictures)) == (pytest.approx(fps, abs=0.006), 4)


def test_colours_survive(tmp_path):
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[..., 0] = 220  # red
    for name in ("out.mp4", "out.gif"):
        with recording(tmp_path / name, 10) as recorder:
            for number in range(3):
                recorder.add(picture, number / 10)
    (_, pictures), gif = read_video(tmp_path / "out.mp4"), Image.open(tmp_path / "out.gif").convert("RGB")
    assert pictures[1].mean((0, 1)) == pytest.approx([0, 0, 220], abs=12)  # OpenCV's order
    assert np.asarray(gif).mean((0, 1)) == pytest.approx([220, 0, 0], abs=12)


@pytest.mark.parametrize("name", ["out.gif", "out.webp"])
def test_an_animated_picture_is_small_slow_and_endless(tmp_path, name):
    with recording(tmp_path / name, 25) as recorder:
        for number in range(25):
            recorder.add(plain(10 * number, 720, 960), number / 25)
    with Image.open(tmp_path / name) as picture:
        assert picture.size == (480, 360)
        assert picture.n_frames == 13  # one second
        assert picture.info["loop"] == 0
        picture.seek(1)
        picture.load()
        assert picture.info["duration"] == 80


@pytest.mark.parametrize("fps", [7.5, 11, 12])
def test_a_gif_lasts_as_long_as_its_source(tmp_path, fps):
    """Its frames last whole hundredths of a second, whose rounding may not add up."""
    with recording(tmp_path / "out.gif", fps) as recorder:
        for number in range(60):
            recorder.add(plain(10 * (number % 20)), number / fps)
    with Image.open(tmp_path / "out.gif") as gif:
        seconds = 0.0
        for frame in range(gif.n_frames):
            gif.seek(frame)
            gif.load()
            seconds += gif.info["duration"] / 1000
    assert seconds == pytest.approx(60 / fps, abs=0.01)


def test_a_gif_ends_when_it_has_grown_too_long(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module, "ANIMATION_FRAMES", 5)
    with recording(tmp_path / "out.gif", 10) as recorder:
        for number in range(20):
            recorder.add(plain(50 * (number % 5)), number / 10)
    with Image.open(tmp_path / "out.gif") as gif:
        assert gif.n_frames == 5
    assert capsys.readouterr().err.count("an animated picture holds") == 1


def test_late_frames_are_repeated_and_early_ones_left_out(tmp_path):
    recorder = Recorder(tmp_path / "out.avi", 10)
    for value, seconds in ((0, 0.0), (50, 0.5), (100, 0.52), (150, 0.6)):
        recorder.add(plain(value), seconds)
    recorder.close()
    _, pictures = read_video(tmp_path / "out.avi")
    expected = [0, 0, 0, 0, 0, 50, 150]
    assert [picture.mean() for picture in pictures] == pytest.approx(expected, abs=5)


def test_frames_of_other_sizes_are_fitted():
    fitted = fit(plain(200, 100, 50), (64, 48))
    assert fitted.shape == (48, 64, 3)
    assert fitted[:, 20:44].min() == 200  # 24 wide, in the middle
    assert fitted[:, :20].max() == fitted[:, 44:].max() == 0
    assert fit(plain(7), (64, 48)).min() == 7


def test_an_odd_size_can_be_written(tmp_path):
    with recording(tmp_path / "out.mp4", 10) as recorder:
        for number in range(3):
            recorder.add(plain(100, 47, 63), number / 10)
    assert len(read_video(tmp_path / "out.mp4")[1]) == 3


def test_nothing_is_left_of_a_recording_that_fails(tmp_path):
    with pytest.raises(ValueError, match="broken"), recording(tmp_path / "out.mp4", 10) as recorder:
        recorder.add(plain(1), 0)
        raise ValueError("broken")
    with pytest.raises(UserError, match="there was no frame"), recording(tmp_path / "out.mp4", 10):
        pass
    assert list(tmp_path.iterdir()) == []


def test_unknown_kinds_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"unknown kind of --output '.txt'.*\.mp4, \.avi, \.gif, \.webp"):
        recording(tmp_path / "out.txt", 10).__enter__()
