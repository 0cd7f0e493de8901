"""explain_gradcam.py: known answers, agreement with grad-cam on every model of the zoo, faces that do not mix."""

import typing

import numpy as np
import pytest
import pytorch_grad_cam
import torch
import torch.nn.functional as F

import config
import explain_gradcam
from explain_gradcam import CAMS, find_layer, read_gradients, watch
from explanations import LogitModel, Subject
from models import MODELS
from utils import UserError
from zoo import ONE_HOT, make_model, random_faces

TARGET, SIDE, CELL = 2, 24, 6
LIBRARY = {
    "gradcam": pytorch_grad_cam.GradCAM,
    "gradcam++": pytorch_grad_cam.GradCAMPlusPlus,
    "hirescam": pytorch_grad_cam.HiResCAM,
    "layercam": pytorch_grad_cam.LayerCAM,
    "eigencam": pytorch_grad_cam.EigenCAM,
    "scorecam": pytorch_grad_cam.ScoreCAM,
}
NARROW = {  # layers of few channels
    "resnet50": "backbone.conv1",
    "efficientnet_b0": "backbone.features.0",
    "fer_resnet_wide": "backbone.stages.0",
}


class Cells(torch.nn.Module):
    """Two channels of 4×4 cells: the brightness of the upper left one and of the lower right one, the others dark."""

    def forward(self, images):
        cells = F.avg_pool2d(images.mean(1, keepdim=True), CELL)
        corner = F.pad(torch.ones(1, 1), (0, 3, 0, 3))
        return torch.cat([cells * corner, cells * corner.flip(0, 1)], 1)


class ReadsOneCorner(torch.nn.Module):
    """The logit of class TARGET is the first channel's mean, times 4000; nothing else matters."""

    def __init__(self):
        super().__init__()
        self.cells = Cells()
        self.activation = torch.nn.ReLU(inplace=True)

    def forward(self, images):
        return 4000 * self.activation(self.cells(images))[:, 0].mean((1, 2))[:, None] * ONE_HOT[TARGET]


def settings_of(method, **changes):
    return config.ExplainGradcam(method=method, **{"batch_size": 50} | changes)


def explain(model, images, targets, layer, method="gradcam", **changes):
    return explain_gradcam.explain_faces(
        model, images, targets, [0] * len(images), settings_of(method, **changes), layer
    )


def stretch(maps):
    """N×H×W to 0..1, as grad-cam leaves its maps."""
    low, high = maps.min((1, 2), keepdims=True), maps.max((1, 2), keepdims=True)
    return (maps - low) / np.maximum(high - low, 1e-7)


# ── known answers ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("method", ["gradcam", "gradcam++", "hirescam", "layercam", "scorecam"])
def test_a_model_that_reads_a_corner_is_explained_by_the_corner(method):
    model = LogitModel(ReadsOneCorner())
    for result in explain(model, random_faces(2, SIDE), ONE_HOT[[TARGET] * 2], model.classifier.cells, method):
        assert result.map.shape == (SIDE, SIDE)
        assert result.map.dtype == np.float32
        assert result.map.max() == 1
        assert result.map[: 2 * CELL, : 2 * CELL].sum() > 0.9 * result.map.sum()
        assert result.arrays["grid"].dtype == np.float16
        assert np.argmax(result.arrays["grid"]) == 0
        assert result.arrays["grid"][0, 0] == 1
        assert result.facts["peak"] > 0


def test_eigencam_finds_the_pattern_of_the_cells():
    """Activations of rank one: the pattern times a number for each channel, whatever their signs."""
    pattern = torch.rand(2, 1, 5, 4, generator=torch.Generator().manual_seed(0))
    channels = torch.tensor([3.0, -1.0, 0.5]).view(1, 3, 1, 1)
    found = explain_gradcam.eigencam(pattern * channels)
    centred = (pattern - pattern.mean((2, 3), keepdim=True))[:, 0] * channels.square().sum().sqrt()
    torch.testing.assert_close(found, centred, rtol=1e-4, atol=1e-5)


