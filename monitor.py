"""Shows temperature, load, memory, power and clocks of the NVIDIA GPUs, live: python monitor.py --max-temp 83

In a terminal one table is drawn over and over in its place; elsewhere each reading is a line. Every reading is also
appended to a CSV file. A training logs its own GPU: ferlib/training/gpu_monitor.py.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import sys
import time
from datetime import datetime

from config import Monitor
from ferlib.runtime.errors import UserError, run_script
from ferlib.runtime.flags import parse_flags
from ferlib.runtime.gpu_screen import Screen, is_terminal, print_lines, print_warnings, show_table
from ferlib.runtime.gpus import append_rows, log_row, nvml, open_log, read_gpus


def check(flags: Monitor) -> None:
    """UserError for an interval or a number of readings that makes no sense."""
    if not (math.isfinite(flags.interval) and flags.interval > 0):
        raise UserError(f"--interval {flags.interval:g} is not a number of seconds above 0")
    if flags.readings is not None and flags.readings < 1:
        raise UserError(f"--readings {flags.readings} is not a number of readings from 1 up")


def monitor_gpus(flags: Monitor) -> None:
    """Reads, logs and shows every `interval` seconds until `readings` rounds are done or ctrl-C.

    Raises UserError for a bad setting, without an NVIDIA GPU, and when NVML fails on the way.
    """
    check(flags)
    screen = Screen() if is_terminal() else None
    with nvml(), contextlib.suppress(KeyboardInterrupt):
        if not read_gpus():
            raise UserError("no NVIDIA GPU to monitor: the driver is there, but it lists no GPU")
        open_log(flags.log)
        for done in itertools.count(1):
            now, readings = datetime.now().astimezone(), read_gpus()
            append_rows(flags.log, [log_row(now, reading) for reading in readings])
            if screen:
                show_table(screen, now, readings, interval=flags.interval, max_temp=flags.max_temp, log=flags.log)
                if not sys.stderr.isatty():  # then it goes to a file, which should hold the warnings too
                    print_warnings(readings, flags.max_temp)
            else:
                print_lines(now, readings, flags.max_temp)
            if done == flags.readings:
                return
            time.sleep(flags.interval)


def main() -> None:
    monitor_gpus(parse_flags(Monitor))


if __name__ == "__main__":
    run_script(main)
