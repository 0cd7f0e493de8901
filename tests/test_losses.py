"""losses.py: values by hand, targets from votes and conflicting copies."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ferlib.data.face_data import FaceData
from ferlib.runtime.errors import UserError
from ferlib.training.losses import (
    LOSSES,
    Criterion,
    class_weights,
    cross_entropy,
    distillation,
    effective_loss,
    focal,
    join_targets,
    make_criterion,
    make_targets,
    vote_divergence,
    without_conflicts,
)
from recipes import Objective


@pytest.fixture
def logits():
    return torch.randn(5, 7, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def data():
    """Five faces; 0 and 3 are identical with other labels, 1 and 4 identical with the same."""
    values = np.array([1, 2, 3, 1, 2], np.uint8)
    images = np.ones((5, 2, 2, 1), np.uint8) * values.reshape(-1, 1, 1, 1)
    labels = np.array([0, 1, 2, 3, 1])
    return FaceData("fer2013", images, labels, labels.astype(str), np.zeros(5, int), "")


def test_cross_entropy_with_smoothing(logits):
    labels = torch.arange(5)
    expected = F.cross_entropy(logits, labels, label_smoothing=0.1, reduction="none")
    found = cross_entropy(logits, F.one_hot(labels, 7).float(), label_smoothing=0.1)
    torch.testing.assert_close(found, expected)


def test_focal_loss_by_hand():
    logits = torch.log(torch.tensor([[0.25, 0.75]]))
    found = focal(logits, torch.tensor([[1.0, 0.0]]), gamma=2)
    assert found.item() == pytest.approx(0.75**2 * math.log(4))
    plain = focal(logits, torch.tensor([[1.0, 0.0]]), gamma=0)
    assert plain.item() == pytest.approx(math.log(4))


def test_divergence_from_the_votes_by_hand():
    votes = torch.tensor([[0.5, 0.5]])
    found = vote_divergence(torch.log(torch.tensor([[0.25, 0.75]])), votes)
    assert found.item() == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3))
    assert vote_divergence(torch.log(votes), votes).item() == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_gives_one_value_per_face(name, logits):
    values = make_criterion(name, Objective(label_smoothing=0.1), 7)(logits, F.one_hot(torch.arange(5), 7).float())
    assert values.shape == (5,)
    assert (values >= 0).all()


def test_settings_reach_their_loss(logits):
    targets = F.one_hot(torch.arange(5), 7).float()
    settings = {"label_smoothing": 0.3, "focal_gamma": 1.5}
    for name, expected in (
        ("cross_entropy", cross_entropy(logits, targets, label_smoothing=0.3)),
        ("focal", focal(logits, targets, gamma=1.5)),
        ("votes", vote_divergence(logits, targets)),
    ):
        assert torch.equal(make_criterion(name, Objective(**settings), 7)(logits, targets), expected)


def test_votes_where_there_are_none(data):
    assert effective_loss("votes", data) == "cross_entropy"
    assert np.array_equal(make_targets(data, loss="votes"), np.eye(7)[data.labels])
    votes = np.full((5, 7), 1 / 7)
    assert effective_loss("votes", replace(data, votes=votes)) == "votes"
    np.testing.assert_allclose(make_targets(replace(data, votes=votes), loss="votes"), votes)


def test_conflicting_copies_share_their_label(data):
    targets = make_targets(data, conflicts="share")
    assert targets[0].tolist() == targets[3].tolist() == [0.5, 0, 0, 0.5, 0, 0, 0]
    assert targets[1].tolist() == targets[4].tolist() == [0, 1, 0, 0, 0, 0, 0]


def test_conflicting_copies_can_be_dropped(data):
    assert data.labels[without_conflicts(data)].tolist() == [1, 2, 1]


def test_class_weights_balance_the_classes():
    labels = np.array([0] * 6 + [1] * 2)
    weights = class_weights(labels, 7)
    assert weights[:2].tolist() == pytest.approx([8 / 12, 8 / 4])
    assert not weights[2:].any()
    assert weights[labels].mean() == 1


# ── class weights ────────────────────────────────────────────────────────────────────────────────────────────────────

WEIGHTS = torch.tensor([1.03, 9.4, 1.0, 0.57, 0.83, 0.85, 1.29])  # of FER2013


def batch(count=12):
    random = torch.Generator().manual_seed(2)
    labels = torch.randint(7, (count,), generator=random)
    return torch.randn(count, 7, generator=random).requires_grad_(), labels, F.one_hot(labels, 7).float()


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_weighted_terms_are_torch_s_weighted_mean(smoothing, parts):
    """Value and gradient; the weights of the whole batch normalise, also where it is computed in parts."""
    logits, labels, targets = batch()
    objective = Objective(label_smoothing=smoothing, class_weighting="terms")
    criterion = make_criterion("cross_entropy", objective, 7, weights=WEIGHTS)
    pieces = zip(*(x.chunk(parts) for x in (logits, targets, criterion.weigh(targets))), strict=True)
    found = sum((weights * criterion(part, of_part)).mean() for part, of_part, weights in pieces) / parts
    expected = F.cross_entropy(logits, labels, weight=WEIGHTS, label_smoothing=smoothing, reduction="mean")
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*(torch.autograd.grad(loss, logits)[0] for loss in (found, expected)))
    halves = criterion.mean_over(logits, targets, batch_size=8)
    first, second = (
        F.cross_entropy(logits[rows], labels[rows], weight=WEIGHTS, label_smoothing=smoothing).item()
        for rows in (slice(8), slice(8, 12))
    )
    assert halves == pytest.approx((8 * first + 4 * second) / 12)


def test_weighted_faces_are_averaged_over_their_number():
    logits, labels, targets = batch()
    criterion = make_criterion("cross_entropy", Objective(label_smoothing=0.1), 7, weights=WEIGHTS)
    expected = WEIGHTS[labels] * F.cross_entropy(logits, labels, label_smoothing=0.1, reduction="none")
    torch.testing.assert_close(criterion.weigh(targets) * criterion(logits, targets), expected)
    assert criterion.mean_over(logits, targets, batch_size=5) == pytest.approx(expected.mean().item())
    unweighted = make_criterion("cross_entropy", Objective(class_weighting="terms"), 7)
    assert unweighted.weigh(targets).tolist() == [1] * 12


@pytest.mark.parametrize("name", LOSSES)
def test_weights_of_terms_are_those_of_faces_for_labels_without_smoothing(name):
    logits, _labels, targets = batch()
    by_face, by_term = (
        make_criterion(name, Objective(label_smoothing=0.0, class_weighting=kind), 7, weights=WEIGHTS)
        for kind in ("faces", "terms")
    )
    torch.testing.assert_close(by_term(logits, targets), by_face(logits, targets))
    weights = by_face.weigh(targets)
    torch.testing.assert_close(by_term.weigh(targets), weights / weights.mean())


def test_mixed_targets_are_weighted_by_the_shares_of_their_classes():
    logits, _labels, targets = batch()
    mixed = torch.lerp(targets, targets.flip(0), 0.3)
    criterion = make_criterion("cross_entropy", Objective(class_weighting="terms"), 7, weights=WEIGHTS)
    losses = F.cross_entropy(logits, mixed, weight=WEIGHTS, label_smoothing=0.1, reduction="sum")
    found = (criterion.weigh(mixed) * criterion(logits, mixed)).mean()
    torch.testing.assert_close(found, losses / (mixed @ WEIGHTS).sum())


def test_the_weight_of_a_mixed_face_is_that_of_its_shares():
    """Not that of the first of its labels, which may have the smaller share."""
    mixed = torch.tensor([[0.05, 0.95, 0, 0, 0, 0, 0], [1.0, 0, 0, 0, 0, 0, 0]])
    weights = make_criterion("cross_entropy", Objective(), 7, weights=WEIGHTS).weigh(mixed)
    assert weights.tolist() == pytest.approx([0.05 * 1.03 + 0.95 * 9.4, 1.03])
    votes = torch.cat([mixed, torch.full((2, 7), 1 / 7)], 1)  # targets of another kind beside them
    assert make_criterion("cross_entropy", Objective(), 7, weights=WEIGHTS).weigh(votes).tolist() == weights.tolist()


def test_faces_of_a_class_that_training_has_none_of_count_for_nothing():
    logits, labels, targets = batch()
    weights = WEIGHTS.clone()
    weights[labels[0]] = 0
    criterion = make_criterion("cross_entropy", Objective(class_weighting="terms"), 7, weights=weights)
    assert criterion.mean_over(logits[:1], targets[:1], batch_size=1) == 0
    assert math.isfinite(criterion.mean_over(logits, targets, batch_size=5))


# ── teachers and votes ───────────────────────────────────────────────────────────────────────────────────────────────


def test_distillation_by_hand():
    teachers = torch.tensor([[0.5, 0.5]])
    logits = 2 * torch.log(torch.tensor([[0.25, 0.75]]))
    expected = 4 * (0.5 * math.log(2) + 0.5 * math.log(2 / 3))
    assert distillation(logits, teachers, 2.0).item() == pytest.approx(expected)
    assert distillation(2 * torch.log(teachers), teachers, 2.0).item() == pytest.approx(0, abs=1e-6)


def test_distillation_at_temperature_1_has_the_gradient_of_soft_labels(logits):
    teachers = torch.randn(5, 7, generator=torch.Generator().manual_seed(1)).softmax(1)
    both = []
    for loss in (lambda z: distillation(z, teachers, 1.0), lambda z: cross_entropy(z, teachers)):
        leaf = logits.clone().requires_grad_()
        both.append(torch.autograd.grad(loss(leaf).sum(), leaf)[0])
    torch.testing.assert_close(*both)


def test_criterion_reads_each_kind_of_target(data, logits):
    """Labels and teachers share the loss, votes have one of their own."""
    taught = np.random.default_rng(0).dirichlet(np.ones(7), 5).astype(np.float32)
    votes = np.random.default_rng(1).dirichlet(np.ones(7), 5).astype(np.float32)
    objective = Objective(label_smoothing=0.0, teacher_weight=0.25, teacher_temperature=3.0, votes_weight=0.5)
    targets = torch.from_numpy(join_targets(replace(data, votes=votes), objective, taught))
    criterion = make_criterion("cross_entropy", objective, 7, taught=True)
    labels = F.cross_entropy(logits, torch.from_numpy(data.labels), reduction="none")
    expected = 0.75 * labels + 0.25 * distillation(logits, torch.from_numpy(taught), 3.0)
    torch.testing.assert_close(criterion(logits, targets), expected)
    expected = 0.5 * vote_divergence(logits, torch.from_numpy(votes))
    torch.testing.assert_close(criterion.of_votes(logits, targets), expected)
    assert criterion.labels(targets).argmax(1).tolist() == data.labels.tolist()


def test_a_teacher_of_no_weight_is_no_target(data, logits):
    taught = np.full((5, 7), 1 / 7, np.float32)
    targets = torch.from_numpy(join_targets(data, Objective(teacher_weight=0.0), taught))
    assert targets.shape == (5, 7)
    plain = make_criterion("cross_entropy", Objective(), 7)
    assert torch.equal(
        make_criterion("cross_entropy", Objective(teacher_weight=0.0), 7, taught=True)(logits, targets),
        plain(logits, targets),
    )


def test_a_weight_of_votes_needs_votes(data):
    with pytest.raises(UserError, match="no annotators' votes"):
        join_targets(data, Objective(votes_weight=0.5), None)


def test_criterion_of_labels_alone_is_their_loss(logits):
    targets = F.one_hot(torch.arange(5), 7).float()
    assert torch.equal(Criterion(cross_entropy, 7)(logits, targets), cross_entropy(logits, targets))
