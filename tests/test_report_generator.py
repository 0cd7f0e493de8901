"""report_generator.py on made-up outputs: what is on the page, what is named as missing, and that it stands alone."""

import base64
import hashlib
import html
import itertools
import json
import random
import re

import numpy as np
import pytest
from PIL import Image

from damage import mutated, mutated_json
from ferlib.evaluation import error_analysis
from ferlib.evaluation import saved_runs as report_data
from ferlib.evaluation.agreement import against_votes
from ferlib.evaluation.error_analysis import confident_errors
from ferlib.evaluation.predictions import SavedPredictions
from ferlib.evaluation.recalibration import calibrated_results
from ferlib.evaluation.scored_checkpoints import is_current, results_digest
from ferlib.explanations import methods as report_methods
from ferlib.explanations.scores.columns import COLUMNS, COST, KIND_TITLES
from ferlib.report import caveats as report_caveats
from ferlib.report import pictures as report_pictures
from ferlib.report import sections as report_sections
from ferlib.report.page import FORMATS, write_reports
from ferlib.report.plots import PLOTS
from ferlib.report.sections import Missing
from ferlib.runtime.digests import digest_file
from ferlib.runtime.errors import UserError
from ferlib.runtime.runs import Run, shipped_checkpoint
from recipes import Recipe
from report_generator import build_report
from report_outputs import (
    DATASET,
    NASTY,
    face,
    labels_and_probabilities,
    make_matrix,
    write_cache,
    write_complete,
    write_explanations,
    write_history,
    write_picture,
    write_results,
    write_scores,
)


@pytest.fixture
def complete(tmp_path) -> Run:
    """A run of which every stage has run."""
    run = Run("resnet50", DATASET, outputs_dir=tmp_path)
    write_complete(run)
    return run


@pytest.fixture
def started(tmp_path) -> Run:
    """A run that left only its history."""
    run = Run("fer_vgg", DATASET, "wide", tmp_path)
    write_history(run)
    return run


def build(run: Run) -> str:
    return build_report(run.outputs_dir, run.dataset).read_text(encoding="utf-8")


