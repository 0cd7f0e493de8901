"""The report's tables and curves: known answers, and names from outside that LaTeX and Markdown must not obey."""

import csv
import json
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import config
from ferlib.evaluation.predictions import SavedPredictions
from ferlib.evaluation.saved_runs import read_model
from ferlib.explanations.maps import locate
from ferlib.explanations.terminal import describe_summary
from ferlib.report import charts as report_charts
from ferlib.report import faces as report_faces
from ferlib.report import gallery as report_gallery
from ferlib.report import pictures as report_pictures
from ferlib.report import tables as report_tables
from ferlib.report.faces import FaceStore
from ferlib.report.page import escape_markdown, write_reports
from ferlib.runtime.errors import UserError
from ferlib.runtime.runs import Run
from ferlib.training.gpu_monitor import LOG_HEADER
from report_outputs import (
    DATASET,
    face,
    make_matrix,
    write_cache,
    write_complete,
    write_explanations,
    write_history,
    write_predictions,
    write_results,
)


@pytest.fixture
def run(tmp_path) -> Run:
    run = Run("resnet50", DATASET, outputs_dir=tmp_path)
    write_complete(run, methods=("lime", "gradcam"))
    return run


# ── tables ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_csv_holds_the_figures_of_the_results(run):
    paths = {path.stem: path for path in write_reports(run.outputs_dir, [DATASET], DATASET, ("csv",))}
    tables = ("models", "classes", "confusion", "explanations", "explanation_scores", "region_shares")
    assert set(paths) == {f"{DATASET}_{name}" for name in tables}
    scores = pd.read_csv(paths["fer2013_explanation_scores"]).set_index(["method", "score"])
    assert scores.loc[("lime", "road"), ["mean", "low", "high", "rank"]].tolist() == pytest.approx([0.2, 0.1, 0.4, 2])
    shares = pd.read_csv(paths["fer2013_region_shares"]).iloc[0]
    assert (shares["explained"], shares["outcome"], shares["region"]) == ("Happy", "right", "mouth")
    assert (shares["share"], shares["share_low"], shares["faces"]) == (0.5, 0.4, 9)
    models = pd.read_csv(paths["fer2013_models"])
    assert models.loc[0, ["accuracy", "accuracy_low", "clean_accuracy"]].tolist() == pytest.approx(
        [0.7012, 0.6812, 0.6712]
    )
    confusion = pd.read_csv(paths["fer2013_confusion"])
    assert (
        confusion.pivot(index="true", columns="predicted", values="faces").to_numpy().tolist()
        == make_matrix(300).tolist()
    )
    assert pd.read_csv(paths["fer2013_explanations"]).set_index("method").loc["lime", "mean_r2"] == pytest.approx(0.777)


def test_percentages_for_people():
    row = pd.Series({"accuracy": 0.7144, "accuracy_low": 0.6994, "accuracy_high": 0.7289, "auc": None})
    assert report_tables.percent_with_interval(row, "accuracy") == "71.4 (69.9 to 72.9)"
    assert report_tables.percent_with_interval(row, "auc") == "–"


def test_latex_escapes_names(tmp_path):
    write_results(Run("a_b", DATASET, r"50%\input{x}&$", tmp_path))
    path = write_reports(tmp_path, [DATASET], DATASET, ("latex",))[0]
    text = path.read_text()
    assert r"a\_b (50\%\textbackslash" in text
    assert r"\input{x}" not in text
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 3
    assert r"\label{tab:fer2013-models}" in text


def test_markdown_escapes_names(tmp_path):
    write_results(Run("a|b", DATASET, "<script>*x*", tmp_path))
    text = write_reports(tmp_path, [DATASET], DATASET, ("md",))[0].read_text()
    assert r"a\|b (\<script\>\*x\*)" in text
    assert "<script>" not in re.sub(r"`[^`]*`", "", text)  # in code it is text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.replace(r"\|", "").count("|") for line in rows if "Accuracy" in line or r"a\|b" in line} == {8}
    assert escape_markdown("a\nb") == "a b"


# ── faces and gallery ────────────────────────────────────────────────────────────────────────────────────────────────


