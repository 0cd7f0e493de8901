"""The finished faces of a run: kept as they arrive in the first process, whichever process explained them."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from ferlib.explanations.archive import Archive, pack
from ferlib.explanations.records import Entry, ExplainedFace, Outcome
from ferlib.runtime.channel import Channel
from ferlib.runtime.distributed import world_size
from ferlib.runtime.progress import FaceBar

PAUSE = 0.2  # seconds between two looks for faces of other processes: so much of their work a kill can lose
NUMBER = 4  # bytes of a face's position in a message


def send(channel: Channel, position: int, entry: Entry) -> None:
    """Hands a finished face to the first process."""
    channel.send(position.to_bytes(NUMBER, "big") + pack(entry))


class Gathering:
    """The first process's finished faces, as a context; within it a thread keeps what other processes send.

    The archive of the first process alone counts: the others need no common disk with it.
    """

    def __init__(
        self,
        faces: Sequence[ExplainedFace],
        outcomes: Sequence[Outcome | None],
        archive: Archive,
        channel: Channel,
        name: str,
    ) -> None:
        self.name = name  # of what is computed, in each line on the progress
        self.outcomes = list(outcomes)  # by position; None: not finished
        self._faces, self._archive, self._channel = faces, archive, channel
        self._fresh: list[int] = []
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._thread: Future[None] | None = None
        self._executor = ThreadPoolExecutor(1)
        self.bar = FaceBar(total=len(faces), initial=len(faces) - len(self.unfinished()), desc=name, smoothing=0.1)

    def __enter__(self) -> Gathering:
        if world_size() > 1:
            self._thread = self._executor.submit(self._receive)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        self._ended.set()
        self._executor.shutdown()
        self.bar.close()
        if kind is None:
            self.check()

    def unfinished(self) -> list[int]:
        """Positions of the faces that are not kept yet."""
        return [position for position, outcome in enumerate(self.outcomes) if outcome is None]

    def keep(self, position: int, entry: Entry) -> None:
        """Keeps a face that this process has finished."""
        self._keep(position, pack(entry), entry.outcome)

    def take_fresh(self) -> list[int]:
        """Positions of the faces that were kept since the last call; raises what ended the thread."""
        self.check()
        with self._lock:
            fresh, self._fresh = self._fresh, []
        return fresh

    def wait(self, seconds: float) -> None:
        """Until a face of another process arrives, `seconds` at most."""
        count, deadline = len(self.unfinished()), time.monotonic() + seconds
        while count and len(self.unfinished()) == count and time.monotonic() < deadline:
            self.check()
            time.sleep(PAUSE)

    def check(self) -> None:
        """Raises what ended the thread, such as a full disk."""
        if self._thread and self._thread.done():
            self._thread.result()

    def _keep(self, position: int, packed: bytes, outcome: Outcome | None = None) -> None:
        with self._lock:
            if self.outcomes[position]:  # explained twice, as the process that had it in hand seemed to be lost
                return
            face = self._faces[position]
            self._archive.put(face, packed)
            self.outcomes[position] = outcome or self._archive.find_outcome(face)
            self._fresh.append(position)
            self.bar.update()

    def _receive(self) -> None:
        ended = False
        while not ended:
            ended = self._ended.wait(PAUSE)
            for message in self._channel.receive():
                self._keep(int.from_bytes(message[:NUMBER], "big"), message[NUMBER:])
