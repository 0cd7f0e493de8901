"""explanations/driver.py, archive.py: a run of an explain_* script, its files, what is computed again and what not."""

import contextlib
import dataclasses
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import config
import explain_lime
import explain_regions
import explain_shap
import models
from config import EMOTIONS
from ferlib.evaluation.predictions import SavedPredictions, save_predictions
from ferlib.explanations.archive import Archive
from ferlib.explanations.choice import check_words
from ferlib.explanations.driver import explain_run, fingerprint
from ferlib.explanations.flags import prepare_flags
from ferlib.explanations.methods import METHODS
from ferlib.explanations.records import Attribution, Entry, ExplainedFace, Target
from ferlib.explanations.scores.stages import SCORES
from ferlib.explanations.specs import Method
from ferlib.explanations.subject import Subject, open_subject
from ferlib.figures import panels
from ferlib.figures.pool import FigurePool, draw_figure, is_drawn
from ferlib.inference.logit_model import LogitModel
from ferlib.networks.checkpoints import save_checkpoint
from ferlib.runtime.errors import UserError
from ferlib.runtime.provenance import library_versions
from ferlib.runtime.runs import Run

SIDE = 16


class Brightness(torch.nn.Module):
    """Angry for dark faces, Surprise for bright ones; counts the images of its forward passes."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def forward(self, images):
        self.count += len(images)
        brightness = images.mean((1, 2, 3))
        return torch.stack([1 - brightness, *[torch.zeros_like(brightness)] * 5, brightness], dim=1)


class FewFaces:
    """What the driver reads of a data.face_data.FaceData."""

    fingerprint = "few"

    def __init__(self, count=30, channels=3):
        random = np.random.default_rng(0)
        self.images = random.integers(0, 256, (count, SIDE, SIDE, channels), dtype=np.uint8)
        self.labels = np.arange(count) % 7
        self.names = np.array([f"{index}.png" for index in range(count)])

    def split(self, name):
        return self


def make_subject(folder, data=None):
    return Subject(
        run=config.Explain(outputs_dir=folder).run,
        checkpoint=folder / "none.pth",
        checkpoint_digest="digest",
        model=LogitModel(Brightness()),
        spec=models.ModelSpec(torch.nn.Identity, cam_layer="", image_size=SIDE),
        data=data or FewFaces(),
        device=torch.device("cpu"),
    )


@dataclass(frozen=True)
class Constant(Method):
    """A method whose maps are the number of the target's class, times a value."""

    compute: Callable = print

    def load(self, name=""):
        return self.compute


def make_method(calls=None, value=1.0):
    def explain(_model, images, targets, *, seeds, batch_size, top):
        if calls is not None:
            calls.extend(seeds)
        size = images.shape[-2:]
        maps = [np.full(size, value * target.argmax(), np.float32) for target in targets]
        segments = np.zeros(size, np.int16)
        return [Attribution(each, {"segments": segments}, {"r2": 0.5, "segments": 1}) for each in maps]

    words = {"how_to_read": "", "caution": "", "output": "probability"}
    return Constant("lime", "LIME", "explain_lime.py", "", **words, faces_per_call=(4, 4, 4), compute=explain)


def draw_simply(face, image, attribution):
    figure = panels.new_figure(2)
    panels.headline(figure, "simple", face)
    return figure


class FiguresHere(contextlib.nullcontext):
    """A FigurePool that draws in this process."""

    pace = None

    def __init__(self, draw, wanted, formats):
        super().__init__()
        self.make, self.wanted, self.formats = draw, wanted, formats

    def is_drawn(self, path, key):
        return is_drawn(path, key, self.formats)

    def draw(self, path, key, *values):
        if self.wanted:
            draw_figure(self.make, path, key, values, self.formats)


def explain(folder, method=None, subject=None, pool=FiguresHere, draw=draw_simply, top=8, **flags):
    """The summary of a run."""
    flags = config.Explain(outputs_dir=folder, device="cpu", amp=False, **flags)
    subject = subject or make_subject(folder)
    drawn = pool(draw, flags.figures, flags.format)
    return explain_run(subject, method or make_method(), {"top": top}, flags, drawn)