def test_cells_hold_the_surest_faces(run):
    model = read_model(run, [])
    predictions = report_faces.read_run_predictions(model, [])
    cell = report_faces.confusion_cells(model, predictions)[2][5]
    assert (cell.true, cell.predicted, cell.count, len(cell.faces)) == ("Fear", "Sad", 20, 8)
    found = [face.index for face in cell.faces]
    assert (predictions.labels[found] == 2).all()
    assert (predictions.probabilities[found].argmax(1) == 5).all()
    shown = [face.probability for face in cell.faces]
    assert shown == sorted(shown, reverse=True)
    assert shown[0] == pytest.approx(0.9)


def test_predictions_of_other_results_are_not_taken(run):
    write_predictions(run, support=200)
    assert report_faces.read_run_predictions(read_model(run, []), []) is None
    run.predictions.write_bytes(b"no npz")
    left_out = []
    assert report_faces.read_run_predictions(read_model(run, []), left_out) is None
    assert re.search(r"predictions are left out: .*predictions\.npz holds code.*run: python evaluate\.py", left_out[0])


def test_thumbnails_lie_where_the_sheet_says():
    greys = {("a",): 10, ("b",): 120, ("c",): 250}
    faces = {key: np.full((48, 48, 1), grey, np.uint8) for key, grey in greys.items()}
    sheet = report_pictures.thumbnail_sheet(faces)
    assert (sheet.columns, sheet.rows) == (3, 1)
    assert [sheet.places[key] for key in greys] == [(0, 0), (1, 0), (2, 0)]
    assert report_pictures.thumbnail_sheet({}) is None


def test_one_card_per_face_with_every_run(run):
    other = Run("fer_vgg", DATASET, outputs_dir=run.outputs_dir)
    write_results(other)
    write_explanations(other, "shap", [face(1, None), face(5, None)], side=112)
    write_cache(run.outputs_dir)
    models = [read_model(run, []), read_model(other, [])]
    cards = report_gallery.build_gallery(models, FaceStore(run.outputs_dir, DATASET), run.outputs_dir / "reports", [])
    assert [card.index for card in cards] == [0, 1, 5]
    assert [[tile.method for tile in answer.tiles] for answer in cards[1].answers] == [["lime", "gradcam"], ["shap"]]
    assert [answer.zoom for answer in cards[1].answers] == [round(48 / 44, 4), 1]
    assert cards[1].answers[0].tiles[0].figure == "../explanations/lime/resnet50_fer2013/1.png"
    assert cards[1].answers[1].tiles[0].figure is None
    assert all(card.face for card in cards)


def test_maps_that_are_gone_and_broken(run):
    store, page_dir = FaceStore(run.outputs_dir, DATASET), run.outputs_dir
    run.explanation_maps("lime").unlink()
    card = report_gallery.build_gallery([read_model(run, [])], store, page_dir, [])[0]
    assert [bool(tile.scales) for tile in card.answers[0].tiles] == [False, True]
    run.explanation_maps("lime").write_bytes(b"no npz")
    left_out = []
    card = report_gallery.build_gallery([read_model(run, [])], store, page_dir, left_out)[0]
    assert [bool(tile.scales) for tile in card.answers[0].tiles] == [False, True]
    assert re.search(r"maps are left out: .*maps\.npz holds code or text.*run: python explain_lime\.py", left_out[0])


def test_maps_and_figures_of_other_settings_than_the_summary_are_not_shown(run):
    """A run of the script with other settings that was interrupted has drawn figures, and may have written maps."""
    path, summary = run.explanation_maps("lime"), run.explanation_summary("lime")
    with np.load(path) as file:
        arrays = dict(file)
    content = json.loads(summary.read_text())
    figures = [run.explanations("lime") / face["figure"] for face in content["faces"] if face["figure"]]

    def gallery(of_summary, of_maps, of_figure):
        summary.write_text(json.dumps(content | {"settings_digest": of_summary}))
        np.savez_compressed(path, **arrays, settings=np.array(of_maps))
        for figure, key in zip(figures, [of_figure, *["new"] * len(figures)], strict=False):
            text = PngInfo()
            text.add_text("explanation", f"{key} and more")
            Image.new("L", (9, 9)).save(figure, pnginfo=text)
        left_out = []
        store = FaceStore(run.outputs_dir, DATASET)
        card = report_gallery.build_gallery([read_model(run, [])], store, run.outputs_dir, left_out)[0]
        tile = card.answers[0].tiles[0]
        return bool(tile.scales), tile.figure is not None, left_out

    assert gallery("new", "new", "new") == (True, True, [])
    shown, linked, [line] = gallery("new", "new", "old")
    assert (shown, linked) == (True, False)
    assert "1 figure of LIME of resnet50_fer2013 left out, as of other settings than the summary; run: python" in line
    shown, _, [line] = gallery("new", "old", "new")
    assert not shown
    assert "is of other settings than the summary beside it; run: python explain_lime.py" in line


