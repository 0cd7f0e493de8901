"""Computations of networks in a thread of their own, each waited for no longer than a limit."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from queue import SimpleQueue
from typing import Any, TypeVar

from ferlib.runtime.errors import UserError

Result = TypeVar("Result")
SECONDS = 180.0  # of a photo's prediction or of an explanation
TOO_LONG = "This took more than {seconds:g} seconds and was ended. Choose fewer samples, or a faster method or model."
OCCUPIED = "An earlier computation does not end, so nothing can be computed. Start the page's program again."


class Computations:
    """One thread that computes; who waits for it gets a UserError after `seconds`, not the page's whole attention."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self.seconds = seconds
        self.tasks: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()
        self.turn = threading.Lock()
        self.last: Future[Any] | None = None  # the computation that the thread was given last
        threading.Thread(target=self.compute, daemon=True, name="computations").start()

    def compute(self) -> None:
        """Computes one task after the other."""
        while True:
            future, task = self.tasks.get()
            try:
                future.set_result(task())
            except BaseException as error:  # as in concurrent.futures: for the thread that waits
                future.set_exception(error)

    def run(self, task: Callable[[], Result]) -> Result:
        """The task's result; UserError where it, or the one before it, takes too long."""
        if not self.turn.acquire(timeout=self.seconds):
            raise UserError(OCCUPIED)
        try:
            if self.last and wait([self.last], self.seconds).not_done:
                raise UserError(OCCUPIED)
            future: Future[Result] = Future()
            self.last = future
            context = contextvars.copy_context()  # by which Gradio finds the event of a progress bar
            self.tasks.put((future, lambda: context.run(task)))
            if wait([future], self.seconds).not_done:
                raise UserError(TOO_LONG.format(seconds=self.seconds))
            return future.result()
        finally:
            self.turn.release()
