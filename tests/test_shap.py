"""explanations/shap.py: known answers, agreement with shap on the same samples, error of systematic sampling."""

import numpy as np
import pytest
import torch
from shap import GradientExplainer

from ferlib.explanations import shap
from ferlib.explanations.methods import METHODS
from ferlib.explanations.shap import PathSamples, expected_gradients, make_background, sample_paths
from ferlib.inference.logit_model import LogitModel

SETTINGS = {"num_samples": 60, "batch_size": 50}
TARGET, SIDE, CORNER = 2, 12, 4
ONE_HOT = torch.eye(7)


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


def make_network(channels=1):
    """A small convolutional network with batch norm and in-place activations."""
    torch.manual_seed(0)
    layers = [
        torch.nn.Conv2d(channels, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU(inplace=True),
        torch.nn.Conv2d(8, 8, 3), torch.nn.ReLU(inplace=True), torch.nn.Flatten(), torch.nn.Linear(512, 7),
    ]  # fmt: skip
    return torch.nn.Sequential(*layers)


def random_faces(count, channels=1, seed=0, scale=1.0):
    return scale * torch.rand(count, channels, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def explain(network, images, background, target=ONE_HOT[TARGET], seed=0):
    """The attribution of one face."""
    model = LogitModel(network)
    faces = make_background(model, background, batch_size=50)
    return shap.explain(model, images, target[None], seeds=[seed], background=faces, **SETTINGS)[0]


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
    """Exactly so, as every background face is sampled equally often."""
    images, background = random_faces(1, channels, seed=1), random_faces(4, channels)
    network = Linear(channels)
    result = explain(network, images, background)
    weight = network.weight[TARGET].detach().view(channels, SIDE, SIDE)
    expected = (weight * (images[0] - background.mean(0))).sum(0).numpy()
    assert np.allclose(result.map, expected, atol=1e-5)
    assert result.facts["logit_above_background"] == pytest.approx(expected.sum(), abs=1e-4)
    assert np.allclose(result.facts["completeness_gaps"], 0, atol=1e-4)


def sample_as_shap(faces, count, background, seed):
    """shap takes one background face and one share at a time from numpy's legacy generator."""
    random = np.random.RandomState(seed)
    pairs = [[(random.choice(background), random.uniform()) for _ in range(count)] for _ in range(faces)]
    return [PathSamples(*(np.array(column) for column in zip(*each, strict=True))) for each in pairs]


@pytest.mark.parametrize("channels", [1, 3])
def test_the_same_samples_give_the_values_of_shap(channels):
    model, count = LogitModel(make_network(channels)), 40
    images, background = random_faces(2, channels, seed=1), random_faces(6, channels)
    theirs = GradientExplainer(model, background).shap_values(images, nsamples=count, rseed=3)
    samples = sample_as_shap(2, count, 6, seed=3)
    ours = expected_gradients(model, images, background, samples, batch_size=32).numpy()
    expected = theirs.sum(1).transpose(0, 3, 1, 2)
    assert np.abs(ours - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize(("count", "background"), [(30, 7), (21, 7), (3, 7), (7, 7), (5, 1)])
def test_samples_are_balanced_and_equidistant(count, background):
    samples = sample_paths(count, background, seed=0)
    assert len(samples.rows) == len(samples.shares) == count
    assert samples.shares.min() >= 0
    assert samples.shares.max() < 1
    times = np.bincount(samples.rows, minlength=background)
    assert np.ptp(times) == bool(count % background)
    for face in range(background):
        own = np.sort(samples.shares[samples.rows == face])
        assert np.allclose(np.diff(own), 1 / max(len(own), 1)), "samples of a background face at unequal distances"
    for each in set(times) - {0}:
        group = samples.shares[times[samples.rows] == each]
        assert sorted((group * len(group)).astype(int)) == list(range(len(group)))


def test_samples_depend_on_the_seed_alone():
    first, second, other = (sample_paths(30, 7, seed) for seed in (0, 0, 1))
    assert (first.rows == second.rows).all()
    assert (first.shares == second.shares).all()
    assert (first.shares != other.shares).any()


def test_systematic_samples_err_less_than_independent_ones():
    model, images, background = LogitModel(make_network()), random_faces(1, seed=1), random_faces(5)
    exact = expected_gradients(model, images, background, [sample_paths(4000, 5, seed=9)], 1000)

    def error(sample):
        found = [expected_gradients(model, images, background, [sample(seed)], 1000) for seed in range(20)]
        return torch.stack([(values - exact).square().mean() for values in found]).mean()

    def independent(seed):
        rng = np.random.default_rng(seed)
        return PathSamples(rng.integers(0, 5, 50), rng.random(50, dtype=np.float32))

    assert error(lambda seed: sample_paths(50, 5, seed)) < 0.2 * error(independent)


def test_completeness_gaps_are_the_errors_of_the_sums():
    model, images, background = LogitModel(make_network()), random_faces(1, seed=1), random_faces(8)
    result = explain(make_network(), images, background)
    rise = (model(images) - model(background).mean(0))[0].numpy()
    sums = result.arrays["class_maps"].astype(np.float32).sum((1, 2))
    assert np.allclose(result.facts["logits_above_background"], rise, atol=1e-5)
    assert np.allclose(result.facts["completeness_gaps"], sums - rise, atol=2e-2)


def test_stated_errors_are_those_of_repeated_sampling():
    """Root mean squares over runs of the difference from the exact map, and from that of other backgrounds."""
    network, images, background = make_network(), random_faces(1, seed=1), random_faces(12)
    model = LogitModel(network)
    exact = expected_gradients(model, images, background, [sample_paths(6000, 12, seed=9)], 1000)[0, TARGET].numpy()
    found = [explain(network, images, background, seed=seed) for seed in range(20)]
    actual = np.sqrt(np.mean([np.square(each.map - exact) for each in found]) / np.square(exact).mean())
    stated = np.sqrt(np.mean([each.facts["sampling_error"] ** 2 for each in found]))
    assert 0.75 < stated / actual < 1.33
    others = [explain(network, images, random_faces(12, seed=20 + seed), seed=seed) for seed in range(20)]
    spread = np.std([each.map for each in others], axis=0, ddof=1)
    actual = np.sqrt(np.square(spread).mean() / np.square(exact).mean())
    stated = np.sqrt(np.mean([each.facts["background_error"] ** 2 for each in others]))
    assert 0.7 < stated / actual < 1.4


def test_errors_need_two_samples_and_two_background_faces():
    model, images = LogitModel(make_network()), random_faces(1, seed=1)
    for count, size, missing in ((1, 5, {"sampling_error", "background_error"}), (8, 1, {"background_error"})):
        settings = {"background": make_background(model, random_faces(size), 50), "num_samples": count}
        (found,) = shap.explain(model, images, ONE_HOT[[TARGET]], seeds=[0], **settings)
        assert {name for name, value in found.facts.items() if value is None} == missing
    assert METHODS["shap"].doubts({"sampling_error": None})
    assert METHODS["shap"].doubts({"sampling_error": 0.8}).startswith("Too noisy to read")
    assert not METHODS["shap"].doubts({"sampling_error": 0.2})


def test_a_large_background_error_is_a_caution_and_no_doubt():
    facts = {"sampling_error": 0.2, "background_error": 0.62}
    assert METHODS["shap"].describe("Fear", facts) == (
        "Caution: with other background faces the values would differ by 62 % of their size; "
        "more of them reduce that (--bg-samples)."
    )
    assert not METHODS["shap"].doubts(facts)
    for error in (0.4, None):
        assert not METHODS["shap"].describe("Fear", facts | {"background_error": error})


@pytest.mark.parametrize(("count", "background"), [(60, 50), (130, 50), (21, 7), (3, 7), (1, 1)])
def test_weights_of_samples_are_equal_for_background_faces(count, background):
    halves = shap.draw_halves(count, background, seed=3)
    assert halves.totals().sum() == pytest.approx(1)
    assert len(halves.weights) == len(halves.groups) == len(halves.samples.rows) == count
    if count >= 2 * background:
        assert np.allclose(np.bincount(halves.samples.rows, halves.weights), 1 / background)


def test_a_contrast_is_the_difference_of_two_classes():
    images, background = random_faces(1, seed=1), random_faces(8)
    both = explain(make_network(), images, background, ONE_HOT[2] - ONE_HOT[5])
    one, other = (explain(make_network(), images, background, ONE_HOT[label]) for label in (2, 5))
    assert np.allclose(both.map, one.map - other.map, atol=1e-6)


def test_faces_do_not_depend_on_their_batch():
    model, images = LogitModel(make_network()), random_faces(3, seed=1)
    settings = {"background": make_background(model, random_faces(8), 50), **SETTINGS}
    targets = ONE_HOT[[1, 2, 3]]
    together = shap.explain(model, images, targets, seeds=[4, 5, 6], **settings)
    alone = shap.explain(model, images[1:2], targets[1:2], seeds=[5], **settings)
    assert np.allclose(together[1].map, alone[0].map, atol=1e-6)


def test_same_seed_same_map_other_seed_other_map():
    images, background = random_faces(1, seed=1), random_faces(8)
    first, again = (explain(make_network(), images, background, seed=1).map for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, explain(make_network(), images, background, seed=2).map)


def test_shap_gives_one_map_per_face():
    maps = shap.shap(Linear(1), random_faces(2, seed=1), ONE_HOT[[0, 6]], background=random_faces(8), num_samples=60)
    assert maps.shape == (2, SIDE, SIDE)
    assert maps.dtype == np.float32


def test_in_place_activations_and_batch_norm_are_explained():
    result = explain(make_network(), random_faces(1, seed=1), random_faces(8))
    assert np.isfinite(result.map).all()
    assert result.map.any()
