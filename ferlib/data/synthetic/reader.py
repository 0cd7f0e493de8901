"""The drawn faces as a data set."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from tqdm import tqdm

from ferlib.data.facts import SPLITS, DatasetFacts
from ferlib.data.readers.face_files import Face
from ferlib.data.synthetic.faces import draw_faces


def synthetic_faces(facts: DatasetFacts, count: int, subjects: int) -> Iterator[Face]:
    """`count` faces of `subjects` people: 70 % of the people for train, 15 % for val, 15 % for test."""
    with tqdm(total=count, desc="drawing synthetic faces", unit=" faces") as bar:
        drawn = draw_faces(count, facts.size, subjects=subjects, progress=bar.update)
    bounds = np.array([0.70, 0.85]) * subjects
    splits = np.searchsorted(bounds, drawn.subjects, side="right")
    for row in np.argsort(splits, kind="stable"):
        subject = int(drawn.subjects[row])
        name = f"subject_{subject:03d}_face_{row:04d}"
        yield Face(drawn.images[row], int(drawn.labels[row]), SPLITS[splits[row]], name, subject, drawn.evidence[row])
