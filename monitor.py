"""Shows temperature, load, memory, power and clocks of the NVIDIA GPUs, live: python monitor.py --max-temp 83

In a terminal one table is drawn over and over in its place; elsewhere each reading is a line. Every reading is also
appended to a CSV file. A training logs its own GPU: see gpu_monitor.py.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import shutil
import sys
import time
from collections.abc import Callable
from datetime import datetime

import tyro

from config import Monitor
from ferlib.runtime.errors import UserError, run_script
from ferlib.runtime.gpus import Reading, append_rows, log_row, nvml, of_limit, open_log, read_gpus, told, warning

COLUMNS: dict[str, Callable[[Reading], str]] = {
    "GPU": lambda reading: f"{reading.index} {reading.name}",
    "°C": lambda reading: told(reading.temperature),
    "load": lambda reading: told(reading.load, " %"),
    "memory in MiB": lambda reading: of_limit(reading.memory_used, reading.memory_total),
    "power in W": lambda reading: of_limit(reading.power, reading.power_limit),
    "SM MHz": lambda reading: told(reading.sm_clock),
    "memory MHz": lambda reading: told(reading.memory_clock),
    "slowed by": lambda reading: reading.throttles or "?",
}
LEFT = ("GPU", "slowed by")  # columns of words
RED, PLAIN = "\x1b[1;31m", "\x1b[0m"


# ── what is shown ────────────────────────────────────────────────────────────────────────────────────────────────────


def table(readings: list[Reading]) -> list[str]:
    """The headings and a line per GPU, in aligned columns."""
    rows = [list(COLUMNS), *([tell(reading) for tell in COLUMNS.values()] for reading in readings)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    cells = [
        [
            f"{cell:{'<' if name in LEFT else '>'}{width}}"
            for name, cell, width in zip(COLUMNS, row, widths, strict=True)
        ]
        for row in rows
    ]
    return ["  ".join(row).rstrip() for row in cells]


def describe(reading: Reading) -> str:
    """The line of one GPU where there is no terminal."""
    return (
        f"GPU {reading.index} {reading.name}  {told(reading.temperature):>3} °C  load {told(reading.load):>3} %  "
        f"memory {of_limit(reading.memory_used, reading.memory_total)} MiB  "
        f"power {of_limit(reading.power, reading.power_limit)} W  "
        f"clocks {told(reading.sm_clock)} and {told(reading.memory_clock)} MHz  slowed by: {reading.throttles or '?'}"
    )


class Screen:
    """A block of lines that is drawn again in its place; cut to the terminal, as a wrapped line would shift it."""

    def __init__(self) -> None:
        self._height = 0
        self._colour = "NO_COLOR" not in os.environ
        if os.name == "nt":
            os.system("")  # the console of older Windows takes escape codes after this

    def draw(self, lines: list[tuple[str, bool]]) -> None:
        """Lines and whether each one is a warning."""
        columns, rows = shutil.get_terminal_size()
        text = f"\x1b[{self._height}F" if self._height else ""
        shown = lines[: max(rows - 1, 1)]
        for line, alarming in shown:
            cut = line[: columns - 1]
            text += "\x1b[2K" + (f"{RED}{cut}{PLAIN}" if alarming and self._colour else cut) + "\n"
        sys.stdout.write(text + "\x1b[J")
        sys.stdout.flush()
        self._height = len(shown)


def show_table(screen: Screen, now: datetime, readings: list[Reading], config: Monitor) -> None:
    heading, *rows = table(readings)
    warnings = [warning(reading, config.max_temp) for reading in readings]
    lines = [(heading, False), *zip(rows, map(bool, warnings), strict=True)]
    lines += [(message, True) for message in warnings if message]
    lines.append((f"{now:%H:%M:%S}, every {config.interval:g} s, logged to {config.log}; ctrl-C ends", False))
    screen.draw(lines)


def print_lines(now: datetime, readings: list[Reading], max_temp: float) -> None:
    """A line per GPU; warnings go to stderr."""
    for reading in readings:
        print(f"{now:%H:%M:%S}  {describe(reading)}", flush=True)
    print_warnings(readings, max_temp)


def print_warnings(readings: list[Reading], max_temp: float) -> None:
    for message in filter(None, (warning(reading, max_temp) for reading in readings)):
        print(message, file=sys.stderr, flush=True)


# ── loop ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def check(config: Monitor) -> None:
    if not (math.isfinite(config.interval) and config.interval > 0):
        raise UserError(f"--interval {config.interval:g} is not a number of seconds above 0")
    if config.readings is not None and config.readings < 1:
        raise UserError(f"--readings {config.readings} is not a number of readings from 1 up")


def is_terminal() -> bool:
    """Whether lines on stdout can be drawn again in their place."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def watch(config: Monitor) -> None:
    """Reads, logs and shows every `interval` seconds until `readings` rounds are done or ctrl-C.

    Raises UserError for a bad setting, without an NVIDIA GPU, and when NVML fails on the way.
    """
    check(config)
    screen = Screen() if is_terminal() else None
    with nvml(), contextlib.suppress(KeyboardInterrupt):
        if not read_gpus():
            raise UserError("no NVIDIA GPU to watch: the driver is there, but it lists no GPU")
        open_log(config.log)
        for done in itertools.count(1):
            now, readings = datetime.now().astimezone(), read_gpus()
            append_rows(config.log, [log_row(now, reading) for reading in readings])
            if screen:
                show_table(screen, now, readings, config)
                if not sys.stderr.isatty():  # it goes to a file, say, which should hold the warnings too
                    print_warnings(readings, config.max_temp)
            else:
                print_lines(now, readings, config.max_temp)
            if done == config.readings:
                return
            time.sleep(config.interval)


def main() -> None:
    watch(tyro.cli(Monitor))


if __name__ == "__main__":
    run_script(main)
