"""Scores of all faces made one table: means with intervals over faces, ranks, Kendall's W, agreement of methods."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from ferlib.explanations.scores.columns import COLUMNS, COMPARED, COST, OF_LOGIT, SIMPLE
from ferlib.explanations.scores.ranks import shared_columns

RESAMPLES = 2000
Scores = Mapping[str, Mapping[str, Sequence[float]]]  # row → column → a number per face


def interval(values: np.ndarray, seed: int = 0) -> tuple[float | None, float | None]:
    """The 95 % percentile bootstrap interval of the mean of N values; None for a single one."""
    if len(values) < 2:
        return None, None
    drawn = np.random.default_rng(seed).integers(0, len(values), (RESAMPLES, len(values)))
    low, high = np.quantile(values[drawn].mean(1), (0.025, 0.975))
    return float(low), float(high)


def tabulate(scores: Scores, of_logit: Collection[str] = ()) -> dict[str, dict[str, dict[str, Any]]]:
    """Row → column → mean, low, high, faces, rank (1 is best; null of costs and of simple maps).

    beats_simple: whether the mean over faces of the difference from each of the simple maps is above 0, its whole
    interval included; null of other columns than truth, faithfulness and location. Methods in `of_logit`, whose values
    are of the logit, are compared with the simple maps' scores of the logit, where a column has them.
    """
    table: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in scores}
    for column in COLUMNS:
        values = {name: np.asarray(own[column.name], float) for name, own in scores.items() if column.name in own}
        sign = 1 if column.higher else -1
        methods = [name for name in values if name not in SIMPLE]
        ranks = stats.rankdata([-sign * values[name].mean() for name in methods]) if methods else []
        rank_of = dict(zip(methods, ranks, strict=True)) if column.kind != COST else {}
        may_beat = column.kind in COMPARED
        simple = {"": [values[name] for name in values if name in SIMPLE]}
        simple[OF_LOGIT] = [
            np.asarray(scores[name].get(column.name + OF_LOGIT, values[name]), float)
            for name in values
            if name in SIMPLE
        ]
        for name, own in values.items():
            low, high = interval(own)
            others = simple[OF_LOGIT if name in of_logit else ""] if may_beat and name not in SIMPLE else []
            comparable = [each for each in others if len(each) == len(own)]
            table[name][column.name] = {
                "mean": float(own.mean()),
                "low": low,
                "high": high,
                "faces": len(own),
                "rank": float(rank_of[name]) if name in rank_of else None,
                "beats_simple": is_above(sign * own, [sign * each for each in comparable]),
            }
    return table


def is_above(values: np.ndarray, others: Sequence[np.ndarray]) -> bool | None:
    """Whether the mean difference of N values from each of the others is above 0 with its interval."""
    if not others or len(values) < 2:
        return None
    return all((interval(values - each)[0] or 0) > 0 for each in others)


def kendall_w(table: Mapping[str, Mapping[str, Mapping[str, Any]]], kinds: Sequence[str]) -> dict[str, Any] | None:
    """Kendall's coefficient of concordance of the columns of some kinds, as judges of the methods that have them all.

    Kendall & Babington Smith, "The problem of m rankings" (1939); corrected for ties. 1: all columns rank the methods
    alike, 0: they have nothing in common. None with fewer than two columns or three methods. w, columns, methods.
    """
    methods = [name for name in table if name not in SIMPLE]
    columns = [column.name for column in shared_columns(table, COLUMNS) if column.kind in kinds]
    methods = [name for name in methods if all(column in table[name] for column in columns)]
    if len(columns) < 2 or len(methods) < 3:
        return None
    ranks = np.array([stats.rankdata([table[name][column]["rank"] for name in methods]) for column in columns])
    judges, count = ranks.shape
    spread = np.square(ranks.sum(0) - ranks.sum(0).mean()).sum()
    ties = sum(
        (np.unique(row, return_counts=True)[1] ** 3 - np.unique(row, return_counts=True)[1]).sum() for row in ranks
    )
    largest = judges**2 * (count**3 - count) - judges * ties
    return {"w": float(12 * spread / largest) if largest else 0.0, "columns": columns, "methods": methods}


def agreement(maps: np.ndarray, cells: int = 11) -> np.ndarray:
    """float64 M×M: rank correlations of each two of the rows' maps N×M×H×W, averaged to cells × cells, mean over N."""
    small = np.stack([[pool(each, cells) for each in face] for face in maps.astype(np.float64)])
    total = np.zeros((maps.shape[1],) * 2)
    for face in small.reshape(*small.shape[:2], -1):
        ranks = stats.rankdata(face, axis=1)
        ranks -= ranks.mean(1, keepdims=True)
        sizes = np.sqrt(np.square(ranks).sum(1))
        total += ranks @ ranks.T / np.maximum(np.outer(sizes, sizes), 1e-12)
    return total / len(maps)


def pool(values: np.ndarray, cells: int) -> np.ndarray:
    """H×W averaged over about equal parts: cells×cells, or fewer of smaller maps."""
    rows, columns = (np.linspace(0, side, min(cells, side) + 1).astype(int)[:-1] for side in values.shape)
    sums = np.add.reduceat(np.add.reduceat(values, rows, 0), columns, 1)
    counts = np.outer(np.diff([*rows, values.shape[0]]), np.diff([*columns, values.shape[1]]))
    return sums / counts
