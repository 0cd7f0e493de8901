"""Numbers and names as the report, its tables and the model card print them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from recipes import in_effect, recorded


def percent(fraction: float | None, digits: int = 1) -> str:
    """0.7012 → 70.1 %; a dash for None."""
    return "\u2013" if fraction is None else f"{100 * fraction:.{digits}f}\u202f%"


def number(value: float | None, digits: int = 0) -> str:
    """A number with commas between thousands and a real minus; a dash for None."""
    if value is None:
        return "\u2013"
    shown = f"{value:,.{digits}f}"
    return shown.replace("-", "\u2212") if float(shown.replace(",", "")) else shown.lstrip("-")


def duration(seconds: float) -> str:
    """3 ms, 0.34 s"""
    return f"{1000 * seconds:.0f}\u202fms" if seconds < 0.1 else f"{seconds:,.2f}\u202fs"


def training_settings(history: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a training that had an effect, by name, with what it began from, learned from and left out."""
    loss = history.get("loss") or recorded(history["recipe"], "loss")  # that of labels where there were no votes
    settings = in_effect({**history["recipe"], "loss": loss})
    teachers = history.get("teacher")
    if teachers:
        settings |= {"teacher": teachers, "teacher_views": history.get("teacher_views")}
    else:
        settings = {name: value for name, value in settings.items() if not name.startswith("teacher_")}
    others = ("init_from", "image_size", "max_steps", "exclude_leaks")
    return settings | {name: history[name] for name in others if history.get(name)}


def element_id(name: str) -> str:
    """`name` fit for the id of an HTML element, for the link to it and for a selector."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name)
