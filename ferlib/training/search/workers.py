"""The workers of a study: each trains one trial after the other, alone or in several processes of a machine."""

from __future__ import annotations

import multiprocessing
import os
import platform
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

import config
from ferlib.runtime.cores import OVERRIDE, available_cores
from ferlib.runtime.errors import UserError
from ferlib.runtime.interrupts import interrupts_held
from ferlib.runtime.seeds import combine_seeds
from ferlib.training.search.results import describe_params, trial_run
from ferlib.training.search.space import Space, parse_search
from ferlib.training.search.study import (
    GRACE,
    is_repeated,
    is_surplus,
    mark_as_begun,
    may_begin,
    open_study,
    planned_trials,
    queue_again,
)
from recipes import SETTINGS, changed

Fit = Callable[..., dict[str, Any]]  # trains with config.Train, calls after_epoch, returns the history
POLL = 2.0  # seconds between two looks at trials that run elsewhere


class Surplus(Exception):
    """A trial that is one too many; it counts as failed."""


# ── one worker ───────────────────────────────────────────────────────────────────────────────────────────────────────


def run_trials(flags: config.Tune, fit: Fit) -> None:
    """Runs trials until all are done."""
    study, space = open_study(flags), parse_search(flags.search)
    while wait_for_turn(study, flags, space):
        try:
            run_next_trial(study, flags, space, fit)
        finally:
            remove_checkpoints(study, flags)


def run_next_trial(study: optuna.Study, flags: config.Tune, space: Space, fit: Fit) -> None:
    """Runs a trial in this process; one that is interrupted, by ctrl-C or an error, is queued again."""
    numbers: list[int] = []  # the trial's, once it is chosen

    def objective(trial: optuna.Trial) -> float:
        numbers.append(trial.number)
        return run_trial(study, trial, flags, space, fit)

    trials = len(study.get_trials(deepcopy=False))
    study.sampler = optuna.samplers.TPESampler(seed=combine_seeds(flags.seed, trials))
    try:
        study.optimize(objective, n_trials=1, catch=(Surplus,))
    except KeyboardInterrupt:
        for number in numbers:
            queue_again(study, number)
        raise
    except Exception:
        if any(is_repeated(study, number) for number in numbers):
            print(f"trial {numbers[0]:03d} had no heartbeat for {GRACE} s, so that another worker runs it")
            return
        for number in numbers:
            queue_again(study, number)
        raise


def wait_for_turn(study: optuna.Study, flags: config.Tune, space: Space) -> bool:
    """Whether there is a trial to run, once that is clear; False also where the process is dead that started this."""
    parent, told = multiprocessing.parent_process(), False
    while parent is None or parent.is_alive():
        answer = may_begin(study, flags, space)
        if answer is not None:
            return answer
        if not told and parent is None:
            print("waiting for trials that run elsewhere, as those whose worker dies are run again", flush=True)
        told = True
        time.sleep(POLL)
    return False


def run_trial(study: optuna.Study, trial: optuna.Trial, flags: config.Tune, space: Space, fit: Fit) -> float:
    """Trains with a trial's settings; returns the best accuracy on val of a run that was whole.

    Settings that cannot be trained (a loss that is not finite, too little memory) end the trial, not the study.
    """
    params = {name: suggest(trial, name, distribution) for name, distribution in space.items()}
    mark_as_begun(study, trial)
    if is_surplus(study, trial.number, flags, space):
        raise Surplus
    valid = [other for other in study.get_trials(deepcopy=False) if other.state is not TrialState.FAIL]
    repeats = sum(other.params == params for other in valid if other.number < trial.number)
    run = trial_flags(flags, trial.number, params, repeats)
    trial.set_user_attr("seed", run.seed)
    trial.set_user_attr("host", platform.node())
    say = partial(print, f"trial {trial.number:03d}", file=sys.stdout, flush=True)
    done = sum(other.state.is_finished() for other in valid)
    say(f"({done} of {planned_trials(flags, space)} are done) starts with {describe_params(params)}")
    try:
        with output_to(run.run.logs / "training.txt"):
            history = fit(run, after_epoch=report_epochs(trial, run.settings.training.epochs, say))
    except optuna.TrialPruned:
        say("stopped: below the median of the other trials")
        raise
    except (UserError, torch.OutOfMemoryError) as error:
        trial.set_user_attr("error", str(error))
        say(f"failed: {error}")
        raise optuna.TrialPruned from error
    best = next(row for row in history["epochs"] if row["epoch"] == history["best_epoch"])  # whose weights are kept
    trial.set_user_attr("val_macro_f1", best["val_macro_f1"])
    trial.set_user_attr("best_epoch", best["epoch"])
    say(f"finished with {best['val_accuracy']:.2%} on val at epoch {best['epoch']}")
    return best["val_accuracy"]


