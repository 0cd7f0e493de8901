"""losses.py: values by hand, targets from votes and conflicting copies."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ferlib.data.face_data import FaceData
from ferlib.training.losses import (
    LOSSES,
    class_weights,
    cross_entropy,
    effective_loss,
    focal,
    make_loss,
    make_targets,
    vote_divergence,
    without_conflicts,
)


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
    values = make_loss(name, label_smoothing=0.1)(logits, F.one_hot(torch.arange(5), 7).float())
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
        assert torch.equal(make_loss(name, **settings)(logits, targets), expected)


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
    assert without_conflicts(data).labels.tolist() == [1, 2, 1]


def test_class_weights_balance_the_classes():
    labels = np.array([0] * 6 + [1] * 2)
    weights = class_weights(labels, 7)
    assert weights[:2].tolist() == pytest.approx([8 / 12, 8 / 4])
    assert not weights[2:].any()
    assert weights[labels].mean() == 1