def text_of(page: str) -> str:
    """What a reader sees: no tags, no style, white space as one space."""
    body = re.sub(r"<style>.*?</style>", "", page[page.index("<body") :], flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", "", body)))


# ── what is on the page ──────────────────────────────────────────────────────────────────────────────────────────────


def test_figures_of_the_best_model_lead_the_page(complete, started):
    text = text_of(build(complete))
    summary = text[: text.index("Models side by side")]
    for figure in ("70.1 %", "68.1 % to 72.1 %", "67.1 %", "2,050", "65.4 %", "14.3 %"):  # the last: the majority class
        assert figure in summary
    assert "python train.py --made-up" in text
    assert "Fear taken for Sad (20 faces, 6.7 % of its class)" in text
    assert "made up setting" in text
    assert "R² held out 0.78" in text


def test_better_model_comes_first_and_is_bold(tmp_path):
    for model, accuracy in (("aaa", 0.5), ("bbb", 0.8)):
        write_results(Run(model, DATASET, outputs_dir=tmp_path), accuracy)
    page = build_report(tmp_path, DATASET).read_text()
    assert [model.label for model in report_data.read_models(tmp_path, DATASET).models] == ["bbb", "aaa"]
    assert "<strong>80.0\u202f%</strong>" in page
    assert "<strong>50.0\u202f%</strong>" not in page


def test_the_command_of_the_scores_is_among_those_of_the_run(complete):
    write_scores(complete, command="python score_explanations.py --made-up")
    assert "python score_explanations.py --made-up" in text_of(build(complete))


def test_runs_on_other_data_sets_make_a_table(tmp_path):
    run = Run("aaa", DATASET, outputs_dir=tmp_path)
    write_results(run, 0.7)
    assert 'id="elsewhere"' not in build_report(tmp_path, DATASET).read_text()
    other = Run("aaa", "rafdb", outputs_dir=tmp_path)
    write_results(other, 0.6)
    copied = {"samples": 3, "accuracy": 0.25, "interval": [0.1, 0.5]}
    for name, accuracy, clean in (("rafdb", 0.4, None), ("folder:/my/<faces>", 0.3, copied)):
        results = json.loads(run.results.read_text())
        results |= {"on": name, "accuracy": accuracy, "without_training_copies": clean} | checkpoint_of(run)
        run.elsewhere(name).parent.mkdir(exist_ok=True)
        run.elsewhere(name).write_text(json.dumps(results))
    text = text_of(build_report(tmp_path, DATASET).read_text())
    table = text[text.index("On other data sets") :]
    assert "40.0" in table
    assert "30.0" in table
    assert "25.0 % without" in table.replace("\u202f", " ")
    assert "<faces>" in text
    assert "aaa_rafdb" not in text[: text.index("On other data sets")]


def test_a_report_on_all_sets_keeps_the_tables_of_single_reports(tmp_path):
    run = Run("aaa", DATASET, outputs_dir=tmp_path)
    write_results(run, 0.7)
    write_results(Run("aaa", "rafdb", outputs_dir=tmp_path), 0.6)
    write_elsewhere(run, 0.4, views="ten_crop")
    (path,) = [path for path in write_reports(tmp_path, ["rafdb"], "rafdb", ["csv"]) if "other" in path.name]
    table = path.read_text()
    assert "rafdb,ten_crop" in table
    assert "fer2013,single" in table, "views stand beside each accuracy"
    write_reports(tmp_path, [DATASET, "rafdb"], "all", ["html"])
    assert path.read_text() == table


def checkpoint_of(run):
    """What evaluate.py --on says of the checkpoint."""
    return {"checkpoint": str(run.best_checkpoint), "checkpoint_digest": digest_file_or(run.best_checkpoint)}


def digest_file_or(path):
    return digest_file(path) if path.exists() else "of a file that is gone"


def write_elsewhere(run, accuracy, **changes):
    """Figures on RAF-DB of the checkpoint that the run has now."""
    content = json.loads(run.results.read_text()) | checkpoint_of(run)
    run.elsewhere("rafdb").parent.mkdir(exist_ok=True)
    run.elsewhere("rafdb").write_text(
        json.dumps(content | {"on": "rafdb", "accuracy": accuracy, "without_training_copies": None} | changes)
    )


def test_figures_on_other_data_sets_are_those_of_the_checkpoint_that_is_there(tmp_path, capsys):
    run = Run("aaa", DATASET, outputs_dir=tmp_path)
    write_results(run, 0.7)
    run.best_checkpoint.write_bytes(b"that was scored")
    write_elsewhere(run, 0.4, views="ten_crop")
    table = text_of(build_report(tmp_path, DATASET).read_text()).partition("On other data sets")[2]
    assert "40.0" in table
    assert "ten crop" in table, "the other figures are of a single view"
    run.best_checkpoint.write_bytes(b"trained again")
    assert 'id="elsewhere"' not in build_report(tmp_path, DATASET).read_text()
    assert f"as it is of another checkpoint than {run.name} has now" in capsys.readouterr().err
    content = json.loads(run.elsewhere("rafdb").read_text())
    del content["checkpoint"]  # as earlier versions wrote it
    run.elsewhere("rafdb").write_text(json.dumps(content))
    assert 'id="elsewhere"' not in build_report(tmp_path, DATASET).read_text()


@pytest.mark.parametrize("kind", ["ensemble", "folds"])
def test_what_joins_networks_is_left_out_when_one_of_them_is_trained_again(complete, kind):
    member = Run("member", DATASET, outputs_dir=complete.outputs_dir)
    member.best_checkpoint.write_bytes(b"that was joined")
    facts = {"path": str(member.best_checkpoint), "digest": digest_file(member.best_checkpoint)}
    row = {"name": "member", "checkpoint": facts, "val_accuracy": 0.6, "accuracy": 0.6, "interval": [0.5, 0.7]}
    joined = {"members": [row], "methods": [], "chosen": "mean", "best_member": "member", "weights": {"member": 1.0},
              "any_right": 0.6, "disagreement": [[0.0]]}  # fmt: skip
    part = {"ensemble": joined} if kind == "ensemble" else {"folds": [{"checkpoint": facts}]}
    run = Run("joined", DATASET, outputs_dir=complete.outputs_dir)
    write_results(run, 0.9, checkpoint=None, **part)
    saved = json.loads(run.results.read_text())
    assert is_current(saved, run)
    before = results_digest(saved)
    member.best_checkpoint.write_bytes(b"of another training")
    assert not is_current(saved, run)
    facts["digest"] = digest_file(member.best_checkpoint)
    write_results(run, 0.9, checkpoint=None, **part)
    assert results_digest(json.loads(run.results.read_text())) != before, "a comparison with it is of other results"


def test_complete_run_has_nothing_missing(complete):
    page = build(complete)
    assert "-missing" not in page
    kinds = {
        "confident_errors",
        "misclassifications",
        "members",
        "gpu_temperature",
        "confidence",
        "votes",
        "vote_errors",
    }
    assert page.count('src="data:image/webp;base64,') == len(kinds) + 2 * len(report_methods.METHODS)


def test_missing_stages_are_named_with_their_commands(complete, started):
    page = build(complete)
    text = text_of(page[page.index('id="fer2013-missing"') - 10 :].replace("<section", "<body", 1))
    flags = f"--model fer_vgg --dataset fer2013 --tag wide --outputs-dir {started.outputs_dir}"
    assert f"Training curvespython train.py {flags}" in text
    for script in ("evaluate.py", *(method.script for method in report_methods.METHODS.values())):
        assert f"python {script} {flags}" in text
    assert "--model resnet50" not in text


def test_methods_that_no_run_was_explained_with_are_not_named(tmp_path):
    run = Run("resnet50", DATASET, outputs_dir=tmp_path)
    write_results(run)
    write_explanations(run, "hirescam", [face(0, None)])
    text = text_of(build(run))
    named = {name for name, method in report_methods.METHODS.items() if method.how_to_read in text}
    assert named == {"lime", "shap", "hirescam"}
    assert "Not explained yet: resnet50 (LIME, SHAP)" in text
    for name, method in report_methods.METHODS.items():
        assert (f"python {method.script} --model" in text) == (name in ("lime", "shap"))


def test_a_method_of_one_run_is_missing_of_the_others(complete, started):
    command = f"python explain_gradcam.py --method layercam --model fer_vgg --dataset {DATASET}"
    assert command in text_of(build(started))


def test_removed_plot_is_missing(complete):
    complete.plot("roc_curves").unlink()
    models = report_data.read_models(complete.outputs_dir, DATASET).models
    methods = report_data.shown_methods(models)
    assert report_sections.find_missing(models, methods) == [Missing(models[0], "evaluate.py", ("ROC curves",))]


def test_only_started_runs_make_a_page(started):
    text = text_of(build(started))
    assert "No model has been evaluated on FER2013 yet" in text
    assert started.command("evaluate.py") in text


def test_faces_are_found_in_the_cache_by_fingerprint_and_name(complete):
    assert "not in the outputs’ cache" in text_of(build(complete))
    write_cache(complete.outputs_dir)
    page = build(complete)
    assert "not in the outputs’ cache" not in text_of(page)
    assert page.count('<span class="portrait"') == 2
    write_results(complete, fingerprint="another")
    assert "not in the outputs’ cache" in text_of(build(complete))


def test_all_data_sets_on_one_page(complete, tmp_path):
    other = Run("fer_vgg", "rafdb", outputs_dir=tmp_path)
    write_results(other, 0.66)
    assert report_data.find_datasets(tmp_path) == ["fer2013", "rafdb"]
    page = write_reports(tmp_path, ["fer2013", "rafdb"], "all", ("html",))[0].read_text()
    check_form(page)
    overview = text_of(page)[: text_of(page).index("Class by class", 800)]
    for words in ("All data sets", "resnet50", "fer_vgg", "66.0"):
        assert words in overview
    assert "python report_generator.py --all" in text_of(page)


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_names_the_best_model(complete, started, kind):
    paths = write_reports(complete.outputs_dir, [DATASET], DATASET, (kind,))
    assert any("resnet50" in path.read_text() for path in paths)
    assert all(path.parent.name == "reports" for path in paths)


# ── a page that stands alone ─────────────────────────────────────────────────────────────────────────────────────────


def test_names_are_escaped(complete):
    write_explanations(complete, "lime", [face(0, "0.png", name=NASTY, true=NASTY)])
    page = build(complete)
    assert page.count("<script") == 1
    assert "&lt;script&gt;" in page
    assert "&#34;&gt;" in page  # the quotation mark cannot end an attribute


def test_nothing_is_loaded_from_elsewhere(complete, started):
    write_cache(complete.outputs_dir)
    page = build(complete)
    assert not re.findall(r"https?://|url\((?!data:|--)|@import|<link(?! rel=\"icon\" href=\"data:,\")", page)
    assert all(source.startswith("data:image/") for source in re.findall(r'src="([^"]*)"', page))
    links = [target for target in re.findall(r'href="([^"]*)"', page) if not target.startswith(("#", "data:,"))]
    assert len(links) == 2 * len(report_methods.METHODS) + len(PLOTS)
    assert all((complete.outputs_dir / "reports" / target).exists() for target in links)


def test_the_security_policy_names_the_one_script(complete):
    page = build(complete)
    script = re.search(r"<script>(.*?)</script>", page, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html.unescape(page))[1]
    assert policy == f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def test_page_is_well_formed(complete, started):
    write_cache(complete.outputs_dir)
    check_form(build(complete))


def check_form(page: str) -> None:
    """Ids are given once and found by links, headings step down one by one, elements are closed."""
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]*)"', page)) <= set(ids)
    for attribute in ("aria-labelledby", "aria-describedby"):
        assert set(re.findall(rf'{attribute}="([^"]*)"', page)) <= set(ids)
    levels = [int(level) for level in re.findall(r"<h(\d)", page)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert all('alt="' in image for image in re.findall(r"<img [^>]*>", page))
    assert page.count("<table") == page.count("<caption")
    for tag in [
        "section",
        "article",
        "div",
        "span",
        "ul",
        "ol",
        "li",
        "dl",
        "table",
        "figure",
        "details",
        "p",
        "svg",
        "g",
    ]:
        assert len(re.findall(rf"<{tag}[ >]", page)) == page.count(f"</{tag}>"), tag


def test_plots_stay_in_the_limit(tmp_path):
    for number in range(9):
        write_picture(tmp_path / f"{number}.png", side=450, noise=True)  # noise is the hardest to compress
    pictures = report_pictures.embed_pictures(tmp_path.glob("*.png"), 9 * 150_000, [])
    assert {picture.width for picture in pictures.values()} == {640}
    assert sum(len(picture.uri) for picture in pictures.values()) < 9 * 150_000 * 4 / 3 + 9 * 30


def test_pictures_are_made_smaller_never_larger(tmp_path):
    write_picture(tmp_path / "large.png", side=900)
    write_picture(tmp_path / "small.png", side=30)
    large = report_pictures.embed_picture(tmp_path / "large.png", 10**6)
    small = report_pictures.embed_picture(tmp_path / "small.png", 10**6)
    assert (large.width, large.height) == (1200, 600)
    assert (small.width, small.height) == (60, 30)


def test_a_plot_that_is_no_picture_is_left_out(complete):
    complete.plot("misclassifications").write_bytes(b"no picture")
    assert "misclassified faces of each class" not in text_of(build(complete))


def test_transparent_parts_turn_white():
    clear = Image.new("RGBA", (2, 2), (0, 0, 0, 0))
    assert report_pictures.on_white(clear).getpixel((0, 0)) == (255, 255, 255)


# ── caveats ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def caveats(tmp_path, dataset: str = DATASET) -> str:
    return " ".join(report_caveats.find_caveats(report_data.read_models(tmp_path, dataset).models, dataset))


def test_caveats_of_a_small_close_and_copied_test_split(tmp_path):
    for model, accuracy in (("aaa", 0.70), ("bbb", 0.69)):
        write_results(Run(model, DATASET, outputs_dir=tmp_path), accuracy, support=20)
    found = caveats(tmp_path)
    assert "Only 140 test faces" in found
    assert "4.0 points" in found
    assert "interval of aaa: bbb" in found
    assert "3.0 points lower" in found
    assert "Every class has fewer than 100" in found


def test_probabilities_beside_faces_are_said_to_be_the_networks_own(complete):
    """Only where others, with a temperature, stand elsewhere on the page."""
    labels, probabilities = labels_and_probabilities(make_matrix(300))
    errors = confident_errors(labels, probabilities, np.array([f"face_{index}.png" for index in range(len(labels))]))
    write_cache(complete.outputs_dir)
    write_results(complete, confident_errors=errors)
    assert "own, without" not in text_of(build(complete))
    val = SavedPredictions(labels, probabilities, np.log(probabilities), labels.astype(str), views="single")
    calibrated = calibrated_results(val, labels, np.log(probabilities))
    write_results(complete, confident_errors=errors, calibrated=calibrated)
    page = text_of(build(complete))
    assert "some of them are errors of the label. Probabilities are the network’s own, without its temperature." in page
    assert "to see its faces, with the network’s own probabilities, without its temperature." in page
    assert "Probabilities beside the faces are the networks’ own, which the methods explain, without" in page


def test_caveat_of_a_rare_class(tmp_path):
    run = Run("aaa", DATASET, outputs_dir=tmp_path)
    write_results(run)
    rows = json.loads(run.results.read_text())["per_class"]
    write_results(run, per_class=[rows[0], rows[1] | {"support": 55}, *rows[2:]])
    assert "Disgust (55)" in caveats(tmp_path)


def test_caveat_of_averaged_views(tmp_path):
    run = Run("aaa", DATASET, outputs_dir=tmp_path)
    write_results(
        run,
        views="ten_crop",
        other_views={"single": {"accuracy": 0.689, "interval": [0.67, 0.71], "clean_accuracy": None}},
    )
    write_results(Run("bbb", DATASET, outputs_dir=tmp_path), views="flip")
    write_results(Run("ccc", DATASET, outputs_dir=tmp_path))
    found = caveats(tmp_path).replace("\u202f", " ")
    assert found.count("several views of each face") == 1
    assert "aaa with ten_crop (one view reaches 68.9 %)" in found
    assert "bbb with flip" in found
    assert "ccc with" not in found


def test_no_caveat_without_a_reason(tmp_path):
    intervals = {"accuracy": [0.68, 0.72]}
    without = {"samples": 2100, "accuracy": 0.7012, "macro_f1": 0.65, "intervals": intervals}
    write_results(Run("aaa", DATASET, outputs_dir=tmp_path), without_training_copies=without)
    write_results(Run("bbb", DATASET, outputs_dir=tmp_path), 0.5, without_training_copies=without)
    assert caveats(tmp_path) == ""


def test_caveats_of_training(tmp_path):
    run = Run("aaa", "synthetic", outputs_dir=tmp_path)
    epoch = {"epoch": 1, "train_accuracy": 0.95, "val_accuracy": 0.6}
    write_history(run, epochs=[epoch], finished=False)
    write_results(run, without_training_copies=None)
    found = caveats(tmp_path, "synthetic")
    assert "drawn, not photographed" in found
    assert "did not finish" in found
    assert "aaa (95\u202f% against 60\u202f%)" in found
    assert "not known" in found


def test_caveat_of_chance_level(tmp_path):
    write_results(Run("aaa", DATASET, outputs_dir=tmp_path), accuracy=0.16)  # one class in seven: 0.143
    assert "not significantly better than always predicting Angry" in caveats(tmp_path)


def test_caveat_of_different_data(tmp_path):
    write_results(Run("aaa", DATASET, outputs_dir=tmp_path))
    write_results(Run("bbb", DATASET, outputs_dir=tmp_path), support=200)
    assert "same version of the data set" in caveats(tmp_path)


# ── small parts ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_main_confusions_by_share_of_the_true_class():
    matrix = np.diag([100] * 7)
    matrix[1, 0], matrix[3, 4] = 50, 60
    matrix[1, 1], matrix[3, 3] = 50, 940
    pairs = error_analysis.main_confusions(matrix.tolist(), 3)
    assert [(pair["true"], pair["predicted"], pair["faces"], pair["share"]) for pair in pairs] == [
        ("Disgust", "Angry", 50, 0.5),
        ("Happy", "Neutral", 60, 0.06),
    ]


def test_axis_holds_all_intervals_of_models_better_than_chance(tmp_path):
    for model, accuracy in (("aaa", 0.63), ("bbb", 0.69), ("ccc", 0.02)):
        write_results(Run(model, DATASET, outputs_dir=tmp_path), accuracy)
    assert report_data.interval_axis(report_data.read_models(tmp_path, DATASET).models) == (0.6, 0.75)


def test_highest_is_none_where_all_agree(tmp_path):
    for model, accuracy in (("aaa", 0.70), ("bbb", 0.69)):
        write_results(Run(model, DATASET, outputs_dir=tmp_path), accuracy)
    highest = report_data.find_highest(report_data.read_models(tmp_path, DATASET).models)
    assert highest["accuracy"] == 0.70
    assert highest["macro_f1"] is None
    assert highest["mean_auc"] is None


# ── errors ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_no_runs_name_the_training_command(tmp_path):
    with pytest.raises(UserError, match=re.escape("python train.py --model mini_resnet --dataset fer2013")):
        build_report(tmp_path, DATASET)


def test_runs_that_were_only_explained_are_named_with_the_command_that_evaluates_them(started, capsys):
    shipped = shipped_checkpoint()
    for dataset in (DATASET, "rafdb"):
        write_scores(Run("resnet50", dataset, outputs_dir=started.outputs_dir), checkpoint=str(shipped))
    command = "python evaluate.py --model resnet50 --dataset {} --checkpoint fer2013 --outputs-dir"
    assert command.format(DATASET) in text_of(build(started))
    assert "rafdb" not in capsys.readouterr().err
    write_reports(started.outputs_dir, [DATASET], "all", ("html",))
    notes = capsys.readouterr().err
    assert command.format(DATASET) in notes
    assert command.format("rafdb") in notes
    with pytest.raises(UserError, match=command.format("rafdb")) as error:
        build_report(started.outputs_dir, "rafdb")
    assert "train.py" not in str(error.value)


def test_a_checkpoint_from_elsewhere_lacks_no_training(tmp_path):
    run = Run("resnet50", DATASET, outputs_dir=tmp_path)
    write_results(run, checkpoint={"path": "/else where/best.pth", "epoch": 1, "metrics": {}})
    page = build(run)
    assert "Evaluated from /else where/best.pth; its training is not recorded here." in text_of(page)
    assert "train.py" not in page
    assert "explain_lime.py --model resnet50 --dataset fer2013 --checkpoint '/else where/best.pth'" in text_of(page)
    write_results(run)  # of its own checkpoint, whose history is gone
    assert "No history, training curves yet; run: python train.py" in text_of(build(run))


def test_unknown_data_set_lists_the_known(tmp_path):
    with pytest.raises(UserError, match="fer2013"):
        build_report(tmp_path, "fer2031")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda text: json.dumps(json.loads(text) | {"schema": 0}), "has shape 0, this version reads 2"),
        (lambda text: text[:100], "is not valid JSON"),
        (lambda text: "[" * 100_000, "is not valid JSON (too deep)"),
        (lambda text: "[]", "holds a list instead of an object"),
        (lambda text: json.dumps({"schema": 2}), "run is missing"),
        (lambda text: json.dumps(json.loads(text) | {"run": {"model": 1}}), "run.model is 1"),
        (
            lambda text: text.replace('"precision": 0.61', '"precision": "high"'),
            "is damaged: per_class[0].precision is 'high'",
        ),
        (lambda text: text.replace("0.6543", "NaN"), "is damaged: macro_f1 is nan"),
        (lambda text: b"\xff\xfe" + text.encode("utf-16-le"), "is not valid JSON"),
    ],
)
def test_a_damaged_run_is_left_out_by_name_and_the_others_are_shown(tmp_path, capsys, damage, reason):
    good, bad = (Run(name, DATASET, outputs_dir=tmp_path) for name in ("good", "bad"))
    write_results(good)
    write_results(bad)
    damaged = damage(bad.results.read_text())
    bad.results.write_bytes(damaged if isinstance(damaged, bytes) else damaged.encode())
    page = build_report(tmp_path, DATASET).read_text()
    assert "good" in page
    printed = capsys.readouterr().err
    assert "bad_fer2013" in printed
    assert reason in printed
    assert "Left out" in page
    assert "bad_fer2013_results.json" in page
    good.results.write_text("{")
    with pytest.raises(UserError, match=r"run again: (python )?evaluate") as caught:
        build_report(tmp_path, DATASET)
    assert "train.py" not in str(caught.value).replace("evaluate.py", "")


