"""Runs that go on: bit for bit after an interruption, to more epochs, after a full disk; one process at a time."""

import contextlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import train
from damage import limited_file_size
from ferlib.data.facts import SPLITS
from ferlib.inference.splits import open_predictor
from ferlib.networks.checkpoints import read_tensors
from ferlib.networks.tensor_files import save_tensors
from ferlib.runtime import files
from ferlib.runtime.errors import UserError
from ferlib.runtime.locks import sole_process
from ferlib.training import fitting, resuming
from recipes import DEFAULTS, RECIPES, changed

# trained in bfloat16


EVERYTHING = {
    "optimizer": "sgd", "ema_decay": 0.9, "mixup": 0.2, "cutmix": 0.5, "sam_rho": 0.05, "accumulate": 2,
    "schedule": "plateau", "balanced_sampling": True, "loss": "focal", "conflicts": "share",
}  # fmt: skip


@pytest.mark.parametrize("options", [{"optimizer": "adamw"}, {"optimizer": "muon"}, EVERYTHING])
def test_resumed_run_ends_as_the_uninterrupted_one(train_flags, monkeypatch, options):
    tag = options["optimizer"]
    whole = train_flags(f"whole_{tag}", epochs=3, **options)
    train.fit(whole)
    broken = train_flags(f"broken_{tag}", epochs=3, **options)
    original = fitting.train_one_epoch

    def killed_in_epoch_3(*args, epoch, **kwargs):
        if epoch == 3:
            raise KeyboardInterrupt
        return original(*args, epoch=epoch, **kwargs)

    monkeypatch.setattr(fitting, "train_one_epoch", killed_in_epoch_3)
    with pytest.raises(KeyboardInterrupt):
        train.fit(broken)
    assert not json.loads(broken.run.history.read_text())["finished"]
    monkeypatch.setattr(fitting, "train_one_epoch", original)
    train.fit(replace(broken, resume=True))
    for kind in ("best_checkpoint", "last_checkpoint"):
        first, second = (read_tensors(getattr(flags.run, kind)) for flags in (whole, broken))
        assert first["epoch"] == second["epoch"]
        assert all(torch.equal(first["state"][name], second["state"][name]) for name in first["state"])


def test_resume_of_a_finished_run_changes_nothing(train_flags):
    flags = train_flags("finished")
    first = train.fit(flags)
    assert train.fit(replace(flags, resume=True))["epochs"] == first["epochs"]


def test_resume_of_a_run_of_an_earlier_version_says_so():
    saved = {"recipe": {"init_from": ""}, "seed": 0}
    with pytest.raises(UserError, match="begun by an earlier version"):
        resuming.check_identity(Path("last.pth"), saved, {"recipe": {}, "seed": 0, "init_from": ""})


def test_settings_that_earlier_versions_had_not_are_as_they_were():
    saved = {"recipe": {}, "seed": 0}
    wanted = {"recipe": {}, "seed": 0, "exclude_leaks": False, "votes": "abc"}
    resuming.check_identity(Path("last.pth"), saved, wanted)
    with pytest.raises(UserError, match=r"these differ: exclude_leaks \(was False\)"):
        resuming.check_identity(Path("last.pth"), saved, {**wanted, "exclude_leaks": True})
    with pytest.raises(UserError, match=r"these differ: votes \(was abc\)"):
        resuming.check_identity(Path("last.pth"), {**saved, "votes": "abc"}, {**wanted, "votes": "other"})


def test_leaks_are_left_out_and_a_run_with_them_does_not_go_on_without(train_flags, monkeypatch, synthetic, capsys):
    rows = {split: np.flatnonzero(synthetic.splits == code) for code, split in enumerate(SPLITS)}
    images = np.array(synthetic.images)
    images[rows["train"][:3]] = images[rows["test"][:3]]
    images[rows["train"][3:5]] = images[rows["val"][:2]]
    leaky = replace(synthetic, images=images)
    monkeypatch.setattr(fitting, "load_stage", lambda _: leaky)
    history = train.fit(train_flags("leaky", epochs=1))
    assert "leaks" not in history
    flags = train_flags("clean", epochs=1, exclude_leaks=True)
    history = train.fit(flags)
    assert history["exclude_leaks"] is True
    assert history["leaks"]["exact"] == 5
    left_out = history["leaks"]["faces"]
    assert sum(history["data"]["counts"]["train"]) == len(rows["train"]) - left_out
    assert history["data"]["counts"]["test"] == leaky.counts()["test"]
    assert history["data"]["fingerprint"] == leaky.fingerprint
    assert f"training faces left out, as they stand in val or test: {left_out}" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"these differ: exclude_leaks \(was True\)"):
        train.fit(replace(flags, exclude_leaks=False, resume=True))
    train.fit(replace(flags, resume=True))


