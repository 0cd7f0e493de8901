"""The plots of a study: accuracy by setting, importance of the settings, accuracy by trial."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.ticker import MaxNLocator

from ferlib.data.facts import dataset_facts
from ferlib.figures.palette import BLUE, GREY, VERMILION
from ferlib.figures.style import PNG, WIDTH, entitle, saved_figure
from ferlib.runtime.terminal import counted
from ferlib.training.search.results import group_accuracies, stopped_early


def plot_study(folder: Path, study: dict[str, Any], formats: Sequence[str] = PNG) -> None:
    """Every plot of a study into its folder; `study` as in study.json."""
    subject = f"study {study['study']}: {study['model']} on {dataset_facts(study['dataset']).title}"
    complete = [row for row in study["trials"] if row["state"] == "complete"]
    for name in study["by_field"]:
        stopped = stopped_early(study["trials"], name).total()
        note = f"; {counted(stopped, 'trial')} stopped early, not shown" if stopped else ""
        path, groups = folder / f"accuracy_by_{name}.png", group_accuracies(complete, name)
        plot_groups(path, groups, name, subject + note, formats)
    if study["importance"]:
        plot_importance(folder / "importance.png", study["importance"], subject, formats)
    plot_history(folder / "history.png", study["trials"], subject, formats)


def plot_groups(
    path: Path, groups: dict[str, list[float]], name: str, subject: str, formats: Sequence[str] = PNG
) -> None:
    """Accuracies of whole runs as points by the value of a setting, and the mean of each value as a bar across."""
    means = {value: 100 * statistics.mean(accuracies) for value, accuracies in groups.items()}
    with saved_figure(path, formats, figsize=(min(max(4.5, len(groups) + 1), WIDTH), 3.6)) as figure:
        axis = figure.subplots()
        for place, (value, accuracies) in enumerate(groups.items()):
            percents = [100 * accuracy for accuracy in accuracies]
            spread = 0.12 * min(1, (len(percents) - 1) / 4)
            places = [place + spread * (2 * rank / max(len(percents) - 1, 1) - 1) for rank in range(len(percents))]
            axis.scatter(places, percents, s=18, color=BLUE, alpha=0.8, linewidth=0, zorder=3)
            axis.hlines(means[value], place - 0.28, place + 0.28, color=VERMILION, linewidth=2)
        long = max(map(len, groups)) * len(groups) > 60
        axis.set_xticks(range(len(groups)), list(groups))
        if long:
            axis.tick_params(axis="x", labelrotation=30)
            for label in axis.get_xticklabels():
                label.set_horizontalalignment("right")
        axis.set_xlim(-0.6, len(groups) - 0.4)
        axis.set(xlabel=f"{name} (bar: mean)", ylabel="Best accuracy on val (%)")
        axis.grid(axis="x", visible=False)
        best = max(means, key=lambda value: means[value])
        finding = f"{name} {best} is best on average of whole runs ({means[best]:.1f} %)"
        finding = finding if len(means) > 1 else f"Whole runs of {name} {best} alone"
        entitle(figure, finding, subject)


def plot_importance(path: Path, importances: dict[str, float], subject: str, formats: Sequence[str] = PNG) -> None:
    """Share of the variance of accuracy that each setting explains, as bars."""
    names = sorted(importances, key=lambda name: importances[name])
    with saved_figure(path, formats, figsize=(5.5, 1.4 + 0.35 * len(names))) as figure:
        axis = figure.subplots()
        bars = axis.barh(names, [importances[name] for name in names], color=BLUE, height=0.6)
        axis.bar_label(bars, fmt="{:.2f}", padding=3, fontsize=8)
        axis.set(xlabel="Importance (fANOVA, sums to 1)", xlim=(0, 1.1))
        axis.grid(axis="y", visible=False)
        finding = f"{names[-1]} explains the largest part of what differs ({importances[names[-1]]:.0%})"
        entitle(figure, finding, subject)


def plot_history(path: Path, rows: list[dict[str, Any]], subject: str, formats: Sequence[str] = PNG) -> None:
    """Accuracy by trial in the order in which they began, and the best whole run so far."""
    tried = sorted((row for row in rows if row["val_accuracy"] is not None), key=lambda row: row["trial"])
    points = [(row["trial"], 100 * row["val_accuracy"], row["state"] == "complete") for row in tried]
    whole = [(trial, accuracy) for trial, accuracy, complete in points if complete]
    stopped = [(trial, accuracy) for trial, accuracy, complete in points if not complete]
    numbers, values = [trial for trial, _ in whole], [accuracy for _, accuracy in whole]
    with saved_figure(path, formats, figsize=(WIDTH, 3.4)) as figure:
        axis = figure.subplots()
        axis.scatter(numbers, values, s=22, color=BLUE, label="whole run")
        if stopped:
            places, heights = [trial for trial, _ in stopped], [accuracy for _, accuracy in stopped]
            axis.scatter(places, heights, s=22, label="stopped early", facecolor="none", edgecolor=GREY)
        axis.step(numbers, list(itertools.accumulate(values, max)), where="post", color=VERMILION, label="best so far")
        axis.set(xlabel="Trial", ylabel="Best accuracy on val (%)")
        axis.xaxis.set_major_locator(MaxNLocator(nbins="auto", steps=[1, 2, 5, 10], integer=True))
        figure.legend(loc="outside lower center", ncols=3)
        trial, accuracy = max(whole, key=lambda point: point[1])
        entitle(figure, f"Trial {trial} is the best of {len(tried)}: {accuracy:.1f} % on val", subject)