def test_results_and_maps_of_another_checkpoint_are_left_out(complete, capsys):
    complete.best_checkpoint.write_bytes(b"the weights that were scored")
    digest = digest_file(complete.best_checkpoint)
    checkpoint = {"path": str(complete.best_checkpoint), "epoch": 1, "metrics": {}, "digest": digest}
    results, summary = complete.results, complete.explanation_summary("lime")
    results.write_text(json.dumps(json.loads(results.read_text()) | {"checkpoint": checkpoint}))
    explained = {"checkpoint": str(complete.best_checkpoint), "checkpoint_digest": digest}
    for path in (summary, complete.scores):
        path.write_text(json.dumps(json.loads(path.read_text()) | explained))
    assert "Left out" not in build(complete)
    complete.best_checkpoint.write_bytes(b"those of a new training")
    page = build(complete)
    assert "No model has been evaluated" in page
    printed = capsys.readouterr().err
    assert "results of resnet50_fer2013 are left out, as they are of another checkpoint than it has now" in printed
    assert "explanations by LIME of resnet50_fer2013 are left out" in printed
    assert "scores of explanations of resnet50_fer2013 are left out" in printed
    assert "explanations by Grad-CAM" not in printed


def test_results_are_compared_with_the_checkpoint_where_the_outputs_are_now(complete):
    path = complete.best_checkpoint
    path.write_bytes(b"trained again")
    moved = {"path": f"/elsewhere/checkpoints/{path.name}", "epoch": 1, "metrics": None, "digest": "of the earlier one"}
    write_results(complete, checkpoint=moved)
    assert "as they are of another checkpoint than it has now" in text_of(build(complete))