def test_a_run_that_is_older_than_a_setting_goes_on_with_its_default(train_flags):
    flags = train_flags("older", epochs=1)
    train.fit(flags)
    content = torch.load(flags.run.last_checkpoint, weights_only=True)
    recipe = content["identity"]["recipe"]
    for name, value in DEFAULTS.items():
        if recipe[name] == value and name != "epochs":
            del recipe[name]
    assert {"drop", "clip_norm"}.isdisjoint(recipe)
    torch.save(content, flags.run.last_checkpoint)
    longer = changed(flags.settings, epochs=2)
    with pytest.raises(UserError, match=r"these differ: clip_norm \(was 1\.0\)$"):
        train.fit(replace(flags, resume=True, settings=changed(longer, clip_norm=0.5)))
    assert len(train.fit(replace(flags, resume=True, settings=longer))["epochs"]) == 2


def test_a_run_of_fer_xai_before_it_followed_the_published_code_is_told_how_to_go_on():
    then = {name: RECIPES["finetune"].flat()[name] for name in ("weights", "epochs", "monitor", "patience", "erasing")}
    saved = {"seed": 0, "recipe": then}
    now = {"seed": 0, "recipe": RECIPES["fer_xai"].flat()}
    with pytest.raises(
        UserError, match=r"decay_all \(was False\).*erasing \(was 0\.0\).* of --recipe finetune$"
    ) as error:
        resuming.check_identity(Path("last.pth"), saved, now)
    differing = {name for name in now["recipe"] if f"{name} (was" in str(error.value)}
    assert differing == {name for name in now["recipe"] if now["recipe"][name] != DEFAULTS[name]}
    assert resuming.check_identity(Path("last.pth"), saved, {"seed": 0, "recipe": RECIPES["finetune"].flat()}) == 30


def test_resume_refuses_other_settings(train_flags):
    flags = train_flags("settings", epochs=1)
    with pytest.raises(UserError, match=r"settings_last\.pth does not exist; run: python train\.py"):
        train.fit(replace(flags, resume=True))
    train.fit(flags)
    other = replace(flags, resume=True, seed=1, settings=changed(flags.settings, lr=0.5))
    with pytest.raises(UserError, match=r"these differ: seed \(was 0\), lr \(was"):
        train.fit(other)


def test_a_run_goes_on_to_more_epochs_and_says_what_depends_on_their_number(train_flags, capsys):
    flags = train_flags("longer", epochs=1)
    train.fit(flags)
    longer = replace(flags, resume=True, settings=changed(flags.settings, epochs=2))
    history = train.fit(longer)
    assert [epoch["epoch"] for epoch in history["epochs"]] == [1, 2]
    assert history["begun_for_epochs"] == [1]
    printed = capsys.readouterr().out
    assert "the run was begun for 1 epoch and goes on to 2" in printed
    assert "the learning rate follows the schedule cosine of 2 epochs" in printed
    assert train.fit(longer)["begun_for_epochs"] == [1]  # also where it is resumed once more
    with pytest.raises(UserError, match="--epochs 1: 2 epochs of this run are done"):
        train.fit(replace(flags, resume=True))


def test_schedules_that_do_not_depend_on_the_number_of_epochs_say_so():
    step = changed(RECIPES["quick"], schedule="step", epochs=9, start_size=1.0)
    assert resuming.describe_extension(step, 3).endswith("its schedule does not depend on the number of epochs")
    growing = changed(step, start_size=0.5)
    assert "the size of the faces that of 9 epochs" in resuming.describe_extension(growing, 3)


