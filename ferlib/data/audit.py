"""The data audit: faces by split and class, beside the published counts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ferlib.data.face_data import FaceData
from ferlib.data.facts import SPLITS


def describe(data: FaceData) -> str:
    """A table of the class counts by split, the published ones below where the data set has them."""
    counts, published = data.counts(), data.facts.official_counts or {}
    lines = [table_row("", [f"{emotion:>9}" for emotion in (*data.classes, "all")])]
    lines += [count_row(split, counts[split]) for split in SPLITS]
    if published and "val" not in published:  # then val is held out of the published train
        counts["train"] = np.add(counts["train"], counts["val"]).tolist()
    for split, expected in published.items():
        verdict = "✓ the same" if counts[split] == list(expected) else "≠ what was found"
        lines.append(f"{count_row(f'published {split}', expected)}  {verdict}")
    return "\n".join(lines)


def count_row(name: str, counts: Sequence[int]) -> str:
    """A line of counts and their sum."""
    return table_row(name, [f"{count:>9,}" for count in (*counts, sum(counts))])


def table_row(name: str, cells: Sequence[str]) -> str:
    """A line that begins with a name of 16 characters."""
    return f"{name:<16}" + "".join(cells)