def test_results_of_another_run_are_left_out(complete):
    content = json.loads(complete.results.read_text())
    complete.results.write_text(json.dumps(content | {"run": {"model": "fer_vgg", "dataset": DATASET, "tag": ""}}))
    assert f"of {complete.name} are left out, as they are of another run" in text_of(build(complete))


def test_every_test_face_has_a_copy(complete):
    without = {"samples": 0, "accuracy": None, "macro_f1": None, "intervals": {}, "per_class": []}
    write_results(complete, without_training_copies=without)
    assert "Every test face has a copy in the training split" in text_of(build(complete))


def test_explanations_of_an_earlier_version_are_left_out(complete):
    """Their R² is that of the fit: shown as held out it would be wrong."""
    path = complete.explanation_summary("lime")
    content = json.loads(path.read_text())
    del content["settings"]["r2"]
    path.write_text(json.dumps(content))
    page = build(complete)
    assert "explanations by LIME of resnet50_fer2013 are left out, as an earlier version made them" in page.replace(
        "Explanations", "explanations"
    )
    assert "explanations by SHAP of" not in page


def test_a_damaged_summary_costs_its_own_maps_only(complete):
    complete.explanation_summary("lime").write_text("{")
    page = build(complete)
    assert "explanations by LIME of resnet50_fer2013 are left out" in page.replace("Explanations", "explanations")
    assert "70.1" in page


