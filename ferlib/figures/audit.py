"""The audit of a data set from flags to files: what its faces are, likely label errors, sheets and charts, JSON."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from config import Audit
from datasets import load_audited
from ferlib.data.audit.content import FaceAudit, audit_faces
from ferlib.data.audit.findings import worst_first
from ferlib.data.audit.known import known_copy
from ferlib.data.audit.pictures import SHOWN, judge_pictures, picture_kinds
from ferlib.data.audit.quality import blank_pictures
from ferlib.data.copies import copy_numbers
from ferlib.data.face_data import FaceData
from ferlib.data.facts import SPLITS
from ferlib.data.near_copies import NearCopies
from ferlib.evaluation.audits import audit_labels, find_predicted
from ferlib.figures.audit_charts import plot_precision, plot_quality
from ferlib.figures.audit_sheets import (
    BLANKS,
    ERRORS,
    GROUPS,
    PAIRS,
    plot_conflicts,
    plot_faces,
    plot_label_errors,
    plot_pairs,
)
from ferlib.runtime.files import write_json
from ferlib.runtime.provenance import provenance
from ferlib.runtime.runs import audit_path, audit_picture, check_same_set
from ferlib.runtime.terminal import counted


def audit(flags: Audit) -> dict[str, Any]:
    """Audits the data set that the flags name; writes and returns the content of the audit's file.

    Pictures that cannot be read are named and left out.
    """
    began = time.perf_counter()
    check_same_set(audit_path(flags.outputs_dir, flags.dataset, flags.fold), "dataset", flags.dataset)
    audited = load_audited(flags)
    whole, unreadable = audited.data, audited.unreadable
    kinds = picture_kinds(audited.tree, map(str, whole.names)) if audited.tree else []
    faces = audit_faces(whole, known_copy(flags.dataset), flags.exclude_leaks)
    predicted = find_predicted(whole, flags.outputs_dir, flags.run, flags.fold)
    labels, of_labels = audit_labels(whole, predicted)
    findings = [*judge_pictures(kinds, unreadable, whole.facts), *faces.findings, *of_labels]
    content = {
        **faces.facts,
        "fold": flags.fold,
        "source": audited.source,
        "kinds": kinds[:SHOWN],
        "unreadable": unreadable,
        "label_errors": labels,
        "findings": [finding.to_json() for finding in worst_first(findings)],
    }
    drawn = draw_audit(flags, whole, faces, content) if flags.figures else []
    content |= {"pictures_drawn": drawn, "seconds": round(time.perf_counter() - began, 1), **provenance()}
    write_json(audit_path(flags.outputs_dir, flags.dataset, flags.fold), content)
    return content


# ── pictures ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class Scene(NamedTuple):
    """What the pictures of an audit are drawn from."""

    whole: FaceData
    faces: FaceAudit  # of the set as it is audited, perhaps without leaks
    content: dict[str, Any]
    formats: Sequence[str]

    @property
    def title(self) -> str:
        """Of the data set."""
        return self.whole.facts.title


def draw_audit(flags: Audit, whole: FaceData, faces: FaceAudit, content: dict[str, Any]) -> list[str]:
    """Draws what there is to see; returns the kinds of the pictures. Those of an earlier audit are removed."""
    drawn, scene = [], Scene(whole, faces, content, flags.format)
    for kind, draw in DRAWINGS.items():
        path = audit_picture(flags.outputs_dir, flags.dataset, kind, flags.fold)
        if draw(path, scene):
            drawn.append(kind)
        else:
            for ending in (".png", ".pdf", ".svg"):
                path.with_suffix(ending).unlink(missing_ok=True)
    return drawn


def draw_near_copies(path: Path, scene: Scene) -> bool:
    """Pairs of near copies with their difference; False where there are none."""
    data, pairs = scene.faces.data, scene.faces.pairs
    if not len(pairs):
        return False
    chosen = choose_pairs(data, pairs, PAIRS)
    finding = f"{counted(len(pairs), 'pair of pictures is', 'pairs of pictures are')} alike though not pixel for pixel"
    subject = (
        f"{scene.title}: {some(len(chosen), len(pairs))}, those across splits first, from the least alike to the most. "
        "r: correlation of the pixels. Right: difference, grey where both are equal"
    )
    plot_pairs(path, list(pair_cells(data, chosen)), (finding, subject), scene.formats)
    return True


def draw_conflicts(path: Path, scene: Scene) -> bool:
    """Pictures that occur with several labels; False where there are none."""
    count = scene.content["exact_copies"]["conflicting_groups"]
    if not count:
        return False
    shown = list(conflict_cells(scene.faces.data, GROUPS))
    subject = f"{scene.title}: {some(len(shown), count)}, with the label and split of each copy"
    plot_conflicts(
        path,
        shown,
        (f"{counted(count, 'picture occurs', 'pictures occur')} with different labels", subject),
        scene.formats,
    )
    return True


def draw_blank(path: Path, scene: Scene) -> bool:
    """Pictures that show nothing or little; False where there are none."""
    data = scene.faces.data
    rows = np.concatenate(list(blank_pictures(scene.faces.measures).values()))
    if not len(rows):
        return False
    cells = [(data.images[row], "\n".join(split_and_label(data, row))) for row in rows[:BLANKS]]
    finding = f"{counted(len(rows), 'picture is', 'pictures are')} of one grey level, or half black or white"
    subject = f"{scene.title}: {some(len(cells), len(rows))}, with split and label"
    plot_faces(path, cells, (finding, subject), scene.formats)
    return True


def draw_quality(path: Path, scene: Scene) -> bool:
    """The measures of the pictures by split."""
    known = known_copy(scene.whole.dataset)
    text = next(each["text"] for each in scene.content["findings"] if each["check"] == "pictures")
    titles, splits = (text[:1].upper() + text[1:], scene.title), scene.faces.data.splits
    plot_quality(path, scene.faces.measures, splits, known.quality if known else None, titles, scene.formats)
    return True


def draw_label_errors(path: Path, scene: Scene) -> bool:
    """Likely label errors beside probabilities and votes; False without predictions or candidates."""
    labels = scene.content["label_errors"]
    if not labels or not labels["faces_listed"]:
        return False
    shown = labels["faces_listed"][:ERRORS]
    votes = ", blue below: votes" if shown[0]["votes"] is not None else ""
    subject = (
        f"{scene.title}, {' and '.join(labels['splits'])}: the first {len(shown)}, by {labels['run']['model']}. Bars: "
        f"the network’s own probabilities, green of the label, vermilion of the predicted class{votes}"
    )
    finding = f"{labels['candidates']:,} of {labels['faces']:,} labels are likely errors"
    cells = [(scene.whole.images[face["row"]], face) for face in shown]
    plot_label_errors(path, cells, (finding, subject), scene.formats)
    return True


def draw_precision(path: Path, scene: Scene) -> bool:
    """Precision of the ranking of label errors; False without predictions, votes, or ten faces that have both."""
    labels = scene.content["label_errors"]
    scored = labels["against_votes"] if labels else None
    if not scored or not scored["suggestion"]:
        return False
    subject = f"{scene.title}: {precision_subject(scored)}"
    plot_precision(path, scored, (precision_title(scored), subject), scene.formats)
    return True


DRAWINGS: dict[str, Callable[[Path, Scene], bool]] = {  # kind of a picture → what draws it
    "near_copies": draw_near_copies,
    "conflicts": draw_conflicts,
    "blank_pictures": draw_blank,
    "quality": draw_quality,
    "label_errors": draw_label_errors,
    "precision": draw_precision,
}


def some(shown: int, count: int) -> str:
    """How many of some things a picture shows, in words."""
    return "all of them" if shown == count else f"{shown} of them"


def split_and_label(data: FaceData, row: int | np.integer) -> tuple[str, str]:
    """Of a face, in words."""
    return SPLITS[data.splits[row]], data.classes[data.labels[row]]


def choose_pairs(data: FaceData, pairs: NearCopies, count: int) -> NearCopies:
    """Pairs from the least alike to the most, evenly over their ranks; those across splits first."""
    across = data.splits[pairs.first] != data.splits[pairs.second]
    chosen: list[int] = []
    for rows in (np.flatnonzero(across), np.flatnonzero(~across)):
        room = count - len(chosen)
        ranked = rows[np.argsort(pairs.pixels[rows], kind="stable")]
        places = np.unique(np.linspace(0, len(ranked) - 1, min(room, len(ranked))).round().astype(int))
        chosen.extend(ranked[places].tolist())
    return pairs.select(np.array(chosen, dtype=np.int64))


def pair_cells(data: FaceData, pairs: NearCopies) -> Iterator[tuple[np.ndarray, np.ndarray, str, str]]:
    """The pairs as audit_sheets.plot_pairs takes them; a mirrored one is shown turned back."""
    for first, second, pixels, mirrored in zip(pairs.first, pairs.second, pairs.pixels, pairs.mirrored, strict=True):
        copy = data.images[second]
        lines = [" ".join(split_and_label(data, row)) for row in (first, second)]
        note = f"r {math.floor(1000 * pixels) / 1000:.3f}{', mirrored' if mirrored else ''}"
        yield data.images[first], copy[:, ::-1] if mirrored else copy, " / ".join(lines), note


def conflict_cells(data: FaceData, count: int) -> Iterator[tuple[np.ndarray, str]]:
    """The pictures of several labels, with a line for each label and split, largest groups first."""
    numbers = copy_numbers(data)
    labels = np.zeros((numbers.max() + 1, len(data.classes)), bool)
    labels[numbers, data.labels] = True
    conflicting = np.flatnonzero(labels.sum(1) > 1)
    sizes = np.bincount(numbers)[conflicting]
    for number in conflicting[np.argsort(-sizes, kind="stable")][:count]:
        rows = np.flatnonzero(numbers == number)
        words = [f"{data.classes[data.labels[row]]}, {SPLITS[data.splits[row]]}" for row in rows]
        lines = [f"{word}{f' ×{words.count(word)}' if words.count(word) > 1 else ''}" for word in dict.fromkeys(words)]
        yield data.images[rows[0]], "\n".join(lines[:5])


def precision_title(scored: dict[str, Any]) -> str:
    """What the precision of the ranking is at the top, in words."""
    row = next(row for row in reversed(scored["criteria"]["outvoted"]["confident_learning"]) if row["k"] <= 100)
    share = scored["criteria"]["outvoted"]["share"]
    return (
        f"The annotators outvote {row['precision']:.0%} of the first {row['k']} suspects, and {share:.0%} of all labels"
    )


def precision_subject(scored: dict[str, Any]) -> str:
    """What the picture of the precision shows."""
    return (
        f"label errors by confident learning against the votes, {scored['faces']:,} faces; shades: 95 % intervals; "
        "dotted: by the label's probability alone; dashed: a random order"
    )
