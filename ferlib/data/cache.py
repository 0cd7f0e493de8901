"""The decoded cache: a data set as one memory-mapped array of images and its columns, checked before it is used."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from tqdm import tqdm

from ferlib.data.face_data import FaceData
from ferlib.data.facts import SPLITS, DatasetFacts, dataset_facts
from ferlib.data.readers.face_files import Face
from ferlib.runtime.damage import NUMPY_DAMAGE
from ferlib.runtime.errors import UserError
from ferlib.runtime.files import check_writable, explain_unwritable, make_folder, temporary_path
from ferlib.runtime.notes import notes_collected, print_note
from ferlib.runtime.runs import cache_dir, slug
from ferlib.runtime.terminal import printable

NO_IMAGE = np.zeros((0, 0, 0), np.uint8)
IMAGES, COLUMNS, FACTS = FILES = ("images.bin", "columns.npz", "facts.json")
STAMP = "checked.json"  # size and times of each file when its content was last compared with its digest
SETTLED = 12  # milliseconds by which a stamp must be newer than the files: clocks of file systems are coarse
CHUNK = 1 << 22  # bytes hashed at once
LARGE = 1 << 32  # bytes of images from which hashing shows its progress


class DamagedCacheError(UserError):
    """A cache that is missing, cut short, or differs from what was written."""


def cached_faces(
    folder: Path, dataset: str, faces: Iterable[Face], size: int = 0, notes: Sequence[str] = ()
) -> FaceData:
    """The data set in the cache `folder`, which is made from `faces` where it is missing or damaged.

    size: bytes that the images take at least, 0 if unknown. notes: what was said of the source so far; the cache keeps
    it with what is said as it is made, such as files that are left out, and later calls say it again. Of several
    processes one makes the cache, the others wait.
    """
    with contextlib.suppress(DamagedCacheError):
        return read_aloud(folder, dataset)
    facts = dataset_facts(dataset)
    with one_process(folder, facts.title):
        try:
            return read_aloud(folder, dataset)  # another process may have made it meanwhile
        except DamagedCacheError as error:
            if os.path.lexists(folder):
                print(f"note: {printable(str(error))}; {facts.title} is read again", file=sys.stderr)
                remove(folder)
        write_cache(folder, faces, facts, size, notes)
        return read_cache(folder, dataset)


def read_aloud(folder: Path, dataset: str) -> FaceData:
    """As read_cache, and prints the notes that the cache keeps."""
    data = read_cache(folder, dataset)
    for note in read_facts(folder).get("notes", ()):
        print_note(note)
    return data


def find_cached(dataset: str, outputs_dir: Path, fingerprint: str, fold: int = 0) -> FaceData | None:
    """The data set as a stage cached it, whatever its source: the cache with this fingerprint, None if it is gone."""
    for folder in sorted(cache_dir(outputs_dir).glob(f"{slug(dataset)}-{16 * '?'}")):
        with contextlib.suppress(UserError):  # damaged, or without folds
            whole = open_cache(folder, dataset)
            data = whole.in_fold(fold) if fold or whole.fingerprint != fingerprint else whole
            if data.fingerprint == fingerprint:
                check_content(folder, whole)
                return data
    return None


# ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def one_process(folder: Path, title: str) -> Iterator[None]:
    """Holds the lock of a cache while the block runs, after waiting for another process that holds it."""
    path = folder.with_name(f".{folder.name}.lock")
    with explain_unwritable(folder):
        make_folder(path.parent)
        lock = FileLock(path)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            print(f"note: waiting for another process that reads {title}", file=sys.stderr)
            lock.acquire()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # who waits for a removed file gets a lock of its own: caches stay whole
            path.unlink()
        lock.release()


def remove(folder: Path) -> None:
    """Removes a damaged cache, or the file in its place."""
    with explain_unwritable(folder):
        if folder.is_dir() and not folder.is_symlink():
            shutil.rmtree(folder)
        else:
            folder.unlink()


def write_cache(
    folder: Path, faces: Iterable[Face], facts: DatasetFacts, size: int = 0, notes: Sequence[str] = ()
) -> None:
    """Decodes `faces` into a temporary folder that is moved to `folder` when it is whole and on the disk.

    images.bin holds the pixels uint8 N×H×W×C, columns.npz the rest, facts.json shape, fingerprint, digest and notes.
    size: bytes that the images take at least. UnwritableError where the disk is full or read-only.
    """
    temporary = temporary_path(folder.with_name(folder.name.replace(".", "_")))  # a folder has no ending
    if not folder.is_dir():
        check_writable(folder, size)
    bar = tqdm(faces, desc=f"reading {facts.title}", unit=" faces", disable=not facts.places)  # drawing has its own bar
    try:
        with explain_unwritable(
            folder
        ):  # inside, so that the error says how much was free before the files are removed
            temporary.mkdir()
            with notes_collected() as said:
                columns = write_images(temporary / IMAGES, bar)
            np.savez(temporary / COLUMNS, **columns)  # type: ignore[arg-type]
            content = {
                "shape": [len(columns["labels"]), facts.size, facts.size, facts.channels],
                "fingerprint": fingerprint_of(temporary / IMAGES, columns["labels"], columns["splits"]),
                "columns": digest_of(temporary / COLUMNS),
                "notes": list(dict.fromkeys([*notes, *said])),
            }
            (temporary / FACTS).write_text(json.dumps(content))
            for name in FILES:
                synchronise(temporary / name)
            write_stamp(temporary)
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


def synchronise(path: Path) -> None:
    """Waits until a file's content, or a folder's entries, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def move_folder(temporary: Path, folder: Path) -> None:
    """Moves a cache into place, unless there is one, as where the file system has no locks."""
    try:
        temporary.replace(folder)
        if os.name != "nt":  # Windows opens no folders
            synchronise(folder.parent)
    except OSError:
        if not folder.is_dir():
            raise


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def read_cache(folder: Path, dataset: str) -> FaceData:
    """The data set in `folder`, its images memory-mapped; DamagedCacheError for a cache that is not as written.

    Sizes, shapes and ranges are checked each time, the content once for each state of the files.
    """
    data = open_cache(folder, dataset)
    check_content(folder, data)
    return data