def test_files_that_a_killed_process_left_are_not_read(tmp_path):
    run = Run("good", DATASET, outputs_dir=tmp_path)
    write_results(run)
    (run.results.parent / ".bad_results.host-1.tmp.json").write_text("{")
    assert "Left out" not in build_report(tmp_path, DATASET).read_text()


@pytest.mark.slow
def test_mutated_files_of_a_run_never_keep_the_page_from_being_made(complete, tmp_path):
    outputs, draw = complete.outputs_dir, random.Random(0)
    write_results(Run("other", DATASET, outputs_dir=outputs), 0.5)
    elsewhere = complete.elsewhere("rafdb")
    elsewhere.parent.mkdir()
    write_elsewhere(complete, 0.5)
    paths = [complete.results, complete.history, complete.explanation_summary("lime"), elsewhere]
    paths += [complete.predictions, complete.explanation_maps("lime"), complete.scores]
    contents = {path: path.read_bytes() for path in paths}
    for _ in range(200):
        path = draw.choice(paths)
        if path.suffix == ".json" and draw.random() < 0.7:
            path.write_text(json.dumps(mutated_json(json.loads(contents[path]), draw)))
        else:
            path.write_bytes(mutated(contents[path], draw))
        assert "other" in build_report(outputs, DATASET).read_text()
        path.write_bytes(contents[path])