def test_a_map_without_evidence_is_dark():
    model = LogitModel(ReadsOneCorner())
    result = explain(model, random_faces(1, SIDE), -ONE_HOT[[TARGET]], model.classifier.cells)[0]
    assert not result.map.any()
    assert not result.arrays["grid"].any()
    assert result.facts["peak"] == 0


def test_what_follows_the_layer_may_work_in_place():
    model, images = LogitModel(ReadsOneCorner()), random_faces(1, SIDE) - 0.5
    activations, gradients = read_gradients(model, model.classifier.cells, images, ONE_HOT[[TARGET]], 1)
    torch.testing.assert_close(activations, Cells()(images))
    expected = torch.zeros_like(activations)
    expected[:, 0] = 4000 / 16 * (activations[:, 0] > 0)
    torch.testing.assert_close(gradients, expected)


# ── the zoo ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def library_maps(method, model, images, targets, layer):
    """grad-cam's maps of the same layer for the same weights of the outputs."""
    wanted = [lambda output, weights=weights: (output * weights).sum() for weights in targets]
    with LIBRARY[method](model, [layer]) as cam:
        return cam(images.clone().requires_grad_(), wanted)


@pytest.mark.parametrize("method", ["gradcam", "hirescam", "layercam"])
@pytest.mark.parametrize("name", MODELS)
def test_same_maps_as_the_library(name, method):
    model, spec = make_model(name), MODELS[name]
    images, targets = random_faces(2, spec.image_size), torch.stack([ONE_HOT[3] - ONE_HOT[1], ONE_HOT[1] - ONE_HOT[3]])
    layer = model.classifier.get_submodule(spec.cam_layer)
    ours = np.stack([item.map for item in explain(model, images, targets, layer, method)])
    assert ours.any()
    np.testing.assert_allclose(stretch(ours), library_maps(method, model, images, targets, layer), atol=2e-4)


@pytest.mark.parametrize("name", MODELS)
def test_gradcam_plus_plus_gives_the_library_s_maps_where_gradients_are_large(name):
    """Its 1e-6 in the denominator is nothing beside them."""
    model, spec = make_model(name), MODELS[name]
    images, targets = random_faces(2, spec.image_size), 1e6 * torch.stack([ONE_HOT[3] - ONE_HOT[1], ONE_HOT[1]])
    layer = model.classifier.get_submodule(spec.cam_layer)
    ours = np.stack([item.map for item in explain(model, images, targets, layer, "gradcam++")])
    assert ours.any()
    np.testing.assert_allclose(stretch(ours), library_maps("gradcam++", model, images, targets, layer), atol=2e-4)


