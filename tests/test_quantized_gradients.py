"""inference/int8/gradients.py: gradients as networks of their own, exact in floating point and close in 8 bits."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from torch import nn

import explain_shap
from ferlib.inference.class_gradients import class_gradients
from ferlib.inference.folding import fold, frozen_copy
from ferlib.inference.int8 import quantization
from ferlib.inference.int8.gradients import let_through, reverse, shown
from ferlib.inference.int8.graphs import trace
from ferlib.inference.int8.quantization import GradientNetwork, between, convert_gradients, quantize_gradients
from ferlib.inference.logit_model import LogitModel
from ferlib.runtime.errors import UserError
from test_quantization import UNITS, Layers, Residual
from zoo import make_classifier, random_faces, slow_unless, small_spec

needs_vnni = pytest.mark.skipif(
    not quantization.is_available(torch.device("cpu")), reason="needs an x86 processor with VNNI"
)


class Strided(Layers):
    """Residual blocks with strides, of kernels of one and of three taps, on even and on odd sides."""

    def __init__(self):
        super().__init__()
        self.first.stride, self.second.stride = 2, 2
        self.shortcut = nn.Conv2d(16, 16, 1, stride=2)

    def forward(self, images):
        stem = self.relu(self.first(images))
        return self.fourth(self.relu(self.third(self.relu(self.second(stem))) + self.shortcut(stem))).mean((2, 3))


class Pooled(Layers):
    """The pooled stem goes to two convolutions."""

    def forward(self, images):
        stem = F.max_pool2d(self.relu(self.first(images)), 3, 2, 1)
        return self.fourth(self.relu(self.second(stem) + self.third(stem))).mean((2, 3))


class Preactivated(Layers):
    """The ReLU comes after the sum has gone on, so the gradient of the sum is read twice."""

    def forward(self, images):
        total = self.first(images)
        for layer in (self.second, self.third):
            total = total + layer(total.relu())
        return self.fourth(total.relu()).mean((2, 3))


class Branches(Layers):
    """Two branches that meet behind their convolutions only."""

    def forward(self, images):
        stem = self.relu(self.first(images))
        return self.relu(self.second(stem)).mean((2, 3)) + self.third(stem).amax((2, 3))


OPERATIONS = (  # between them, all that the zoo does but what transformers do
    "alexnet", "fer_vgg", "fer_resnet", "resnet50", "cifar_resnet20", "densenet121", "googlenet", "efficientnet_b0",
    "resnet34_sa", "timm/convnext_tiny",
)  # fmt: skip
KINDS_OF_BLOCKS = (*UNITS, Strided, Pooled, Preactivated, Branches)


def gradients_by_graph(classifier, images):
    """Of all logits, classes×N×C×H×W."""
    with torch.no_grad():
        folded = frozen_copy(classifier)
        fold(folded, images[:1])
        network = GradientNetwork(classifier, *reverse(trace(folded, images[:2]), images[:2]), images=2)
        return torch.cat(list(network.differentiate(images)), 1)


def relative_error(found, expected):
    return ((found - expected).norm() / expected.norm()).item()


def gradients_by_autograd(model, images):
    return torch.stack(list(class_gradients(model, images)))


@pytest.mark.parametrize(
    ("kind", "side"), [*((kind, 12) for kind in KINDS_OF_BLOCKS), *((kind, 13) for kind in (Residual, Strided, Pooled))]
)
def test_graphs_of_blocks_are_exact(kind, side):
    torch.manual_seed(0)
    model, images = kind().eval().requires_grad_(False), torch.rand(3, 3, side, side)
    expected = gradients_by_autograd(model, images)
    assert expected.any()
    assert relative_error(gradients_by_graph(model, images), expected) < 1e-5


@pytest.mark.parametrize("name", slow_unless(("fer_resnet",), OPERATIONS))
def test_graphs_of_models_are_exact(name):
    spec = small_spec(name)
    images = random_faces(3, spec.image_size, spec.channels).double()
    model = frozen_copy(make_classifier(name)).double()
    assert relative_error(gradients_by_graph(model, images), gradients_by_autograd(model, images)) < 1e-6


@needs_vnni
@pytest.mark.parametrize("kind", slow_unless((Residual, Strided, Pooled, Preactivated, Branches), KINDS_OF_BLOCKS))
def test_blocks_in_8_bits(kind, monkeypatch):
    monkeypatch.setattr(quantization, "MOST_OTHERS", 9)
    torch.manual_seed(0)
    model, images = kind().eval().requires_grad_(False), torch.rand(16, 3, 12, 12)
    with torch.no_grad():
        found = convert_gradients(model, model, images).class_gradients(images)
    rounded = gradients_by_autograd(LogitModel(model, torch.bfloat16), images)
    expected = gradients_by_autograd(model, images)
    assert relative_error(found, expected) < relative_error(rounded, expected) + 0.05


@needs_vnni
@pytest.mark.parametrize("name", slow_unless((), ["resnet50", "cifar_resnet20", "fer_resnet", "fer_vgg", "googlenet"]))
def test_models_in_8_bits(name, monkeypatch):
    """Random networks magnify every rounding, so bfloat16's error is the measure."""
    monkeypatch.setattr(quantization, "MOST_OTHERS", 9)
    model, spec = frozen_copy(make_classifier(name)), small_spec(name)
    images = random_faces(16, spec.image_size, spec.channels)
    with torch.no_grad():
        found = convert_gradients(model, model, images).class_gradients(images)
    expected = gradients_by_autograd(model, images)
    rounded = gradients_by_autograd(LogitModel(model, torch.bfloat16), images)
    assert relative_error(found, expected) < 2 * relative_error(rounded, expected) + 0.1


