"""calibration.py: figures by hand and scikit-learn's."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from ferlib.evaluation.calibration import compute_calibration, confidence_bins, face_brier_scores, face_losses


def confident(values, classes=7):
    """Probabilities N×7 whose first class has `values`, the rest shared out evenly."""
    values = np.asarray(values, float)[:, None]
    return np.hstack([values, np.repeat((1 - values) / (classes - 1), classes - 1, axis=1)])


def test_ece_by_hand():
    """Guo et al. 2017, eq. 3: four faces at 90 %, three right; two at 50 %, both right."""
    probabilities = confident([0.9, 0.9, 0.9, 0.9, 0.5, 0.5])
    found = compute_calibration(np.array([0, 0, 0, 3, 0, 0]), probabilities)
    assert found["ece"] == pytest.approx((4 * 0.15 + 2 * 0.5) / 6)
    assert found["largest_gap"] == pytest.approx(0.5)
    assert found["mean_confidence"] == pytest.approx(4.6 / 6)
    filled = [row for row in found["bins"] if row["faces"]]
    assert [row["faces"] for row in filled] == [2, 4]
    assert [row["gap"] for row in filled] == pytest.approx([-0.5, 0.15])


def test_bins_are_open_below_and_closed_above():
    assert confidence_bins(np.array([1 / 7, 0.2, 0.2 + 1e-9, 3 / 15, 1.0])).tolist() == [2, 2, 3, 2, 14]


def test_reliability_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.full(7, 0.3), 500)
    labels = (probabilities.cumsum(1) > rng.random((500, 1))).argmax(1)
    confidence, correct = probabilities.max(1), probabilities.argmax(1) == labels
    accuracy, mean = calibration_curve(correct, confidence, n_bins=15)
    filled = [row for row in compute_calibration(labels, probabilities)["bins"] if row["faces"]]
    np.testing.assert_allclose([row["accuracy"] for row in filled], accuracy)
    np.testing.assert_allclose([row["confidence"] for row in filled], mean)
    assert sum(row["faces"] for row in filled) == 500


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scores_agree_with_scikit_learn(dtype):
    rng = np.random.default_rng(0)
    labels, probabilities = np.arange(70) % 7, rng.dirichlet(np.ones(7), 70).astype(dtype)
    classes = list(range(7))
    assert face_losses(labels, probabilities).mean() == pytest.approx(log_loss(labels, probabilities, labels=classes))
    theirs = brier_score_loss(labels, probabilities, labels=classes, scale_by_half=False)
    assert face_brier_scores(labels, probabilities).mean() == pytest.approx(theirs)


def test_sure_and_wrong_costs_a_finite_loss():
    wrong = np.eye(7, dtype=np.float32)[[0]]
    assert face_losses(np.array([1]), wrong)[0] == pytest.approx(log_loss([1], wrong, labels=range(7)))
    assert face_brier_scores(np.array([1]), wrong)[0] == 2