def suggest(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> Any:
    """The value of a setting in a trial."""
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    ask = trial.suggest_int if isinstance(distribution, IntDistribution) else trial.suggest_float
    return ask(name, distribution.low, distribution.high, log=distribution.log)


def trial_flags(flags: config.Tune, number: int, params: dict[str, Any], repeats: int) -> config.Train:
    """The run of a trial; the n-th repeat of the same settings has the n-th next seed."""
    recipe = {name: value for name, value in params.items() if name in SETTINGS}
    shared = {field.name: getattr(flags, field.name) for field in fields(config.TrainingStage)}
    own = {name: value for name, value in params.items() if name not in SETTINGS}
    own |= {"tag": trial_run(flags, number).tag, "outputs_dir": flags.folder}
    own |= {"seed": params.get("seed", flags.seed) + repeats, "settings": changed(flags.settings, **recipe)}
    return config.Train(**shared | own)


def report_epochs(trial: optuna.Trial, epochs: int, say: Callable[[str], None]) -> Callable[[dict[str, Any]], None]:
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
    with path.open("w") as file, redirect_stdout(file), redirect_stderr(file):
        yield


def remove_checkpoints(study: optuna.Study, flags: config.Tune) -> None:
    """Removes the checkpoints of failed trials and, unless all are to be kept, those of all but the best trial."""
    finished = [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]
    complete = [trial for trial in finished if trial.state is TrialState.COMPLETE]
    best = max(complete, key=accuracy, default=None)
    for trial in finished:
        if trial.state is TrialState.FAIL or (trial is not best and not flags.keep_checkpoints):
            run = trial_run(flags, trial.number)
            for path in (run.best_checkpoint, run.last_checkpoint):
                path.unlink(missing_ok=True)


def accuracy(trial: FrozenTrial) -> float:
    """The value of a trial that was whole."""
    assert trial.value is not None
    return trial.value


# ── several processes ────────────────────────────────────────────────────────────────────────────────────────────────


def run_workers(flags: config.Tune, fit: Fit) -> None:
    """This process and `workers` - 1 others run trials; where this one is stopped, the others are."""
    flags = replace(flags, workers=min(flags.workers, max(1, planned_trials(flags, parse_search(flags.search)))))
    spawn = multiprocessing.get_context("spawn")
    helpers = [spawn.Process(target=run_helper, args=(flags, fit, number)) for number in range(1, flags.workers)]
    with interrupts_held():
        for helper in helpers:
            helper.start()
    try:
        share_machine(flags.workers, 0)
        run_trials(flags, fit)
    except BaseException:
        for helper in helpers:
            helper.terminate()
        raise
    finally:
        for helper in helpers:
            helper.join()
    if any(helper.exitcode for helper in helpers):
        print("a worker failed, see above; its trials were run by others")


def run_helper(flags: config.Tune, fit: Fit, number: int) -> None:
    """One more process's trials; ctrl-C is left to the first process, which terminates the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # its trial is queued again
    share_machine(flags.workers, number)
    with suppress(KeyboardInterrupt):
        run_trials(flags, fit)


def share_machine(workers: int, number: int) -> None:
    """Each of several workers gets its share of the cores, and the GPUs in turn."""
    if workers > 1:
        threads = max(1, available_cores() // workers)
        os.environ[OVERRIDE] = str(threads)
        torch.set_num_threads(threads)
        if torch.cuda.is_available():
            torch.cuda.set_device(number % torch.cuda.device_count())
