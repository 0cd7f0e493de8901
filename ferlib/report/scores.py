"""The table of the scores of a run's explanations, as the page shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferlib.data.synthetic.variants import SHORTCUTS
from ferlib.evaluation.saved_runs import ModelReport
from ferlib.explanations.scores.columns import COLUMNS, COST, KIND_TITLES, SIMPLE, Column
from ferlib.report.pictures import Picture


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
    def settings(self) -> list[str]:
        """What was explained and what hides pixels, in words; none in files of earlier versions."""
        words = {"explained": "{}", "only": "only {}", "baseline": "fill {}"}
        return [text.format(value) for key, text in words.items() if (value := self.model.scores.get(key))]

    @property
    def passes(self) -> float:
        """Forward passes of a face, beside those of the maps."""
        return self.model.scores["passes"]


@dataclass(frozen=True)
class ShortcutTest:
    """The Clever Hans test of a run with one shortcut, as the page shows it."""

    model: ModelReport
    found: dict[str, Any]  # of the JSON file
    pictures: tuple[Picture, ...]  # verdicts and maps

    @property
    def looks(self) -> str:
        """What the shortcut looks like."""
        return SHORTCUTS[self.found["shortcut"]]

    @property
    def rows(self) -> list[tuple[str, dict[str, Any]]]:
        """Title and figures of the methods, by how often they expose the shortcut; none of one without a place."""
        rows = [(self.found["titles"].get(name, name), each) for name, each in self.found["methods"].items()]
        return sorted((row for row in rows if row[1]["exposed"]), key=lambda row: -row[1]["exposed"]["mean"])


def make_tests(model: ModelReport, pictures: Mapping[Path, Picture]) -> list[ShortcutTest]:
    """The tests of a run, with those of their pictures that are there."""
    return [
        ShortcutTest(model, found, tuple(pictures[path] for path in test_pictures(model, kind) if path in pictures))
        for kind, found in model.clever_hans.items()
    ]


def test_pictures(model: ModelReport, kind: str) -> list[Path]:
    """Where score_explanations.py draws the pictures of a test."""
    folder = model.run.with_shortcut(kind)
    return [folder / "clever_hans.png", folder / "clever_hans_maps.png"]


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
