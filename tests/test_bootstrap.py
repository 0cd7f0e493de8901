"""bootstrap.py: weighted figures are scikit-learn's, intervals are those of scipy's bootstrap, subjects stay whole."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import accuracy_score, f1_score, log_loss, precision_recall_fscore_support, roc_auc_score

from ferlib.evaluation import bootstrap
from ferlib.evaluation.bootstrap import bootstrap_intervals, resample, weighted_auc, weighted_figures
from ferlib.evaluation.metrics import HEADLINES, accuracy_interval, compute_metrics


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
    for name in HEADLINES:
        assert once[name][0] == pytest.approx(metrics[name]), name


def test_auc_counts_ties_half():
    positive, scores = np.array([True, False, True, False]), np.array([0.5, 0.5, 0.9, 0.1])
    weights = np.array([[1, 1, 1, 1], [2, 3, 0, 1], [1, 0, 1, 0]])
    # of 4 pairs 3 in order and 1 tied; of 2×4 pairs 2 in order and 6 tied; no negative
    np.testing.assert_allclose(weighted_auc(positive, scores, weights), [3.5 / 4, (2 + 6 / 2) / 8, np.nan])


def test_absent_classes_have_no_auc():
    labels, probabilities = np.array([0, 0, 1, 1]), np.eye(7)[[0, 1, 1, 1]]
    intervals = bootstrap_intervals(labels, probabilities)
    assert np.isnan(intervals["auc"][:, 2:]).all()
    assert not np.isnan(intervals["auc"][:, :2]).any()
    assert not np.isnan(intervals["mean_auc"]).any()
    assert compute_metrics(np.array([0, 0, 0]), np.eye(7)[[0, 0, 1]])["intervals"]["mean_auc"] is None


def test_intervals_are_those_of_scipy(predictions):
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
    low, high = bootstrap_intervals(labels, probabilities)["macro_f1"]
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=0.1 * (theirs.high - theirs.low))


def test_intervals_hold_the_figures_and_come_out_the_same_twice(predictions):
    metrics, again = compute_metrics(*predictions), compute_metrics(*predictions)
    assert metrics == again
    for name in HEADLINES:
        low, high = metrics["intervals"][name]
        assert low < metrics[name] < high
    for row in metrics["per_class"]:
        for name, (low, high) in row["intervals"].items():
            assert low < row[name] < high


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


def test_faces_of_few_subjects_widen_the_intervals(predictions):
    labels, probabilities = predictions
    subjects = np.repeat(np.arange(10), 30)
    alike = np.repeat(probabilities[::30], 30, axis=0)  # a subject's thirty faces are all one
    labels = np.repeat(labels[::30], 30)
    by_face, by_subject = (bootstrap_intervals(labels, alike, units) for units in (None, subjects))
    assert np.ptp(by_subject["nll"]) > 3 * np.ptp(by_face["nll"])
    correct = alike.argmax(1) == labels
    low, high = accuracy_interval(correct, subjects)
    assert high - low > 3 * np.ptp(accuracy_interval(correct))


def test_one_subject_tells_nothing_of_others(predictions):
    metrics = compute_metrics(*predictions, np.zeros(300, int))
    assert metrics["intervals"]["macro_f1"] is None
    assert metrics["intervals"]["accuracy"] == accuracy_interval(predictions[1].argmax(1) == predictions[0])
    assert metrics["bootstrap"]["unit"] == "subject"


def test_a_perfect_classifier_is_not_said_to_be_certain():
    """Drawing faces that are all right can only give 100 %; Wilson's interval knows better, also beside subjects."""
    assert accuracy_interval(np.ones(20, bool), np.arange(20) // 2)[0] < 0.9
