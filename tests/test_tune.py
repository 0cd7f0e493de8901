"""tune.py: the search space, a grid and TPE on a training with a known optimum, dead workers, one real study."""

import csv
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest
import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

import config
import train
import tune
from ferlib.figures import tuning as tuning_plots
from ferlib.networks.tensor_files import read_tensors
from ferlib.runtime.errors import UserError
from ferlib.runtime.provenance import command_line
from ferlib.runtime.runs import Run, cache_dir, data_dir_of
from ferlib.training import fitting
from ferlib.training.search import study as studies
from ferlib.training.search import workers
from ferlib.training.search.presets import PRESETS
from ferlib.training.search.results import stopped_early, summarise, train_command, trial_run
from ferlib.training.search.space import grid, parse_search
from ferlib.training.search.study import (
    check_identity,
    link_starts,
    open_study,
    planned_trials,
    prepare_study,
    votes_digest,
)
from recipes import RECIPES, changed

GRID = ("optimizer=sgd,adam,adamw", "flip=0.0,0.5")
PLOT_STUDY = tuning_plots.plot_study
ACCURACIES = {"sgd": 0.6, "adam": 0.5, "adamw": 0.4, "radam": 0.3}


def accuracy(recipe):
    """Best with SGD, flips and a learning rate of 0.01."""
    rate, flip = recipe.learning_rate.lr, recipe.augmentation.flip
    return ACCURACIES[recipe.optimization.optimizer] + 0.1 * flip - 0.05 * (math.log10(rate) + 2) ** 2


@pytest.fixture
def calls(monkeypatch):
    """Replaces the training by the known function, and plots by nothing; returns the settings of each call."""
    made = []

    def fit(flags, after_epoch):
        made.append(flags.settings)
        epochs, planned = [], flags.settings.training.epochs
        for epoch in range(1, planned + 1):
            share = epoch / planned
            epochs.append({"epoch": epoch, "val_accuracy": share * accuracy(flags.settings), "val_macro_f1": share})
            for path in (flags.run.best_checkpoint, flags.run.last_checkpoint):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("weights")
            after_epoch(epochs[-1])
        return {"epochs": epochs, "best_epoch": len(epochs)}

    monkeypatch.setattr(train, "fit", fit)
    monkeypatch.setattr(tuning_plots, "plot_study", lambda *results: None)
    return made


@pytest.fixture
def make_flags(shared_outputs):
    def make(study, *search, epochs=1, lr=0.01, **changes):
        common = {"outputs_dir": shared_outputs, "device": "cpu", "amp": False, "pruner": "none", "recipe": "quick"}
        settings = changed(RECIPES["quick"], batch_size=16, epochs=epochs, lr=lr)
        return config.Tune(study=study, search=search, settings=settings, max_steps=2, **common | changes)

    return make


# ── the search space ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_search_space():
    words = ("optimizer=sgd,adam,sgd", "lr=1e-4..1e-1:log", "momentum=0.8..0.99", "batch_size=64,128", "epochs=2..9")
    assert parse_search(words) == {
        "optimizer": CategoricalDistribution(("sgd", "adam")),
        "lr": FloatDistribution(1e-4, 1e-1, log=True),
        "momentum": FloatDistribution(0.8, 0.99),
        "batch_size": CategoricalDistribution((64, 128)),
        "epochs": IntDistribution(2, 9),
    }
    others = (
        "backbone_lr=none,5",
        "class_weights=true,false",
        "seed=0,1",
        "weights=none,../a.pth",
        "step_epochs=1..9:log",
    )
    space = parse_search(others)
    assert space["backbone_lr"].choices == (None, 5)
    assert space["class_weights"].choices == (True, False)
    assert space["weights"].choices == ("none", "../a.pth")
    assert space["step_epochs"] == IntDistribution(1, 9, log=True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "nothing to search"),
        (("optimiser=sgd",), "did you mean optimizer"),
        (("optimizer=sgd,adagrad",), "Valid names: sgd, adam"),
        (("optimizer=sgd..adam",), "unknown value of optimizer"),
        (("lr=fast",), "'fast' is no value of lr: it is a number"),
        (("lr=nan",), "'nan' is no value of lr"),
        (("batch_size=64.5",), "a whole number"),
        (("class_weights=yes",), "true or false"),
        (("image_size=some",), "a whole number or none"),
        (("lr=1e-1..1e-4",), "lr=1e-1..1e-4"),
        (("lr=0..1:log",), "lr=0..1:log"),
        (("lr=0.1..1:linear",), "only :log"),
        (("lr",), "lr=0.1,0.01"),
        (("lr=0.1", "lr=0.2"), "each setting once"),
    ],
)
def test_bad_search_space(words, said):
    with pytest.raises(UserError) as error:
        parse_search(words)
    assert said in str(error.value)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid_and_flags_change_them(name):
    flags = tune.parse_study(["--preset", name, "--epochs", "7", "--dataset", "synthetic", "--workers", "2"])
    assert (flags.study, flags.dataset, flags.settings.training.epochs, flags.workers) == (name, "synthetic", 7, 2)
    points = grid(parse_search(flags.search))
    assert len(points) == planned_trials(flags, parse_search(flags.search))
    for params in points:
        changed(flags.settings, **params)


