"""What the explain_* scripts do; imports nothing heavy before flags, names and ranges are checked."""

from __future__ import annotations

from typing import Any

from config import Explain
from ferlib.explanations.flags import prepare_flags
from ferlib.explanations.terminal import describe_summary
from ferlib.runtime.flags import parse_flags


def explain_by(script: str, flags: Explain) -> dict[str, Any]:
    """Explains the chosen faces; writes maps, figures and summary below outputs/explanations, returns the summary."""
    flags, method, values = prepare_flags(flags, script)
    from ferlib.figures.explanations import explain_and_draw

    return explain_and_draw(flags, method, values)


def run(script: str, kind: type[Explain]) -> dict[str, Any]:
    """Reads the flags, explains, prints what was done, and returns the summary."""
    flags = parse_flags(kind)
    summary = explain_by(script, flags)
    if summary:  # of torchrun's processes the first one has it
        print(describe_summary(summary, flags))
    return summary
