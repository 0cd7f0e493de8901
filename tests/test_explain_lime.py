import numpy as np
import pytest
import torch
from lime.lime_image import LimeImageExplainer

import config
import explain_lime
from explanations import LogitModel, predict_probabilities

SETTINGS = config.ExplainLime(lime_samples=300, batch_size=100)
TARGET, SIDE, CORNER = 2, 24, 8


class ReadsOneCorner(torch.nn.Module):
    """The brighter the upper left corner, the larger the logit of class TARGET; nothing else matters."""

    def forward(self, images):
        logits = torch.zeros(len(images), 7)
        logits[:, TARGET] = 8 * images[:, :, :CORNER, :CORNER].mean((1, 2, 3)) - 4
        return logits


def patchwork(channels=1):
    """1×C×SIDE×SIDE: patches of 4×4 pixels, bright in the corner and dark or middling elsewhere."""
    levels = np.random.default_rng(0).uniform(0, 0.6, (SIDE // 4, SIDE // 4))
    levels[: CORNER // 4, : CORNER // 4] = [[1.0, 0.8], [0.85, 0.95]]
    face = np.kron(levels, np.ones((4, 4), np.float32)).astype(np.float32)
    return torch.from_numpy(np.repeat(face[None, None], channels, axis=1))


def explain(images, seed=0, settings=SETTINGS):
    return explain_lime.explain_face(LogitModel(ReadsOneCorner()), images[0], TARGET, settings, seed)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_model_that_reads_a_corner_is_explained_by_the_corner(channels):
    result = explain(patchwork(channels))
    inside = result.map[:CORNER, :CORNER]
    assert np.abs(inside).sum() / np.abs(result.map).sum() > 0.8
    assert inside.mean() > 0
    assert result.facts["r2"] > 0.8
    assert result.map.dtype == np.float32


def test_the_other_classes_are_spoken_against():
    model = LogitModel(ReadsOneCorner())
    result = explain_lime.explain_face(model, patchwork()[0], 5, SETTINGS, 0)
    assert result.map[:CORNER, :CORNER].mean() < 0


def test_same_seed_same_map_other_seed_other_map():
    images = patchwork()
    assert np.array_equal(explain(images, seed=1).map, explain(images, seed=1).map)
    assert not np.array_equal(explain(images, seed=1).map, explain(images, seed=2).map)


def test_attribute_gives_one_map_per_face():
    images = torch.cat([patchwork(), patchwork().flip(3)])
    maps = explain_lime.attribute(LogitModel(ReadsOneCorner()), images, [TARGET, TARGET], SETTINGS)
    assert maps.shape == (2, SIDE, SIDE)
    assert maps.dtype == np.float32


@pytest.mark.parametrize("hide", [0.5, None])
def test_same_values_as_the_stock_explainer_on_the_same_draws(hide):
    image, settings = patchwork(3), config.ExplainLime(lime_samples=120, batch_size=50, hide_value=hide)
    ours = explain(image, seed=4, settings=settings)
    segments = ours.arrays["segments"]
    model = LogitModel(ReadsOneCorner())

    def classify(batch):
        return predict_probabilities(model, torch.from_numpy(batch).permute(0, 3, 1, 2).float())

    stock = LimeImageExplainer(random_state=4).explain_instance(
        image[0].permute(1, 2, 0).double().numpy(), classify, labels=(TARGET,), top_labels=None, hide_color=hide,
        num_samples=120, segmentation_fn=lambda _: segments, random_seed=0,
    )  # fmt: skip
    weights = dict(stock.local_exp[TARGET])
    expected = np.array([weights[region] for region in range(len(weights))])[segments]
    assert np.allclose(ours.map, expected, atol=1e-6)
    assert ours.facts["r2"] == pytest.approx(stock.score, abs=1e-6)


@pytest.mark.parametrize("side", [40, 48, 224])
def test_the_number_of_regions_does_not_depend_on_the_size_of_the_face(side):
    rows, columns = np.mgrid[:side, :side] / side
    face = (0.5 + 0.4 * np.sin(14 * rows) * np.cos(11 * columns))[..., None].astype(np.float32)
    segments = explain_lime.segment(face, SETTINGS, seed=0)
    assert segments.shape == (side, side)
    assert segments.dtype == np.int16
    assert np.array_equal(np.unique(segments), np.arange(segments.max() + 1))
    assert 35 < segments.max() + 1 < 45


def test_a_blank_face_is_explained_by_nothing_or_little():
    result = explain(torch.full((1, 1, SIDE, SIDE), 0.5))
    assert np.allclose(result.map, 0, atol=1e-6)
