"""Which face of a frame is which of the frames before, and its emotions smoothed over time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

MIN_OVERLAP = 0.2  # intersection over union of a face's boxes in two frames that follow each other
PATIENCE = 0.7  # seconds for which a face that is not seen keeps its number


@dataclass
class Track:
    """One face over time."""

    number: int  # from 1, in the order of appearance, never used again
    box: tuple[float, float, float, float]  # x, y, width, height in pixels, when last seen
    seen: float  # seconds, when last seen
    probabilities: np.ndarray | None = None  # 7, smoothed
    smoothed: float = 0.0  # seconds, when the probabilities were last smoothed


@dataclass(frozen=True)
class Sighting:
    """A tracked face in one frame, and what the model made of it."""

    track: int
    box: tuple[float, float, float, float]  # x, y, width, height in pixels
    probabilities: np.ndarray  # 7, smoothed over time
    map: np.ndarray | None = None  # float32 S×S in 0..1, of the aligned crop
    to_frame: np.ndarray | None = None  # 2×3, affine: pixels of the crop to pixels of the frame

    @property
    def label(self) -> int:
        return int(self.probabilities.argmax())


class Tracker:
    """Gives faces numbers that stay from frame to frame.

    The boxes of a frame are matched with those of the tracks so that the sum of overlaps is largest (the Hungarian
    method: Kuhn, "The Hungarian method for the assignment problem", 1955), as SORT does (Bewley et al., "Simple online
    and realtime tracking", 2016, section 3.3). A face that is not found keeps its number for `patience` seconds.
    """

    def __init__(self, min_overlap: float = MIN_OVERLAP, patience: float = PATIENCE):
        self.min_overlap, self.patience = min_overlap, patience
        self.tracks: list[Track] = []
        self.count = 0

    def update(self, boxes: Sequence[tuple[float, float, float, float]], now: float) -> list[Track]:
        """The track of each box (x, y, width, height in pixels) of the frame at `now` seconds, in the same order."""
        self.tracks = [track for track in self.tracks if now - track.seen <= self.patience]
        matched = match(self.tracks, boxes, self.min_overlap)
        return [self._follow(matched.get(row), tuple(box), now) for row, box in enumerate(boxes)]

    def _follow(self, track: Track | None, box: tuple[float, ...], now: float) -> Track:
        if track is None:
            self.count += 1
            track = Track(self.count, box, now)
            self.tracks.append(track)
        track.box, track.seen = box, now
        return track


def match(tracks: Sequence[Track], boxes: Sequence[tuple], min_overlap: float) -> dict[int, Track]:
    """The track of each box that has one, by the box's place in `boxes`."""
    if not tracks or not boxes:
        return {}
    overlaps = overlap(np.array([track.box for track in tracks]), np.array(boxes))
    overlaps[overlaps < min_overlap] = 0
    pairs = zip(*linear_sum_assignment(overlaps, maximize=True), strict=True)
    return {int(box): tracks[track] for track, box in pairs if overlaps[track, box] > 0}


def overlap(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes N×4 and M×4 (x, y, width, height) → N×M in 0..1."""
    first, second = first[:, None].astype(float), second[None].astype(float)
    low = np.maximum(first[..., :2], second[..., :2])
    high = np.minimum(first[..., :2] + first[..., 2:], second[..., :2] + second[..., 2:])
    shared = np.clip(high - low, 0, None).prod(-1)
    union = first[..., 2:].prod(-1) + second[..., 2:].prod(-1) - shared
    return shared / np.maximum(union, 1e-9)


def smooth(track: Track, probabilities: np.ndarray, now: float, time_constant: float) -> np.ndarray:
    """The track's probabilities (7) after those of the frame at `now` seconds: exponential smoothing.

    p̄(t) = p̄(s) + (1 − exp(−(t − s) / τ)) · (p(t) − p̄(s)), where s is the time of the frame before and τ the time
    constant in seconds. The weight depends on the time that has passed, not on the number of frames: after τ seconds
    63 % of a change has arrived, at any frame rate. τ = 0 smooths nothing, and a face that is new begins with its own.
    """
    if track.probabilities is None or time_constant <= 0:
        track.probabilities = probabilities
    else:
        weight = -math.expm1(-(now - track.smoothed) / time_constant)
        track.probabilities = track.probabilities + weight * (probabilities - track.probabilities)
    track.smoothed = now
    return track.probabilities
