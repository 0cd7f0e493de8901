"""Explained faces on disk: a file per face, named by the digest of all that its attribution depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ferlib.explanations.records import Attribution, Entry, ExplainedFace
from ferlib.runtime.arrays import DamagedError, read_npz
from ferlib.runtime.files import atomic_path

FOLDER = "faces"  # beside maps.npz
OWN = ("map", "seconds", "facts")  # arrays of a file that are not the method's


@dataclass(frozen=True)
class Archive:
    """The finished faces of a run and method, of this and of earlier, also interrupted, runs of the script."""

    maps: Path  # the one file that the other stages read: all faces of the last finished run
    fingerprint: str  # of all that an attribution depends on beside the face

    def key(self, face: ExplainedFace) -> str:
        """The digest of the settings and the face; its first half is that of the settings alone."""
        facts = [face.source, face.index, face.target.weights().tolist(), face.seed]
        return self.fingerprint[:16] + hashlib.sha256(json.dumps([self.fingerprint, *facts]).encode()).hexdigest()[:16]

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

    def add(self, face: ExplainedFace, entry: Entry) -> None:
        """Keeps a finished face."""
        attribution = entry.attribution
        own: dict[str, Any] = {
            "map": attribution.map,
            "seconds": np.array(entry.seconds),
            "facts": np.array(json.dumps(attribution.facts)),
        }
        with atomic_path(self.path(face)) as temporary:
            np.savez_compressed(temporary, **(own | attribution.arrays))

    def finish(self, faces: Sequence[ExplainedFace], entries: Sequence[Entry]) -> None:
        """Writes the run's one file, and removes the faces of runs with other settings.

        npz: maps float16 N×H×W, indices, targets and against (−1: none) int64 N, each of the method's arrays with N in
        front.
        """
        attributions = [entry.attribution for entry in entries]
        against = [-1 if face.target.against is None else face.target.against for face in faces]
        arrays: dict[str, Any] = {
            name: np.stack([item.arrays[name] for item in attributions]) for name in attributions[0].arrays
        }
        with atomic_path(self.maps) as temporary:
            np.savez_compressed(
                temporary,
                maps=np.stack([item.map for item in attributions]).astype(np.float16),
                indices=np.array([face.index for face in faces], dtype=np.int64),
                targets=np.array([face.target.label for face in faces], dtype=np.int64),
                against=np.array(against, dtype=np.int64),
                **arrays,
            )
        for path in (self.maps.parent / FOLDER).glob("*.npz"):
            if not path.name.startswith(self.fingerprint[:16]):
                path.unlink()
