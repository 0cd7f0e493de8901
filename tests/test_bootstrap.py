"""bootstrap.py: weighted figures are scikit-learn's, quantiles are those of scipy's bootstrap, subjects stay whole."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import accuracy_score, f1_score, log_loss, precision_recall_fscore_support, roc_auc_score

from ferlib.evaluation import bootstrap
from ferlib.evaluation.bootstrap import quantiles, resample, weighted_auc, weighted_figures
from ferlib.evaluation.metrics import compute_metrics


@pytest.fixture(scope="module")
def predictions():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 7, 300)
    probabilities = rng.dirichlet(np.ones(7), 300) + 0.3 * np.eye(7)[labels]
    return labels, probabilities / probabilities.sum(1, keepdims=True)


def test_weighted_figures_are_those_of_scikit_learn(predictions):
    labels, probabilities = predictions
    weights = np.random.default_rng(1).integers(0, 4, (5, 300))
    figures = weighted_figures(labels, probabilities, weights)
    for row, weight in enumerate(weights):
        given = {"sample_weight": weight}
        predicted = probabilities.argmax(1)
        assert figures["accuracy"][row] == pytest.approx(accuracy_score(labels, predicted, **given))
        for average in ("macro", "weighted"):
            expected = f1_score(labels, predicted, average=average, **given)
            assert figures[f"{average}_f1"][row] == pytest.approx(expected)
        scores = precision_recall_fscore_support(labels, predicted, **given)[:3]
        for name, expected in zip(("precision", "recall", "f1"), scores, strict=True):
            np.testing.assert_allclose(figures[name][row], expected)
        aucs = [roc_auc_score(labels == code, probabilities[:, code], **given) for code in range(7)]
        np.testing.assert_allclose(figures["auc"][row], aucs)
        assert figures["mean_auc"][row] == pytest.approx(np.mean(aucs))
        assert figures["nll"][row] == pytest.approx(log_loss(labels, probabilities, **given))


def test_equal_weights_give_the_figures_themselves(predictions):
    metrics = compute_metrics(*predictions)
    once = weighted_figures(*predictions, np.ones((1, 300), int))
    for name in ("accuracy", "macro_f1", "weighted_f1", "mean_auc", "ece", "nll", "brier"):
        assert once[name][0] == pytest.approx(metrics[name]), name


def test_auc_counts_ties_half():
    positive, scores = np.array([True, False, True, False]), np.array([0.5, 0.5, 0.9, 0.1])
    weights = np.array([[1, 1, 1, 1], [2, 3, 0, 1], [1, 0, 1, 0]])
    # of 4 pairs 3 in order and 1 tied; of 2×4 pairs 2 in order and 6 tied; no negative
    np.testing.assert_allclose(weighted_auc(positive, scores, weights), [3.5 / 4, (2 + 6 / 2) / 8, np.nan])


def test_quantiles_are_those_of_scipy(predictions):
    """Other draws of the same bootstrap: the ends differ by about a tenth of the interval at most."""
    labels, probabilities = predictions
    predicted = probabilities.argmax(1)
    theirs = stats.bootstrap(
        (labels, predicted),
        lambda true, guess: f1_score(true, guess, average="macro"),
        n_resamples=400,
        paired=True,
        vectorized=False,
        method="percentile",
        rng=0,
    ).confidence_interval
    draws = [weighted_figures(labels, probabilities, weights)["macro_f1"] for weights in resample(np.arange(300))]
    low, high = quantiles(np.concatenate(draws))
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=0.1 * (theirs.high - theirs.low))


def test_blocks_do_not_change_the_size(monkeypatch):
    monkeypatch.setattr(bootstrap, "BLOCK", 7 * 30)
    blocks = list(resample(np.arange(30)))
    assert [len(block) for block in blocks] == [7] * 142 + [6]
    drawn = np.concatenate(blocks)
    assert (drawn.sum(1) == 30).all()
    assert drawn.mean() == 1
    assert drawn.var() == pytest.approx(1 - 1 / 30, rel=0.05)


def test_subjects_are_drawn_whole():
    subjects = np.array([4, 4, 9, 9, 9, 2])
    drawn = np.concatenate(list(resample(subjects)))
    assert (drawn[:, 0] == drawn[:, 1]).all()
    assert (drawn[:, 2:5] == drawn[:, 2:3]).all()
    assert (drawn[:, 0] + drawn[:, 2] + drawn[:, 5] == 3).all()
