import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image

import config
import explain_lime
import explain_shap
import models
from config import EMOTIONS
from ferlib.explanations import driver as explanations
from ferlib.explanations.archive import Archive
from ferlib.explanations.choice import Candidates, choose_faces, describe_question, pick_faces
from ferlib.explanations.driver import Method
from ferlib.explanations.records import Attribution, Entry, Face, Target
from ferlib.explanations.subject import LogitModel, Subject
from ferlib.figures import lime as lime_figures
from ferlib.figures import parts as explanation_figures
from ferlib.figures import shap as shap_figures
from ferlib.runtime.errors import UserError

SIDE = 16


class Blind(torch.nn.Module):
    """Angry for dark faces, Surprise for bright ones."""

    def forward(self, images):
        brightness = images.mean((1, 2, 3))
        return torch.stack([1 - brightness, *[torch.zeros_like(brightness)] * 5, brightness], dim=1)


class FewFaces:
    """What explanations.py asks of datasets.FaceData."""

    def __init__(self, count=30, channels=3):
        random = np.random.default_rng(0)
        self.images = random.integers(0, 256, (count, SIDE, SIDE, channels), dtype=np.uint8)
        self.labels = np.arange(count) % 7
        self.names = np.array([f"{index}.png" for index in range(count)])

    def split(self, name):
        return self


def make_subject(folder, data=None, **flags):
    settings = config.ExplainLime(outputs_dir=folder, device="cpu", amp=False, **flags)
    spec = models.ModelSpec(torch.nn.Identity, cam_layer="", image_size=SIDE)
    return Subject(settings, "digest", LogitModel(Blind()), spec, data or FewFaces(), torch.device("cpu"))


def draw_simply(face, image, attribution):
    figure = explanation_figures.new_figure(2)
    explanation_figures.headline(figure, "simple", face)
    return figure


def make_method(calls=None, value=1.0, **changes):
    def explain(images, targets, seeds):
        if calls is not None:
            calls.extend(seeds)
        size = images.shape[-2:]
        maps = [np.full(size, value * target.argmax(), np.float32) for target in targets]
        segments = np.zeros(size, np.int16)
        return [Attribution(a_map, {"segments": segments}, {"r2": 0.5, "segments": 1}) for a_map in maps]

    return dataclasses.replace(Method("lime", "probability", {"top": 8}, explain, draw_simply, 4), **changes)


def make_face(true=0, target=None):
    probabilities = np.array([0.1, 0.0, 0.5, 0.2, 0.1, 0.1, 0.0])
    return Face(7, "7.png", true, probabilities, target or Target(2), seed=3)


def make_candidates(count=70):
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, 4, 4, 1), dtype=np.uint8)
    probabilities = random.dirichlet(np.ones(7), count)
    return Candidates(images, [f"{row}.png" for row in range(count)], np.arange(count) % 7, probabilities)


def choose(candidates=None, **flags):
    return choose_faces(candidates or make_candidates(), config.ExplainLime(**flags))


# ── picking ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_pick_faces_spreads_over_the_classes():
    labels = np.random.default_rng(0).integers(0, 7, 500)
    picked = pick_faces(labels, 20, seed=0)
    assert sorted(np.bincount(labels[picked], minlength=7)) == [2, 3, 3, 3, 3, 3, 3]
    assert (np.diff(picked) > 0).all()


def test_pick_faces_is_nested_and_seeded():
    labels = np.random.default_rng(0).integers(0, 7, 500)
    assert set(pick_faces(labels, 10, seed=0)) < set(pick_faces(labels, 20, seed=0))
    assert np.array_equal(pick_faces(labels, 20, seed=0), pick_faces(labels, 20, seed=0))
    assert not np.array_equal(pick_faces(labels, 20, seed=0), pick_faces(labels, 20, seed=1))


def test_pick_faces_fills_up_from_other_classes_and_stops_at_all():
    labels = np.array([0, 0, 0, 0, 0, 3])
    assert np.bincount(labels[pick_faces(labels, 4, seed=0)]).tolist() == [3, 0, 0, 1]
    assert pick_faces(labels, 100, seed=0).tolist() == list(range(6))


