"""kernel_shap.py: exact Shapley values from all sets, and from random ones as their number grows."""

import itertools
from math import factorial

import numpy as np
import pytest

from ferlib.explanations.kernel_shap import draw_sets, mixture_weights, size_probabilities, solve

REGIONS = 6
ALL = np.array(list(itertools.product([0, 1], repeat=REGIONS)), dtype=np.uint8)


def game(shown):
    """Two outputs with interactions: draws×2."""
    z = shown.astype(float)
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


def test_all_sets_give_the_exact_values():
    found = solve(ALL, game(ALL), mixture_weights(ALL, uniform=len(ALL), own=0), *ends())
    assert np.allclose(found, exact_values(), atol=1e-6)


@pytest.mark.parametrize(("uniform", "own"), [(40_000, 0), (0, 40_000), (20_000, 20_000)])
def test_random_sets_give_them_too(uniform, own):
    rng = np.random.default_rng(0)
    sets = [rng.integers(0, 2, (uniform, REGIONS), dtype=np.uint8), draw_sets(own, REGIONS, rng)]
    shown = np.concatenate(sets)
    found = solve(shown, game(shown), mixture_weights(shown, uniform, own), *ends())
    assert np.abs(found - exact_values()).max() < 0.05
    assert np.allclose(found.sum(0), np.subtract(*ends()))


def test_sets_come_in_pairs_of_complements_of_the_kernels_sizes():
    sets = draw_sets(20_001, REGIONS, np.random.default_rng(0))
    assert sets.shape == (20_001, REGIONS)
    assert (sets[:-1:2] + sets[1::2] == 1).all()
    sizes = np.bincount(sets.sum(1), minlength=REGIONS + 1)
    assert sizes[0] == sizes[REGIONS] == 0
    assert np.allclose(sizes[1:REGIONS] / len(sets), size_probabilities(REGIONS), atol=0.015)
    assert np.allclose(sets.mean(0), 0.5, atol=0.01)


def test_a_single_region_is_all_there_is():
    shown = np.concatenate([np.ones((3, 1), np.uint8), draw_sets(4, 1, np.random.default_rng(0))])
    weights = mixture_weights(shown, 3, 4)
    assert solve(shown, np.ones((3, 2)), weights, np.array([0.9, 0.1]), np.array([0.2, 0.3])).tolist() == [
        pytest.approx([0.7, -0.2])
    ]
