"""The table of the scores of a run's explanations, as the page shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ferlib.evaluation.saved_runs import ModelReport
from ferlib.explanations.scores.columns import COLUMNS, COST, KIND_TITLES, SIMPLE, Column


@dataclass(frozen=True)
class ScoreTable:
    """Scores of a run: columns by kind, rows by the mean of their ranks."""

    model: ModelReport
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, bool, dict[str, dict[str, Any]]], ...]  # title, whether it needs no network, column → cell
    concordance: dict[str, float]  # title of a kind → Kendall's W

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Titles of the kinds, and their columns' number."""
        kinds = [column.kind for column in self.columns]
        return [(KIND_TITLES[kind], kinds.count(kind)) for kind in dict.fromkeys(kinds)]

    @property
    def faces(self) -> int:
        """Faces that were scored."""
        return self.model.scores["faces"]

    @property
    def passes(self) -> float:
        """Forward passes of a face, beside those of the maps."""
        return self.model.scores["passes"]


def make_score_table(model: ModelReport) -> ScoreTable:
    """The table of a run that has scores."""
    table, titles = model.scores["table"], model.scores["titles"]
    columns = tuple(column for column in COLUMNS if any(column.name in row for row in table.values()))
    order = sorted(table, key=lambda name: (name in SIMPLE, mean_rank(table[name], columns)))
    rows = tuple((titles.get(name, name), name in SIMPLE, table[name]) for name in order)
    found = {
        KIND_TITLES.get(kind, "all columns"): each["w"] for kind, each in model.scores["concordance"].items() if each
    }
    return ScoreTable(model, columns, rows, found)


def mean_rank(row: dict[str, dict[str, Any]], columns: tuple[Column, ...]) -> float:
    """By which rows are ordered; of rows without ranks infinite."""
    ranks = [row[each.name]["rank"] for each in columns if each.kind != COST and each.name in row]
    known = [rank for rank in ranks if rank is not None]
    return sum(known) / len(known) if known else float("inf")
