"""Which checkpoint results and summaries are of: a run's own, another file, or one that is there no more."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from ferlib.runtime.digests import digest, digest_file
from ferlib.runtime.runs import Run, checkpoint_name


def outside_checkpoint(run: Run, content: dict[str, Any]) -> str:
    """The checkpoint of results or a summary, as --checkpoint takes it; "" for the best one of the run.

    The outputs may have been moved: of files with that name, one that lies in another place is taken for another only
    where it is there and, unlike that of the run, as it was when it was evaluated.
    """
    path, state = checkpoint_of(content)
    own = run.best_checkpoint
    if not path:
        return ""
    if Path(path).name == own.name:
        if not state or not Path(path).is_file() or file_state(Path(path)) != state:
            return ""
        if own.is_file() and file_state(own) == state:
            return ""
    return checkpoint_name(Path(path))


def checkpoint_of(content: dict[str, Any]) -> tuple[str, str | None]:
    """Path and digest of the checkpoint of results or a summary; "" and None where they are not known."""
    checkpoint = content.get("checkpoint")
    if isinstance(checkpoint, dict):
        return checkpoint.get("path") or "", checkpoint.get("digest")
    return checkpoint or "", content.get("checkpoint_digest")


def is_epoch_of(info: dict[str, Any], history: dict[str, Any]) -> bool:
    """Whether a checkpoint was written by the training of a history: its figures on val are those of that epoch.

    True for one that does not state them.
    """
    row: dict[str, Any] = next((row for row in history["epochs"] if row["epoch"] == info.get("epoch")), {})
    return all(row.get(name) == value for name, value in (info.get("metrics") or {}).items())


def is_current(content: dict[str, Any], run: Run) -> bool:
    """Whether results or a summary are of the checkpoints that lie where theirs did; True where that is not known.

    Checkpoints of runs are looked for beside those of `run` too, as the outputs may have been moved. What compares or
    joins several networks is of the checkpoints of all.
    """
    if not all(is_current(part, run) for part in parts_of(content)):
        return False
    path, digest = checkpoint_of(content)
    if not path or not digest:
        return True
    own = run.best_checkpoint.parent
    places = [Path(path), own / Path(path).name] if Path(path).parent.name == own.name else [Path(path)]
    found = [place for place in places if place.is_file()]
    return not found or any(digest == file_state(place) for place in found)


def parts_of(content: dict[str, Any]) -> list[dict[str, Any]]:
    """What names the checkpoints of several networks: those compared, the members of an ensemble, the folds."""
    networks, ensemble, folds = content.get("networks"), content.get("ensemble"), content.get("folds")
    return [
        *(part for part in (networks.values() if isinstance(networks, dict) else ()) if isinstance(part, dict)),
        *(ensemble["members"] if isinstance(ensemble, dict) else ()),
        *(folds or ()),
    ]


def results_digest(results: dict[str, Any]) -> str | None:
    """The digest of the checkpoint that results are of, and of several checkpoints theirs together; None: not known."""
    parts = parts_of(results)
    if not parts:
        return (results.get("checkpoint") or {}).get("digest")
    digests = [(part.get("checkpoint") or {}).get("digest") for part in parts]
    return digest(digests, results["views"], results["confusion_matrix"])


def file_state(path: Path) -> str:
    """The digest of a file, computed once for each state of it."""
    facts = path.stat()
    return digest_of_state(path, facts.st_size, facts.st_mtime_ns)


@functools.cache
def digest_of_state(path: Path, _size: int, _changed: int) -> str:
    """The digest of a file of a size and time of change."""
    return digest_file(path)
