"""The decoded cache: a data set as one memory-mapped array of images and its columns."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ferlib.data.face_data import FaceData
from ferlib.data.facts import SPLITS, DatasetFacts
from ferlib.data.readers.face_files import Face
from ferlib.runtime.runs import cache_dir, slug


def find_cached(dataset: str, outputs_dir: Path, fingerprint: str, fold: int = 0) -> FaceData | None:
    """The data set as a stage cached it, whatever its source: the cache with this fingerprint, None if it is gone."""
    for folder in sorted(cache_dir(outputs_dir).glob(f"{slug(dataset)}-{16 * '?'}")):
        data = read_cache(folder, dataset)
        if fold or data.fingerprint != fingerprint:
            data = data.in_fold(fold)
        if data.fingerprint == fingerprint:
            return data
    return None


def write_cache(folder: Path, faces: Iterable[Face], facts: DatasetFacts) -> None:
    """Decodes into a temporary folder that is moved into place when it is whole."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    temporary.mkdir(parents=True)
    bar = tqdm(faces, desc=f"reading {facts.title}", unit=" faces", disable=not facts.places)  # drawing has its own bar
    try:
        columns = write_images(temporary / "images.bin", bar)
        columns["splits"] = np.array([SPLITS.index(split) for split in columns["splits"]], dtype=np.int64)
        fingerprint = hashlib.blake2b(digest_size=16)
        for array in (np.memmap(temporary / "images.bin", np.uint8, "r"), columns["labels"], columns["splits"]):
            fingerprint.update(array)
        np.savez(temporary / "columns.npz", **columns)
        shape = [len(columns["labels"]), facts.size, facts.size, facts.channels]
        (temporary / "facts.json").write_text(json.dumps({"shape": shape, "fingerprint": fingerprint.hexdigest()}))
        move_folder(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_images(path: Path, faces: Iterable[Face]) -> dict[str, np.ndarray]:
    """Appends the images to `path`, one after the other, and returns the rest of the faces as columns."""
    labels, splits, names, subjects, votes, evidence = [], [], [], [], [], []
    with open(path, "wb") as file:
        for face in faces:
            file.write(face.image.tobytes())
            labels.append(face.label)
            splits.append(face.split)
            names.append(face.name)
            subjects.append(face.subject)
            votes.append(face.votes)
            evidence.append(face.evidence)
    columns = {"labels": np.array(labels, dtype=np.int64), "splits": splits, "names": np.array(names)}
    if subjects[0] >= 0:
        columns["subjects"] = np.array(subjects, dtype=np.int64)
    if votes[0] is not None:
        columns["votes"] = np.stack(votes)
    if evidence[0] is not None:
        columns["evidence"] = np.stack(evidence)
    return columns


def move_folder(temporary: Path, folder: Path) -> None:
    try:
        os.replace(temporary, folder)
    except OSError:  # another process made the same cache meanwhile
        if not folder.exists():
            raise


def read_cache(folder: Path, dataset: str) -> FaceData:
    facts = json.loads((folder / "facts.json").read_text())
    images = np.memmap(folder / "images.bin", np.uint8, "c", shape=tuple(facts["shape"]))  # torch wants it writable
    with np.load(folder / "columns.npz") as columns:
        return FaceData(dataset, images, fingerprint=facts["fingerprint"], **columns)
