"""What stands on one page is of one checkpoint and one version of the data; what is not is left out by name."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import config
import evaluate
import explain_saliency
from config import EMOTIONS
from ferlib.data.audit.findings import LEVELS
from ferlib.evaluation.saved_runs import read_cross, read_model
from ferlib.explanations.scores.summary import tabulate
from ferlib.figures.scores import by_rank
from ferlib.report.page import write_reports
from ferlib.report.plots import PLOTS
from ferlib.report.scores import make_score_table, make_tests
from ferlib.report.sections import read_reports
from ferlib.report.tables import readable, scores_table
from ferlib.runtime.digests import digest_file
from ferlib.runtime.files import write_json
from ferlib.runtime.runs import Run, data_dir_of, shipped_checkpoint
from report_outputs import (
    DATASET,
    FINGERPRINT,
    face,
    write_cache,
    write_complete,
    write_explanations,
    write_history,
    write_picture,
    write_results,
    write_scores,
)


@pytest.fixture
def run(tmp_path) -> Run:
    """A trained and evaluated run of whose checkpoint there is a file."""
    run = Run("fer_resnet_wide", DATASET, outputs_dir=tmp_path)
    write_history(run)
    run.best_checkpoint.write_bytes(b"own training")
    evaluate_from(run, run.best_checkpoint)
    return run


def evaluate_from(run: Run, path, **changes) -> None:
    """Results of a checkpoint."""
    write_results(
        run, checkpoint={"path": str(path), "epoch": 1, "metrics": {}, "digest": digest_file(path)}, **changes
    )


def explain(run: Run, method: str, path, predicted: str = "Sad", **changes) -> None:
    """Explanations of face 3 by a checkpoint."""
    of = {"checkpoint": str(path), "checkpoint_digest": digest_file(path)}
    write_explanations(run, method, [face(3, None, predicted=predicted)], **of | changes)


def score(run: Run, path, **changes) -> None:
    """Scores of a checkpoint."""
    write_scores(run, checkpoint=str(path), checkpoint_digest=digest_file(path), **changes)


def read(run: Run):
    """The page's content."""
    return read_reports(run.outputs_dir, [run.dataset], run.outputs_dir / "reports")[0]


# ── checkpoints ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_explanations_and_scores_of_another_checkpoint_than_the_results_are_left_out(run):
    explain(run, "lime", shipped_checkpoint(), "Fear")
    explain(run, "shap", run.best_checkpoint, "Sad")
    score(run, shipped_checkpoint())
    report = read(run)
    [answer] = report.gallery[0].answers
    assert [tile.method for tile in answer.tiles] == ["shap"]
    assert answer.predicted == "Sad"
    assert not report.scored
    lines = [line for line in report.left_out if "as they are of the checkpoint fer2013 (" in line]
    assert [line.partition(" of ")[0] for line in lines] == ["explanations by LIME", "scores"]
    own = f"not of {run.best_checkpoint} ({digest_file(run.best_checkpoint)[:8]})"
    assert all(own in line for line in lines)
    assert lines[0].endswith(f"run: {run.command('explain_lime.py')}")
    assert lines[1].endswith(f"run: {run.command('score_explanations.py')}")


def test_all_commands_name_the_checkpoint_of_the_results_beside_a_training_of_ones_own(run):
    """Without it, what they make would be left out again."""
    evaluate_from(run, shipped_checkpoint())
    explain(run, "lime", run.best_checkpoint)
    explain(run, "gradcam", shipped_checkpoint())
    report = read(run)
    assert [tile.method for tile in report.gallery[0].answers[0].tiles] == ["gradcam"]
    command = run.command("explain_lime.py", "fer2013")
    assert "--checkpoint fer2013" in command
    assert report.left_out[0].endswith(f"run: {command}")
    missing = {stage.script: stage.command for stage in report.missing}
    assert missing["explain_lime.py"] == command
    assert missing["evaluate.py"] == run.command("evaluate.py", "fer2013")
    assert missing["train.py"] == run.command("train.py"), "it takes no checkpoint"


