"""The plots of a study: accuracy by setting, importance of the settings, accuracy by trial."""

from __future__ import annotations

import itertools
import statistics
from pathlib import Path
from typing import Any

from config import Tune, dataset_facts
from plots import COLORS, saved_figure


def plot_study(
    flags: Tune,
    rows: list[dict[str, Any]],
    groups: dict[str, dict[str, list[float]]],
    importances: dict[str, float],
) -> None:
    title = f"{flags.study}: {flags.model} on {dataset_facts(flags.dataset).title}"
    for name, accuracies in groups.items():
        plot_groups(flags.folder / f"accuracy_by_{name}.png", accuracies, name, title)
    if importances:
        plot_importance(flags.folder / "importance.png", importances, title)
    plot_history(flags.folder / "history.png", rows, title)


def plot_groups(path: Path, groups: dict[str, list[float]], name: str, title: str) -> None:
    """Every whole run as a point by the value of a field, and the mean of each value as a bar across."""
    with saved_figure(path, figsize=(max(4.0, 1.0 * len(groups) + 1), 3.4)) as figure:
        axis = figure.subplots()
        for place, accuracies in enumerate(groups.values()):
            percents = [100 * accuracy for accuracy in accuracies]
            spread = 0.12 * min(1, (len(percents) - 1) / 4)
            places = [place + spread * (2 * rank / max(len(percents) - 1, 1) - 1) for rank in range(len(percents))]
            axis.scatter(places, percents, s=18, color=COLORS[5], alpha=0.8, linewidth=0, zorder=3)
            axis.hlines(statistics.mean(percents), place - 0.28, place + 0.28, color=COLORS[0], linewidth=2)
        axis.set_xticks(range(len(groups)), groups)
        axis.set_xlim(-0.6, len(groups) - 0.4)
        axis.set(title=title, xlabel=name, ylabel="Best accuracy on val (%)")
        axis.grid(axis="x", visible=False)


def plot_importance(path: Path, importances: dict[str, float], title: str) -> None:
    names = list(importances)[::-1]
    with saved_figure(path, figsize=(5.5, 1.3 + 0.35 * len(names))) as figure:
        axis = figure.subplots()
        bars = axis.barh(names, [importances[name] for name in names], color=COLORS[5], height=0.6)
        axis.bar_label(bars, fmt="{:.2f}", padding=3)
        axis.set(title=title, xlabel="Importance (fANOVA, sums to 1)", xlim=(0, 1.1))
        axis.grid(axis="y", visible=False)


def plot_history(path: Path, rows: list[dict[str, Any]], title: str) -> None:
    """Accuracy by trial in the order in which they began, and the best whole run so far."""
    tried = sorted((row for row in rows if row["val_accuracy"] is not None), key=lambda row: row["trial"])
    with saved_figure(path, figsize=(6, 3.4)) as figure:
        axis = figure.subplots()
        for whole, look in ((True, {"color": COLORS[5]}), (False, {"facecolor": "none", "edgecolor": COLORS[4]})):
            points = [
                (row["trial"], 100 * row["val_accuracy"]) for row in tried if (row["state"] == "complete") == whole
            ]
            if points:
                axis.scatter(*zip(*points, strict=True), s=22, label="whole run" if whole else "stopped early", **look)
        numbers, values = zip(
            *((row["trial"], row["val_accuracy"]) for row in tried if row["state"] == "complete"), strict=True
        )
        best = [100 * value for value in itertools.accumulate(values, max)]
        axis.step(numbers, best, where="post", color=COLORS[0], label="best so far")
        axis.set(title=title, xlabel="Trial", ylabel="Best accuracy on val (%)")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.legend()
