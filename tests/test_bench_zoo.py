"""bench_zoo.py: what is done is not done again, and is not taken for what was made with other settings."""

import shutil
from dataclasses import replace

import pytest

import bench_zoo
from ferlib.runtime.errors import UserError
from ferlib.runtime.files import read_json


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
    monkeypatch.setattr(bench_zoo.train, "fit", lambda flags: pytest.fail("trained again"))
    monkeypatch.setattr(bench_zoo, "evaluate", lambda flags: pytest.fail("evaluated again"))
    bench_zoo.make_run("mini_resnet", made)


@pytest.mark.parametrize("change", [{"epochs": 2}, {"seed": 1}])
def test_a_run_of_other_settings_is_not_taken(made, change):
    with pytest.raises(UserError, match=f"--tag; these differ: {next(iter(change))}$"):
        bench_zoo.make_run("mini_resnet", replace(made, **change))