@pytest.mark.parametrize(("labels", "count"), [([0, 1], 0), ([0, 1], -3), ([], 5)])
def test_pick_faces_refuses_nothing(labels, count):
    with pytest.raises(UserError):
        pick_faces(np.array(labels, dtype=np.int64), count, seed=0)


def test_faces_can_be_all_or_named_or_filtered():
    candidates = make_candidates()
    correct = candidates.probabilities.argmax(1) == candidates.labels
    assert [face.index for face in choose(samples="all")] == list(range(70))
    assert [face.index for face in choose(indices=(9, 3))] == [3, 9]
    assert [face.index for face in choose(samples="all", only="wrong")] == np.flatnonzero(~correct).tolist()
    assert [face.index for face in choose(samples="all", only="RIGHT")] == np.flatnonzero(correct).tolist()
    assert {face.true for face in choose(samples=5, only="fear")} == {EMOTIONS.index("Fear")}
    assert len(choose(samples=5, only="fear")) == 5


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"only": "blurry"}, "--only blurry is unknown; valid are wrong, right, Angry"),
        ({"indices": (3, 70)}, "--indices 70: the test split has the faces 0 to 69"),
        ({"indices": (0,), "only": "Sad"}, "no face of the test split is left"),
        ({"target": "Joy"}, "--target Joy is unknown; valid are predicted, true, runner-up, Angry"),
        ({"against": "Joy"}, "--against Joy is unknown"),
        ({"samples": 0}, "at least one"),
    ],
)
def test_flags_that_name_no_face_or_class(flags, message):
    with pytest.raises(UserError, match=message):
        choose(**flags)


def test_the_target_is_what_the_flags_ask_for():
    for face in choose(samples="all", target="true"):
        assert face.target == Target(face.true)
    for face in choose(samples="all", target="fear", against="surprise"):
        assert face.target.name == "Fear rather than Surprise"
        assert face.target.weights().tolist() == [0, 0, 1, 0, 0, 0, -1]
    for face in choose(samples="all", against="true"):
        against = face.runner_up if face.correct else face.true
        assert face.target == Target(face.predicted, against)
    for face in choose(samples="all", target="runner-up", against="runner-up"):
        assert face.target == Target(face.runner_up, face.predicted)
    unknown = dataclasses.replace(make_candidates(), labels=None)
    with pytest.raises(UserError, match="nobody knows the true class"):
        choose(unknown, image=("a.png",), target="true")
    flags = config.ExplainLime(target="Fear", against="runner-up")
    assert describe_question(flags) == "Fear rather than runner-up"
    assert describe_question(config.ExplainLime()) == "predicted class"


# ── a whole run ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_summary_maps_and_figures_agree(tmp_path):
    subject = make_subject(tmp_path, samples=5, seed=2)
    summary = explanations.explain_run(subject, make_method())
    folder = subject.run.explanations("lime")
    saved = json.loads(subject.run.explanation_summary("lime").read_text())
    assert saved["faces"] == summary["faces"]
    assert saved["seed"] == 2
    assert saved["output"] == "probability"
    assert saved["explained"] == "predicted class"
    with np.load(subject.run.explanation_maps("lime")) as maps:
        assert maps["maps"].shape == (5, SIDE, SIDE)
        assert maps["maps"].dtype == np.float16
        assert maps["segments"].shape == (5, SIDE, SIDE)
        assert maps["indices"].tolist() == [face["index"] for face in saved["faces"]]
        assert [EMOTIONS[target] for target in maps["targets"]] == [face["target"] for face in saved["faces"]]
        assert np.array_equal(maps["maps"][:, 0, 0], maps["targets"])
        assert (maps["against"] == -1).all()
    assert {path.name for path in folder.glob("*.png")} == {face["figure"] for face in saved["faces"]}
    assert not (folder / "partial").exists()
    for face in saved["faces"]:
        assert face["true"] == EMOTIONS[face["index"] % 7]
        assert face["probability"] == max(face["probabilities"])
        assert sum(face["probabilities"]) == pytest.approx(1)
        assert face["r2"] == 0.5


def test_figures_of_faces_no_longer_chosen_are_removed(tmp_path):
    explanations.explain_run(make_subject(tmp_path, samples=4), make_method())
    subject = make_subject(tmp_path, samples=2)
    folder = subject.run.explanations("lime")
    (folder / "notes.png").touch()
    summary = explanations.explain_run(subject, make_method())
    names = {path.name for path in folder.glob("*.png")}
    assert names == {face["figure"] for face in summary["faces"]} | {"notes.png"}


