"""explanations/crops.py: maps of crops by every method of the table; Grad-CAM and probabilities in one pass."""

import numpy as np
import pytest
import torch

from ferlib.data.synthetic.faces import draw_faces
from ferlib.explanations.cam import cam
from ferlib.explanations.crops import cam_of_crops, explain_crops
from ferlib.explanations.methods import METHODS
from ferlib.explanations.occlusion import occlusion
from ferlib.faces.face_model import open_face_model
from ferlib.inference.logit_model import LogitModel
from ferlib.runtime.errors import UserError
from zoo import colour_model

RED = 0
FEW = {  # settings with which the slow methods are quick
    "lime": {"lime_samples": 64, "segmentation": "grid", "regions": 16},
    "shap": {"shap_samples": 4, "bg_samples": 3},
    "smoothgrad": {"smooth_samples": 3},
    "integrated_gradients": {"steps": 4},
}
OF_CHANNELS = ("gradcam", "gradcam_plus_plus", "eigencam", "scorecam")  # they weigh whole channels


# ── Grad-CAM ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_hirescam_is_that_of_the_script(shipped, crops):
    probabilities, maps = cam_of_crops(shipped, crops)
    np.testing.assert_allclose(probabilities, shipped.probabilities(crops), atol=0.02)
    assert maps.shape == (5, 48, 48)
    assert maps.min() == 0
    assert maps.max() <= 1
    model = LogitModel(shipped.plain.classifier)
    layer = model.classifier.get_submodule(shipped.spec.cam_layer)
    targets = torch.from_numpy(probabilities.argmax(1))
    expected = np.maximum(cam(model, shipped.views(crops), targets, layer=layer), 0)
    expected /= expected.max((1, 2), keepdims=True)
    assert np.abs(maps[:, 2:46, 2:46] - expected).mean() < 0.02


def test_hirescam_of_another_class(shipped, crops):
    maps = [cam_of_crops(shipped, crops, targets=[label] * len(crops))[1] for label in range(7)]
    predicted = cam_of_crops(shipped, crops)
    for number, label in enumerate(predicted[0].argmax(1)):
        np.testing.assert_allclose(maps[label][number], predicted[1][number], atol=1e-3)
    assert not np.allclose(maps[0], maps[3], atol=0.1)


def test_hirescam_of_a_model_that_reads_a_corner():
    model = colour_model()
    face = np.full((1, 48, 48, 3), (200, 30, 30), np.uint8)
    face[0, 8:, 8:] = 0
    probabilities, maps = cam_of_crops(model, face)
    assert probabilities.argmax() == RED
    assert maps[0, :8, :8].min() > 0.9
    assert maps[0, 10:, 10:].max() < 0.05


def test_hirescam_of_no_face(shipped):
    probabilities, maps = cam_of_crops(shipped, np.zeros((0, 48, 48, 3), np.uint8))
    assert probabilities.shape == (0, 7)
    assert maps.shape == (0, 48, 48)


def test_inference_mode_outside_does_not_matter(crops):
    with torch.inference_mode():
        model = open_face_model(device="cpu")
        model.probabilities(crops)
        inside = cam_of_crops(model, crops)[1]
    np.testing.assert_allclose(cam_of_crops(open_face_model(device="cpu"), crops)[1], inside, atol=0.02)


# ── explanations ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("method", METHODS)
def test_every_method_explains_crops(shipped, crops, method):
    maps = explain_crops(shipped, crops[:2], method, **FEW.get(method, {}))
    assert maps.shape == (2, 48, 48)
    assert maps.dtype == np.float32
    assert np.isfinite(maps).all()
    assert maps.any(axis=(1, 2)).all()
    assert (maps[:, :2] == 0).all()
    if METHODS[method].signed:
        assert maps.min() < 0 < maps.max()
    else:
        assert maps.min() >= 0
    assert explain_crops(shipped, crops[:0], method).shape == (0, 48, 48)


def test_a_method_by_its_name_or_as_the_script_calls_it(shipped, crops):
    found, same = (explain_crops(shipped, crops[:1], name) for name in ("gradcam_plus_plus", "gradcam++"))
    assert np.array_equal(found, same)


def test_settings_by_their_name_or_their_flag(shipped, crops):
    found, same = (
        explain_crops(shipped, crops[:1], "lime", segmentation="grid", regions=16, baseline="mean", **samples)
        for samples in ({"num_samples": 64}, {"lime_samples": 64})
    )
    assert np.array_equal(found, same)
    assert not np.array_equal(found, explain_crops(shipped, crops[:1], "lime", **FEW["lime"]))


def test_maps_are_those_of_the_library(shipped, crops):
    expected = occlusion(shipped.passes, shipped.views(crops[:2]), torch.tensor([3, 0]), window=0.3, stride=0.15)
    found = explain_crops(shipped, crops[:2], "occlusion", [3, 0], window=0.3, stride=0.15)
    np.testing.assert_array_equal(found[:, 2:46, 2:46], expected)


def test_the_corner_that_a_model_reads_explains_it():
    """The logits depend on the upper left corner alone."""
    model, face = colour_model(), draw_faces(1, 48, workers=1).images
    for method in METHODS:
        if method in (*OF_CHANNELS, "guided_backprop", "regions"):  # which needs layers, or has larger parts
            continue
        settings = {**FEW.get(method, {}), **({"regions": 36} if method == "lime" else {})}
        strength = np.abs(explain_crops(model, face, method, [RED], **settings)[0])
        assert strength[:10, :10].sum() > 0.5 * strength.sum(), method


def test_unknown_methods_and_settings_are_named(shipped, crops):
    with pytest.raises(UserError, match="unknown method 'gradcamm'; did you mean gradcam"):
        explain_crops(shipped, crops, "gradcamm")
    with pytest.raises(UserError, match="unknown setting of Occlusion 'steps'"):
        explain_crops(shipped, crops, "occlusion", steps=3)
    with pytest.raises(UserError, match="--window and --stride"):
        explain_crops(shipped, crops, "occlusion", window=2.0)
    with pytest.raises(UserError, match="--lime-samples 1 is not in its range, 2 or more"):
        explain_crops(shipped, crops, "lime", lime_samples=1)
    with pytest.raises(UserError, match="--lime-samples many is not a number or auto"):
        explain_crops(shipped, crops, "lime", lime_samples="many")
    with pytest.raises(UserError, match="--steps many is not a number"):
        explain_crops(shipped, crops, "integrated_gradients", steps="many")