def test_flags_without_a_preset():
    flags = tune.parse_study(["--model", "fer_resnet", "--search", "lr=0.1,0.2", "flip=0..1", "--lr", "0.5"])
    assert flags.search == ("lr=0.1,0.2", "flip=0..1")
    assert flags.study == "fer_resnet_synthetic"
    assert flags.settings == changed(RECIPES["fast"], lr=0.5)


# ── studies of the known function ────────────────────────────────────────────────────────────────────────────────────


def test_grid_covers_every_combination_once_and_resumes(calls, make_flags):
    part = tune.search(make_flags("grid", *GRID, sampler="grid", trials=4))
    assert len(part["trials"]) == len(calls) == 4
    whole = tune.search(make_flags("grid", *GRID, sampler="grid"))
    assert len(calls) == 6
    assert len({(recipe.optimization.optimizer, recipe.augmentation.flip) for recipe in calls}) == 6
    assert whole["best"]["params"] == {"optimizer": "sgd", "flip": 0.5}
    assert whole["best"]["val_accuracy"] == pytest.approx(0.65)
    assert [row["val_accuracy"] for row in whole["trials"]] == pytest.approx([0.65, 0.6, 0.55, 0.5, 0.45, 0.4])
    tune.search(make_flags("grid", *GRID, sampler="grid"))
    assert len(calls) == 6


def test_files_of_a_study(calls, make_flags, monkeypatch, capsys):
    monkeypatch.setattr(tuning_plots, "plot_study", PLOT_STUDY)
    flags = make_flags("files", *GRID, sampler="grid")
    content = tune.search(flags)
    assert json.loads((flags.folder / "study.json").read_text())["best"] == content["best"]
    rows = list(csv.DictReader((flags.folder / "results.csv").open()))
    assert [row["optimizer"] for row in rows] == ["sgd", "sgd", "adam", "adam", "adamw", "adamw"]
    plots = ("accuracy_by_optimizer", "accuracy_by_flip", "importance", "history")
    assert all((flags.folder / f"{name}.png").stat().st_size > 1000 for name in plots)
    assert content["by_field"]["optimizer"]["adam"] == pytest.approx(
        {"trials": 2, "stopped": 0, "mean": 0.525, "sd": 0.05 / 2**0.5, "best": 0.55}
    )
    assert content["importance"]["optimizer"] > content["importance"]["flip"]
    assert "--optimizer sgd" in content["train_command"]
    kept = {path.name for path in (flags.folder / "checkpoints").iterdir()}
    best = trial_run(flags, open_study(flags).best_trial.number)
    assert kept == {best.best_checkpoint.name, best.last_checkpoint.name}
    assert cache_dir(flags.folder).resolve() == cache_dir(flags.outputs_dir).resolve()
    assert "trial 000 epoch 1/1" in capsys.readouterr().out


def test_trials_that_were_stopped_early_are_counted_beside_the_means():
    states = ("complete", "pruned", "complete", "pruned", "failed")
    rows = [{"state": state, "params": {"optimizer": name}} for state, name in zip(states, "abaaa", strict=True)]
    assert stopped_early(rows, "optimizer") == {"a": 1, "b": 1}
    found = summarise({"a": [0.5, 0.7]}, stopped_early(rows, "optimizer"))
    assert (found["a"]["trials"], found["a"]["stopped"], found["a"]["mean"]) == (2, 1, pytest.approx(0.6))
    assert found["b"] == {"trials": 0, "stopped": 1, "mean": None, "sd": None, "best": None}