def test_vector_figures_come_and_go_with_the_png_without_explaining_again(tmp_path):
    method, calls = make_method(calls := []), calls
    explanations.explain_run(make_subject(tmp_path, samples=4), method)
    subject = make_subject(tmp_path, samples=4, format=("svg",))
    folder = subject.run.explanations("lime")
    assert not list(folder.glob("*.svg"))
    explanations.explain_run(subject, method)
    pictures = {path.stem for path in folder.glob("*.png")}
    assert {path.stem for path in folder.glob("*.svg")} == pictures
    assert len(calls) == len(pictures) == 4, "the format changes no map"
    explanations.explain_run(make_subject(tmp_path, samples=2), method)
    assert len(list(folder.glob("*.svg"))) == len(list(folder.glob("*.png"))) == 2


def test_without_figures_and_with_more_samples_than_faces(tmp_path):
    subject = make_subject(tmp_path, FewFaces(count=6, channels=1), samples=50, figures=False)
    summary = explanations.explain_run(subject, make_method())
    assert len(summary["faces"]) == 6
    assert all(face["figure"] is None for face in summary["faces"])
    assert not list(subject.run.explanations("lime").glob("*.png"))


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path):
    subject = make_subject(tmp_path, samples=8, figures=False)
    method, calls = make_method(calls := []), calls

    def stop_after_four(images, targets, seeds):
        if len(calls) == 4:
            raise KeyboardInterrupt
        return method.explain(images, targets, seeds)

    with pytest.raises(KeyboardInterrupt):
        explanations.explain_run(subject, dataclasses.replace(method, explain=stop_after_four))
    assert not subject.run.explanation_maps("lime").exists()
    assert not subject.run.explanation_summary("lime").exists()
    explanations.explain_run(subject, method)
    assert len(calls) == len(set(calls)) == 8


def test_a_face_is_explained_once_under_the_same_settings(tmp_path):
    method, calls = make_method(calls := []), calls
    first = explanations.explain_run(make_subject(tmp_path, samples=4), method)
    folder = make_subject(tmp_path).run.explanations("lime")
    drawn = {path: path.stat().st_mtime_ns for path in folder.glob("*.png")}
    more = explanations.explain_run(make_subject(tmp_path, samples=7), method)
    assert len(calls) == len(set(calls)) == 7
    assert {path: path.stat().st_mtime_ns for path in drawn} == drawn, "a figure was drawn again"
    assert [face for face in more["faces"] if face["index"] in {face["index"] for face in first["faces"]}] == first[
        "faces"
    ]
    next(iter(drawn)).unlink()
    explanations.explain_run(make_subject(tmp_path, samples=7), method)
    assert len(calls) == 7
    assert len(list(folder.glob("*.png"))) == 7
    explanations.explain_run(make_subject(tmp_path, samples=7, target="Fear"), method)
    assert len(calls) == 14
    explanations.explain_run(make_subject(tmp_path, samples=7, target="Fear"), make_method(calls, settings={"top": 9}))
    assert len(calls) == 21


def test_faces_outlive_a_smaller_run_in_between(tmp_path):
    method, calls = make_method(calls := []), calls
    for samples in (6, 2, 4, 9):
        summary = explanations.explain_run(make_subject(tmp_path, samples=samples, figures=False), method)
        maps = make_subject(tmp_path).run.explanation_maps("lime")
        with np.load(maps) as saved:
            assert saved["indices"].tolist() == [face["index"] for face in summary["faces"]]
    assert len(calls) == len(set(calls)) == 9
    assert not maps.with_name("others.npz").exists(), "all faces are in the run's file again"
    explanations.explain_run(make_subject(tmp_path, samples=2, figures=False), make_method(settings={"top": 9}))
    assert not maps.with_name("others.npz").exists(), "faces of other settings are not kept"


