"""The layouts in which people have each data set, read into faces: folders, zip archives, CSV files."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
import threading
import zipfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from config import EMOTIONS, SPLITS, DatasetFacts
from utils import UserError

ALIASES = {"anger": "Angry", "happiness": "Happy", "sadness": "Sad", "surprised": "Surprise", "disgusted": "Disgust",
           "fearful": "Fear"}  # fmt: skip
FER2013_EMOTIONS = ("Angry", "Disgust", "Fear", "Happy", "Sad", "Surprise", "Neutral")  # codes 0..6
FER2013_USAGES = {"Training": "train", "PublicTest": "val", "PrivateTest": "test"}
FER2013_FACE = re.compile(r"(?:^|/)(?:train|test)/(?P<emotion>[^/]+)/(?P<usage>[^/_]+)[^/]*\.(?:jpe?g|png)$", re.I)
FER_PLUS = "fer2013new.csv"  # the votes of ten annotators, aligned by row with the Kaggle CSV
FER_PLUS_COLUMNS = ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")  # as EMOTIONS
RAFDB_EMOTIONS = ("Surprise", "Fear", "Disgust", "Happy", "Sad", "Angry", "Neutral")  # folders and codes 1..7
RAFDB_FACE = re.compile(r"(?:^|/)(?P<split>train|test)/(?P<code>\d+)/[^/]+\.(?:jpe?g|png)$", re.I)
RAFDB_LIST = "EmoLabel/list_patition_label.txt"  # spelled so by its authors
RAFDB_VOTES = re.compile(r"[^/]*distribution[^/]*\.(?:txt|csv)$", re.I)  # shares of about forty annotators


class Face(NamedTuple):
    """One face as a reader gives it."""

    image: np.ndarray  # uint8 H,W,C
    label: int
    split: str
    name: str
    subject: int = -1
    evidence: np.ndarray | None = None  # uint8 H,W
    votes: np.ndarray | None = None  # float32, one share per class of EMOTIONS


class FaceFile(NamedTuple):
    """Where a face lies in a tree and what the layout says of it."""

    path: str
    label: int
    split: str


# ── folders and archives alike ───────────────────────────────────────────────────────────────────────────────────────


class Tree:
    """The files below a folder, or a single file in it; paths are relative and use slashes."""

    def __init__(self, root: Path, only: tuple[str, ...] | None = None):
        self.root = root
        self.folder, self.only = (root, only) if root.is_dir() else (root.parent, (root.name, FER_PLUS))
        self.files = sorted(self._walk())
        self.paths = [path for path, *_ in self.files]

    def _walk(self) -> Iterator[tuple[str, int, int]]:
        """(path, size, time of change) of every file; at the top only the entries named in `only`."""
        entries = os.scandir(self.folder)
        pending = [(entry, entry.name) for entry in entries if self.only is None or entry.name in self.only]
        while pending:
            entry, path = pending.pop()
            if entry.is_dir():
                pending += [(child, f"{path}/{child.name}") for child in os.scandir(entry)]
            elif not entry.name.startswith("."):
                facts = entry.stat()
                yield path, facts.st_size, facts.st_mtime_ns

    def open(self, path: str) -> io.BufferedIOBase:
        return open(self.folder / path, "rb")

    def signature(self) -> str:
        """Changes when any file below is added, removed or written."""
        return digest(str(self.root.resolve()), self.files)


class ZipTree(Tree):
    """The files of a zip archive, read where they are."""

    def __init__(self, root: Path):
        self.root = root
        self._lock = threading.Lock()
        try:
            self._archive = zipfile.ZipFile(root)
        except zipfile.BadZipFile as error:
            raise UserError(f"{root} is not a whole zip archive ({error}); download it again") from error
        self.paths = sorted(self._archive.namelist())

    def open(self, path: str) -> io.BufferedIOBase:
        with self._lock:
            if self._archive.getinfo(path).file_size < 1 << 20:
                return io.BytesIO(self._archive.read(path))
            return self._archive.open(path)

    def signature(self) -> str:
        facts = self.root.stat()
        return digest(str(self.root.resolve()), facts.st_size, facts.st_mtime_ns)


def digest(*parts: object) -> str:
    return hashlib.blake2b(repr(parts).encode(), digest_size=8).hexdigest()


def candidate_trees(facts: DatasetFacts, data_dir: Path) -> Iterator[Tree]:
    """The places below `data_dir` where the data set may lie: a file, a folder, a zip beside or inside the folder."""
    if not data_dir.is_dir():
        return
    for place in (data_dir / name for name in facts.places):
        if place.exists():
            yield Tree(place)
            if place.is_dir():
                yield from map(ZipTree, sorted(place.glob("*.zip")))
        archive = place.with_name(f"{place.name}.zip")
        if archive.exists():
            yield ZipTree(archive)
    yield Tree(data_dir, only=("train", "test", "Image", "EmoLabel"))  # the data folder is the data set itself


# ── FER2013 ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def fer2013_csv(tree: Tree, facts: DatasetFacts) -> Iterator[Face] | None:
    """The Kaggle CSV with columns emotion, pixels and Usage in any order, also with spaces in the column names."""
    for path in tree.paths:
        if path.endswith(".csv") and not path.endswith(FER_PLUS):
            with io.TextIOWrapper(tree.open(path), "utf-8-sig") as file:
                columns = [name.strip() for name in file.readline().split(",")]
            if {"emotion", "pixels", "Usage"} <= set(columns):
                return read_fer2013_csv(tree, path, columns, facts)
    if tree.root.suffix == ".csv":
        raise UserError(f"{tree.root} does not begin with the columns emotion, pixels, Usage; download it again")
    return None


def read_fer2013_csv(tree: Tree, path: str, columns: list[str], facts: DatasetFacts) -> Iterator[Face]:
    emotion, pixels, usage = (columns.index(name) for name in ("emotion", "pixels", "Usage"))
    counts = read_fer_plus(tree)
    with io.TextIOWrapper(tree.open(path), "utf-8-sig", newline="") as file:
        for row, values in enumerate(csv.reader(file), start=1):
            if row == 1 or not values:
                continue
            where = f"{tree.root} ({path}), row {row}" if isinstance(tree, ZipTree) else f"{tree.root}, row {row}"
            if len(values) != len(columns):
                raise UserError(f"{where}: {len(values)} columns instead of {len(columns)}; the file may be cut short")
            label = parse_code(values[emotion], FER2013_EMOTIONS, 0, where)
            yield Face(
                parse_pixels(values[pixels], facts.size, where),
                label,
                parse_usage(values[usage].strip(), where),
                f"row_{row}",
                votes=None if counts is None else vote_shares(counts, row - 2, label, where),
            )


def read_fer_plus(tree: Tree) -> np.ndarray | None:
    """Votes int64 rows×7 of FER+ (Barsoum et al., 2016), if its file lies beside the CSV."""
    paths = [path for path in tree.paths if path.endswith(FER_PLUS)]
    if not paths:
        return None
    with io.TextIOWrapper(tree.open(paths[0]), "utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    try:
        return np.array([[int(row[name]) for name in FER_PLUS_COLUMNS] for row in rows], dtype=np.int64)
    except (KeyError, TypeError, ValueError) as error:
        columns = ", ".join(FER_PLUS_COLUMNS)
        raise UserError(f"{tree.root}/{paths[0]} needs whole numbers in the columns {columns} ({error})") from error


def vote_shares(counts: np.ndarray, row: int, label: int, where: str) -> np.ndarray:
    """Share of the annotators who named each class; all for the label where none named one of the seven."""
    if row >= len(counts):
        raise UserError(f"{where}: {FER_PLUS} has only {len(counts)} rows; it must belong to the same CSV")
    total = counts[row].sum()
    return (counts[row] / total if total else np.eye(len(EMOTIONS))[label]).astype(np.float32)


def parse_pixels(text: str, size: int, where: str) -> np.ndarray:
    """uint8 size×size×1 from numbers between spaces."""
    try:
        values = np.fromstring(text, dtype=np.int64, sep=" ")
    except (ValueError, DeprecationWarning) as error:
        raise UserError(f"{where}: the pixels are not whole numbers between spaces") from error
    if len(values) != size * size:
        raise UserError(f"{where}: {len(values)} pixels instead of {size}×{size} = {size * size}")
    if values.min() < 0 or values.max() > 255:
        raise UserError(f"{where}: pixel values {values.min()}..{values.max()} are outside 0..255")
    return values.astype(np.uint8).reshape(size, size, 1)


def parse_code(text: str, names: tuple[str, ...], first: int, where: str) -> int:
    """Index into EMOTIONS of a data set's own class code, which counts from `first`."""
    codes = {str(code): name for code, name in enumerate(names, start=first)}
    if text.strip() not in codes:
        known = ", ".join(f"{code} {name}" for code, name in codes.items())
        raise UserError(f"{where}: unknown emotion '{text.strip()}'; known are {known}")
    return EMOTIONS.index(codes[text.strip()])


