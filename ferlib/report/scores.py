"""The tables of the scores of a run's explanations, as the page shows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferlib.data.synthetic.variants import SHORTCUTS
from ferlib.evaluation.saved_runs import ModelReport
from ferlib.explanations.scores.columns import COLUMNS, COMPARED, COST, KIND_TITLES, SIMPLE, Column
from ferlib.explanations.scores.ranks import by_mean_rank, mean_rank, shared_columns
from ferlib.explanations.scores.stages import describe_engines
from ferlib.report.pictures import Picture

Cells = dict[str, dict[str, Any]]  # column → cell


@dataclass(frozen=True)
class ScoreGroup:
    """Scores of one kind: rows by the mean of their ranks."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, bool, Cells], ...]  # title, whether it needs no network, cells

    @property
    def compared(self) -> bool:
        """Whether methods are compared with maps that need no network."""
        return self.columns[0].kind in COMPARED


@dataclass(frozen=True)
class ScoreTable:
    """Scores of a run: an overview of ranks and cost, and a group of columns for each kind."""

    model: ModelReport
    groups: tuple[ScoreGroup, ...]
    costs: tuple[Column, ...]
    overview: tuple[tuple[str, list[float | None], Cells], ...]  # title, mean rank in each group, cells
    concordance: dict[str, float]  # title of a kind → Kendall's W

    @property
    def faces(self) -> int:
        """Faces that were scored."""
        return self.model.scores["faces"]

    @property
    def settings(self) -> list[str]:
        """What was explained, what hides pixels and what computed the scores, in words, as far as the file has it."""
        words = {"explained": "{}", "only": "only {}", "baseline": "fill {}"}
        found = [text.format(value) for key, text in words.items() if (value := self.model.scores.get(key))]
        return [*found, *filter(None, [describe_engines(self.model.scores.get("stages", {}))])]

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
    def engines(self) -> str:
        """What computed the maps of both networks; empty where the file does not say it."""
        return describe_engines(self.found["networks"])

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
    """The tables of a run that has scores."""
    table, titles = model.scores["table"], model.scores["titles"]
    columns = [column for column in COLUMNS if any(column.name in row for row in table.values())]
    by_kind = {kind: tuple(column for column in columns if column.kind == kind) for kind in KIND_TITLES}
    ranked = {kind: own for kind, own in by_kind.items() if own and kind != COST}
    shared = {kind: shared_columns(table, own) for kind, own in ranked.items()}
    found = {
        KIND_TITLES.get(kind, "all columns"): each["w"] for kind, each in model.scores["concordance"].items() if each
    }
    return ScoreTable(
        model,
        groups=tuple(make_group(KIND_TITLES[kind], own, table, titles) for kind, own in ranked.items()),
        costs=by_kind[COST],
        overview=tuple(
            (titles.get(name, name), [mean_rank(table[name], own) for own in shared.values()], table[name])
            for name in by_mean_rank(table, columns)
            if name not in SIMPLE
        ),
        concordance=found,
    )


def make_group(
    title: str, columns: tuple[Column, ...], table: Mapping[str, Cells], titles: Mapping[str, str]
) -> ScoreGroup:
    """The rows that have some of the columns; maps that need no network come last."""
    names = [name for name in by_mean_rank(table, columns) if any(column.name in table[name] for column in columns)]
    return ScoreGroup(title, columns, tuple((titles.get(name, name), name in SIMPLE, table[name]) for name in names))
