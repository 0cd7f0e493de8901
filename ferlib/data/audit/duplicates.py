"""Copies within and between splits: of the same pixels, and near copies; labels that contradict each other."""

from __future__ import annotations

from typing import Any

import numpy as np

from ferlib.data.audit.findings import Finding, share
from ferlib.data.copies import copy_numbers
from ferlib.data.face_data import FaceData
from ferlib.data.facts import SPLITS
from ferlib.data.leaks import Leaks
from ferlib.data.near_copies import BLOCKS, BLOCKS_ALIKE, PIXELS_ALIKE, NearCopies
from ferlib.runtime.terminal import counted
from ferlib.runtime.words import enumerate_words

LEAST = 0.01  # share of the faces of val or test from which copies in train invalidate a result
EXAMPLES = 500  # pairs and groups that the audit's file lists at most


def exact_copies(data: FaceData) -> dict[str, Any]:
    """Pictures of the same pixels: how many, within and between the splits, and with contradicting labels.

    faces_with_copy: split → split → faces of the first that have a copy in the second, or another one in their own.
    """
    numbers = copy_numbers(data)
    sizes = np.bincount(numbers)
    labels = np.zeros((len(sizes), len(data.classes)), bool)
    labels[numbers, data.labels] = True
    conflicting = labels.sum(1) > 1
    found = copied_faces(numbers, data.splits)
    return {
        "unique": len(sizes),
        "groups": int((sizes > 1).sum()),
        "largest_group": int(sizes.max()),
        "faces_with_copy": split_table(found, data.splits),
        "by_class": {
            f"{split} in train": np.bincount(
                data.labels[found["train"] & (data.splits == code)], minlength=len(data.classes)
            ).tolist()
            for code, split in enumerate(SPLITS)
            if split != "train"
        },
        "conflicting_groups": int(conflicting.sum()),
        "conflicting_faces": int(conflicting[numbers].sum()),
        "conflicts": [
            [describe_face(data, row) for row in np.flatnonzero(numbers == number)]
            for number in np.flatnonzero(conflicting)[:EXAMPLES]
        ],
    }


def copied_faces(numbers: np.ndarray, splits: np.ndarray) -> dict[str, np.ndarray]:
    """Split → bool N: faces that have a copy in it, other than themselves; `numbers` N are the same for copies."""
    counts = np.zeros((numbers.max() + 1, len(SPLITS)), np.int64)
    np.add.at(counts, (numbers, splits), 1)
    own = np.eye(len(SPLITS), dtype=np.int64)[splits]
    return dict(zip(SPLITS, ((counts[numbers] - own) > 0).T, strict=True))


def split_table(found: dict[str, np.ndarray], splits: np.ndarray) -> dict[str, dict[str, int]]:
    """Split → split → the faces of the first that are marked for the second."""
    return {
        split: {other: int(marked[splits == code].sum()) for other, marked in found.items()}
        for code, split in enumerate(SPLITS)
    }


def near_copies(data: FaceData, pairs: NearCopies) -> dict[str, Any]:
    """Pairs of pictures that are alike, and the faces that have one in a split, copies of the same pixels included."""
    found, numbers = either_copies(data, pairs), copy_numbers(data)
    order = np.argsort(pairs.blocks, kind="stable")[:EXAMPLES]
    return {
        "method": f"correlation of {BLOCKS}×{BLOCKS} block means above {BLOCKS_ALIKE}, of pixels above {PIXELS_ALIKE}",
        "pairs": len(pairs),
        "mirrored": int(pairs.mirrored.sum()),
        "other_label": int(differ_in_labels(data, numbers, pairs).sum()),
        "pictures": len(np.unique(numbers[np.concatenate([pairs.first, pairs.second])])),
        "faces_with_copy": split_table(found, data.splits),
        "faces_with_unmirrored_copy": split_table(either_copies(data, pairs.select(~pairs.mirrored)), data.splits),
        "weakest": [
            {
                "faces": [describe_face(data, pairs.first[pair]), describe_face(data, pairs.second[pair])],
                "blocks": round(float(pairs.blocks[pair]), 4),
                "pixels": round(float(pairs.pixels[pair]), 4),
                "mirrored": bool(pairs.mirrored[pair]),
            }
            for pair in order
        ],
    }


def differ_in_labels(data: FaceData, numbers: np.ndarray, pairs: NearCopies) -> np.ndarray:
    """bool P: pairs of which not all faces, copies of the same pixels included, have one label.

    numbers: int64 N, the same for copies of the same pixels.
    """
    has = np.zeros((numbers.max() + 1, len(data.classes)), bool)
    has[numbers, data.labels] = True
    return (has[numbers[pairs.first]] | has[numbers[pairs.second]]).sum(1) > 1


