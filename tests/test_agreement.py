"""evaluation/agreement.py: agreement with annotators' votes, by hand."""

import numpy as np
import pytest

from ferlib.evaluation.agreement import against_votes, agreement

VOTES = np.zeros((4, 7))
VOTES[0, :2] = 0.7, 0.3
VOTES[1, 2:4] = 0.5, 0.5  # a tie
VOTES[2, 6] = 1.0
# face 3 has no votes


def test_agreement_by_hand():
    found = agreement(np.array([0, 3, 5]), VOTES[:3])
    assert found["one_annotator"] == pytest.approx((0.7 + 0.5 + 0) / 3)
    assert found["most_annotators"] == pytest.approx((1 + 0.5 + 0) / 3)


def test_faces_without_votes_do_not_count():
    found = against_votes(np.array([1, 2, 6, 0]), np.array([0, 3, 5, 0]), VOTES)
    assert found["faces"] == 3
    assert found["predictions"]["one_annotator"] == pytest.approx(0.4)
    assert found["labels"]["most_annotators"] == pytest.approx((0 + 0.5 + 1) / 3)


def test_no_votes():
    assert against_votes(np.zeros(2, int), np.zeros(2, int), None) is None
    assert against_votes(np.zeros(2, int), np.zeros(2, int), np.zeros((2, 7))) is None
