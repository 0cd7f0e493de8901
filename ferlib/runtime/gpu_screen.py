"""Readings of GPUs on the terminal: a table that is drawn again in its place, or a line per GPU."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from ferlib.runtime.gpus import Reading, format_of_limit, format_value, warning

COLUMNS: dict[str, Callable[[Reading], str]] = {
    "GPU": lambda reading: f"{reading.index} {reading.name}",
    "°C": lambda reading: format_value(reading.temperature),
    "load": lambda reading: format_value(reading.load, " %"),
    "memory in MiB": lambda reading: format_of_limit(reading.memory_used, reading.memory_total),
    "power in W": lambda reading: format_of_limit(reading.power, reading.power_limit),
    "SM MHz": lambda reading: format_value(reading.sm_clock),
    "memory MHz": lambda reading: format_value(reading.memory_clock),
    "slowed by": lambda reading: reading.throttles or "?",
}
LEFT = ("GPU", "slowed by")  # columns of words
RED, PLAIN = "\x1b[1;31m", "\x1b[0m"


def table(readings: list[Reading]) -> list[str]:
    """The headings and a line per GPU, in aligned columns."""
    rows = [list(COLUMNS), *([cell(reading) for cell in COLUMNS.values()] for reading in readings)]
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
    memory = format_of_limit(reading.memory_used, reading.memory_total)
    power = format_of_limit(reading.power, reading.power_limit)
    clocks = f"{format_value(reading.sm_clock)} and {format_value(reading.memory_clock)}"
    return (
        f"GPU {reading.index} {reading.name}  {format_value(reading.temperature):>3} °C  "
        f"load {format_value(reading.load):>3} %  memory {memory} MiB  power {power} W  clocks {clocks} MHz  "
        f"slowed by: {reading.throttles or '?'}"
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


def show_table(
    screen: Screen, now: datetime, readings: list[Reading], *, interval: float, max_temp: float, log: Path
) -> None:
    """Draws the table, the warnings below it in colour, and a line on the log."""
    heading, *rows = table(readings)
    warnings = [warning(reading, max_temp) for reading in readings]
    lines = [(heading, False), *zip(rows, map(bool, warnings), strict=True)]
    lines += [(message, True) for message in warnings if message]
    lines.append((f"{now:%H:%M:%S}, every {interval:g} s, logged to {log}; ctrl-C ends", False))
    screen.draw(lines)


def print_lines(now: datetime, readings: list[Reading], max_temp: float) -> None:
    """A line per GPU; warnings go to stderr."""
    for reading in readings:
        print(f"{now:%H:%M:%S}  {describe(reading)}", flush=True)
    print_warnings(readings, max_temp)


def print_warnings(readings: list[Reading], max_temp: float) -> None:
    """A line on stderr for each GPU hotter than `max_temp` degrees Celsius."""
    for message in filter(None, (warning(reading, max_temp) for reading in readings)):
        print(message, file=sys.stderr, flush=True)


def is_terminal() -> bool:
    """Whether lines on stdout can be drawn again in their place."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
