"""Steps of a loop that run beside each other, each in a thread, and how long each takes."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

Item = TypeVar("Item")
END = object()


def ahead(items: Iterator[Item], depth: int = 1) -> Iterator[Item]:
    """The same items in the same order, made by a thread that is up to `depth` of them ahead of whoever takes them.

    An error of the thread is raised where its item would have been. When the taker stops, so does the thread, and
    `items` is closed in it.
    """
    waiting: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(depth)
    stopped = threading.Event()

    def offer(item: Any, error: BaseException | None = None) -> None:
        while not stopped.is_set():
            try:
                return waiting.put((item, error), timeout=0.05)
            except queue.Full:
                continue

    def work() -> None:
        try:
            for item in items:
                offer(item)
                if stopped.is_set():
                    return
            offer(END)
        except BaseException as error:  # raised again by the taker
            offer(END, error)
        finally:
            if hasattr(items, "close"):
                items.close()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            item, error = waiting.get()
            if error is not None:
                raise error
            if item is END:
                return
            yield item
    finally:
        stopped.set()
        thread.join(timeout=5)  # one that hangs in a camera's driver ends with the program


class Stopwatch:
    """Seconds spent in each named part of a loop; parts may run in several threads, each part in one."""

    def __init__(self):
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(part, time.perf_counter() - start)

    def add(self, part: str, seconds: float) -> None:
        self.seconds[part] = self.seconds.get(part, 0.0) + seconds

    def timed(self, part: str, items: Iterator[Item]) -> Iterator[Item]:
        """The same items; the time that each takes to come counts for `part`."""
        try:
            while True:
                with self(part):
                    item = next(items, END)
                if item is END:
                    return
                yield item
        finally:
            if hasattr(items, "close"):
                items.close()


class Rate:
    """Events per second over the last `window` seconds."""

    def __init__(self, window: float = 1.0):
        self.window = window
        self.times: deque[float] = deque()

    def tick(self, now: float | None = None) -> float:
        """Counts one event at `now` (monotonic seconds) and gives the rate; 0 until there are two."""
        now = time.monotonic() if now is None else now
        self.times.append(now)
        while len(self.times) > 2 and self.times[0] < now - self.window:
            self.times.popleft()
        span = now - self.times[0]
        return (len(self.times) - 1) / span if span > 0 else 0.0
