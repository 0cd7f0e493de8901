"""Explanations of networks that have other classes than the seven emotions."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ferlib.explanations.cam import cam
from ferlib.explanations.gradients import gradient_map
from ferlib.explanations.kernel_shap import kernel_shap
from ferlib.explanations.lime import lime
from ferlib.explanations.occlusion import occlusion
from ferlib.explanations.shap import shap
from ferlib.explanations.targets import target_weights


@pytest.fixture(params=[3, 10])
def model(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    layers = (nn.Conv2d(1, 4, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(*layers, nn.Linear(4, request.param)).eval()


@pytest.fixture
def images(generator: torch.Generator) -> torch.Tensor:
    return torch.rand(2, 1, 16, 16, generator=generator)


def test_classes_become_weights_of_the_models_outputs(model: nn.Module, images: torch.Tensor) -> None:
    weights = target_weights(model, images, torch.tensor([2, 0]))
    assert weights.shape == (2, model(images).shape[1])
    assert weights.argmax(1).tolist() == [2, 0]
    assert weights.sum(1).tolist() == [1, 1]
    torch.testing.assert_close(target_weights(model, images, 2 * weights), 2 * weights)


def test_methods_explain_networks_with_any_number_of_classes(model: nn.Module, images: torch.Tensor) -> None:
    targets = torch.tensor([2, 0])
    quarters = torch.arange(4).repeat_interleave(4).repeat(16, 1).numpy()
    maps = [
        lime(model, images, targets, segments=quarters, num_samples=20),
        kernel_shap(model, images, targets, segments=quarters, num_samples=20),
        shap(model, images, targets, background=images, num_samples=4),
        cam(model, images, targets, kind="gradcam", layer=model[0]),
        gradient_map(model, images, targets, kind="integrated_gradients", steps=4),
        occlusion(model, images, targets, window=0.5, stride=0.5),
    ]
    assert all(each.shape == (2, 16, 16) for each in maps)
