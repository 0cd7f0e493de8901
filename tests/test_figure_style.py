"""figures/style.py and all modules that draw: legible in a thesis, one look, every format, reproducible."""

import re
from dataclasses import replace
from pathlib import Path

import matplotlib
import matplotlib.text
import numpy as np
import pytest
import tyro
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

import train
from config import EMOTIONS, Ensemble, Evaluate, Train, Tune
from ferlib.evaluation.error_analysis import analyse_errors
from ferlib.evaluation.metrics import compute_metrics
from ferlib.evaluation.predictions import SavedPredictions
from ferlib.evaluation.recalibration import calibrated_results
from ferlib.explanations.flags import explain_flags
from ferlib.explanations.methods import METHODS
from ferlib.explanations.records import Attribution, ExplainedFace, Target
from ferlib.figures import ensemble as ensemble_plots
from ferlib.figures import findings, palette
from ferlib.figures import gpus as gpu_plots
from ferlib.figures import heatmaps as heatmap_figures
from ferlib.figures import lime as lime_figures
from ferlib.figures import pool as figure_pool
from ferlib.figures import shap as shap_figures
from ferlib.figures import style as figure_style
from ferlib.figures import training as training_plots
from ferlib.figures import tuning as tuning_plots
from ferlib.figures.evaluation import draw_plots
from ferlib.figures.lettering import wrap
from ferlib.figures.style import WIDTH, all_drawn, entitle, in_style, save_figure, saved_figure
from ferlib.runtime.runs import Run
from ferlib.training.gpu_monitor import LOG_HEADER

SMALLEST = 8  # points of type in a picture that is printed 16 cm wide


def legible(figure: Figure) -> list[str]:
    """What of a figure is too small, too wide, or written over the edge."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    ink = np.asarray(canvas.buffer_rgba())[..., :3].min(-1) < 250
    problems = [f"something is cut off {side}" for side, line in edges(ink).items() if line.any()]
    if figure.get_figwidth() > WIDTH + 1e-6:
        problems.append(f"{figure.get_figwidth():.1f} inches wide")
    for artist in figure.findobj(matplotlib.text.Text):
        if artist.get_visible() and artist.get_text().strip() and artist.get_fontsize() < SMALLEST:
            problems.append(f"{artist.get_text()!r} has {artist.get_fontsize():.1f} points")
    return problems


def edges(picture):
    return {"above": picture[0], "below": picture[-1], "left": picture[:, 0], "right": picture[:, -1]}


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are saved, by the name of their file."""
    figures = {}

    def keep(figure, path, formats=("png",), **_text):
        figures[Path(path).stem] = figure

    monkeypatch.setattr(figure_style, "save_figure", keep)
    return figures


def check(figures):
    assert figures
    for name, figure in figures.items():
        with in_style():
            assert not legible(figure), name


def results_of(count=400, classes=7):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, count)
    probabilities = rng.dirichlet(np.ones(7), count) + 0.3 * np.eye(7)[labels]
    probabilities /= probabilities.sum(1, keepdims=True)
    results = compute_metrics(labels, probabilities) | analyse_errors(labels, probabilities, np.arange(count))
    logits = np.log(probabilities)
    val = SavedPredictions(labels, probabilities, 0.7 * logits, np.arange(count).astype(str))
    results |= {"views": "ten_crop", "calibrated": calibrated_results(val, labels, logits)}
    return labels, probabilities, results


# ── every picture ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "run", [Run("fer_resnet_wide", "fer2013"), Run("timm/a_long_name_of_a_net", "rafdb", "seed12")]
)
def test_pictures_of_an_evaluation(drawn, synthetic, run):
    labels, probabilities, results = results_of()
    faces = replace(
        synthetic.split("test"), labels=labels, images=np.zeros((len(labels), 8, 8, 1), np.uint8), names=None
    )
    draw_plots(run, faces, probabilities, results)
    assert len(drawn) == 8
    check(drawn)
    said = " ".join(
        " ".join(text.get_text() for text in drawn[run.plot("confident_errors").stem].axes[0].texts[:2]).split()
    )
    assert "the network’s own probabilities, without its temperature" in said


@pytest.mark.parametrize("objective", [{}, {"val_objective": 1.2}], ids=["loss", "objective"])
@pytest.mark.parametrize("count", [1, 60])
def test_pictures_of_a_training(drawn, count, objective):
    names = [f"{split}_{kind}" for split in ("train", "val") for kind in ("loss", "accuracy")]
    epochs = [{"epoch": n, **dict.fromkeys(names, 1 / n), **objective} for n in range(1, count + 1)]
    training_plots.plot_training_curves(Path("curves.png"), epochs, 1, (findings.of_training(epochs, 1), "of a run"))
    check(drawn)
    said = [text.get_text() for text in drawn["curves"].legends[0].get_texts()]
    assert ("loss of val as trained: class weights, smoothing" in said) == bool(objective)