def either_copies(data: FaceData, pairs: NearCopies) -> dict[str, np.ndarray]:
    """Split → bool N: faces that have a copy of the same pixels or a near copy in it."""
    numbers = copy_numbers(data)
    exact = copied_faces(numbers, data.splits)
    holds = np.zeros((numbers.max() + 1, len(SPLITS)), bool)  # splits in which a picture stands
    holds[numbers, data.splits] = True
    beside = np.zeros_like(holds)  # splits in which a near copy of it stands
    for one, other in ((pairs.first, pairs.second), (pairs.second, pairs.first)):
        np.logical_or.at(beside, numbers[one], holds[numbers[other]])
    return {split: exact[split] | beside[numbers, code] for code, split in enumerate(SPLITS)}


def describe_face(data: FaceData, row: int | np.integer) -> dict[str, Any]:
    """A face by its name, split and label, for JSON."""
    return {
        "name": str(data.names[row]),
        "split": SPLITS[data.splits[row]],
        "label": data.classes[data.labels[row]],
    }


# ── findings ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def leak_facts(data: FaceData, pairs: NearCopies, leaks: Leaks) -> dict[str, Any]:
    """Training faces that stand in val or test, and the faces of val and test that stand in train."""
    numbers = copy_numbers(data)
    exact, either = copied_faces(numbers, data.splits)["train"], either_copies(data, pairs)["train"]
    sizes = np.bincount(data.splits, minlength=len(SPLITS)).tolist()
    return {
        "train": {**leaks.numbers(), "of": sizes[0]},
        **{
            split: {
                "faces": int(either[data.splits == code].sum()),
                "exact": int(exact[data.splits == code].sum()),
                "of": sizes[code],
            }
            for code, split in enumerate(SPLITS)
            if split != "train"
        },
    }


def judge_leaks(leaks: dict[str, Any], excluded: dict[str, Any] | None) -> list[Finding]:
    """Whether faces of val or test stand in train; excluded: what --exclude-leaks has left out before."""
    found = []
    for split in ("test", "val"):
        facts = leaks[split]
        if facts["faces"]:
            level = "error" if facts["faces"] >= LEAST * facts["of"] else "warning"
            text = (
                f"{share(facts['faces'], facts['of'])} faces of {split} stand in train, {facts['exact']:,} of them "
                f"pixel by pixel: {'a figure on test' if split == 'test' else 'what is chosen on val'} is biased; "
                "train with --exclude-leaks, or cite the figure without copies"
            )
            found.append(Finding("leaks", level, text))
    if not found:
        left_out = (
            f", after {counted(excluded['faces'], 'training face was', 'training faces were')} left out"
            if excluded
            else ""
        )
        found.append(Finding("leaks", "ok", f"no face of val or test, nor a near copy, stands in train{left_out}"))
    return found


def judge_conflicts(copies: dict[str, Any], near: dict[str, Any]) -> list[Finding]:
    """Whether copies have the same label."""
    groups, pairs = copies["conflicting_groups"], near["other_label"]
    if not groups and not pairs:
        return [Finding("labels of copies", "ok", "copies have the same label")]
    parts = [
        f"{counted(groups, 'picture occurs', 'pictures occur')} with different labels "
        f"({copies['conflicting_faces']:,} faces)"
        if groups
        else "",
        f"{counted(pairs, 'pair of near copies has', 'pairs of near copies have')} different labels" if pairs else "",
    ]
    advice = "; --conflicts drop or share says what training does with pictures of several labels" if groups else ""
    text = enumerate_words([part for part in parts if part]) + advice
    return [Finding("labels of copies", "warning", text)]


def judge_subjects(data: FaceData) -> tuple[dict[str, Any] | None, list[Finding]]:
    """People in two splits; None and no finding for sets that name no subjects."""
    if data.subjects is None:
        return None, []
    people = {split: set(data.subjects[data.splits == code].tolist()) for code, split in enumerate(SPLITS)}
    shared = {
        f"{one} and {other}": len(people[one] & people[other])
        for one, other in (("train", "val"), ("train", "test"), ("val", "test"))
    }
    facts = {"people": len(set.union(*people.values())), "shared": shared}
    if not any(shared.values()):
        return facts, [Finding("subjects", "ok", f"each of {facts['people']:,} people is in one split only")]
    parts = ", ".join(f"{count:,} in {pair}" for pair, count in shared.items() if count)
    return facts, [Finding("subjects", "error", f"people are in two splits: {parts}")]
