"""A comparison of runs as text for the terminal."""

from __future__ import annotations

from typing import Any

from ferlib.evaluation.paired import SIGNIFICANT, better_first, describe_p, in_both_orders, in_points
from ferlib.evaluation.terminal import shown, with_interval

COLUMNS = {"macro_f1": ".1%", "balanced_accuracy": ".1%", "top2_accuracy": ".1%", "kappa": ".3f", "mcc": ".3f"}


def summarize_comparison(found: dict[str, Any]) -> str:
    """Contestants, the matrix of pairs, a sentence for each pair, slices, published results and people."""
    parts = (contestant_lines, matrix_lines, sentence_lines, slice_lines, reference_lines)
    return "\n".join(line for lines in parts for line in lines(found))


def contestant_lines(found: dict[str, Any]) -> list[str]:
    """A line for each contestant, with its interval or its deviation between seeds."""
    rows = found["contestants"]
    width = 2 + max(len(row["name"]) for row in rows)
    heads = f"{'accuracy':<26}{'macro F1':>9}{'balanced':>10}{'top-2':>8}{'kappa':>8}{'MCC':>8}   views"
    lines = [f"{found['samples']:,} test faces of {found['dataset']}", f"{'':<{width}}{heads}"]
    for row in rows:
        accuracy = (
            f"{row['accuracy']:.2%} ± {row['sd']['accuracy']:.2%}"
            if row["sd"]
            else with_interval(row["accuracy"], row["intervals"]["accuracy"], ".2%")
        )
        cells = [shown(row[name], form) for name, form in COLUMNS.items()]
        figures = "".join(f"{cell:>{size}}" for cell, size in zip(cells, (9, 10, 8, 8, 8), strict=True))
        lines.append(f"{row['name']:<{width}}{accuracy:<26}{figures}   {row['views']}")
    caution = caution_on_views(found)
    return [*lines, caution] if caution else lines


def caution_on_views(found: dict[str, Any]) -> str:
    """A sentence where the contestants were scored with different views of a face; "" elsewhere."""
    views: dict[str, list[str]] = {}
    for row in found["contestants"]:
        views.setdefault(row["views"], []).append(row["name"])
    if len(views) == 1:
        return ""
    listed = "; ".join(f"{name} of {', '.join(names)}" for name, names in views.items())
    return f"Caution: the views differ ({listed}), and a part of each difference is theirs; evaluate all with the same."


def matrix_lines(found: dict[str, Any]) -> list[str]:
    """Points by which the contestant of a row exceeds that of a column; * where Holm's p is below 0.05."""
    names = [row["name"] for row in found["contestants"]]
    pairs = {(row["first"], row["second"]): row for row in in_both_orders(found["pairs"])}
    width = 2 + max(map(len, names))
    lines = ["", "points of accuracy of the row above the column (* Holm's p below 0.05)"]
    lines.append(f"{'':<{width}}" + "".join(f"{number:>8}" for number in range(1, len(names) + 1)))
    for number, name in enumerate(names, start=1):
        cells = [cell_of(pairs, name, other) for other in names]
        lines.append(f"{f'{number} {name}':<{width}}" + "".join(f"{cell:>8}" for cell in cells))
    return lines


def cell_of(pairs: dict[tuple[str, str], dict[str, Any]], name: str, other: str) -> str:
    """One cell of the matrix."""
    if name == other:
        return ""
    row = pairs[name, other]
    star = "*" if row["p_holm"] < SIGNIFICANT else " "
    return f"{in_points(row['gain'])}{star}"


def sentence_lines(found: dict[str, Any]) -> list[str]:
    """The verdict on each pair, and the probabilities that it rests on."""
    limit = 100 * found["equal_within"]
    lines = ["", f"practically equal: within {limit:g} points"]
    for row in found["pairs"]:
        named = better_first(row)  # as the sentence does
        shares = f"P(better) {named['better']:.2f}, P(equal) {named['equal']:.2f}, P(worse) {named['worse']:.2f}"
        lines.append(f"{row['sentence']} {shares}; {row['test']}, p {describe_p(row['p'])}")
    return lines


def slice_lines(found: dict[str, Any]) -> list[str]:
    """Accuracy inside each slice and outside of it."""
    if not found["slices"]:
        return [f"left out: {line}" for line in found["left_out"]]
    lines = ["", "accuracy in parts of the test faces, and in the rest"]
    width = 2 + max(len(row["name"]) for row in found["contestants"])
    for each in found["slices"]:
        lines.append(f"{each['name']} ({each['meaning']}), {each['faces']:,} faces")
        for row in each["contestants"]:
            inside = with_interval(row["inside"]["accuracy"], row["inside"]["interval"], ".1%")
            outside = with_interval(row["outside"]["accuracy"], row["outside"]["interval"], ".1%")
            lines.append(f"  {row['name']:<{width}}{inside:<26}{outside}")
    return lines


def reference_lines(found: dict[str, Any]) -> list[str]:
    """Published results, and people."""
    lines = ["", "for comparison, as published; none was run here"] if found["published"] else []
    for row in found["published"]:
        cell = with_interval(row["accuracy"], row["interval"], ".2%")
        lines.append(f"  {row['system']}: {cell} on {row['scored']}; views: {row['views']}; epoch: {row['picked']}")
    people = found["people"]
    if people:
        shares = people["labels"]
        lines.append(
            f"  people: one annotator of those who name an emotion names the label of {shares['one_annotator']:.1%}, "
            "most annotators that of "
            f"{shares['most_annotators']:.1%} ({people['faces']:,} faces with votes)"
        )
    return lines
