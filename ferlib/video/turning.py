"""Videos that are stored on their side or upside down: the turn is found by the faces of the first frames."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice

from ferlib.faces.detection import Detector, turn_back
from ferlib.video.sources import Frame, Source, warn

WITH_FACE = 3  # frames with a face by which the turn is decided
LOOKED_AT, EVERY = 20, 5  # frames at most that are searched for one, and which


@dataclass(frozen=True)
class Turned:
    """A source whose frames are turned counter-clockwise by a multiple of 90 degrees."""

    source: Source
    turn: int

    live = False

    @property
    def name(self) -> str:
        """That of the source."""
        return self.source.name

    @property
    def fps(self) -> float:
        """That of the source."""
        return self.source.fps

    @property
    def length(self) -> int | None:
        """That of the source."""
        return self.source.length

    @property
    def dropped(self) -> int:
        """That of the source."""
        return self.source.dropped

    def frames(self) -> Iterator[Frame]:
        """The frames of the source, turned."""
        with closing(self.source.frames()) as frames:  # type: ignore[type-var] # generators have close
            for frame in frames:
                yield replace(frame, picture=turn_back(frame.picture, self.turn))


def upright(source: Source, detector: Detector) -> Source:
    """The source, or, where the faces of a file's first frames are turned, one whose frames are turned back.

    detector: one that finds turned heads. A camera or stream, whose frames pass once, is taken as it is.
    """
    if source.live:
        return source
    with closing(source.frames()) as frames:  # type: ignore[type-var]
        turn = common_turn(islice(frames, 0, LOOKED_AT * EVERY, EVERY), detector)
    if not turn:
        return source
    warn(f"{source.name} is turned by {360 - turn}° clockwise, so that its faces are upright")
    return Turned(source, turn)


def common_turn(frames: Iterable[Frame], detector: Detector) -> int:
    """Degrees clockwise by which the largest face of most frames with a face is turned; 0 without a face.

    One turned face among several frames, the others without any, says nothing: it may be none.
    """
    looked_at, turns = 0, list[int]()
    for looked_at, frame in enumerate(frames, 1):  # noqa: B007 — counted
        turns += [face.turn for face in detector(frame.picture)[:1]]
        if len(turns) == WITH_FACE:
            break
    (turn, count), *_ = Counter(turns).most_common(1) or [(0, 0)]
    return turn if 2 * count > len(turns) and count >= min(2, looked_at) else 0
