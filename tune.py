"""Searches settings with Optuna: a grid or TPE, several workers on one study, a table and plots at the end.

python tune.py --preset vgg_paper --epochs 30
python tune.py --model fer_vgg --dataset fer2013 --search lr=1e-3..1e-1:log batch_size=64,128 --trials 30 --workers 2
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import torch
import tyro
from filelock import FileLock, Timeout
from optuna.distributions import (
    distribution_to_json,
)
from optuna.trial import FrozenTrial, TrialState

import config
import train
from datasets import load_faces
from ferlib.runtime.errors import UserError, lookup, run_script
from ferlib.runtime.files import require
from ferlib.runtime.interrupts import interrupts_held
from ferlib.runtime.provenance import command_line, to_plain
from ferlib.runtime.runs import Run, cache_dir
from ferlib.runtime.seeds import combine_seeds
from ferlib.training.search.results import describe_params, report, trial_run
from ferlib.training.search.space import Space, grid, parse_search
from models import model_spec
from recipes import RECIPES

PRESETS: dict[str, dict[str, Any]] = {
    # Khaireddin & Chen, Facial Emotion Recognition: State of the Art Performance on FER2013 (2021, arXiv 2105.03588):
    # 73.28 % on test with SGD, Nesterov's momentum and a plateau schedule. Settings as in the authors' code
    # (github.com/usef-kh/fer): 300 epochs, lr 0.01, ×0.75 after 5 epochs on a plateau, steps of 20 epochs, restarts
    # after 10. Different here: AdamW and RAdam for Adagrad, Adadelta and ASGD; a warm-up for all, as it is the rise of
    # the one cycle; every step is ×0.75 (theirs ×0.5) and every restart's cycle twice as long as the one before.
    "vgg_paper": {
        "model": "fer_vgg",
        "dataset": "fer2013",
        "sampler": "grid",
        "pruner": "none",
        "search": (
            "optimizer=sgd,adam,adamw,radam",
            "schedule=plateau,cosine,one_cycle,warm_restarts,step,constant",
        ),
        "settings": {
            "epochs": 300,
            "batch_size": 64,
            "lr": 0.01,
            "momentum": 0.9,
            "weight_decay": 1e-4,
            "warmup_epochs": 2.0,
            "plateau_patience": 5,
            "drop": 0.75,
            "step_epochs": 20,
            "restart_epochs": 10,
            "ema_decay": 0.0,
            "clip_norm": 0.0,
            "label_smoothing": 0.0,
            "dropout": 0.1,
            "shift": 0.2,
            "scale": 0.2,
            "brightness": 0.0,
            "contrast": 0.0,
            "erasing": 0.5,
        },
    },
}
DEFAULT_TRIALS = 30  # of TPE
PRUNING_STARTS = 0.25  # share of the epochs before which no trial is stopped


# ── the study on disk ────────────────────────────────────────────────────────────────────────────────────────────────


def study_lock(flags: config.Tune) -> FileLock:
    """Held while a trial is chosen or ended, so that no two workers choose the same."""
    return FileLock(flags.folder / "locks" / "study.lock")


def trial_lock(flags: config.Tune, number: int) -> FileLock:
    """Held by the worker that runs a trial; the system frees it when that process dies, however it dies."""
    return FileLock(flags.folder / "locks" / f"{number:03d}.lock")


def prepare(flags: config.Tune) -> None:
    """Makes the study's folder with what its trials share, or checks that it was made for the same search.

    Trials write below the folder as a run writes below outputs; the decoded data set stays where it is and is linked.
    UserError for settings, a data set or a run that do not exist, and for a study made with others.
    """
    space = parse_search(flags.search)
    planned_trials(flags, space)
    model_spec(flags.model)
    if not re.fullmatch(r"\w[\w.-]*", flags.study):
        raise UserError(f"--study {flags.study}: a name is made of letters, digits, _, . and -")
    (flags.folder / "locks").mkdir(parents=True, exist_ok=True)
    cache_dir(flags.outputs_dir).mkdir(parents=True, exist_ok=True)
    with study_lock(flags):
        share(cache_dir(flags.outputs_dir), cache_dir(flags.folder))
        starts = space["init_from"].choices if "init_from" in space else [flags.settings.init_from]
        for name in filter(None, starts):
            start = Run(name, "", outputs_dir=flags.outputs_dir).best_checkpoint
            share(require(start, "python train.py --model … for that run"), flags.folder / "checkpoints" / start.name)
        fingerprint = load_faces(flags.dataset, flags.data_dir, flags.folder, flags.fold).fingerprint
        check_identity(open_study(flags), identity(flags, space, fingerprint))


def share(source: Path, place: Path) -> None:
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
    """The study in study.db, made at the first call; a writer waits up to a minute for another."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    url = f"sqlite:///{flags.folder / 'study.db'}"
    storage = optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": {"timeout": 60}})
    start = math.ceil(PRUNING_STARTS * flags.settings.epochs)
    pruner = (
        optuna.pruners.MedianPruner(n_warmup_steps=start) if flags.pruner == "median" else optuna.pruners.NopPruner()
    )
    return optuna.create_study(
        storage=storage, study_name=flags.study, direction="maximize", pruner=pruner, load_if_exists=True
    )