def test_commands_name_the_folder_of_the_data(run):
    results = json.loads(run.results.read_text())
    write_json(run.results, results | {"command": "python evaluate.py --data-dir '/my data' --tag a"})
    run.history.unlink()
    write_json(run.calibration, {"run": run.identity()})  # which states no command
    report = read(run)
    missing = {stage.script: stage.command for stage in report.missing}
    assert "--data-dir '/my data'" in missing["explain_lime.py"]
    assert data_dir_of("python train.py --data-dir=/x") == Path("/x")
    assert data_dir_of("python train.py 'broken") == data_dir_of("python train.py") == Path("data")
    assert "data-dir" not in run.command("explain_lime.py")


@pytest.mark.parametrize("folder", ["backup", "other/checkpoints"])
def test_a_file_of_the_same_name_elsewhere_is_not_the_training_of_the_run(run, tmp_path, folder):
    backup = tmp_path / folder / run.best_checkpoint.name
    backup.parent.mkdir(parents=True)
    backup.write_bytes(run.best_checkpoint.read_bytes())
    evaluate_from(run, backup)
    assert not any("was scored from" in line for line in read(run).caveats), "a copy of the run's own"
    backup.write_bytes(b"an earlier training")
    evaluate_from(run, backup)
    report = read(run)
    line = f"was scored from {backup}, not from the best checkpoint of the training that is shown"
    assert any(line in caveat for caveat in report.caveats)
    assert {stage.script: stage.command for stage in report.missing}["explain_lime.py"] == run.command(
        "explain_lime.py", str(backup)
    )


@pytest.mark.parametrize("order", [("lime", "shap", "gradcam"), ("gradcam", "lime", "shap")])
def test_without_results_most_explanations_decide(run, order):
    run.results.unlink()
    explain(run, order[0], shipped_checkpoint())
    for method in order[1:]:
        explain(run, method, run.best_checkpoint)
    model = read_model(run, left_out := [])
    assert {name for name, summary in model.explanations.items() if summary} == set(order[1:])
    assert len(left_out) == 1
    explain(run, order[1], shipped_checkpoint())
    left_out.clear()
    read_model(run, left_out)
    assert left_out[0].endswith("--checkpoint fer2013 --outputs-dir " + str(run.outputs_dir))


def test_a_shortcut_test_of_another_checkpoint_is_left_out(tmp_path):
    run = Run("mini_resnet", "synthetic", outputs_dir=tmp_path)
    write_history(run)
    run.best_checkpoint.write_bytes(b"own training")
    share = {"mean": 0.5, "low": 0.4, "high": 0.6}
    network = {"run": run.identity(), "accuracy": 0.9, "accuracy_planted": 0.9, "called": 0.1, "called_planted": 0.9}
    network |= {"surround": share, "alarms": share}
    content = {
        "run": run.identity(),
        "checkpoint": str(run.best_checkpoint),
        "checkpoint_digest": digest_file(run.best_checkpoint),
        "shortcut": "patch",
        "planted_in": EMOTIONS[3],
        "faces": 20,
        "area": 0.03,
        "networks": {"honest": network, "cheating": network},
        "learned": True,
        "titles": {},
        "methods": {},
    }
    write_json(run.clever_hans("patch"), content)
    evaluate_from(run, run.best_checkpoint)
    assert read_model(run, []).clever_hans
    assert make_tests(read_model(run, []), {})[0].engines == ""
    eight = {name: network | {"engine": "openvino 2025", "precision": "int8"} for name in content["networks"]}
    write_json(run.clever_hans("patch"), content | {"networks": eight})
    assert make_tests(read_model(run, []), {})[0].engines == "forward passes: openvino 2025 in int8 (honest, cheating)"
    run.best_checkpoint.with_name("other.pth").write_bytes(b"another")
    evaluate_from(run, run.best_checkpoint.with_name("other.pth"))
    assert not read_model(run, left_out := []).clever_hans
    assert "the test with a patch" in left_out[0]
    assert left_out[0].endswith(f"run: {run.command('evaluate.py')}"), "the test is always of the run's own training"


def test_explanations_that_name_no_checkpoint_are_kept(run):
    write_explanations(run, "lime", [face(3, None)])
    assert read(run).left_out == []
    assert len(read(run).gallery) == 1


def test_figures_on_other_data_of_another_checkpoint_than_the_results_are_left_out(run):
    content = json.loads(run.results.read_text()) | {"on": "rafdb", "without_training_copies": None}
    content |= {"checkpoint": str(shipped_checkpoint()), "checkpoint_digest": digest_file(shipped_checkpoint())}
    write_json(run.elsewhere("rafdb"), {key: value for key, value in content.items() if key != "schema"})
    cross, left_out = read_cross(run.outputs_dir)
    assert cross is None
    assert left_out[0].endswith(f"run: {run.command('evaluate.py --on rafdb')}")
    evaluate_from(run, shipped_checkpoint())
    cross, left_out = read_cross(run.outputs_dir)
    assert left_out == []
    assert set(cross.rows[0][1]) == {DATASET, "rafdb"}


