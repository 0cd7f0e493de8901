"""Command lines read into a dataclass of flags."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import tyro

Flags = TypeVar("Flags")


def parse_flags(kind: type[Flags], arguments: Sequence[str] | None = None, default: Flags | None = None) -> Flags:
    """The flags of a command line (by default this process's); `default`: where each flag starts from.

    Unknown flags and values end the process with the valid ones, as --help does with all of them.
    """
    options = {} if default is None else {"default": default}
    return tyro.cli(kind, args=arguments, config=(tyro.conf.OmitArgPrefixes,), **options)
