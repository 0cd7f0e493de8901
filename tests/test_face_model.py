"""faces/face_model.py: crops are preprocessed as the training data; probabilities; checkpoints that are opened."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ferlib.explanations.crops import cam_of_crops, explain_crops
from ferlib.explanations.photo_predictions import predict_photo
from ferlib.faces.crops import crop_face, whole_face
from ferlib.faces.face_model import open_face_model, to_grey
from ferlib.faces.model_files import find_checkpoint
from ferlib.faces.photo_rows import describe_photo, describe_row
from ferlib.faces.photos import Photo
from ferlib.inference.confidence import UNCALIBRATED, Calibration, read_calibration
from ferlib.inference.views import center_view
from ferlib.networks.checkpoints import save_checkpoint
from ferlib.runtime.digests import digest_file
from ferlib.runtime.errors import UserError
from ferlib.runtime.runs import SHIPPED, Run, shipped_checkpoint
from models import create_model, load_checkpoint
from zoo import colour_model

CPU = torch.device("cpu")
RED, GREEN, BLUE = range(3)


def picture_of(*colours):
    """A 48×48 face of each colour."""
    return np.stack([np.full((48, 48, 3), colour, np.uint8) for colour in colours])


# ── what the model is given ──────────────────────────────────────────────────────────────────────────────────────────


def test_red_is_the_first_colour_and_255_is_1():
    views = colour_model().views(picture_of((255, 0, 0), (0, 51, 0)))
    assert views.shape == (2, 3, 48, 48)
    assert (views[0, RED] == 1).all()
    assert (views[0, GREEN:] == 0).all()
    assert torch.allclose(views[1, GREEN], torch.tensor(0.2))


def test_red_and_blue_give_other_probabilities():
    model = colour_model()
    probabilities = model.probabilities(picture_of((255, 0, 0), (0, 0, 255)))
    assert probabilities.argmax(1).tolist() == [RED, BLUE]
    expected = np.exp([1, 0, 0, 0, 0, 0, 0]) / np.exp([1, 0, 0, 0, 0, 0, 0]).sum()
    np.testing.assert_allclose(probabilities[0], expected, atol=5e-3)  # of reduced precision


def test_the_colours_of_a_file_are_those_of_the_models_input(tmp_path):
    """From a PNG on disk, through reader and crop, to the model."""
    from ferlib.faces.photos import read_photo

    Image.new("RGB", (60, 60), (0, 0, 255)).save(tmp_path / "blue.png")
    pixels = read_photo(tmp_path / "blue.png").pixels
    model = colour_model()
    assert model.probabilities(crop_face(pixels, whole_face(pixels), 48)[None]).argmax() == BLUE


def test_a_model_of_grey_faces_is_given_grey_ones(crops):
    """Also one with three channels, as all of torchvision: it was trained without colours."""
    views = colour_model(dataset="fer2013").views(crops)
    grey = np.stack([np.asarray(Image.fromarray(crop).convert("L")) for crop in crops])
    assert views.shape == (5, 1, 48, 48)
    assert np.array_equal(views[:, 0].numpy(), grey / np.float32(255))


def test_grey_is_that_of_pillow():
    colours = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    assert np.array_equal(to_grey(colours)[..., 0], np.asarray(Image.fromarray(colours).convert("L")))


def test_a_photo_of_a_training_face_gives_the_numbers_of_the_data_set(few_real, shared_outputs, shipped, tmp_path):
    """The same face as datasets and transforms give it, and as a picture file found whole: equal to the bit."""
    import datasets
    from ferlib.faces.photos import read_photo

    faces = datasets.load_faces("fer2013", few_real, shared_outputs).split("test").images[:3]
    for number, face in enumerate(faces):
        Image.fromarray(face[..., 0]).save(tmp_path / f"{number}.png")
    photos = [read_photo(tmp_path / f"{number}.png").pixels for number in range(3)]
    crops = np.stack([crop_face(photo, whole_face(photo), shipped.crop_size) for photo in photos])
    assert torch.equal(shipped.views(crops), center_view(torch.from_numpy(faces), shipped.spec))


def test_the_crop_has_the_side_of_the_training_faces():
    """A model of 224 px that was trained on faces of 48 px is given 48 px scaled up, not finer ones."""
    model = colour_model(dataset="fer2013", size=224)
    assert model.crop_size == 48
    assert model.views(np.zeros((1, 48, 48, 3), np.uint8)).shape[-2:] == (224, 224)
    assert colour_model(dataset="rafdb").crop_size == 100


def test_other_crops_are_refused(shipped):
    for wrong in (np.zeros((48, 48, 3), np.uint8), np.zeros((1, 48, 48, 1), np.uint8), np.zeros((1, 48, 48, 3))):
        with pytest.raises(ValueError, match="uint8 N×S×S×3"):
            shipped.probabilities(wrong)


def test_the_shipped_model_predicts(shipped, crops):
    probabilities = shipped.probabilities(crops)
    assert probabilities.shape == (5, 7)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    checkpoint = load_checkpoint(shipped_checkpoint(), CPU)
    with torch.inference_mode():
        logits = checkpoint.model(shipped.views(crops))
    calibrated = (logits / shipped.calibration.temperature).softmax(1).numpy()
    np.testing.assert_allclose(probabilities, calibrated, atol=0.03)
    assert shipped.probabilities(crops[:0]).shape == (0, 7)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_networks_are_calibrated(name):
    """Each has a temperature below 1 for a single view: they are too unsure without."""
    path = shipped_checkpoint(name)
    found = read_calibration(path, digest_file(path))
    assert 0.5 < found.temperature < 1
    assert found.fitted_to == ("votes" if name == "ferplus" else "labels")
    assert len(found.thresholds) == 7
    assert found.is_fitted


def test_maps_for_videos_come_with_calibrated_probabilities(shipped, crops):
    probabilities, _ = cam_of_crops(shipped, crops)
    np.testing.assert_allclose(probabilities, shipped.probabilities(crops), atol=0.03)


def test_explanations_have_no_temperature(shipped, crops, monkeypatch):
    """LIME's weights are those of the network's own softmax, whatever lies beside its checkpoint."""
    maps = []
    for calibration in (UNCALIBRATED, Calibration(0.3, faces=100)):
        monkeypatch.setattr(shipped, "calibration", calibration)
        maps.append(explain_crops(shipped, crops[:1], "lime", [3], num_samples=50))
    np.testing.assert_array_equal(*maps)


def test_predicted_faces_have_their_sets(shipped, crops, monkeypatch):
    thresholds = (0.0,) * 3 + (1.0,) * 4
    monkeypatch.setattr(shipped, "calibration", Calibration(0.7, thresholds, 100))
    [face] = predict_photo(Photo(crops[0]), shipped, None)
    assert {"Angry", "Disgust", "Fear", face.label} == set(face.candidates)
    assert face.is_unsure
    row = describe_photo(Path("a.png"), Photo(crops[0]), [face])
    assert row["faces"][0]["candidates"] == list(face.candidates)
    assert f"one of {', '.join(face.candidates)} with 90 %" in describe_row(row)
    monkeypatch.setattr(shipped, "calibration", UNCALIBRATED)
    [face] = predict_photo(Photo(crops[0]), shipped, None)
    assert face.candidates == ()
    assert "with 90 %" not in describe_row(describe_photo(Path("a.png"), Photo(crops[0]), [face]))


def test_maps_lie_where_the_view_was_cut(shipped):
    """The model is given the inner 44 of 48 pixels; maps are 0 outside."""
    marked = np.zeros((1, 44, 44), np.float32)
    marked[0, 0, 0] = marked[0, 43, 10] = 1
    placed = shipped.to_crops(marked, 48)
    assert [tuple(spot) for spot in np.argwhere(placed[0])] == [(2, 2), (45, 12)]
    large = shipped.to_crops(np.ones((1, 44, 44), np.float32), 96)
    assert large.shape == (1, 96, 96)
    assert large[0, 48, 48] == pytest.approx(1)
    assert large[0, 0, 0] == 0


@pytest.mark.parametrize("side", [24, 48, 100, 224])
def test_attributions_that_add_up_still_do_in_a_crop_of_another_size(shipped, side):
    maps = np.random.default_rng(0).normal(0.01, 0.002, (2, 44, 44)).astype(np.float32)
    placed = shipped.to_crops(maps, side, summed=True)
    np.testing.assert_allclose(placed.sum((1, 2)), maps.sum((1, 2)), rtol=0.03)


# ── opening ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_by_default_the_shipped_model(shipped):
    assert shipped.label == "fer_resnet_wide_fer2013_seed2 (shipped)"
    assert (shipped.name, shipped.dataset, shipped.crop_size, shipped.grey) == ("fer_resnet_wide", "fer2013", 48, True)


def test_a_run_or_a_file(tiny_run, crops):
    model = open_face_model("mini_resnet", "synthetic", "tiny", outputs_dir=tiny_run.outputs_dir, device="cpu")
    assert model.label == tiny_run.name
    assert not model.grey
    same = open_face_model(checkpoint=tiny_run.best_checkpoint, device="cpu")
    assert same.label == tiny_run.name
    np.testing.assert_array_equal(same.probabilities(crops), model.probabilities(crops))


def test_a_run_of_another_set_of_the_same_spelling_is_refused(tmp_path):
    path = Run("mini_resnet", "folder:a/b", outputs_dir=tmp_path).best_checkpoint
    save_checkpoint(path, "mini_resnet", create_model("mini_resnet"), dataset="folder:a/b")
    assert open_face_model("mini_resnet", "folder:a/b", outputs_dir=tmp_path, device="cpu").label
    with pytest.raises(UserError, match="the name of a run on folder:a/b; use another --outputs-dir for folder:a-b"):
        open_face_model("mini_resnet", "folder:a-b", outputs_dir=tmp_path, device="cpu")


def test_missing_files_and_flags_are_named(tmp_path, tiny_run):
    with pytest.raises(UserError, match="give both --model and --dataset"):
        open_face_model("resnet50")
    with pytest.raises(UserError, match=re.escape("run: python train.py --model resnet50 --dataset fer2013")):
        open_face_model("resnet50", "fer2013", outputs_dir=tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        open_face_model(checkpoint=tmp_path / "none.pth")
    with pytest.raises(UserError, match="use --model mini_resnet"):
        open_face_model("resnet50", checkpoint=tiny_run.best_checkpoint)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_network_by_its_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path, label = find_checkpoint(checkpoint=Path(name))
    assert path == shipped_checkpoint(name)
    assert label == f"{path.stem} (shipped)"
    Path(name).write_bytes(b"a file of that name")
    assert find_checkpoint(checkpoint=Path(name)) == (Path(name), name)


def test_an_unknown_name_lists_the_shipped_networks():
    with pytest.raises(UserError, match="unknown does not exist; --checkpoint takes a file, or fer2013"):
        find_checkpoint(checkpoint=Path("unknown"))


def test_a_checkpoint_without_a_data_set(tmp_path):
    save_checkpoint(tmp_path / "plain.pth", "mini_resnet", create_model("mini_resnet"))
    model = open_face_model(checkpoint=tmp_path / "plain.pth", device="cpu")
    assert (model.crop_size, model.grey) == (48, True)
