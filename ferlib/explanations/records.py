"""What passes between computing, drawing and saving an explanation: a face, its target, the map; imports no torch."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from config import EMOTIONS
from utils import UserError, atomic_path

NEEDLESS = ("keys", "indices", "targets", "against", "fingerprint")  # of a saved file, for one who knows the faces


@dataclass(frozen=True)
class Target:
    """The question put to the model: why this class, or why this class rather than another one?"""

    label: int
    against: int | None = None

    @property
    def name(self) -> str:
        if self.against is None:
            return EMOTIONS[self.label]
        return f"{EMOTIONS[self.label]} rather than {EMOTIONS[self.against]}"

    def weights(self) -> np.ndarray:
        """float32 7: the explained number is their product with the model's outputs, 1 for the class and −1 against."""
        weights = np.zeros(len(EMOTIONS), dtype=np.float32)
        weights[self.label] = 1
        if self.against is not None:
            weights[self.against] = -1
        return weights


@dataclass(frozen=True)
class Face:
    """A face to explain and what the model makes of it."""

    index: int  # in the test split, or among the files given
    name: str
    true: int | None  # None: nobody knows
    probabilities: np.ndarray  # float64, one per class
    target: Target
    seed: int  # of this face's random draws, made of the run's seed and the index
    source: str = ""  # digest of the pixels in the data set or the file

    @property
    def predicted(self) -> int:
        return int(self.probabilities.argmax())

    @property
    def runner_up(self) -> int:
        return int(np.argsort(-self.probabilities, kind="stable")[1])

    @property
    def correct(self) -> bool | None:
        return None if self.true is None else self.true == self.predicted


@dataclass(frozen=True)
class Attribution:
    """What a method says of one face."""

    map: np.ndarray  # H×W, positive: speaks for the target
    arrays: dict[str, np.ndarray] = field(default_factory=dict)  # of one shape for all faces; saved beside the maps
    facts: dict[str, float] = field(default_factory=dict)  # saved in the summary

    def rounded(self) -> Attribution:
        """The map as it is saved, in float16; so a face that is drawn again looks the same."""
        return Attribution(self.map.astype(np.float16), self.arrays, self.facts)


@dataclass(frozen=True)
class Entry:
    """A finished face as it is saved."""

    attribution: Attribution
    seconds: float


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


def check_map(method: str, face: Face, attribution: Attribution, size: tuple[int, int]) -> None:
    """UserError if a map is not finite, ValueError if it is not of the face's size H×W."""
    if attribution.map.shape != size:
        raise ValueError(f"{method} gave a map of {attribution.map.shape} for a face of {size}")
    if not np.isfinite(attribution.map).all():
        raise UserError(f"{method} gave values that are not finite for face {face.index} ({face.name}); try --no-amp")
