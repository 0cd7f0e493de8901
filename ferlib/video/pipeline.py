"""A pipeline of generators in threads: items prefetched, time measured, the frame rate, cores shared."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import torch

Item = TypeVar("Item")
END = object()


def prefetch(items: Iterator[Item], depth: int = 1) -> Iterator[Item]:
    """The same items in the same order, computed by a thread that is up to `depth` items ahead of the consumer.

    An error in the thread is raised in place of its item. When the consumer closes the iterator, the thread ends and
    closes `items`.
    """
    waiting: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(depth)
    stopped = threading.Event()

    def put(item: Any, error: BaseException | None = None) -> None:
        while not stopped.is_set():
            try:
                waiting.put((item, error), timeout=0.05)
                return
            except queue.Full:
                continue

    def work() -> None:
        try:
            for item in items:
                put(item)
                if stopped.is_set():
                    return
            put(END)
        except BaseException as error:  # raised again in the consumer
            put(END, error)
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
        thread.join(timeout=5)  # a thread that blocks in a camera's driver ends with the process


class Stopwatch:
    """Seconds spent in each named part of a loop; each part runs in one thread."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Adds the time that the block takes."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(part, time.perf_counter() - start)

    def add(self, part: str, seconds: float) -> None:
        """Adds seconds to a part."""
        self.seconds[part] = self.seconds.get(part, 0.0) + seconds

    def timed(self, part: str, items: Iterator[Item]) -> Iterator[Item]:
        """The same items; the time that computing each takes is added to `part`."""
        try:
            while True:
                with self(part):
                    item: Any = next(items, END)
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
        """Counts one event at `now` (monotonic seconds) and returns the rate; 0 until there are two."""
        now = time.monotonic() if now is None else now
        self.times.append(now)
        while len(self.times) > 2 and self.times[0] < now - self.window:
            self.times.popleft()
        span = now - self.times[0]
        return (len(self.times) - 1) / span if span > 0 else 0.0


def share_cores(device: torch.device) -> None:
    """Halves the threads of OpenCV and, on the CPU, of torch: the detector and the model run at the same time."""
    import cv2
    import torch

    share = max(1, (os.cpu_count() or 2) // 2)
    cv2.setNumThreads(share)
    if device.type == "cpu":
        torch.set_num_threads(share)
