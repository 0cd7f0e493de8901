"""explanations/cam.py: known answers, agreement with grad-cam, independence of the faces of a batch."""

import numpy as np
import pytest
import pytorch_grad_cam
import torch
import torch.nn.functional as F

import explain_gradcam
from ferlib.explanations import cam
from ferlib.explanations.binding import provide_cells
from ferlib.explanations.cam import KINDS, SIGNED, Cells, read_activations, read_gradients
from ferlib.explanations.methods import methods_of
from ferlib.inference.logit_model import LogitModel
from ferlib.networks.timm_backbones import tokens_to_grid
from ferlib.runtime.errors import UserError
from models import MODELS
from zoo import LIGHT, ONE_HOT, THREE, ZOO, make_model, random_faces, slow_unless, small_spec

TARGET, SIDE, CELL = 2, 24, 6
LIBRARY = {
    "gradcam": pytorch_grad_cam.GradCAM,
    "gradcam_plus_plus": pytorch_grad_cam.GradCAMPlusPlus,
    "hirescam": pytorch_grad_cam.HiResCAM,
    "layercam": pytorch_grad_cam.LayerCAM,
    "eigencam": pytorch_grad_cam.EigenCAM,
    "scorecam": pytorch_grad_cam.ScoreCAM,
}
NARROW = {  # layers of few channels
    "resnet18": "backbone.conv1",
    "mini_resnet": "backbone.stages",
    "timm/swin_tiny_patch4_window7_224": "backbone.layers.0",
}
BY_GRADIENTS = ("hirescam", "layercam")


class TwoCells(torch.nn.Module):
    """Two channels of 4×4 cells: the brightness of the upper left one and of the lower right one, the others dark."""

    def forward(self, images):
        cells = F.avg_pool2d(images.mean(1, keepdim=True), CELL)
        corner = F.pad(torch.ones(1, 1), (0, 3, 0, 3))
        return torch.cat([cells * corner, cells * corner.flip(0, 1)], 1)


class ReadsOneCorner(torch.nn.Module):
    """The logit of class TARGET is the first channel's mean, times 4000; nothing else matters."""

    def __init__(self):
        super().__init__()
        self.cells = TwoCells()
        self.activation = torch.nn.ReLU(inplace=True)

    def forward(self, images):
        return 4000 * self.activation(self.cells(images))[:, 0].mean((1, 2))[:, None] * ONE_HOT[TARGET]


def explain(model, images, targets, cells, kind="gradcam", batch_size=50):
    seeds = [0] * len(images)
    return cam.explain(model, images, targets, seeds=seeds, kind=kind, cells=cells, batch_size=batch_size)


def cells_of(name, layer=""):
    spec = small_spec(name)
    return Cells(make_model(name).classifier.get_submodule(layer or spec.cam_layer), spec.to_grid)


def stretch(maps):
    """N×H×W to 0..1, as grad-cam leaves its maps."""
    low, high = maps.min((1, 2), keepdims=True), maps.max((1, 2), keepdims=True)
    return (maps - low) / np.maximum(high - low, 1e-7)


# ── known answers ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "eigencam"])
def test_a_model_that_reads_a_corner_is_explained_by_the_corner(kind):
    model = LogitModel(ReadsOneCorner())
    for result in explain(model, random_faces(2, SIDE), ONE_HOT[[TARGET] * 2], Cells(model.classifier.cells), kind):
        assert result.map.shape == (SIDE, SIDE)
        assert result.map.dtype == np.float32
        assert result.map.max() == 1 or kind in SIGNED
        assert result.map[: 2 * CELL, : 2 * CELL].sum() > 0.9 * result.map.sum()
        assert result.arrays["grid"].dtype == np.float16
        assert np.argmax(result.arrays["grid"]) == 0
        if kind in SIGNED:
            assert result.facts["cells_sum"] == pytest.approx(result.arrays["grid"].astype(float).sum(), rel=1e-3)
            continue
        assert result.arrays["grid"][0, 0] == 1
        assert result.facts["peak"] > 0


@pytest.mark.parametrize("name", ["mini_resnet", "fer_resnet_wide"])
def test_cells_of_hirescam_sum_to_the_logit_without_its_bias(name):
    """Draelos & Carin 2020: where a linear layer follows."""
    model, images = make_model(name), random_faces(3, small_spec(name).image_size)
    logits = model(images).detach()
    head = [module for module in model.modules() if isinstance(module, torch.nn.Linear)][-1]
    found = explain(model, images, ONE_HOT[[1, 2, 3]], cells_of(name), "hirescam")
    for row, (result, label) in enumerate(zip(found, (1, 2, 3), strict=True)):
        assert result.facts["cells_sum"] == pytest.approx((logits[row, label] - head.bias[label]).item(), abs=1e-4)
        assert result.map.min() < 0 or result.map.max() > 0


