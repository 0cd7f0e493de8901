"""figures/heatmaps.py: colours, words and sums over blocks, as the row of the method says."""

import io
import pickle
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image

from ferlib.explanations.methods import METHODS
from ferlib.explanations.records import Attribution, ExplainedFace, Target
from ferlib.figures.blending import AGAINST, FOR, stretch, tint
from ferlib.figures.explanations import describe_settings
from ferlib.figures.heatmaps import draw_heatmap
from ferlib.figures.panels import SIZES
from ferlib.report.gallery import make_scales

WORDS = {"run": "run", "footer": "footer"}
GRADCAM, OCCLUSION = METHODS["gradcam"], METHODS["occlusion"]


def make_face(true=3, against=None):
    probabilities = np.array([0.05, 0.05, 0.1, 0.6, 0.1, 0.05, 0.05])
    return ExplainedFace(4, "face.png", true, probabilities, Target(3, against), seed=1)


def pixels_of(figure):
    figure.savefig(file := io.BytesIO())
    return np.asarray(Image.open(file).convert("RGB")).astype(int)


def share_near(pixels, color, distance=40):
    return (np.abs(pixels - 255 * np.asarray(color)).max(-1) < distance).mean()


def texts_of(figure):
    artists = [*figure.texts, figure._supxlabel]
    for axes in figure.axes:
        artists += [axes.title, axes.xaxis.label, *axes.texts, *axes.get_xticklabels()]
    return " ".join(" ".join(artist.get_text() for artist in artists).split())  # however the lines are broken


@pytest.mark.parametrize(("channels", "side"), [(1, 44), (3, 48), (3, 224)])
def test_signed_maps_show_both_colours(channels, side):
    values = np.linspace(-2, 2, side)[:, None].repeat(side, 1)
    image = np.random.default_rng(0).random((side, side, channels)).astype(np.float32)
    figure = draw_heatmap(
        make_face(against=5), image, Attribution(values.astype(np.float16)), method=OCCLUSION, **WORDS
    )
    pixels = pixels_of(figure)
    assert share_near(pixels, FOR) > 0.01
    assert share_near(pixels, AGAINST) > 0.01
    words = texts_of(figure)
    for part in (
        "why Happy rather than Sad?",
        "evidence for the class",
        "evidence against the class",
        "Happy rather than Sad: Δ probability",
        "Occlusion",
        "run",
        "footer",
        "true Happy",
    ):
        assert part in words


def test_every_ramp_names_what_its_values_are_of():
    ramps = {"gradcam": "Happy rather than Sad: share of the peak", "loss_gradient": "Happy: share of the peak"}
    ramps |= {"hirescam": "Happy rather than Sad: Δ logit of a cell", "saliency": "Happy rather than Sad: |∂ logit"}
    for name, words in ramps.items():
        figure = draw_heatmap(
            make_face(against=5), np.zeros((44, 44, 1)), Attribution(np.eye(44)), method=METHODS[name], **WORDS
        )
        assert words in texts_of(figure)
    assert METHODS["eigencam"].subject("Happy rather than Sad", "Happy") == ""


def test_unsigned_maps_show_one_scale_and_their_cells():
    values, grid = np.zeros((48, 48), np.float16), np.zeros((6, 6), np.float16)
    values[:24], grid[:3] = 1, 1
    figure = draw_heatmap(
        make_face(), np.full((48, 48, 1), 0.5), Attribution(values, {"grid": grid}), method=GRADCAM, **WORDS
    )
    pixels = pixels_of(figure)
    low, high = (SIZES(end)[:3] for end in (0.0, 1.0))
    assert share_near(pixels, low) > 0.01
    assert share_near(pixels, high) > 0.01
    assert share_near(pixels, FOR) < 0.001
    for part in ("6 × 6 cells", "Grad-CAM", "share of the peak", "bright: evidence for the class"):
        assert part in texts_of(figure)


