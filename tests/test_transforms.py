"""augmentation.py and views.py: known geometry, known statistics."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms import v2

from ferlib.inference.views import center_view, face_views
from ferlib.training.augmentation import augment, mix
from models import MODELS
from recipes import Augmentation

SPEC = replace(MODELS["mini_resnet"], image_size=48, resize=None)
STILL = Augmentation(flip=0, rotation=0, brightness=0, contrast=0)


@pytest.fixture
def faces(generator):
    return torch.randint(0, 256, (6, 48, 48, 1), dtype=torch.uint8, generator=generator)


def as_float(faces):
    return faces.permute(0, 3, 1, 2) / 255


def test_center_view_of_the_same_size_only_scales_the_values(faces):
    assert torch.equal(center_view(faces, SPEC), as_float(faces))


def test_center_view_crops_the_middle(faces):
    view = center_view(faces, replace(SPEC, image_size=40, resize=48))
    assert torch.equal(view, as_float(faces)[..., 4:44, 4:44])


@pytest.mark.parametrize("size", [24, 96, 224])
def test_center_view_resizes_without_shifting(size):
    ramp = torch.arange(0, 240, 5, dtype=torch.uint8).view(1, 1, 48, 1).expand(1, 48, 48, 1)
    view = center_view(ramp, replace(SPEC, image_size=size))
    assert view.shape == (1, 1, size, size)
    assert view.mean().item() == pytest.approx(ramp.float().mean().item() / 255, abs=2e-3)
    expected = ((torch.arange(size) + 0.5) * 48 / size - 0.5) * 5 / 255
    inner = slice(size // 8, -size // 8)
    torch.testing.assert_close(view[0, 0, 0][inner], expected[inner], atol=6e-3, rtol=0)


@pytest.mark.parametrize("geometry", [{}, {"image_size": 40, "resize": 48}, {"image_size": 96}, {"image_size": 24}])
def test_augmentation_with_all_amounts_at_zero_is_the_center_view(faces, generator, geometry):
    spec = replace(SPEC, **geometry)
    if spec.resize:  # then only the random crop is left: the middle is one of its outcomes
        assert augment(faces, spec, STILL, generator).shape == (6, 1, 40, 40)
    else:
        torch.testing.assert_close(augment(faces, spec, STILL, generator), center_view(faces, spec), atol=1e-4, rtol=0)


def test_flip(faces, generator):
    flipped = augment(faces, SPEC, replace(STILL, flip=1), generator)
    torch.testing.assert_close(flipped, as_float(faces).flip(-1), atol=1e-4, rtol=0)


def test_crop_stays_inside_and_reaches_the_corners(generator):
    frame = torch.zeros(400, 48, 48, 1, dtype=torch.uint8)
    frame[:, 0, 0] = 255
    crops = augment(frame, replace(SPEC, image_size=40, resize=48), STILL, generator)
    assert 0 < (crops.amax((1, 2, 3)) > 0.5).sum() < 40


def test_rotation_turns_about_the_centre(generator):
    dot = torch.zeros(200, 48, 48, 1, dtype=torch.uint8)
    dot[:, 23:25, 44:46] = 255
    turned = augment(dot, SPEC, replace(STILL, rotation=10), generator)[:, 0]
    rows = (turned.sum(2) * torch.arange(48)).sum(1) / turned.sum((1, 2))
    angles = torch.rad2deg(torch.asin((rows - 23.5) / 21))
    assert angles.min() < -8
    assert angles.max() > 8
    assert angles.abs().max() < 11


def test_brightness_and_contrast(generator):
    grey = torch.full((500, 48, 48, 1), 100, dtype=torch.uint8)
    bright = augment(grey, SPEC, replace(STILL, brightness=0.2), generator).mean((1, 2, 3)) * 255
    assert 80 <= bright.min() < 84
    assert 116 < bright.max() <= 120.1
    contrast = augment(grey, SPEC, replace(STILL, contrast=0.2), generator)
    torch.testing.assert_close(contrast, as_float(grey), atol=1e-4, rtol=0)  # a flat face has no contrast to change


def test_erasing_covers_a_share_of_the_faces(generator):
    white = torch.full((1000, 48, 48, 1), 255, dtype=torch.uint8)
    erased = augment(white, SPEC, replace(STILL, erasing=0.3), generator) < 0.75
    share = erased.flatten(1).float().mean(1)
    assert 0.24 < (share > 0).float().mean() < 0.36
    assert share.max() <= 0.22


# ── erasing as torchvision's ─────────────────────────────────────────────────────────────────────────────────────────

AS_TORCHVISION = replace(STILL, erasing_area=0.33, erasing_inside=True, erasing_fill="mean")


def rectangles(erased):
    """Rows of area, height, width, top and left of the rectangles of N×H×W, of faces that have one."""
    found = []
    for face in erased[erased.any((1, 2))]:
        rows, columns = face.any(1).nonzero().flatten(), face.any(0).nonzero().flatten()
        assert face.sum() == len(rows) * len(columns), "a rectangle in one piece"
        found.append((face.sum().item(), len(rows), len(columns), rows[0].item(), columns[0].item()))
    return np.array(found)


def test_erased_rectangles_are_distributed_as_those_of_torchvision(generator):
    white = torch.full((4000, 48, 48, 1), 255, dtype=torch.uint8)
    ours = augment(white, SPEC, replace(AS_TORCHVISION, erasing=1.0), generator)[:, 0] < 0.75
    with torch.random.fork_rng():
        torch.manual_seed(1)
        stock = v2.RandomErasing(p=1.0)
        theirs = torch.cat([stock(torch.ones(1, 48, 48)) for _ in range(4000)]) == 0
    assert ours.any((1, 2)).all()
    assert theirs.any((1, 2)).all()
    ours, theirs = rectangles(ours), rectangles(theirs)
    for name, first, second in zip(("area", "height", "width", "top", "left"), ours.T, theirs.T, strict=True):
        assert stats.ks_2samp(first, second).pvalue > 0.01, name
        assert first.mean() == pytest.approx(second.mean(), rel=0.05), name
    shares = ours[:, 0] / 48**2
    assert 0.015 < shares.min() < 0.03
    assert 0.32 < shares.max() < 0.34


def test_erasing_has_the_probability_of_torchvision(generator):
    white = torch.full((5000, 24, 24, 1), 255, dtype=torch.uint8)
    spec = replace(SPEC, image_size=24)
    ours = augment(white, spec, replace(AS_TORCHVISION, erasing=0.2), generator)[:, 0] < 0.75
    with torch.random.fork_rng():
        torch.manual_seed(1)
        stock = v2.RandomErasing(p=0.2)
        theirs = torch.stack([stock(torch.ones(1, 24, 24)).amin() == 0 for _ in range(5000)])
    for erased in (ours.any((1, 2)), theirs):  # 0.2 ± three standard errors
        assert erased.float().mean().item() == pytest.approx(0.2, abs=0.017)


@pytest.mark.parametrize("channels", [1, 3])
def test_erased_pixels_are_0_after_normalisation(channels, generator):
    """As where torchvision erases after v2.Normalize; the rest of a grey face stays grey."""
    spec = replace(MODELS["resnet50"], image_size=48)
    images = torch.randint(0, 256, (20, 48, 48, channels), dtype=torch.uint8, generator=generator)
    found = augment(images, spec, replace(AS_TORCHVISION, erasing=1.0), generator)
    normalised = v2.Normalize(spec.mean, spec.std)(found)
    erased = (normalised.abs() < 1e-6).all(1, keepdim=True)
    assert 0.1 < erased.float().mean() < 0.3
    whole = as_float(images).expand(-1, 3, -1, -1)
    torch.testing.assert_close(found.where(~erased, whole), whole, atol=1e-4, rtol=0)


def test_a_grey_model_erases_to_its_own_mean(generator):
    images = torch.full((20, 48, 48, 3), 255, dtype=torch.uint8)
    found = augment(images, SPEC, replace(AS_TORCHVISION, erasing=1.0), generator)
    assert found.shape == (20, 3, 48, 48)
    assert found.unique().tolist() == pytest.approx([SPEC.mean[0], 1.0], abs=1e-4)


def test_same_seed_same_faces(faces):
    first, second, other = (
        augment(faces, SPEC, Augmentation(), torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_each_face_has_its_own_variation(generator):
    same = torch.randint(0, 256, (1, 48, 48, 1), dtype=torch.uint8, generator=generator).expand(8, -1, -1, -1)
    views = augment(same, SPEC, Augmentation(), generator)
    assert len({view.numpy().tobytes() for view in views}) == 8


def test_mixup_mixes_faces_and_targets_alike(generator):
    targets = torch.eye(7)
    faces = targets.view(7, 7, 1, 1).expand(7, 7, 2, 2)
    mixed_faces, mixed_targets = mix(faces, targets, generator, mixup_alpha=0.5)
    torch.testing.assert_close(mixed_faces[:, :, 0, 0], mixed_targets)
    torch.testing.assert_close(mixed_targets.sum(1), torch.ones(7))
    assert not torch.equal(mixed_targets, targets)
    assert mix(faces, targets, generator)[0] is faces


def test_cutmix_pastes_a_rectangle_and_weighs_targets_by_its_area(generator):
    targets = torch.eye(7)
    faces = targets.view(7, 7, 1, 1).expand(7, 7, 32, 32)
    mixed_faces, mixed_targets = mix(faces, targets, generator, cutmix_alpha=1.0)
    assert set(mixed_faces.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(mixed_faces.mean((2, 3)), mixed_targets, atol=1e-6, rtol=0)


def test_mixup_and_cutmix_take_turns(generator):
    faces, targets = torch.rand(4, 1, 16, 16, generator=generator), torch.eye(7)[:4]
    both = {"mixup_alpha": 0.5, "cutmix_alpha": 0.5}
    kept = [torch.isin(mix(faces, targets, generator, **both)[0], faces).float().mean() for _ in range(40)]
    assert {share.item() > 0.99 for share in kept} == {True, False}


@pytest.mark.parametrize(("name", "count"), [("single", 1), ("flip", 2), ("five_crop", 5), ("ten_crop", 10)])
def test_views_at_test_time(faces, name, count):
    spec = replace(SPEC, image_size=40, resize=48)
    views = list(face_views(faces, spec, name))
    assert len(views) == count
    assert torch.equal(views[0], center_view(faces, spec))
    if count >= 5:
        whole, corners = as_float(faces), views[count // 5 :: count // 5]
        places = [(0, 0), (0, 8), (8, 0), (8, 8)]
        for corner, (top, left) in zip(corners, places, strict=True):
            assert torch.equal(corner, whole[..., top : top + 40, left : left + 40])
    if count in (2, 10):
        assert torch.equal(views[1], views[0].flip(-1))


def test_views_of_a_model_that_sees_the_whole_face(faces):
    views = list(face_views(faces, SPEC, "five_crop"))
    assert {view.shape for view in views} == {(6, 1, 48, 48)}
    assert not torch.equal(views[1], views[4])