class Steep(Layers):
    """Gradients are ten thousand times as large for a bright face as for a dark one."""

    def forward(self, images):
        features = self.third(self.relu(self.second(self.relu(self.first(images)))))
        return features.mean((2, 3)) * images.mean((1, 2, 3)).detach()[:, None] ** 4


@needs_vnni
def test_small_gradients_are_as_exact_as_large_ones(monkeypatch):
    monkeypatch.setattr(quantization, "MOST_OTHERS", 9)
    torch.manual_seed(0)
    model = Steep().eval().requires_grad_(False)
    images = torch.cat([torch.rand(4, 3, 12, 12) / 10, torch.rand(4, 3, 12, 12)])
    with torch.no_grad():
        found = convert_gradients(model, model, images).class_gradients(images)
    expected = gradients_by_autograd(model, images)
    small, large = expected[:, :4], expected[:, 4:]
    assert small.norm() < 1e-3 * large.norm()
    assert relative_error(found[:, :4], small) < 0.15
    assert relative_error(found[:, 4:], large) < 0.15


@needs_vnni
@pytest.mark.parametrize(
    "name", slow_unless(("googlenet",), ["efficientnet_b0", "googlenet", "timm/vit_small_patch16_224"])
)
def test_networks_that_gain_nothing_are_refused(name):
    classifier, images = make_classifier(name), random_faces(4, 64, small_spec(name).channels)
    with pytest.raises(UserError, match=r"8 bits gain nothing for the gradients of .*; leave --int8 out"):
        quantize_gradients(LogitModel(classifier), classifier, images)


@needs_vnni
def test_gradients_that_change_too_much_are_refused(monkeypatch):
    monkeypatch.setattr(quantization, "GRADIENT_TOLERANCE", 1e-3)
    classifier, images = make_classifier("mini_resnet"), random_faces(8, 48)
    with pytest.raises(UserError, match="change too much in 8 bits; leave --int8 out"):
        quantize_gradients(LogitModel(classifier), classifier, images)


@needs_vnni
def test_how_many_images_come_at_once_changes_nothing():
    torch.manual_seed(0)
    model, images = Strided().eval().requires_grad_(False), torch.rand(19, 3, 12, 12)
    network = quantize_gradients(LogitModel(model), model, images)
    assert torch.equal(network(images), model(images))
    whole = network.class_gradients(images)
    alone = torch.cat([network.class_gradients(image[None]) for image in images], 1)
    assert relative_error(alone, whole) < 0.01


def test_a_mask_means_the_same_in_8_bits_and_in_floating_point():
    torch.manual_seed(0)
    mask = shown(torch.randn(2, 3, 4, 4).relu())
    numbers = torch.randint(0, 256, (6, 3, 4, 4), dtype=torch.uint8)
    for zero in (0, 128, 131):
        found = let_through(numbers.clone(), mask, zero).float() - zero
        assert torch.equal(found, let_through(numbers.float() - zero, mask))
    values = torch.tensor([-0.0, 0.0, 1e-30, 3.0])
    assert shown(values).tolist() == shown(values.bfloat16()).tolist() == [0, 0, 255, 255]


def test_images_on_the_way_from_one_to_another():
    images = torch.arange(3.0).view(3, 1, 1, 1)
    assert between(images).flatten().tolist() == [0.0, 0.5, 1.0]


@needs_vnni
def test_shap_in_8_bits_ranks_the_same(tiny_run):
    shared = {"model": tiny_run.model, "dataset": tiny_run.dataset, "tag": tiny_run.tag}
    maps = []
    for int8 in (False, True):
        settings = explain_shap.ExplainShap(
            **shared,
            outputs_dir=tiny_run.outputs_dir,
            samples=5,
            bg_samples=10,
            shap_samples=50,
            int8=int8,
            device="cpu",
            figures=False,
        )
        summary = explain_shap.explain(settings)
        assert summary["settings"]["int8"] == int8
        with np.load(tiny_run.explanation_maps("shap")) as saved:
            maps.append(saved["maps"].astype(np.float32))
    ranks = [spearmanr(first.ravel(), second.ravel()).statistic for first, second in zip(*maps, strict=True)]
    assert 0.95 < np.mean(ranks) < 1


@needs_vnni
def test_int8_in_float32_is_refused(tiny_run):
    shared = {"model": tiny_run.model, "dataset": tiny_run.dataset, "tag": tiny_run.tag}
    settings = explain_shap.ExplainShap(**shared, outputs_dir=tiny_run.outputs_dir, int8=True, amp=False, device="cpu")
    with pytest.raises(UserError, match="--int8 needs an x86 processor with VNNI, and not --no-amp"):
        explain_shap.explain(settings)
