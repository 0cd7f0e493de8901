"""ensemble.py on two tiny runs and their snapshots: what it joins, writes and refuses; that test decides nothing."""

import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

import config
import ensemble
import evaluate
import train
from conftest import TINY
from datasets import load_stage
from ensemble import join
from ferlib.data.facts import SPLITS
from ferlib.evaluation.combining import RULES
from ferlib.evaluation.ensembles import compare, join_members, read_members
from ferlib.evaluation.predictions import read_predictions, save_predictions
from ferlib.evaluation.terminal import summarize_members
from ferlib.inference.splits import open_predictor
from ferlib.inference.views import center_view
from ferlib.runtime.digests import digest_file
from ferlib.runtime.errors import UserError
from ferlib.runtime.files import read_json, write_json
from ferlib.runtime.runs import Run
from models import load_checkpoint
from recipes import changed
from report_generator import build_report

CYCLES = changed(TINY, schedule="warm_restarts", restart_epochs=1, epochs=3, warmup_epochs=0.0, ema_decay=0.5)


@pytest.fixture(scope="module")
def outputs(shared_outputs, tmp_path_factory):
    """An outputs folder with two evaluated runs, the second with snapshots of its two cycles."""
    folder = tmp_path_factory.mktemp("ensembles")
    shutil.copytree(shared_outputs / "cache", folder / "cache")
    common = {"outputs_dir": folder, "device": "cpu", "amp": False}
    train.fit(config.Train(**common, settings=TINY, max_steps=4))
    train.fit(config.Train(**common, tag="cyclic", seed=1, settings=CYCLES, max_steps=4, snapshots=True))
    for tag in ("", "cyclic"):
        evaluate.evaluate(config.Evaluate(**common, tag=tag, figures=False))
    return folder


@pytest.fixture
def flags(outputs):
    names = ("mini_resnet", "mini_resnet:cyclic")
    return config.Ensemble(outputs_dir=outputs, device="cpu", amp=False, members=names, tag="two", figures=False)


@pytest.fixture
def broken(flags, tmp_path):
    """Flags of a copy of the outputs folder, to be spoilt, and its run without a tag."""
    shutil.copytree(flags.outputs_dir, tmp_path / "outputs")
    spoilt = replace(flags, outputs_dir=tmp_path / "outputs")
    return spoilt, Run("mini_resnet", "synthetic", outputs_dir=spoilt.outputs_dir)


def saved(run: Run) -> dict[str, np.ndarray]:
    with np.load(run.predictions) as arrays:
        return dict(arrays)


def members_of(flags, names):
    open_checkpoint = partial(open_predictor, device=flags.device, amp=flags.amp)
    return read_members(
        names, load_stage(flags), flags.outputs_dir, flags.fold, lambda run, path: open_checkpoint(run, checkpoint=path)
    )


# ── what it writes ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_it_leaves_a_run_of_its_own(flags):
    results = join(replace(flags, figures=True))
    assert read_json(flags.run.results, "")["accuracy"] == results["accuracy"]
    own, member = saved(flags.run), saved(Run("mini_resnet", "synthetic", outputs_dir=flags.outputs_dir))
    assert np.array_equal(own["names"], member["names"])
    assert (own["probabilities"].argmax(1) == own["labels"]).mean() == results["accuracy"]
    assert results["parameters"] > 0
    for kind in ("members", "confusion_matrix", "roc_curves"):
        assert flags.run.plot(kind).exists()


def test_weights_are_not_fitted_on_a_handful_of_faces(flags):
    data = load_stage(flags)
    val = np.flatnonzero(data.splits == SPLITS.index("val"))
    few = replace(data, splits=np.where(np.isin(np.arange(len(data)), val[3:]), SPLITS.index("train"), data.splits))
    with pytest.raises(UserError, match="fitted on val in 5 parts, and synthetic has 3 faces there"):
        join_members(flags.run, few, ())


def test_mean_is_that_of_the_saved_probabilities(flags):
    join(replace(flags, method="mean"))
    members = [saved(Run("mini_resnet", "synthetic", tag, flags.outputs_dir)) for tag in ("", "cyclic")]
    expected = (members[0]["probabilities"] + members[1]["probabilities"]) / 2
    np.testing.assert_allclose(saved(flags.run)["probabilities"], expected, rtol=1e-5)


def test_its_probabilities_are_calibrated_too(flags):
    """By what each fold of val gets from weights that the others decided."""
    results = join(flags)
    assert results["on_val"]["samples"] == results["calibrated"]["faces"] > 0
    assert results["calibrated"]["temperature"] > 0
    chosen = next(row for row in results["ensemble"]["methods"] if row["name"] == results["ensemble"]["chosen"])
    assert results["on_val"]["accuracy"] == chosen["val_accuracy"]


