"""Cuts of a film: frames that show another scene than the frame before."""

from __future__ import annotations

import cv2
import numpy as np

GRID = (24, 18)  # columns and rows of the thumbnails that are compared
REACH = (3, 2)  # of them, by which a scene may move from one frame to the next
ALIKE = 0.7  # correlation below which a scene is another: in test_cuts at least 0.85 after motion, at most 0.47 else
CHANGE = 10.0  # grey levels: mean change of a thumbnail below which there is no cut, as of noise on a flat picture


class CutFinder:
    """Whether the next frame shows another scene: find(picture uint8 H×W×3 RGB) → bool, False for the first frame.

    The middle of the thumbnail before is searched in the new one; the highest normalised correlation counts (Lewis,
    "Fast normalized cross-correlation", 1995), which neither a pan nor a change of light lowers much, unless it
    whitens the picture. Dissolves are no cuts, and shots that look alike at this size are not told apart.
    """

    def __init__(self) -> None:
        self.before: np.ndarray | None = None  # thumbnail of the last frame

    def __call__(self, picture: np.ndarray) -> bool:
        """Compares a frame with the one before."""
        now, before = thumbnail(picture), self.before
        self.before = now
        if before is None or cv2.absdiff(now, before).mean() < CHANGE:
            return False
        across, down = REACH
        middle = before[down:-down, across:-across].copy()
        return float(cv2.matchTemplate(now, middle, cv2.TM_CCOEFF_NORMED).max()) < ALIKE


def thumbnail(picture: np.ndarray) -> np.ndarray:
    """A picture uint8 H×W×3 in grey, of about 100 of its rows: float32 18×24."""
    step = max(1, min(picture.shape[:2]) // 96)
    grey = cv2.cvtColor(np.ascontiguousarray(picture[::step, ::step]), cv2.COLOR_RGB2GRAY)
    return cv2.resize(grey, GRID, interpolation=cv2.INTER_AREA).astype(np.float32)
