"""A study: its database, what its trials have in common, which trials are left, and those of workers that died.

Each worker records a heartbeat for the trial that it runs, and a trial whose heartbeat stops is run again by another
worker (Optuna's RDBStorage): so workers may share a study on one machine, through SQLite, or on several.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import time
import warnings
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import sqlalchemy
from filelock import FileLock
from optuna.distributions import distribution_to_json
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState

import config
from datasets import load_faces
from ferlib.data.face_data import FaceData
from ferlib.runtime.digests import digest, digest_file
from ferlib.runtime.errors import UserError
from ferlib.runtime.files import check_writable, require
from ferlib.runtime.runs import Run, cache_dir
from ferlib.training.search.space import Space, grid, parse_search
from models import model_spec
from recipes import recorded

UNRECORDED = (
    "teacher_digests",
    "initial_digests",
    "votes",
    "amp",
)  # what earlier versions did not record and is taken to be as it was
DEFAULT_TRIALS = 30  # of TPE
PRUNING_STARTS = 0.25  # share of the epochs before which no trial is stopped
HEARTBEAT = 15  # seconds between two heartbeats of a trial that runs
EXAMPLE = "postgresql+psycopg://USER@HOST/DATABASE"
GRACE = 60  # seconds without a heartbeat after which a trial's worker counts as dead

# ── the study on disk ────────────────────────────────────────────────────────────────────────────────────────────────


def prepare_study(flags: config.Tune) -> None:
    """Makes the study with what its trials share, or checks that it was made for the same search.

    Trials write below the study's folder as a run writes below outputs; the decoded data set stays where it is and is
    linked. UserError for settings, a data set or a run that do not exist, and for a study made with others.
    """
    space = parse_search(flags.search)
    if planned_trials(flags, space) < 0 or flags.workers < 1:
        raise UserError("--trials must be at least 0 and --workers at least 1")
    model_spec(flags.model)
    if not re.fullmatch(r"\w[\w.-]*", flags.study):
        raise UserError(f"--study {flags.study}: a name is made of letters, digits, _, . and -")
    check_writable(flags.folder / "study.db")
    cache_dir(flags.outputs_dir).mkdir(parents=True, exist_ok=True)
    with FileLock(flags.folder / "prepare.lock"):  # two terminals may start at once
        study = open_study(flags)
        link(cache_dir(flags.outputs_dir), cache_dir(flags.folder))
        digests: dict[str, Any] = {
            "initial_digests": link_starts(flags, space),
            "teacher_digests": link_teachers(flags),
        }
        data = load_faces(flags.dataset, flags.data_dir, flags.folder, flags.fold)
        check_data(flags, data)
        digests["votes"] = votes_digest(flags, space, data)
        check_identity(study, study_identity(flags, space, data.fingerprint, digests))
        if flags.sampler == "grid":
            enqueue_missing(study, grid(space))


def check_data(flags: config.Tune, data: FaceData) -> None:
    """UserError for what would end every trial: unknown votes, networks that may have seen the test faces."""
    settings = flags.settings
    alone = settings.training.weights in ("none", "imagenet") and not (flags.teacher or flags.init_from)
    if alone and settings.objective.loss != "votes":
        return
    from ferlib.training.seen_faces import check_held_out  # only here: they import torch
    from ferlib.training.settings_checks import check_votes
    from ferlib.training.teachers import find_teacher

    check_votes(flags, data)
    below = replace(flags, outputs_dir=flags.folder)  # where runs to start from are linked
    check_held_out(below, data, {name: find_teacher(name, below) for name in flags.teacher})


def link_starts(flags: config.Tune, space: Space) -> dict[str, str]:
    """Links the runs that trials start from into the study's folder; the digests of all files of first weights."""
    names = getattr(space.get("init_from"), "choices", [flags.init_from])
    weights = getattr(space.get("weights"), "choices", [flags.settings.training.weights])
    given = [name for name in weights if name not in ("none", "imagenet")]
    if given and any(names):
        raise UserError(f"--weights {given[0]} and --init-from both name the weights that trials start from; give one")
    files = {name: Run(name, "", outputs_dir=flags.outputs_dir).best_checkpoint for name in filter(None, names)}
    for file in files.values():
        link(require(file, "python train.py --model … for that run"), flags.folder / "checkpoints" / file.name)
    files |= {name: Path(name) for name in given}
    return {name: digest_file(file) for name, file in files.items() if file.is_file()}