def test_regions_have_their_values_and_what_emfacs_expects(complete):
    units = {"mouth": {"20": "lip stretcher", "25": "lips part"}}
    shown = {"target": "Fear", "values": {"cheeks": -0.08, "mouth": 0.22}, "expected_units": units}
    neutral = {"target": "Neutral", "values": {"nose": 0.5}, "expected_units": {}}
    earlier = {"values": {"chin and jaw": 0.33}}  # without the key: the page says nothing of what is expected
    faces = [face(0, None, **shown), face(1, None, **neutral), face(2, None, **earlier)]
    write_explanations(complete, "regions", faces)
    words = text_of(build(complete))
    assert "Facial regions: Δ probability of Fear AU: action units that EMFACS expects of Fear in the region" in words
    assert "mouth +0.22 AU 20 lip stretcher, AU 25 lips part cheeks −0.08 " in words
    assert "EMFACS expects no action units of Neutral. nose +0.50 " in words
    assert "+0.33" not in words
    for wrong in ({"expected_units": ["mouth"]}, {"expected_units": {"mouth": {"20": 20}}}, {"values": {"mouth": "x"}}):
        write_explanations(complete, "regions", [face(0, None, **shown | wrong)])
        assert "explanations by Facial regions of resnet50_fer2013 are left out" in build(complete).replace(
            "Exp", "exp"
        )


