"""The audit of the faces of a data set, as one JSON-able dict with its findings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ferlib.data.audit.counts import class_balance, judge_balance, judge_counts
from ferlib.data.audit.duplicates import (
    exact_copies,
    judge_conflicts,
    judge_leaks,
    judge_subjects,
    leak_facts,
    near_copies,
)
from ferlib.data.audit.findings import Finding
from ferlib.data.audit.known import KnownCopy, compare_with_known, judge_known
from ferlib.data.audit.quality import defects, judge_defects, judge_quality, quality_facts
from ferlib.data.face_data import FaceData
from ferlib.data.leaks import find_leaks
from ferlib.data.near_copies import NearCopies, find_near_copies
from ferlib.data.picture_quality import measure_pictures


@dataclass(frozen=True)
class FaceAudit:
    """What the faces of a set were found to be, and what pictures are drawn of."""

    facts: dict[str, Any]
    findings: list[Finding]
    pairs: NearCopies  # rows are those of `data`
    measures: dict[str, np.ndarray]  # float32 N by the names of picture_quality.MEASURES
    data: FaceData  # without the leaks, where they are excluded


def audit_faces(data: FaceData, known: KnownCopy | None = None, exclude_leaks: bool = False) -> FaceAudit:
    """Counts, copies, leaks, pictures, subjects and known faces of a set.

    known: a copy of the set that is good. exclude_leaks: after the comparison with what is known and published, the
    training faces that stand in val or test are left out, as train.py --exclude-leaks does.
    """
    measures = measure_pictures(data.images)
    balance = class_balance(data)
    compared = compare_with_known(data, known, measures["contrast"]) if known else None
    findings = [*judge_counts(data), *judge_balance(balance, data.classes)]
    findings += judge_known(compared) if compared else []
    quality = known.quality if known else None
    findings += judge_quality(measures, data.splits, quality, len(known.hashes) if known else 0)
    counts, faces = data.counts(), len(data)

    pairs, excluded = find_near_copies(data.images, np.arange(len(data))), None
    if exclude_leaks:
        leaks = find_leaks(data, pairs)
        kept, excluded = np.flatnonzero(~leaks.either), leaks.numbers()
        data, measures = data.select(kept), {name: values[kept] for name, values in measures.items()}
        pairs = find_near_copies(data.images, np.arange(len(data)))
    exact, near = exact_copies(data), near_copies(data, pairs)
    leaking = leak_facts(data, pairs, find_leaks(data, pairs))
    blank = defects(data, measures)
    subjects, of_subjects = judge_subjects(data)
    findings += [*judge_leaks(leaking, excluded), *judge_conflicts(exact, near), *judge_defects(blank), *of_subjects]
    return FaceAudit(
        facts={
            "dataset": data.dataset,
            "fingerprint": data.fingerprint,
            "faces": faces,
            "shape": list(data.images.shape[1:]),
            "classes": list(data.classes),
            "counts": counts,
            "published": data.facts.official_counts or {},
            "balance": balance,
            "known": compared,
            "exact_copies": exact,
            "near_copies": near,
            "leaks": leaking,
            "excluded": excluded,
            "subjects": subjects,
            "quality": quality_facts(measures, data.splits),
            "defects": blank,
        },
        findings=findings,
        pairs=pairs,
        measures=measures,
        data=data,
    )
