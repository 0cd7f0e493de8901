"""Explained faces kept on disk, by the key of all that their maps depend on."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ferlib.explanations.records import Attribution, Entry, Face
from ferlib.runtime.files import atomic_path

NEEDLESS = ("keys", "indices", "targets", "against", "fingerprint")  # of a saved file, for one who knows the faces


def save_entries(
    path: Path, faces: Sequence[Face], keys: Sequence[str], entries: Sequence[Entry], fingerprint: str = ""
) -> None:
    """npz: maps float16 N×H×W, indices, targets and against (−1: none) int64 N, each of the method's arrays with N in
    front, and what the archive needs to give the faces back: keys, seconds, facts, the fingerprint."""
    attributions = [entry.attribution for entry in entries]
    against = [-1 if face.target.against is None else face.target.against for face in faces]
    arrays = {name: np.stack([item.arrays[name] for item in attributions]) for name in attributions[0].arrays}
    with atomic_path(path) as temporary:
        np.savez_compressed(
            temporary,
            maps=np.stack([item.map for item in attributions]).astype(np.float16),
            indices=np.array([face.index for face in faces], dtype=np.int64),
            targets=np.array([face.target.label for face in faces], dtype=np.int64),
            against=np.array(against, dtype=np.int64),
            keys=np.array(keys),
            seconds=np.array([entry.seconds for entry in entries]),
            facts=np.array([json.dumps(item.facts) for item in attributions]),
            fingerprint=np.array(fingerprint),
            **arrays,
        )


def load_entries(path: Path, wanted: Iterable[str]) -> dict[str, Entry]:
    """The finished faces of a file by their keys, of those that are wanted; nothing if there is no such file."""
    if not path.exists():
        return {}
    wanted = set(wanted)
    with np.load(path) as saved:
        keys = saved["keys"].tolist() if "keys" in saved.files else []  # none in files of before faces were kept
        rows = {key: row for row, key in enumerate(keys) if key in wanted}
        columns = {name: saved[name] for name in saved.files if rows and name not in NEEDLESS}
    maps, seconds, facts = (columns.pop(name, None) for name in ("maps", "seconds", "facts"))
    return {
        key: Entry(
            Attribution(
                maps[row], {name: column[row] for name, column in columns.items()}, json.loads(str(facts[row]))
            ),
            float(seconds[row]),
        )
        for key, row in rows.items()
    }


def load_rows(path: Path, fingerprint: str, without: Iterable[str]) -> dict[str, np.ndarray]:
    """The arrays of a file that has this fingerprint, with the rows of all faces but those of some keys."""
    if not path.exists():
        return {}
    with np.load(path) as saved:
        if "fingerprint" not in saved.files or str(saved["fingerprint"]) != fingerprint:
            return {}
        kept = ~np.isin(saved["keys"], list(without))
        return {name: saved[name][kept] for name in saved.files if name != "fingerprint"} if kept.any() else {}


@dataclass(frozen=True)
class Archive:
    """The finished faces of a run and method, of this and of earlier runs of the script, also interrupted ones."""

    maps: Path  # of the last finished run of the script
    fingerprint: str  # of all that a map depends on beside the face

    @property
    def _parts(self) -> Path:
        return self.maps.with_name("partial")

    @property
    def _others(self) -> Path:
        """Faces of earlier runs with the same settings that the last run was not asked for."""
        return self.maps.with_name("others.npz")

    def key(self, face: Face) -> str:
        facts = [self.fingerprint, face.source, face.index, face.target.weights().tolist(), face.seed]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]

    def find(self, faces: Sequence[Face]) -> list[Entry | None]:
        """What is there of each face."""
        keys = [self.key(face) for face in faces]
        found = load_entries(self._others, keys) | load_entries(self.maps, keys)
        for part in sorted(self._parts.glob("[!.]*.npz")):
            found |= load_entries(part, keys)
        return [found.get(key) for key in keys]

    def add(self, faces: Sequence[Face], entries: Sequence[Entry]) -> None:
        """Keeps a batch of faces until the run is whole."""
        keys = [self.key(face) for face in faces]
        save_entries(self._parts / f"{keys[0]}.npz", faces, keys, entries)

    def finish(self, faces: Sequence[Face], entries: Sequence[Entry]) -> None:
        """Writes the run's one file, puts faces of earlier runs aside and removes the parts."""
        keys = [self.key(face) for face in faces]
        self._put_aside(keys)
        save_entries(self.maps, faces, keys, entries, self.fingerprint)
        shutil.rmtree(self._parts, ignore_errors=True)

    def _put_aside(self, keys: Sequence[str]) -> None:
        """Keeps the finished faces whose keys are not among `keys`; the file with the maps will not have them."""
        last = load_rows(self.maps, self.fingerprint, without=keys)
        before = load_rows(self._others, self.fingerprint, without=[*keys, *last.get("keys", [])])
        tables = [table for table in (before, last) if table]
        if not tables:
            self._others.unlink(missing_ok=True)
            return
        rows = {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
        with atomic_path(self._others) as temporary:
            np.savez_compressed(temporary, **rows, fingerprint=np.array(self.fingerprint))
