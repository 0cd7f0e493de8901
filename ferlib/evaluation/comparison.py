"""Evaluated runs compared on the test faces that they share: pairs, slices, published results, people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from config import EMOTIONS, LATER_SETTINGS, RUN_SETTINGS
from ferlib.data.face_data import FaceData
from ferlib.data.facts import SPLITS
from ferlib.evaluation.agreement import agree_with_labels
from ferlib.evaluation.ensembles import member_name
from ferlib.evaluation.metrics import HEADLINES, compute_metrics
from ferlib.evaluation.paired import EQUAL, Contestant, compare_pairs, describe_pair, differing_faces
from ferlib.evaluation.predictions import SavedPredictions, read_predictions
from ferlib.evaluation.published import published_rows
from ferlib.evaluation.saved_runs import ModelReport, read_models
from ferlib.evaluation.scored_checkpoints import outside_checkpoint, results_digest
from ferlib.evaluation.slices import find_slices, score_slices
from ferlib.runtime.errors import UserError, lookup
from ferlib.runtime.provenance import provenance
from recipes import DEFAULTS, recorded

MOST = 12  # contestants: 66 pairs
NOT_AT_HAND = (
    "slices, people and subjects: the data set is not at hand, or is another version; faces count as independent"
)
DIGESTS = ("teacher_digests", "initial_digest", "votes")  # of what a training read, in its history


# ── who is compared ──────────────────────────────────────────────────────────────────────────────────────────────────


def run_name(report: ModelReport) -> str:
    """MODEL, MODEL:TAG, with the fold where there is one."""
    name = f"{report.run.model}:{report.run.tag}" if report.run.tag else report.run.model
    return f"{name}, fold {report.run.fold}" if report.run.fold else name


def choose_runs(names: Sequence[str], dataset: str, outputs_dir: Path, fold: int = 0) -> list[ModelReport]:
    """The evaluated runs on a data set, or on a fold of it, of these names MODEL or MODEL:TAG, or all of them.

    In the order given, "all" by falling accuracy. UserError for unknown names, runs without results, fewer than two and
    more than MOST.
    """
    found = read_models(outputs_dir, dataset)
    of_fold = {member_name(report.run) for report in found.models if report.run.fold == fold}
    known = {
        member_name(report.run): report
        for report in found.models
        if report.run.fold == fold
        or (fold == 1 and is_of_first_fold(report) and member_name(report.run) not in of_fold)
    }
    if not known:
        raise UserError(f"there are no runs on {dataset}{f', fold {fold}' if fold else ''} in {outputs_dir}")
    wanted = [name for name, report in known.items() if report.results] if tuple(names) == ("all",) else list(names)
    chosen = [lookup(known, name, "run") for name in wanted]
    if missing := [report for report in chosen if not report.results]:
        raise UserError(
            *(f"{run_name(each)} is not evaluated; run: {each.run.command('evaluate.py')}" for each in missing)
        )
    if len(set(wanted)) < max(2, len(wanted)):
        raise UserError(f"--compare needs two or more different runs, not: {' '.join(wanted) or 'none'}")
    if len(chosen) > MOST:
        raise UserError(f"--compare takes {MOST} runs at most; name those to compare: {', '.join(known)}")
    return chosen


def is_of_first_fold(report: ModelReport) -> bool:
    """Whether a run was trained without --fold, by which faces are split as in the first one; joined folds are not."""
    return report.run.fold == 0 and "folds" not in report.results


def read_test(report: ModelReport) -> SavedPredictions:
    """The predictions of a run's test split; UserError where they are missing or not those of its results."""
    saved = read_predictions(report.run.predictions, report.scoring_command)
    matrix = np.zeros((len(EMOTIONS), len(EMOTIONS)), int)
    np.add.at(matrix, (saved.labels, saved.probabilities.argmax(1)), 1)
    if matrix.tolist() != report.results["confusion_matrix"]:
        raise UserError(f"{report.run.predictions} is not of the results beside it; run: {report.scoring_command}")
    return saved