def test_the_command_of_the_best_trains_on_the_same_faces(make_flags):
    flags = replace(make_flags("command", *GRID), dataset="jaffe", fold=3, amp=False)
    words = train_command(flags, {"params": {"lr": 0.1}, "seed": flags.seed})
    assert "--dataset jaffe" in words
    assert "--fold 3 --no-amp" in words
    assert "--fold" not in train_command(replace(flags, fold=0, amp=True), {"params": {}, "seed": 0})
    places = train_command(replace(flags, data_dir=Path("/csv"), outputs_dir=Path("/o")), {"params": {}, "seed": 0})
    assert "--data-dir /csv --outputs-dir /o" in places


def test_the_accuracy_of_a_trial_is_that_of_the_weights_that_are_kept(calls, make_flags, monkeypatch, capsys):
    """Where epochs are chosen by the loss, that need not be the highest."""
    fit = train.fit
    monkeypatch.setattr(train, "fit", lambda flags, after_epoch: fit(flags, after_epoch) | {"best_epoch": 1})
    content = tune.search(make_flags("by-loss", "optimizer=sgd,adam", sampler="grid", epochs=3))
    assert content["best"]["best_epoch"] == 1
    assert content["best"]["epochs"] == 3
    assert content["best"]["val_accuracy"] == pytest.approx(0.65 / 3)
    assert "on val at epoch 1" in capsys.readouterr().out


def test_checkpoints_are_kept_on_request(calls, make_flags):
    flags = make_flags("kept", "flip=0.0,0.5", sampler="grid", keep_checkpoints=True)
    tune.search(flags)
    assert len(list((flags.folder / "checkpoints").iterdir())) == 4


def test_tpe_beats_its_first_random_trials(calls, make_flags):
    content = tune.search(make_flags("tpe", "lr=1e-5..1:log", "optimizer=sgd,adam,adamw,radam", trials=18))
    by_trial = sorted(content["trials"], key=lambda row: row["trial"])
    values = [row["val_accuracy"] for row in by_trial]
    assert len(values) == 18
    assert max(values[10:]) > max(values[:10])
    assert content["best"]["params"]["optimizer"] == "sgd"


def test_repeated_settings_get_another_seed(calls, make_flags):
    content = tune.search(make_flags("seeds", "flip=0.5", trials=3))
    assert sorted(row["seed"] for row in content["trials"]) == [0, 1, 2]


def test_hopeless_trials_are_stopped(calls, make_flags):
    rates = "lr=0.01,0.02,0.005,0.015,0.008,1,2"
    content = tune.search(make_flags("pruned", rates, sampler="grid", pruner="median", epochs=4))
    stopped = {row["params"]["lr"]: row["epochs"] for row in content["trials"] if row["state"] == "pruned"}
    assert stopped == {1: 1, 2: 1}
    assert content["best"]["params"] == {"lr": 0.01}


def test_settings_that_cannot_be_trained_end_the_trial_only(calls, make_flags, monkeypatch):
    known = train.fit

    def fit(flags, after_epoch):
        if flags.settings.learning_rate.lr > 0.5:
            raise UserError("the loss is nan")
        return known(flags, after_epoch)

    monkeypatch.setattr(train, "fit", fit)
    content = tune.search(make_flags("nan", "lr=1,0.01", sampler="grid"))
    assert [(row["state"], row["error"]) for row in content["trials"]] == [
        ("complete", ""),
        ("failed", "the loss is nan"),
    ]
    with pytest.raises(UserError, match=r"trial 0 failed: the loss is nan"):
        tune.search(make_flags("all_nan", "lr=1,2", sampler="grid"))


def test_study_of_other_settings_is_refused(calls, make_flags):
    tune.search(make_flags("fixed", "flip=0.0,0.5", sampler="grid"))
    with pytest.raises(UserError, match=r"these differ: --search flip\."):
        tune.search(make_flags("fixed", "flip=0.0,0.6", sampler="grid"))
    with pytest.raises(UserError, match=r"these differ: seed, epochs, lr\."):
        tune.search(make_flags("fixed", "flip=0.0,0.5", sampler="grid", epochs=2, lr=0.1, seed=3))
    assert len(calls) == 2


