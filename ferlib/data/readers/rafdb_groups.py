"""Groups of the people in RAF-DB, as its annotators gave them in the archive of its authors; never guessed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ferlib.data.readers.tables import lines_of, open_text
from ferlib.data.readers.trees import Tree
from ferlib.runtime.errors import UserError

ATTRIBUTES = re.compile(r"([^/]+)_manu_attri\.txt$", re.I)  # Annotation/manual/test_0001_manu_attri.txt
LANDMARKS = 5  # lines of two coordinates, before a line with a code for each of GROUPS
GROUPS = (
    ("gender", ("male", "female", "gender unsure")),
    ("race", ("Caucasian", "African-American", "Asian")),
    ("age", ("0 to 3 years", "4 to 19 years", "20 to 39 years", "40 to 69 years", "70 years and older")),
)  # by the codes 0, 1, … of its authors: Li, Deng & Du, "Reliable crowdsourcing …", 2017


def read_groups(tree: Tree, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Group → bool N, which of the faces of these names are in it; empty where the tree has no attributes.

    A face without a file of attributes is in no group. UserError for a file that holds other than LANDMARKS lines and
    a code for each of GROUPS.
    """
    paths = {match[1].lower(): path for path in tree.paths if (match := ATTRIBUTES.search(path))}
    if not paths:
        return {}
    found = {group: np.zeros(len(names), bool) for _, groups in GROUPS for group in groups}
    for place, name in enumerate(names):
        path = paths.get(Path(name).stem.lower().removesuffix("_aligned"))
        if path is not None:
            for group in parse_attributes(tree, path):
                found[group][place] = True
    return found


def parse_attributes(tree: Tree, path: str) -> list[str]:
    """The groups of one face."""
    with open_text(tree, path) as file:
        lines = [line.split() for line in lines_of(file) if line.strip()]
    codes = [words[0] if len(words) == 1 else "" for words in lines[LANDMARKS:]]
    known = [[str(code) for code in range(len(groups))] for _, groups in GROUPS]
    if len(codes) != len(GROUPS) or any(code not in allowed for code, allowed in zip(codes, known, strict=True)):
        raise UserError(
            f"{tree.locate(path)} does not hold {LANDMARKS} lines of landmarks and a code each of gender, race and age"
        )
    return [groups[int(code)] for code, (_, groups) in zip(codes, GROUPS, strict=True)]
