"""What processes exchange while each computes at its own pace: shares of the work, and results for the first one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch.distributed as dist

from ferlib.runtime.distributed import rank, shared_store, world_size
from ferlib.runtime.errors import UserError

PART = 4 << 20  # bytes of a message's part; torch's store takes at most twice as many


class Channel:
    """A counter of the work that is handed out, and messages to the first process; every process makes one together.

    No process waits for another: a slow one takes fewer shares, and messages are received when the first one looks.
    UserError where the first process has ended.
    """

    def __init__(self) -> None:
        self._store = shared_store()
        self._sent = 0
        self._received = [0] * world_size()

    def take(self, count: int) -> int:
        """The number of the first of `count` pieces of work that no other process gets."""
        return self.add("taken", count) - count

    def shares(self, work: Sequence[int], size: int, first: int | None = None) -> Iterator[Sequence[int]]:
        """This process's shares of `work`, each taken when the one before is done; `first`: size of the first one."""
        size, then = first or size, size
        while (start := self.take(size)) < len(work):
            yield work[start : start + size]
            size = then

    def add(self, name: str, count: int) -> int:
        """The sum over all processes of a counter, after `count` is added."""
        try:
            return self._store.add(name, count)
        except dist.DistNetworkError as error:
            raise lost_first() from error

    def send(self, data: bytes) -> None:
        """Leaves a message for the first process."""
        parts = [data[start : start + PART] for start in range(0, max(len(data), 1), PART)]
        key = f"{rank()}/{self._sent}"
        try:
            for number, part in enumerate(parts):
                self._store.set(f"{key}/{number}", part)  # type: ignore[arg-type]  # it takes bytes, too
            self._store.set(key, str(len(parts)))  # last: the message is whole where this is there
        except dist.DistNetworkError as error:
            raise lost_first() from error
        self._sent += 1

    def receive(self) -> Iterator[bytes]:
        """The messages that are there and were not received before; for the first process."""
        for sender in range(world_size()):
            while self._store.check([key := f"{sender}/{self._received[sender]}"]):
                parts = [f"{key}/{number}" for number in range(int(self._store.get(key)))]
                yield b"".join(map(self._store.get, parts))
                for part in (*parts, key):
                    self._store.delete_key(part)
                self._received[sender] += 1


def lost_first() -> UserError:
    """The error of a process that outlives the first one."""
    return UserError("the first process has ended; run the same command again on every machine, and it goes on")
