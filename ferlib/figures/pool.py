"""Draws figures in other processes, so that drawing never holds up computing."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

from PIL import Image

from ferlib.figures.style import PNG, all_drawn, save_figure
from ferlib.runtime.cores import available_cores
from ferlib.runtime.interrupts import interrupts_held
from ferlib.runtime.progress import FaceBar

KEY = "explanation"  # text chunk of a PNG: the key of the explanation and the number of the style
STYLE = 4  # number of the style; a figure of an older one is drawn again
WAITING = 64  # figures that may wait for a process; they hold their arrays in memory


class FigurePool:
    """A context: `draw` hands a figure to a process; at the end all are on disk, or the first error is raised.

    draw: function of a module (or a partial of one) that makes a matplotlib figure of its arguments. With
    `wanted` false nothing is drawn and no process is started; `formats` as in figures.style.save_figure.
    """

    def __init__(self, draw: Callable[..., Any], wanted: bool = True, formats: Sequence[str] = PNG):
        self._draw, self.wanted, self._formats = draw, wanted, tuple(formats)
        self._pending: deque[Future] = deque()
        self._pool: ProcessPoolExecutor | None = None
        self._workers = max(available_cores() - 1, 1)

    @property
    def pace(self) -> float | None:
        """Seconds between two figures; None while none is drawn."""
        seconds = [future.result() for future in self._pending if future.done() and not future.exception()]
        return sum(seconds) / len(seconds) / self._workers if seconds else None

    def __enter__(self) -> FigurePool:
        return self

    def draw(self, path: Path, key: str, *values: Any) -> None:
        """Draws `values` to the PNG `path`, some time before the context ends; `key` is kept in it."""
        if not self.wanted:
            return
        if self._pool is None:  # spawned, as a fork would copy torch's thread pool
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self._workers, context, initializer=prepare_process)
        while len(self._pending) >= WAITING:
            self._pending.popleft().result()
        with interrupts_held():  # a task may start a process
            self._pending.append(self._pool.submit(draw_figure, self._draw, path, key, values, self._formats))

    def is_drawn(self, path: Path, key: str) -> bool:
        """Whether the figure is there in all formats, and was drawn under this key in the present style."""
        return is_drawn(path, key, self._formats)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._pool is None:
            return
        from ferlib.runtime.distributed import is_main  # here: processes that draw need no torch

        try:
            if kind is None:
                with FaceBar(desc="figures", total=len(self._pending), disable=not is_main()) as bar:
                    for future in self._pending:
                        future.result()
                        bar.update()
        finally:
            self._pool.shutdown(cancel_futures=True)


def prepare_process() -> None:
    """Gives a drawing process a lower priority than the computing one, its end, and no ctrl-C."""
    if hasattr(os, "nice"):
        os.nice(10)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()


def end_with_parent() -> None:
    """Ends this process with the one that started it: one that is killed, as by torchrun, cannot end those it has."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def draw_figure(draw: Callable[..., Any], path: Path, key: str, values: tuple, formats: Sequence[str]) -> float:
    """Draws one figure and saves it with its key; returns the seconds that it took."""
    started = time.perf_counter()
    save_figure(draw(*values), path, formats, **{KEY: signature(key)})
    return time.perf_counter() - started


def signature(key: str) -> str:
    """The text kept in the PNG."""
    return f"{key} style {STYLE}"


def key_of(path: Path) -> str:
    """The key under which a figure was drawn; "" where there is none, or no figure."""
    try:
        with Image.open(path) as picture:
            return str(picture.info.get(KEY, ""))
    except OSError:
        return ""


def is_drawn(path: Path, key: str, formats: Sequence[str] = PNG) -> bool:
    """Whether the figure is there in all formats, and was drawn under this key in the present style."""
    return key_of(path) == signature(key) and all_drawn(path, formats)
