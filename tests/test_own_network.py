"""The explanation methods on a network of one's own, as in a notebook: a plain nn.Module of three classes."""

import copy

import numpy as np
import pytest
import torch

from ferlib.explanations.cam import KINDS as CAM_KINDS
from ferlib.explanations.cam import cam
from ferlib.explanations.gradients import KINDS as GRADIENT_KINDS
from ferlib.explanations.gradients import gradient_map
from ferlib.explanations.kernel_shap import kernel_shap
from ferlib.explanations.lime import lime
from ferlib.explanations.methods import METHODS
from ferlib.explanations.occlusion import occlusion
from ferlib.explanations.regions import regions
from ferlib.explanations.shap import shap

SIDE, CLASSES = 16, 3
PLACE = np.arange(SIDE) // 4
SEGMENTS = PLACE[:, None] * 4 + PLACE  # 16 regions of 4×4 pixels


class LeftHalf(torch.nn.Module):
    """A small convolutional network whose outputs depend on the left half of an image alone."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.features = torch.nn.Sequential(torch.nn.Conv2d(3, 6, 2, stride=2), torch.nn.ReLU())
        self.head = torch.nn.Linear(6, CLASSES)

    def forward(self, images):
        return self.head(self.features(images)[..., : SIDE // 4].mean((2, 3)))


METHODS_OF_OWN_NETWORKS = {
    "lime": lambda model, *faces: lime(model, *faces, segments=SEGMENTS, num_samples=100),
    "kernel_shap": lambda model, *faces: kernel_shap(model, *faces, segments=SEGMENTS, num_samples=100),
    "shap": lambda model, *faces: shap(model, *faces, background=torch.zeros(2, 3, SIDE, SIDE), num_samples=10),
    "occlusion": lambda model, *faces: occlusion(model, *faces, window=0.25, stride=0.25),
    "regions": lambda model, *faces: regions(model, *faces),
    **{f"cam {kind}": lambda *faces, kind=kind: explain_by_cam(*faces, kind=kind) for kind in CAM_KINDS},
    **{f"gradient {kind}": lambda *faces, kind=kind: gradient_map(*faces, kind=kind) for kind in GRADIENT_KINDS},
}


OF_LARGE_PARTS = ("cam eigencam", "cam scorecam", "cam gradcam", "cam gradcam_plus_plus", "regions")  # whole channels


def explain_by_cam(model, *faces, kind):
    return cam(model, *faces, layer=model.features, kind=kind)


def make_faces():
    return torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def test_all_methods_are_here():
    found = {name.split()[-1] for name in METHODS_OF_OWN_NETWORKS}
    assert found == {*METHODS, "kernel_shap"}


@pytest.mark.parametrize("name", METHODS_OF_OWN_NETWORKS)
def test_a_network_of_three_classes(name):
    model, images, explain = LeftHalf().eval(), make_faces(), METHODS_OF_OWN_NETWORKS[name]
    before, kept = copy.deepcopy(model.state_dict()), images.clone()
    maps = explain(model, images, torch.tensor([2, 0]))
    assert maps.shape == (2, SIDE, SIDE)
    assert maps.dtype == np.float32
    assert np.isfinite(maps).all()
    assert maps.any(axis=(1, 2)).all() or name.startswith("cam")
    if name not in OF_LARGE_PARTS:
        strength = np.abs(maps)
        assert strength[..., : SIDE // 2].sum() > 0.9 * strength.sum()
    weighted = explain(model, images, torch.eye(CLASSES)[[2, 0]])
    assert np.array_equal(weighted, maps), "classes and their weights are the same target"
    assert torch.equal(images, kept)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("explain", [lime, kernel_shap])
def test_segments_for_all_images_or_for_each_or_by_a_function(explain):
    model, images, targets = LeftHalf(), make_faces(), torch.tensor([2, 0])
    options = {"num_samples": 60, "seed": 4}
    shared = explain(model, images, targets, segments=SEGMENTS, **options)
    each = explain(model, images, targets, segments=np.stack([SEGMENTS, SEGMENTS]), **options)
    made = explain(model, images, targets, segments=lambda image, seed: SEGMENTS, **options)
    assert np.array_equal(shared, each)
    assert np.array_equal(shared, made)
    other = explain(model, images, targets, segments=np.stack([SEGMENTS, SEGMENTS.T]), **options)
    assert np.array_equal(shared[0], other[0])
    assert not np.array_equal(shared[1], other[1])
    for values, numbers in zip(other, (SEGMENTS, SEGMENTS.T), strict=True):
        assert all(np.ptp(values[numbers == number]) == 0 for number in range(16)), "one value a region"


@pytest.mark.parametrize("name", ["lime", "kernel_shap", "occlusion", "shap", "gradient input_x_gradient"])
def test_weights_contrast_two_classes(name):
    model, images, explain = LeftHalf(), make_faces(), METHODS_OF_OWN_NETWORKS[name]
    classes = torch.eye(CLASSES)
    both = explain(model, images, (classes[2] - classes[0]).expand(2, -1))
    one, other = (explain(model, images, torch.tensor([label, label])) for label in (2, 0))
    np.testing.assert_allclose(both, one - other, atol=1e-5)


def test_seeds():
    model, images, targets = LeftHalf(), make_faces(), torch.tensor([2, 0])
    for explain, options in (
        (lime, {"segments": SEGMENTS, "num_samples": 40}),
        (kernel_shap, {"segments": SEGMENTS, "num_samples": 40}),
        (shap, {"background": make_faces(), "num_samples": 5}),
        (gradient_map, {"kind": "smoothgrad", "num_samples": 3, "noise_sd": 0.1}),
    ):
        first, again, other = (explain(model, images, targets, seed=seed, **options) for seed in (0, 0, 1))
        assert np.array_equal(first, again)
        assert not np.array_equal(first, other)
