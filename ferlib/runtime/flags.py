"""Command lines read into a dataclass of flags."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

import tyro

from ferlib.runtime.errors import UserError

Flags = TypeVar("Flags")


def parse_flags(
    kind: type[Flags],
    arguments: Sequence[str] | None = None,
    default: Flags | None = None,
    description: str | None = None,
) -> Flags:
    """The flags of a command line (by default this process's); `default`: where each flag starts from.

    description: first lines of --help, by default the docstring of `kind`. Unknown flags and values end the process:
    with similar flags, the valid values, or a pointer to --help. UserError for numbers out of every range.
    """
    start = tyro.MISSING_NONPROP if default is None else default
    found = tyro.cli(kind, args=arguments, default=start, description=description, config=(tyro.conf.OmitArgPrefixes,))
    check_numbers(found)
    return found


def check_numbers(flags: Any) -> None:
    """UserError for a flag that is not finite, or so large that no library takes it; seeds have 64 bits."""
    for field in fields(flags):
        value = getattr(flags, field.name)
        if is_dataclass(value):
            check_numbers(value)
        name, limit = field.name.replace("_", "-"), 2 ** (63 if field.name == "seed" else 31)
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, float) and not math.isfinite(number):
                raise UserError(f"--{name} {number} is not a finite number")
            if isinstance(number, int) and not -limit < number < limit:
                raise UserError(f"--{name} {str(number)[:20]} is out of range; the largest number is {limit - 1}")


def field_comments(kind: type) -> dict[str, str]:
    """Field → the comment on its line, of a dataclass and those it inherits from, which --help shows."""
    sources = "".join(inspect.getsource(each) for each in reversed(kind.__mro__[:-1]))
    return dict(re.findall(r"^    (\w+): .*?  # (.+)$", sources, re.M))
