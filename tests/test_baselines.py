"""explanations/baselines.py: one concept of what stands in for hidden pixels, in every method that hides any."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

import explain_lime
import explain_occlusion
from ferlib.explanations.baselines import BLUR, check_baseline, describe_baseline, make_baseline
from ferlib.explanations.flags import explain_flags, with_new_names
from ferlib.explanations.gradients import explain as explain_gradients
from ferlib.explanations.gradients import gradient_map
from ferlib.explanations.kernel_shap import kernel_shap
from ferlib.explanations.lime import lime
from ferlib.explanations.occlusion import occlusion
from ferlib.explanations.superpixels import segmenter
from ferlib.runtime.errors import UserError
from zoo import ONE_HOT, make_model, random_faces

SIDE = 12
HALVES = np.repeat([[0] * (SIDE // 2) + [1] * (SIDE // 2)], SIDE, 0)
BASELINES = ("grey", "mean", "blur", "black", 0.3)


class Recorder(torch.nn.Module):
    """Logits that depend on every pixel; keeps the images that it is given."""

    def __init__(self):
        super().__init__()
        self.images = []

    def forward(self, images):
        self.images.append(images.detach().clone())
        weights = torch.linspace(-1, 1, images[0].numel() * 7).view(-1, 7)
        return torch.tanh(images.flatten(1) @ weights / 4)

    def was_given(self, image):
        return any((batch == image).flatten(1).all(1).any() for batch in self.images)


def probability(image, label=2):
    return Recorder()(image[None]).softmax(1)[0, label].item()


# ── the image ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_levels_are_constant():
    images = random_faces(2, SIDE, 3)
    for baseline, level in (("grey", 0.5), ("black", 0.0), (0.3, 0.3), ("0.3", 0.3), (1, 1.0)):
        assert torch.equal(make_baseline(images, baseline), torch.full_like(images, level))


def test_the_mean_is_each_channels_own():
    images = random_faces(2, SIDE, 3)
    found = make_baseline(images, "mean")
    assert found.shape == images.shape
    torch.testing.assert_close(found, images.mean((2, 3))[..., None, None].expand(-1, -1, SIDE, SIDE))


@pytest.mark.parametrize("side", [SIDE, 48])
def test_the_blur_is_that_of_scipy(side):
    images = random_faces(2, side, 3)
    expected = [
        [gaussian_filter(channel, BLUR * side, mode="nearest", radius=int(3 * BLUR * side) + 1) for channel in image]
        for image in images.numpy()
    ]
    np.testing.assert_allclose(make_baseline(images, "blur"), np.array(expected), atol=1e-5)
    flat = torch.full((1, 1, side, side), 0.7)
    torch.testing.assert_close(make_baseline(flat, "blur"), flat)


@pytest.mark.parametrize("wrong", ["purple", "region", -0.1, "1.5", "nan", ""])
def test_other_baselines_are_refused(wrong):
    with pytest.raises(UserError, match=r"valid are grey, mean, blur, black, or a grey level in 0\.\.1"):
        make_baseline(random_faces(1, SIDE), wrong)


def test_names_of_one_method_alone():
    check_baseline("region", also=("region",))
    with pytest.raises(UserError, match="valid are grey, mean, blur, black, region, or"):
        check_baseline("purple", also=("region",))


def test_words_for_the_footnote():
    words = [describe_baseline(baseline) for baseline in ("grey", 0.3, "0.3", "mean", "blur", "black", "region")]
    assert words == [
        "grey 0.5", "grey 0.3", "grey 0.3", "mean of the face", "blurred face", "black", "mean of the region"
    ]  # fmt: skip


# ── the same concept in all methods ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("baseline", BASELINES)
def test_every_method_replaces_pixels_by_the_baseline(baseline):
    image = random_faces(1, SIDE, 3)[0]
    filled = make_baseline(image[None], baseline)[0]
    half = torch.where(torch.from_numpy(HALVES == 0), filled, image)
    targets = ONE_HOT[[2]]

    model = Recorder()
    lime(model, image[None], targets, segments=HALVES, num_samples=40, baseline=baseline)
    assert all(map(model.was_given, (image, filled, half)))

    model = Recorder()
    found = kernel_shap(model, image[None], targets, segments=HALVES, num_samples=40, baseline=baseline)[0]
    assert all(map(model.was_given, (image, filled, half)))
    assert found[0, 0] + found[0, -1] == pytest.approx(probability(image) - probability(filled), abs=1e-6)

    model = Recorder()
    found = occlusion(model, image[None], targets, window=1.0, stride=1.0, baseline=baseline)[0]
    assert model.was_given(filled)
    np.testing.assert_allclose(found, probability(image) - probability(filled), atol=1e-6)

    model = Recorder()
    options = {"seeds": [0], "kind": "integrated_gradients", "steps": 20, "baseline": baseline}
    found = explain_gradients(model, image[None], targets, **options)[0]
    assert model.was_given(filled)
    rise = (model(image[None]) - model(filled[None]))[0, 2].item()
    assert found.facts["logit_above_baseline"] == pytest.approx(rise, abs=1e-6)
    assert found.map.sum() == pytest.approx(rise, abs=1e-3)


@pytest.mark.parametrize(("name", "level"), [("grey", 0.5), ("grey", "0.5"), ("black", 0.0)])
def test_a_name_and_its_level_are_equal_to_the_bit(name, level):
    model, images, targets = make_model("mini_resnet"), random_faces(2, 48), ONE_HOT[[1, 3]]
    segments = segmenter("grid", regions=16)
    for method, options in (
        (lime, {"segments": segments, "num_samples": 30}),
        (kernel_shap, {"segments": segments, "num_samples": 30}),
        (occlusion, {"window": 0.5, "stride": 0.5}),
        (gradient_map, {"kind": "integrated_gradients", "steps": 3}),
    ):
        named, numbered = (method(model, images, targets, baseline=each, **options) for each in (name, level))
        assert np.array_equal(named, numbered), method.__name__


# ── flags ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def maps_of(run, script, monkeypatch, *flags):
    """The maps of a script and its settings, computed anew."""
    method = script.__name__.removeprefix("explain_")
    for path in (run.explanations(method) / "faces").glob("*.npz"):
        path.unlink()
    shared = ["--tag", run.tag, "--outputs-dir", str(run.outputs_dir), "--samples", "2", "--no-figures"]
    few = ["--lime-samples", "40"] if method == "lime" else ["--window", "0.5", "--stride", "0.5"]
    monkeypatch.setattr("sys.argv", [f"{script.__name__}.py", *shared, *few, *flags])
    summary = script.main()
    with np.load(run.explanation_maps(method)) as saved:
        return saved["maps"], summary["settings"]


@pytest.mark.parametrize(
    ("script", "old", "new"),
    [(explain_lime, "0.3", "0.3"), (explain_lime, "None", "region"), (explain_occlusion, "0.3", "0.3")],
)
def test_the_old_flag_gives_the_same_maps_and_prints_the_new_name(tiny_run, monkeypatch, capsys, script, old, new):
    expected, settings = maps_of(tiny_run, script, monkeypatch, "--baseline", new)
    assert "--hide-value" not in capsys.readouterr().err
    found, same = maps_of(tiny_run, script, monkeypatch, "--hide-value", old)
    assert "note: --hide-value is called --baseline now" in capsys.readouterr().err
    assert settings["baseline"] == new
    assert same == settings
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("script", [explain_lime, explain_occlusion])
def test_a_wrong_baseline_is_named_by_its_flag(script, monkeypatch):
    monkeypatch.setattr("sys.argv", [f"{script.__name__}.py", "--baseline", "purple"])
    with pytest.raises(UserError, match="--baseline purple is unknown; valid are grey, mean, blur, black"):
        script.main()


def test_the_old_and_the_new_flag_together_are_refused():
    flags = explain_flags("explain_occlusion.py")(hide_value="0.3", baseline="blur")
    with pytest.raises(UserError, match="--hide-value is the old name of --baseline"):
        with_new_names(flags)