def test_a_study_that_is_older_than_a_setting_goes_on_with_its_default():
    study = optuna.create_study()
    shared = {"model": "a", "dataset": "b", "fingerprint": "c", "seed": 0, "search": {"lr": 1}}
    check_identity(study, {**shared, "settings": {"epochs": 2}})
    check_identity(study, {**shared, "settings": {"epochs": 2, "mixup": 0.0}})
    with pytest.raises(UserError, match=r"these differ: mixup\."):
        check_identity(study, {**shared, "settings": {"epochs": 2, "mixup": 0.1}})


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"model": "vgg"}, "model"), ({"study": "../up"}, "a name is made of"), ({"sampler": "grid"}, "not a range: lr=")],
)
def test_bad_flags_are_refused_before_any_trial(calls, make_flags, changes, said):
    flags = replace(make_flags("bad", "lr=0.1..1"), **changes)
    with pytest.raises(UserError, match=said):
        tune.search(flags)
    assert not calls


def test_runs_to_start_from_are_found_below_the_study(calls, make_flags):
    start = Run("start", "rafdb", outputs_dir=make_flags("start").outputs_dir).best_checkpoint
    start.parent.mkdir(exist_ok=True)
    start.write_text("weights")
    flags = make_flags("start", "init_from=start_rafdb", sampler="grid")
    prepare_study(flags)
    assert (flags.folder / "checkpoints" / start.name).read_text() == "weights"
    prepare_study(flags)
    start.write_text("trained again")
    with pytest.raises(UserError, match="these differ: initial_digests"):
        prepare_study(flags)
    with pytest.raises(UserError, match=r"nobody_best\.pth does not exist"):
        prepare_study(make_flags("start", "init_from=nobody", sampler="grid"))
    two = replace(flags, study="two", settings=changed(flags.settings, weights="a.pth"))
    with pytest.raises(UserError, match=r"--weights a\.pth and --init-from both name the weights"):
        prepare_study(two)


def test_the_votes_that_trials_learn_from_stay_the_same(make_flags, synthetic):
    flags = make_flags("votes", "lr=0.1,0.2")
    voted = [replace(synthetic, votes=np.full((len(synthetic), 7), share, np.float32)) for share in (0.1, 0.2)]
    assert votes_digest(flags, {}, voted[0]) == "", "no trial learns from them"
    learning = replace(flags, settings=changed(flags.settings, votes_weight=0.5))
    assert len({votes_digest(learning, {}, data) for data in (*voted, synthetic)}) == 3
    assert votes_digest(flags, parse_search(["votes_weight=0.0..1.0"]), voted[0])


def test_weights_of_a_file_are_known_by_their_content(make_flags, tmp_path):
    (tmp_path / "a.pth").write_text("weights")
    for search in (f"weights=none,{tmp_path / 'a.pth'}", "lr=0.1,0.2"):
        flags = make_flags("file", search)
        flags = replace(flags, settings=changed(flags.settings, weights=str(tmp_path / "a.pth")))
        assert list(link_starts(flags, parse_search(flags.search))) == [str(tmp_path / "a.pth")]


def test_teachers_are_found_below_the_study_and_stay_the_same(calls, make_flags, train_flags):
    fitting.fit(teacher := train_flags("teacher", epochs=1))
    flags = make_flags("taught", "lr=0.1,0.2", sampler="grid", teacher=("mini_resnet:teacher",))
    prepare_study(flags)
    linked = Run("mini_resnet", "synthetic", "teacher", flags.folder)
    assert linked.best_checkpoint.read_bytes() == teacher.run.best_checkpoint.read_bytes()
    prepare_study(flags)
    study = open_study(flags)
    identity = study.user_attrs["identity"]
    earlier = {name: value for name, value in identity["settings"].items() if name != "teacher_digests"}
    study.set_user_attr("identity", {**identity, "settings": earlier})
    check_identity(study, identity)
    assert study.user_attrs["identity"] == identity, "it knows them from now on"
    fitting.fit(replace(teacher, seed=5))
    with pytest.raises(UserError, match="these differ: teacher_digests"):
        prepare_study(flags)


def test_a_model_may_teach_itself_in_a_study(calls, make_flags, train_flags):
    fitting.fit(train_flags("", epochs=1))
    prepare_study(make_flags("itself", "lr=0.1,0.2", sampler="grid", teacher=("mini_resnet",)))


