"""evaluate.py --compare: seeds together, files, pictures, the report's section, and what is refused."""

import json
import re
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
from PIL import Image

import config
import evaluate
from ferlib.evaluation.comparison import choose_runs, compare_runs, group_seeds, matching_set
from ferlib.evaluation.comparison_text import summarize_comparison
from ferlib.evaluation.paired import Contestant
from ferlib.evaluation.predictions import SavedPredictions, read_predictions, save_predictions
from ferlib.evaluation.saved_runs import read_models
from ferlib.evaluation.stage_shapes import COMPARISON
from ferlib.figures import comparison as comparison_figures
from ferlib.figures.comparison import first_of
from ferlib.report.page import build_report
from ferlib.runtime.errors import UserError
from ferlib.runtime.files import read_json, write_json
from ferlib.runtime.runs import Run, comparison_path, picture_beside
from report_outputs import (
    DATASET,
    labels_and_probabilities,
    make_matrix,
    write_history,
    write_results,
)


def make_run(outputs, model, tag, wrong, seed, recipe="quick", views="single", checkpoint=None, **history):
    """An evaluated run that takes `wrong` of the first faces for the next class."""
    run = Run(model, DATASET, tag, outputs)
    write_history(run, seed=seed, recipe_name=recipe, **history)
    labels, probabilities = labels_and_probabilities(make_matrix(300))
    shifted = probabilities.copy()
    shifted[:wrong] = np.roll(shifted[:wrong], 1, axis=1)
    matrix = np.zeros((7, 7), int)
    np.add.at(matrix, (labels, shifted.argmax(1)), 1)
    changes = {"samples": len(labels), "confusion_matrix": matrix.tolist(), "views": views}
    changes |= {"checkpoint": checkpoint} if checkpoint else {}
    write_results(run, float((shifted.argmax(1) == labels).mean()), **changes)
    names = np.array([f"face_{index}.png" for index in range(len(labels))])
    save_predictions(run.predictions, SavedPredictions(labels, shifted, np.log(shifted), names))
    return run


@pytest.fixture
def outputs(tmp_path):
    for seed, tag in enumerate(("", "seed1", "seed2")):
        make_run(tmp_path, "fer_resnet", tag, 300 + 20 * seed, seed)
    make_run(tmp_path, "resnet50", "", 60, 0)
    make_run(tmp_path, "fer_vgg", "", 62, 0)
    return tmp_path


def reports_of(outputs, *names):
    return choose_runs(names, DATASET, outputs)


def test_seeds_of_one_training_are_one_contestant(outputs):
    reports = reports_of(outputs, "fer_resnet", "resnet50", "fer_resnet:seed1", "fer_resnet:seed2")
    assert group_seeds(reports) == [[0, 2, 3], [1]]
    found = compare_runs(reports, DATASET, None)
    assert [row["name"] for row in found["contestants"]] == ["fer_resnet (3 seeds)", "resnet50"]
    assert found["contestants"][0]["sd"]["accuracy"] > 0
    [row] = found["pairs"]
    assert row["verdict"] == "worse"
    assert row["sentence"].startswith("resnet50 is better than fer_resnet (3 seeds): +")


def test_runs_of_another_recipe_or_other_views_are_no_seeds(outputs):
    make_run(outputs, "fer_resnet", "long", 300, 5, recipe="scratch")
    make_run(outputs, "fer_resnet", "views", 300, 6, views="flip")
    reports = reports_of(outputs, "fer_resnet", "fer_resnet:long", "fer_resnet:views")
    assert group_seeds(reports) == [[0], [1], [2]]


@pytest.mark.parametrize(
    "change",
    [
        {"finished": False},
        {"begun_for_epochs": [10]},
        {"teacher_digests": {"one": "abc"}},
        {"initial_digest": "abc"},
        {"loss": "votes"},
        {"votes": "abc"},
        {"checkpoint": {"path": "/elsewhere/other.pth", "epoch": 1, "metrics": {}, "digest": "abc"}},
    ],
)
def test_runs_that_differ_in_more_than_the_seed_are_alone(outputs, change):
    make_run(outputs, "fer_resnet", "other", 300, 7, **change)
    reports = reports_of(outputs, "fer_resnet", "fer_resnet:seed1", "fer_resnet:other", "resnet50")
    assert group_seeds(reports) == [[0, 1], [2], [3]]


