"""As many threads as cores are free: threads that wait for a busy core are slower together than one alone.

Every operation of a network ends with its threads waiting for each other. Where other processes hold a core, one of
them waits for its turn, and the others for it: beside one busy program on two cores, two threads train at 0.7 of the
speed of one, beside eight at 0.6 (benchmarks/bench_load.py). OMP_NUM_THREADS, where it is set, is taken as it is.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import time
from pathlib import Path

from ferlib.runtime.terminal import counted

OVERRIDE = "OMP_NUM_THREADS"
LOOKS = 7  # at the number of processes that run
PAUSE = 0.02  # seconds between two looks
SLOW = 0.5  # of the fastest epoch's speed, below which an epoch is called slow


@functools.cache
def share_cores() -> None:
    """Once in a process: takes as many threads of torch as cores are free, and says so where that is not all."""
    import torch

    usual = torch.get_num_threads()
    threads = max(1, min(usual, available_cores(), (os.cpu_count() or 1) - busy_processes()))
    if OVERRIDE in os.environ or threads == usual:
        return
    torch.set_num_threads(threads)
    print(
        f"note: {threads} of {usual} threads used, as other programs keep the cores busy ({OVERRIDE}={usual}: all)",
        file=sys.stderr,
    )


def take_threads(saved: int) -> None:
    """The number of threads that a run was begun with, as sums are rounded differently with another."""
    import torch

    if saved == torch.get_num_threads():
        return
    if OVERRIDE not in os.environ and saved <= available_cores():
        torch.set_num_threads(saved)
    else:
        begun, now = counted(saved, "thread"), torch.get_num_threads()
        print(f"the run was begun with {begun}: with {now} its last digits may differ")


def available_cores() -> int:
    """Cores that this process may use: those of its affinity, at most as many as its control group's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(cores, round(int(quota) / int(period))))
    except (OSError, ValueError):  # no Linux, no control group, or "max"
        return cores


def busy_processes() -> int:
    """How many other processes want a core: the median of a few looks."""
    looks = []
    for _ in range(LOOKS):
        looks.append(running_processes())
        time.sleep(PAUSE)
    return sorted(looks)[LOOKS // 2]


def running_processes() -> int:
    """Threads of other processes that run or wait for a core; elsewhere than on Linux, those of the last minute."""
    try:
        running = int(Path("/proc/loadavg").read_text().split()[3].split("/")[0])
        return max(0, running - own_running_threads())
    except (OSError, ValueError, IndexError):  # no Linux
        return int(os.getloadavg()[0]) if hasattr(os, "getloadavg") else 0


def own_running_threads() -> int:
    """Threads of this process that run; those of a library spin for a while after their work."""
    count = 0
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # it ended meanwhile
            count += (thread / "stat").read_text().rpartition(")")[2].split()[0] == "R"
    return max(1, count)


def describe_slow_epoch(speeds: list[float]) -> str:
    """A line where the last epoch was far slower than the fastest and other programs run; else nothing."""
    if len(speeds) < 2 or speeds[-1] > SLOW * max(speeds) or busy_processes() < 1:
        return ""
    return (
        f"  this epoch ran at {speeds[-1] / max(speeds):.0%} of the fastest one's speed, as other programs run: "
        f"it may be faster after ctrl-C with {OVERRIDE}=1 and --resume"
    )
