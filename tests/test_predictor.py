"""predictor.py: the model sees the colours and the scale it was trained with; Grad-CAM and explanations of crops."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import config
import explain_gradcam
import explain_occlusion
from config import EMOTIONS
from ferlib.data.synthetic.faces import draw_faces
from ferlib.explanations.subject import LogitModel
from ferlib.faces import face_model as predictor
from ferlib.faces.crops import crop_face, whole_face
from ferlib.faces.face_model import EXPLAINERS, SHIPPED, FaceModel, open_face_model, to_grey
from ferlib.inference.views import center_view
from ferlib.networks.checkpoints import save_checkpoint
from ferlib.networks.classifier import FaceClassifier
from ferlib.networks.specs import ModelSpec
from ferlib.runtime.errors import UserError
from models import Checkpoint, create_model, load_checkpoint

CPU = torch.device("cpu")
RED, GREEN, BLUE = range(3)
FEW = {  # so that the slow methods are quick
    "lime": {"lime_samples": 64, "segmentation": "grid", "regions": 16},
    "shap": {"shap_samples": 4, "bg_samples": 3},
    "smoothgrad": {"smooth_samples": 3},
    "integrated_gradients": {"steps": 4},
}


class Channels(nn.Module):
    """The mean of each colour at the upper left, which is where the logits of the first three classes come from."""

    def __init__(self):
        super().__init__()
        self.cells = nn.Identity()

    def forward(self, images):
        return self.cells(images)[..., :8, :8].mean((2, 3))


@pytest.fixture(scope="module")
def shipped():
    return open_face_model(device="cpu")


@pytest.fixture(scope="module")
def crops():
    return draw_faces(5, 48, subjects=5, workers=1).images


def colour_model(dataset="synthetic", size=48):
    """A model whose logit of class c is the mean of colour c at the upper left; nothing is normalised."""
    spec = ModelSpec(Channels, "backbone.cells", image_size=size, mean=(0.0,) * 3, std=(1.0,) * 3)
    model = FaceClassifier(spec)
    head = nn.Linear(3, len(EMOTIONS), bias=False)
    nn.init.zeros_(head.weight)
    head.weight.data[:3, :3] = torch.eye(3)
    model.head = head
    return FaceModel(Checkpoint(model.eval(), spec, {"model": "colours", "dataset": dataset}), "colours", CPU)


def picture_of(*colours):
    """A 48×48 face of each colour."""
    return np.stack([np.full((48, 48, 3), colour, np.uint8) for colour in colours])


# ── what the model sees ──────────────────────────────────────────────────────────────────────────────────────────────


def test_red_is_the_first_colour_and_255_is_1():
    views = colour_model().views(picture_of((255, 0, 0), (0, 51, 0)))
    assert views.shape == (2, 3, 48, 48)
    assert (views[0, RED] == 1).all()
    assert (views[0, GREEN:] == 0).all()
    assert torch.allclose(views[1, GREEN], torch.tensor(0.2))


def test_a_model_of_one_colour_tells_red_from_blue():
    model = colour_model()
    probabilities = model.probabilities(picture_of((255, 0, 0), (0, 0, 255)))
    assert probabilities.argmax(1).tolist() == [RED, BLUE]
    expected = np.exp([1, 0, 0, 0, 0, 0, 0]) / np.exp([1, 0, 0, 0, 0, 0, 0]).sum()
    np.testing.assert_allclose(probabilities[0], expected, atol=5e-3)  # of reduced precision


def test_a_file_in_colour_reaches_the_model_in_the_same_colours(tmp_path):
    """From a PNG on disk, through reader and crop, to the model."""
    from ferlib.faces.photos import read_photo

    Image.new("RGB", (60, 60), (0, 0, 255)).save(tmp_path / "blue.png")
    pixels = read_photo(tmp_path / "blue.png").pixels
    model = colour_model()
    assert model.probabilities(crop_face(pixels, whole_face(pixels), 48)[None]).argmax() == BLUE


def test_a_model_of_grey_faces_sees_grey_ones(crops):
    """Also one with three channels, as all of torchvision: it never saw a colour."""
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
    """A model of 224 px that was trained on faces of 48 px sees 48 px scaled up, not finer ones."""
    model = colour_model(dataset="fer2013", size=224)
    assert model.crop_size == 48
    assert model.views(np.zeros((1, 48, 48, 3), np.uint8)).shape[-2:] == (224, 224)
    assert colour_model(dataset="rafdb").crop_size == 100


def test_other_crops_are_refused(shipped):
    for wrong in (np.zeros((48, 48, 3), np.uint8), np.zeros((1, 48, 48, 1), np.uint8), np.zeros((1, 48, 48, 3))):
        with pytest.raises(ValueError, match="uint8 N×S×S×3"):
            shipped.probabilities(wrong)


# ── probabilities and Grad-CAM ───────────────────────────────────────────────────────────────────────────────────────


def test_the_shipped_model_predicts(shipped, crops):
    probabilities = shipped.probabilities(crops)
    assert probabilities.shape == (5, 7)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    checkpoint = load_checkpoint(SHIPPED, CPU)
    with torch.inference_mode():
        plain = checkpoint.model(shipped.views(crops)).softmax(1).numpy()
    np.testing.assert_allclose(probabilities, plain, atol=0.03)
    assert shipped.probabilities(crops[:0]).shape == (0, 7)


def test_grad_cam_is_that_of_the_script(shipped, crops):
    probabilities, maps = shipped.cam(crops)
    np.testing.assert_allclose(probabilities, shipped.probabilities(crops), atol=0.02)
    assert maps.shape == (5, 48, 48)
    assert maps.min() == 0
    assert maps.max() <= 1
    model = LogitModel(shipped.plain.classifier)
    cells = explain_gradcam.Cells(model.classifier.get_submodule(shipped.spec.cam_layer))
    targets = torch.eye(7)[probabilities.argmax(1)]
    expected = explain_gradcam.attribute(model, shipped.views(crops), targets, config.ExplainGradcam(), cells)
    assert np.abs(maps[:, 2:46, 2:46] - expected).mean() < 0.02


def test_grad_cam_of_another_class(shipped, crops):
    maps = [shipped.cam(crops, targets=[label] * len(crops))[1] for label in range(7)]
    predicted = shipped.cam(crops)
    for number, label in enumerate(predicted[0].argmax(1)):
        np.testing.assert_allclose(maps[label][number], predicted[1][number], atol=1e-3)
    assert not np.allclose(maps[0], maps[3], atol=0.1)


def test_grad_cam_shows_where_the_model_looks():
    model = colour_model()
    face = picture_of((200, 30, 30))
    face[0, 8:, 8:] = 0
    probabilities, maps = model.cam(face)
    assert probabilities.argmax() == RED
    assert maps[0, :8, :8].min() > 0.9
    assert maps[0, 10:, 10:].max() < 0.05


def test_grad_cam_of_no_face(shipped):
    probabilities, maps = shipped.cam(np.zeros((0, 48, 48, 3), np.uint8))
    assert probabilities.shape == (0, 7)
    assert maps.shape == (0, 48, 48)


def test_inference_mode_outside_does_not_matter(crops):
    with torch.inference_mode():
        model = open_face_model(device="cpu")
        model.probabilities(crops)
        inside = model.cam(crops)[1]
    np.testing.assert_allclose(open_face_model(device="cpu").cam(crops)[1], inside, atol=0.02)


def test_maps_lie_where_the_model_looked(shipped):
    """The model sees the inner 44 of 48 pixels; what it does not see is 0."""
    marked = np.zeros((1, 44, 44), np.float32)
    marked[0, 0, 0] = marked[0, 43, 10] = 1
    placed = shipped.place(marked, 48)
    assert [tuple(spot) for spot in np.argwhere(placed[0])] == [(2, 2), (45, 12)]
    large = shipped.place(np.ones((1, 44, 44), np.float32), 96)
    assert large.shape == (1, 96, 96)
    assert large[0, 48, 48] == pytest.approx(1)
    assert large[0, 0, 0] == 0


# ── explanations ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("method", EXPLAINERS)
def test_every_method_explains_crops(shipped, crops, method):
    maps = shipped.explain(crops[:2], method, **FEW.get(method, {}))
    assert maps.shape == (2, 48, 48)
    assert maps.dtype == np.float32
    assert np.isfinite(maps).all()
    assert maps.any(axis=(1, 2)).all()
    assert (maps[:, :2] == 0).all()
    if EXPLAINERS[method].signed:
        assert maps.min() < 0 < maps.max()
    else:
        assert maps.min() >= 0
    assert shipped.explain(crops[:0], method).shape == (0, 48, 48)


def test_every_script_has_its_rows():
    scripts = {path.stem.removeprefix("explain_") for path in Path(predictor.__file__).parent.glob("explain_*.py")}
    makers = {row.make.__name__.removeprefix("Explain").lower() for row in EXPLAINERS.values()}
    assert makers == scripts
    for name, row in EXPLAINERS.items():
        assert set(row.defaults) == set(row.settings)
        assert row.flags(row.defaults), name


def test_explanations_are_the_scripts_own(shipped, crops):
    targets = torch.eye(7)[[3, 0]]
    settings = config.ExplainOcclusion(window=0.3, stride=0.15)
    expected = explain_occlusion.attribute(shipped.fast, shipped.views(crops[:2]), targets, settings)
    found = shipped.explain(crops[:2], "occlusion", [3, 0], window=0.3, stride=0.15)
    np.testing.assert_array_equal(found[:, 2:46, 2:46], expected)


def test_the_corner_that_a_model_reads_explains_it():
    """Each method that looks at places finds the upper left corner, which alone the model reads."""
    model, face = colour_model(), draw_faces(1, 48, workers=1).images
    for method in EXPLAINERS:
        if method in ("gradcam", "gradcam++", "eigencam", "scorecam", "guided_backprop"):
            continue  # they weigh whole channels, or need layers that this model does not have
        settings = {**FEW.get(method, {}), **({"regions": 36} if method == "lime" else {})}
        strength = np.abs(model.explain(face, method, [RED], **settings)[0])
        assert strength[:10, :10].sum() > 0.5 * strength.sum(), method


def test_unknown_methods_and_settings_are_named(shipped, crops):
    with pytest.raises(UserError, match="unknown method 'gradcamm'; did you mean gradcam"):
        shipped.explain(crops, "gradcamm")
    with pytest.raises(UserError, match="unknown setting of Occlusion 'steps'"):
        shipped.explain(crops, "occlusion", steps=3)
    with pytest.raises(UserError, match="--window and --stride"):
        shipped.explain(crops, "occlusion", window=2.0)
    with pytest.raises(UserError, match="lime_samples must be 2 or more"):
        shipped.explain(crops, "lime", lime_samples=1)


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


def test_what_is_missing_is_said(tmp_path, tiny_run):
    with pytest.raises(UserError, match="give both --model and --dataset"):
        open_face_model("resnet50")
    with pytest.raises(UserError, match=re.escape("run: python train.py --model resnet50 --dataset fer2013")):
        open_face_model("resnet50", "fer2013", outputs_dir=tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        open_face_model(checkpoint=tmp_path / "none.pth")
    with pytest.raises(UserError, match="use --model mini_resnet"):
        open_face_model("resnet50", checkpoint=tiny_run.best_checkpoint)


def test_a_checkpoint_that_does_not_say_its_data_set(tmp_path):
    save_checkpoint(tmp_path / "plain.pth", "mini_resnet", create_model("mini_resnet"))
    model = open_face_model(checkpoint=tmp_path / "plain.pth", device="cpu")
    assert (model.crop_size, model.grey) == (48, True)
