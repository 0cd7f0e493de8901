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

NO_IMAGE = np.zeros((0, 0, 0), np.uint8)


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
    """Decodes `faces` into a temporary folder that is moved to `folder` when it is whole.

    images.bin holds the pixels uint8 N×H×W×C, columns.npz the rest, facts.json shape and fingerprint.
    """
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    temporary.mkdir(parents=True)
    bar = tqdm(faces, desc=f"reading {facts.title}", unit=" faces", disable=not facts.places)  # drawing has its own bar
    try:
        columns = write_images(temporary / "images.bin", bar)
        np.savez(temporary / "columns.npz", allow_pickle=False, **columns)
        shape = [len(columns["labels"]), facts.size, facts.size, facts.channels]
        fingerprint = hashlib.blake2b(digest_size=16)
        fingerprint.update(np.memmap(temporary / "images.bin", np.uint8, "r").data)
        for name in ("labels", "splits"):
            fingerprint.update(columns[name].data)
        (temporary / "facts.json").write_text(json.dumps({"shape": shape, "fingerprint": fingerprint.hexdigest()}))
        move_folder(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_images(path: Path, faces: Iterable[Face]) -> dict[str, np.ndarray]:
    """Appends the images to `path`, one after the other, and returns the rest of the faces as columns."""
    rest: list[Face] = []
    with path.open("wb") as file:
        for face in faces:
            file.write(face.image.tobytes())
            rest.append(face._replace(image=NO_IMAGE))
    first = rest[0]
    columns = {
        "labels": np.array([face.label for face in rest], dtype=np.int64),
        "splits": np.array([SPLITS.index(face.split) for face in rest], dtype=np.int64),
        "names": np.array([face.name for face in rest]),
    }
    if first.subject >= 0:
        columns["subjects"] = np.array([face.subject for face in rest], dtype=np.int64)
    if first.votes is not None:
        columns["votes"] = np.array([face.votes for face in rest])
    if first.evidence is not None:
        columns["evidence"] = np.array([face.evidence for face in rest])
    return columns


def move_folder(temporary: Path, folder: Path) -> None:
    """Moves a cache into place, unless another process has made the same one meanwhile."""
    try:
        temporary.replace(folder)
    except OSError:
        if not folder.exists():
            raise


def read_cache(folder: Path, dataset: str) -> FaceData:
    """The data set in `folder`, its images memory-mapped."""
    facts = json.loads((folder / "facts.json").read_text())
    # "c": changes stay in memory; torch warns of read-only arrays
    images = np.memmap(folder / "images.bin", np.uint8, "c", shape=tuple(facts["shape"]))
    with np.load(folder / "columns.npz") as columns:
        return FaceData(dataset, images, fingerprint=facts["fingerprint"], **columns)
