"""Ctrl-C held back while processes start, and other signals that end a process taken as orderly ends."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

ENDS = ("SIGTERM", "SIGHUP")  # asked to end, and terminal closed, which Windows does not have


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Holds ctrl-C back until the block ends; a process started in it inherits the mask and is never interrupted.

    A handler set by the new process itself comes too late: ctrl-C goes to the whole group while Python is starting.
    The mask alone does not hold it back from this process: the kernel hands the signal to any other thread (OpenMP's,
    a progress bar's), and Python's main thread is interrupted all the same. So it is noted, and raised at the end.
    """
    handler = signal.getsignal(signal.SIGINT)
    noting = handler is not None and threading.current_thread() is threading.main_thread()
    maskable = hasattr(signal, "pthread_sigmask")
    noted = []
    if maskable:
        resource_tracker.ensure_running()  # multiprocessing starts it with the first process, which lifts the mask
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    if noting:
        signal.signal(signal.SIGINT, lambda *_: noted.append(True))
    try:
        yield
    finally:
        if maskable:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if noting:
            signal.signal(signal.SIGINT, handler)
        if noted:
            signal.raise_signal(signal.SIGINT)


def on_end(handler: Callable[..., Any]) -> Callable[[], None]:
    """Has `handler` (signal, frame) called once at SIGTERM, or at SIGHUP where it exists and is not ignored (`nohup`).

    Further ones are ignored: a terminal's shell and the kernel send one each. Returns a function after which the first
    is ignored too, for a process that ends by itself. What is printed to a terminal after SIGHUP, and to a pipe that
    nobody reads, goes nowhere, as writing to it would be an error. `interrupts_held` does not hold these signals back:
    it is for scripts that start processes, and this for those that start none.
    """
    numbers = [getattr(signal, name) for name in ENDS if hasattr(signal, name)]
    taken = False

    def end(number: int, frame: Any) -> None:
        nonlocal taken
        silence_streams(hung_up=number != signal.SIGTERM)
        if not taken:
            taken = True
            handler(number, frame)

    def settle() -> None:
        nonlocal taken
        taken = True

    for number in numbers:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, end)
    return settle


def silence_streams(*, hung_up: bool = False) -> None:
    """Lets what is printed go nowhere where it is a pipe without a reader or, with `hung_up`, a terminal."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(
            OSError, AttributeError
        ):  # a shell in a window says that it is a terminal and has none
            descriptor = stream.fileno()
            if (hung_up and os.isatty(descriptor)) or is_broken_pipe(descriptor):
                with Path(os.devnull).open("w") as nowhere:
                    os.dup2(nowhere.fileno(), descriptor)


def is_broken_pipe(descriptor: int) -> bool:
    """Whether writing would be an error, as nobody reads any more; False where that cannot be asked, as on Windows."""
    if not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))