def test_a_run_is_trained_by_one_process_at_a_time(train_flags):
    flags = train_flags("twice", epochs=1)
    with sole_process(flags.run.lock("train"), ""), pytest.raises(UserError, match="is being trained by another proc"):
        train.fit(flags)
    train.fit(flags)  # the lock of a process that ended is free


def test_an_unfinished_training_that_will_be_replaced_is_told_first(train_flags, capsys):
    flags = train_flags("unfinished", epochs=3)

    def stop(_epoch):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train.fit(flags, after_epoch=stop)
    capsys.readouterr()
    train.fit(flags)
    assert "1 of 3 epochs of this run are replaced when the first epoch ends" in capsys.readouterr().out
    train.fit(flags)
    assert "are replaced" not in capsys.readouterr().out  # a finished run is trained anew as before


def test_a_finished_run_without_its_best_weights_does_not_claim_success(train_flags):
    flags = train_flags("damaged", epochs=1)
    train.fit(flags)
    flags.run.best_checkpoint.write_bytes(b"damage")
    with pytest.raises(UserError, match=r"damaged_best\.pth is not a file of weights"):
        train.fit(replace(flags, resume=True))


def test_a_history_says_what_each_part_of_a_training_ran_on(train_flags):
    flags = train_flags("moved", epochs=1)
    first = train.fit(flags)
    elsewhere = {"device": "another", "precision": "bfloat16", "command": "python train.py", "earlier_commands": []}
    elsewhere |= {"processes": 8, "versions": {**first["versions"], "torch": "1.0"}}
    save_tensors(flags.run.last_checkpoint, read_tensors(flags.run.last_checkpoint) | {"made_by": elsewhere})
    history = train.fit(replace(flags, resume=True))
    assert (history["device"], history["precision"]) == ("another", "bfloat16"), "no epoch was trained here"
    assert history["command"] == "python train.py"
    assert (history["processes"], history["versions"]["torch"]) == (8, "1.0")
    for epochs in (2, 3):  # and it does not change again
        history = train.fit(replace(flags, resume=True, settings=changed(flags.settings, epochs=epochs)))
        assert history["device"] == f"another; from epoch 2: {first['device']}"
        assert history["precision"] == "bfloat16; from epoch 2: float32"
        assert history["versions"]["torch"] == f"1.0; from epoch 2: {first['versions']['torch']}"
        assert history["versions"]["numpy"] == first["versions"]["numpy"]
        assert history["earlier_commands"] == ["python train.py"]


def test_a_history_of_another_training_says_nothing_of_this_one(train_flags):
    """Killed between the last checkpoint and the history, which then is that of an earlier training."""
    flags = train_flags("historic", epochs=1)
    history = train.fit(flags)
    flags.run.history.write_text(json.dumps(history | {"device": "another", "command": "python train.py --lr 9"}))
    again = train.fit(replace(flags, resume=True, settings=changed(flags.settings, epochs=2)))
    assert again["device"] == history["device"]
    assert "earlier_commands" not in again


def test_events_of_an_epoch_that_were_not_written_any_more_are_written(train_flags):
    flags = train_flags("events", epochs=1)
    train.fit(flags)
    shutil.rmtree(flags.run.logs)
    train.fit(replace(flags, resume=True))
    assert any(flags.run.logs.iterdir())


def test_resume_refuses_the_best_weights_of_another_training(train_flags, monkeypatch):
    flags, other = train_flags("mine", epochs=2), train_flags("other", epochs=2, seed=1)
    for module in (fitting, resuming):
        monkeypatch.setattr(module, "best_epoch", lambda *_: 1)
    for each in (flags, other):
        train.fit(each)
    more = replace(flags, resume=True, settings=changed(flags.settings, epochs=3))
    mine = flags.run.best_checkpoint.read_bytes()
    flags.run.best_checkpoint.write_bytes(other.run.best_checkpoint.read_bytes())
    with pytest.raises(UserError, match=r"mine_best\.pth is not epoch 1 of the training that goes on"):
        train.fit(more)
    flags.run.best_checkpoint.unlink()
    with pytest.raises(UserError, match=r"mine_best\.pth, with epoch 1, is missing"):
        train.fit(more)
    flags.run.best_checkpoint.write_bytes(mine)
    assert len(train.fit(more)["epochs"]) == 3


