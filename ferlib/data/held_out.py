"""Whether a network may have been trained on faces that are held out in the data set that it is used with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ferlib.data.face_data import FaceData
from ferlib.data.facts import FER_SETS, FOLDER, DatasetFacts, dataset_facts

HELD_OUT = ("val", "test")
COMPLETE = 0.8  # share of the published faces of a split, from which on a copy is that split, some faces left out


def data_facts(data: FaceData) -> dict[str, Any]:
    """What a checkpoint keeps of the data that it was trained on: faces of each class, and where a folder lies."""
    folder = str(Path(data.facts.places[0]).resolve()) if data.dataset.startswith(FOLDER) else None
    return {"counts": data.counts(), "folder": folder}


def is_other_version(checkpoint: Mapping[str, Any], data: FaceData) -> bool:
    """Whether a checkpoint was trained on the same data set in another version or fold, or it is not known.

    checkpoint: its content beside the weights, with `dataset`, data_facts as `data` (not in those of earlier versions)
    and, in `identity`, the `fingerprint` of the faces.
    """
    trained = (checkpoint.get("identity") or {}).get("fingerprint")
    return is_same_set(checkpoint, data) and trained != data.fingerprint


def is_same_set(checkpoint: Mapping[str, Any], data: FaceData) -> bool:
    """Whether a checkpoint was trained on the set of that name, in the same folder, or on the same faces (FER_SETS)."""
    name = str(checkpoint.get("dataset"))
    if {name, data.dataset} <= {*FER_SETS}:
        return True
    if not (name.startswith(FOLDER) and data.dataset.startswith(FOLDER)):
        return name == data.dataset
    trained = (checkpoint.get("data") or {}).get("folder") or Path(name.removeprefix(FOLDER)).expanduser().resolve()
    return str(trained) == data_facts(data)["folder"]


def may_have_seen(checkpoint: Mapping[str, Any], data: FaceData) -> bool:
    """Whether faces of val or test may have been training faces of a checkpoint: of another version or fold of the set.

    Not so where both have the published split, which is the same in every copy: a checkpoint that does not state how
    many faces it was trained on is taken to have it. On sets of other names nothing is known, and False.
    """
    if not is_other_version(checkpoint, data):
        return False
    facts, counts = dataset_facts(checkpoint["dataset"]), (checkpoint.get("data") or {}).get("counts")
    return not (is_published(data.counts(), data.facts) and (counts is None or is_published(counts, facts)))


def is_published(counts: Mapping[str, Sequence[int]], facts: DatasetFacts) -> bool:
    """Whether val and test are those that were published, or lack few of their faces and have no others."""
    published = facts.official_counts or {}
    if not {*HELD_OUT} <= published.keys():
        return False
    found, whole = (np.array([each[split] for split in HELD_OUT]) for each in (counts, published))
    return found.shape == whole.shape and bool((found <= whole).all() and found.sum() >= COMPLETE * whole.sum())