def test_eigencam_finds_the_pattern_of_the_cells():
    """Activations of rank one: the pattern times a number for each channel, whatever their signs."""
    pattern = torch.rand(2, 1, 5, 4, generator=torch.Generator().manual_seed(0))
    channels = torch.tensor([3.0, -1.0, 0.5]).view(1, 3, 1, 1)
    found = cam.eigencam(pattern * channels)
    centred = (pattern - pattern.mean((2, 3), keepdim=True))[:, 0] * channels.square().sum().sqrt()
    torch.testing.assert_close(found, centred, rtol=1e-4, atol=1e-5)


def test_a_map_without_evidence_is_zero():
    model = LogitModel(ReadsOneCorner())
    result = explain(model, random_faces(1, SIDE), -ONE_HOT[[TARGET]], Cells(model.classifier.cells))[0]
    assert not result.map.any()
    assert not result.arrays["grid"].any()
    assert result.facts["peak"] == 0


def test_what_follows_the_layer_may_work_in_place():
    model, images = LogitModel(ReadsOneCorner()), random_faces(1, SIDE) - 0.5
    activations, gradients = read_gradients(model, Cells(model.classifier.cells), images, ONE_HOT[[TARGET]], 1)
    torch.testing.assert_close(activations, TwoCells()(images))
    expected = torch.zeros_like(activations)
    expected[:, 0] = 4000 / 16 * (activations[:, 0] > 0)
    torch.testing.assert_close(gradients, expected)


# ── the zoo ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def library_maps(kind, model, images, targets, cells):
    """grad-cam's maps of the same layer for the same weights of the outputs."""
    wanted = [lambda output, weights=weights: (output * weights).sum() for weights in targets]
    keep = cells.to_grid or torch.clone  # before what follows works in place
    with LIBRARY[kind](model, [cells.layer], reshape_transform=keep) as library:
        return library(images.clone().requires_grad_(), wanted)


@pytest.mark.parametrize("name", slow_unless(LIGHT, ZOO))
def test_gradcam_gives_the_library_s_maps(name):
    compare_with_library(name, "gradcam")


@pytest.mark.parametrize("kind", BY_GRADIENTS)
@pytest.mark.parametrize("name", THREE)
def test_other_methods_of_gradients_give_the_library_s_maps(name, kind):
    compare_with_library(name, kind)


def compare_with_library(name, kind):
    model, cells, side = make_model(name), cells_of(name), small_spec(name).image_size
    images, targets = random_faces(2, side), torch.stack([ONE_HOT[3] - ONE_HOT[1], ONE_HOT[1] - ONE_HOT[3]])
    ours = np.stack([item.map for item in explain(model, images, targets, cells, kind)])
    assert ours.any()
    assert ours.shape == (2, side, side)
    if kind in SIGNED:  # the library drops evidence against the class before it upsamples
        grids = KINDS[kind][1](*read_gradients(model, cells, images, targets, 2))
        ours = cam.to_unit(cam.upsample(grids.relu(), (side, side)))
    np.testing.assert_allclose(stretch(ours), library_maps(kind, model, images, targets, cells), atol=2e-4)


@pytest.mark.parametrize("name", THREE)
def test_gradcam_plus_plus_gives_the_library_s_maps_where_gradients_are_large(name):
    """The library's 1e-6 in the denominator is negligible beside them."""
    model, cells = make_model(name), cells_of(name)
    images = random_faces(2, small_spec(name).image_size)
    targets = 1e6 * torch.stack([ONE_HOT[3] - ONE_HOT[1], ONE_HOT[1]])
    ours = np.stack([item.map for item in explain(model, images, targets, cells, "gradcam_plus_plus")])
    assert ours.any()
    expected = library_maps("gradcam_plus_plus", model, images, targets, cells)
    np.testing.assert_allclose(stretch(ours), expected, atol=2e-4)


@pytest.mark.parametrize("name", THREE)
def test_eigencam_gives_the_library_s_maps_up_to_the_sign(name):
    model, cells = make_model(name), cells_of(name)
    images, targets = random_faces(1, small_spec(name).image_size), ONE_HOT[[3]]
    raw = cam.eigencam(*read_activations(model, cells, images, targets, 1))
    theirs = library_maps("eigencam", model, images, targets, cells)
    either = [F.interpolate((sign * raw).relu()[None], images.shape[-2:], mode="bilinear")[0] for sign in (1, -1)]
    assert min(np.abs(stretch(ours.numpy()) - theirs).max() for ours in either) < 2e-4
    ours = explain(model, images, targets, cells, "eigencam")[0].map
    assert np.array_equal(ours, explain(model, images, ONE_HOT[[0]], cells, "eigencam")[0].map)
    np.testing.assert_allclose(stretch(ours[None]), stretch(either[0].numpy()), atol=1e-5)


@pytest.mark.parametrize("name", NARROW)
def test_scorecam_gives_the_library_s_maps(name):
    model, cells = make_model(name), cells_of(name, NARROW[name])
    images, targets = random_faces(1, small_spec(name).image_size), ONE_HOT[[3]] - ONE_HOT[[1]]
    ours = explain(model, images, targets, cells, "scorecam")[0].map
    theirs = library_maps("scorecam", model, images, targets, cells)
    np.testing.assert_allclose(stretch(ours[None]), theirs, atol=2e-4)


