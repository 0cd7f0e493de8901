"""Command lines read into a dataclass of flags."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from typing import TypeVar

import tyro

Flags = TypeVar("Flags")


def parse_flags(
    kind: type[Flags],
    arguments: Sequence[str] | None = None,
    default: Flags | None = None,
    description: str | None = None,
) -> Flags:
    """The flags of a command line (by default this process's); `default`: where each flag starts from.

    description: first lines of --help, by default the docstring of `kind`. Unknown flags and values end the process
    with the valid ones, as --help does with all of them.
    """
    start = tyro.MISSING_NONPROP if default is None else default
    return tyro.cli(kind, args=arguments, default=start, description=description, config=(tyro.conf.OmitArgPrefixes,))


def field_comments(kind: type) -> dict[str, str]:
    """Field → the comment on its line, of a dataclass and those it inherits from, which --help shows."""
    sources = "".join(inspect.getsource(each) for each in reversed(kind.__mro__[:-1]))
    return dict(re.findall(r"^    (\w+): .*?  # (.+)$", sources, re.M))