def test_picture_of_a_temperature(drawn, tmp_path):
    log = write_log(tmp_path, [60, 84, 82, 79, 80], paused=[0, 1, 1, 0, 0])
    gpu_plots.plot_gpu_temperature(tmp_path / "gpu.png", [log], 83.0, "training of fer_resnet on FER2013")
    check(drawn)


def test_picture_of_an_ensemble(drawn):
    def row(name, accuracy):
        return {"name": name, "title": name, "accuracy": accuracy, "interval": [accuracy - 0.02, accuracy + 0.02]}

    members = [row(f"fer_resnet_wide:seed{n}", 0.68 + 0.001 * n) for n in range(12)]
    methods = [
        row(name, 0.7) | {"gain": {"gain": -0.0004, "interval": [-0.01, 0.02]}}
        for name in ("mean of probabilities", "weights learned on val", "greedy selection on val")
    ]
    comparison = {
        "members": members,
        "methods": methods,
        "chosen": "weights learned on val",
        "best_member": "fer_resnet_wide:seed11",
        "disagreement": np.full((12, 12), 0.12).tolist(),
    }
    ensemble_plots.plot_members(Path("members.png"), comparison, "12 members on FER2013 test, 3,589 faces")
    check(drawn)


def test_pictures_of_a_study(drawn, tmp_path):
    rng = np.random.default_rng(0)
    schedules = ("plateau", "cosine", "one_cycle", "warm_restarts", "step", "constant")
    rows = [
        {
            "trial": n,
            "state": "pruned" if n % 4 == 1 else "complete",
            "val_accuracy": 0.6 + 0.1 * rng.random(),
            "params": {"schedule": schedules[n % 6], "ema_decay": 0.9},
        }
        for n in range(30)
    ]
    study = {"study": "vgg_paper", "model": "fer_vgg", "dataset": "fer2013", "trials": rows}
    study |= {"by_field": {"schedule": {}, "ema_decay": {}}, "importance": {"lr": 0.7, "backbone_lr": 0.3}}
    tuning_plots.plot_study(tmp_path, study)
    assert len(drawn) == 4
    check(drawn)


def face_and_map(side=44, against=None):
    rng = np.random.default_rng(0)
    face = ExplainedFace(1234, "PrivateTest_35694338.jpg", 6, rng.dirichlet(np.ones(7)), Target(1, against), seed=1)
    return face, rng.random((side, side, 1)), rng.normal(size=(side, side)).astype(np.float32)


