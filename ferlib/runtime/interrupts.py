"""Ctrl-C held back while processes start."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from multiprocessing import resource_tracker


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
