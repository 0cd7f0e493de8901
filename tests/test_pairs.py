"""explanations/pairs.py: balance of the masks, operators against sums over all masks, errors against plain sampling."""

import itertools
from math import factorial

import numpy as np
import pytest
from scipy.stats import binom

from ferlib.explanations import lime
from ferlib.explanations.kernel_shap import draw_by_leverage, size_probabilities, solve
from ferlib.explanations.pairs import balanced_masks, estimate_effects, mixture, regression_operator, shapley_operator

REGIONS = 16
TARGET = np.ones(1)


def all_masks(regions):
    return np.array(list(itertools.product([0, 1], repeat=regions)), np.uint8)


def game(masks):
    """A saturating function M×1 of a sum over 16 regions, a few of them strong, as networks' probabilities are."""
    rng = np.random.default_rng(0)
    effects = rng.normal(size=REGIONS) * np.repeat([1.5, 0.3], [4, 12])
    signs = 2.0 * masks - 1
    return 1 / (1 + np.exp(-(signs @ effects)[:, None] - 0.8 * signs[:, :1] * signs[:, 1:2] - 0.5))


@pytest.mark.parametrize("regions", [3, 7, 16, 31])
def test_any_three_regions_are_shown_in_all_ways_equally_often(regions):
    order = 2 ** int(np.ceil(np.log2(regions + 1)))
    masks = balanced_masks(0, 2 * order, regions, seed=1)
    assert (masks[::2] + masks[1::2] == 1).all()
    for three in itertools.islice(itertools.combinations(range(regions), 3), 50):
        codes = masks[:, three] @ [1, 2, 4]
        assert (np.bincount(codes, minlength=8) == order // 4).all()


def test_masks_are_a_sequence_of_the_seed():
    whole = balanced_masks(0, 150, 20, seed=5)
    assert whole.shape == (150, 20)
    parts = [balanced_masks(*ends, 20, seed=5) for ends in ((0, 10), (10, 64), (64, 64), (64, 131), (131, 150))]
    assert np.array_equal(np.concatenate(parts), whole)
    assert not np.array_equal(balanced_masks(0, 150, 20, seed=6), whole)
    assert not np.array_equal(whole[:64], whole[64:128])


@pytest.mark.parametrize("regions", [1, 2, 5, 8])
def test_the_operators_are_sums_over_all_masks(regions):
    rng, masks = np.random.default_rng(regions), all_masks(regions)
    relevance, signs = rng.random(regions) / 2, rng.choice([-1.0, 1.0], (3, regions))
    sections = np.exp(((2.0 * masks - 1) * relevance) @ signs.T - relevance.sum())
    weights = lime.size_weights(regions)[masks.sum(1)]
    design = np.c_[np.ones(len(masks)), masks]
    exact = np.linalg.solve((design * weights[:, None]).T @ design, (design * weights[:, None]).T @ sections)[1:]
    assert np.allclose(regression_operator(signs, relevance, lime.size_weights), exact.T, atol=1e-6)
    assert np.allclose(shapley_operator(signs, relevance), shapley_values(masks, sections).T)


def shapley_values(masks, outputs):
    """Shapley (1953): of all masks in the order of counting."""
    regions = masks.shape[1]
    values = np.zeros((regions, outputs.shape[1]))
    for region in range(regions):
        without = np.flatnonzero(masks[:, region] == 0)
        sizes = masks[without].sum(1)
        shares = np.array([factorial(int(k)) * factorial(regions - int(k) - 1) / factorial(regions) for k in sizes])
        values[region] = shares @ (outputs[without + 2 ** (regions - region - 1)] - outputs[without])
    return values


@pytest.mark.parametrize("regions", [22, 64, 180])
def test_a_mixture_of_shares_has_the_weights_of_sizes(regions):
    shares, weights = mixture(regions, lime.size_weights)
    sizes = np.arange(regions + 1)
    wanted = binom.pmf(sizes, regions, 0.5) * lime.size_weights(regions)
    found = sum(weight * binom.pmf(sizes, regions, share) for share, weight in zip(shares, weights, strict=True))
    assert np.abs(found - wanted / wanted.sum()).sum() < 1e-3


def estimate(seed, count, operator=lime.OPERATOR, ridge=1e-9):
    masks = balanced_masks(0, count, REGIONS, seed)
    return estimate_effects(masks, game(masks), TARGET, operator, ridge)


def test_a_linear_function_is_recovered():
    masks = balanced_masks(0, 64, REGIONS, seed=0)
    effects = np.arange(REGIONS, dtype=float)
    for operator in (lime.OPERATOR, shapley_operator):
        found = estimate_effects(masks, (masks @ effects)[:, None] + 3, TARGET, operator, 1e-9)
        assert np.allclose(found.values[:, 0], effects, atol=1e-6)
        assert np.allclose(found.errors, 0, atol=1e-6)


def exact_weights():
    """LIME's weights of the game, from all masks."""
    masks = all_masks(REGIONS)
    weights = lime.proximity(masks)
    design = np.c_[np.ones(len(masks)), masks]
    return np.linalg.solve((design * weights[:, None]).T @ design, (design * weights[:, None]).T @ game(masks))[1:, 0]


def test_paired_masks_need_fewer_passes_and_state_their_errors():
    """Mean square errors against the exact weights: ours of 256 masks, plain sampling of 1.8 times as many."""
    exact, plain = exact_weights(), []
    for seed in range(40):
        masks = np.random.default_rng(seed).integers(0, 2, (460, REGIONS))
        plain.append(lime.fit_surrogate(masks.astype(float), game(masks), TARGET).weights[:, 0])
    found = [estimate(seed, 256, ridge=4.0) for seed in range(40)]
    ours = np.array([each.values[:, 0] for each in found])
    assert np.square(ours - exact).mean() < np.square(np.array(plain) - exact).mean()
    stated = np.sqrt(np.mean([each.errors**2 for each in found]))
    assert 0.6 < np.sqrt(np.square(ours - exact).mean()) / stated < 1.2


def test_shapley_values_need_a_third_of_the_passes():
    masks = all_masks(REGIONS)
    exact = shapley_values(masks, game(masks))[:, 0]
    whole, hidden = game(np.ones((1, REGIONS)))[0], game(np.zeros((1, REGIONS)))[0]
    plain, ours = [], []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        ranks = rng.random((600, REGIONS)).argsort(1).argsort(1)
        sizes = rng.choice(np.arange(1, REGIONS), 600, p=size_probabilities(REGIONS))
        drawn = (ranks < sizes[:, None]).astype(np.uint8)
        plain.append(solve(drawn, game(drawn), np.ones(600), whole, hidden)[:, 0])
        drawn = np.concatenate([balanced_masks(0, 100, REGIONS, seed), draw_by_leverage(100, REGIONS, rng)])
        ours.append(estimate_effects(drawn, game(drawn), TARGET, shapley_operator, 1e-6).values[:, 0])
    assert np.square(np.array(ours) - exact).mean() < np.square(np.array(plain) - exact).mean()