def check_same_faces(reports: Sequence[ModelReport], saved: Sequence[SavedPredictions]) -> None:
    """UserError unless all predictions are about the same faces in the same order."""
    first = saved[0]
    for report, other in zip(reports, saved, strict=True):
        if not are_same(first, other):
            raise UserError(
                f"{run_name(report)} was scored on other faces than {run_name(reports[0])}; score both on the same "
                f"version of {report.run.dataset}: {report.scoring_command}"
            )


def settings_of(history: dict[str, Any]) -> dict[str, Any]:
    """What decides the weights beside the seed; settings that are newer than the run have their defaults."""
    kept = {**LATER_SETTINGS, **history}
    recipe = {name: recorded(history["recipe"], name) for name in DEFAULTS}
    facts = {name: history.get(name) or None for name in ("begun_for_epochs", *DIGESTS)}
    facts["loss"] = history.get("loss") or recipe["loss"]  # in place of votes that were not known, of the labels
    return recipe | facts | {name: kept.get(name) for name in ("recipe_name", "finished", *RUN_SETTINGS)}


def group_seeds(reports: Sequence[ModelReport]) -> list[list[int]]:
    """The places of runs that differ in their seed alone, together; the others each alone, in the given order.

    Alone are ensembles, and runs that were scored from another file than their training left. Where all runs are seeds
    of one training, none are joined.
    """
    groups: dict[str, list[int]] = {}
    for place, report in enumerate(reports):
        version = report.history.get("data", {}).get("fingerprint")
        same = [report.run.model, report.results["views"], report.results["precision"], version]
        trained = report.history and not outside_checkpoint(report.run, report.results)
        key = [*same, settings_of(report.history)] if trained else place
        groups.setdefault(json.dumps(key, sort_keys=True), []).append(place)
    distinct = [{reports[place].history.get("seed") for place in group} for group in groups.values()]
    joined = [
        part
        for group, seeds in zip(groups.values(), distinct, strict=True)
        for part in ([group] if len(seeds) == len(group) else [[place] for place in group])
    ]
    return joined if len(joined) > 1 else [[place] for place in range(len(reports))]


def make_contestants(reports: Sequence[ModelReport], saved: Sequence[SavedPredictions]) -> list[Contestant]:
    """One for each group of seeds."""
    contestants = []
    for group in group_seeds(reports):
        names = [run_name(reports[place]) for place in group]
        name = names[0] if len(names) == 1 else f"{reports[group[0]].run.model} ({len(names)} seeds)"
        shares = np.stack([saved[place].probabilities for place in group]).astype(np.float64)
        contestants.append(Contestant(name, saved[0].labels, shares))
    taken: dict[str, int] = {}
    for place, contestant in enumerate(contestants):  # two trainings of one model, each of several seeds
        taken[contestant.name] = taken.get(contestant.name, 0) + 1
        if taken[contestant.name] > 1:
            name = f"{contestant.name}, {taken[contestant.name]}"
            contestants[place] = Contestant(name, contestant.labels, contestant.probabilities)
    return contestants


# ── what is found ────────────────────────────────────────────────────────────────────────────────────────────────────


def compare_runs(
    reports: Sequence[ModelReport],
    dataset: str,
    data: FaceData | None,
    groups: Mapping[str, np.ndarray] | None = None,
) -> dict[str, Any]:
    """Everything on two or more evaluated runs.

    data: the set, None where it is not at hand, for slices and people; groups: as in slices.find_slices.
    """
    saved = [read_test(report) for report in reports]
    check_same_faces(reports, saved)
    contestants = make_contestants(reports, saved)
    labels, names = saved[0].labels, saved[0].names
    own = matching_set(data, saved[0])
    faces = own.split("test") if own else None
    subjects = faces.subjects if faces else None
    pairs = compare_pairs(contestants, subjects)
    by_name = {contestant.name: contestant for contestant in contestants}
    for row in pairs:
        row["sentence"] = describe_pair(row)
        row["faces"] = differing_faces(by_name[row["first"]], by_name[row["second"]], names)
    return {
        "dataset": dataset,
        "split": "test",
        "samples": len(labels),
        "unit": "face" if subjects is None else "subject",
        "equal_within": EQUAL,
        "emotions": list(EMOTIONS),
        "runs": [describe_run(report) for report in reports],
        "contestants": [
            score_contestant(contestant, [reports[place] for place in group], subjects)
            for contestant, group in zip(contestants, group_seeds(reports), strict=True)
        ],
        "pairs": pairs,
        "published": published_rows(dataset) if is_official(data, len(labels)) else [],
        "people": agree_with_labels(labels, faces.votes) if faces else None,
        "slices": score_slices(find_slices(own, groups), contestants, subjects) if own else [],
        "left_out": [] if own else [NOT_AT_HAND],
        **provenance(),
    }


