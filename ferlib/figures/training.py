"""The curves of a training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.ticker import MaxNLocator, PercentFormatter

from ferlib.figures import findings
from ferlib.figures.gpus import plot_gpu_temperature
from ferlib.figures.palette import DARK, MIDDLE, QUIET
from ferlib.figures.style import PNG, WIDTH, Titles, entitle, saved_figure
from ferlib.runtime.runs import Run

AS_TRAINED = "loss of val as trained: class weights, smoothing"


def plot_run(run: Run, history: dict[str, Any], formats: Sequence[str] = PNG) -> None:
    """The curves of a run and, where its GPUs were monitored, their temperature; `history` as in the history file."""
    epochs, best = history["epochs"], history["best_epoch"]
    subject = f"training of {findings.run_on(run)}, views: single"
    titles = (findings.of_training(epochs, best), subject)
    plot_training_curves(run.plot("training_curves"), epochs, best, titles, formats)
    logs = sorted(run.logs.glob("gpu*.csv"))  # also of processes that a resumed run no longer has
    plot_gpu_temperature(run.plot("gpu_temperature"), logs, history["max_gpu_temp"], subject, formats)


def plot_training_curves(
    path: Path, epochs: list[dict], best_epoch: int, titles: Titles, formats: Sequence[str] = PNG
) -> None:
    """Loss and accuracy of train and val by epoch, the chosen epoch marked; `epochs` as in the history file.

    The loss on val is plain cross-entropy; where a run was selected by that of its training, both are drawn.
    """
    numbers = [epoch["epoch"] for epoch in epochs]
    marker = "." if len(epochs) < 2 else ""
    with saved_figure(path, formats, figsize=(WIDTH, 3)) as figure:
        axes = figure.subplots(1, 2)
        for axis, kind in zip(axes, ("loss", "accuracy"), strict=True):
            for split, color, line in (("train", MIDDLE, "--"), ("val", DARK, "-")):
                values = [epoch[f"{split}_{kind}"] for epoch in epochs]
                axis.plot(numbers, values, line, marker=marker, color=color, label=split)
            axis.axvline(best_epoch, color=QUIET, linewidth=0.8, zorder=1, label=f"best epoch ({best_epoch})")
            axis.set(ylabel=kind.capitalize(), xlabel="Epoch")
            axis.set_xlim(0.5, len(epochs) + 0.5)
            axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if all("val_objective" in epoch for epoch in epochs):
            values = [epoch["val_objective"] for epoch in epochs]
            axes[0].plot(numbers, values, ":", marker=marker, color=DARK, label=AS_TRAINED)
        axes[0].set_ylim(bottom=0)
        axes[1].set_ylim(0, 1)
        axes[1].yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2 if AS_TRAINED in labels else 3)
        entitle(figure, *titles)
