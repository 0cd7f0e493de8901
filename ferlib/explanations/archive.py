"""Explained faces on disk: a file per face, named by the digest of all that its attribution depends on."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import dtype_to_descr, write_array_header_1_0

from ferlib.explanations.records import Attribution, Entry, ExplainedFace, Outcome
from ferlib.runtime.arrays import DamagedError, read_npz
from ferlib.runtime.files import atomic_path

FOLDER = "faces"  # beside maps.npz
OWN = ("map", "seconds", "facts")  # arrays of a file that are not the method's


@dataclass(frozen=True)
class Archive:
    """The finished faces of a run and method, of this and of earlier, also interrupted, runs of the script."""

    maps: Path  # the one file that the other stages read: all faces of the last finished run
    fingerprint: str  # of all that an attribution depends on beside the face

    @property
    def settings(self) -> str:
        """The digest of all but the face, with which the keys of faces and figures begin."""
        return self.fingerprint[:16]

    def key(self, face: ExplainedFace) -> str:
        """The digest of the settings and the face; its first half is that of the settings alone."""
        facts = [face.source, face.index, face.target.weights().tolist(), face.seed]
        return self.settings + hashlib.sha256(json.dumps([self.fingerprint, *facts]).encode()).hexdigest()[:16]

    def figure_key(self, face: ExplainedFace) -> str:
        """The same for the figure of the face, which also shows its name and true class."""
        shown = json.dumps([face.name, face.true])
        return self.key(face) + hashlib.sha256(shown.encode()).hexdigest()[:16]

    def path(self, face: ExplainedFace) -> Path:
        """The file of a face."""
        return self.maps.parent / FOLDER / f"{self.key(face)}.npz"

    def find(self, face: ExplainedFace) -> Entry | None:
        """The finished face; None where there is no whole file of it."""
        try:
            arrays = read_npz(self.path(face))
            own: dict[str, Any] = {name: arrays.pop(name) for name in OWN}
            return Entry(Attribution(own["map"], arrays, json.loads(str(own["facts"]))), float(own["seconds"]))
        except (FileNotFoundError, DamagedError, KeyError, ValueError, TypeError):
            return None

    def find_outcome(self, face: ExplainedFace) -> Outcome | None:
        """What the summary says of the finished face; None where there is no whole file of it."""
        entry = self.find(face)
        return entry.outcome if entry else None

    def add(self, face: ExplainedFace, entry: Entry) -> None:
        """Keeps a finished face."""
        self.put(face, pack(entry))

    def put(self, face: ExplainedFace, packed: bytes) -> None:
        """Keeps a finished face, packed."""
        with atomic_path(self.path(face)) as temporary:
            temporary.write_bytes(packed)

    def finish(self, faces: Sequence[ExplainedFace]) -> None:
        """Writes the run's one file from those of its faces, and removes the faces of runs with other settings.

        npz: maps float16 N×H×W, or float32 where one is kept so; indices, targets and against (−1: none) int64 N, each
        of the method's arrays with N in front; settings, their digest. No more than a face's array is held in memory.
        """
        against = [-1 if face.target.against is None else face.target.against for face in faces]
        own: dict[str, Any] = {
            "indices": np.array([face.index for face in faces], dtype=np.int64),
            "targets": np.array([face.target.label for face in faces], dtype=np.int64),
            "against": np.array(against, dtype=np.int64),
        }
        with np.load(self.path(faces[0])) as first:
            names = [name for name in first.files if name not in OWN]
        kind = np.result_type(*{self._array(face, "map").dtype for face in faces})
        with (
            atomic_path(self.maps) as temporary,
            zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as file,
        ):
            write_rows(file, "maps", (self._array(face, "map").astype(kind) for face in faces), len(faces))
            for name, values in own.items():
                write_rows(file, name, values, len(faces))
            with file.open("settings.npy", "w") as member:
                np.save(member, np.array(self.settings), allow_pickle=False)
            for name in names:
                write_rows(file, name, (self._array(face, name) for face in faces), len(faces))
        for path in (self.maps.parent / FOLDER).glob("*.npz"):
            if not path.name.startswith(self.settings):
                path.unlink()

    def _array(self, face: ExplainedFace, name: str) -> np.ndarray:
        with np.load(self.path(face)) as saved:
            return saved[name]


def pack(entry: Entry) -> bytes:
    """A finished face as the content of its file."""
    attribution, content = entry.attribution, io.BytesIO()
    own: dict[str, Any] = {
        "map": attribution.map,
        "seconds": np.array(entry.seconds),
        "facts": np.array(json.dumps(attribution.facts)),
    }
    np.savez_compressed(content, **(own | attribution.arrays))
    return content.getvalue()


def write_rows(file: zipfile.ZipFile, name: str, rows: Iterable[np.ndarray], count: int) -> None:
    """Writes arrays of one shape and type as one with their number in front, one after the other."""
    with file.open(f"{name}.npy", "w", force_zip64=True) as member:
        shape: tuple[int, ...] | None = None
        for row in rows:
            if shape is None:
                shape, kind = row.shape, row.dtype
                header = {"descr": dtype_to_descr(kind), "fortran_order": False, "shape": (count, *shape)}
                write_array_header_1_0(member, header)
            if row.shape != shape:
                raise ValueError(f"{name}: a row of {row.shape} among rows of {shape}")
            member.write(row.astype(kind, order="C", casting="same_kind", copy=False).tobytes())