def open_cache(folder: Path, dataset: str) -> FaceData:
    """The data set in `folder`, its content not yet compared with the digests."""
    facts = dataset_facts(dataset)
    with damage_explained(folder):
        written = read_facts(folder)
        shape = tuple(written["shape"])
        if shape[1:] != (facts.size, facts.size, facts.channels) or shape[0] < 1:
            raise ValueError(f"{FACTS} names images of another shape")
        if (folder / IMAGES).stat().st_size != math.prod(shape):
            raise ValueError(f"{IMAGES} has another size than its {shape[0]:,} images")
        with np.load(folder / COLUMNS, allow_pickle=False) as archive:
            columns = dict(archive)
        check_columns(columns, shape[0], facts)
        # "c": changes stay in memory; torch warns of read-only arrays
        images = np.memmap(folder / IMAGES, np.uint8, "c", shape=shape)
        return FaceData(dataset, images, fingerprint=written["fingerprint"], **columns)


def read_facts(folder: Path) -> dict:
    """The content of facts.json: shape, fingerprint and, but in caches of earlier versions, a digest and notes."""
    written = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    shape = written["shape"]
    notes = written.get("notes", [])
    kinds = [*map(type, shape), type(written["fingerprint"]), type(notes), *map(type, notes)]
    if kinds != [int] * 4 + [str, list] + [str] * len(notes):
        raise ValueError(f"{FACTS} is not as it was written")
    return written