def votes_digest(flags: config.Tune, space: Space, data: FaceData) -> str:
    """Of the annotators' votes, which are no part of the data's fingerprint; "" where no trial learns from them."""
    objective = flags.settings.objective
    learned = objective.loss == "votes" or objective.votes_weight or {"loss", "votes_weight"} & set(space)
    if not learned:
        return ""
    return digest(b"" if data.votes is None else np.ascontiguousarray(data.votes).tobytes())


def link_teachers(flags: config.Tune) -> dict[str, str]:
    """Links the checkpoints of teachers that are runs into the study's folder; the digest of each teacher, by name."""
    if not flags.teacher:
        return {}
    from ferlib.training.teachers import digests_of, find_teacher  # only here: it imports torch

    teachers = {name: find_teacher(name, flags) for name in flags.teacher}
    for run, path in teachers.values():
        if path == run.best_checkpoint:
            link(path, flags.folder / "checkpoints" / path.name)
    return digests_of(teachers)


def link(source: Path, place: Path) -> None:
    """A relative link at `place`; where the system allows none, a file is copied and a cache made anew."""
    if place.exists():
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        place.symlink_to(os.path.relpath(source.resolve(), place.parent.resolve()))
    except OSError:
        if source.is_file():
            shutil.copy2(source, place)


def open_study(flags: config.Tune) -> optuna.Study:
    """The study in --storage or in study.db, made at the first call; UserError for a database that does not open."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # heartbeats
    first_epoch = math.ceil(PRUNING_STARTS * flags.settings.training.epochs)
    return optuna.create_study(
        storage=open_storage(flags.storage) if flags.storage else open_own_storage(flags.folder / "study.db"),
        study_name=flags.study,
        direction="maximize",
        pruner=optuna.pruners.MedianPruner(n_warmup_steps=first_epoch)
        if flags.pruner == "median"
        else optuna.pruners.NopPruner(),
        load_if_exists=True,
    )


def open_own_storage(path: Path) -> RDBStorage:
    """The database in the study's folder; UserError naming the file where it is damaged or its disk is full."""
    try:
        return open_storage(f"sqlite:///{path}")
    except UserError as error:
        reason = str(error).removeprefix("--storage cannot be opened: ").removesuffix(f"; give {EXAMPLE}, say")
        advice = "free some space, remove it, or give another --study"
        raise UserError(f"{path} cannot be opened: {reason}; {advice}") from error


def open_storage(url: str) -> RDBStorage:
    """A database of studies whose trials have heartbeats; UserError for one that does not open.

    One of SQLite waits up to a minute for another writer. Machines that make the tables of an empty database at the
    same moment fail all but one, and try again.
    """
    engine_kwargs = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {"pool_pre_ping": True}
    for last_try in (False, True):
        try:
            return RDBStorage(
                url,
                engine_kwargs=engine_kwargs,
                heartbeat_interval=HEARTBEAT,
                grace_period=GRACE,
                heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(),
            )
        except ImportError as error:
            raise UserError(
                f"--storage needs the driver of its database ({error.__cause__ or error}); pip install "
                f"'psycopg[binary]' for {EXAMPLE}, or pymysql for mysql+pymysql://USER@HOST/DATABASE"
            ) from error
        except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            if last_try:
                reason = str(error.__cause__ or error).splitlines()[0]
                raise UserError(f"--storage cannot be opened: {reason}; give {EXAMPLE}, say") from error
            time.sleep(2)
    raise AssertionError("unreachable")


def study_identity(flags: config.Tune, space: Space, fingerprint: str, digests: dict[str, Any]) -> dict[str, Any]:
    """What every trial of a study has in common, as plain Python; digests: of what UNRECORDED names, empty for none."""
    settings = flags.settings.flat() | flags.beside_recipe()
    settings |= {name: value for name, value in digests.items() if value} | {"amp": flags.amp}
    search = {name: json.loads(distribution_to_json(distribution)) for name, distribution in space.items()}
    common = {"model": flags.model, "dataset": flags.dataset, "fingerprint": fingerprint, "seed": flags.seed}
    return common | {
        "search": search,
        "settings": {name: value for name, value in settings.items() if name not in space},
    }