def identity(flags: config.Tune, space: Space, fingerprint: str) -> dict[str, Any]:
    """What every trial of a study has in common, as plain Python."""
    settings = {name: value for name, value in to_plain(flags.settings).items() if name not in space}
    search = {name: json.loads(distribution_to_json(distribution)) for name, distribution in space.items()}
    common = {"model": flags.model, "dataset": flags.dataset, "fingerprint": fingerprint, "seed": flags.seed}
    return common | {"search": search, "settings": settings}


def check_identity(study: optuna.Study, wanted: dict[str, Any]) -> None:
    """Notes a new study's identity; UserError if an old one's differs."""
    found = study.user_attrs.get("identity")
    if found is None:
        study.set_user_attr("identity", wanted)
        return
    changed = [name for name in ("model", "dataset", "fingerprint", "seed") if found[name] != wanted[name]]
    for part, label in (("search", "--search {}"), ("settings", "{}")):
        names = dict.fromkeys([*found[part], *wanted[part]])
        changed += [label.format(name) for name in names if found[part].get(name) != wanted[part].get(name)]
    if changed:
        raise UserError(
            f"study {study.study_name} was made with other settings; these differ: {', '.join(changed)}. "
            "Give them as they were, or another --study"
        )


# ── trials ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def claim(study: optuna.Study, flags: config.Tune, space: Space) -> tuple[optuna.Trial, FileLock] | None:
    """The next trial, marked as this process's own; None if none is left. The number of trials seeds the sampler."""
    with study_lock(flags):
        fail_abandoned(study, flags)
        params = next_params(study, flags, space)
        if params is None:
            return None
        study.sampler = optuna.samplers.TPESampler(seed=combine_seeds(flags.seed, len(study.trials)))
        if params:
            study.enqueue_trial(params)
        trial = study.ask(space)
        own = trial_lock(flags, trial.number)
        own.acquire()
        return trial, own


def fail_abandoned(study: optuna.Study, flags: config.Tune) -> None:
    """Marks the running trials whose process is dead as failed, so that they are run again."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        try:
            with trial_lock(flags, trial.number).acquire(timeout=0):
                study.tell(trial.number, state=TrialState.FAIL)
                remove_checkpoints(flags, trial)
        except Timeout:
            continue


def next_params(study: optuna.Study, flags: config.Tune, space: Space) -> dict[str, Any] | None:
    """Settings of the next trial: of a failed one, or of the grid; {}: the sampler chooses; None: all is done."""
    trials = study.get_trials(deepcopy=False)
    if any(trial.state is TrialState.WAITING for trial in trials):
        return {}  # a worker died between queueing and starting it
    taken = [trial.params for trial in trials if trial.state is not TrialState.FAIL]
    failed = [trial.params for trial in trials if trial.state is TrialState.FAIL]
    left = [params for params in (grid(space) if flags.sampler == "grid" else failed) if params not in taken]
    if len(taken) >= planned_trials(flags, space) or (flags.sampler == "grid" and not left):
        return None
    return left[0] if left else {}


def planned_trials(flags: config.Tune, space: Space) -> int:
    """How many trials with a result end the study."""
    points = len(grid(space)) if flags.sampler == "grid" else DEFAULT_TRIALS
    return points if flags.trials is None else flags.trials


def trial_flags(flags: config.Tune, trial: optuna.Trial, repeats: int) -> config.Train:
    """The run of a trial; the n-th repeat of the same settings has the n-th next seed."""
    params = dict(trial.params)
    common = {field.name: getattr(flags, field.name) for field in fields(config.Stage)}
    own = {"tag": trial_run(flags, trial).tag, "outputs_dir": flags.folder, "recipe": flags.recipe}
    own["format"] = flags.format
    own["seed"] = params.pop("seed", flags.seed) + repeats
    return config.Train(**common | own, settings=replace(flags.settings, **params))


def work(flags: config.Tune) -> None:
    """Runs trials until none is left."""
    study, space = open_study(flags), parse_search(flags.search)
    parent = multiprocessing.parent_process()
    while parent is None or parent.is_alive():
        claimed = claim(study, flags, space)
        if claimed is None:
            return
        trial, own = claimed
        state, value = TrialState.FAIL, None
        try:
            state, value = run_trial(study, trial, flags)
        finally:
            with study_lock(flags):
                study.tell(trial, value, state)
                own.release()
                Path(own.lock_file).unlink(missing_ok=True)
                if not flags.keep_checkpoints:
                    keep_best_checkpoint(study, flags)


def run_trial(study: optuna.Study, trial: optuna.Trial, flags: config.Tune) -> tuple[TrialState, float | None]:
    """Trains with a trial's settings; returns how it ended and the best accuracy on val of a run that was whole.

    Settings that cannot be trained (a loss that is not finite, too little memory) end the trial, not the study.
    """
    valid = [other for other in study.get_trials(deepcopy=False) if other.state is not TrialState.FAIL]
    earlier = [other for other in valid if other.number < trial.number]
    run = trial_flags(flags, trial, repeats=sum(other.params == trial.params for other in earlier))
    trial.set_user_attr("seed", run.seed)
    say = partial(print, f"trial {trial.number:03d}", file=sys.stdout, flush=True)
    planned = planned_trials(flags, parse_search(flags.search))
    done = sum(other.state.is_finished() for other in valid)
    say(f"({done} of {planned} are done) starts with {describe_params(trial.params)}")
    try:
        with output_to(run.run.logs / "training.txt"):
            history = train.fit(run, after_epoch=watch(trial, run.settings.epochs, say))
    except optuna.TrialPruned:
        say("stopped: below the median of the other trials")
        return TrialState.PRUNED, None
    except (UserError, torch.OutOfMemoryError) as error:
        trial.set_user_attr("error", str(error))
        say(f"failed: {error}")
        return TrialState.PRUNED, None
    best = max(history["epochs"], key=lambda epoch: epoch["val_accuracy"])
    trial.set_user_attr("val_macro_f1", best["val_macro_f1"])
    say(f"finished with {best['val_accuracy']:.2%} on val at epoch {best['epoch']}")
    return TrialState.COMPLETE, best["val_accuracy"]


def watch(trial: optuna.Trial, epochs: int, say: Callable[[str], None]) -> Callable[[dict[str, Any]], None]:
    """What to do after each epoch: report it, and stop a hopeless trial unless it is at its end anyway."""

    def after_epoch(epoch: dict[str, Any]) -> None:
        trial.report(epoch["val_accuracy"], epoch["epoch"])
        say(f"epoch {epoch['epoch']}/{epochs}: {epoch['val_accuracy']:.2%} on val")
        if epoch["epoch"] < epochs and trial.should_prune():
            raise optuna.TrialPruned

    return after_epoch


@contextmanager
def output_to(path: Path) -> Iterator[None]:
    """What is printed in the block, progress bars included, goes to a file: several workers share the terminal."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file, redirect_stdout(file), redirect_stderr(file):
        yield


