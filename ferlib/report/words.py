"""Numbers in words, as the report and its tables print them."""

from __future__ import annotations


def percent(fraction: float | None, digits: int = 1) -> str:
    return "\u2013" if fraction is None else f"{100 * fraction:.{digits}f}\u202f%"


def number(value: float | None, digits: int = 0) -> str:
    if value is None:
        return "\u2013"
    shown = f"{value:,.{digits}f}"
    return shown.replace("-", "\u2212") if float(shown.replace(",", "")) else shown.lstrip("-")


def duration(seconds: float) -> str:
    """3 ms, 0.34 s"""
    return f"{1000 * seconds:.0f}\u202fms" if seconds < 0.1 else f"{seconds:,.2f}\u202fs"
