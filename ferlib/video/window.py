"""A window that shows annotated frames, where OpenCV has windows and there is a screen."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping

import cv2
import numpy as np

from ferlib.runtime.errors import UserError

Keys = Mapping[str, Callable[[], object]]  # a lower-case letter → what is done when it is pressed


class Window:
    """A window on the screen; with `paced`, each frame is shown at its time."""

    def __init__(self, title: str, paced: bool, keys: Keys | None = None):
        self.title, self.paced, self.keys = title, paced, keys or {}
        self.start: float | None = None
        cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)

    def show(self, picture: np.ndarray, seconds: float) -> bool:
        """Shows uint8 H×W×3 RGB; False after q or Esc was pressed or the window was closed."""
        cv2.imshow(self.title, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        key = cv2.waitKey(self._wait(seconds)) & 0xFF
        if action := self.keys.get(chr(key).lower()):
            action()
        closed = cv2.getWindowProperty(self.title, cv2.WND_PROP_VISIBLE) < 1
        return key not in (ord("q"), ord("Q"), 27) and not closed

    def _wait(self, seconds: float) -> int:
        """Milliseconds until the frame's time, at least 1."""
        if self.start is None:
            self.start = time.monotonic() - seconds
        early = self.start + seconds - time.monotonic() if self.paced else 0
        return max(1, round(1000 * early))

    def close(self) -> None:
        """Closes the window."""
        cv2.destroyAllWindows()


def open_window(title: str, paced: bool, keys: Keys | None = None) -> Window | None:
    """A window, None where OpenCV has none (its headless wheel) or there is no screen."""
    linux = sys.platform.startswith("linux")
    if linux and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return None  # OpenCV's Qt would end the process
    try:
        return Window(title, paced, keys)
    except cv2.error:
        return None


def choose_window(title: str, wanted: bool, paced: bool, writes_files: bool, keys: Keys | None = None) -> Window | None:
    """A window if it is wanted and possible, with a note if it is not possible.

    keys: what is done when a key is pressed, beside q and Esc, which end the show. UserError where there is neither a
    window nor a file that is written.
    """
    window = open_window(title, paced, keys) if wanted else None
    if window is None and not writes_files:
        raise UserError(
            "no window can be shown here (OpenCV's headless wheel has none, or there is no screen); "
            "give --output out.mp4, --csv FILE or --jsonl FILE"
            if wanted
            else "--no-window needs a file to write: give --output out.mp4, --csv FILE or --jsonl FILE"
        )
    if window is None and wanted:
        print("note: no window can be shown here; continuing without", file=sys.stderr)
    return window
