"""Precision, recall and F1 of each class as bars."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import PercentFormatter

from ferlib.figures.palette import DARK, INK, LIGHT, MIDDLE
from ferlib.figures.style import PNG, WIDTH, Titles, entitle, saved_figure

SCORES = {"precision": LIGHT, "recall": MIDDLE, "f1": DARK}


def plot_class_scores(
    path: Path, per_class: list[dict[str, Any]], titles: Titles, formats: Sequence[str] = PNG
) -> None:
    """Precision, recall and F1 of each class as bars with their 95 % intervals; `per_class` as in the results."""
    with saved_figure(path, formats, figsize=(WIDTH, 3.4)) as figure:
        axis = figure.subplots()
        for place, (score, color) in enumerate(SCORES.items()):
            values = np.array([row[score] for row in per_class], dtype=float)  # NaN where it is not defined
            ends = np.array([row["intervals"][score] or (row[score], row[score]) for row in per_class], dtype=float)
            look: dict[str, Any] = {"ecolor": INK, "error_kw": {"elinewidth": 0.8, "capsize": 1.8, "capthick": 0.8}}
            errors = np.maximum([values - ends[:, 0], ends[:, 1] - values], 0)
            centres = np.arange(len(per_class)) + 0.27 * (place - 1)
            axis.bar(centres, values, 0.25, yerr=errors, color=color, label=score.replace("f1", "F1"), **look)
        axis.set_xticks(range(len(per_class)), [f"{row['emotion']}\n{row['support']:,} faces" for row in per_class])
        axis.tick_params(axis="x", length=0)
        axis.set_xlim(-0.5, len(per_class) - 0.5)  # of a class without scores too
        axis.set(ylim=(0, 1), ylabel="Score, 95 % interval")
        axis.grid(False, axis="x")
        axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        figure.legend(loc="outside lower center", ncols=3)
        entitle(figure, *titles)