def test_best_weights_that_were_not_written_any_more_are_written(train_flags):
    """Killed between the last checkpoint and the best one, which then is that of an earlier training or missing."""
    flags = train_flags("between", epochs=1)
    train.fit(flags)
    whole = read_tensors(flags.run.best_checkpoint)
    for leave in (lambda path: path.unlink(), lambda path: train.fit(replace(flags, tag="earlier", seed=5))):
        leave(flags.run.best_checkpoint)
        earlier = replace(flags, tag="earlier").run.best_checkpoint
        if earlier.exists():
            flags.run.best_checkpoint.write_bytes(earlier.read_bytes())
        train.fit(replace(flags, resume=True))
        found = read_tensors(flags.run.best_checkpoint)
        assert found["metrics"] == whole["metrics"]
        assert all(torch.equal(found["state"][name], value) for name, value in whole["state"].items())


def test_a_best_file_an_epoch_ahead_is_of_a_run_that_was_cut_off(tmp_path, monkeypatch):
    """As earlier versions left it; not where no epoch is left, or where it is of another seed."""
    path = tmp_path / "a_best.pth"
    path.touch()
    epochs = [{"epoch": number, "val_accuracy": 1 / number} for number in (1, 2)]
    recipe = changed(RECIPES["quick"], epochs=3, monitor="accuracy", patience=0)
    identity = {"seed": 0, "fingerprint": "f", "teacher_digests": {}, "recipe": recipe.flat()}
    info = {"epoch": 3, "metrics": {"val_accuracy": 0.9}, "identity": identity}
    monkeypatch.setattr(resuming, "read_checkpoint", lambda _: info)
    assert not resuming.best_is_behind(path, epochs, recipe, identity)
    others = (identity | {"seed": 1}, identity | {"recipe": changed(recipe, lr=9.0).flat()})
    for other, of in ((changed(recipe, epochs=2), identity), *((recipe, each) for each in others)):
        with pytest.raises(UserError, match="but of another one"):
            resuming.best_is_behind(path, epochs, other, of)


def test_a_run_whose_patience_ran_out_takes_no_more_epochs(train_flags):
    flags = train_flags("patient", epochs=4, patience=1, min_delta=1.0)
    assert len(train.fit(flags)["epochs"]) == 2
    before = flags.run.history.read_bytes()
    with pytest.raises(UserError, match=r"--epochs 9: this run ended after epoch 2, as the last 1 brought no gain"):
        train.fit(replace(flags, resume=True, settings=changed(flags.settings, epochs=9)))
    assert flags.run.history.read_bytes() == before


def test_a_run_that_is_being_trained_is_scored_with_a_note(train_flags, capsys):
    flags = train_flags("watched", epochs=1)
    train.fit(flags)
    with sole_process(flags.run.lock("train"), ""):
        open_predictor(flags.run)
    assert "is being trained; this is its best epoch so far, 1" in capsys.readouterr().out
    open_predictor(flags.run)
    assert "being trained" not in capsys.readouterr().out


def test_a_disk_that_fills_up_ends_a_run_with_a_line_and_the_run_goes_on_afterwards(train_flags):
    flags, whole = train_flags("full", epochs=2), train_flags("full_never", epochs=2)

    def fill_up(epoch):
        limit.enter_context(limited_file_size(100_000))

    with (
        contextlib.ExitStack() as limit,
        pytest.raises(UserError, match=r"cannot be written: File too.*go on after.*--resume"),
    ):
        train.fit(flags, after_epoch=fill_up)
    history = train.fit(replace(flags, resume=True))
    expected = train.fit(whole)
    assert [row["val_loss"] for row in history["epochs"]] == [row["val_loss"] for row in expected["epochs"]]


def test_outputs_that_cannot_be_written_are_found_before_a_face_is_decoded(train_flags, monkeypatch, tmp_path):
    monkeypatch.setattr(fitting, "load_stage", lambda _: pytest.fail("decoded"))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be written: Not a directory"):
        train.fit(replace(train_flags("x"), outputs_dir=tmp_path / "file"))
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: SimpleNamespace(free=1e6))
    with pytest.raises(UserError, match=r"needs about \d+ MB and its disk has 1 MB free"):
        train.fit(train_flags("x"))