def test_what_would_end_every_trial_is_found_before(calls, make_flags, train_flags, tmp_path):
    votes = make_flags("votes", "lr=0.1,0.2")
    votes = replace(votes, settings=changed(votes.settings, loss="votes"))
    fitting.fit(run := train_flags("version", epochs=1))
    content = read_tensors(run.run.best_checkpoint)
    content["identity"]["fingerprint"] = "another"
    torch.save(content, tmp_path / "other.pth")
    taught = make_flags("other", "lr=0.1,0.2", teacher=(str(tmp_path / "other.pth"),))
    for flags, said in ((votes, "no annotators' votes"), (taught, "version or fold of the faces of synthetic")):
        with pytest.raises(UserError, match=said):
            prepare_study(flags)


# ── interrupted and several workers ──────────────────────────────────────────────────────────────────────────────────


def test_interrupted_trial_is_repeated(calls, make_flags, monkeypatch, capsys):
    known = train.fit

    def interrupted(flags, after_epoch):
        if len(calls) == 2:
            raise KeyboardInterrupt
        return known(flags, after_epoch)

    flags = make_flags("interrupted", *GRID, sampler="grid")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(train, "fit", interrupted)
        tune.search(flags)
    assert "go on with the same command" in capsys.readouterr().out
    content = tune.search(flags)
    assert len(calls) == len(content["trials"]) == 6
    states = [trial.state for trial in open_study(flags).trials]
    assert states.count(TrialState.FAIL) == 1


@pytest.fixture
def quick_heartbeats(monkeypatch):
    """A worker counts as dead after a second without a heartbeat."""
    monkeypatch.setattr(studies, "HEARTBEAT", 1)
    monkeypatch.setattr(studies, "GRACE", 2)
    monkeypatch.setattr(workers, "POLL", 0.1)


def begin_trial(study, space):
    """A trial as a worker begins it, with one heartbeat."""
    trial = study.ask()
    for name, distribution in space.items():
        workers.suggest(trial, name, distribution)
    studies.mark_as_begun(study, trial)
    return trial


def test_trial_of_a_dead_worker_is_repeated_and_of_a_living_one_is_not(
    calls, make_flags, quick_heartbeats, monkeypatch
):
    flags = make_flags("dead", *GRID, sampler="grid")
    prepare_study(flags)
    study, space = open_study(flags), parse_search(flags.search)
    dead = begin_trial(study, space)
    others_are_done, has_begun = threading.Event(), threading.Event()

    def live(trial):
        for name, distribution in space.items():
            workers.suggest(trial, name, distribution)
        studies.mark_as_begun(study, trial)
        has_begun.set()
        assert others_are_done.wait(60)
        trial.report(0.1, 1)
        return 0.1

    living = threading.Thread(target=lambda: open_study(flags).optimize(live, n_trials=1))
    living.start()
    assert has_begun.wait(60)
    known = train.fit

    def fit(flags, after_epoch):
        history = known(flags, after_epoch)
        if len(calls) == 5:
            others_are_done.set()
        return history

    monkeypatch.setattr(train, "fit", fit)
    content = tune.search(flags)
    living.join()
    assert len(content["trials"]) == 6
    assert len(calls) == 5, "the living worker's trial was run twice"
    assert study.trials[dead.number].state is TrialState.FAIL
    assert [trial.state for trial in study.trials].count(TrialState.FAIL) == 1


def test_trial_of_a_worker_that_died_before_its_first_heartbeat_is_repeated(calls, make_flags, quick_heartbeats):
    flags = make_flags("unborn", *GRID, sampler="grid")
    prepare_study(flags)
    trial = open_study(flags).ask()
    content = tune.search(flags)
    assert len(content["trials"]) == len(calls) == 6
    assert open_study(flags).trials[trial.number].state is TrialState.FAIL


def test_trial_that_others_took_for_dead_is_left_to_them(calls, make_flags, monkeypatch, capsys):
    """A process that was suspended has had no heartbeat; when it goes on, its trial is another worker's."""
    flags, known = make_flags("suspended", *GRID, sampler="grid"), train.fit

    def fit(run, after_epoch):
        if len(calls) == 1:
            study = open_study(flags)
            (number,) = [trial.number for trial in study.trials if trial.state is TrialState.RUNNING]
            studies.queue_again(study, number)
        return known(run, after_epoch)

    monkeypatch.setattr(train, "fit", fit)
    content = tune.search(flags)
    assert "another worker runs it" in capsys.readouterr().out
    assert len(content["trials"]) == 6
    assert len(calls) == 7