RUN = config.Explain().run


def folder_of(outputs):
    return replace(RUN, outputs_dir=outputs).explanations("lime")


# ── a whole run ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.process
def test_summary_maps_and_figures_agree(tmp_path):
    summary = explain(tmp_path, pool=FigurePool, samples=5, seed=2)
    folder = folder_of(tmp_path)
    saved = json.loads((folder / "lime_summary.json").read_text())
    assert saved["faces"] == summary["faces"]
    assert saved["seed"] == 2
    assert saved["output"] == "probability"
    assert saved["explained"] == "predicted class"
    with np.load(folder / "maps.npz") as maps:
        assert maps["maps"].shape == (5, SIDE, SIDE)
        assert maps["maps"].dtype == np.float16
        assert maps["segments"].shape == (5, SIDE, SIDE)
        assert maps["indices"].tolist() == [face["index"] for face in saved["faces"]]
        assert [EMOTIONS[target] for target in maps["targets"]] == [face["target"] for face in saved["faces"]]
        assert np.array_equal(maps["maps"][:, 0, 0], maps["targets"])
        assert (maps["against"] == -1).all()
    assert {path.name for path in folder.glob("*.png")} == {face["figure"] for face in saved["faces"]}
    assert len(list((folder / "faces").iterdir())) == 5
    for face in saved["faces"]:
        assert face["true"] == EMOTIONS[face["index"] % 7]
        assert face["probability"] == max(face["probabilities"])
        assert sum(face["probabilities"]) == pytest.approx(1)
        assert face["r2"] == 0.5


def test_figures_of_faces_no_longer_chosen_are_removed(tmp_path):
    explain(tmp_path, samples=4)
    folder = folder_of(tmp_path)
    (folder / "notes.png").touch()
    summary = explain(tmp_path, samples=2)
    names = {path.name for path in folder.glob("*.png")}
    assert names == {face["figure"] for face in summary["faces"]} | {"notes.png"}


def test_vector_figures_come_and_go_with_the_png_without_explaining_again(tmp_path):
    method, folder = make_method(calls := []), folder_of(tmp_path)
    explain(tmp_path, method, samples=4)
    assert not list(folder.glob("*.svg"))
    explain(tmp_path, method, samples=4, format=("svg",))
    pictures = {path.stem for path in folder.glob("*.png")}
    assert {path.stem for path in folder.glob("*.svg")} == pictures
    assert len(calls) == len(pictures) == 4, "the format changes no map"
    explain(tmp_path, method, samples=2)
    assert len(list(folder.glob("*.svg"))) == len(list(folder.glob("*.png"))) == 2


def test_without_figures_and_with_more_samples_than_faces(tmp_path):
    subject = make_subject(tmp_path, FewFaces(count=6, channels=1))
    summary = explain(tmp_path, subject=subject, samples=50, figures=False)
    assert len(summary["faces"]) == 6
    assert all(face["figure"] is None for face in summary["faces"])
    assert not list(folder_of(tmp_path).glob("*.png"))


def test_pictures_are_explained_beside_the_test_split(tmp_path):
    path = tmp_path / "me.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 60, 3), dtype=np.uint8)).save(path)
    summary = explain(tmp_path, image=(path,), target="Happy", against="Sad")
    (face,) = summary["faces"]
    assert (face["name"], face["true"], face["target"]) == ("me.jpg", None, "Happy rather than Sad")
    folder = folder_of(tmp_path) / "pictures"
    assert {found.name for found in folder.iterdir()} == {"maps.npz", "lime_summary.json", "faces", face["figure"]}
    assert {"samples", "only"}.isdisjoint(summary["settings"])
    with pytest.raises(UserError, match=r"no\.jpg"):
        explain(tmp_path, image=(tmp_path / "no.jpg",))
    with pytest.raises(UserError, match="--image explains the pictures that it names; leave --only and --indices out"):
        check_words(config.Explain(image=(path,), only="wrong"))