def matching_set(data: FaceData | None, saved: SavedPredictions) -> FaceData | None:
    """The data set whose test faces are those of the predictions: `data`, or its folds joined, where all are test."""
    if data is None:
        return None
    joined = replace(data, splits=np.full(len(data), SPLITS.index("test")))
    return next((each for each in (data, joined) if are_same(each.split("test"), saved)), None)


def are_same(one: FaceData | SavedPredictions, other: FaceData | SavedPredictions) -> bool:
    """Whether two are about the same faces of the same version of a data set, in the same order."""
    versions = {each.fingerprint for each in (one, other) if each.fingerprint}  # "": of an earlier version
    return len(versions) < 2 and np.array_equal(one.names, other.names) and np.array_equal(one.labels, other.labels)


def is_official(data: FaceData | None, samples: int) -> bool:
    """Whether the test split is as large as the published one; True where the data set is not at hand."""
    counts = data.facts.official_counts if data else None
    return counts is None or sum(counts["test"]) == samples


def describe_run(report: ModelReport) -> dict[str, Any]:
    """How a run came about and was scored, beside its figures."""
    history = {} if outside_checkpoint(report.run, report.results) else report.history
    return {
        "name": run_name(report),
        "run": report.run.identity(),
        "views": report.results["views"],
        "fingerprint": report.results["fingerprint"],
        "precision": report.results["precision"],
        "seed": history.get("seed"),
        "recipe": history.get("recipe_name"),
        "picked": f"best {history['recipe']['monitor']} on val, epoch {history['best_epoch']}"
        if history and "monitor" in history["recipe"]
        else None,
        "checkpoint_digest": results_digest(report.results),
        "val_accuracy": [row["val_accuracy"] for row in history.get("epochs", ())],
    }


def score_contestant(
    contestant: Contestant, reports: Sequence[ModelReport], subjects: np.ndarray | None
) -> dict[str, Any]:
    """Headline figures; of several seeds their means and standard deviations, with the interval of none of them."""
    each = [compute_metrics(contestant.labels, shares, subjects) for shares in contestant.probabilities]
    clean = [report.clean_accuracy for report in reports]
    row: dict[str, Any] = {
        "name": contestant.name,
        "runs": [run_name(report) for report in reports],
        "views": reports[0].results["views"],
        "seeds": contestant.seeds,
        **{name: mean_of([metrics[name] for metrics in each]) for name in HEADLINES},
        "exclude_leaks": reports[0].exclude_leaks,
        "clean_accuracy": mean_of(clean),
        "recall": [
            mean_of([metrics["per_class"][code]["recall"] for metrics in each]) for code in range(len(EMOTIONS))
        ],
    }
    if contestant.seeds == 1:
        return row | {"intervals": each[0]["intervals"], "sd": None}
    return row | {"intervals": {}, "sd": {name: deviation([metrics[name] for metrics in each]) for name in HEADLINES}}


def mean_of(values: Sequence[float | None]) -> float | None:
    """The mean; None where one is not known."""
    return None if any(value is None for value in values) else float(np.mean([float(v or 0) for v in values]))


def deviation(values: Sequence[float | None]) -> float | None:
    """The standard deviation between seeds; None where one value is not known."""
    return None if any(value is None for value in values) else float(np.std([float(v or 0) for v in values], ddof=1))
