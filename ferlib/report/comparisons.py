"""The comparisons of runs that evaluate.py --compare left, for the page."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferlib.evaluation.comparison_text import caution_on_views
from ferlib.evaluation.paired import better_first, in_both_orders, in_points
from ferlib.evaluation.saved_runs import ModelReport, stage_files
from ferlib.evaluation.scored_checkpoints import results_digest
from ferlib.evaluation.stage_shapes import COMPARISON
from ferlib.report.gallery import link
from ferlib.report.plots import OF_COMPARISONS
from ferlib.runtime.errors import UserError
from ferlib.runtime.files import read_json
from ferlib.runtime.runs import Run, comparison_path, picture_beside


@dataclass(frozen=True)
class MatrixCell:
    """By how many points one contestant exceeds another, and the verdict on it."""

    points: str
    ends: str
    share: float  # of the widest difference in the matrix, -1..1
    verdict: str  # better, worse, equal or unknown


@dataclass(frozen=True)
class Comparison:
    """One file of evaluate.py --compare."""

    content: dict[str, Any]
    matrix: list[list[MatrixCell | None]]
    pictures: dict[str, str]  # kind in words → address, relative to the page

    @property
    def pairs(self) -> list[dict[str, Any]]:
        """The pairs in the order in which their sentences name them."""
        return [better_first(row) for row in self.content["pairs"]]

    @property
    def caution(self) -> str:
        """A sentence where the runs were scored with different views."""
        return caution_on_views(self.content)

    @property
    def axis(self) -> tuple[float, float]:
        """Ends of the axis of accuracies: multiples of 5 % around all intervals."""
        rows = [row["intervals"].get("accuracy") for row in self.content["contestants"]]
        ends = [end for row in (*rows, *(row["interval"] for row in self.content["published"])) if row for end in row]
        low, high = min(ends, default=0.0), max(ends, default=1.0)
        return max(0.0, math.floor(20 * low) / 20), min(1.0, math.ceil(20 * high) / 20)


def read_comparisons(
    outputs_dir: Path, dataset: str, models: Iterable[ModelReport], page_dir: Path, left_out: list[str]
) -> list[Comparison]:
    """The comparisons of runs on a data set; damaged ones, and those of other results than runs have now, are left out.

    A line on each of them goes to `left_out`.
    """
    current = {model.run.name: state_of(model.results) for model in models if model.results}
    found = []
    for path in stage_files(comparison_path(outputs_dir, dataset).parent):
        try:
            content = read_json(path, "evaluate.py --compare", COMPARISON)
        except UserError as error:
            left_out.append(f"a comparison is left out: {error}")
            continue
        if content["dataset"] != dataset:
            continue
        if not all(is_current(row, current) for row in content["runs"]):
            left_out.append(f"{path} is left out, as its runs were scored again since; run: {content['command']}")
            continue
        addresses = {words: link(picture_beside(path, kind), page_dir) for kind, words in OF_COMPARISONS.items()}
        found.append(Comparison(content, make_matrix(content), {words: at for words, at in addresses.items() if at}))
    return found


def state_of(results: dict[str, Any]) -> dict[str, str | None]:
    """The digest of the checkpoints that results are of, and on what and how they were scored."""
    kept = {name: results[name] for name in ("views", "fingerprint", "precision")}
    return {"checkpoint_digest": results_digest(results), **kept}


def is_current(row: dict[str, Any], current: dict[str, dict[str, str | None]]) -> bool:
    """Whether a run of a comparison has the same results now; False for one that is gone.

    A comparison of an earlier version does not state the data and the precision.
    """
    identity = row["run"]
    name = Run(identity["model"], identity["dataset"], identity["tag"], fold=identity.get("fold", 0)).name
    return name in current and all(row.get(key, value) == value for key, value in current[name].items())


def make_matrix(content: dict[str, Any]) -> list[list[MatrixCell | None]]:
    """Rows and columns are contestants; None on the diagonal."""
    names = [row["name"] for row in content["contestants"]]
    widest = max(0.02, *(abs(row["gain"]) for row in content["pairs"]))
    cells: dict[tuple[str, str], MatrixCell] = {}
    for row in in_both_orders(content["pairs"]):
        gain, (low, high) = row["gain"], row["interval"]
        ends = f"{in_points(low)} to {in_points(high)}"
        cells[row["first"], row["second"]] = MatrixCell(in_points(gain), ends, gain / widest, row["verdict"])
    return [[cells.get((name, other)) for other in names] for name in names]