@pytest.mark.parametrize("script", [explain_lime, explain_regions, explain_shap], ids=["lime", "regions", "shap"])
def test_pictures_need_no_data_set_but_for_the_background(tmp_path, monkeypatch, script):
    monkeypatch.setattr("ferlib.explanations.landmark_detector.open_landmarks", lambda: None)
    picture, checkpoint = tmp_path / "me.png", tmp_path / "net.pth"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)).save(picture)
    save_checkpoint(checkpoint, "mini_resnet", models.create_model("mini_resnet"), dataset="fer2013")
    flags = {"model": "mini_resnet", "dataset": "fer2013", "checkpoint": checkpoint, "figures": False, "device": "cpu"}
    flags |= {"data_dir": tmp_path / "none", "outputs_dir": tmp_path / "outputs"}
    kind = {explain_lime: "ExplainLime", explain_regions: "ExplainRegions", explain_shap: "ExplainShap"}[script]
    make = getattr(script, kind)
    if script is explain_shap:
        with pytest.raises(UserError, match=r"compare with faces of FER2013's train split, .* --data-dir"):
            script.explain(make(image=(picture,), **flags))
    else:
        summary = script.explain(make(image=(picture,), **flags))
        (face,) = summary["faces"]
        assert face["name"] == "me.png"
        assert set(face.get("fills", {})) <= {"mean", "blur"}
    with pytest.raises(UserError, match="no FER2013 in"):
        script.explain(make(**flags))


def fail_to_draw(face, image, attribution):
    raise RuntimeError("no pencil")


@pytest.mark.process
def test_an_error_while_drawing_is_raised(tmp_path):
    with pytest.raises(RuntimeError, match="no pencil"):
        explain(tmp_path, pool=FigurePool, draw=fail_to_draw, samples=2)
    assert not (folder_of(tmp_path) / "lime_summary.json").exists()


def test_values_that_are_not_finite_are_an_error(tmp_path):
    with pytest.raises(UserError, match="not finite"):
        explain(tmp_path, make_method(value=np.nan), samples=2)
    subject = make_subject(tmp_path)
    subject.model.classifier.forward = lambda images: torch.full((len(images), 7), torch.nan)
    with pytest.raises(UserError, match="not finite"):
        explain(tmp_path, subject=subject)


# ── predicting no more than the choice needs ─────────────────────────────────────────────────────────────────────────


def test_only_the_chosen_faces_are_predicted(tmp_path, capsys):
    path = tmp_path / "me.png"
    Image.fromarray(np.full((90, 60, 3), 200, np.uint8)).save(path)
    for flags, count in (
        ({"samples": 2}, 2),
        ({"indices": (3, 4, 5)}, 3),
        ({"image": (path,)}, 1),
        ({"only": "Fear", "samples": 4}, 4),
        ({"image": (path,), "only": "wrong"}, 1),
    ):
        subject = make_subject(tmp_path)
        explain(tmp_path, subject=subject, figures=False, **flags)
        assert subject.model.classifier.count == count, flags
    assert "predicting" not in capsys.readouterr().out


def save_constant_predictions(subject, label, **changes):
    """Predictions of one class for all test faces."""
    labels, names = subject.data.labels, subject.data.names
    logits = np.tile(20 * np.eye(7)[label], (len(labels), 1))
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    saved = SavedPredictions(labels, probabilities, logits, names, "digest", "few", "single", "float32")
    save_predictions(subject.run.predictions, dataclasses.replace(saved, **changes))


def test_saved_predictions_choose_the_wrong_faces(tmp_path, capsys):
    subject = make_subject(tmp_path)
    save_constant_predictions(subject, label=2)
    summary = explain(tmp_path, subject=subject, samples="all", only="right", figures=False)
    assert {face["true"] for face in summary["faces"]} == {"Fear"}
    assert subject.model.classifier.count == len(summary["faces"]), "the chosen faces alone are predicted"
    assert "predicting" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "changes",
    [{"checkpoint": "another"}, {"fingerprint": "other faces"}, {"views": "ten_crop"}, {"precision": "bfloat16"}, None],
)
def test_other_predictions_are_not_used(tmp_path, capsys, changes):
    subject = make_subject(tmp_path)
    if changes:
        save_constant_predictions(subject, label=2, **changes)
    summary = explain(tmp_path, subject=subject, samples="all", only="right", figures=False)
    assert {face["true"] for face in summary["faces"]} <= {"Angry", "Surprise"}
    assert all(face["true"] == face["predicted"] for face in summary["faces"])
    assert subject.model.classifier.count == 30 + len(summary["faces"])
    assert "--only needs the predicted class of all 30 test faces: predicting them" in capsys.readouterr().out


