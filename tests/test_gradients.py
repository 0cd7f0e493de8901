"""explanations/gradients.py: known answers, agreement with autograd and captum, seeds, independence of a batch."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from captum.attr import NoiseTunnel, Saliency

import explain_saliency
from ferlib.explanations import gradients
from ferlib.explanations.flags import prepare_flags
from ferlib.explanations.gradients import KINDS, TargetLogit
from ferlib.explanations.methods import METHODS
from ferlib.explanations.records import maps_of
from ferlib.inference.logit_model import LogitModel
from ferlib.runtime.errors import UserError
from zoo import KINDS as NETWORKS
from zoo import LIGHT, ONE_HOT, THREE, make_classifier, make_model, random_faces, slow_unless, small_spec

TARGET, SIDE, CORNER = 2, 12, 4
SIGNED = [kind for kind in KINDS if METHODS[kind].signed]
FEW = {"smoothgrad": {"num_samples": 6}, "integrated_gradients": {"steps": 8}}


class ReadsOneCorner(torch.nn.Module):
    """The brighter the upper left corner, the larger the logit of class TARGET; nothing else matters."""

    def __init__(self):
        super().__init__()
        self.activation = torch.nn.ReLU(inplace=True)

    def forward(self, images):
        corner = images[:, :, :CORNER, :CORNER].mean((1, 2, 3))
        return self.activation(corner * 1)[:, None] * ONE_HOT[TARGET]


class Linear(torch.nn.Module):
    def __init__(self, channels):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = torch.nn.Parameter(torch.randn(7, channels, SIDE, SIDE, generator=generator))

    def forward(self, images):
        return images.flatten(1) @ self.weight.flatten(1).T


class GuidedReLU(torch.autograd.Function):
    @staticmethod
    def forward(context, values):
        context.save_for_backward(values)
        return values.clamp(min=0)

    @staticmethod
    def backward(context, gradients):
        (values,) = context.saved_tensors
        return gradients.clamp(min=0) * (values > 0)


class Guided(torch.nn.Module):
    def forward(self, values):
        return GuidedReLU.apply(values)


def explain(model, images, targets, kind, seeds=None, batch_size=50, **settings):
    seeds = seeds or list(range(len(images)))
    options = {"seeds": seeds, "kind": kind, "batch_size": batch_size, **FEW.get(kind, {}), **settings}
    return gradients.explain(model, images, targets, **options)


def gradients_of(function, images):
    """∂function/∂pixel of every face by itself: N×C×H×W."""
    found = []
    for number in range(len(images)):
        face = images[number : number + 1].clone().requires_grad_()
        found.append(torch.autograd.grad(function(face, number), face)[0])
    return torch.cat(found)


# ── known answers ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_reads_a_corner_is_explained_by_the_corner(kind, channels):
    faces = 0.6 + 0.4 * random_faces(2, SIDE, channels)  # brighter than the baseline
    for result in explain(LogitModel(ReadsOneCorner()), faces, ONE_HOT[[TARGET] * 2], kind):
        assert result.map.shape == (SIDE, SIDE)
        assert result.map.dtype == np.float32
        assert (result.map[:CORNER, :CORNER] > 0).all()
        assert not result.map[CORNER:].any()
        assert not result.map[:, CORNER:].any()


@pytest.mark.parametrize("channels", [1, 3])
def test_a_linear_model_is_known_exactly(channels):
    network, images = Linear(channels), random_faces(2, SIDE, channels)
    weight = network.weight[TARGET].detach()
    expected = {
        "saliency": weight.abs().amax(0).expand(2, -1, -1),
        "smoothgrad": weight.abs().amax(0).expand(2, -1, -1),
        "guided_backprop": weight.abs().amax(0).expand(2, -1, -1),
        "input_x_gradient": (weight * images).sum(1),
        "integrated_gradients": (weight * (images - 0.25)).sum(1),
    }
    for kind, maps in expected.items():
        settings = {"baseline": 0.25} if kind == "integrated_gradients" else {}
        found = explain(LogitModel(network), images, ONE_HOT[[TARGET] * 2], kind, **settings)
        np.testing.assert_allclose(maps_of(found), maps, rtol=1e-4, atol=1e-5, err_msg=kind)


def test_the_completeness_gap_is_the_error_of_the_sum():
    model, images = make_model("mini_resnet"), random_faces(2, 48)
    targets = ONE_HOT[[1, 2]] - ONE_HOT[[3, 3]]
    coarse, fine = (explain(model, images, targets, "integrated_gradients", steps=steps) for steps in (1, 60))
    grey = torch.full_like(images, 0.5)
    rise = ((model(images) - model(grey)) * targets).sum(1)
    for results in (coarse, fine):
        for item, expected in zip(results, rise.tolist(), strict=True):
            assert item.facts["logit_above_baseline"] == pytest.approx(expected, abs=1e-5)
            assert item.facts["completeness_gap"] == pytest.approx(item.map.sum() - expected, abs=1e-4)
            assert item.facts["sum_of_sizes"] == pytest.approx(np.abs(item.map).sum(), rel=1e-4)
    gaps = [max(abs(item.facts["completeness_gap"]) for item in results) for results in (coarse, fine)]
    assert gaps[1] < 0.1 * gaps[0]


def test_a_gap_is_judged_by_the_sum_and_by_the_size_of_the_values():
    doubts = METHODS["integrated_gradients"].doubts
    assert not doubts({"logit_above_baseline": 0.062, "completeness_gap": 0.06, "sum_of_sizes": 28.0})
    assert doubts({"logit_above_baseline": -1.2, "completeness_gap": 0.5, "sum_of_sizes": 28.0}) == (
        "Too coarse to read: the values sum to −0.7 in place of −1.2; take more steps (--steps)."
    )
    assert "sum to +0.5 in place of −0.1" in doubts(
        {"logit_above_baseline": -0.1, "completeness_gap": 0.6, "sum_of_sizes": 28.0}
    )
    assert not doubts({"logit_above_baseline": -4.0, "completeness_gap": 0.5, "sum_of_sizes": 5.0})
    assert doubts({"logit_above_baseline": 0.062, "completeness_gap": 0.06})  # of earlier versions


def test_the_gradient_of_a_small_loss_is_scaled_to_its_peak():
    class Sure(ReadsOneCorner):
        def forward(self, images):
            return 20 * super().forward(images)

    result = explain(LogitModel(Sure()), 0.5 + 0.5 * random_faces(1, SIDE), ONE_HOT[[TARGET]], "loss_gradient")[0]
    assert 0 < result.facts["peak"] < 1e-5  # of which half precision would keep little
    assert result.map.max() == 1


# ── the zoo ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", slow_unless(LIGHT, NETWORKS))
def test_same_maps_as_autograd_face_by_face(name):
    """In double precision: in single, a batch and a face alone take different sides of a few kinks of ReLUs."""
    model = LogitModel(copy.deepcopy(make_classifier(name)).double())
    images = random_faces(2, small_spec(name).image_size).double()
    targets = torch.stack([ONE_HOT[3] - ONE_HOT[1], ONE_HOT[1]])
    logit = gradients_of(lambda face, number: (model(face) * targets[number]).sum(), images)
    expected = {"saliency": logit.abs().amax(1)}
    if name in THREE:
        labels = targets.argmax(1)
        loss = gradients_of(lambda face, number: F.cross_entropy(model(face), labels[number][None]), images)
        loss = loss.abs().amax(1)
        expected["loss_gradient"] = loss / loss.amax((1, 2), keepdim=True)
        expected["input_x_gradient"] = (logit * images).sum(1)
    for kind, maps in expected.items():
        found = maps_of(explain(model, images, targets, kind))
        np.testing.assert_allclose(found, maps, atol=1e-4 * maps.abs().max().item(), err_msg=kind)


@pytest.mark.parametrize("name", THREE)
def test_guided_backprop_passes_back_what_is_positive(name):
    model, images = make_model(name), random_faces(1, small_spec(name).image_size)
    found = maps_of(explain(model, images, ONE_HOT[[3]], "guided_backprop"))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    guided = replace_relus(copy.deepcopy(model))
    expected = gradients_of(lambda face, _: guided(face)[0, 3], images).abs().amax(1)
    np.testing.assert_allclose(found, expected, atol=1e-4 * expected.max().item())
    plain = maps_of(explain(model, images, ONE_HOT[[3]], "saliency"))
    assert np.abs(found - plain).max() > 0.01 * plain.max()


def replace_relus(module):
    for name, child in module.named_children():
        setattr(module, name, Guided() if isinstance(child, torch.nn.ReLU) else replace_relus(child))
    return module


def test_smoothgrad_is_captum_s_on_the_same_noise(monkeypatch):
    model, images = make_model("mini_resnet"), random_faces(2, 48)
    targets, seeds, count, spread = ONE_HOT[[1, 4]], [5, 6], 6, 0.2
    noise = [torch.randn(count, *images.shape[1:], generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    monkeypatch.setattr(torch, "normal", lambda mean, spreads: spreads * torch.cat(noise))
    theirs = NoiseTunnel(Saliency(TargetLogit(model))).attribute(
        images, nt_type="smoothgrad", nt_samples=count, stdevs=spread, abs=False, additional_forward_args=targets
    )
    ours = maps_of(explain(model, images, targets, "smoothgrad", seeds, num_samples=count, noise_sd=spread))
    expected = theirs.abs().amax(1)
    np.testing.assert_allclose(ours, expected, atol=1e-4 * expected.max().item())


def test_smoothgrad_counts_the_copies_of_the_same_class():
    model, images = make_model("mini_resnet"), random_faces(2, 48)
    little, much = (
        explain(model, images, ONE_HOT[[1, 4]], "smoothgrad", num_samples=30, noise_sd=spread) for spread in (0.0, 2.0)
    )
    assert [item.facts["class_kept"] for item in little] == [1, 1]
    assert all(item.facts["class_kept"] < 1 for item in much)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", THREE)
def test_every_method_in_mixed_precision(name, kind):
    model = make_model(name, torch.bfloat16)
    images = random_faces(1, small_spec(name).image_size, channels=3)
    found = maps_of(explain(model, images, ONE_HOT[[3]], kind))
    assert found.any()
    assert np.isfinite(found).all()


# ── targets, seeds, batches, flags ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", SIGNED)
def test_a_contrast_is_the_difference_of_two_classes(kind):
    model, images = make_model("mini_resnet"), random_faces(1, 48)
    weights = (ONE_HOT[[2]] - ONE_HOT[[5]], ONE_HOT[[2]], ONE_HOT[[5]])
    both, one, other = (maps_of(explain(model, images, targets, kind)) for targets in weights)
    np.testing.assert_allclose(both, one - other, atol=1e-4 * np.abs(both).max())


def test_smoothgrad_follows_the_seed():
    model, images = make_model("mini_resnet"), random_faces(1, 48)
    first, again, other = (explain(model, images, ONE_HOT[[2]], "smoothgrad", [seed])[0].map for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("kind", KINDS)
def test_faces_do_not_depend_on_their_batch(kind):
    model, images = make_model("mini_resnet"), random_faces(3, 48)
    targets, seeds = ONE_HOT[[1, 2, 3]], [7, 8, 9]
    together = maps_of(explain(model, images, targets, kind, seeds, batch_size=100))
    split = maps_of(explain(model, images, targets, kind, seeds, batch_size=2))
    alone = [explain(model, images[[row]], targets[[row]], kind, [seeds[row]])[0].map for row in range(3)]
    tolerance = 1e-4 * np.abs(together).max()
    np.testing.assert_allclose(split, together, atol=tolerance)
    np.testing.assert_allclose(np.stack(alone), together, atol=tolerance)


def test_gradient_map_gives_one_map_per_face():
    images = random_faces(2, SIDE)
    maps = gradients.gradient_map(Linear(1), images, ONE_HOT[[0, 6]], kind="saliency")
    assert maps.shape == (2, SIDE, SIDE)
    assert maps.dtype == np.float32
    assert not images.requires_grad


@pytest.mark.parametrize("method", ["saliency", "smoothgrad", "integrated_gradients"])
@pytest.mark.parametrize("wrong", [{"smooth_samples": 0}, {"steps": 0}, {"smooth_sd": -1.0}, {"baseline": "1.5"}])
def test_values_out_of_range_are_refused(wrong, method):
    """Also those of methods that are not chosen."""
    with pytest.raises(UserError, match="--"):
        prepare_flags(explain_saliency.ExplainSaliency(method=method, **wrong), explain_saliency.SCRIPT)


@pytest.mark.parametrize("method", KINDS)
def test_the_script_explains_a_saved_model(tiny_run, method, monkeypatch):
    flags = ["--tag", "tiny", "--outputs-dir", str(tiny_run.outputs_dir), "--samples", "3", "--method", method]
    few = ["--steps", "4", "--smooth-samples", "4"]
    figures = [] if method == "integrated_gradients" else ["--no-figures"]
    monkeypatch.setattr("sys.argv", ["explain_saliency.py", *flags, *few, *figures])
    summary = explain_saliency.main()
    assert summary["method"] == method
    assert summary["output"] == ("loss" if method == "loss_gradient" else "logit")
    assert ("steps" in summary["settings"]) == (method == "integrated_gradients")
    with np.load(tiny_run.explanation_maps(method)) as saved:
        assert saved["maps"].shape == (3, 48, 48)
        assert (saved["maps"].min() < 0) == METHODS[method].signed
    drawn = len(list(tiny_run.explanations(method).glob("*.png")))
    assert drawn == (3 if method == "integrated_gradients" else 0)
