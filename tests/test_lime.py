"""explanations/lime.py: known answers, agreement with lime on the same regions and masks, standard errors, stopping."""

import numpy as np
import pytest
import torch
from lime.lime_image import LimeImageExplainer
from sklearn.linear_model import Ridge

from ferlib.data.synthetic.faces import draw_faces
from ferlib.explanations import lime, pairs, superpixels
from ferlib.explanations.methods import METHODS
from ferlib.explanations.pairs import balanced_masks
from ferlib.explanations.perturbations import PerturbedFace, perturb, perturbed_faces, predict_perturbations
from ferlib.explanations.superpixels import segmenter
from ferlib.inference.logit_model import LogitModel

TARGET, SIDE, CORNER = 2, 24, 8
ONE_HOT = torch.eye(7)


class ReadsOneCorner(torch.nn.Module):
    """The brighter the upper left corner, the larger the logit of class TARGET; nothing else matters."""

    def forward(self, images):
        logits = torch.zeros(len(images), 7)
        logits[:, TARGET] = 8 * images[:, :, :CORNER, :CORNER].mean((1, 2, 3)) - 4
        return logits


class Mixed(torch.nn.Module):
    """Every class reads the whole face, each in a random way."""

    def forward(self, images):
        weight = torch.randn(SIDE * SIDE, 7, generator=torch.Generator().manual_seed(0))
        return torch.tanh(images[:, 0].flatten(1) @ weight / 4)


