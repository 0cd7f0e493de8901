"""Known copies of data sets: every face by a perceptual hash, so that moved, relabelled and lost faces can be named.

python -m ferlib.data.audit.known --outputs-dir outputs --fingerprint DIGITS    writes FER2013's from a cached copy
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ferlib.data.audit.findings import Finding, share
from ferlib.data.audit.quality import quantiles_of
from ferlib.data.cache import find_cached
from ferlib.data.face_data import FaceData
from ferlib.data.facts import SPLITS
from ferlib.data.perceptual_hash import nearest_hashes, perceptual_hashes
from ferlib.data.picture_quality import FLAT, MEASURES, measure_pictures
from ferlib.runtime.arrays import read_npz
from ferlib.runtime.errors import UserError, run_script
from ferlib.runtime.files import atomic_path
from ferlib.runtime.words import enumerate_words

TABLES = {  # data set → its known copy; FER+ has the faces of FER2013, and labels of its own
    "fer2013": "fer2013", "ferplus": "fer2013", "ferplus8": "fer2013"
}  # fmt: skip
FINGERPRINTS = {  # of decoded copies that are the known one in another form
    "64768b47a4c3336a91e0cb3631a7e10b": "FER2013 as Kaggle's image folders (JPEG)",
    "a2c62d8aec1fdfffb8e0107ffc7d947e": "FER2013 as the Kaggle CSV, its 177 rows without a face decoded from JPEG",
}
RECOGNISED = 6  # bits of 64 in which a picture may differ from a known one; JPEG and scaling change 4 at most
FEW, MANY = 0.005, 0.5  # share of the faces from which a difference is one, and from which the set is another one


@dataclass(frozen=True)
class KnownCopy:
    """The faces of a copy that is good."""

    title: str
    hashes: np.ndarray  # uint64 M
    splits: np.ndarray  # int64 M, index into SPLITS
    labels: np.ndarray  # int64 M, index into the classes
    quality: dict[str, np.ndarray]  # measure → float32 101 quantiles
    own_labels: bool = True  # whether the labels are those of the data set that is audited


def known_copy(dataset: str) -> KnownCopy | None:
    """The known copy of a data set, from its table in this package; None where there is none."""
    if dataset not in TABLES:
        return None
    arrays = read_npz(table_path(TABLES[dataset]), ("hashes", "splits", "labels"))
    splits, labels = (arrays[name].astype(np.int64) for name in ("splits", "labels"))
    quality = {name: arrays[name] for name in MEASURES}
    return KnownCopy(str(arrays["title"]), arrays["hashes"], splits, labels, quality, dataset == TABLES[dataset])


def table_path(name: str) -> Path:
    """The table of a known copy."""
    return Path(__file__).with_name("known_copies") / f"{name}.npz"


def make_known(data: FaceData, title: str) -> KnownCopy:
    """A set as a known copy; pictures of one grey level have no hash and are left out."""
    measures = measure_pictures(data.images)
    rows = np.flatnonzero(measures["contrast"] >= FLAT)
    faces = data.select(rows)
    return KnownCopy(title, perceptual_hashes(faces.images), faces.splits, faces.labels, quantiles_of(measures))


def write_known(path: Path, known: KnownCopy) -> None:
    """Writes the table of a known copy."""
    arrays: dict[str, Any] = {
        "title": np.array(known.title),
        "hashes": known.hashes,
        "splits": known.splits.astype(np.uint8),
        "labels": known.labels.astype(np.uint8),
        **known.quality,
    }
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **arrays)


# ── comparison ───────────────────────────────────────────────────────────────────────────────────────────────────────


def compare_with_known(data: FaceData, known: KnownCopy, contrast: np.ndarray) -> dict[str, Any]:
    """Which faces of a set are known, stand in another split, have another label; which known ones are missing.

    contrast: float32 N, standard deviation of each picture; those of one grey level are not compared. A picture is
    known if its hash differs in RECOGNISED bits at most from a known one; where several are equally near, as copies
    are, it may have the split and label of any of them.
    """
    rows = np.flatnonzero(contrast >= FLAT)
    hashes, inverse = np.unique(known.hashes, return_inverse=True)
    masks = np.zeros(len(hashes), np.uint64)  # bits: splits, then labels from the 8th bit on
    marks = (1 << known.splits.astype(np.uint64)) | (1 << (8 + known.labels).astype(np.uint64))
    np.bitwise_or.at(masks, inverse, marks)
    distances, found = nearest_hashes(perceptual_hashes(data.images[rows]), hashes, masks)
    recognised = distances <= RECOGNISED
    splits, labels = data.splits[rows], data.labels[rows]
    in_place = (found >> splits.astype(np.uint64)) & np.uint64(1) > 0
    as_labelled = (found >> (8 + labels).astype(np.uint64)) & np.uint64(1) > 0
    moved = recognised & ~in_place
    relabelled = recognised & ~as_labelled if known.own_labels else np.zeros(len(rows), bool)
    return {
        "copy": known.title,
        "fingerprint_of": FINGERPRINTS.get(data.fingerprint),
        "compared": len(rows),
        "recognised": int(recognised.sum()),
        "moved": moves(found[moved], splits[moved]),
        "relabelled": int(relabelled.sum()),
        "missing": missing(data, known, rows[recognised]),
        "own_labels": known.own_labels,
    }


def moves(masks: np.ndarray, splits: np.ndarray) -> dict[str, int]:
    """Faces by the split of the known copy and that in which they stand, as "test → train", each counted once.

    Where several known pictures are equally near, all their splits are named, as in "val or test → train".
    """
    origins = masks & np.uint64((1 << len(SPLITS)) - 1)
    found: dict[str, int] = {}
    for mask in np.unique(origins):
        names = " or ".join(split for code, split in enumerate(SPLITS) if int(mask) >> code & 1)
        for other, name in enumerate(SPLITS):
            if count := int(((origins == mask) & (splits == other)).sum()):
                found[f"{names} → {name}"] = count
    return found


def missing(data: FaceData, known: KnownCopy, rows: np.ndarray) -> dict[str, int]:
    """Split → how many more faces of the known copy there are than recognised ones of the set, if any."""
    lost = {}
    for code, split in enumerate(SPLITS):
        count = int((known.splits == code).sum() - (data.splits[rows] == code).sum())
        if count > 0:
            lost[split] = count
    return lost


def judge_known(facts: dict[str, Any]) -> list[Finding]:
    """Whether a set is the known copy: its faces, their splits and labels."""
    compared, recognised = facts["compared"], facts["recognised"]
    strangers, moved = compared - recognised, facts["moved"]
    title = facts["copy"]
    if recognised < MANY * compared:
        return [Finding("known faces", "error", f"only {share(recognised, compared)} pictures are those of {title}")]
    found = []
    if strangers >= FEW * compared:
        text = f"{share(strangers, compared)} pictures are not among those of {title}, or are much altered"
        found.append(Finding("known faces", "error", text))
    if sum(moved.values()) >= FEW * compared:
        parts = enumerate_words([f"{count:,} from {pair.replace(' → ', ' to ')}" for pair, count in moved.items()])
        text = (
            f"the set was split anew: {sum(moved.values()):,} faces stand in another split than in {title} ({parts}); "
            "figures are not those on its test part"
        )
        found.append(Finding("known splits", "error", text))
    if facts["relabelled"] >= FEW * compared:
        text = f"{share(facts['relabelled'], recognised)} recognised faces have another label than in {title}"
        found.append(Finding("known labels", "error", text))
    if facts["own_labels"] and not strangers >= FEW * compared and sum(facts["missing"].values()) >= FEW * compared:
        parts = enumerate_words([f"{count:,} in {split}" for split, count in facts["missing"].items()])
        found.append(Finding("known faces", "error", f"faces of {title} are missing: {parts}"))
    what = "faces, splits and labels" if facts["own_labels"] else "faces and splits"
    exact = f"; the fingerprint is that of {facts['fingerprint_of']}" if facts["fingerprint_of"] else ""
    return found or [Finding("known faces", "ok", f"{what} are those of {title}{exact}")]


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the table of FER2013 from a copy that a stage has cached."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--outputs-dir", type=Path, default=Path("outputs"), help="folder whose cache has the copy")
    parser.add_argument("--fingerprint", required=True, help="of the copy, as its audit names it")
    parser.add_argument("--title", default="the FER2013 of the Kaggle challenge", help="how findings call it")
    flags = parser.parse_args(arguments)
    data = find_cached("fer2013", flags.outputs_dir, flags.fingerprint)
    if data is None:
        raise UserError(f"no FER2013 of fingerprint {flags.fingerprint} is cached in {flags.outputs_dir}")
    write_known(table_path("fer2013"), make_known(data, flags.title))


if __name__ == "__main__":
    run_script(main)
