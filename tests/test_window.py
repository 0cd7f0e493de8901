"""A window that is not there, and one that is, paced and closed by a key."""

import cv2
import numpy as np
import pytest

from ferlib.runtime.errors import UserError
from ferlib.video import window as module
from ferlib.video.window import choose_window, open_window


def plain(value: int, height: int = 48, width: int = 64) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


class FakeWindow:
    """The functions of OpenCV that a window needs; `keys` are pressed one after the other."""

    def __init__(self, monkeypatch, keys=(), error=None):
        self.keys, self.shown, self.waited, self.visible = list(keys), [], [], 1
        self.error = error
        for name in ("namedWindow", "imshow", "waitKey", "getWindowProperty", "destroyAllWindows"):
            monkeypatch.setattr(module.cv2, name, getattr(self, name))
        monkeypatch.setenv("DISPLAY", ":0")

    def namedWindow(self, _title, _flags):
        if self.error:
            raise self.error

    def imshow(self, _title, picture):
        self.shown.append(picture)

    def waitKey(self, milliseconds):
        self.waited.append(milliseconds)
        return ord(self.keys.pop(0)) if self.keys else -1

    def getWindowProperty(self, _title, _property):
        return self.visible

    def destroyAllWindows(self):
        self.shown.append("closed")


def test_without_a_window_in_opencv_there_is_none(monkeypatch):
    FakeWindow(monkeypatch, error=cv2.error("The function is not implemented."))
    assert open_window("live", paced=False) is None


def test_without_a_screen_there_is_none(monkeypatch):
    fake = FakeWindow(monkeypatch)
    monkeypatch.delenv("DISPLAY")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(module.sys, "platform", "linux")
    assert open_window("live", paced=False) is None
    assert fake.shown == []


def test_a_window_shows_until_q(monkeypatch):
    fake = FakeWindow(monkeypatch, keys="xq")
    window = open_window("live", paced=False)
    red = np.zeros((4, 4, 3), np.uint8)
    red[..., 0] = 255
    assert window.show(red, 0) is True
    assert window.show(red, 1) is False
    assert fake.shown[0][0, 0].tolist() == [0, 0, 255]  # OpenCV's order
    assert fake.waited == [1, 1]


def test_a_key_does_what_it_is_given_for(monkeypatch):
    FakeWindow(monkeypatch, keys="xRr")
    pressed = []
    window = open_window("live", paced=False, keys={"r": lambda: pressed.append("r")})
    assert [(window.show(plain(0), 0), len(pressed)) for _ in range(4)] == [(True, 0), (True, 1), (True, 2), (True, 2)]


def test_a_closed_window_ends_the_show(monkeypatch):
    fake = FakeWindow(monkeypatch)
    window = open_window("live", paced=False)
    fake.visible = 0
    assert window.show(plain(0), 0) is False


def test_a_file_is_shown_at_its_own_pace(monkeypatch):
    fake = FakeWindow(monkeypatch)
    window = open_window("live", paced=True)
    window.show(plain(0), 0)
    window.show(plain(0), 0.5)
    assert fake.waited[0] == 1
    assert 400 < fake.waited[1] <= 500


def test_neither_a_window_nor_a_file_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(module, "open_window", lambda *_: None)
    with pytest.raises(UserError, match=r"no window can be shown here.*--output"):
        choose_window("live", wanted=True, paced=False, writes_files=False)
    with pytest.raises(UserError, match="--no-window needs a file to write"):
        choose_window("live", wanted=False, paced=False, writes_files=False)
    assert choose_window("live", wanted=False, paced=False, writes_files=True) is None
    assert capsys.readouterr().err == ""
    assert choose_window("live", wanted=True, paced=False, writes_files=True) is None
    assert capsys.readouterr().err.count("continuing without") == 1
