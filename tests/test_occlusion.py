"""explanations/occlusion.py: known answers, agreement with captum on the same windows, independence of a batch."""

import numpy as np
import pytest
import torch
from captum.attr import Occlusion

import explain_occlusion
from ferlib.explanations import occlusion
from ferlib.explanations.flags import prepare_flags
from ferlib.explanations.occlusion import make_windows, slide_window
from ferlib.explanations.records import maps_of
from ferlib.inference.logit_model import LogitModel
from ferlib.runtime.errors import UserError
from zoo import ONE_HOT, THREE, make_model, random_faces, small_spec

TARGET, SIDE, CORNER = 2, 20, 4


class ReadsOneCorner(torch.nn.Module):
    """The brighter the upper left corner, the larger the logit of class TARGET; nothing else matters."""

    def forward(self, images):
        return 5 * images[:, :, :CORNER, :CORNER].mean((1, 2, 3))[:, None] * ONE_HOT[TARGET]


def explain(model, images, targets, batch_size=50, **settings):
    return occlusion.explain(model, images, targets, seeds=[0] * len(images), batch_size=batch_size, **settings)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_model_that_reads_a_corner_is_explained_by_the_corner(channels):
    faces = 0.6 + 0.4 * random_faces(2, SIDE, channels)  # brighter than the square
    for result in explain(LogitModel(ReadsOneCorner()), faces, ONE_HOT[[TARGET] * 2]):
        assert result.map.shape == (SIDE, SIDE)
        assert result.map.dtype == np.float32
        assert (result.map[:CORNER, :CORNER] > 0).all()
        assert np.allclose(result.map[2 * CORNER :], 0, atol=1e-6)
        assert np.allclose(result.map[:, 2 * CORNER :], 0, atol=1e-6)
        assert result.arrays["falls"].shape == (9, 9)
        assert np.argmax(result.arrays["falls"]) == 0
        assert result.facts["largest_fall"] == pytest.approx(float(result.arrays["falls"][0, 0]), rel=1e-3)
    darker = explain(LogitModel(ReadsOneCorner()), faces - 0.6, ONE_HOT[[TARGET] * 2])
    assert all((result.map[:CORNER, :CORNER] < 0).all() for result in darker)


@pytest.mark.parametrize(
    ("side", "window", "stride"), [(44, 0.2, 0.1), (48, 0.2, 0.2), (40, 1.0, 1.0), (10, 0.01, 0.01)]
)
def test_windows_cover_every_pixel(side, window, stride):
    covered = slide_window(side, window, stride)
    assert covered.any(0).all()
    width, step = max(round(window * side), 1), max(round(stride * side), 1)
    assert covered.sum(1).tolist()[:-1] == [width] * (len(covered) - 1)
    assert covered[-1, -1]
    assert [int(row.float().argmax()) for row in covered] == [step * place for place in range(len(covered))]


@pytest.mark.parametrize(("name", "channels"), [*((name, 1) for name in THREE), ("mini_resnet", 3)])
def test_same_maps_as_captum_on_the_same_windows(name, channels):
    model, spec = make_model(name), small_spec(name)
    settings = {"batch_size": 7, "window": 0.4, "stride": 0.25, "baseline": 0.3}
    images, targets = random_faces(2, spec.image_size, channels), torch.stack([ONE_HOT[3] - ONE_HOT[1], ONE_HOT[1]])
    width, step = round(0.4 * spec.image_size), round(0.25 * spec.image_size)
    theirs = Occlusion(lambda faces, weights: (model(faces).softmax(1) * weights).sum(1)).attribute(
        images,
        sliding_window_shapes=(channels, width, width),
        strides=(channels, step, step),
        baselines=0.3,
        additional_forward_args=targets,
    )
    assert theirs.any()
    tolerance = 1e-4 * theirs.abs().max().item() + 1e-7  # of probabilities in float32
    np.testing.assert_allclose(maps_of(explain(model, images, targets, **settings)), theirs[:, 0], atol=tolerance)


def test_a_contrast_is_the_difference_of_two_classes():
    model, images = make_model("mini_resnet"), random_faces(1, 48)
    weights = (ONE_HOT[[2]] - ONE_HOT[[5]], ONE_HOT[[2]], ONE_HOT[[5]])
    both, one, other = (maps_of(explain(model, images, targets)) for targets in weights)
    np.testing.assert_allclose(both, one - other, atol=1e-6)


def test_faces_do_not_depend_on_their_batch():
    model, images = make_model("mini_resnet"), random_faces(3, 48)
    targets = ONE_HOT[[1, 2, 3]]
    together = explain(model, images, targets)
    alone = explain(model, images[1:2], targets[1:2], batch_size=13)
    np.testing.assert_allclose(together[1].map, alone[0].map, atol=1e-6)


def test_occlusion_gives_one_map_per_face():
    maps = occlusion.occlusion(ReadsOneCorner(), random_faces(2, SIDE), ONE_HOT[[0, 6]])
    assert maps.shape == (2, SIDE, SIDE)
    assert maps.dtype == np.float32


def test_windows_are_squares_of_the_face():
    windows = make_windows((20, 30), 0.2, 0.1)
    assert windows.shape == (9, 9, 20, 30)
    assert windows[0, 0].sum() == 4 * 6


@pytest.mark.parametrize(
    "wrong", [{"window": 0.0}, {"window": 1.2}, {"stride": 0.3}, {"stride": 0.0}, {"baseline": "2.0"}]
)
def test_values_out_of_range_are_refused(wrong):
    with pytest.raises(UserError, match="--"):
        prepare_flags(explain_occlusion.ExplainOcclusion(**wrong), explain_occlusion.SCRIPT)


def test_the_script_explains_a_saved_model(tiny_run, monkeypatch):
    flags = ["--tag", "tiny", "--outputs-dir", str(tiny_run.outputs_dir), "--samples", "3", "--window", "0.3"]
    monkeypatch.setattr("sys.argv", ["explain_occlusion.py", *flags])
    summary = explain_occlusion.main()
    assert summary["method"] == "occlusion"
    assert summary["output"] == "probability"
    assert summary["settings"]["window"] == 0.3
    with np.load(tiny_run.explanation_maps("occlusion")) as saved:
        assert saved["maps"].shape == (3, 48, 48)
        assert saved["falls"].shape == (3, 8, 8)
    assert len(list(tiny_run.explanations("occlusion").glob("*.png"))) == 3
