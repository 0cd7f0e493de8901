"""bench_zoo.py, bench_factors.py, bench_accuracy.py: what is done is kept, and not taken for another run."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

import bench_accuracy
import bench_factors
import bench_zoo
import train
from ferlib.runtime.errors import UserError
from ferlib.runtime.files import read_json, write_json
from ferlib.training.identity import changed_settings, run_settings


@pytest.fixture(scope="module")
def made(shared_outputs, tmp_path_factory):
    """Flags of a zoo of one network, trained for an epoch."""
    outputs = tmp_path_factory.mktemp("zoo")
    shutil.copytree(shared_outputs / "cache", outputs / "cache")
    flags = bench_zoo.Flags(
        dataset="synthetic", models=("mini_resnet",), epochs=1, outputs_dir=outputs, device="cpu", amp=False
    )
    bench_zoo.make_run("mini_resnet", flags)
    return flags


def test_it_leaves_a_run_of_the_recipe(made):
    run = bench_zoo.settings("mini_resnet", made).run
    history = read_json(run.history, "")
    assert (history["recipe_name"], len(history["epochs"]), history["recipe"]["lr"]) == ("zoo", 1, 1e-3)
    assert run.results.exists()


def test_what_is_done_is_not_done_again(made, monkeypatch):
    monkeypatch.setattr(train, "fit", lambda flags: pytest.fail("trained again"))
    monkeypatch.setattr(bench_zoo, "evaluate", lambda flags: pytest.fail("evaluated again"))
    bench_zoo.make_run("mini_resnet", made)


def test_results_of_an_earlier_training_are_made_again(made, monkeypatch, tmp_path):
    shutil.copytree(made.outputs_dir, tmp_path / "outputs")
    flags = replace(made, outputs_dir=tmp_path / "outputs")
    run, calls = bench_zoo.settings("mini_resnet", flags).run, []
    content = read_json(run.results, "")
    write_json(run.results, content | {"checkpoint": content["checkpoint"] | {"digest": "of the earlier one"}})
    monkeypatch.setattr(bench_zoo, "evaluate", calls.append)
    bench_zoo.make_run("mini_resnet", flags)
    assert len(calls) == 1


def test_speeds_are_those_of_the_size_and_the_precision(made, monkeypatch):
    measured = []
    monkeypatch.setattr(
        bench_zoo, "measure_speed", lambda *_: measured.append(1) or {"training": 1.0, "evaluation": 2.0}
    )
    flags = replace(made, models=("resnet18",))  # which sees faces of --side
    for each, times in (
        (flags, 1),
        (flags, 1),
        (replace(flags, side=96), 2),
        (flags, 3),
        (replace(flags, speed=True), 4),
    ):
        bench_zoo.measure_speeds(each)
        assert len(measured) == times


@pytest.mark.parametrize("change", [{"epochs": 2}, {"seed": 1}])
def test_a_run_of_other_settings_is_not_taken(made, change):
    with pytest.raises(UserError, match=f"--tag; these differ: {next(iter(change))}$"):
        bench_zoo.make_run("mini_resnet", replace(made, **change))


def test_one_factor_is_changed_at_a_time():
    flags = bench_factors.Flags(dataset="synthetic", epochs=3)
    base = bench_factors.settings("base", 1, flags)
    assert (base.seed, base.run.tag, base.settings.training.epochs) == (1, "base-1", 3)
    usual = run_settings(base)
    names = {
        factor: changed_settings(usual, run_settings(bench_factors.settings(factor, 1, flags)))
        for factor in bench_factors.FACTORS
    }
    assert names.pop("base") == []
    assert all(len(different) == 1 for different in names.values()), names


def test_a_difference_and_its_interval_by_hand():
    """Gains of 1, 2 and 3 points: 2 ± 4.30 · 1 / √3."""
    line = bench_factors.row("mixup", np.array([0.51, 0.52, 0.53]), np.array([0.5, 0.5, 0.5]))
    assert line == "| mixup | 52.00 ± 1.00 % | +2.00 (-0.48 to +4.48) |"
    assert bench_factors.row("base", np.array([0.5, 0.5]), np.array([0.5, 0.5])) == "| base | 50.00 ± 0.00 % |  |"


def test_of_one_seed_there_is_no_interval():
    assert bench_factors.row("base", np.array([0.5]), np.array([0.5])) == "| base | 50.00 % |  |"
    assert bench_factors.row("sam", np.array([0.51]), np.array([0.5])) == "| sam | 51.00 % | +1.00 |"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"factors": ("sma",)}, "did you mean sam"),
        ({"seeds": (0, 0)}, "--seeds needs one or more different values, not: 0 0"),
        ({"seeds": ()}, "--seeds needs one or more different values, not: none"),
        ({"seeds": (-1,)}, "--seeds -1: seeds are numbers from 0 up"),
        ({"factors": ("larger",), "model": "inception_v3"}, "takes faces of 299 px"),
        ({"seed": 3}, "--seed 3 is of a single run"),
        ({"factors": ("votes",)}, "has no annotators' votes"),
    ],
)
def test_factors_that_cannot_be_measured(shared_outputs, flags, said):
    with pytest.raises(UserError, match=said):
        bench_factors.check(
            bench_factors.Flags(**{"factors": ("sam",)} | flags, dataset="synthetic", outputs_dir=shared_outputs)
        )


def test_minutes_to_an_accuracy():
    epochs = [{"epoch": number, "seconds": 90.0, "val_accuracy": number / 10} for number in (1, 2, 3)]
    assert bench_accuracy.minutes_to(0.2, epochs) == (2, 3.0)
    assert bench_accuracy.minutes_to(0.5, epochs) is None
