"""The loop of live.py: each frame logged, drawn, written and shown, and a summary of the run."""

from __future__ import annotations

import errno
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from tqdm import tqdm

from config import EMOTIONS
from ferlib.runtime.errors import UserError
from ferlib.runtime.interrupts import silence_streams
from ferlib.runtime.terminal import counted
from ferlib.video.log import Log
from ferlib.video.overlay import draw_faces
from ferlib.video.pipeline import Rate, Stopwatch
from ferlib.video.recording import Recorder
from ferlib.video.sources import Frame, Source
from ferlib.video.tracking import TrackedFace
from ferlib.video.window import Window

NOT_WRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}  # what was written before is kept
SHOWN = 4  # faces at most in the line at the terminal


@dataclass
class Loop:
    """Consumes frames one by one; keeps their number, the time they took and the error that ended them."""

    log: Log
    recorder: Recorder | None = None
    window: Window | None = None
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    rate: Rate = field(default_factory=Rate)
    frames: int = 0
    seconds: float = 0.0
    error: UserError | None = None  # of a lost camera or a full disk; the frames before it are kept
    settle: Callable[[], None] = lambda: None  # called when the frames end, as signals shall not interrupt what follows

    def run(self, frames: Iterator[tuple[Frame, list[TrackedFace]]], length: int | None) -> None:
        """Consumes frames until they end, the window is closed, or ctrl-C; UserError if there was no frame at all."""
        start = time.perf_counter()
        with closing(frames), tqdm(total=length, unit=" frames") as progress:  # type: ignore[type-var]
            try:
                for frame, faces in frames:
                    more = self.process(frame, faces)
                    progress.set_postfix_str(describe_faces(faces), refresh=False)
                    progress.update()
                    if not more:
                        break
            except (KeyboardInterrupt, BrokenPipeError):  # the latter: who read what is printed has ended first
                self.settle()
                silence_streams()
                progress.write("stopped; the frames so far are saved", file=sys.stderr)
            except UserError as error:
                if not self.frames:
                    raise
                self.error = error
            except OSError as error:
                if not self.frames or error.errno not in NOT_WRITABLE:
                    raise
                self.error = UserError(f"{error.filename or 'an output'} cannot be written: {error.strerror or error}")
            self.settle()
            self.seconds = time.perf_counter() - start

    def process(self, frame: Frame, faces: Sequence[TrackedFace]) -> bool:
        """Logs, draws, writes and shows one frame, then counts it; False after the window was closed."""
        rate = self.rate.tick()
        with self.stopwatch("write"):
            self.log.add(frame, faces)
        if self.recorder or self.window:
            with self.stopwatch("draw"):
                draw_faces(frame.picture, faces, rate)
        if self.recorder:
            with self.stopwatch("write"):
                self.recorder.add(frame.picture, frame.time)
        self.frames += 1
        if self.window is None:
            return True
        with self.stopwatch("show"):
            return self.window.show(frame.picture, frame.time)


def describe_faces(faces: Sequence[TrackedFace]) -> str:
    """The line at the terminal: track, class and probability of each face."""
    words = [f"#{face.track} {EMOTIONS[face.code]} {face.probabilities[face.code]:.0%}" for face in faces]
    return "  ".join(words[:SHOWN]) + ("  …" if len(words) > SHOWN else "") if words else "no face"


def summarize(loop: Loop, source: Source) -> str:
    """Number of frames, duration and rate of a run."""
    rate = loop.frames / loop.seconds
    dropped = f", {source.dropped} dropped" if source.live else ""
    return f"{source.name}: {counted(loop.frames, 'frame')} in {loop.seconds:.1f} s, {rate:.1f} frames/s{dropped}"


def profile_table(loop: Loop) -> str:
    """Milliseconds of each stage per frame, and its share of all stages."""
    frames, stages = max(loop.frames, 1), loop.stopwatch.seconds
    rows = [
        f"{stage:<8}{1000 * seconds / frames:8.2f} ms{seconds / sum(stages.values()):8.0%}"
        for stage, seconds in stages.items()
    ]
    note = "from end to end: reading, detection, the model and the rest run at the same time"
    whole = f"{'a frame':<8}{1000 * loop.seconds / frames:8.2f} ms   {note}"
    return "\n".join([f"{'stage':<8}{'per frame':>11}{'share':>8}", *rows, whole])
