"""What score_explanations.py prints: the table of means, the ranks' concordance, where the files are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from config import Score
from ferlib.explanations.scores.columns import COLUMNS, COST, KIND_TITLES


def describe_scores(found: Mapping[str, Any], flags: Score) -> str:
    """One row per method; * beside a value: not better than a map that needs no network."""
    columns = [column for column in COLUMNS if any(column.name in row for row in found["table"].values())]
    width = max(len(title) for title in found["titles"].values())
    lines = [" " * width + "".join(f"{column.short:>10}" for column in columns)]
    for name, row in found["table"].items():
        cells = "".join(f"{show(row.get(column.name), column.kind == COST):>10}" for column in columns)
        lines.append(f"{found['titles'][name]:<{width}}{cells}")
    lines.append("*: not better than all of random values, a centred Gaussian and edges (95 % interval over faces)")
    for kind, each in found["concordance"].items():
        if each:
            title = KIND_TITLES.get(kind, "All columns")
            lines.append(f"{title}: Kendall's W {each['w']:.2f} ({len(each['columns'])} columns)")
    lines.append(f"{found['faces']} faces, {found['passes']:,.0f} passes a face beside those of the maps")
    lines.append(f"→ {flags.run.scores}")
    return "\n".join(lines)


def show(cell: Mapping[str, Any] | None, cost: bool) -> str:
    """A mean, with a mark."""
    if cell is None:
        return "–"
    if cost:
        return f"{cell['mean']:,.0f}" if cell["mean"] >= 10 else f"{cell['mean']:.2g}"
    return f"{cell['mean']:.2f}{'*' if cell['beats_simple'] is False else ' '}"