def test_two_workers_that_begin_trials_at_the_same_moment_run_no_more_than_are_planned(calls, make_flags):
    flags = make_flags("surplus", *GRID, sampler="grid")
    prepare_study(flags)
    study = open_study(flags)
    study.enqueue_trial({"optimizer": "adam", "flip": 0.5})  # as another terminal may do
    content = tune.search(flags)
    assert len(content["trials"]) == len(calls) == 6
    settings = [(recipe.optimization.optimizer, recipe.augmentation.flip) for recipe in calls]
    assert len(set(settings)) == 6
    assert not studies.is_surplus(study, 5, flags, parse_search(flags.search))
    assert studies.is_surplus(study, 6, flags, parse_search(flags.search))


WORKER = """
import multiprocessing, os, sys, time
sys.path.insert(0, {repo!r})
import datasets, train, tune
from ferlib.runtime.errors import run_script
from ferlib.training.search import study

datasets.SYNTHETIC_FACES, datasets.SYNTHETIC_SUBJECTS = 210, 30
study.HEARTBEAT, study.GRACE = 1, 2

def fit(flags, after_epoch):
    settings = flags.settings
    with open({calls!r}, "a") as file:
        words = (os.getpid(), flags.seed, settings.optimization.optimizer, settings.augmentation.flip)
        file.write(" ".join(map(str, words)) + "\\n")
    while len({{line.split()[0] for line in open({calls!r})}}) < 2:
        time.sleep(0.02)  # until the other worker has begun
    {then}
    epoch = {{"epoch": 1, "val_accuracy": settings.augmentation.flip, "val_macro_f1": 0.5}}
    after_epoch(epoch)
    return {{"epochs": [epoch], "best_epoch": 1}}

train.fit = fit
if __name__ == "__main__":
    run_script(tune.main)
"""


def start_workers(tmp_path, flags, then, *more):
    """Two workers whose training is a known function; `then`: what happens once both have begun."""
    script, calls = tmp_path / "worker.py", tmp_path / "calls.txt"
    script.write_text(WORKER.format(repo=str(Path(tune.__file__).parent), calls=str(calls), then=then))
    command = [sys.executable, str(script), "--study", flags.study, "--search", *GRID, "--sampler", "grid"]
    command += ["--workers", "2", "--epochs", "1", "--outputs-dir", str(flags.outputs_dir), "--device", "cpu", *more]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return calls, subprocess.Popen(command, env=environment, **pipes, start_new_session=True)


def finish(process):
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    return output


def read_calls(calls):
    """Seed, optimiser and flip of each training."""
    return [tuple(line.split()[1:]) for line in calls.read_text().splitlines()]


@pytest.mark.process
def test_two_workers_share_a_study_and_one_may_die(tmp_path, make_flags):
    flags = make_flags("workers", *GRID)
    calls, process = start_workers(tmp_path, flags, "multiprocessing.parent_process() and os._exit(9)")
    finish(process)
    settings = read_calls(calls)
    assert len(settings) == 7  # the dead worker's trial twice
    assert len(set(settings)) == 6
    states = [trial.state for trial in open_study(flags).trials]
    assert states.count(TrialState.COMPLETE) == 6
    assert states.count(TrialState.FAIL) == 1


@pytest.mark.process
@pytest.mark.skipif(sys.platform == "win32", reason="needs a group of processes")
@pytest.mark.parametrize("kill", [signal.SIGINT, signal.SIGKILL])
def test_two_workers_that_are_stopped_lose_nothing(tmp_path, make_flags, ctrl_c, kill):
    flags = make_flags(f"stopped-{kill.name.lower()}", *GRID)
    calls, process = start_workers(tmp_path, flags, "time.sleep(60)")
    deadline = time.monotonic() + 120
    while not calls.exists() or len(calls.read_text().splitlines()) < 2:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, kill)
    _, errors = process.communicate(timeout=60)
    if kill is signal.SIGINT:
        assert process.returncode == 130
        assert "Traceback" not in errors
        states = [trial.state for trial in open_study(flags).trials]
        assert (states.count(TrialState.FAIL), states.count(TrialState.WAITING)) == (2, 6)
    stopped = read_calls(calls)
    finish(start_workers(tmp_path, flags, "pass")[1])
    settings = read_calls(calls)
    assert settings[:2] == stopped
    assert sorted(settings[2:]) == sorted(set(settings)), "every trial once, the stopped ones with the same seed"
    assert len(settings) == 8
    states = [trial.state for trial in open_study(flags).trials]
    assert states.count(TrialState.COMPLETE) == 6
    assert set(states) == {TrialState.COMPLETE, TrialState.FAIL}