def test_a_file_from_elsewhere_has_not_the_seed_of_the_training_beside_it(outputs):
    file = {"path": "/elsewhere/other.pth", "epoch": 1, "metrics": {}, "digest": "abc"}
    make_run(outputs, "fer_resnet", "other", 300, 7, checkpoint=file)
    rows = compare_runs(reports_of(outputs, "fer_resnet", "fer_resnet:other"), DATASET, None)["runs"]
    assert [row["seed"] for row in rows] == [0, None]
    assert rows[1]["picked"] is None
    assert rows[1]["checkpoint_digest"] == "abc"


def test_seeds_alone_are_compared_one_by_one(outputs):
    reports = reports_of(outputs, "fer_resnet", "fer_resnet:seed1", "fer_resnet:seed2")
    assert group_seeds(reports) == [[0], [1], [2]]
    make_run(outputs, "fer_resnet", "again", 300, 0)  # the same seed twice is not two seeds
    assert group_seeds(reports_of(outputs, "fer_resnet", "fer_resnet:again", "resnet50")) == [[0], [1], [2]]


def flags_of(outputs, *names, **changes):
    return config.Evaluate(dataset=DATASET, compare=names, outputs_dir=outputs, data_dir=outputs / "none", **changes)


def test_the_command_writes_what_it_found_with_pictures(outputs):
    text = evaluate.compare(flags_of(outputs, "all"))
    path = comparison_path(outputs, DATASET)
    found = read_json(path, "", COMPARISON)
    assert len(found["pairs"]) == 3
    for row in found["pairs"]:
        assert row["sentence"] in text
    assert "FER_XAI, ResNet-50: 70.88% (69.38% to 72.35%) on PrivateTest" in text
    assert "left out: slices, people and subjects" in text
    for kind in ("matrix", "roc_curves", "slices", "learning_curves"):
        picture = np.asarray(Image.open(path.with_name(f"{DATASET}_{kind}.png")).convert("L"))
        assert picture.std() > 5, f"{kind} is blank"
    assert not path.with_name(f"{DATASET}_faces.png").exists()


def test_with_the_data_set_slices_and_faces_are_there(tiny_run, synthetic):
    flags = config.Evaluate(tag="tiny", outputs_dir=tiny_run.outputs_dir, device="cpu", figures=False)
    evaluate.evaluate(flags)
    twin = replace(tiny_run, tag="twin")
    saved = np.load(tiny_run.predictions)
    shifted = np.roll(saved["probabilities"], 1, axis=0)
    save_predictions(twin.predictions, SavedPredictions(saved["labels"], shifted, np.log(shifted), saved["names"]))
    results = json.loads(tiny_run.results.read_text()) | {"run": twin.identity(), "checkpoint": None}
    write_json(twin.results, {key: value for key, value in results.items() if key != "schema"})
    found = compare_runs(
        choose_runs(("mini_resnet:tiny", "mini_resnet:twin"), "synthetic", tiny_run.outputs_dir), "synthetic", synthetic
    )
    assert found["unit"] == "subject"
    assert found["left_out"] == []
    text = evaluate.compare(replace(flags, tag="", compare=("mini_resnet:tiny", "mini_resnet:twin"), figures=True))
    assert "written:" in text
    assert comparison_path(tiny_run.outputs_dir, "synthetic").with_name("synthetic_faces.png").exists()


def test_pictures_of_an_earlier_comparison_do_not_stay(outputs):
    kinds = ("matrix", "roc_curves", "slices", "learning_curves", "faces")
    paths = [picture_beside(comparison_path(outputs, DATASET), kind) for kind in kinds]
    evaluate.compare(flags_of(outputs, "fer_resnet", "resnet50", format=("png", "pdf")))
    assert [path.exists() for path in paths] == [True, True, True, True, False]
    paths[-1].write_bytes(b"faces of an earlier comparison")
    evaluate.compare(flags_of(outputs, "fer_vgg", "resnet50", figures=False))
    assert not any(path.exists() or path.with_suffix(".pdf").exists() for path in paths)


def test_curves_of_many_runs_say_that_they_are_of_the_first():
    assert first_of(range(7)) == ""
    assert first_of(range(12)) == "; the first 7 of 12"


def test_curves_have_names_where_the_first_class_has_no_face(tmp_path):
    labels = np.repeat(np.arange(1, 7), 10)
    shares = np.random.default_rng(0).dirichlet(np.ones(7), (1, len(labels)))
    contestants = [Contestant(name, labels, shares) for name in ("one", "two")]
    with patch.object(comparison_figures, "entitle", lambda figure, *_: found.append(figure.axes[-1].get_legend())):
        found = []
        comparison_figures.plot_common_roc(tmp_path / "roc.png", contestants, ("title", "subject"))
    assert [text.get_text() for text in found[0].get_texts()] == ["one", "two"]
    assert len({line.get_color() for line in found[0].get_lines()}) == 2