def patchwork(channels=1):
    """1×C×SIDE×SIDE: patches of 4×4 pixels, bright in the corner, darker elsewhere."""
    levels = np.random.default_rng(0).uniform(0, 0.6, (SIDE // 4, SIDE // 4))
    levels[: CORNER // 4, : CORNER // 4] = [[1.0, 0.8], [0.85, 0.95]]
    face = np.kron(levels, np.ones((4, 4), np.float32)).astype(np.float32)
    return torch.from_numpy(np.repeat(face[None, None], channels, axis=1))


def explain(images, target=ONE_HOT[TARGET], seed=0, network=None, **settings):
    """The attribution of one face."""
    options = {"segments": segmenter("quickshift"), "num_samples": 300, "batch_size": 100} | settings
    return lime.explain(LogitModel(network or ReadsOneCorner()), images, target[None], seeds=[seed], **options)[0]


def make_face(image, segments, baseline, seed=0) -> PerturbedFace:
    """A face C×H×W without masks."""
    return next(perturbed_faces(image[None], [(segments, None)], [seed], baseline, classes=7))


def grid():
    """36 regions of 4×4 pixels."""
    place = np.arange(SIDE) // 4
    return (place[:, None] * 6 + place).astype(np.int16)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_model_that_reads_a_corner_is_explained_by_the_corner(channels):
    result = explain(patchwork(channels))
    inside = result.map[:CORNER, :CORNER]
    assert np.abs(inside).sum() / np.abs(result.map).sum() > 0.8
    assert inside.mean() > 0
    assert result.facts["r2"] > 0.8
    assert result.facts["num_samples"] == 300
    assert result.map.dtype == np.float32


def test_the_corner_is_evidence_against_the_other_classes():
    assert explain(patchwork(), target=ONE_HOT[5]).map[:CORNER, :CORNER].mean() < 0


@pytest.mark.parametrize(
    ("channels", "baseline", "hide_color"),
    [(1, "grey", 0.5), (3, 0.5, 0.5), (1, "black", 0), (1, "region", None), (3, "region", None)],
)
def test_the_same_regions_and_masks_give_the_weights_of_lime(channels, baseline, hide_color):
    """lime_image itself, on the same regions and the masks of the same seed."""
    image, segments = patchwork(channels)[0], np.roll(grid(), 2, axis=(0, 1))  # across the patches
    model = LogitModel(Mixed())

    def classify(faces):
        batch = torch.from_numpy(faces[..., :channels]).float().permute(0, 3, 1, 2)
        return model(batch).double().softmax(1).numpy()

    theirs = LimeImageExplainer(feature_selection="none", random_state=5).explain_instance(
        np.broadcast_to(image.permute(1, 2, 0).numpy(), (SIDE, SIDE, 3)).astype(np.float64),
        classify, labels=range(7), top_labels=None, hide_color=hide_color, num_samples=400,
        segmentation_fn=lambda _: segments, random_seed=0,
    )  # fmt: skip
    face = make_face(image, segments, baseline, seed=5).draw_masks(400, "independent")
    predict_perturbations(model, [face], batch_size=64)
    for label in range(7):
        ours = lime.fit(face, ONE_HOT[label].numpy())
        expected = np.array([weight for _, weight in sorted(theirs.local_exp[label])])
        assert np.abs(ours.weights[:, label] - expected).max() < 1e-5 * np.abs(expected).max()
    residuals = face.probabilities[:, label] - face.masks @ ours.weights[:, label]
    ratio = weighted_variance(residuals, face.masks) / weighted_variance(face.probabilities[:, label], face.masks)
    assert 1 - ratio == pytest.approx(theirs.score, rel=1e-5)  # lime keeps the score of the last class, not held out
    assert ours.r2 < theirs.score


def test_the_closed_form_is_ridge_regression():
    rng = np.random.default_rng(0)
    masks, outputs = rng.integers(0, 2, (200, 12)).astype(float), rng.normal(size=(200, 7))
    surrogate, weights = lime.fit_surrogate(masks, outputs, np.eye(7)[3]), lime.proximity(masks)
    ridge = Ridge(alpha=lime.RIDGE).fit(masks, outputs[:, 3], sample_weight=weights)
    assert np.allclose(surrogate.weights[:, 3], ridge.coef_)


def weighted_variance(values, masks):
    return np.cov(values, aweights=lime.proximity(masks), ddof=0)


def test_r2_is_that_of_masks_left_out():
    """Each mask predicted by the regression of the others, one by one."""
    rng = np.random.default_rng(0)
    masks = rng.integers(0, 2, (60, 20)).astype(float)
    outputs = np.tanh(masks @ rng.normal(size=20))
    weights, errors, spread = lime.proximity(masks), [], []
    for row in range(len(masks)):
        rest = np.arange(len(masks)) != row
        ridge = Ridge(alpha=lime.RIDGE).fit(masks[rest], outputs[rest], sample_weight=weights[rest])
        errors.append(weights[row] * (outputs[row] - ridge.predict(masks[row : row + 1])[0]) ** 2)
        spread.append(weights[row] * (outputs[row] - np.average(outputs[rest], weights=weights[rest])) ** 2)
    expected = 1 - np.sum(errors) / np.sum(spread)
    assert lime.fit_surrogate(masks, outputs[:, None], np.ones(1)).r2 == pytest.approx(expected)


def test_r2_of_pairs_is_that_of_pairs_left_out(monkeypatch):
    rng = np.random.default_rng(0)
    masks = np.concatenate([np.ones((1, 12)), np.zeros((1, 12)), balanced_masks(0, 120, 12, seed=5)]).astype(float)
    outputs = np.tanh(masks @ rng.normal(size=12) / 2)[:, None]
    signs, odd = 2 * masks[2::2] - 1, (outputs[2::2, 0] - outputs[3::2, 0]) / 2
    relevance = pairs.relevances(signs, odd)
    monkeypatch.setattr(pairs, "relevances", lambda *_: relevance)  # estimated once, of all pairs
    weights, errors, spread = lime.proximity(masks), [], []
    for pair in range(1, len(masks) // 2):
        rest = np.delete(np.arange(2, len(masks)), [2 * pair - 2, 2 * pair - 1])
        found = pairs.estimate_effects(masks[rest], outputs[rest], np.ones(1), lime.OPERATOR, 4 * lime.RIDGE)
        model = found.values[:, 0]
        intercept = np.average(outputs[rest, 0] - masks[rest] @ model, weights=weights[rest])
        own = [2 * pair, 2 * pair + 1]
        errors += (weights[own] * (outputs[own, 0] - intercept - masks[own] @ model) ** 2).tolist()
    inner = slice(2, None)
    share = weights[inner] / weights[inner].sum()
    differences = (outputs[inner, 0] - share @ outputs[inner, 0]) / (1 - share)
    spread = weights[inner] * differences**2
    expected = 1 - np.sum(errors) / np.sum(spread)
    assert lime.fit_pairs(masks, outputs, np.ones(1)).r2 == pytest.approx(expected, rel=1e-4)


def test_more_regions_than_masks_can_tell_are_too_weak_to_read():
    """The model fits what it is fitted to, and predicts nothing."""
    rng = np.random.default_rng(0)
    masks, outputs = rng.integers(0, 2, (120, 80)).astype(float), rng.normal(size=(120, 1))
    surrogate = lime.fit_surrogate(masks, outputs, np.ones(1))
    assert surrogate.r2 < 0
    method = METHODS["lime"]
    assert method.doubts({"r2": surrogate.r2}).startswith("Too weak to read")
    assert method.describe("Fear", {"r2": 0.1}) == method.doubts({"r2": 0.1})
    assert not method.doubts({"r2": 0.3})


@pytest.mark.parametrize(("sampling", "count"), [("independent", 400), ("independent", 60), ("paired", 400)])
def test_standard_errors_are_those_of_repeated_sampling(sampling, count):
    """The spread of the weights over runs, also where there are few masks for 36 weights."""
    model, image, target = LogitModel(Mixed()), patchwork()[0], ONE_HOT[1].numpy()
    found = []
    for seed in range(60):
        face = make_face(image, grid(), "grey", seed).draw_masks(count, sampling)
        predict_perturbations(model, [face], batch_size=400)
        found.append(lime.fit(face, target))
    spread = np.std([surrogate.weights @ target for surrogate in found], axis=0, ddof=1)
    expected = np.mean([surrogate.standard_errors for surrogate in found], axis=0)
    assert 0.75 < np.median(spread / expected) < 1.25


def test_automatic_sampling_stops_when_the_result_is_stable(monkeypatch):
    monkeypatch.setattr(lime, "AUTO_LIMIT", 2100)
    settings = {"num_samples": "auto", "segments": segmenter("grid", regions=36), "top_regions": 4, "batch_size": 200}
    easy = explain(patchwork(), **settings)
    assert easy.facts["num_samples"] < lime.AUTO_LIMIT
    assert easy.facts["num_samples"] % 2 == 0
    errors = easy.arrays["standard_errors"].astype(np.float32)
    strongest = np.abs(easy.map) == np.abs(easy.map).max()
    assert errors[strongest].max() <= lime.AUTO_ERROR * np.abs(easy.map).max()

    class Noise(torch.nn.Module):
        def forward(self, images):
            return torch.randn(len(images), 7, generator=torch.Generator().manual_seed(int(images.sum() * 1e3)))

    assert explain(patchwork(), network=Noise(), **settings).facts["num_samples"] == lime.AUTO_LIMIT


def test_groups_of_masks_are_averaged():
    rng = np.random.default_rng(0)
    masks, outputs = (
        np.concatenate([np.ones((1, 5)), np.zeros((1, 5)), balanced_masks(0, 2048, 5, 0)]),
        rng.random((2050, 2)),
    )
    target = np.array([1.0, 0.0])
    ends = [slice(2, 1026), slice(1026, 2050)]
    first, second = (
        lime.fit_pairs(np.r_[masks[:2], masks[each]], np.r_[outputs[:2], outputs[each]], target) for each in ends
    )
    both = lime.fit_pairs(masks, outputs, target)
    assert np.allclose(both.weights, (first.weights + second.weights) / 2)
    assert np.allclose(both.standard_errors, np.hypot(first.standard_errors, second.standard_errors) / 2)


def test_steps_of_automatic_sampling_grow():
    counts, done = [], 0
    while done < lime.AUTO_LIMIT:
        done += lime.next_step(done, regions=36)
        counts.append(done)
    assert counts == [256, 512, 768, 1152, 1728, 2592, 3888, 4096]
    assert lime.next_step(0, regions=200) == 402


def test_paired_masks_begin_with_all_and_none_and_do_not_depend_on_the_steps():
    whole, steps = (make_face(patchwork()[0], grid(), "grey", seed=3) for _ in range(2))
    whole.draw_masks(301, "paired")
    for count in (1, 2, 98, 200):
        steps.draw_masks(count, "paired")
    assert np.array_equal(whole.masks, steps.masks)
    assert whole.masks[0].all()
    assert (whole.masks[:-1:2] + whole.masks[1::2] == 1).all()


@pytest.mark.parametrize(("count", "sampling"), [(72, "independent"), (74, "paired")])
def test_fewer_pairs_than_regions_are_not_drawn(count, sampling):
    result = explain(patchwork(), segments=grid(), num_samples=count)
    assert result.facts["sampling"] == sampling
    assert result.facts["num_samples"] == count


def test_paired_weights_are_those_of_many_independent_masks():
    options = {"network": Mixed(), "segments": np.kron(np.arange(4).reshape(2, 2), np.ones((12, 12), int))}
    many = explain(patchwork(), ONE_HOT[1], sampling="independent", num_samples=20_000, batch_size=500, **options).map
    few = explain(patchwork(), ONE_HOT[1], num_samples=400, **options).map
    assert np.abs(few - many).max() < 0.02 * np.abs(many).max()


def test_faces_share_batches_and_do_not_depend_on_them():
    images = torch.cat([patchwork(), patchwork().flip(3), patchwork().flip(2)])
    model, targets = LogitModel(Mixed()), ONE_HOT[[1, 2, 3]]
    sizes = []

    def counting(batch):
        sizes.append(len(batch))
        return model(batch)

    options = {"segments": segmenter("quickshift"), "num_samples": 300, "batch_size": 100}
    together = lime.explain(counting, images, targets, seeds=[7, 8, 9], **options)
    assert sizes == [100] * 9
    alone = lime.explain(model, images[1:2], targets[1:2], seeds=[8], **options)
    assert np.array_equal(together[1].arrays["segments"], alone[0].arrays["segments"])
    assert np.allclose(together[1].map, alone[0].map, atol=1e-6)


def test_a_contrast_is_the_difference_of_two_classes():
    both = explain(patchwork(), ONE_HOT[1] - ONE_HOT[4], network=Mixed())
    one, other = (explain(patchwork(), ONE_HOT[label], network=Mixed()) for label in (1, 4))
    assert np.allclose(both.map, one.map - other.map, atol=1e-6)


def test_shapley_values_sum_to_the_face_less_the_hidden_face():
    segments = segmenter("grid", regions=36, segmentation_side=24)
    result = explain(
        patchwork(), ONE_HOT[1], network=Mixed(), segments=segments, num_samples=1000, batch_size=64, kernel_shap=200
    )
    model, hidden = LogitModel(Mixed()), torch.full_like(patchwork(), 0.5)
    rise = (model(patchwork()).softmax(1) - model(hidden).softmax(1))[0, 1].item()
    first = np.unique(result.arrays["segments"], return_index=True)[1]
    assert result.arrays["kernel_shap"].ravel()[first].astype(float).sum() == pytest.approx(rise, abs=0.01)
    assert np.corrcoef(result.arrays["kernel_shap"].ravel(), result.map.ravel())[0, 1] > 0.9


@pytest.mark.parametrize("segmentation", ["quickshift", "merged", "slic", "felzenszwalb", "grid", "facial"])
def test_every_segmentation_covers_the_face_with_numbered_regions(segmentation):
    segments = explain(patchwork(), segments=segmenter(segmentation, regions=30), num_samples=40).arrays["segments"]
    assert segments.shape == (SIDE, SIDE)
    assert np.array_equal(np.unique(segments), np.arange(segments.max() + 1))
    assert segments.max() >= 5


@pytest.mark.parametrize(("side", "expected"), [(44, "facial"), (111, "facial"), (112, "merged"), (224, "merged")])
def test_the_segmentation_follows_the_size_of_the_face(side, expected):
    assert superpixels.choose_segmentation("auto", side) == expected
    assert superpixels.choose_segmentation("slic", side) == "slic"
    face = draw_faces(1, side, subjects=1, workers=1).images[0].astype(np.float32) / 255
    found = segmenter()(face, 0)
    assert np.array_equal(found, segmenter(expected)(face, 0))
    assert 10 < found.max() + 1 <= superpixels.MOST_REGIONS


def test_quickshift_regions_are_merged_like_with_like():
    """Three grey levels in 36 patches: neighbours of one level become one region first."""
    levels = np.repeat(np.repeat(np.array([[0.1, 0.5, 0.9]] * 3), 2, 0), 2, 1)
    image = np.kron(levels, np.ones((4, 4)))[..., None]
    merged = superpixels.merge_regions(image, grid(), most=3)
    assert len(np.unique(merged)) == 3
    assert all(len(np.unique(merged[image[..., 0] == level])) == 1 for level in (0.1, 0.5, 0.9))
    assert np.array_equal(superpixels.merge_regions(image, grid(), most=36), grid())
    sizes = np.bincount(superpixels.renumber(superpixels.merge_regions(image, grid(), most=9)).ravel())
    assert sizes.max() <= 4 * sizes.min()


def test_same_seed_same_map_other_seed_other_map():
    first, again = (explain(patchwork(), seed=1).map for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, explain(patchwork(), seed=2).map)


def test_lime_gives_one_map_per_face():
    images = torch.cat([patchwork(), patchwork().flip(3)])
    maps = lime.lime(
        ReadsOneCorner(), images, ONE_HOT[[TARGET, TARGET]], segments=segmenter("quickshift"), num_samples=300
    )
    assert maps.shape == (2, SIDE, SIDE)
    assert maps.dtype == np.float32
    assert maps[1][:CORNER, -CORNER:].mean() != maps[0][:CORNER, :CORNER].mean()


def test_regions_are_shown_or_filled():
    image, segments = patchwork()[0], np.roll(grid(), 2, axis=(0, 1))
    face = make_face(image, segments, "region")
    for choice in [(True, True, True), (True, True, False), (True, False, True), (False, False, False)]:
        mask = torch.ones(1, 36, dtype=torch.bool)
        mask[0, :3] = torch.tensor(choice)
        picture = perturb(face, mask)[0, 0]
        for region in range(3):
            inside = torch.from_numpy(segments == region)
            expected = image[0][inside] if choice[region] else image[0][inside].mean().expand(16)
            assert torch.allclose(picture[inside], expected)


@pytest.mark.parametrize("side", [40, 48, 224])
def test_the_number_of_regions_does_not_depend_on_the_size_of_the_face(side):
    rows, columns = np.mgrid[:side, :side] / side
    face = (0.5 + 0.4 * np.sin(14 * rows) * np.cos(11 * columns))[..., None].astype(np.float32)
    segments = segmenter("quickshift")(face, 0)
    assert segments.shape == (side, side)
    assert segments.dtype == np.int16
    assert np.array_equal(np.unique(segments), np.arange(segments.max() + 1))
    assert 35 < segments.max() + 1 < 45


def test_a_grey_face_has_no_weights():
    result = explain(torch.full((1, 1, SIDE, SIDE), 0.5))
    assert np.allclose(result.map, 0, atol=1e-6)