def parse_usage(text: str, where: str) -> str:
    if text not in FER2013_USAGES:
        raise UserError(f"{where}: unknown Usage '{text}'; known are {', '.join(FER2013_USAGES)}")
    return FER2013_USAGES[text]


def parse_emotion(text: str, where: str) -> int:
    """Index into EMOTIONS of a class name, whatever its case or wording."""
    name = ALIASES.get(text.lower(), text.capitalize())
    if name not in EMOTIONS:
        raise UserError(f"{where}: unknown emotion '{text}'; known are {', '.join(EMOTIONS)}")
    return EMOTIONS.index(name)


def fer2013_folders(tree: Tree, facts: DatasetFacts) -> Iterator[Face] | None:
    """train|test/<emotion>/<Usage>_*.jpg, the split told by the file name's prefix."""
    files = []
    for path in tree.paths:
        if match := FER2013_FACE.search(path):
            where = f"{tree.root}/{path}"
            files.append(FaceFile(path, parse_emotion(match["emotion"], where), parse_usage(match["usage"], where)))
    return decode_faces(tree, files, facts) if files else None


# ── RAF-DB ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def rafdb_folders(tree: Tree, facts: DatasetFacts) -> Iterator[Face] | None:
    """DATASET/train|test/1..7/*.jpg, as on Kaggle."""
    files = []
    for path in tree.paths:
        if match := RAFDB_FACE.search(path):
            files.append(FaceFile(path, parse_code(match["code"], RAFDB_EMOTIONS, 1, path), match["split"]))
    return with_rafdb_votes(tree, decode_faces(tree, with_validation(files, facts), facts)) if files else None


