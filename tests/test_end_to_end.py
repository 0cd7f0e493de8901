"""All stages in one process, by the commands of the README: train, evaluate, LIME, SHAP, report."""

import json
import re

import numpy as np
import pytest
from PIL import Image

import evaluate
import explain_gradcam
import explain_lime
import explain_shap
import report_generator
import train
from ferlib.runtime.runs import Run, report_path

COMMANDS = [
    (train, "--epochs 1 --max-steps 5 --batch-size 16"),
    (evaluate, ""),
    (explain_lime, "--samples 4 --lime-samples 60"),
    (explain_shap, "--samples 4 --bg-samples 14 --shap-samples 6"),
]

pytestmark = pytest.mark.process  # that draw figures


@pytest.fixture(scope="module")
def run(shared_outputs):
    with pytest.MonkeyPatch.context() as patch:
        for stage, flags in COMMANDS:
            arguments = f"{stage.__name__}.py --tag line --outputs-dir {shared_outputs} {flags}".split()
            patch.setattr("sys.argv", arguments)
            stage.main()
        patch.setattr("sys.argv", ["report_generator.py", "--outputs-dir", str(shared_outputs)])
        report_generator.main()
    return Run("mini_resnet", "synthetic", "line", shared_outputs)


def test_every_stage_left_its_files(run):
    for path in (run.best_checkpoint, run.last_checkpoint, run.history, run.results, run.predictions):
        assert path.exists(), path
    for method in ("lime", "shap"):
        summary = json.loads(run.explanation_summary(method).read_text())
        figures = {path.name for path in run.explanations(method).glob("*.png")}
        assert figures == {face["figure"] for face in summary["faces"]}
        assert len(figures) == 4


def test_all_methods_explain_the_same_faces_and_classes(run):
    lime, shap = (np.load(run.explanation_maps(method)) for method in ("lime", "shap"))
    assert np.array_equal(lime["indices"], shap["indices"])
    assert np.array_equal(lime["targets"], shap["targets"])
    assert lime["maps"].shape == shap["maps"].shape == (4, 48, 48)
    predictions = np.load(run.predictions)["probabilities"].argmax(1)
    assert np.array_equal(lime["targets"], predictions[lime["indices"]])


def test_saved_predictions_choose_the_wrong_faces(run, monkeypatch, capsys):
    shared = ["--tag", "line", "--outputs-dir", str(run.outputs_dir), "--no-figures"]
    monkeypatch.setattr("sys.argv", ["explain_gradcam.py", *shared, "--only", "wrong", "--samples", "2"])
    first = explain_gradcam.main()["faces"]
    assert "predicting them" not in capsys.readouterr().out
    hidden = run.predictions.rename(run.predictions.with_suffix(".hidden"))
    again = explain_gradcam.main()["faces"]
    hidden.rename(run.predictions)
    assert "predicting them" in capsys.readouterr().out
    assert [face["index"] for face in again] == [face["index"] for face in first]
    assert all(face["true"] != face["predicted"] for face in first)


def test_figures_are_pictures(run):
    for method in ("lime", "shap"):
        for path in run.explanations(method).glob("*.png"):
            picture = np.asarray(Image.open(path).convert("RGB"))
            assert picture.shape[1] > 1000
            assert picture.std() > 10
            assert re.fullmatch(r"\d{3,}_[A-Z][a-z]+_pred[A-Z][a-z]+\.png", path.name)


def test_report_shows_the_run(run):
    page = report_path(run.outputs_dir, "synthetic").read_text()
    accuracy = json.loads(run.results.read_text())["accuracy"]
    assert f"{100 * accuracy:.1f}" in page
    assert page.count("data:image/") >= 3 + 8
    assert not re.search(r"https?://", page), "the page must load nothing from elsewhere"


def test_nothing_half_written_is_left(run):
    assert not [path for path in run.outputs_dir.rglob("*") if ".tmp" in path.name]