def test_scores_of_explanations_are_a_table(complete):
    write_picture(complete.explanations("scores") / "mean_maps.png")
    page = build_report(complete.outputs_dir, DATASET).read_text()
    words = " ".join(html.unescape(page).split())
    assert "How far explanations can be trusted" in words
    assert "Kendall’s W" in words
    assert "20 test faces" in words
    for column in COLUMNS:
        assert f"{column.title} {'↑' if column.higher else '↓'}" in words
    assert words.index(">Facial regions</th>") < words.index(">Random</th>")
    for title in KIND_TITLES.values():
        assert f"<summary>{title}</summary>" in words or title == KIND_TITLES[COST]
    assert '0.30 <small>1</small><br><span class="between">0.10 to 0.40</span>' in words
    assert "moved to one face by their landmarks" in words
    assert words.index("looks at.") < words.index("Caveats")
    complete.scores.unlink()
    assert "How far explanations can be trusted" not in build_report(complete.outputs_dir, DATASET).read_text()


def test_a_model_that_was_only_tried_out_is_named(tmp_path):
    run = Run("ccc", DATASET, outputs_dir=tmp_path)
    write_history(run, recipe={"weights": "none", "epochs": 1, "batch_size": 32}, max_steps=10)
    write_results(run)
    assert "ccc was trained on 320 faces at most (--max-steps 10, epochs: 1)." in caveats(tmp_path)