def rafdb_official(tree: Tree, facts: DatasetFacts) -> Iterator[Face] | None:
    """Image/aligned/*_aligned.jpg with the labels in EmoLabel/list_patition_label.txt, as its authors send it."""
    lists = [path for path in tree.paths if path.endswith(RAFDB_LIST)]
    if not lists:
        return None
    folder = lists[0].removesuffix(RAFDB_LIST) + "Image/aligned"
    with io.TextIOWrapper(tree.open(lists[0]), "utf-8") as file:
        files = [
            parse_rafdb_line(line, folder, f"{tree.root}/{lists[0]}, row {row}")
            for row, line in enumerate(file, start=1)
            if line.strip()
        ]
    return with_rafdb_votes(tree, decode_faces(tree, with_validation(files, facts), facts))


def with_rafdb_votes(tree: Tree, faces: Iterable[Face]) -> Iterator[Face]:
    """The faces with the annotators' votes, where their file lies in the tree: a picture's name and 7 shares a line."""
    path = next((path for path in tree.paths if RAFDB_VOTES.search(path)), None)
    if path is None:
        yield from faces
        return
    with io.TextIOWrapper(tree.open(path), "utf-8-sig") as file:
        rows = (re.split(r"[\s,]+", line.strip()) for line in file if line.strip())
        shares = {Path(row[0]).stem.removesuffix("_aligned"): row[1:] for row in rows}
    for face in faces:
        name = Path(face.name).stem.removesuffix("_aligned")
        yield face._replace(votes=parse_shares(shares.get(name, []), f"{tree.root}/{path}, {name}"))