@pytest.mark.parametrize("name", MODELS)
def test_eigencam_gives_the_library_s_maps_up_to_the_sign(name):
    model, spec = make_model(name), MODELS[name]
    images, targets = random_faces(1, spec.image_size), ONE_HOT[[3]]
    layer = model.classifier.get_submodule(spec.cam_layer)
    raw = explain_gradcam.eigencam(*explain_gradcam.read_activations(model, layer, images, targets, 1))
    theirs = library_maps("eigencam", model, images, targets, layer)
    either = [F.interpolate((sign * raw).relu()[None], images.shape[-2:], mode="bilinear")[0] for sign in (1, -1)]
    assert min(np.abs(stretch(ours.numpy()) - theirs).max() for ours in either) < 2e-4
    ours = explain(model, images, targets, layer, "eigencam")[0].map
    assert np.array_equal(ours, explain(model, images, ONE_HOT[[0]], layer, "eigencam")[0].map)
    np.testing.assert_allclose(stretch(ours[None]), stretch(either[0].numpy()), atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_scorecam_gives_the_library_s_maps(name):
    model, spec = make_model(name), MODELS[name]
    images, targets = random_faces(1, spec.image_size), ONE_HOT[[3]] - ONE_HOT[[1]]
    layer = model.classifier.get_submodule(NARROW.get(name, spec.cam_layer))
    ours = explain(model, images, targets, layer, "scorecam")[0].map
    theirs = library_maps("scorecam", model, images, targets, layer)
    np.testing.assert_allclose(stretch(ours[None]), theirs, atol=2e-4)


@pytest.mark.parametrize("channels", [1, 3])
def test_mixed_precision_gives_nearly_the_same_maps(channels):
    classifier = make_model("mini_resnet").classifier
    images, targets = random_faces(2, 48, channels), ONE_HOT[[1, 3]]
    layer = classifier.get_submodule("backbone.stages")
    exact, mixed = (
        np.stack([item.map for item in explain(LogitModel(classifier, dtype), images, targets, layer)])
        for dtype in (torch.float32, torch.bfloat16)
    )
    assert exact.any()
    np.testing.assert_allclose(mixed, exact, atol=0.05)


# ── targets, batches, flags ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_contrast_is_the_difference_of_two_classes():
    model = make_model("mini_resnet")
    images, layer = random_faces(1, 48), model.classifier.get_submodule("backbone.stages")
    both, one, other = (
        explain_gradcam.hirescam(*read_gradients(model, layer, images, targets, 1))
        for targets in (ONE_HOT[[2]] - ONE_HOT[[5]], ONE_HOT[[2]], ONE_HOT[[5]])
    )
    torch.testing.assert_close(both, one - other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", CAMS)
def test_faces_do_not_depend_on_their_batch(method):
    model = make_model("mini_resnet")
    images, layer = random_faces(3, 48), model.classifier.get_submodule("backbone.stages")
    targets = ONE_HOT[[1, 2, 3]]
    together = explain(model, images, targets, layer, method, batch_size=100)
    for row, split in enumerate(explain(model, images, targets, layer, method, batch_size=2)):
        alone = explain(model, images[row : row + 1], targets[row : row + 1], layer, method)[0]
        np.testing.assert_allclose(together[row].map, alone.map, atol=1e-4)
        np.testing.assert_allclose(together[row].map, split.map, atol=1e-4)


def test_attribute_gives_one_map_per_face():
    model = make_model("mini_resnet")
    images, layer = random_faces(2, 48), model.classifier.get_submodule("backbone.stages")
    maps = explain_gradcam.attribute(model, images, ONE_HOT[[0, 6]], settings_of("gradcam"), layer)
    assert maps.shape == (2, 48, 48)
    assert maps.dtype == np.float32
    assert not layer._forward_hooks


def test_the_flag_offers_every_method():
    assert typing.get_args(typing.get_type_hints(config.ExplainGradcam)["method"]) == tuple(CAMS)
    assert len({cam.name for cam in CAMS.values()}) == len(CAMS)


def test_wrong_layers_are_refused():
    model = make_model("mini_resnet")
    subject = Subject(config.ExplainGradcam(), "", model, MODELS["mini_resnet"], None, torch.device("cpu"))
    with pytest.raises(UserError, match=r"did you mean backbone\.stages"):
        find_layer(subject, "backbone.stage")
    with pytest.raises(UserError, match="no rows and columns"):
        watch(model, find_layer(subject, "head"), random_faces(1, 48))


@pytest.mark.parametrize("method", CAMS)
def test_the_script_explains_a_saved_model(tiny_run, method, monkeypatch):
    flags = ["--tag", "tiny", "--outputs-dir", str(tiny_run.outputs_dir), "--samples", "3", "--method", method]
    figures = [] if method == "gradcam++" else ["--no-figures"]
    monkeypatch.setattr("sys.argv", ["explain_gradcam.py", *flags, *figures])
    summary = explain_gradcam.main()
    assert summary["method"] == CAMS[method].name
    assert summary["output"] == "logit"
    assert summary["settings"]["layer"] == "backbone.stages"
    with np.load(tiny_run.explanation_maps(summary["method"])) as saved:
        assert saved["maps"].shape == (3, 48, 48)
        assert saved["grid"].shape == (3, 6, 6)
        assert 0 <= saved["maps"].min() <= saved["maps"].max() <= 1
    drawn = len(list(tiny_run.explanations(summary["method"]).glob("*.png")))
    assert drawn == (3 if method == "gradcam++" else 0)
