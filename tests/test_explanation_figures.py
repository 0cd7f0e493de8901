"""figures/lime.py, figures/shap.py: both colours, ranks, roles of the classes; sums over blocks."""

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from PIL import Image, ImageColor

from config import EMOTIONS
from ferlib.explanations.maps import sum_blocks, top_supporting
from ferlib.explanations.records import Attribution, ExplainedFace, Target
from ferlib.explanations.shap import make_attribution
from ferlib.figures import blending, panels
from ferlib.figures import lime as lime_figures
from ferlib.figures import shap as shap_figures
from ferlib.figures.palette import COLORS


def make_face(true=0, target=None):
    probabilities = np.array([0.1, 0.0, 0.5, 0.2, 0.1, 0.1, 0.0])
    return ExplainedFace(7, "7.png", true, probabilities, target or Target(2), seed=3)


ERRORS = {"sampling_error": 0.2, "background_error": 0.4}


def is_a_picture(figure, path):
    figure.savefig(path)
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    red = (pixels[..., 0] > pixels[..., 1] + 60).mean()
    turquoise = (pixels[..., 1] > pixels[..., 0] + 30).mean()
    return min(pixels.shape[:2]) > 400 and red > 0.005 and turquoise > 0.005


@pytest.mark.parametrize(
    ("channels", "true", "side", "target"),
    [(1, 0, 48, Target(2)), (3, 2, 44, Target(2)), (3, 1, 225, Target(5, 3)), (1, None, 48, Target(0))],
)
def test_figures_show_both_colours(tmp_path, channels, true, side, target):
    face = make_face(true, target)
    image = np.random.default_rng(1).random((side, side, channels), dtype=np.float32)
    maps = np.random.default_rng(2).normal(size=(7, side, side)).astype(np.float32)
    shap = make_attribution(maps, target.weights(), np.ones(7), ERRORS).rounded()
    assert is_a_picture(shap_figures.draw_shap(face, image, shap, "run", "footer"), tmp_path / "shap.png")
    segments = (np.arange(side) // 5)[:, None] * np.ones((1, side), int)
    weights = np.linspace(-1, 1, segments.max() + 1)[segments]
    arrays = {"segments": segments, "standard_errors": np.abs(weights) / 10}
    lime = Attribution(weights, arrays, {"segments": int(segments.max()) + 1, "r2": 0.5}).rounded()
    assert is_a_picture(lime_figures.draw_lime(face, image, lime, 8, "run", "footer"), tmp_path / "lime.png")


def test_tiny_weights_of_lime_leave_no_factor_over_the_label():
    face, image, segments = make_face(1, Target(2)), np.zeros((48, 48, 1), np.float32), np.arange(48) // 5
    regions = segments[:, None] * np.ones((1, 48), int)
    weights = np.linspace(-1e-5, 2e-5, regions.max() + 1)[regions]
    arrays = {"segments": regions, "standard_errors": np.abs(weights) / 10}
    lime = Attribution(weights, arrays, {"segments": 10, "r2": 0.5})
    figure = lime_figures.draw_lime(face, image, lime, 8, "run", "footer")
    figure.draw_without_rendering()
    assert {axes.xaxis.get_offset_text().get_text() for axes in figure.findobj(Axes)} == {""}


def test_signs_can_be_told_in_grey_print_and_from_the_emotions():
    """Dark for, light against, whatever the face; no emotion's colour."""
    values = np.array([[-1.0, -0.5, 0.0, 0.5, 1.0]])
    for level in (0.0, 0.5, 1.0):
        grey = blending.overlay(np.full((1, 5, 1), level), values, limit=1.0)[0] @ (0.299, 0.587, 0.114)
        assert (np.diff(grey) < -0.04).all()
    darkest, brightest = (blending.overlay(np.full((1, 1, 1), level), np.zeros((1, 1)), 1.0).mean() for level in (0, 1))
    assert darkest - 0.2 > blending.FOR @ (0.299, 0.587, 0.114)
    assert brightest + 0.08 < blending.AGAINST @ (0.299, 0.587, 0.114)
    emotions = np.array([ImageColor.getrgb(color) for color in COLORS]) / 255
    for color in (blending.FOR, blending.AGAINST):
        assert np.abs(emotions - color).max(1).min() > 0.25


def test_colours_are_in_proportion_to_the_values():
    ramp = blending.colour_signs(np.linspace(-1, 1, 9)[None], 1.0)[0]
    assert np.allclose(np.diff(ramp[:5], axis=0), np.diff(ramp[:5], axis=0)[0])
    assert np.allclose(np.diff(ramp[4:], axis=0), np.diff(ramp[4:], axis=0)[0])
    assert np.allclose(ramp, panels.SIGNED(np.linspace(0, 1, 9))[:, :3], atol=0.01)
    face = np.full((1, 9, 1), 0.5)
    assert np.allclose(blending.overlay(face, np.linspace(-1, 1, 9)[None], 1.0)[0], ramp)
    sizes = blending.tint(face, np.linspace(0, 1, 9)[None], 1.0)[0]
    assert np.allclose(sizes, panels.SIZES(np.linspace(0, 1, 9))[:, :3], atol=0.01)


def words_of(figure):
    """Of titles, labels of ramps and axes, and texts, however the lines are broken."""
    artists = [each for axes in figure.findobj(Axes) for each in (axes.title, axes.xaxis.label, *axes.texts)]
    return " ".join(" ".join(artist.get_text() for artist in artists).split())


def draw_both(target):
    """LIME with Shapley values, and SHAP."""
    face, image = make_face(1, target), np.zeros((44, 44, 1), np.float32)
    segments = (np.arange(44) // 5)[:, None] * np.ones((1, 44), int)
    weights = np.linspace(-1, 1, segments.max() + 1)[segments]
    arrays = {"segments": segments, "standard_errors": np.abs(weights) / 10, "kernel_shap": weights}
    lime = Attribution(weights, arrays, {"segments": 9, "r2": 0.5})
    maps = np.random.default_rng(2).normal(size=(7, 44, 44)).astype(np.float32)
    shap = make_attribution(maps, target.weights(), np.ones(7), ERRORS)
    return (
        lime_figures.draw_lime(face, image, lime, 8, "run", "footer"),
        shap_figures.draw_shap(face, image, shap, "run", "footer"),
    )


def test_a_contrast_is_named_by_every_title_and_ramp():
    lime, shap = (words_of(figure) for figure in draw_both(Target(2, 6)))
    assert lime.count("Fear rather than Surprise: Δ probability") == 2
    assert "evidence for Fear rather than Surprise: the 4 strongest" in lime
    assert "Fear rather than Surprise: |Δ probability|" in lime
    assert "Fear rather than Surprise: Δ logit" in shap
    assert "Surprise: Δ logit" in shap.replace("than Surprise", "")  # its own map
    assert "Fear rather than Surprise: |Δ logit|" in shap
    lime, shap = (words_of(figure) for figure in draw_both(Target(2)))
    assert "evidence for Fear: the 4 strongest" in lime
    assert "the 8 strongest, for or against" in lime
    assert "rather than" not in lime + shap


def test_a_map_that_cannot_be_read_is_stamped():
    segments = (np.arange(44) // 5)[:, None] * np.ones((1, 44), int)
    weights = np.linspace(-1, 1, segments.max() + 1)[segments]
    arrays = {"segments": segments, "standard_errors": np.abs(weights) / 10}
    face, image = make_face(1, Target(2)), np.zeros((44, 44, 1), np.float32)
    for r2, stamped in ((0.1, True), (0.5, False)):
        found = Attribution(weights, arrays, {"segments": segments.max() + 1, "r2": r2}).rounded()
        figure = lime_figures.draw_lime(face, image, found, 8, "run", "footer")
        assert words_of(figure).count("Too weak to read") == 4 * stamped  # both maps, the bars and the importance
        figure.draw_without_rendering()
        lines = [line for axes in figure.findobj(Axes) for line in axes.collections]
        covers = [axes.patches[-1].get_window_extent() for axes in figure.findobj(Axes) if covered(axes)]
        assert len(covers) == 4 * stamped
        outlines = [line for line in lines if isinstance(line, LineCollection) and not line.get_clip_on()]
        assert outlines
        for line in outlines if stamped else ():
            box = line.get_tightbbox()
            assert any(cover.x0 <= box.x0 and cover.x1 >= box.x1 for cover in covers)


def covered(axes):
    """Whether the last thing drawn is a cover: the text that says why."""
    return any("to read" in text.get_text().replace("\n", " ") for text in axes.texts)


def test_shap_that_cannot_be_read_is_stamped_in_every_panel():
    maps = np.random.default_rng(2).normal(size=(7, 44, 44)).astype(np.float32)
    found = make_attribution(maps, Target(2).weights(), np.ones(7), {"sampling_error": 0.8, "background_error": 0.9})
    figure = shap_figures.draw_shap(make_face(), np.zeros((44, 44, 1), np.float32), found, "run", "footer")
    assert words_of(figure).count("Too noisy to read") == 3 + len(EMOTIONS)
    assert words_of(figure).count("take more samples") == 1


def test_dark_red_is_evidence_for_and_turquoise_against():
    image = np.full((1, 3, 1), 0.5, np.float32)
    against, nothing, favour = blending.overlay(image, np.array([[-1.0, 0.0, 1.0]]), limit=1.0)[0]
    assert against[2] > against[0] + 0.3
    assert np.ptp(nothing) == 0
    assert favour[0] > favour[2] + 0.3
    assert np.allclose(panels.SIGNED(1.0)[:3], blending.FOR)


def test_top_supporting_takes_only_positive_regions():
    segments = np.array([[0, 1, 2, 3]])
    weights = np.array([[0.1, -2.0, 0.5, 0.0]])
    assert top_supporting(weights, segments, 8).tolist() == [[True, False, True, False]]
    assert top_supporting(weights, segments, 1).tolist() == [[False, False, True, False]]


def test_sums_over_blocks_keep_the_total():
    values = np.random.default_rng(0).normal(size=(45, 45))
    blocks, side = sum_blocks(values, max_side=20)
    assert side == 3
    assert blocks.shape == (15, 15)
    assert blocks[0, 1] == pytest.approx(values[:3, 3:6].sum())
    assert sum_blocks(values[:41, :41], 20)[0].sum() == pytest.approx(values[:41, :41].sum())


def test_the_rival_is_the_true_class_or_the_next_best():
    assert shap_figures.rival(make_face(true=0)) == 0
    assert shap_figures.rival(make_face(true=2)) == 3
    assert shap_figures.rival(make_face(true=None, target=Target(5))) == 2
    assert shap_figures.rival(make_face(true=0, target=Target(2, 6))) == 6
    roles = [shap_figures.role(make_face(true=0), label) for label in (0, 2, 3, 6)]
    assert roles == ["true class", "predicted, wrong", "runner-up", ""]


def test_the_strongest_regions_come_first():
    segments = np.array([[0, 0, 1], [2, 2, 1]])
    weights, errors = np.array([0.1, -0.5, 0.3]), np.array([0.01, 0.02, 0.03])
    attribution = Attribution(weights[segments], {"segments": segments, "standard_errors": errors[segments]})
    numbers, found, spread = lime_figures.rank_regions(attribution, 2)
    assert numbers.tolist() == [1, 2]
    assert np.allclose(found, [-0.5, 0.3])
    assert np.allclose(spread, [0.02, 0.03])