def test_maps_of_another_class_are_not_shown(run):
    path = run.explanation_maps("lime")
    with np.load(path) as file:
        arrays = dict(file)
    np.savez_compressed(path, **arrays | {"targets": (arrays["targets"] + 1) % 7})
    card = report_gallery.build_gallery(
        [read_model(run, [])], FaceStore(run.outputs_dir, DATASET), run.outputs_dir, []
    )[0]
    assert [bool(tile.scales) for tile in card.answers[0].tiles] == [False, True]


def test_facts_that_are_no_numbers_are_not_shown(run):
    summary = json.loads(run.explanation_summary("lime").read_text())
    summary["faces"][0]["r2"] = "high"
    run.explanation_summary("lime").write_text(json.dumps(summary))
    card = report_gallery.build_gallery(
        [read_model(run, [])], FaceStore(run.outputs_dir, DATASET), run.outputs_dir, []
    )[0]
    assert "high" not in str(card.answers[0].tiles[0].facts)


def test_a_damaged_picture_is_named(tmp_path):
    (tmp_path / "curves.png").write_bytes(b"no picture")
    left_out = []
    assert report_pictures.embed_pictures([tmp_path / "curves.png", tmp_path / "none.png"], 10**6, left_out) == {}
    assert len(left_out) == 1
    assert "curves.png is damaged" in left_out[0]


def test_colours_of_a_map():
    values = np.zeros((8, 8), np.float32)
    values[0, 0], values[7, 7] = 1, -1
    values[1, 1] = 0.5
    colours = report_pictures.color_map(values, signed=True, limit=1.0)
    assert colours[0, 0].tolist() == [128, 0, 26, 255]  # dark red
    assert colours[7, 7].tolist() == [158, 255, 237, 255]  # turquoise
    assert colours[1, 1].tolist() == [128, 0, 26, 128]  # half the value, half the colour
    assert colours[3, 3, 3] == 0  # the face shows through
    assert report_pictures.color_map(values, signed=True, limit=2.0)[0, 0, 3] == 128
    sizes = report_pictures.color_map(np.abs(values), signed=False, limit=1.0)
    assert (sizes[..., 3] == 255).all()
    assert sizes[0, 0, 0] > sizes[3, 3, 0]


@pytest.mark.parametrize(
    ("row", "column", "words"), [(0, 0, "in the upper left"), (4, 4, "in the centre"), (8, 4, "in the lower centre")]
)
def test_where_a_map_is_strongest(row, column, words):
    values = np.zeros((9, 9))
    values[row, column] = 1
    assert locate(values) == words
    assert locate(-values) == "nowhere"


# ── curves ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_curves_of_a_perfect_classifier():
    labels = np.arange(70) % 7
    probabilities = np.eye(7)[labels] * 0.9 + 0.1 / 7
    predictions = SavedPredictions(labels, probabilities, np.log(probabilities), labels.astype(str))
    rows = [{"intervals": {"auc": [0.9, 1.0]}}] * 7
    roc = report_charts.roc_chart(predictions, rows)
    assert {line.note for line in roc.lines} == {"AUC 1.000 (0.900 to 1.000)"}
    assert all((0, 1) in line.points for line in roc.lines)
    recalls = report_charts.precision_recall_chart(predictions)
    assert {line.note for line in recalls.lines} == {"AP 1.000"}


def test_long_curves_keep_their_ends():
    x = np.linspace(0, 1, 5000)
    points = report_charts.simplify(x, x**2)
    assert len(points) <= report_charts.POINTS
    assert (points[0], points[-1]) == ((0, 0), (1, 1))
    assert max(abs(y - x**2) for x, y in points) < 1e-3


