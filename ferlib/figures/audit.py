"""The audit of a data set from flags to files: what its faces are, likely label errors, sheets and charts, JSON."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from config import Audit
from datasets import load_audited
from ferlib.data.audit.content import FaceAudit, audit_faces
from ferlib.data.audit.findings import worst_first
from ferlib.data.audit.known import known_copy
from ferlib.data.audit.pictures import judge_pictures, picture_kinds
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
from ferlib.runtime.runs import audit_path, audit_picture

KINDS = ("near_copies", "conflicts", "blank_pictures", "quality", "label_errors", "precision")  # of pictures


def audit(flags: Audit) -> dict[str, Any]:
    """Audits the data set that the flags name; writes and returns the content of the audit's file.

    Pictures that cannot be read are named and left out.
    """
    began = time.perf_counter()
    audited = load_audited(flags)
    whole, unreadable = audited.data, audited.unreadable
    kinds = picture_kinds(audited.tree) if audited.tree else []
    faces = audit_faces(whole, known_copy(flags.dataset), flags.exclude_leaks)
    predicted = find_predicted(whole, flags.outputs_dir, flags.run, flags.fold)
    labels, of_labels = audit_labels(whole, predicted)
    findings = [*judge_pictures(kinds, unreadable, whole.facts), *faces.findings, *of_labels]
    content = {
        **faces.facts,
        "fold": flags.fold,
        "source": audited.source,
        "kinds": kinds,
        "unreadable": unreadable,
        "label_errors": labels,
        "findings": [finding.to_json() for finding in worst_first(findings)],
    }
    drawn = draw_audit(flags, whole, faces, content) if flags.figures else []
    content |= {"pictures_drawn": drawn, "seconds": round(time.perf_counter() - began, 1), **provenance()}
    write_json(audit_path(flags.outputs_dir, flags.dataset, flags.fold), content)
    return content


# ── pictures ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def draw_audit(flags: Audit, whole: FaceData, faces: FaceAudit, content: dict[str, Any]) -> list[str]:
    """Draws what there is to see; returns the kinds of the pictures. Those of an earlier audit are removed."""
    drawn = []
    for kind in KINDS:
        path = audit_picture(flags.outputs_dir, flags.dataset, kind, flags.fold)
        if draw_kind(kind, path, whole, faces, content, flags.format):
            drawn.append(kind)
        else:
            for ending in (".png", ".pdf", ".svg"):
                path.with_suffix(ending).unlink(missing_ok=True)
    return drawn


def draw_kind(
    kind: str, path: Path, whole: FaceData, faces: FaceAudit, content: dict[str, Any], formats: Sequence[str]
) -> bool:
    """Draws one kind of picture; False where there is nothing to show."""
    data, title = faces.data, whole.facts.title
    if kind == "near_copies" and len(faces.pairs):
        chosen = choose_pairs(data, faces.pairs, PAIRS)
        finding = f"{len(faces.pairs):,} pairs of pictures are alike though not pixel for pixel"
        subject = (
            f"{title}: {some(len(chosen), len(faces.pairs))}, those across splits first, from the least alike to the "
            "most. r: correlation of the pixels. Right: difference, grey where both are equal"
        )
        plot_pairs(path, list(pair_cells(data, chosen)), (finding, subject), formats)
    elif kind == "conflicts" and content["exact_copies"]["conflicting_groups"]:
        count = content["exact_copies"]["conflicting_groups"]
        shown = list(conflict_cells(data, GROUPS))
        subject = f"{title}: {some(len(shown), count)}, with the label and split of each copy"
        plot_conflicts(path, shown, (f"{count:,} pictures occur with different labels", subject), formats)
    elif kind == "blank_pictures" and any(content["defects"].values()):
        rows = np.concatenate(list(blank_pictures(faces.measures).values()))
        cells = [(data.images[row], "\n".join(split_and_label(data, row))) for row in rows[:BLANKS]]
        finding = f"{len(rows):,} pictures are of one grey level, or half black or white"
        plot_faces(path, cells, (finding, f"{title}: {some(len(cells), len(rows))}, with split and label"), formats)
    elif kind == "quality":
        known = known_copy(whole.dataset)
        words = [each["text"] for each in content["findings"] if each["check"] == "pictures"]
        finding = words[0][:1].upper() + words[0][1:]
        plot_quality(path, faces.measures, data.splits, known.quality if known else None, (finding, title), formats)
    elif kind == "label_errors" and content["label_errors"] and content["label_errors"]["faces_listed"]:
        labels = content["label_errors"]
        shown = labels["faces_listed"][:ERRORS]
        votes = ", blue below: votes" if shown[0]["votes"] is not None else ""
        subject = (
            f"{title}, {' and '.join(labels['splits'])}: the first {len(shown)}, by {labels['run']['model']}. Bars: "
            f"probabilities, green of the label, vermilion of the predicted class{votes}"
        )
        finding = f"{labels['candidates']:,} of {labels['faces']:,} labels are likely errors"
        plot_label_errors(path, [(whole.images[face["row"]], face) for face in shown], (finding, subject), formats)
    elif kind == "precision" and content["label_errors"] and content["label_errors"]["against_votes"]:
        scored = content["label_errors"]["against_votes"]
        plot_precision(path, scored, (precision_title(scored), f"{title}: {precision_subject(scored)}"), formats)
    else:
        return False
    return True


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
