"""explanations/kernel_shap.py: exact Shapley values from all masks, and from random ones as their number grows."""

import itertools
from math import factorial

import numpy as np
import pytest
import torch

from ferlib.explanations.kernel_shap import (
    add_shapley_values,
    draw_by_leverage,
    draw_masks,
    kernel_shap,
    mixture_weights,
    size_probabilities,
    solve,
)
from ferlib.explanations.perturbations import predict_perturbations, segment_faces

REGIONS = 6
ALL = np.array(list(itertools.product([0, 1], repeat=REGIONS)), dtype=np.uint8)


def game(masks):
    """Two outputs with interactions: masks M×REGIONS → M×2."""
    z = masks.astype(float)
    first = z @ np.arange(REGIONS) + 3 * z[:, 0] * z[:, 1] - 2 * z[:, 2] * z[:, 3] * z[:, 4]
    return np.stack([first, np.sin(z.sum(1) + z[:, 5])], 1)


def exact_values():
    """The definition (Shapley, 1953): mean contribution over all orders."""
    values = np.zeros((REGIONS, 2))
    for region in range(REGIONS):
        for others in ALL[ALL[:, region] == 0]:
            size, joined = int(others.sum()), others.copy()
            joined[region] = 1
            share = factorial(size) * factorial(REGIONS - size - 1) / factorial(REGIONS)
            values[region] += share * (game(joined[None]) - game(others[None]))[0]
    return values


def ends():
    return game(np.ones((1, REGIONS)))[0], game(np.zeros((1, REGIONS)))[0]


def test_all_masks_give_the_exact_values():
    found = solve(ALL, game(ALL), mixture_weights(ALL, uniform=len(ALL), own=0), *ends())
    assert np.allclose(found, exact_values(), atol=1e-6)


@pytest.mark.parametrize(("uniform", "own"), [(40_000, 0), (0, 40_000), (20_000, 20_000)])
def test_random_masks_give_them_too(uniform, own):
    rng = np.random.default_rng(0)
    masks = np.concatenate([rng.integers(0, 2, (uniform, REGIONS), dtype=np.uint8), draw_masks(own, REGIONS, rng)])
    found = solve(masks, game(masks), mixture_weights(masks, uniform, own), *ends())
    assert np.abs(found - exact_values()).max() < 0.05
    assert np.allclose(found.sum(0), np.subtract(*ends()))


def test_masks_come_in_pairs_of_complements_of_the_kernels_sizes():
    masks = draw_masks(20_001, REGIONS, np.random.default_rng(0))
    assert masks.shape == (20_001, REGIONS)
    assert (masks[:-1:2] + masks[1::2] == 1).all()
    sizes = np.bincount(masks.sum(1), minlength=REGIONS + 1)
    assert sizes[0] == sizes[REGIONS] == 0
    assert np.allclose(sizes[1:REGIONS] / len(masks), size_probabilities(REGIONS), atol=0.015)
    assert np.allclose(masks.mean(0), 0.5, atol=0.01)


def test_masks_by_leverage_have_all_sizes_equally_often_and_divide_the_regions():
    masks = draw_by_leverage(200, 11, np.random.default_rng(0))
    assert (masks[::2] + masks[1::2] == 1).all()
    assert np.bincount(masks.sum(1), minlength=12)[1:-1] == pytest.approx(20, abs=2)
    single = masks[masks.sum(1) == 1]
    assert len(single) == 20
    assert np.ptp(single.sum(0)) <= 1
    assert len(draw_by_leverage(7, 11, np.random.default_rng(0))) == 7


def test_a_single_region_gets_the_whole_difference():
    masks = np.concatenate([np.ones((3, 1), np.uint8), draw_masks(4, 1, np.random.default_rng(0))])
    weights = mixture_weights(masks, 3, 4)
    assert solve(masks, np.ones((3, 2)), weights, np.array([0.9, 0.1]), np.array([0.2, 0.3])).tolist() == [
        pytest.approx([0.7, -0.2])
    ]


class Corners(torch.nn.Module):
    """Logits of three classes from the means of the four quarters of a face, with an interaction of the first two."""

    def forward(self, images):
        upper, lower = (half.split(4, 3) for half in images.split(4, 2))
        first, second, third, fourth = (quarter.mean((1, 2, 3)) for quarter in (*upper, *lower))
        return torch.stack([3 * first * second, 2 * third, fourth], 1)


@pytest.mark.parametrize(
    ("baseline", "sampling", "count"),
    [("black", "paired", 40), ("grey", "paired", 12), ("grey", "independent", 4000), (0.25, "independent", 14)],
)
def test_shapley_values_of_a_face_are_those_of_all_masks(baseline, sampling, count):
    """Exactly so where there are no more masks than are asked for."""
    faces = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    segments = np.kron([[0, 1], [2, 3]], np.ones((4, 4), int))
    options = {"segments": segments, "num_samples": count, "sampling": sampling, "baseline": baseline}
    found = kernel_shap(Corners(), faces, torch.tensor([0, 1]), batch_size=500, **options)
    assert found.shape == (2, 8, 8)
    assert found.dtype == np.float32
    masks = np.array(list(itertools.product([0, 1], repeat=4)))
    tolerance = 5e-3 if count == 12 else 1e-5
    level = {"black": 0.0, "grey": 0.5}.get(baseline, baseline)
    for face, label, values in zip(faces, (0, 1), found, strict=True):
        shown = torch.from_numpy(masks[:, segments]).float()[:, None]
        outputs = Corners()(shown * face + (1 - shown) * level).softmax(1).double().numpy()[:, label]
        exact = [exact_value(masks, outputs, region) for region in range(4)]
        assert np.allclose(values, np.array(exact)[segments], atol=tolerance)
        assert values[::4, ::4].sum() == pytest.approx(outputs[-1] - outputs[0], abs=1e-5)


@pytest.mark.parametrize("sampling", ["paired", "independent"])
def test_standard_errors_are_the_spread_over_seeds(sampling):
    """Of sixteen regions from 82 masks; with all masks the values are exact and the errors 0."""
    image = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(3))
    segments = np.arange(16).reshape(4, 4).repeat(2, 0).repeat(2, 1)
    target, drawn = np.eye(3)[:1], []
    for seed in range(60):
        faces = list(segment_faces(image, [seed], segments, "black", 3))
        faces[0].draw_masks(42, sampling)
        predict_perturbations(Corners(), faces, 500)
        drawn += add_shapley_values(Corners(), faces, target, 40, 500)
    spread = np.std([each.values @ target[0] for each in drawn], axis=0, ddof=1)
    stated = np.sqrt(np.mean([each.errors**2 for each in drawn], axis=0))
    assert 0.8 < np.sqrt(np.mean(stated**2) / np.mean(spread**2)) < 1.6
    (exact,) = add_shapley_values(Corners(), faces, target, 2**16, 500)
    assert exact.error(target[0], faces[0].segments) == 0
    assert drawn[0].error(target[0], faces[0].segments) == pytest.approx(
        np.linalg.norm(drawn[0].errors) / np.linalg.norm(drawn[0].values @ target[0])
    )


def exact_value(masks, outputs, region):
    """Shapley (1953): the mean contribution of a region over all orders."""
    table = {tuple(mask): output for mask, output in zip(masks.tolist(), outputs, strict=True)}
    total = 0.0
    for mask in masks[masks[:, region] == 0].tolist():
        size, joined = sum(mask), [*mask[:region], 1, *mask[region + 1 :]]
        share = factorial(size) * factorial(len(mask) - size - 1) / factorial(len(mask))
        total += share * (table[tuple(joined)] - table[tuple(mask)])
    return total