def test_saved_faces_come_back_as_they_were(tmp_path):
    face = make_face()
    entry = Entry(Attribution(np.ones((SIDE, SIDE), np.float16), {"a": np.arange(3)}, {"r2": 0.25}), 1.5)
    archive = Archive(tmp_path / "maps.npz", "settings")
    for keep in (archive.add, archive.finish):
        keep([face], [entry])
        (found,) = archive.find([face])
        assert found.seconds == 1.5
        assert found.attribution.facts == {"r2": 0.25}
        assert np.array_equal(found.attribution.map, entry.attribution.map)
        assert np.array_equal(found.attribution.arrays["a"], np.arange(3))
    assert Archive(tmp_path / "maps.npz", "other settings").find([face]) == [None]
    assert archive.find([dataclasses.replace(face, target=Target(1))]) == [None]
    assert archive.find([dataclasses.replace(face, source="other pixels")]) == [None]


def test_pictures_are_explained_beside_the_test_split(tmp_path):
    path = tmp_path / "me.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 60, 3), dtype=np.uint8)).save(path)
    subject = make_subject(tmp_path, image=(path,), target="Happy", against="Sad")
    summary = explanations.explain_run(subject, make_method())
    (face,) = summary["faces"]
    assert (face["name"], face["true"], face["target"]) == ("me.jpg", None, "Happy rather than Sad")
    folder = subject.run.explanations("lime") / "pictures"
    assert {found.name for found in folder.iterdir()} == {"maps.npz", "lime_summary.json", face["figure"]}
    with pytest.raises(UserError, match=r"no\.jpg is missing or not a readable picture"):
        explanations.explain_run(make_subject(tmp_path, image=(tmp_path / "no.jpg",)), make_method())


def test_an_error_while_drawing_is_not_lost(tmp_path):
    broken = make_method(draw=fail_to_draw)
    with pytest.raises(RuntimeError, match="no pencil"):
        explanations.explain_run(make_subject(tmp_path, samples=2), broken)
    assert not make_subject(tmp_path).run.explanation_summary("lime").exists()


def fail_to_draw(face, image, attribution):
    raise RuntimeError("no pencil")


def test_values_that_are_not_finite_are_an_error(tmp_path):
    with pytest.raises(UserError, match="not finite"):
        explanations.explain_run(make_subject(tmp_path, samples=2), make_method(value=np.nan))
    subject = make_subject(tmp_path)
    subject.model.classifier.forward = lambda images: torch.full((len(images), 7), torch.nan)
    with pytest.raises(UserError, match="not finite"):
        explanations.explain_run(subject, make_method())


def test_a_missing_checkpoint_names_the_command(tmp_path):
    with pytest.raises(UserError, match=r"train\.py --model mini_resnet --dataset synthetic"):
        explanations.open_run(config.ExplainLime(outputs_dir=tmp_path))


@pytest.mark.parametrize("script", [explain_lime, explain_shap])
def test_a_script_explains_a_saved_model(tmp_path, monkeypatch, script):
    monkeypatch.setattr(config, "SYNTHETIC_FACES", 140)
    monkeypatch.setattr(config, "SYNTHETIC_SUBJECTS", 14)
    run = config.Run("mini_resnet", "synthetic", "", tmp_path)
    models.save_checkpoint(run.best_checkpoint, "mini_resnet", models.create_model("mini_resnet"))
    few = ["--lime-samples", "50"] if script is explain_lime else ["--shap-samples", "5", "--bg-samples", "8"]
    flags = ["--outputs-dir", str(tmp_path), "--samples", "2", "--device", "cpu", *few]
    monkeypatch.setattr("sys.argv", ["explain.py", *flags])
    summary = script.main()
    method = summary["method"]
    assert json.loads(run.explanation_summary(method).read_text())["faces"] == summary["faces"]
    assert summary["command"] == " ".join(["python", "explain.py", *flags])
    with np.load(run.explanation_maps(method)) as maps:
        assert maps["maps"].shape == (2, 48, 48)
        assert maps[{"lime": "segments", "shap": "class_maps"}[method]].shape[-2:] == (48, 48)
    assert len(list(run.explanations(method).glob("*.png"))) == 2


def test_unknown_names_list_the_valid_ones(tmp_path):
    for flags in ({"model": "resnet5"}, {"dataset": "fer2014"}):
        with pytest.raises(UserError, match="did you mean"):
            explanations.open_run(config.ExplainLime(outputs_dir=tmp_path, **flags))


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    path = tmp_path / "other.pth"
    models.save_checkpoint(path, "fer_vgg", models.create_model("fer_vgg"))
    with pytest.raises(UserError, match="holds a fer_vgg"):
        explanations.open_run(config.ExplainLime(outputs_dir=tmp_path, checkpoint=path, device="cpu"))


