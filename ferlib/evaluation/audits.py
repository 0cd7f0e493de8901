"""Audits on disk: label errors of a run's predictions joined to the audit of the faces; written whole, read checked."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from config import EMOTIONS
from ferlib.data.audit.counts import count_table
from ferlib.data.audit.findings import LEVELS, Finding, describe_finding, share
from ferlib.data.face_data import FaceData
from ferlib.data.facts import SPLITS, dataset_facts
from ferlib.evaluation.label_errors import list_label_errors, rank_label_errors, score_ranking
from ferlib.evaluation.predictions import SavedPredictions, read_predictions
from ferlib.evaluation.saved_runs import find_runs
from ferlib.runtime.errors import UserError
from ferlib.runtime.files import read_json
from ferlib.runtime.runs import Run, audit_path
from ferlib.runtime.shapes import is_count, is_number, is_share, misfit
from ferlib.runtime.terminal import counted

LISTED = 200  # likely label errors in the file
HELD_OUT = ("val", "test")


class Predicted(NamedTuple):
    """Faces that a network predicted which was not trained on them."""

    run: Run
    rows: np.ndarray  # int64 M, of the data set
    probabilities: np.ndarray  # float M×7
    splits: tuple[str, ...]  # that they are from
    accuracy: float  # on val, or on all faces where every one was held out once


# ── label errors ─────────────────────────────────────────────────────────────────────────────────────────────────────


def find_predicted(data: FaceData, outputs_dir: Path, wanted: str = "", fold: int = 0) -> Predicted | None:
    """The held-out predictions of a run on this version of the data set; None where there are none.

    wanted: MODEL or MODEL:TAG; by default, of all runs, that of the highest accuracy on val, the part that networks are
    chosen by. Of sets that are split by subject, the predictions of all folds together come first. Runs whose network
    may have been trained on these faces are left out. UserError for a wanted run without such predictions.
    """
    if data.classes != EMOTIONS:
        return None
    runs = [run for run in find_runs(outputs_dir)[0] if run.dataset == data.dataset]
    if wanted:
        model, _, tag = wanted.partition(":")
        runs = [run for run in runs if (run.model, run.tag) == (model, tag)]
    if wanted and (seen := [run for run in runs if may_have_seen(run)]):
        raise UserError(
            f"{seen[0].name} was trained on another version or fold of the data set, so that these may have been "
            "training faces; name another --run"
        )
    found = [predicted for run in runs if not may_have_seen(run) and (predicted := read_predicted(run, data, fold))]
    if wanted and not found:
        command = Run(model, data.dataset, tag, outputs_dir).command("evaluate.py")
        raise UserError(f"{wanted} has no predictions on this version of {data.facts.title}; run: {command}")
    return max(found, key=lambda each: (len(each.rows), each.accuracy), default=None)


def may_have_seen(run: Run) -> bool:
    """Whether the results of a run say that test faces may have been training faces."""
    with suppress(UserError):
        return bool(read_json(run.results, "evaluate.py").get("may_have_seen")) if run.results.exists() else False
    return False


def read_predicted(run: Run, data: FaceData, fold: int) -> Predicted | None:
    """The predictions of a run on val and test, or on all faces; None where files are missing, damaged or of others."""
    everywhere = np.arange(len(data))
    whole = predictions_of(run.predictions, data, everywhere)
    if whole is not None:
        accuracy = float((whole.argmax(1) == data.labels).mean())
        return Predicted(run, everywhere, whole, SPLITS, accuracy)
    if run.fold != fold:
        return None
    rows = {split: np.flatnonzero(data.splits == SPLITS.index(split)) for split in HELD_OUT}
    paths = {"val": run.val_predictions, "test": run.predictions}
    found = {split: predictions_of(paths[split], data, rows[split]) for split in HELD_OUT}
    known = {split: probabilities for split, probabilities in found.items() if probabilities is not None}
    if not known:
        return None
    by = "val" if "val" in known else "test"
    accuracy = float((known[by].argmax(1) == data.labels[rows[by]]).mean())
    chosen = np.concatenate([rows[split] for split in known])
    return Predicted(run, chosen, np.concatenate(list(known.values())), tuple(known), accuracy)


def predictions_of(path: Path, data: FaceData, rows: np.ndarray) -> np.ndarray | None:
    """Probabilities M×7 of the faces at `rows` from a file of predictions; None unless it is of these faces."""
    try:
        found: SavedPredictions = read_predictions(path, "")
    except UserError:
        return None
    same = (
        found.fingerprint == data.fingerprint
        and np.array_equal(found.names, data.names[rows])
        and np.array_equal(found.labels, data.labels[rows])
    )
    return found.probabilities if same else None


def audit_labels(data: FaceData, predicted: Predicted | None) -> tuple[dict[str, Any] | None, list[Finding]]:
    """Likely label errors by confident learning, for the audit's file, and what is found; None without predictions."""
    if predicted is None:
        return None, []
    faces, probabilities = data.select(predicted.rows), np.asarray(predicted.probabilities, np.float64)
    ranking = rank_label_errors(faces.labels, probabilities)
    scored = None if faces.votes is None else score_ranking(faces.labels, probabilities, faces.votes, ranking)
    facts = {
        "run": predicted.run.identity(),
        "splits": list(predicted.splits),
        "faces": len(faces),
        "candidates": ranking.candidates,
        "thresholds": [float(value) if np.isfinite(value) else None for value in ranking.thresholds],
        "joint": ranking.joint.tolist(),
        "faces_listed": list_label_errors(
            ranking, faces.labels, probabilities, predicted.rows, faces.names, faces.votes, LISTED
        ),
        "against_votes": scored,
    }
    text = (
        f"{share(ranking.candidates, len(faces))} labels of {' and '.join(predicted.splits)} are likely errors by "
        f"{predicted.run.name}"
    )
    level = "warning" if ranking.candidates else "ok"
    return facts, [Finding("label errors", level, text + describe_precision(scored))]