# ── plots ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_plots_of_results_that_are_left_out_are_not_shown_but_listed_as_missing(run):
    for kind in PLOTS:
        write_picture(run.plot(kind))
    of_training = {"training_curves", "gpu_temperature"}
    assert set(read(run).details[run.name].links) == set(PLOTS)
    run.best_checkpoint.write_bytes(b"trained again")
    report = read(run)
    assert set(report.details[run.name].links) == of_training
    assert set(report.details[run.name].plots) <= of_training
    [missing] = [stage for stage in report.missing if stage.script == "evaluate.py"]
    assert {"results", "ROC curves", "confusion matrix"} <= set(missing.files)
    run.history.unlink()
    evaluate_from(run, run.best_checkpoint)
    assert set(read(run).details[run.name].links) == set(PLOTS) - of_training


def test_an_evaluation_without_figures_removes_those_of_the_one_before(tiny_run, tmp_path):
    flags = config.Evaluate(tag="tiny", outputs_dir=tmp_path, checkpoint=tiny_run.best_checkpoint, device="cpu")
    shutil.copytree(tiny_run.outputs_dir / "cache", tmp_path / "cache")
    kinds = [kind for kind, plot in PLOTS.items() if plot.script == "evaluate.py"]
    of_training = flags.run.plot("training_curves")
    for kind in ("training_curves", *kinds):
        write_picture(flags.run.plot(kind))
        flags.run.plot(kind).with_suffix(".pdf").write_bytes(b"earlier")
    evaluate.evaluate(flags)
    drawn = {kind for kind in kinds if flags.run.plot(kind).exists()}
    assert "roc_curves" in drawn
    assert not drawn & {"votes", "vote_errors"}, "the data set has no votes"
    assert {kind for kind in kinds if flags.run.plot(kind).with_suffix(".pdf").exists()} == drawn
    assert flags.run.plot("roc_curves").with_suffix(".pdf").read_bytes().startswith(b"%PDF")
    evaluate.evaluate(replace(flags, split="val", figures=False))
    assert flags.run.plot("roc_curves").exists(), "they are of test"
    evaluate.evaluate(replace(flags, figures=False))
    left = {path.name for path in of_training.parent.iterdir()}
    assert left == {of_training.name, of_training.with_suffix(".pdf").name}


# ── data ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_explanations_on_another_version_of_the_data_are_left_out(run):
    """Its faces would be shown by those of the version that was scored, which may have the same names."""
    evaluate_from(run, run.best_checkpoint, fingerprint="beef")
    write_cache(run.outputs_dir, fingerprint="beef")
    explain(run, "lime", run.best_checkpoint, fingerprint=FINGERPRINT)
    report = read(run)
    assert report.gallery == []
    line = f"explanations by LIME of {run.name} are left out, as they are of another version of the data than"
    assert report.left_out[0].startswith(line)
    assert report.left_out[0].endswith(f"run: {run.command('explain_lime.py')}")
    explain(run, "lime", run.best_checkpoint, fingerprint="beef")
    assert read(run).gallery[0].face is not None


def test_without_results_faces_are_those_that_were_explained(run):
    """Not those of the training, which may have had another version."""
    run.results.unlink()
    write_cache(run.outputs_dir, fingerprint="beef")
    explain(run, "lime", run.best_checkpoint, fingerprint="beef")
    [card] = read(run).gallery
    assert card.face is not None
    assert card.key[0] == "beef"


def test_a_summary_names_the_version_of_the_data(tiny_run, synthetic, monkeypatch):
    flags = ["--tag", "tiny", "--outputs-dir", str(tiny_run.outputs_dir), "--samples", "1", "--no-figures"]
    monkeypatch.setattr("sys.argv", ["explain_saliency.py", *flags])
    assert explain_saliency.main()["fingerprint"] == synthetic.fingerprint