def parse_shares(texts: list[str], where: str) -> np.ndarray:
    """float32 7 that sum to 1, in the order of EMOTIONS, from numbers in the order of RAF-DB's codes."""
    try:
        values = np.array(texts, dtype=np.float32)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error
    if len(values) != len(EMOTIONS) or not np.isfinite(values).all() or values.min() < 0 or values.sum() == 0:
        raise UserError(f"{where}: {len(values)} shares where 7 of 0 or more were expected: {' '.join(texts)}")
    return (values / values.sum())[[RAFDB_EMOTIONS.index(name) for name in EMOTIONS]]


def parse_rafdb_line(line: str, folder: str, where: str) -> FaceFile:
    """A line such as "train_00001.jpg 5"."""
    match line.split():
        case [name, code] if name.startswith(("train_", "test_")):
            path = f"{folder}/{Path(name).stem}_aligned.jpg"
            return FaceFile(path, parse_code(code, RAFDB_EMOTIONS, 1, where), name.split("_")[0])
    raise UserError(f"{where}: '{line.strip()}' is not 'train_NNNNN.jpg CODE' or 'test_NNNNN.jpg CODE'")


def with_validation(files: list[FaceFile], facts: DatasetFacts) -> list[FaceFile]:
    """Moves the data set's share of train to val: stratified, the same at every call; test stays whole."""
    rng = np.random.default_rng(0)
    held_out = set()
    for label in range(len(EMOTIONS)):
        rows = [row for row, file in enumerate(files) if file.split == "train" and file.label == label]
        held_out |= set(rng.permutation(rows)[: round(facts.validation_fraction * len(rows))].tolist())
    return [file._replace(split="val") if row in held_out else file for row, file in enumerate(files)]


# ── pictures ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def decode_faces(tree: Tree, files: Iterable[FaceFile], facts: DatasetFacts) -> Iterator[Face]:
    """Decodes picture files in parallel, in order; faces of another size are resized to the data set's."""
    files = sorted(files, key=lambda file: (SPLITS.index(file.split), file.path))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        images = pool.map(lambda file: decode_image(tree, file.path, facts), files)
        for file, image in zip(files, images, strict=True):
            yield Face(image, file.label, file.split, Path(file.path).name)


def decode_image(tree: Tree, path: str, facts: DatasetFacts) -> np.ndarray:
    """uint8 size×size×channels of a picture file."""
    try:
        with tree.open(path) as file, Image.open(file) as picture:
            picture = picture.convert("L" if facts.channels == 1 else "RGB")
    except (OSError, KeyError, SyntaxError) as error:  # Pillow raises SyntaxError for some broken PNGs
        raise UserError(f"{tree.root}/{path} is missing or not a readable picture: {error}") from error
    if picture.size != (facts.size, facts.size):
        picture = picture.resize((facts.size, facts.size), Image.Resampling.BILINEAR)
    return np.asarray(picture, dtype=np.uint8).reshape(facts.size, facts.size, facts.channels)


READERS: dict[str, tuple[Callable[[Tree, DatasetFacts], Iterator[Face] | None], ...]] = {
    "fer2013": (fer2013_csv, fer2013_folders),
    "rafdb": (rafdb_official, rafdb_folders),
}
