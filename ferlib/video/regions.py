"""Exact Shapley values of the regions of tracked faces, computed on demand beside the frames that follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from threading import Event
from typing import TYPE_CHECKING

import numpy as np

from ferlib.explanations.region_words import join_sides, signed
from ferlib.faces.crops import DetectedFace, crop_face

if TYPE_CHECKING:
    from ferlib.explanations.crops import ExplainRegions
    from ferlib.faces.face_model import FaceModel
    from ferlib.video.pipeline import Stopwatch
    from ferlib.video.sources import Frame
    from ferlib.video.tracking import TrackedFace

LARGEST = 4  # faces at most whose values are computed for a request
KEPT = 3.0  # seconds of the source for which values are shown
NAMED = 2  # regions of a face that are named


@dataclass(frozen=True)
class RegionValues:
    """The values of a face's regions, for the class that it had in the frame of the request."""

    values: Mapping[str, float]  # region → its exact Shapley value
    code: int  # index of the class
    time: float  # seconds: of the first frame that has them

    @property
    def strongest(self) -> list[str]:
        """The regions with the largest absolute values, sides joined: ["mouth +0.31", "brows −0.08"]."""
        ordered = sorted(join_sides(self.values).items(), key=lambda item: -abs(item[1]))
        return [f"{name} {signed(value)}" for name, value in ordered[:NAMED]]

    def hold(self, face: TrackedFace) -> bool:
        """Whether the face still has the class that was explained."""
        return face.code == self.code


class RegionNaming:
    """Adds region values to tracked faces when a request is made: by an event, or every so many seconds.

    A request takes the LARGEST largest faces of the next frame that has one, and explains the class that each is shown
    with. Values stay with the face's track for KEPT seconds, or until its class is another one. They are computed in a
    thread of their own, which starts with the first request; while it computes, the next request waits.
    """

    def __init__(
        self,
        model: FaceModel,
        asked: Event | None = None,
        *,
        every: float = 0.0,
        waits: bool = True,
        stopwatch: Stopwatch | None = None,
    ):
        """asked: set by whoever makes a request. every: seconds of the source between two requests; 0: none. waits:
        whether a frame waits for its values, else they come with the first frame after they are computed."""
        self.model, self.asked, self.every, self.waits = model, asked or Event(), every, waits
        self.stopwatch = stopwatch
        self.next = 0.0  # seconds: time of the next request, with `every`
        self.running: dict[int, tuple[int, Future[dict[str, float]]]] = {}  # by track: class, values
        self.found: dict[int, RegionValues] = {}  # by track
        self.thread = ThreadPoolExecutor(1)

    def __enter__(self) -> RegionNaming:
        return self

    def __exit__(self, *_: object) -> None:
        """Waits for the face that is being explained, and leaves out the others."""
        self.thread.shutdown(cancel_futures=True)

    def update(self, frame: Frame, faces: Sequence[DetectedFace], tracked: Sequence[TrackedFace]) -> list[TrackedFace]:
        """The tracked faces of the next frame, with values where there are some; `faces` are the detected ones."""
        if faces and not self.running and self._is_asked(frame.time):
            self._start(frame, faces, tracked)
        if self.running:
            self._collect(frame.time)
        if not self.found:
            return list(tracked)
        changed = {face.track for face in tracked if face.track in self.found and not self.found[face.track].hold(face)}
        self.found = {
            track: each
            for track, each in self.found.items()
            if track not in changed and frame.time - each.time < KEPT - 1e-6
        }
        return [replace(face, regions=self.found.get(face.track)) for face in tracked]

    def _is_asked(self, now: float) -> bool:
        """Whether there is a request, which is taken."""
        asked, due = self.asked.is_set(), self.every > 0 and now >= self.next - 1e-6
        if asked:
            self.asked.clear()
        if due:
            self.next = now + self.every
        return asked or due

    def _start(self, frame: Frame, faces: Sequence[DetectedFace], tracked: Sequence[TrackedFace]) -> None:
        """Has the values of the largest faces computed, the largest first."""
        pairs = sorted(zip(faces, tracked, strict=True), key=lambda pair: -pair[0].area)
        for face, shown in pairs[:LARGEST]:
            crop = crop_face(frame.picture, face, self.model.crop_size)  # before the frame is drawn on
            self.running[shown.track] = shown.code, self.thread.submit(self._compute, crop, shown.code)

    def _compute(self, crop: np.ndarray, code: int) -> dict[str, float]:
        """The values of a crop uint8 S×S×3; runs in the thread."""
        if self.stopwatch is None:
            return self._explain(crop[None], [code])[0]
        with self.stopwatch("regions"):
            return self._explain(crop[None], [code])[0]

    def _collect(self, now: float) -> None:
        """Keeps the values that are computed; raises the errors of the thread."""
        for track, (code, values) in list(self.running.items()):
            if self.waits or values.done():
                self.found[track] = RegionValues(values.result(), code, now)
                del self.running[track]

    @cached_property
    def _explain(self) -> ExplainRegions:
        """The function that explains crops, with its landmark detector."""
        from ferlib.explanations.crops import region_explainer  # torch, which lines of a log do not need

        return region_explainer(self.model)