# ── what is computed again ───────────────────────────────────────────────────────────────────────────────────────────


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path):
    method, calls = make_method(calls := []), calls

    def stop_after_four(*values, **options):
        if len(calls) == 4:
            raise KeyboardInterrupt
        return method.compute(*values, **options)

    with pytest.raises(KeyboardInterrupt):
        explain(tmp_path, replace(method, compute=stop_after_four), samples=8, figures=False)
    assert {path.name for path in folder_of(tmp_path).iterdir()} == {"faces"}
    explain(tmp_path, method, samples=8, figures=False)
    assert len(calls) == len(set(calls)) == 8


def test_a_face_is_explained_once_under_the_same_settings(tmp_path):
    method, folder = make_method(calls := []), folder_of(tmp_path)
    first = explain(tmp_path, method, samples=4)
    drawn = {path: path.stat().st_mtime_ns for path in folder.glob("*.png")}
    more = explain(tmp_path, method, samples=7)
    assert len(calls) == len(set(calls)) == 7
    assert {path: path.stat().st_mtime_ns for path in drawn} == drawn, "a figure was drawn again"
    indices = {face["index"] for face in first["faces"]}
    assert [face for face in more["faces"] if face["index"] in indices] == first["faces"]
    next(iter(drawn)).unlink()
    explain(tmp_path, method, samples=7)
    assert len(calls) == 7
    assert len(list(folder.glob("*.png"))) == 7
    explain(tmp_path, method, samples=7, target="Fear")
    assert len(calls) == 14
    explain(tmp_path, method, samples=7, target="Fear", top=9)
    assert len(calls) == 21


def test_faces_outlive_a_smaller_run_in_between(tmp_path):
    method, folder = make_method(calls := []), folder_of(tmp_path)
    for samples in (6, 2, 4, 9):
        summary = explain(tmp_path, method, samples=samples, figures=False)
        with np.load(folder / "maps.npz") as saved:
            assert saved["indices"].tolist() == [face["index"] for face in summary["faces"]]
    assert len(calls) == len(set(calls)) == 9
    assert len(list((folder / "faces").iterdir())) == 9
    explain(tmp_path, method, samples=2, figures=False, top=9)
    assert len(list((folder / "faces").iterdir())) == 2, "faces of other settings are not kept"


def damage_end(path):
    path.write_bytes(path.read_bytes()[:-40])


def damage_middle(path):
    """In the middle of the map's bytes; what a local header repeats of the directory is not read."""
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as file:
        member = file.getinfo("map.npy")
    head = member.header_offset
    name, extra = (int.from_bytes(content[head + place : head + place + 2], "little") for place in (26, 28))
    middle = head + 30 + name + extra + member.compress_size // 2
    content[middle : middle + 20] = b"\xff" * 20
    path.write_bytes(content)


def empty(path):
    path.write_bytes(b"")


def write_text(path):
    path.write_text("not an archive")


def leave_facts_out(path):
    with np.load(path) as saved:
        arrays = {name: saved[name] for name in saved.files if name != "facts"}
    np.savez_compressed(path, **arrays)


@pytest.mark.parametrize("damage", [damage_end, damage_middle, empty, write_text, leave_facts_out])
def test_a_damaged_file_of_a_face_is_explained_again(tmp_path, damage):
    method = make_method(calls := [])
    whole = explain(tmp_path, method, samples=3, figures=False)
    path = sorted((folder_of(tmp_path) / "faces").iterdir())[1]
    damage(path)
    again = explain(tmp_path, method, samples=3, figures=False)
    assert len(calls) == 4
    assert len(set(calls)) == 3
    for first, second in zip(whole["faces"], again["faces"], strict=True):
        assert first | {"seconds": 0} == second | {"seconds": 0}
    explain(tmp_path, method, samples=3, figures=False)
    assert len(calls) == 4, "the file is whole again"


