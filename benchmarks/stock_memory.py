"""The allocator as other projects leave it, for the contestants of a benchmark that are not ours."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator

from ferlib.runtime.devices import M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, keep_freed_memory

LARGEST = 32 * 2**20  # bytes to which glibc itself raises the threshold (mallopt(3)), in a process's first seconds


@contextlib.contextmanager
def stock_memory() -> Iterator[None]:
    """Inside, glibc gives large blocks back to the kernel, as it does unless it is told to keep them."""
    try:
        glibc = ctypes.CDLL("libc.so.6")
        glibc.mallopt(M_MMAP_THRESHOLD, LARGEST)
        glibc.mallopt(M_TRIM_THRESHOLD, 2 * LARGEST)
        glibc.malloc_trim(0)
    except (OSError, TypeError, AttributeError):  # no glibc: nothing was changed
        pass
    try:
        yield
    finally:
        keep_freed_memory()