# ── a database that machines share ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nonsense", r"--storage cannot be opened: .*postgresql\+psycopg://"),
        ("sqlite:////nowhere/study.db", "--storage cannot be opened: .*unable to open"),
        ("oracle://user@host/name", "--storage needs the driver of its database"),
    ],
)
def test_database_that_does_not_open_is_an_error_before_faces_are_decoded(make_flags, monkeypatch, url, said):
    monkeypatch.setattr(studies, "load_faces", lambda *_: pytest.fail("the faces were decoded"))
    with pytest.raises(UserError, match=said):
        tune.search(make_flags("closed", "flip=0.5", storage=url))


@pytest.mark.parametrize("kind", ["sqlite", "server"])
def test_study_in_another_database(calls, make_flags, tmp_path, kind):
    """On a server too where TEST_STORAGE holds its URL, such as postgresql+psycopg://postgres@localhost/studies."""
    storage = f"sqlite:///{tmp_path / 'shared.db'}" if kind == "sqlite" else os.environ.get("TEST_STORAGE", "")
    if not storage:
        pytest.skip("no database server in TEST_STORAGE")
    flags = make_flags(f"elsewhere-{tmp_path.name}-{os.getpid()}", *GRID, sampler="grid", storage=storage)
    content = tune.search(flags)
    assert len(content["trials"]) == len(calls) == 6
    assert not (flags.folder / "study.db").exists()
    study = optuna.load_study(study_name=flags.study, storage=storage)
    assert study.best_trial.params == {"optimizer": "sgd", "flip": 0.5}
    optuna.delete_study(study_name=flags.study, storage=storage)


def test_passwords_are_not_written_into_files(monkeypatch):
    words = ["tune.py", "--storage", "postgresql+psycopg://me:secret@host/studies", "--search", "lr=0.1"]
    monkeypatch.setattr("sys.argv", words)
    assert command_line() == "python tune.py --storage 'postgresql+psycopg://me:***@host/studies' --search lr=0.1"
    monkeypatch.setattr("sys.argv", ["train.py", "--data-dir", "/data/My Faces"])
    assert data_dir_of(command_line()) == Path("/data/My Faces")


# ── the real training ────────────────────────────────────────────────────────────────────────────────────────────────


def test_real_study(make_flags):
    flags = make_flags("real", "optimizer=sgd,adamw", sampler="grid", epochs=1)
    content = tune.search(flags)
    assert {row["state"] for row in content["trials"]} == {"complete"}
    best = trial_run(flags, open_study(flags).best_trial.number)
    history = json.loads(best.history.read_text())
    assert history["epochs"][0]["val_accuracy"] == content["best"]["val_accuracy"]
    assert best.best_checkpoint.exists()
    assert "epoch 1/1" in (best.logs / "training.txt").read_text()
    assert (
        optuna.load_study(study_name="real", storage=f"sqlite:///{flags.folder / 'study.db'}").best_trial.number
        == content["best"]["trial"]
    )


@pytest.mark.parametrize("changes", [{"trials": -1}, {"workers": 0}, {"workers": -2}])
def test_senseless_counts_are_refused(calls, make_flags, changes):
    with pytest.raises(UserError, match="--trials must be at least 0 and --workers at least 1"):
        tune.search(make_flags("counts", "lr=0.1,1", **changes))
    assert not calls


def test_a_damaged_database_of_a_study_is_named(calls, make_flags):
    flags = make_flags("damaged", "lr=0.1,1")
    flags.folder.mkdir(parents=True)
    (flags.folder / "study.db").write_bytes(b"no database" * 400)
    with pytest.raises(UserError, match=r"damaged/study\.db cannot be opened: .*not a database; .* another --study$"):
        tune.search(flags)