@pytest.mark.parametrize("shapley", [False, True])
def test_picture_of_lime(shapley):
    face, image, _ = face_and_map(against=6)
    segments = (np.arange(44) // 6)[:, None] * 8 + np.arange(44) // 6
    weights = np.linspace(-0.004, 0.005, segments.max() + 1)[segments]
    arrays = {"segments": segments, "standard_errors": np.abs(weights) / 10}
    arrays |= {"kernel_shap": weights} if shapley else {}
    footer = "LIME: 1000 perturbed copies, quickshift (kernel 1.5 px, max distance 20, ratio 0.2), grey 0.5, seed 0"
    lime = Attribution(weights, arrays, {"segments": 64, "r2": 0.5})
    check({"lime": lime_figures.draw_lime(face, image, lime, 8, "fer_resnet_wide_fer2013", footer)})


def test_picture_of_shap():
    face, image, _ = face_and_map(against=6)
    maps = np.random.default_rng(1).normal(size=(7, 44, 44)).astype(np.float32)
    facts = {
        "sampling_error": 0.2,
        "background_error": 0.4,
        "logits_above_background": [-12.345] * 7,
        "completeness_gaps": [0.5] * 7,
    }
    shap = Attribution(maps[1], {"class_maps": maps}, facts)
    check(
        {"shap": shap_figures.draw_shap(face, image, shap, "fer_resnet_wide_fer2013", "100 faces, 200 draws, seed 0")}
    )


@pytest.mark.parametrize("signed", [True, False])
def test_picture_of_a_heatmap(signed):
    face, image, values = face_and_map(against=6)
    method = METHODS["integrated_gradients" if signed else "guided_backprop"]
    figure = heatmap_figures.draw_heatmap(
        face, image, Attribution(values), method=method, run="fer_resnet_wide_fer2013", footer="footer " * 20
    )
    check({"heatmap": figure})


# ── the look ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_one_colour_for_each_emotion_and_the_style_sheet_has_the_same():
    assert len(set(palette.COLORS)) == len(EMOTIONS)
    with in_style():
        cycle = [row["color"] for row in matplotlib.rcParams["axes.prop_cycle"]]
    assert [color.lstrip("#").upper() for color in cycle] == [color[1:] for color in palette.COLORS]


def test_no_module_has_colours_of_its_own():
    folder = Path(figure_style.__file__).parent
    drawing = [path for path in folder.glob("*.py") if path.name != "palette.py"]
    assert len(drawing) >= 10
    for path in drawing:
        greys = re.findall(r"#([0-9a-fA-F]{6})", path.read_text())
        assert all(len({grey[:2], grey[2:4], grey[4:]}) == 1 for grey in greys), f"{path.name} has its own colours"


def luminance(color: str) -> float:
    linear = [((c / 255 + 0.055) / 1.055) ** 2.4 for c in bytes.fromhex(color[1:])]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def test_text_colours_stand_out_from_white():
    for color in (palette.INK, palette.QUIET):
        assert 1.05 / (luminance(color) + 0.05) >= 4.5, color


def test_the_users_own_settings_do_not_count(tmp_path):
    with matplotlib.rc_context({"font.size": 30, "lines.linewidth": 9, "savefig.dpi": 40}):
        with saved_figure(tmp_path / "a.png", figsize=(2, 2)) as figure:
            figure.subplots().plot([0, 1])
        assert matplotlib.rcParams["font.size"] == 30, "and are left as they were"
    with saved_figure(tmp_path / "b.png", figsize=(2, 2)) as figure:
        figure.subplots().plot([0, 1])
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_number_and_its_percent_sign_stay_in_one_line():
    for width in np.arange(0.6, 4, 0.05):
        lines = wrap("the linear model predicts 20 % of the network's variation", width, 8).split("\n")
        assert not any(line.startswith("%") for line in lines)
        assert " ".join(lines) == "the linear model predicts 20 % of the network's variation"


def test_titles_fill_their_lines_equally():
    text = "Happy is told from the rest best (AUC 0.98), Fear worst (0.87)"
    lines = wrap(text, 4.8, 10.5).split("\n")
    assert len(lines) == 2
    assert min(map(len, lines)) > 0.7 * max(map(len, lines))
    assert " ".join(lines) == text
    assert wrap("short", 4.8, 10) == "short"


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def draw(path, formats, text="Fear → Sad"):
    with saved_figure(path, formats, figsize=(3, 2)) as figure:
        figure.subplots().imshow(np.eye(3))
        entitle(figure, text, "a subject")


def test_every_format_and_no_other(tmp_path):
    draw(tmp_path / "a.png", ("png",))
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    draw(tmp_path / "a.png", ("svg", "pdf"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pdf", "a.png", "a.svg"]
    assert Image.open(tmp_path / "a.png").size == (600, 400)
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
    assert "<svg" in (tmp_path / "a.svg").read_text()


def test_formats_on_the_command_line():
    assert tyro.cli(Evaluate, args=["--format", "pdf", "svg"]).format == ("pdf", "svg")
    assert tyro.cli(Evaluate, args=[]).format == ("png",)
    scripts = {method.command for method in METHODS.values()}
    for stage in (Train, Evaluate, Ensemble, Tune, *map(explain_flags, sorted(scripts))):
        assert stage(format=("pdf",)).format == ("pdf",)
    with pytest.raises(SystemExit):
        tyro.cli(Evaluate, args=["--format", "bmp"])


def test_every_picture_of_a_run_in_the_format_asked_for(tmp_path, synthetic, train_flags):
    labels, probabilities, results = results_of(60)
    faces = replace(synthetic.split("test"), labels=labels, images=np.zeros((60, 8, 8, 1), np.uint8), names=None)
    run = Run("mini_resnet", "synthetic", outputs_dir=tmp_path)
    draw_plots(run, faces, probabilities, results, ("svg",))
    assert len(list((tmp_path / "plots").glob("*.png"))) == len(list((tmp_path / "plots").glob("*.svg"))) == 8
    flags = train_flags("vector", epochs=1, max_steps=1, format=("pdf",))
    train.fit(flags)
    assert flags.run.plot("training_curves").with_suffix(".pdf").exists()


def test_the_same_picture_twice_is_the_same_file(tmp_path):
    for name in ("one", "two"):
        draw(tmp_path / name / "a.png", ("pdf", "svg"))
    for kind in ("png", "pdf", "svg"):
        first, second = ((tmp_path / name / f"a.{kind}").read_bytes() for name in ("one", "two"))
        assert first == second, kind
        assert b"CreationDate" not in first
        assert b"dc:date" not in first


def test_pdf_carries_its_fonts_and_svg_needs_none(tmp_path):
    draw(tmp_path / "a.png", ("pdf", "svg"))
    pdf = (tmp_path / "a.pdf").read_bytes()
    assert b"/FontFile2" in pdf, "TrueType"
    assert b"/Type3" not in pdf
    svg = (tmp_path / "a.svg").read_text()
    assert "<text" not in svg
    assert "font-family" not in svg


def test_a_vector_version_never_grows_old(tmp_path):
    draw(tmp_path / "a.png", ("pdf",), "older")
    before = (tmp_path / "a.pdf").read_bytes()
    draw(tmp_path / "a.png", ("png",), "newer")
    assert (tmp_path / "a.pdf").read_bytes() != before


def test_nothing_half_written(tmp_path, monkeypatch):
    def fail(*_args, **_kwargs):
        raise OSError("disk full")

    draw(tmp_path / "a.png", ("pdf",), "older")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        save_figure(Figure(), tmp_path / "a.png", ("pdf", "svg"))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def make_figure(text):
    figure = Figure(figsize=(1, 1))
    figure.text(0, 0, text)
    return figure


def test_a_figure_counts_as_drawn_in_all_formats_and_this_look(tmp_path, monkeypatch):
    path = tmp_path / "000.png"
    assert not figure_pool.is_drawn(path, "key")
    figure_pool.draw_figure(make_figure, path, "key", ("a",), ("png", "svg"))
    assert figure_pool.is_drawn(path, "key")
    assert figure_pool.is_drawn(path, "key", ("svg",))
    assert not figure_pool.is_drawn(path, "key", ("svg", "pdf"))
    assert not figure_pool.is_drawn(path, "another key")
    assert all_drawn(path, ("svg",))
    monkeypatch.setattr(figure_pool, "STYLE", figure_pool.STYLE + 1)
    assert not figure_pool.is_drawn(path, "key")


# ── temperature ──────────────────────────────────────────────────────────────────────────────────────────────────────


def write_log(folder, temperatures, paused=None, start=0, name="gpu.csv", step=2):
    lines = [",".join(LOG_HEADER)]
    for number, temperature in enumerate(temperatures):
        time = f"2026-01-01T{10 + start // 60:02d}:{start % 60:02d}:{number * step:02d}+00:00"
        lines.append(f"{time},0,NVIDIA Test,{temperature},99,1,2,3,4,1500,6,none,{(paused or temperatures)[number]}")
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    return path


def test_log_of_a_training_is_read_back(tmp_path):
    log = write_log(tmp_path, [60, "", 84], paused=[0, 0, 1])
    log.write_text(log.read_text() + "2026-01-01T10:00:07+00:00,0,NVID")  # a crash cut the last row off
    record = gpu_plots.read_log(log)
    assert record.name == "GPU 0, NVIDIA Test"
    np.testing.assert_array_equal(record.temperatures, [60, np.nan, 84])
    assert record.paused.tolist() == [False, False, True]
    assert np.diff(record.times).tolist() == [2, 2]
    assert gpu_plots.read_log(tmp_path / "none.csv") is None
    (tmp_path / "empty.csv").write_text(",".join(LOG_HEADER) + "\n")
    assert gpu_plots.read_log(tmp_path / "empty.csv") is None


def test_time_between_two_sessions_is_left_out():
    minutes, begins = gpu_plots.minutes_of_training(np.array([0, 30, 60, 9000, 9030.0]))
    assert minutes.tolist() == [0, 0.5, 1, 1, 1.5]
    assert begins.tolist() == [False, False, False, True, False]


def test_pauses_are_summed():
    assert gpu_plots.runs_of(np.array([True, False, True, True])) == [(0, 1), (2, 3)]
    assert gpu_plots.runs_of(np.zeros(3, bool)) == []


def test_temperature_in_words(tmp_path):
    record = gpu_plots.read_log(write_log(tmp_path, [60, 90, 90, 80], paused=[0, 1, 1, 0], step=15))
    assert gpu_plots.describe([record]).replace("\N{NO-BREAK SPACE}", " ") == (
        "The GPU is at 80 °C on average, 90 °C at most; training waits 0.5 minutes"
    )


def test_no_readings_no_picture(tmp_path):
    gpu_plots.plot_gpu_temperature(tmp_path / "gpu.png", [tmp_path / "none.csv"], None, "")
    log = write_log(tmp_path, ["", ""], paused=[0, 0])
    gpu_plots.plot_gpu_temperature(tmp_path / "gpu.png", [log], None, "")
    assert not (tmp_path / "gpu.png").exists()


def test_letters_that_no_font_has_raise_no_warning(tmp_path, recwarn):
    with saved_figure(tmp_path / "a.png", figsize=(3, 2)) as figure:
        entitle(figure, "\u65e5\u672c \U0001f600")
    assert not [each for each in recwarn if "Glyph" in str(each.message)]