def test_saved_faces_come_back_as_they_were(tmp_path):
    probabilities = np.array([0.1, 0.0, 0.5, 0.2, 0.1, 0.1, 0.0])
    face = ExplainedFace(7, "7.png", 0, probabilities, Target(2), seed=3)
    entry = Entry(Attribution(np.ones((SIDE, SIDE), np.float16), {"a": np.arange(3)}, {"r2": 0.25}), 1.5)
    archive = Archive(tmp_path / "maps.npz", "settings")
    assert archive.find(face) is None
    archive.add(face, entry)
    archive.finish([face])
    found = archive.find(face)
    assert found.seconds == 1.5
    assert found.attribution.facts == {"r2": 0.25}
    assert np.array_equal(found.attribution.map, entry.attribution.map)
    assert np.array_equal(found.attribution.arrays["a"], np.arange(3))
    assert Archive(tmp_path / "maps.npz", "other settings").find(face) is None
    assert archive.find(replace(face, target=Target(1))) is None
    assert archive.find(replace(face, source="other pixels")) is None
    with np.load(archive.maps) as saved:
        assert {name: saved[name].shape for name in saved.files} == {
            "maps": (1, SIDE, SIDE), "indices": (1,), "targets": (1,), "against": (1,), "settings": (), "a": (1, 3)
        }  # fmt: skip


def test_small_and_large_values_are_saved_too():
    """float16 has nothing below 3 · 10⁻⁸, few digits below 6 · 10⁻⁵ and nothing above 65,504."""
    for peak in (2.5e-8, 4e-6, 0.25, 9e4):
        values = np.linspace(-1, 1, 16, dtype=np.float32).reshape(4, 4) * peak
        saved = Attribution(values).rounded().map
        np.testing.assert_allclose(saved, values, atol=peak / 2**11)
        assert saved.dtype == (np.float16 if peak == 0.25 else np.float32)
    assert Attribution(np.zeros((4, 4))).rounded().map.dtype == np.float16


def test_maps_of_all_faces_are_of_the_type_that_holds_them_all(tmp_path):
    archive = Archive(tmp_path / "maps.npz", "settings")
    faces = [ExplainedFace(index, "", 0, np.full(7, 1 / 7), Target(0), seed=0) for index in range(2)]
    for face, value in zip(faces, (0.5, 2.5e-8), strict=True):
        archive.add(face, Entry(Attribution(np.full((2, 2), value, np.float32)).rounded(), 1.0))
    archive.finish(faces)
    with np.load(archive.maps) as saved:
        assert saved["maps"][:, 0, 0].tolist() == pytest.approx([0.5, 2.5e-8])


def test_a_renamed_picture_is_drawn_again_and_not_explained_again(tmp_path):
    calls, drawn = [], []

    def draw(face, image, attribution):
        drawn.append(face.name)
        return draw_simply(face, image, attribution)

    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    for name in ("anna.png", "bert.png", "bert.png"):
        Image.fromarray(pixels).save(tmp_path / name)
        explain(tmp_path, make_method(calls), draw=draw, image=(tmp_path / name,))
    assert drawn == ["anna.png", "bert.png"]
    assert len(calls) == 1


# ── scripts ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_missing_checkpoint_names_the_command(tmp_path):
    with pytest.raises(UserError, match=r"train\.py --model mini_resnet --dataset synthetic"):
        open_subject(config.Explain(outputs_dir=tmp_path))