# ── formats ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_formats_that_are_there_are_written_again_and_tables_without_rows_removed(run):
    write_complete(run)
    evaluate_from(run, run.best_checkpoint)
    folder = run.outputs_dir / "reports"
    before = write_reports(run.outputs_dir, [DATASET], DATASET, ("csv", "latex"))
    assert sorted(folder.iterdir()) == sorted(before)
    assert "0.7012" in (folder / "fer2013_models.csv").read_text()
    unrelated = folder / "fer2013_notes.csv"
    unrelated.write_text("by hand")
    run.best_checkpoint.write_bytes(b"trained again")
    for path in (run.scores, *(run.explanations("").rglob("*_summary.json"))):
        path.unlink()
    written = write_reports(run.outputs_dir, [DATASET], DATASET, ("md",))
    assert written[0] == folder / "fer2013.md", "what was asked for comes first"
    assert not (folder / "fer2013_models.csv").exists()
    assert "70.1" not in (folder / "fer2013.tex").read_text()
    evaluate_from(run, run.best_checkpoint, accuracy=0.6543)
    write_reports(run.outputs_dir, [DATASET], DATASET, ("html",))
    assert "0.6543" in (folder / "fer2013_models.csv").read_text()
    assert "65.4" in (folder / "fer2013.md").read_text()
    assert unrelated.read_text() == "by hand"


def test_markdown_says_what_is_left_out_also_without_results(run):
    run.best_checkpoint.write_bytes(b"trained again")
    text = write_reports(run.outputs_dir, [DATASET], DATASET, ("md",))[0].read_text()
    assert "No model has been evaluated" in text
    assert "## Left out" in text
    assert re.search(r"- Results of fer\\_resnet\\_wide\\_fer2013 are left out", text)


@pytest.mark.parametrize("fingerprint", [FINGERPRINT, "of another copy"])
def test_markdown_warns_of_an_audit_of_other_data(run, monkeypatch, fingerprint):
    finding = {"level": next(iter(LEVELS)), "check": "copies", "text": "many"}
    content = {"fingerprint": fingerprint, "findings": [finding], "pictures_drawn": []}
    monkeypatch.setattr("ferlib.report.audit.read_audit", lambda *_: content)
    text = write_reports(run.outputs_dir, [DATASET], DATASET, ("md",))[0].read_text()
    assert ("This audit is of another version of the data" in text) == (fingerprint != FINGERPRINT)


# ── ranks ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def fifteen_and_lime() -> dict:
    """Fifteen methods from the best to the worst, and LIME, the worst in all columns but one that it alone has."""
    names = [f"m{place:02d}" for place in range(15)]
    found = {
        name: {"seed_rank": [1 - 0.05 * place] * 5, "seed_top": [1 - 0.05 * place] * 5}
        for place, name in enumerate(names)
    }
    for place, name in enumerate(names[:3]):
        found[name]["fill_rank"] = [0.9 - 0.1 * place] * 5
    lime = {"seed_rank": [0.1] * 5, "seed_top": [0.1] * 5, "segmentation_rank": [0.05] * 5}
    return tabulate({"lime": lime, **found, "random": {"seed_rank": [2.0] * 5}})


def test_columns_that_few_methods_have_give_nobody_a_better_mean_rank(run):
    table = fifteen_and_lime()
    score(run, run.best_checkpoint, table=table, titles={name: name for name in table})
    shown = make_score_table(read_model(run, []))
    assert shown.settings == [], "files of earlier versions do not say what computed them"
    assert [(title, ranks) for title, ranks, _ in shown.overview][-1] == ("lime", [16.0])
    assert [ranks for _, ranks, _ in shown.overview] == [[place] for place in range(1, 17)]
    assert [title for title, *_ in shown.groups[0].rows][-2:] == ["lime", "random"]
    assert by_rank(table, shown.groups[0].columns)[-2:] == ["lime", "random"], "the picture has the same order"


def test_shared_ranks_keep_their_decimal(run):
    scores = {"saliency": 1.0, "gradcam": 1.0, "shap": 0.9, "lime": 0.5}
    table = tabulate({name: {"seed_rank": [value] * 5} for name, value in scores.items()})
    score(run, run.best_checkpoint, table=table, titles={name: name for name in table})
    shown = readable("explanation_scores", scores_table([read_model(run, [])]))
    assert list(shown["Rank"]) == ["1.5", "1.5", "3", "4"]
    written = write_reports(run.outputs_dir, [DATASET], DATASET, ("md", "latex"))
    assert all("1.5" in path.read_text() for path in written)
