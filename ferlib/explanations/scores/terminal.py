"""What score_explanations.py prints: the table of means, the ranks' concordance, where the files are."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from config import Score
from ferlib.data.synthetic.variants import SHORTCUTS
from ferlib.explanations.scores.columns import COLUMNS, COST, KIND_TITLES, Column
from ferlib.explanations.scores.stages import describe_engines

LINE = 118  # columns of a terminal


def describe_scores(found: Mapping[str, Any], flags: Score) -> str:
    """A block of columns per kind, each with a legend; *: not better than a map that needs no network."""
    lines = ["Means over faces. ↑: higher is better, ↓: lower is better", ""]
    for kind, title in KIND_TITLES.items():
        columns = [
            each for each in COLUMNS if each.kind == kind and any(each.name in row for row in found["table"].values())
        ]
        if columns:
            lines += [*describe_kind(title, columns, found), ""]
    lines.append("*: not better than all of random values, a centred Gaussian and edges (95 % interval over faces)")
    for kind, each in found["concordance"].items():
        if each:
            title = KIND_TITLES.get(kind, "All columns")
            lines.append(f"{title}: Kendall's W {each['w']:.2f} ({len(each['columns'])} columns)")
    lines.append(f"{found['faces']} faces, {found['passes']:,.0f} passes a face beside those of the maps")
    lines += filter(None, [found["placement"]])
    lines.append(describe_engines(found["stages"]))
    lines.append(f"→ {flags.run.scores}")
    return "\n".join(lines)


def describe_kind(title: str, columns: Sequence[Column], found: Mapping[str, Any]) -> list[str]:
    """A block: its title, a legend of its columns, their heads with the direction that is better, a line per row."""
    width = max(len(name) for name in found["titles"].values())
    heads = [f"{column.short} {'↑' if column.higher else '↓'}" for column in columns]
    widths = [max(9, len(head) + 2) for head in heads]
    legend = "; ".join(f"{column.short}: {column.says}" for column in columns)
    lines = [title, *wrap_legend(legend)]
    lines.append(
        " " * width + "".join(f"{head:>{size - 1}} " for head, size in zip(heads, widths, strict=True)).rstrip()
    )
    for name, row in found["table"].items():
        if any(column.name in row for column in columns):
            shown = [show(row.get(column.name), column.kind == COST) for column in columns]
            cells = "".join(f"{cell:>{size}}" for cell, size in zip(shown, widths, strict=True))
            lines.append(f"{found['titles'][name]:<{width}}{cells}".rstrip())
    return lines


def wrap_legend(legend: str) -> list[str]:
    """Lines of a legend."""
    return textwrap.wrap(legend, LINE, initial_indent="  ", subsequent_indent="  ")


def show(cell: Mapping[str, Any] | None, cost: bool) -> str:
    """A mean, with a mark or the room for it."""
    if cell is None:
        return "– "
    if cost:
        return (f"{cell['mean']:,.0f}" if cell["mean"] >= 10 else f"{cell['mean']:.2g}") + " "
    shown = f"{cell['mean']:.2f}"
    shown = shown.replace("-", "−") if float(shown) else "0.00"
    return f"{shown}{'*' if cell['beats_simple'] is False else ' '}"


def describe_test(found: Mapping[str, Any], flags: Score) -> str:
    """What the Clever Hans test found: the two networks, then a row per method."""
    kind, planted = found["shortcut"], found["planted_in"]
    lines = [f"Clever Hans test: {SHORTCUTS[kind]}, in all training faces of {planted}"]
    for name, each in found["networks"].items():
        lines.append(
            f"{name + ' network:':<18} {percent(each['accuracy'])} right on faces as drawn; of other faces, "
            f"{percent(each['called'])} are called {planted}, with the {kind} {percent(each['called_planted'])}; "
            f"warned of the surround on {percent(each['alarms']['mean'])}"
        )
    if not found["learned"]:
        lines.append(
            f"The second network did not learn the {kind}, so nothing can be exposed: "
            "train both longer (--epochs) under another --tag."
        )
    if found["area"] == 1:
        lines.append(f"A {kind} has no place, so that no map can point at it: compare the figures with it and without.")
    else:
        lines += describe_rows(found)
    lines += filter(None, [describe_engines(found["networks"])])
    lines.append(f"→ {flags.run.clever_hans(kind)}")
    return "\n".join(lines)


def describe_rows(found: Mapping[str, Any]) -> list[str]:
    """A row per method: share of the map on the shortcut, faces whose strongest value lies there, verdict."""
    width = max(len(title) for title in found["titles"].values())
    lines = [f"{'':<{width}}{'on it: honest':>15}{'cheating':>10}{'exposed':>24}{'false alarms':>14}  verdict"]
    for name, each in found["methods"].items():
        shares = [percent(each[key]["mean"]) for key in ("mass_honest", "mass_cheating", "false_alarms")]
        exposed = each["exposed"]
        ends = "" if exposed["low"] is None else f" ({percent(exposed['low'])} to {percent(exposed['high'])})"
        lines.append(
            f"{found['titles'][name]:<{width}}{shares[0]:>15}{shares[1]:>10}"
            f"{percent(exposed['mean']) + ends:>24}{shares[2]:>14}  {each['verdict'] or '–'}"
        )
    lines.append(
        f"on it: share of positive values on the shortcut, which covers {percent(found['area'])} of the picture; "
        f"exposed: faces whose strongest value lies there (95 % interval over {found['faces']} faces)"
    )
    return lines


def percent(share: float) -> str:
    """In whole percent."""
    return f"{100 * share:.0f} %"