def test_runs_of_a_fold_are_named_without_it(tmp_path):
    for fold in (0, 2):
        for model in ("fer_resnet", "resnet50"):
            write_results(Run(model, DATASET, "", tmp_path, fold))
    chosen = choose_runs(("fer_resnet", "resnet50"), DATASET, tmp_path, 2)
    assert [report.run.fold for report in chosen] == [2, 2]
    assert [report.run.fold for report in choose_runs(("all",), DATASET, tmp_path)] == [0, 0]
    write_results(Run("resnet50", DATASET, "", tmp_path, 1))
    write_results(Run("fer_vgg", DATASET, "", tmp_path, 1))
    first = choose_runs(("fer_resnet", "fer_vgg", "resnet50"), DATASET, tmp_path, 1)
    assert [report.run.fold for report in first] == [0, 1, 1], "without --fold, faces are split as in the first fold"
    joined = Run("resnet18", DATASET, "all-folds", tmp_path)
    write_results(joined, folds=[{"fold": 1, "samples": 3, "accuracy": 0.5, "checkpoint": None}])
    every = choose_runs(("all",), DATASET, tmp_path, 1)
    assert {report.run.model for report in every} == {"fer_resnet", "fer_vgg", "resnet50"}
    with pytest.raises(UserError, match="there are no runs on fer2013, fold 3"):
        choose_runs(("fer_resnet", "resnet50"), DATASET, tmp_path, 3)
    assert comparison_path(tmp_path, "jaffe", "a", 2) != comparison_path(tmp_path, "jaffe", "a")


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (("fer_resnet", "fer_resnt"), "unknown run 'fer_resnt'; did you mean fer_resnet"),
        (("fer_resnet",), "needs two or more different runs"),
        (("fer_resnet", "fer_resnet"), "needs two or more different runs"),
        (("fer_resnet", "resnet18"), r"resnet18 is not evaluated; run: python evaluate\.py"),
    ],
)
def test_refusals(outputs, names, reason):
    write_history(Run("resnet18", DATASET, outputs_dir=outputs))
    with pytest.raises(UserError, match=reason):
        evaluate.compare(flags_of(outputs, *names))
    assert not comparison_path(outputs, DATASET).exists()


def test_other_faces_are_refused(outputs):
    run = Run("resnet50", DATASET, outputs_dir=outputs)
    saved = read_predictions(run.predictions, "")
    others = np.array([f"other_{index}.png" for index in range(len(saved.labels))])
    for changes in ({"names": others}, {"fingerprint": "another version"}):
        save_predictions(run.predictions, replace(saved, **changes))
        first = Run("fer_resnet", DATASET, outputs_dir=outputs).predictions
        save_predictions(first, replace(read_predictions(first, ""), fingerprint="one version"))
        with pytest.raises(UserError, match="was scored on other faces than fer_resnet"):
            compare_runs(reports_of(outputs, "fer_resnet", "resnet50"), DATASET, None)


def test_predictions_of_another_run_are_refused(outputs):
    one, other = (Run(model, DATASET, outputs_dir=outputs).predictions for model in ("resnet50", "fer_resnet"))
    one.write_bytes(other.read_bytes())
    with pytest.raises(UserError, match=r"resnet50_fer2013_predictions\.npz is not of the results beside it"):
        compare_runs(reports_of(outputs, "fer_resnet", "resnet50"), DATASET, None)


def test_runs_on_other_versions_of_the_data_are_no_seeds(outputs):
    history = Run("fer_resnet", DATASET, "seed2", outputs).history
    content = json.loads(history.read_text())
    content["data"]["fingerprint"] = "another version"
    history.write_text(json.dumps(content))
    assert group_seeds(reports_of(outputs, "fer_resnet", "resnet50", "fer_resnet:seed1", "fer_resnet:seed2")) == [
        [0, 2],
        [1],
        [3],
    ]


def test_flags_that_make_no_sense_together(outputs):
    with pytest.raises(UserError, match="that is the name of a fold's files"):
        evaluate.compare(flags_of(outputs, "fer_resnet", "resnet50", tag="fold2"))
    with pytest.raises(UserError, match="--compare reads saved predictions"):
        evaluate.compare(flags_of(outputs, "all", split="val"))


