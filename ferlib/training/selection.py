"""Which epoch is the best one, and when training stops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ferlib.training.schedules import BETTER
from recipes import Recipe, Selection


def best_epoch(epochs: list[dict[str, Any]], monitor: str) -> int:
    """Number of the epoch with the best value on val, the earliest of equals."""
    return BETTER[monitor](epochs, key=lambda epoch: epoch[f"val_{monitor}"])["epoch"]


def should_stop(epochs: list[dict[str, Any]], selection: Selection) -> bool:
    """Whether the last `patience` epochs brought no value on val that is better by more than `min_delta`."""
    if not selection.patience:
        return False
    values = [epoch[f"val_{selection.stop_metric}"] for epoch in epochs]
    return epochs_without_gain(values, BETTER[selection.stop_metric], selection.min_delta) >= selection.patience


def epochs_without_gain(values: Sequence[float], better: Callable, min_delta: float) -> int:
    """Number of epochs since the last gain: a value better by more than `min_delta` than that of the gain before it.

    So small gains add up until they are one. better: min or max, whichever is the better of two values.
    """
    sign = 1 if better is min else -1
    best, waited = float("inf"), 0
    for value in values:
        improved = sign * value < best - min_delta
        best, waited = (sign * value, 0) if improved else (best, waited + 1)
    return waited


def is_complete(epochs: list[dict[str, Any]], recipe: Recipe) -> bool:
    """Whether no epoch is left to train."""
    return len(epochs) >= recipe.training.epochs or should_stop(epochs, recipe.selection)
