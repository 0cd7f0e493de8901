"""Faces by split and class, beside the published counts; the balance of the classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ferlib.data.audit.findings import Finding
from ferlib.data.face_data import FaceData
from ferlib.data.facts import SPLITS
from ferlib.runtime.words import enumerate_words

IMBALANCED = 10.0  # times as many faces in the largest class as in the smallest
SHIFTED, UNLIKELY = 0.1, 1e-4  # Cramér's V and p-value from which the splits have other shares of the classes


def describe(data: FaceData) -> str:
    """A table of the class counts by split, the published ones below where the data set has them."""
    return count_table(data.classes, data.counts(), data.facts.official_counts or {})


def count_table(
    classes: Sequence[str], counts: Mapping[str, Sequence[int]], published: Mapping[str, Sequence[int]]
) -> str:
    """The same, from faces by class of every split."""
    lines = [table_row("", [f"{emotion:>9}" for emotion in (*classes, "all")])]
    lines += [count_row(split, counts[split]) for split in SPLITS]
    for split, (found, expected) in beside_published(counts, published).items():
        verdict = "✓ the same" if found == expected else "≠ what was found"
        lines.append(f"{count_row(f'published {split}', expected)}  {verdict}")
    return "\n".join(lines)


def beside_published(
    counts: Mapping[str, Sequence[int]], published: Mapping[str, Sequence[int]]
) -> dict[str, tuple[list[int], list[int]]]:
    """Split → faces by class that were found, and that were published; empty for sets without published counts."""
    found = {split: list(row) for split, row in counts.items()}
    if published and "val" not in published:  # then val is held out of the published train
        found["train"] = np.add(found["train"], found["val"]).tolist()
    return {split: (found[split], list(expected)) for split, expected in published.items()}


def count_row(name: str, counts: Sequence[int]) -> str:
    """A line of counts and their sum."""
    return table_row(name, [f"{count:>9,}" for count in (*counts, sum(counts))])


def table_row(name: str, cells: Sequence[str]) -> str:
    """A line that begins with a name of 16 characters."""
    return f"{name:<16}" + "".join(cells)


# ── findings ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def judge_counts(data: FaceData) -> list[Finding]:
    """Whether the counts are the published ones; nothing for sets without such."""
    published = data.facts.official_counts
    if not published:
        return []
    differing = {
        split: pair for split, pair in beside_published(data.counts(), published).items() if pair[0] != pair[1]
    }
    if not differing:
        return [Finding("counts", "ok", "faces of every split and class are as many as published")]
    parts = []
    for split, (found, expected) in differing.items():
        changes = [
            f"{name} {ours - theirs:+,}"
            for name, ours, theirs in zip(data.classes, found, expected, strict=True)
            if ours != theirs
        ]
        parts.append(f"{split} {sum(found):,} instead of {sum(expected):,} ({', '.join(changes)})")
    lost = all(sum(found) <= sum(expected) for found, expected in differing.values())
    what = "the copy is incomplete" if lost and not all_same_size(differing) else "the copy is another one"
    return [Finding("counts", "error", f"{what}: {'; '.join(parts)}".replace("-", "−"))]


def all_same_size(differing: dict[str, tuple[list[int], list[int]]]) -> bool:
    """Whether the splits are as large as published, so that only the classes differ."""
    return all(sum(found) == sum(expected) for found, expected in differing.values())


def class_balance(data: FaceData) -> dict[str, Any]:
    """Shares of the classes by split, ratio of the largest class to the smallest, and whether the splits differ.

    cramers_v and p_value: of the table of splits and classes (chi-square test of homogeneity); None where there are too
    few splits or classes.
    """
    counts = data.counts()
    table = np.array([counts[split] for split in SPLITS])
    used = table[table.any(1)][:, table.any(0)]
    whole = table.sum(0)
    found: dict[str, Any] = {
        "shares": {split: (row / max(row.sum(), 1)).tolist() for split, row in zip(SPLITS, table, strict=True)},
        "imbalance": float(whole.max() / max(whole.min(), 1)),
        "empty": {
            split: [name for name, count in zip(data.classes, counts[split], strict=True) if not count]
            for split in SPLITS
            if any(counts[split])
        },
        "cramers_v": None,
        "p_value": None,
    }
    if min(used.shape) > 1:
        from scipy.stats import chi2_contingency  # takes long to import, and every stage prints the counts

        test = chi2_contingency(used, correction=False)
        found["cramers_v"] = float(np.sqrt(test.statistic / (used.sum() * (min(used.shape) - 1))))
        found["p_value"] = float(test.pvalue)
    return found


def judge_balance(balance: dict[str, Any], classes: Sequence[str]) -> list[Finding]:
    """Classes without faces, splits of other shares, a large imbalance."""
    found = []
    for split, empty in balance["empty"].items():
        if empty:
            found.append(Finding("classes", "error", f"{split} has no faces of {enumerate_words(empty)}"))
    if balance["cramers_v"] is not None and balance["cramers_v"] > SHIFTED and balance["p_value"] < UNLIKELY:
        text = f"the splits have other shares of the classes (Cramér's V {balance['cramers_v']:.2f})"
        found.append(Finding("classes", "warning", text))
    if balance["imbalance"] >= IMBALANCED:
        text = f"the largest class has {balance['imbalance']:.0f} times the faces of the smallest; cite macro F1 too"
        found.append(Finding("classes", "warning", text))
    return found or [Finding("classes", "ok", f"all {len(classes)} classes are in every split, in like shares")]