# ── figures ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def is_a_picture(figure, path):
    figure.savefig(path)
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    orange = (pixels[..., 0] > pixels[..., 2] + 100).mean()
    blue = (pixels[..., 2] > pixels[..., 0] + 100).mean()
    return min(pixels.shape[:2]) > 400 and orange > 0.005 and blue > 0.005


@pytest.mark.parametrize(
    ("channels", "true", "side", "target"),
    [(1, 0, 48, Target(2)), (3, 2, 44, Target(2)), (3, 1, 225, Target(5, 3)), (1, None, 48, Target(0))],
)
def test_figures_show_both_colours(tmp_path, channels, true, side, target):
    face = make_face(true, target)
    image = np.random.default_rng(1).random((side, side, channels), dtype=np.float32)
    maps = np.random.default_rng(2).normal(size=(7, side, side)).astype(np.float32)
    shap = explain_shap.describe_face(maps, target.weights(), np.ones(7), np.full(7, 0.1)).rounded()
    assert is_a_picture(shap_figures.draw_shap(face, image, shap, "run", "footer"), tmp_path / "shap.png")
    segments = (np.arange(side) // 5)[:, None] * np.ones((1, side), int)
    weights = np.linspace(-1, 1, segments.max() + 1)[segments]
    arrays = {"segments": segments, "standard_errors": np.abs(weights) / 10}
    lime = Attribution(weights, arrays, {"segments": int(segments.max()) + 1, "r2": 0.5}).rounded()
    assert is_a_picture(lime_figures.draw_lime(face, image, lime, 8, "run", "footer"), tmp_path / "lime.png")


def test_vermilion_speaks_for_and_blue_against():
    image = np.full((1, 3, 1), 0.5, np.float32)
    against, nothing, favour = explanation_figures.overlay(image, np.array([[-1.0, 0.0, 1.0]]), limit=1.0)[0]
    assert against[2] > against[0] + 0.3
    assert np.ptp(nothing) == 0
    assert favour[0] > favour[2] + 0.3
    assert np.allclose(explanation_figures.SIGNED(1.0)[:3], explanation_figures.FOR)


def test_top_supporting_takes_only_positive_regions():
    segments = np.array([[0, 1, 2, 3]])
    weights = np.array([[0.1, -2.0, 0.5, 0.0]])
    assert explanation_figures.top_supporting(weights, segments, 8).tolist() == [[True, False, True, False]]
    assert explanation_figures.top_supporting(weights, segments, 1).tolist() == [[False, False, True, False]]


def test_sums_over_blocks_keep_the_total():
    values = np.random.default_rng(0).normal(size=(45, 45))
    blocks, side = explanation_figures.sum_blocks(values, max_side=20)
    assert side == 3
    assert blocks.shape == (15, 15)
    assert blocks[0, 1] == pytest.approx(values[:3, 3:6].sum())
    assert explanation_figures.sum_blocks(values[:41, :41], 20)[0].sum() == pytest.approx(values[:41, :41].sum())


def test_the_rival_is_the_true_class_or_the_next_best():
    assert shap_figures.rival(make_face(true=0)) == 0
    assert shap_figures.rival(make_face(true=2)) == 3
    assert shap_figures.rival(make_face(true=None, target=Target(5))) == 2
    assert shap_figures.rival(make_face(true=0, target=Target(2, 6))) == 6
    roles = [shap_figures.role(make_face(true=0), label) for label in (0, 2, 3, 6)]
    assert roles == ["true class", "predicted, wrong", "runner-up", ""]


def test_the_strongest_regions_come_first():
    segments = np.array([[0, 0, 1], [2, 2, 1]])
    weights, errors = np.array([0.1, -0.5, 0.3]), np.array([0.01, 0.02, 0.03])
    attribution = Attribution(weights[segments], {"segments": segments, "standard_errors": errors[segments]})
    numbers, found, spread = lime_figures.rank_regions(attribution, 2)
    assert numbers.tolist() == [1, 2]
    assert np.allclose(found, [-0.5, 0.3])
    assert np.allclose(spread, [0.02, 0.03])