def keep_best_checkpoint(study: optuna.Study, flags: config.Tune) -> None:
    trials = [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    best = max(complete, key=lambda trial: trial.value, default=None)
    for trial in trials:
        if trial is not best:
            remove_checkpoints(flags, trial)


def remove_checkpoints(flags: config.Tune, trial: FrozenTrial) -> None:
    run = trial_run(flags, trial)
    for path in (run.best_checkpoint, run.last_checkpoint):
        path.unlink(missing_ok=True)


# ── workers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def work_together(flags: config.Tune) -> None:
    """This process and `workers` - 1 others run trials; where this one is stopped, the others are."""
    spawn = multiprocessing.get_context("spawn")
    helpers = [spawn.Process(target=help_out, args=(flags, number)) for number in range(1, flags.workers)]
    with interrupts_held():
        for helper in helpers:
            helper.start()
    try:
        share_machine(flags.workers, 0)
        work(flags)
    except BaseException:
        for helper in helpers:
            helper.terminate()  # its trial is run again
        raise
    finally:
        for helper in helpers:
            helper.join()
    if any(helper.exitcode for helper in helpers):
        print("a worker failed, see above; its trials are run here")
        work(flags)


def help_out(flags: config.Tune, number: int) -> None:
    """One more process's work; ctrl-C is left to the first one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    share_machine(flags.workers, number)
    work(flags)


def share_machine(workers: int, number: int) -> None:
    """Each of several workers gets its share of the cores, and the GPUs in turn."""
    if workers > 1:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
        if torch.cuda.is_available():
            torch.cuda.set_device(number % torch.cuda.device_count())


# ── the command ──────────────────────────────────────────────────────────────────────────────────────────────────────


def parse_flags(arguments: list[str]) -> config.Tune:
    """Flags that start from the preset, its settings from the model's recipe; single flags then change both."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in ("--preset", "--model", "--recipe"):
        first.add_argument(name, default="")
    chosen, _ = first.parse_known_args(arguments)
    preset = dict(lookup(PRESETS, chosen.preset, "preset")) if chosen.preset else {}
    settings = preset.pop("settings", {})
    model = chosen.model or preset.get("model", config.Tune.model)
    recipe = chosen.recipe or model_spec(model).recipe
    default = config.Tune(**preset, settings=replace(lookup(RECIPES, recipe, "recipe"), **settings))
    flags = tyro.cli(config.Tune, args=arguments, default=default, config=(tyro.conf.OmitArgPrefixes,))
    return replace(flags, recipe=recipe, study=flags.study or flags.preset or flags.run.name)


def search(flags: config.Tune) -> dict[str, Any]:
    """Goes on with a study until all its trials are done; returns the content of study.json."""
    prepare(flags)
    try:
        work_together(flags)
    except KeyboardInterrupt:
        print(f"\nevery finished trial is kept in {flags.folder}; go on with the same command: {command_line()}")
        raise
    return report(open_study(flags), flags)


def main() -> None:
    search(parse_flags(sys.argv[1:]))


if __name__ == "__main__":
    run_script(main)