def describe_precision(scored: dict[str, Any] | None) -> str:
    """How many of the first hundred have more votes for another class, in words; empty where votes are not known."""
    if scored is None:
        return ""
    criterion = scored["criteria"]["outvoted"]
    row = next((row for row in reversed(criterion["confident_learning"]) if row["k"] <= 100), None)
    if row is None:
        return ""
    return (
        f"; of the first {row['k']}, {row['errors']} have more votes for another class, of all faces "
        f"{criterion['share']:.0%}".replace("%", "\u202f%")
    )


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def is_split_table(value: Any) -> bool:
    """Split → split → faces."""
    return isinstance(value, dict) and all(
        isinstance(row, dict) and all(is_count(count) for count in row.values()) for row in value.values()
    )


def is_quality(value: Any) -> bool:
    """Measure → split → three quantiles."""
    return isinstance(value, dict) and all(
        isinstance(row, dict) and all(misfit(each, [is_number] * 3) is None for each in row.values())
        for row in value.values()
    )


LEAKING = {"faces": is_count, "exact": is_count, "of": is_count}
FACE = {"name": str, "split": frozenset(SPLITS), "label": str}
PRECISION = {"k": is_count, "errors": is_count, "precision": is_share, "interval": [is_share, is_share]}
CRITERION = {"share": is_share, "confident_learning": [PRECISION], "by_probability": [PRECISION]}
LABEL_ERROR = {"row": is_count, "name": str, "label": str, "predicted": str, "votes": ([is_share], None)}
AUDIT: dict[str, Any] = {  # what the report looks up
    "dataset": str,
    "fold": is_count,
    "fingerprint": str,
    "faces": is_count,
    "findings": [{"check": str, "level": frozenset(LEVELS), "text": str}],
    "exact_copies": {"unique": is_count, "groups": is_count, "faces_with_copy": is_split_table,
                     "conflicting_groups": is_count, "conflicting_faces": is_count},
    "near_copies": {"method": str, "pairs": is_count, "mirrored": is_count, "faces_with_copy": is_split_table},
    "leaks": {"train": {**LEAKING, "near": is_count}, "val": LEAKING, "test": LEAKING},
    "excluded": ({"faces": is_count, "exact": is_count, "near": is_count}, None),
    "defects": {"flat": [FACE], "saturated": [FACE]},
    "quality": is_quality,
    "label_errors": (
        {"run": {"model": str, "dataset": str, "tag": str}, "splits": [str], "faces": is_count, "candidates": is_count,
         "faces_listed": [LABEL_ERROR],
         "against_votes": ({"faces": is_count, "criteria": {"outvoted": CRITERION, "no_vote": CRITERION},
                            "suggestion": [PRECISION]}, None)},
        None,
    ),
    "pictures_drawn": [str],
    "command": str,
}  # fmt: skip


def read_audit(outputs_dir: Path, dataset: str, fold: int = 0) -> dict[str, Any] | None:
    """The audit of a data set; None where there is none, UserError with the command for one that is damaged."""
    path = audit_path(outputs_dir, dataset, fold)
    if not path.exists():
        return None
    command = Run("", dataset, outputs_dir=outputs_dir, fold=fold).command("datasets.py")
    content = read_json(path, command, AUDIT)
    return (
        content if content.get("dataset", dataset) == dataset else None
    )  # else of another set, whose name has the same slug


# ── in words ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def summarize(content: dict[str, Any], outputs_dir: Path) -> str:
    """The counts and findings of an audit for the terminal, and where it was written."""
    dataset, fold = content["dataset"], content["fold"]
    shape = "×".join(map(str, content["shape"]))
    path, drawn = audit_path(outputs_dir, dataset, fold), content["pictures_drawn"]
    pictures = f" and {counted(len(drawn), 'picture')} beside it ({', '.join(drawn)})" if drawn else ""
    return "\n".join([
        f"{dataset_facts(dataset).title}: {content['faces']:,} faces of {shape}, {content['source']}",
        count_table(content["classes"], content["counts"], content["published"]),
        *map(describe_finding, content["findings"]),
        f"written: {path}{pictures}; {content['seconds']:.0f} s",
    ])  # fmt: skip


def check_strict(content: dict[str, Any]) -> None:
    """UserError that lists the findings that invalidate results, if there are any."""
    errors = [finding for finding in content["findings"] if finding["level"] == "error"]
    if errors:
        count = f"{len(errors)} finding{'s' if len(errors) > 1 else ''}"
        raise UserError(f"{count} on {content['dataset']} would invalidate results:", *map(describe_finding, errors))
