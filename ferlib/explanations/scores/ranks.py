"""Mean ranks of methods over columns of scores, those that few methods have left out. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ferlib.explanations.scores.columns import COST, SIMPLE, Column

SHARED = 0.75  # of the methods, which a column needs for its ranks to count

Cells = Mapping[str, Mapping[str, Any]]  # column → cell, as in summary.tabulate


def shared_columns(table: Mapping[str, Cells], columns: Iterable[Column]) -> list[Column]:
    """Those of the columns, but of cost, that at least SHARED of the methods have.

    A rank among few methods is low whatever the score is: the only method of a column is the first one.
    """
    methods = [name for name in table if name not in SIMPLE]
    return [
        column
        for column in columns
        if column.kind != COST and sum(column.name in table[name] for name in methods) >= SHARED * len(methods)
    ]


def mean_rank(row: Cells, columns: Iterable[Column]) -> float | None:
    """The mean of a row's ranks in the columns that it has; None of rows without ranks, as of simple maps."""
    ranks = [row[column.name]["rank"] for column in columns if column.name in row]
    known = [rank for rank in ranks if rank is not None]
    return sum(known) / len(known) if known else None


def by_mean_rank(table: Mapping[str, Cells], columns: Iterable[Column]) -> list[str]:
    """The rows of a table by their mean rank in the columns that most methods have, those without ranks last."""
    ranked = shared_columns(table, columns)

    def key(name: str) -> tuple[bool, float]:
        rank = mean_rank(table[name], ranked)
        return rank is None, rank or 0.0

    return sorted(table, key=key)
