"""Findings: what an audit says of a data set, and whether it invalidates results."""

from __future__ import annotations

from typing import Any, NamedTuple

from ferlib.runtime.errors import lookup

LEVELS = {"error": "✗", "warning": "!", "ok": "✓"}  # worst first; an error invalidates results


class Finding(NamedTuple):
    """A sentence on one thing that was looked at."""

    check: str  # a word or two on what was looked at, the same at every audit
    level: str  # a row of LEVELS
    text: str

    def to_json(self) -> dict[str, str]:
        """As the audit's file holds it."""
        return self._asdict()


def describe_finding(finding: dict[str, Any]) -> str:
    """A line for the terminal."""
    return f"{lookup(LEVELS, finding['level'], 'level')} {finding['check']}: {finding['text']}"


def worst_first(findings: list[Finding]) -> list[Finding]:
    """Errors, then warnings, then what is in order, each in the order that they were found in."""
    order = list(LEVELS)
    return sorted(findings, key=lambda finding: order.index(finding.level))


def share(part: int, whole: int) -> str:
    """A count with its share: 288 of 3,589 (8.0 %)."""
    return f"{part:,} of {whole:,} ({part / max(whole, 1):.1%})".replace("%", "\u202f%")