def test_extra_labels_and_teachers_are_named(tmp_path):
    run = Run("ccc", DATASET, outputs_dir=tmp_path)
    recipe = {"weights": "none", "epochs": 1, "class_weights": False, "votes_weight": 0.5}
    write_history(run, recipe=recipe, teacher=["other:seed1", "folder/shipped.pth"])
    write_results(run)
    found = caveats(tmp_path)
    assert "Trained on the annotators' votes too, which are extra labels: ccc." in html.unescape(found)
    assert "ccc by other:seed1, shipped.pth" in found


def test_the_settings_of_a_training_are_those_that_had_an_effect(tmp_path):
    run = Run("ccc", DATASET, outputs_dir=tmp_path)
    recipe = Recipe().flat() | {"weights": "none", "optimizer": "sgd"}
    write_history(run, recipe=recipe)
    write_results(run)
    alone = build_report(tmp_path, DATASET).read_text()
    assert all(f"<dt>{name}</dt>" in alone for name in ("momentum", "label smoothing"))
    assert not any(f"<dt>{name}" in alone for name in ("focal gamma", "restart epochs", "teacher", "init from"))
    write_history(run, recipe=recipe | {"loss": "votes"}, loss="cross_entropy")  # there were no votes
    assert "<dt>label smoothing</dt>" in build_report(tmp_path, DATASET).read_text()
    write_history(run, recipe=recipe, teacher=["other:seed1", "small"], teacher_views="flip", exclude_leaks=True)
    taught = build_report(tmp_path, DATASET).read_text()
    for name, value in {"teacher": "other:seed1, small", "teacher views": "flip", "exclude leaks": "yes"}.items():
        assert f"<dt>{name}</dt><dd>{value}</dd>" in taught


@pytest.mark.parametrize(("dataset", "extra"), [("fer2013", True), ("ferplus", False)])
def test_votes_in_place_of_labels_are_extra_labels_unless_the_labels_are_theirs(dataset, extra):
    history = {"loss": "votes", "recipe": {}}
    assert report_caveats.learns_extra_labels(history, dataset) == extra


def leaves(content, path=()):
    """The places of all values of a JSON object, of lists those of the first item."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield (*path, key)
            yield from leaves(value, (*path, key))
    elif isinstance(content, list) and content:
        yield (*path, 0)
        yield from leaves(content[0], (*path, 0))


@pytest.mark.slow
@pytest.mark.parametrize("missing", [False, True], ids=["null", "missing"])
def test_results_in_which_anything_is_missing_are_shown_or_refused(complete, missing):
    labels, probabilities = labels_and_probabilities(make_matrix(300))
    votes = np.random.default_rng(0).dirichlet(np.ones(7), len(labels))
    val = SavedPredictions(labels, probabilities, np.log(probabilities), labels.astype(str), views="single")
    calibrated = calibrated_results(val, labels, np.log(probabilities), votes=votes)
    on_val = {"samples": 9, "views": "single", "accuracy": 0.5, "macro_f1": 0.5, "interval": [0.4, 0.6]}
    on_val |= {"clean_samples": 8, "clean_accuracy": 0.4, "clean_interval": [0.3, 0.5]}
    write_cache(complete.outputs_dir)
    write_results(
        complete, calibrated=calibrated, against_votes=against_votes(labels, probabilities, votes), on_val=on_val
    )
    whole = complete.results.read_text()
    places = list(leaves(json.loads(whole)))
    assert len(places) > 150
    for *path, last in places:
        content = json.loads(whole)
        part = content
        for key in path:
            part = part[key]
        if missing:
            del part[last]
        else:
            part[last] = None
        complete.results.write_text(json.dumps(content))
        try:
            write_reports(complete.outputs_dir, [DATASET], DATASET, ("html", "md", "csv"))
        except UserError:
            continue
        except Exception as error:
            raise AssertionError(f"{'.'.join(map(str, (*path, last)))}: {error!r}") from error
