"""Text as it may be printed at a terminal: of unknown origin, such as a file's name; numbers with their nouns."""

from __future__ import annotations

import re

HIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


SPACES = "\N{NARROW NO-BREAK SPACE}\N{NO-BREAK SPACE}"  # of our own sentences


def printable(text: str, keep: str = "") -> str:
    """`text` with control, direction and undecodable characters as escapes such as \\x1b; those in `keep` stay.

    A file's name may hold any byte but 0 and '/': an escape sequence would recolour the terminal or retitle its window,
    a direction mark would show "gpj.exe" as "exe.jpg", and a byte that is no UTF-8 could not be printed at all.
    """
    return "".join(char if char.isprintable() or char in keep or char in SPACES else escaped(char) for char in text)


def counted(number: int, noun: str, several: str = "") -> str:
    """A number with its noun in the right form: 1 epoch, 2,000 epochs; several: the plural where it is not in -s."""
    return f"{number:,} {noun if number == 1 else several or noun + 's'}"


def legible(text: str) -> str:
    """A page's text, of many lines, with control, direction and undecodable characters as the same escapes."""
    return HIDDEN.sub(lambda found: escaped(found[0]), text)


def escaped(char: str) -> str:
    """The escape of a character; of an undecodable byte, which Python keeps as U+DC80 to U+DCFF, the byte's."""
    code = ord(char)
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else ascii(char)[1:-1]