def test_it_has_no_copies_only_where_no_member_has(flags):
    data = load_stage(flags)
    rows = {split: np.flatnonzero(data.splits == code) for code, split in enumerate(SPLITS)}
    images = np.array(data.images)
    images[rows["train"][:5]] = images[rows["test"][:5]]
    leaky, members = replace(data, images=images), members_of(flags, flags.members)
    for excluded, copies in (((True, True), 0), ((True, False), 5), ((False, False), 5)):
        chosen = [replace(member, exclude_leaks=each) for member, each in zip(members, excluded, strict=True)]
        results = join_members(flags.run, leaky, chosen, "mean").results
        assert results["exclude_leaks"] is all(excluded)
        assert results["without_training_copies"]["samples"] == results["samples"] - copies


def test_plots_of_an_earlier_call_are_drawn_anew_or_gone(flags):
    join(replace(flags, figures=True, format=("png", "svg")))
    assert flags.run.plot("members").with_suffix(".svg").exists()
    join(flags)
    assert not flags.run.plot("members").exists()
    assert not flags.run.plot("confusion_matrix").with_suffix(".svg").exists()


def test_a_snapshot_of_an_earlier_training_is_no_member(broken):
    spoilt, _ = broken
    run = Run("mini_resnet", "synthetic", "cyclic", spoilt.outputs_dir)
    names = ("mini_resnet", "mini_resnet:cyclic@cycle1")
    assert len(members_of(spoilt, names)) == 2
    history = read_json(run.history, "")
    epochs = [row | {"val_accuracy": row["val_accuracy"] / 2} for row in history["epochs"]]
    write_json(run.history, history | {"epochs": epochs})
    with pytest.raises(UserError, match=r"cycle1\.pth is of an earlier training of mini_resnet_synthetic_cyclic"):
        members_of(spoilt, names)


@pytest.mark.parametrize("change", [{"views": "ten_crop"}, {"checkpoint": "of another file"}])
def test_predictions_of_other_results_are_refused(broken, change):
    """As they are where evaluate.py was stopped between its files."""
    spoilt, run = broken
    saved_val = read_predictions(run.val_predictions, "")
    save_predictions(run.val_predictions, replace(saved_val, **change))
    with pytest.raises(UserError, match=r"val_predictions\.npz is not of the results beside it"):
        members_of(spoilt, spoilt.members)


def test_members_are_known_by_their_checkpoints(flags):
    rows = join(flags)["ensemble"]["members"]
    for row, tag in zip(rows, ("", "cyclic"), strict=True):
        best = Run("mini_resnet", "synthetic", tag, flags.outputs_dir).best_checkpoint
        assert row["checkpoint"]["digest"] == digest_file(best)
        assert row["checkpoint"]["path"] == str(best)


def test_every_member_and_method_is_compared(flags):
    found = join(flags)["ensemble"]
    assert [row["name"] for row in found["members"]] == list(flags.members)
    assert [row["name"] for row in found["methods"]] == list(RULES)
    for row, tag in zip(found["members"], ("", "cyclic"), strict=True):
        run = Run("mini_resnet", "synthetic", tag, flags.outputs_dir)
        assert row["accuracy"] == read_json(run.results, "")["accuracy"]
        assert row["val_accuracy"] == pytest.approx(read_json(run.results, "")["checkpoint"]["metrics"]["val_accuracy"])
    best = next(row for row in found["members"] if row["name"] == found["best_member"])
    assert best["val_accuracy"] == max(row["val_accuracy"] for row in found["members"])
    for row in found["methods"]:
        assert row["gain"]["gain"] == pytest.approx(row["accuracy"] - best["accuracy"])
        assert sum(row["weights"].values()) == pytest.approx(1)
    chosen = next(row for row in found["methods"] if row["name"] == found["chosen"])
    assert chosen["val_accuracy"] == max(row["val_accuracy"] for row in found["methods"])


def test_the_table_at_the_terminal(flags, capsys, monkeypatch):
    arguments = ["ensemble.py", "--members", *flags.members, "--tag", "two", "--outputs-dir", str(flags.outputs_dir)]
    monkeypatch.setattr("sys.argv", [*arguments, "--no-figures"])
    ensemble.main()
    printed = capsys.readouterr().out
    for words in (*flags.members, *(method.title for method in RULES.values()), "best on val", "chosen", "written: "):
        assert words in printed


@pytest.mark.parametrize("turn", [1, -1])
def test_the_best_member_comes_first_however_they_are_given(flags, turn):
    flags = replace(flags, members=flags.members[::turn])
    comparison = join(flags)["ensemble"]
    best, other = sorted(flags.members, key=lambda name: name != comparison["best_member"])
    assert "best on val" in summarize_members(comparison).splitlines()[1]
    page = build_report(flags.outputs_dir, "synthetic").read_text()
    assert page.index(f'<th scope="row">{best}</th>') < page.index(f'<th scope="row">{other}</th>')


def test_the_report_shows_it_and_asks_nothing_of_it(flags):
    join(replace(flags, figures=True))
    page = build_report(flags.outputs_dir, "synthetic").read_text()
    assert "ensemble (two)" in page
    assert all(method.title in page for method in RULES.values())
    assert "--model ensemble" not in page