@pytest.mark.parametrize("channels", [1, 3])
def test_mixed_precision_gives_nearly_the_same_maps(channels):
    classifier = make_model("mini_resnet").classifier
    images, targets = random_faces(2, 48, channels), ONE_HOT[[1, 3]]
    cells = Cells(classifier.get_submodule("backbone.stages"))
    exact, mixed = (
        np.stack([item.map for item in explain(LogitModel(classifier, dtype), images, targets, cells)])
        for dtype in (torch.float32, torch.bfloat16)
    )
    assert exact.any()
    np.testing.assert_allclose(mixed, exact, atol=0.05)


# ── targets, batches, flags ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_contrast_is_the_difference_of_two_classes():
    model = make_model("mini_resnet")
    images, cells = random_faces(1, 48), cells_of("mini_resnet")
    both, one, other = (
        cam.hirescam(*read_gradients(model, cells, images, targets, 1))
        for targets in (ONE_HOT[[2]] - ONE_HOT[[5]], ONE_HOT[[2]], ONE_HOT[[5]])
    )
    torch.testing.assert_close(both, one - other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_faces_do_not_depend_on_their_batch(kind):
    model = make_model("mini_resnet")
    images, cells = random_faces(3, 48), cells_of("mini_resnet")
    targets = ONE_HOT[[1, 2, 3]]
    together = explain(model, images, targets, cells, kind, batch_size=100)
    for row, split in enumerate(explain(model, images, targets, cells, kind, batch_size=2)):
        alone = explain(model, images[row : row + 1], targets[row : row + 1], cells, kind)[0]
        np.testing.assert_allclose(together[row].map, alone.map, atol=1e-4)
        np.testing.assert_allclose(together[row].map, split.map, atol=1e-4)


def test_cam_gives_one_map_per_face():
    model, layer = make_model("mini_resnet"), cells_of("mini_resnet").layer
    maps = cam.cam(model, random_faces(2, 48), ONE_HOT[[0, 6]], layer=layer)
    assert maps.shape == (2, 48, 48)
    assert maps.dtype == np.float32
    assert not layer._forward_hooks


class Network:
    """What provide_cells reads of a binding.Network."""

    spec = MODELS["mini_resnet"]


def test_wrong_layers_are_refused():
    model = make_model("mini_resnet")
    with pytest.raises(UserError, match=r"did you mean backbone\.stages"):
        provide_cells({"layer": "backbone.stage"}, Network(), model)
    assert provide_cells({"layer": ""}, Network(), model)["cells"].name == MODELS["mini_resnet"].cam_layer
    cells = provide_cells({"layer": "head"}, Network(), model)["cells"]
    with pytest.raises(UserError, match="no rows and columns"):
        read_activations(model, cells, random_faces(1, 48), ONE_HOT[[0]], 1)


def test_tokens_are_explained_where_they_lie():
    """A transformer's map of a class whose logit depends on one cell alone."""

    class ReadsOneToken(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens = torch.nn.Identity()

        def forward(self, images):
            cells = F.avg_pool2d(images.mean(1, keepdim=True), CELL).flatten(2).mT  # N,16,1
            tokens = self.tokens(torch.cat([torch.zeros_like(cells[:, :1]), cells], 1))
            return 50 * tokens[:, 1 + 4 * 2 + 3] * ONE_HOT[TARGET]

    model = LogitModel(ReadsOneToken())
    cells = Cells(model.classifier.tokens, tokens_to_grid)
    for kind in BY_GRADIENTS:
        grid = explain(model, random_faces(1, SIDE), ONE_HOT[[TARGET]], cells, kind)[0].arrays["grid"]
        assert grid.shape == (4, 4)
        assert np.argwhere(grid).tolist() == [[2, 3]]


@pytest.mark.parametrize("choice", methods_of("explain_gradcam.py"))
def test_the_script_explains_a_saved_model(tiny_run, choice, monkeypatch):
    flags = ["--tag", "tiny", "--outputs-dir", str(tiny_run.outputs_dir), "--samples", "3", "--method", choice]
    figures = [] if choice == "gradcam++" else ["--no-figures"]
    monkeypatch.setattr("sys.argv", ["explain_gradcam.py", *flags, *figures])
    summary = explain_gradcam.main()
    assert summary["method"] == choice.replace("++", "_plus_plus")
    assert summary["output"] == "logit"
    assert summary["settings"]["layer"] == "backbone.stages"
    with np.load(tiny_run.explanation_maps(summary["method"])) as saved:
        assert saved["maps"].shape == (3, 48, 48)
        assert saved["grid"].shape == (3, 6, 6)
        if choice in SIGNED:
            assert saved["maps"].min() < 0 < saved["maps"].max()
        else:
            assert 0 <= saved["maps"].min() <= saved["maps"].max() <= 1
    drawn = len(list(tiny_run.explanations(summary["method"]).glob("*.png")))
    assert drawn == (3 if choice == "gradcam++" else 0)