# ── the report ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_report_has_the_comparison(outputs):
    evaluate.compare(flags_of(outputs, "fer_resnet", "fer_resnet:seed1", "resnet50", "fer_vgg"))
    page = build_report(outputs, DATASET).read_text()
    assert "A against B" in page
    assert "resnet50 is better than fer_resnet (2 seeds)" in page
    assert "The data cannot tell" in page or "practically equal" in page
    assert "biased upwards" in page


def test_probabilities_are_those_of_the_run_that_the_sentence_names_first(outputs):
    text = evaluate.compare(flags_of(outputs, "fer_resnet", "resnet50", figures=False))
    assert re.search(r"resnet50 is better than fer_resnet: .* P\(better\) 1.00, P\(equal\) 0.00, P\(worse\) 0.00", text)
    page = " ".join(build_report(outputs, DATASET).read_text().replace("\u202f", " ").split())
    assert re.search(
        r"resnet50 is better than fer_resnet:[^<]*<span[^>]*>Probability of better, equal, worse: 100 %, 0 %, 0 %", page
    )


def test_views_that_differ_are_said(outputs):
    assert "Caution" not in evaluate.compare(flags_of(outputs, "fer_resnet", "resnet50", figures=False))
    make_run(outputs, "resnet18", "", 60, 0, views="flip")
    text = evaluate.compare(flags_of(outputs, "fer_resnet", "resnet18", "fer_vgg", figures=False))
    caution = "Caution: the views differ (single of fer_resnet, fer_vgg; flip of resnet18), and a part"
    assert caution in text
    assert caution in build_report(outputs, DATASET).read_text()


def test_comparisons_of_earlier_results_are_left_out(outputs):
    evaluate.compare(flags_of(outputs, "fer_resnet", "resnet50", figures=False))
    make_run(outputs, "resnet50", "", 60, 0, views="flip")
    page = build_report(outputs, DATASET).read_text()
    assert "A against B" not in page
    assert "as its runs were scored again since" in page


@pytest.mark.parametrize("change", [{"fingerprint": "another version"}, {"precision": "int8"}])
def test_comparisons_of_other_data_or_another_precision_are_left_out(outputs, change):
    evaluate.compare(flags_of(outputs, "fer_resnet", "resnet50", figures=False))
    path = Run("resnet50", DATASET, outputs_dir=outputs).results
    write_json(path, {key: value for key, value in json.loads(path.read_text()).items() if key != "schema"} | change)
    assert "as its runs were scored again since" in build_report(outputs, DATASET).read_text()


def test_a_comparison_of_another_set_of_the_same_file_is_not_replaced(outputs):
    path = comparison_path(outputs, DATASET, "a")
    write_json(path, {"dataset": f"{DATASET}_a"})
    with pytest.raises(UserError, match="is of fer2013_a already; use another --outputs-dir for fer2013"):
        evaluate.compare(flags_of(outputs, "fer_resnet", "resnet50", tag="a", figures=False))
    assert json.loads(path.read_text())["dataset"] == f"{DATASET}_a"


def test_damaged_comparisons_are_left_out(outputs):
    path = comparison_path(outputs, DATASET)
    write_json(path, {"dataset": DATASET, "pairs": 5})
    page = build_report(outputs, DATASET).read_text()
    assert "a comparison is left out" in page.lower()


def test_old_results_are_compared_too(outputs):
    """Results of earlier versions lack the newer figures; predictions have all that is needed."""
    for report in read_models(outputs, DATASET).models:
        assert "kappa" not in report.results
    found = compare_runs(reports_of(outputs, "fer_vgg", "resnet50"), DATASET, None)
    assert found["contestants"][0]["kappa"] > 0.5
    assert "fer_vgg" in summarize_comparison(found)


def test_joined_folds_are_compared_by_subject(synthetic):
    """Predictions of all faces, as evaluate.py --all-folds joins them, are of the set whose faces are all test."""
    probabilities = np.full((len(synthetic), 7), 1 / 7, np.float32)
    saved = SavedPredictions(
        synthetic.labels, probabilities, np.log(probabilities), synthetic.names, fingerprint=synthetic.fingerprint
    )
    found = matching_set(synthetic, saved)
    assert np.array_equal(found.split("test").subjects, synthetic.subjects)
    test = synthetic.split("test")
    part = replace(saved, labels=test.labels, names=test.names)
    assert matching_set(synthetic, part) is synthetic
    assert matching_set(synthetic, replace(part, names=test.names[::-1])) is None