def test_test_decides_nothing(flags):
    data = load_stage(flags)
    members = members_of(flags, flags.members)
    truth = np.eye(7)[data.split("test").labels]
    knowing = [replace(member, logits={**member.logits, "test": truth}) for member in members]
    for method in ("auto", *RULES):
        first, second = (compare(found, data, method)[0] for found in (members, knowing))
        assert second["members"][0]["accuracy"] == 1 != first["members"][0]["accuracy"]
        assert all(first[key] == second[key] for key in ("chosen", "weights", "best_member"))


# ── members ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_all_are_the_evaluated_runs_without_ensembles(flags):
    join(flags)
    found = join(replace(flags, members=("all",), tag="all"))["ensemble"]
    assert {row["name"] for row in found["members"]} == set(flags.members)


def test_snapshots_are_members(flags):
    names = tuple(f"mini_resnet:cyclic@{which}" for which in ("best", "last", "cycle1", "cycle2"))
    members = members_of(flags, (*names, "mini_resnet:cyclic"))
    logits = {member.name: member.logits["test"] for member in members}
    np.testing.assert_allclose(logits["mini_resnet:cyclic@best"], logits["mini_resnet:cyclic"], atol=1e-4)
    np.testing.assert_allclose(logits["mini_resnet:cyclic@last"], logits["mini_resnet:cyclic@cycle2"], atol=1e-4)
    assert np.abs(logits["mini_resnet:cyclic@cycle1"] - logits["mini_resnet:cyclic@last"]).max() > 0.01


def test_last_checkpoint_predicts_with_the_average_that_was_validated(flags, synthetic):
    run = Run("mini_resnet", "synthetic", "cyclic", flags.outputs_dir)
    last, val = load_checkpoint(run.last_checkpoint, torch.device("cpu")), synthetic.split("val")
    with torch.inference_mode():
        predictions = last.model(center_view(torch.from_numpy(val.images), last.spec)).argmax(1).numpy()
    history = read_json(run.history, "")
    assert (predictions == val.labels).mean() == pytest.approx(history["epochs"][-1]["val_accuracy"])


def test_snapshots_need_cycles(outputs):
    with pytest.raises(UserError, match="--snapshots needs cycles: --schedule warm_restarts instead of cosine"):
        train.fit(config.Train(outputs_dir=outputs, settings=TINY, tag="none", snapshots=True))


# ── what it refuses ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("members", [(), ("mini_resnet",), ("mini_resnet", "mini_resnet")])
def test_fewer_than_two_runs(flags, members):
    with pytest.raises(UserError, match="--members needs two or more different runs"):
        join(replace(flags, members=members))


def test_unknown_members_are_all_named(flags):
    with pytest.raises(UserError, match=r"(?s)'mini_resnet:cycle'; did you mean mini_resnet:cyclic.*'what'.*Valid"):
        join(replace(flags, members=("mini_resnet:cycle", "what")))
    with pytest.raises(UserError, match=r"cyclic_cycle9\.pth does not exist; run: python train\.py .*--snapshots"):
        join(replace(flags, members=("mini_resnet", "mini_resnet:cyclic@cycle9")))


def test_an_at_without_a_checkpoint(flags):
    with pytest.raises(UserError, match="mini_resnet@ names no checkpoint"):
        join(replace(flags, members=("mini_resnet", "mini_resnet@")))


def test_the_name_of_a_network(flags):
    with pytest.raises(UserError, match="--model mini_resnet is a network"):
        join(replace(flags, model="mini_resnet"))


def test_missing_predictions(broken):
    flags, run = broken
    run.val_predictions.unlink()
    with pytest.raises(UserError, match=r"synthetic_val_predictions\.npz does not exist; run: "):
        join(flags)
    run.results.unlink()
    with pytest.raises(UserError, match=r"run: python evaluate\.py --model mini_resnet --dataset synthetic"):
        join(flags)


def spoil(run: Run, **columns) -> None:
    np.savez(run.predictions, **(saved(run) | columns))


def test_predictions_of_other_faces(broken):
    flags, run = broken
    spoil(run, labels=saved(run)["labels"][::-1])
    with pytest.raises(UserError, match="is about other faces than this version of synthetic has"):
        join(flags)


def test_predictions_that_are_not_finite(broken):
    flags, run = broken
    spoil(run, logits=np.full_like(saved(run)["logits"], np.nan))
    with pytest.raises(UserError, match="not finite"):
        join(flags)


def test_predictions_that_are_no_archive(broken):
    flags, run = broken
    run.predictions.write_bytes(b"half a file")
    with pytest.raises(UserError, match="holds code or text, not arrays"):
        join(flags)


def test_another_version_of_the_data_set(broken):
    flags, run = broken
    run.results.write_text(run.results.read_text().replace(load_stage(flags).fingerprint, "other"))
    with pytest.raises(UserError, match="mini_resnet was evaluated on another version of synthetic"):
        join(flags)
