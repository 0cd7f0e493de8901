import numpy as np
import pytest
import torch

import config
import explain_shap
from explanations import LogitModel

SETTINGS = config.ExplainShap(shap_samples=60, batch_size=50)
TARGET, SIDE, CORNER = 2, 12, 4


class ReadsOneCorner(torch.nn.Module):
    """The brighter the upper left corner, the larger the logit of class TARGET; nothing else matters."""

    def forward(self, images):
        logits = images.mean((1, 2, 3))[:, None] * torch.zeros(7)
        corner = images[:, :, :CORNER, :CORNER].mean((1, 2, 3))
        return logits + torch.relu(corner)[:, None] * torch.eye(7)[TARGET]


class Linear(torch.nn.Module):
    def __init__(self, channels):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = torch.nn.Parameter(torch.randn(7, channels * SIDE * SIDE, generator=generator))

    def forward(self, images):
        return images.flatten(1) @ self.weight.T


def random_faces(count, channels=1, seed=0, scale=1.0):
    return scale * torch.rand(count, channels, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def explain(network, images, background, target=TARGET, seed=0, settings=SETTINGS):
    return explain_shap.explain_faces(LogitModel(network), images, [target], [seed], background, settings)[0]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_model_that_reads_a_corner_is_explained_by_the_corner(channels):
    bright = 0.6 + 0.4 * random_faces(1, channels, seed=1)
    result = explain(ReadsOneCorner(), bright, random_faces(10, channels, scale=0.3))
    inside = result.map[:CORNER, :CORNER]
    assert np.abs(inside).sum() / np.abs(result.map).sum() > 0.8
    assert (inside > 0).all()
    assert result.map.dtype == np.float32
    assert result.arrays["class_maps"].shape == (7, SIDE, SIDE)
    assert result.arrays["class_maps"].dtype == np.float16
    assert np.allclose(result.arrays["class_maps"][TARGET], result.map, rtol=1e-3, atol=1e-6)
    assert not result.arrays["class_maps"][TARGET - 1].any()


@pytest.mark.parametrize("channels", [1, 3])
def test_a_linear_model_gives_weight_times_distance_from_the_mean_background(channels):
    images, background = random_faces(1, channels, seed=1), random_faces(4, channels)
    network, settings = Linear(channels), config.ExplainShap(shap_samples=1000, batch_size=500)
    result = explain(network, images, background, settings=settings)
    weight = network.weight[TARGET].detach().view(channels, SIDE, SIDE)
    expected = (weight * (images[0] - background.mean(0))).sum(0).numpy()
    assert np.abs(result.map - expected).max() < 0.05 * np.abs(expected).max()
    assert result.facts["logit_above_background"] == pytest.approx(expected.sum(), abs=1e-4)
    assert abs(result.facts["completeness_gap"]) < 0.05 * np.abs(expected).sum()


def test_one_background_face_leaves_no_gap_in_a_linear_model():
    result = explain(Linear(1), random_faces(1, seed=1), random_faces(1))
    assert result.facts["completeness_gap"] == pytest.approx(0, abs=1e-4)


def test_same_seed_same_map_other_seed_other_map():
    images, background = random_faces(1, seed=1), random_faces(8)
    first, again = (explain(Linear(1), images, background, seed=1).map for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, explain(Linear(1), images, background, seed=2).map)


def test_attribute_gives_one_map_per_face():
    images, background = random_faces(2, seed=1), random_faces(8)
    maps = explain_shap.attribute(LogitModel(Linear(1)), images, [0, 6], SETTINGS, background)
    assert maps.shape == (2, SIDE, SIDE)
    assert maps.dtype == np.float32


def test_in_place_activations_and_batch_norm_are_explained():
    layers = [torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(inplace=True), torch.nn.Flatten()]
    network = torch.nn.Sequential(*layers, torch.nn.Linear(400, 7))
    result = explain(network, random_faces(1, seed=1), random_faces(8))
    assert np.isfinite(result.map).all()
    assert result.map.any()
