"""inference/reversed_graph.py, inference/openvino_gradients.py: gradients by OpenVINO against those by autograd."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from torch import nn

pytest.importorskip("openvino")

from ferlib.explanations.shap import shap
from ferlib.inference.class_gradients import class_gradients
from ferlib.inference.folding import frozen_copy
from ferlib.inference.logit_model import LogitModel
from ferlib.inference.openvino_gradients import openvino_gradients
from ferlib.inference.reversed_graph import NotReversibleError
from zoo import make_classifier, random_faces, slow_unless, small_spec

REVERSIBLE = ("alexnet", "fer_vgg", "fer_resnet", "resnet50", "googlenet", "efficientnet_b0", "densenet121")


class Layers(nn.Module):
    """A few layers: images N×3×H×W → N×7."""

    def __init__(self, *layers: nn.Module):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), *layers, nn.Conv2d(8, 7, 1))

    def forward(self, images):
        return self.layers(images).mean((2, 3))


class Cosines(Layers):
    """An operation without a rule."""

    def forward(self, images):
        return self.layers(images).cos().mean((2, 3))


class Excited(Layers):
    """Squeeze and excitation: a product that broadcasts over pixels."""

    def forward(self, images):
        features = F.silu(self.layers[0](images))
        return self.layers[-1](features * features.mean((2, 3), keepdim=True).sigmoid()).mean((2, 3))


LAYERS = {
    "convolution": lambda: nn.Conv2d(8, 8, 3, padding=1),
    "strided": lambda: nn.Conv2d(8, 8, 3, 2, padding=1),
    "strided, one tap": lambda: nn.Conv2d(8, 8, 1, 2),
    "much padding": lambda: nn.Conv2d(8, 8, 2, padding=2),
    "dilated": lambda: nn.Conv2d(8, 8, 3, dilation=2),
    "depthwise": lambda: nn.Conv2d(8, 8, 3, padding=1, groups=8),
    "depthwise, strided": lambda: nn.Conv2d(8, 8, 3, 2, padding=1, groups=8),
    "grouped": lambda: nn.Conv2d(8, 8, 3, padding=1, groups=2),
    "max pooling": lambda: nn.MaxPool2d(2),
    "max pooling, overlapping": lambda: nn.MaxPool2d(3, 2, 1),
    "max pooling, every pixel": lambda: nn.MaxPool2d(3, 1, 1),
    "max pooling, ceil": lambda: nn.MaxPool2d(3, 2, ceil_mode=True),
    "max pooling, gaps": lambda: nn.MaxPool2d(1, 2),
    "average pooling": lambda: nn.AvgPool2d(2),
    "average pooling, ceil": lambda: nn.AvgPool2d(2, ceil_mode=True),
}


def convert(model, images, precision="float32"):
    return openvino_gradients(model, model, images, precision, threads=1)


def relative_error(model, images, precision="float32"):
    found, expected = convert(model, images, precision).class_gradients(images), expect(model, images)
    assert found.shape == expected.shape
    assert expected.any()
    return ((found - expected).norm() / expected.norm()).item()


def expect(model, images):
    """By autograd, in float64."""
    return torch.stack(list(class_gradients(frozen_copy(model).double(), images.double()))).float()


@pytest.mark.parametrize("side", [12, 13])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_exact(name, side):
    assert relative_error(frozen_copy(Layers(LAYERS[name]())), random_faces(3, side, 3)) < 1e-5


def test_excitation_is_exact():
    assert relative_error(frozen_copy(Excited()), random_faces(2, 12, 3)) < 1e-5


@pytest.mark.parametrize("name", ["max pooling", "max pooling, overlapping", "max pooling, every pixel"])
def test_of_equal_pixels_the_first_gets_the_gradient(name):
    """In an area of one colour all pixels are the largest of their windows."""
    assert relative_error(frozen_copy(Layers(LAYERS[name]())), torch.full((1, 3, 12, 12), 0.5)) < 1e-5


@pytest.mark.parametrize("name", slow_unless(("fer_resnet",), REVERSIBLE))
def test_models_are_exact(name):
    spec = small_spec(name)
    images = random_faces(2, spec.image_size, spec.channels)
    assert relative_error(frozen_copy(make_classifier(name)), images) < 1e-3


def test_operations_without_a_rule_are_refused():
    with pytest.raises(NotReversibleError, match="no rule for Cos"):
        convert(frozen_copy(Cosines()), random_faces(1, 12, 3))


def test_shap_is_that_of_autograd_in_both_precisions():
    """The gradients replace those of the model in shap."""
    classifier = frozen_copy(make_classifier("fer_resnet"))
    model, images = LogitModel(classifier), random_faces(6, small_spec("fer_resnet").image_size)
    arguments = images[:2], torch.tensor([0, 3])
    expected = shap(model, *arguments, background=images[2:], num_samples=8)
    for precision, tolerance, least in (("float32", 1e-4, 0.9999), ("bfloat16", 0.5, 0.9)):
        network = openvino_gradients(model, classifier, images, precision, threads=1)
        found = shap(network, *arguments, background=images[2:], num_samples=8)
        assert np.linalg.norm(found - expected) < tolerance * np.linalg.norm(expected)
        assert spearmanr(found.ravel(), expected.ravel()).statistic > least
    assert torch.equal(network(images), model(images))
