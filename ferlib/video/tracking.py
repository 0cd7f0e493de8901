"""Tracking: faces matched from frame to frame, their probabilities smoothed over time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import linear_sum_assignment

if TYPE_CHECKING:
    from ferlib.video.regions import RegionValues

MIN_OVERLAP = 0.2  # intersection over union of a face's boxes in two frames that follow each other
MAX_GAP = 0.7  # seconds without a detection after which a track ends


@dataclass
class Track:
    """One face over time."""

    number: int  # from 1, in the order of appearance, never used again
    box: tuple[float, float, float, float]  # x, y, width, height in pixels at the last detection
    last_seen: float  # seconds: time of the last detection
    probabilities: np.ndarray = field(default_factory=lambda: np.zeros(0))  # 7, smoothed; empty before the first
    last_smoothed: float = 0.0  # seconds: time of the frame that the probabilities were last updated with


@dataclass(frozen=True)
class TrackedFace:
    """A face in one frame: its track, its smoothed probabilities, its HiResCAM map and, on demand, its regions."""

    track: int
    box: tuple[float, float, float, float]  # x, y, width, height in pixels
    probabilities: np.ndarray  # 7, smoothed over time
    map: np.ndarray | None = None  # float32 S×S in 0..1, of the aligned crop
    to_frame: np.ndarray = field(default_factory=lambda: np.eye(2, 3))  # affine: pixels of the crop → of the frame
    regions: RegionValues | None = None  # where they were asked for

    @property
    def code(self) -> int:
        """Index of the class with the highest probability."""
        return int(self.probabilities.argmax())


class Tracker:
    """Assigns the faces of each frame to tracks, whose numbers persist from frame to frame.

    Boxes of a frame are matched with those of the tracks so that the sum of intersections over unions is largest (the
    Hungarian method: Kuhn, "The Hungarian method for the assignment problem", 1955), as SORT does (Bewley et al.,
    "Simple online and realtime tracking", 2016, section 3.3). A track ends with the first frame without it that is more
    than `max_gap` seconds after its last detection, or at a cut.
    """

    def __init__(self, min_overlap: float = MIN_OVERLAP, max_gap: float = MAX_GAP):
        self.min_overlap, self.max_gap = min_overlap, max_gap
        self.tracks: list[Track] = []
        self.count = 0
        self.previous: float | None = None  # seconds of the last frame

    def update(self, boxes: Sequence[tuple[float, float, float, float]], now: float) -> list[Track]:
        """The track of each box (x, y, width, height in pixels) of the frame at `now` seconds, in the same order."""
        self.tracks = [
            track for track in self.tracks if now - track.last_seen <= self.max_gap or track.last_seen == self.previous
        ]
        self.previous = now
        matched = match_boxes(self.tracks, boxes, self.min_overlap)
        return [self._extend(matched.get(row), box, now) for row, box in enumerate(boxes)]

    def end_all(self) -> None:
        """Ends all tracks, as at a cut: a face at the same place is another one."""
        self.tracks.clear()

    def _extend(self, track: Track | None, box: tuple[float, float, float, float], now: float) -> Track:
        """The track, or a new one, with its latest box."""
        if track is None:
            self.count += 1
            track = Track(self.count, box, now)
            self.tracks.append(track)
        track.box, track.last_seen = box, now
        return track


def match_boxes(tracks: Sequence[Track], boxes: Sequence[tuple], min_overlap: float) -> dict[int, Track]:
    """Index of a box → its track, for each box that overlaps one by at least `min_overlap`."""
    if not tracks or not boxes:
        return {}
    overlaps = intersection_over_union(np.array([track.box for track in tracks]), np.array(boxes))
    overlaps[overlaps < min_overlap] = 0
    pairs = zip(*linear_sum_assignment(overlaps, maximize=True), strict=True)
    return {int(box): tracks[track] for track, box in pairs if overlaps[track, box] > 0}


def intersection_over_union(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Of boxes N×4 and M×4 (x, y, width, height) → N×M in 0..1."""
    first, second = first[:, None].astype(float), second[None].astype(float)
    low = np.maximum(first[..., :2], second[..., :2])
    high = np.minimum(first[..., :2] + first[..., 2:], second[..., :2] + second[..., 2:])
    shared = np.clip(high - low, 0, None).prod(-1)
    union = first[..., 2:].prod(-1) + second[..., 2:].prod(-1) - shared
    return shared / np.maximum(union, 1e-9)


def smooth(track: Track, probabilities: np.ndarray, now: float, time_constant: float) -> np.ndarray:
    """Exponential smoothing: the track's probabilities (7) after those of the frame at `now` seconds.

    p̄(t) = p̄(s) + (1 − exp(−(t − s) / τ)) · (p(t) − p̄(s)), where s is the time of the frame before and τ the time
    constant in seconds. The weight depends on the time between frames, not on their number: after τ seconds p̄ has made
    63 % of a change, at any frame rate. τ = 0 does not smooth; a new track starts at its first probabilities.
    """
    if not len(track.probabilities) or time_constant <= 0:
        track.probabilities = probabilities
    else:
        weight = -math.expm1(-(now - track.last_smoothed) / time_constant)
        track.probabilities = track.probabilities + weight * (probabilities - track.probabilities)
    track.last_smoothed = now
    return track.probabilities
