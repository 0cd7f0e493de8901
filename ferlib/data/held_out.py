"""Whether a network may have been trained on faces that are held out in the data set that it is used with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ferlib.data.face_data import FaceData


def is_other_version(checkpoint: Mapping[str, Any], data: FaceData) -> bool:
    """Whether a checkpoint was trained on the data set of that name in another version or fold, or it is not known.

    checkpoint: its content beside the weights, with `dataset` and, in `identity`, the `fingerprint` of the faces.
    """
    trained = (checkpoint.get("identity") or {}).get("fingerprint")
    return checkpoint.get("dataset") == data.dataset and trained != data.fingerprint


def may_have_seen(checkpoint: Mapping[str, Any], data: FaceData) -> bool:
    """Whether faces of val or test may have been training faces of a checkpoint: of another version or fold of the set.

    A published split is the same in every copy of a set; on sets of other names nothing is known, and False.
    """
    return is_other_version(checkpoint, data) and not has_published_split(data)


def has_published_split(data: FaceData) -> bool:
    """Whether val and test are those that were published, or a part of them: as many faces of each class, or fewer."""
    published, counts = data.facts.official_counts or {}, data.counts()
    held_out = [split for split in published if split != "train"]
    return bool(held_out) and all(np.less_equal(counts[split], published[split]).all() for split in held_out)