def check_identity(study: optuna.Study, wanted: dict[str, Any]) -> None:
    """Notes a new study's identity; UserError if an old one's differs, except for settings that are newer than it."""
    found = study.user_attrs.get("identity")
    if found is None:
        study.set_user_attr("identity", wanted)
        return
    known = found["settings"]
    kept, given = ({**config.LATER_SETTINGS, **each["settings"]} for each in (found, wanted))
    kept = {name: given[name] for name in UNRECORDED if name in given} | kept
    wanted = {**wanted, "settings": given}
    found = {**found, "settings": {name: recorded(kept, name) for name in (*kept, *wanted["settings"])}}
    changed = [name for name in ("model", "dataset", "fingerprint", "seed") if found[name] != wanted[name]]
    for part, label in (("search", "--search {}"), ("settings", "{}")):
        names = dict.fromkeys([*found[part], *wanted[part]])
        changed += [label.format(name) for name in names if found[part].get(name) != wanted[part].get(name)]
    if changed:
        raise UserError(
            f"study {study.study_name} was made with other settings; these differ: {', '.join(changed)}. "
            "Give them as they were, or another --study"
        )
    if newly := {name: given[name] for name in UNRECORDED if name in given and name not in known}:
        study.set_user_attr("identity", {**study.user_attrs["identity"], "settings": known | newly})


# ── which trials are left ────────────────────────────────────────────────────────────────────────────────────────────


def planned_trials(flags: config.Tune, space: Space) -> int:
    """How many trials with a result end the study."""
    points = len(grid(space)) if flags.sampler == "grid" else DEFAULT_TRIALS
    return points if flags.trials is None else flags.trials


def enqueue_missing(study: optuna.Study, points: Iterable[dict[str, Any]]) -> None:
    """Queues the points of a grid that no trial has, or only trials that failed."""
    trials = [trial for trial in study.get_trials(deepcopy=False) if trial.state is not TrialState.FAIL]
    known = [trial.system_attrs.get("fixed_params", trial.params) for trial in trials]
    for params in points:
        if params not in known:
            study.enqueue_trial(params)


def is_surplus(study: optuna.Study, number: int, flags: config.Tune, space: Space) -> bool:
    """Whether a trial that has begun is one too many, as two workers may begin trials at the same moment.

    So it is if enough trials were begun before it, or, in a grid, one with its settings.
    """
    trials = study.get_trials(deepcopy=False)
    earlier = [trial for trial in trials[:number] if trial.state not in (TrialState.FAIL, TrialState.WAITING)]
    begun = flags.sampler == "grid" and any(trial.params == trials[number].params for trial in earlier)
    return begun or len(earlier) >= planned_trials(flags, space)


def may_begin(study: optuna.Study, flags: config.Tune, space: Space) -> bool | None:
    """Whether a worker may begin a trial; None while it depends on trials that run elsewhere and may fail."""
    fail_lost(study)
    states = [trial.state for trial in study.get_trials(deepcopy=False)]
    done = states.count(TrialState.COMPLETE) + states.count(TrialState.PRUNED)
    running, planned = states.count(TrialState.RUNNING), planned_trials(flags, space)
    queued = flags.sampler == "tpe" or TrialState.WAITING in states
    if done >= planned or not (queued or running):
        return False
    return True if queued and done + running < planned else None


# ── trials of workers that died ──────────────────────────────────────────────────────────────────────────────────────


def fail_lost(study: optuna.Study) -> None:
    """Marks the trials of dead workers as failed, and queues their settings again."""
    optuna.storages.fail_stale_trials(study)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        started = trial.datetime_start or datetime.now()
        if not has_begun(trial) and started < datetime.now() - timedelta(seconds=GRACE):
            queue_again(study, trial.number)


def mark_as_begun(study: optuna.Study, trial: optuna.Trial) -> None:
    """Records the first heartbeat of a trial, and notes that it has one.

    A worker may die before the thread in which Optuna records heartbeats has done so, and Optuna counts a trial without
    any as alive for ever.
    """
    study._storage.record_heartbeat(trial._trial_id)
    trial.set_user_attr("begun", trial.number)


def has_begun(trial: FrozenTrial) -> bool:
    """Whether the trial itself, and not only one that it repeats, was marked."""
    return trial.user_attrs.get("begun") == trial.number


def queue_again(study: optuna.Study, number: int) -> None:
    """Marks a trial without a result as failed, and queues its settings again."""
    study.tell(number, state=TrialState.FAIL, skip_if_finished=True)
    trial = study.trials[number]
    if trial.state is TrialState.FAIL and not is_repeated(study, number):
        RetryHeartbeatStaleTrialCallback()(study, trial)


def is_repeated(study: optuna.Study, number: int) -> bool:
    """Whether a later trial repeats this one."""
    later = study.get_trials(deepcopy=False)[number + 1 :]
    return any(number in RetryHeartbeatStaleTrialCallback.retry_history(trial) for trial in later)
