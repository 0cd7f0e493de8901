"""The section on the data: what datasets.py found, its tables and pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferlib.data.audit.findings import LEVELS
from ferlib.data.facts import SPLITS
from ferlib.evaluation.audits import read_audit
from ferlib.evaluation.saved_runs import ModelReport
from ferlib.report.gallery import link
from ferlib.report.pictures import Picture
from ferlib.runtime.errors import UserError
from ferlib.runtime.runs import Run, audit_picture

CAPTIONS = {  # kinds of pictures, in their order on the page
    "near_copies": "Near copies, and what differs in them",
    "label_errors": "Labels that are likely errors",
    "precision": "How many of them the annotators’ votes confirm",
    "conflicts": "Pictures that occur with different labels",
    "blank_pictures": "Pictures that show little or nothing",
    "quality": "Brightness, contrast, sharpness and histograms, by split",
}
CRITERIA = {"outvoted": "another class has more votes", "no_vote": "no annotator gave the label"}


@dataclass(frozen=True)
class Drawn:
    """A picture of the audit."""

    kind: str
    picture: Picture
    address: str | None  # of the file, relative to the page

    @property
    def caption(self) -> str:
        """What it shows."""
        return CAPTIONS[self.kind]


@dataclass(frozen=True)
class AuditSection:
    """What the page shows of an audit."""

    content: dict[str, Any]
    drawn: list[Drawn]
    is_current: bool  # whether some run used this version of the data

    @property
    def findings(self) -> list[tuple[str, str, str, str]]:
        """Level, its sign, what was looked at, and the sentence."""
        return [(row["level"], LEVELS[row["level"]], row["check"], row["text"]) for row in self.content["findings"]]

    @property
    def copies(self) -> list[tuple[str, list[tuple[int, int]]]]:
        """Split → of its faces, those with a copy in each split: pixel by pixel, and near copies too."""
        exact, either = (self.content[name]["faces_with_copy"] for name in ("exact_copies", "near_copies"))
        return [(split, [(exact[split][other], either[split][other]) for other in SPLITS]) for split in SPLITS]

    @property
    def precision(self) -> list[tuple[str, float, list[dict[str, Any]]]]:
        """Criterion, its share of all faces, and precision at k; empty where votes or predictions are not known."""
        labels = self.content["label_errors"]
        scored = labels["against_votes"] if labels else None
        if not scored:
            return []
        found = scored["criteria"]
        return [(words, found[name]["share"], found[name]["confident_learning"]) for name, words in CRITERIA.items()]

    @property
    def errors(self) -> list[str]:
        """Sentences on what invalidates results, but copies, of which the summary speaks anyway."""
        return [text for level, _, check, text in self.findings if level == "error" and check != "leaks"]


def audit_command(outputs_dir: Path, dataset: str) -> str:
    """The command that audits a data set."""
    return Run("", dataset, outputs_dir=outputs_dir).command("datasets.py")


def audit_pictures(outputs_dir: Path, dataset: str) -> dict[str, Path]:
    """Kind → file of the pictures that an audit may have drawn."""
    return {kind: audit_picture(outputs_dir, dataset, kind) for kind in CAPTIONS}


def find_audit(outputs_dir: Path, dataset: str, left_out: list[str]) -> dict[str, Any] | None:
    """The audit of a data set; None where there is none, or a damaged one, which `left_out` then tells."""
    try:
        return read_audit(outputs_dir, dataset)
    except UserError as error:
        left_out.append(f"the audit is left out: {error}")
        return None


def make_audit_section(
    content: dict[str, Any] | None,
    paths: Mapping[str, Path],
    pictures: Mapping[Path, Picture],
    models: Iterable[ModelReport],
    page_dir: Path,
) -> AuditSection | None:
    """The section on an audit, with those of its pictures that could be read; None without an audit."""
    if content is None:
        return None
    drawn = [
        Drawn(kind, pictures[path], link(path, page_dir))
        for kind, path in paths.items()
        if kind in content["pictures_drawn"] and path in pictures
    ]
    used = {model.fingerprint for model in models}
    return AuditSection(content, drawn, content["fingerprint"] in used)
