"""The files of a set before they are decoded: formats, modes and sizes of pictures."""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from tqdm import tqdm

from ferlib.data.audit.findings import Finding
from ferlib.data.decoding import BROKEN, open_picture
from ferlib.data.facts import DatasetFacts
from ferlib.data.readers.face_files import pictures_of
from ferlib.data.readers.trees import Tree
from ferlib.runtime.errors import UserError
from ferlib.runtime.terminal import printable

HEAD = 1 << 16  # bytes in which a picture's size and mode usually stand
SHOWN = 20  # kinds of pictures that the audit's file lists
NAMED = 10  # unreadable pictures that a finding names


class Kind(NamedTuple):
    """What many pictures of a set have in common."""

    format: str
    mode: str  # Pillow's: L grey, RGB, …
    width: int
    height: int


def picture_kinds(tree: Tree, names: Iterable[str]) -> list[dict[str, Any]]:
    """Kinds of the pictures of a tree that have one of the names, and their numbers, most frequent first.

    names: of the faces of the set, without folders, as the tree may hold other pictures too. Empty for a CSV.
    """
    return [{**kind._asdict(), "files": count} for kind, count in Counter(kinds_of(tree, set(names))).most_common()]


def kinds_of(tree: Tree, names: Container[str]) -> Iterator[Kind]:
    """The kind of every picture of a tree that has one of the names, and whose header can be read."""
    paths = [path for path in pictures_of(tree) if printable(path.rpartition("/")[2]) in names]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        bar = tqdm(pool.map(lambda path: kind_of(tree, path), paths), "sizes", len(paths), unit=" files", delay=2)
        yield from filter(None, bar)


def kind_of(tree: Tree, path: str) -> Kind | None:
    """The kind of a picture by its header; None where that cannot be read, which the decoder tells."""
    try:
        with tree.open(path) as file:
            head = file.read(HEAD)
            try:
                return header_kind(head)
            except BROKEN:
                return header_kind(head + file.read())  # a header behind a long profile
    except (UserError, *BROKEN):
        return None


def header_kind(content: bytes) -> Kind:
    """The kind of a picture by its first bytes."""
    with open_picture(io.BytesIO(content)) as picture:
        return Kind(picture.format or "", picture.mode, *picture.size)


def judge_pictures(kinds: list[dict[str, Any]], unreadable: Sequence[str], facts: DatasetFacts) -> list[Finding]:
    """Whether all pictures can be read, are of one kind, and as large as they are used."""
    found = []
    if unreadable:
        more = f" and {len(unreadable) - NAMED:,} more" if len(unreadable) > NAMED else ""
        text = f"{len(unreadable):,} pictures cannot be read and are left out: {', '.join(unreadable[:NAMED])}{more}"
        found.append(Finding("files", "error", text))
    small = sum(kind["files"] for kind in kinds if min(kind["width"], kind["height"]) < facts.size)
    whole = sum(kind["files"] for kind in kinds)
    if small:
        text = f"{small:,} of {whole:,} pictures are smaller than {facts.size} pixels a side and are enlarged"
        found.append(Finding("files", "warning", text))
    sizes = {(kind["width"], kind["height"]) for kind in kinds}
    modes = {(kind["format"], kind["mode"]) for kind in kinds}
    if kinds and not found:
        size = f"{kinds[0]['width']}×{kinds[0]['height']}" if len(sizes) == 1 else f"{len(sizes)} sizes"
        mode = " ".join(kinds[0][name] for name in ("format", "mode")) if len(modes) == 1 else f"{len(modes)} modes"
        found.append(Finding("files", "ok", f"{whole:,} pictures, {mode}, {size}"))
    return found