@pytest.mark.parametrize("script", [explain_lime, explain_shap])
def test_a_script_explains_a_saved_model(shared_outputs, monkeypatch, script):
    run = Run("mini_resnet", "synthetic", "saved", shared_outputs)
    save_checkpoint(run.best_checkpoint, "mini_resnet", models.create_model("mini_resnet"))
    few = ["--lime-samples", "50"] if script is explain_lime else ["--shap-samples", "5", "--bg-samples", "8"]
    shared = ["--outputs-dir", str(shared_outputs), "--tag", "saved", "--samples", "2", "--device", "cpu"]
    flags = [*shared, "--no-figures", *few]
    monkeypatch.setattr("sys.argv", ["explain.py", *flags])
    summary = script.main()
    method = summary["method"]
    assert json.loads(run.explanation_summary(method).read_text())["faces"] == summary["faces"]
    assert summary["command"] == " ".join(["python", "explain.py", *flags])
    with np.load(run.explanation_maps(method)) as maps:
        assert maps["maps"].shape == (2, 48, 48)
        assert maps[{"lime": "segments", "shap": "class_maps"}[method]].shape[-2:] == (48, 48)
    assert not list(run.explanations(method).glob("*.png"))


def test_unknown_names_list_the_valid_ones(tmp_path):
    for flags in ({"model": "resnet5"}, {"dataset": "fer2014"}):
        with pytest.raises(UserError, match="did you mean"):
            open_subject(config.Explain(outputs_dir=tmp_path, **flags))
        with pytest.raises(UserError, match="did you mean"):
            prepare_flags(explain_lime.ExplainLime(outputs_dir=tmp_path, **flags), explain_lime.SCRIPT)


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    path: Path = tmp_path / "other.pth"
    save_checkpoint(path, "fer_vgg", models.create_model("fer_vgg"))
    with pytest.raises(UserError, match="holds a fer_vgg"):
        open_subject(config.Explain(outputs_dir=tmp_path, checkpoint=path, device="cpu"))


def test_a_network_of_another_data_set_is_noted(tmp_path, shared_outputs, synthetic, capsys):
    path: Path = tmp_path / "elsewhere.pth"
    save_checkpoint(path, "mini_resnet", models.create_model("mini_resnet"), dataset="fer2013")
    open_subject(config.Explain(model="mini_resnet", outputs_dir=shared_outputs, checkpoint=path))
    assert "note: elsewhere.pth was trained on fer2013, and --dataset is synthetic" in capsys.readouterr().out


def test_faces_of_an_earlier_version_are_explained_again(tiny_run):
    """Constants say what a method's numbers are, such as whether R² is held out."""

    names = {name: getattr(tiny_run, name) for name in ("model", "dataset", "tag", "outputs_dir")}
    flags = config.Explain(**names)
    subject, method = open_subject(flags), METHODS["lime"]
    now = fingerprint(subject, method, method.defaults, flags)
    assert now == fingerprint(subject, method, method.defaults, flags)
    earlier = replace(method, constants={"kernel_width": 0.25, "ridge": 1.0})
    assert now != fingerprint(subject, earlier, method.defaults, flags)


def test_scores_of_an_earlier_version_are_made_again(tiny_run, monkeypatch):
    """Scores depend on settings and constants of the methods that are scored."""
    names = {name: getattr(tiny_run, name) for name in ("model", "dataset", "tag", "outputs_dir")}
    flags = config.Score(**names)
    subject, values = open_subject(flags), {"methods": ["lime"], "baseline": "grey"}
    now, row = fingerprint(subject, SCORES, values, flags), METHODS["lime"]
    earlier = [replace(row, constants={}), replace(row, settings=row.settings[1:]), replace(row, fixed={"kind": "old"})]
    for other in earlier:
        monkeypatch.setitem(METHODS, "lime", other)
        assert fingerprint(subject, SCORES, values, flags) != now
    monkeypatch.setitem(METHODS, "lime", row)
    assert fingerprint(subject, SCORES, values, flags) == now


def test_versions_of_the_libraries_that_compute_maps_are_part_of_the_key():
    assert {"captum", "scipy"} <= library_versions().keys()


def test_faces_are_kept_when_other_programs_leave_fewer_threads(tiny_run, monkeypatch):
    names = {name: getattr(tiny_run, name) for name in ("model", "dataset", "tag", "outputs_dir")}
    flags = config.Explain(**names)
    subject, method = open_subject(flags), METHODS["hirescam"]
    found = []
    for threads in (1, 7):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        found.append(fingerprint(subject, method, method.defaults, flags))
    assert found[0] == found[1]
