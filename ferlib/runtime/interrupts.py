"""Ctrl-C held back while processes start, and other signals that end a process taken as orderly ends."""

from __future__ import annotations

import contextlib
import os
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


def on_end(handler: Callable[..., Any]) -> None:
    """Has `handler` (signal, frame) called once at SIGTERM, or at SIGHUP where it exists and is not ignored (`nohup`).

    Further ones are ignored: a terminal's shell and the kernel send one each. What is printed to a terminal after
    SIGHUP goes nowhere, as writing to one that was closed would be an error. `interrupts_held` does not hold these
    signals back: it is for scripts that start processes, and this for those that start none.
    """
    shown = []
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(
            OSError, AttributeError
        ):  # a shell in a window says that it is a terminal and has none
            if stream.isatty():
                shown.append(stream.fileno())
    numbers = [getattr(signal, name) for name in ENDS if hasattr(signal, name)]
    taken = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]

    def end(number: int, frame: Any) -> None:
        for each in taken:
            signal.signal(each, signal.SIG_IGN)
        if number != signal.SIGTERM and shown:
            with Path(os.devnull).open("w") as nowhere:
                for descriptor in shown:
                    os.dup2(nowhere.fileno(), descriptor)
        handler(number, frame)

    for number in taken:
        signal.signal(number, end)