def test_the_component_of_eigencam_speaks_for_no_class():
    method = METHODS["eigencam"]
    footer = describe_settings(method, {"layer": "features"})
    assert "0: none" in footer
    assert "evidence" not in footer + method.doubts({"peak": 0.0})
    assert "evidence" in describe_settings(GRADCAM, {"layer": "features"})


@pytest.mark.parametrize("name", ["gradcam", "hirescam", "occlusion", "integrated_gradients", "saliency"])
def test_figure_and_report_have_one_scale(name):
    """One pixel of 44 × 44 is the peak: within the half percent that pixels may exceed full colour by."""
    values, method = np.full((44, 44), 0.25, np.float16), METHODS[name]
    values[0, 0] = 1
    figure = draw_heatmap(make_face(), np.zeros((44, 44, 1)), Attribution(values), method=method, **WORDS)
    shown = figure.axes[2].images[0].get_clim()[1]
    (scale,) = make_scales(values, method, shared=shown)
    assert scale.limit == shown
    assert shown == (1 if "cam" in name else pytest.approx(1 if method.summed else 0.25))


def test_both_maps_are_covered_where_they_cannot_be_read():
    found = Attribution(np.random.default_rng(0).random((44, 44)), {}, {"class_kept": 0.2})
    figure = draw_heatmap(make_face(), np.zeros((44, 44, 1)), found, method=METHODS["smoothgrad"], **WORDS)
    assert texts_of(figure).count("Too noisy to read") == 2
    assert "20 % of the noisy copies" in texts_of(figure)


def test_a_map_of_zeros_and_a_face_of_unknown_class_are_drawn():
    for method in (OCCLUSION, GRADCAM):
        empty = Attribution(np.zeros((44, 44), np.float16))
        figure = draw_heatmap(make_face(true=None), np.zeros((44, 44, 1)), empty, method=method, **WORDS)
        assert pixels_of(figure).std() > 0
        assert "true" not in texts_of(figure)


def test_the_drawing_function_can_be_sent_to_another_process():
    draw = pickle.loads(pickle.dumps(partial(draw_heatmap, method=GRADCAM, **WORDS)))
    assert draw(make_face(), np.zeros((44, 44, 1)), Attribution(np.ones((44, 44)))).axes


def test_the_tint_keeps_the_face():
    image = np.array([[[0.0], [1.0]]], np.float32)
    dark, light = tint(image, np.ones((1, 2)), limit=1.0)[0]
    assert (light > dark).all()
    assert np.allclose(light, 0.3 + 0.7 * np.array(colormaps["cividis"](1.0)[:3]))


def test_a_dark_face_is_stretched_for_the_overlay():
    dark = stretch(np.linspace(0.1, 0.2, 48)[:, None, None].repeat(48, 1))
    assert dark.shape == (48, 48, 1)
    assert (dark.min(), dark.max()) == (0, 1)
    assert not stretch(np.full((4, 4, 3), 0.5)).any()


def test_attributions_that_add_up_are_summed_over_blocks():
    values, image = np.zeros((56, 56), np.float16), np.zeros((56, 56, 1))
    values[:2, :2] = [[1, 2], [3, 4]]
    drawn = {}
    for summed in (False, True):
        method = METHODS["integrated_gradients" if summed else "occlusion"]
        figure = draw_heatmap(make_face(), image, Attribution(values), method=method, **WORDS)
        drawn[summed] = next(axes.images[0] for axes in figure.axes if axes.get_title() == "the map alone").get_array()
        assert ("sums over 2×2 pixels" in texts_of(figure)) == summed
    assert drawn[False].shape == (56, 56)
    assert drawn[True].shape == (28, 28)
    assert drawn[True][0, 0] == 10


def test_a_method_may_explain_something_else():
    for method in (METHODS["loss_gradient"], replace(METHODS["saliency"], question="explained: the loss of {label}")):
        figure = draw_heatmap(make_face(), np.zeros((44, 44, 1)), Attribution(np.eye(44)), method=method, **WORDS)
        assert "the loss of Happy" in texts_of(figure)
        assert method.meaning in texts_of(figure)