def test_reliability_has_wilsons_intervals():
    row = {"low": 0.5, "high": 0.6, "faces": 8, "confidence": 0.55, "accuracy": 0.5, "gap": 0.05}
    chart = report_charts.reliability_chart({"bins": [row, row | {"faces": 0}]})
    (dot,) = chart.dots
    assert (dot.low, dot.high) == pytest.approx((0.2152, 0.7848), abs=1e-4)  # 4 of 8, by hand
    assert dot.faint
    assert chart.bars == ((0.5, 0.6, 1),)


def write_log(path, rows) -> None:
    """A training's log: time, temperature and whether the training waited."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, LOG_HEADER)
        writer.writeheader()
        for time, temperature in rows:
            writer.writerow({"time": time, "gpu": 0, "name": "H200", "temperature_c": temperature, "paused": 0})


def test_temperature_of_the_runs_own_log(run):
    rows = [(f"2026-01-01T10:0{minute}:00+00:00", 50 + minute) for minute in range(5)]
    write_log(run.logs / "gpu.csv", [*rows, ("2026-01-01T10:05:00+00:00", "")])
    with (run.logs / "gpu.csv").open("a") as file:
        file.write("2026-01-0")
    (chart,) = report_charts.model_charts(read_model(run, []), None)["gpu_temperature"]
    (line,) = chart.lines
    assert line.points == tuple((minute, 50 + minute) for minute in range(5))
    assert (line.name, line.note) == ("GPU 0, H200", "at most 54 °C, mean 52 °C")


def test_every_process_has_a_line(run):
    for name in ("gpu.csv", "gpu_1.csv"):
        write_log(run.logs / name, [(f"2026-01-01T10:0{minute}:00+00:00", 60) for minute in range(2)])
    (chart,) = report_charts.model_charts(read_model(run, []), None)["gpu_temperature"]
    assert len(chart.lines) == 2


def test_no_log_no_chart_and_a_strange_log_is_an_error(run):
    assert "gpu_temperature" not in report_charts.model_charts(read_model(run, []), None)
    run.logs.mkdir(parents=True)
    (run.logs / "gpu.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match=r"gpu\.csv is no log of a training's GPU"):
        report_charts.model_charts(read_model(run, []), None)


def test_training_curves_of_a_history(tmp_path):
    run = Run("aaa", DATASET, outputs_dir=tmp_path)
    epochs = [
        {"epoch": number, "train_loss": 2 / number, "train_accuracy": 0.1 * number, "val_loss": 2, "val_accuracy": 0.5}
        for number in (1, 2, 3)
    ]
    write_history(run, epochs=epochs, best_epoch=2)
    accuracy, loss = report_charts.training_charts(json.loads(run.history.read_text()))
    assert accuracy.x.place(2) == 0.5
    assert accuracy.mark == (2, "kept")
    assert loss.lines[0].points == ((1, 2), (2, 1), (3, pytest.approx(2 / 3)))
    assert loss.y.low <= 2 / 3
    assert loss.y.high >= 2
    assert [line.name for line in loss.lines] == ["Training split", "Validation split"]


def test_the_curve_of_the_loss_as_trained_says_so(tmp_path):
    run = Run("aaa", DATASET, outputs_dir=tmp_path)
    losses = {"train_loss": 1.5, "val_loss": 1.2, "val_objective": 1.8}
    epochs = [{"epoch": number, **losses, "train_accuracy": 0.4, "val_accuracy": 0.5} for number in (1, 2)]
    write_history(run, epochs=epochs, best_epoch=2)
    accuracy, loss = report_charts.training_charts(json.loads(run.history.read_text()))
    assert [line.points[0][1] for line in loss.lines] == [1.5, 1.2, 1.8]
    assert loss.lines[2].name == "Validation split, as trained"
    assert loss.lines[2].note == "class weights, smoothing"
    assert len(accuracy.lines) == 2


def test_errors_of_either_sign_do_not_cancel_in_their_mean():
    faces = [{"logit_above_baseline": rise, "completeness_gap": gap} for rise, gap in ((2.0, 0.5), (4.0, -0.5))]
    means = report_tables.mean_facts("integrated_gradients", {"faces": faces})
    assert means == {"mean_logit_above_baseline": 3.0, "mean_abs_completeness_gap": 0.5}
    summary = {"method": "integrated_gradients", "faces": faces, "seconds_per_face": 1.0, "settings": {}}
    said = describe_summary(summary, config.Explain(dataset=DATASET))
    assert "mean logit above baseline 3.00, mean size of the completeness gap 0.5" in said