def check_columns(columns: dict[str, np.ndarray], count: int, facts: DatasetFacts) -> None:
    """ValueError unless all columns are there, of their types and shapes, and in their ranges."""
    kinds: dict[str, tuple[str, tuple[int, ...], float]] = {  # kind of the values, shape of one, largest
        "labels": ("i", (), len(facts.classes) - 1),
        "splits": ("i", (), len(SPLITS) - 1),
        "names": ("U", (), 0),
        "subjects": ("i", (), math.inf),
        "votes": ("f", (len(facts.classes),), 1),
        "evidence": ("u", (facts.size, facts.size), 255),
    }
    if missing := {"labels", "splits", "names"} - set(columns):
        raise ValueError(f"{COLUMNS} lacks {', '.join(sorted(missing))}")
    for name, values in columns.items():
        kind, shape, largest = kinds[name]
        if values.dtype.kind != kind or values.shape != (count, *shape):
            raise ValueError(f"{COLUMNS} holds {name} of another kind or number")
        if kind != "U" and not ((values >= 0) & (values <= largest)).all():  # False for NaN
            raise ValueError(f"{COLUMNS} holds {name} out of their range")


def check_content(folder: Path, data: FaceData) -> None:
    """Compares the files with their digests, unless they are as they were when that was last done."""
    with damage_explained(folder):
        if is_stamped(folder):
            return
        if read_facts(folder).get("columns", digest_of(folder / COLUMNS)) != digest_of(folder / COLUMNS):
            raise ValueError(f"{COLUMNS} is not as it was written")
        if fingerprint_of(folder / IMAGES, data.labels, data.splits) != data.fingerprint:
            raise ValueError(f"{IMAGES} is not as it was written")
    with contextlib.suppress(OSError):  # a cache that cannot be written is compared each time
        write_stamp(folder)


@contextlib.contextmanager
def damage_explained(folder: Path) -> Iterator[None]:
    """Turns whatever a damaged cache raises into a DamagedCacheError; UserError where it may not be read."""
    try:
        yield
    except PermissionError as error:
        raise UserError(f"{error.filename} cannot be read: {error.strerror}; change its permissions") from error
    except NUMPY_DAMAGE as error:
        reason = f"{Path(error.filename).name} is missing" if isinstance(error, FileNotFoundError) else str(error)
        raise DamagedCacheError(f"the cache {folder} is damaged ({reason or type(error).__name__})") from error


def fingerprint_of(images: Path, labels: np.ndarray, splits: np.ndarray) -> str:
    """A digest of the images, labels and splits of a data set."""
    return digest_of(images, labels, splits, size=16)


def digest_of(path: Path, *arrays: np.ndarray, size: int = 32) -> str:
    """BLAKE2b of a file's content followed by the arrays', in hexadecimal digits; in the memory of a chunk."""
    state, total = hashlib.blake2b(digest_size=size), path.stat().st_size
    bar = tqdm(desc=f"checking {path}", total=total, unit="B", unit_scale=True, disable=total < LARGE)
    with path.open("rb") as file, bar:
        while chunk := file.read(CHUNK):
            state.update(chunk)
            bar.update(len(chunk))
    for array in arrays:
        state.update(np.ascontiguousarray(array).data)
    return state.hexdigest()


# ── what was checked last ────────────────────────────────────────────────────────────────────────────────────────────


def states(folder: Path) -> dict[str, list[int]]:
    """Size and times of each file; one of them changes when a file is written or replaced."""
    facts = {name: (folder / name).stat() for name in FILES}
    return {name: [of.st_size, of.st_mtime_ns, of.st_ctime_ns] for name, of in facts.items()}


def write_stamp(folder: Path) -> None:
    """Records that the files, as they are now, have the content that was written."""
    temporary = temporary_path(folder / STAMP)
    time.sleep(2 * SETTLED / 1000)
    try:
        temporary.write_text(json.dumps(states(folder)))
        temporary.replace(folder / STAMP)
    finally:
        temporary.unlink(missing_ok=True)


def is_stamped(folder: Path) -> bool:
    """Whether the files are as they were when their content was last compared, and were no longer being written."""
    try:
        stamp = json.loads((folder / STAMP).read_text(encoding="utf-8"))
        written = (folder / STAMP).stat().st_mtime_ns
        found = states(folder)
        return stamp == found and all(max(times) + SETTLED * 1e6 < written for _, *times in found.values())
    except (OSError, ValueError, RecursionError):
        return False
