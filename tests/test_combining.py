"""combining.py: rules and weights computed by hand, or by scipy's own optimiser."""

import numpy as np
import pytest
from scipy.optimize import minimize

from ferlib.evaluation.combining import (
    RULES,
    Outputs,
    Rule,
    accuracy,
    cross_fitted,
    disagreement,
    greedy_weights,
    learned_weights,
    mean_probabilities,
    vote_shares,
)

EQUAL = np.array([0.5, 0.5])


def outputs(labels, probabilities) -> Outputs:
    """From probabilities M×N×classes that need not sum to 1."""
    return Outputs(np.array(labels), np.log(np.array(probabilities, dtype=float)))


@pytest.fixture
def noisy():
    """Five members of different strength on 400 faces."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 7, 400)
    logits = rng.normal(size=(5, 400, 7))
    logits[:, np.arange(400), labels] += np.array([0.0, 0.5, 1.0, 1.5, 2.0])[:, None]
    return Outputs(labels, logits)


# ── rules ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_means_by_hand():
    two = outputs([0], [[[0.2, 0.8]], [[0.6, 0.4]]])
    np.testing.assert_allclose(RULES["mean"].combine(two, EQUAL), [[0.4, 0.6]])
    roots = np.sqrt([0.2 * 0.6, 0.8 * 0.4])
    np.testing.assert_allclose(RULES["geometric"].combine(two, EQUAL), [roots / roots.sum()])


def test_mean_of_logits_is_the_geometric_mean(noisy):
    weights = np.array([0.1, 0.1, 0.2, 0.2, 0.4])
    logits, geometric = (RULES[name].combine(noisy, weights) for name in ("logits", "geometric"))
    np.testing.assert_allclose(logits, geometric, rtol=1e-9)


def test_votes_are_counted_and_ties_go_to_the_surer():
    three = outputs([0], [[[0.6, 0.4]], [[0.6, 0.4]], [[0.01, 0.99]]])
    shares = vote_shares(three, np.full(3, 1 / 3))
    np.testing.assert_allclose(shares, [[2 / 3, 1 / 3]], atol=1e-3)
    assert mean_probabilities(three, np.full(3, 1 / 3)).argmax() == 1, "the votes decide, not the mean"
    assert vote_shares(three, np.array([0.5, 0, 0.5])).argmax() == 1


@pytest.mark.parametrize("name", RULES)
def test_every_method_gives_probabilities(noisy, name):
    weights = RULES[name].weigh(noisy)
    assert weights.shape == (5,)
    assert weights.sum() == pytest.approx(1)
    assert (weights >= 0).all()
    probabilities = RULES[name].combine(noisy, weights)
    assert probabilities.shape == (400, 7)
    assert (probabilities >= 0).all()
    np.testing.assert_allclose(probabilities.sum(1), 1)


# ── weights ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_learned_weights_by_hand():
    """Two members, each sure where the other is not: 0.7 log(0.1 + 0.8 w) + 0.3 log(0.9 - 0.8 w) is largest at 3/4."""
    sure, unsure = [0.9, 0.1], [0.1, 0.9]
    two = outputs([0] * 10, [[sure] * 7 + [unsure] * 3, [unsure] * 7 + [sure] * 3])
    np.testing.assert_allclose(learned_weights(two), [0.75, 0.25], atol=0.01)


def test_learned_weights_reach_the_loss_of_scipys_optimiser(noisy):
    likelihood = noisy.probabilities[:, np.arange(400), noisy.labels]

    def loss(weights):
        return -np.log(weights @ likelihood).mean()

    simplex = {"type": "eq", "fun": lambda weights: weights.sum() - 1}
    best = minimize(loss, np.full(5, 0.2), method="SLSQP", bounds=[(0, 1)] * 5, constraints=simplex)
    assert best.success
    assert best.fun - 1e-6 <= loss(learned_weights(noisy)) <= best.fun + 2e-5


def test_greedy_selection_takes_those_that_complete_each_other():
    """The first is right on four of six faces, the second on the other two, the third on none."""
    right, wrong = [0.8, 0.2], [0.4, 0.6]
    three = outputs([0] * 6, [[right] * 4 + [wrong] * 2, [wrong] * 4 + [right] * 2, [wrong] * 6])
    weights = greedy_weights(three)
    assert weights[2] == 0
    assert weights[:2].min() > 0
    assert accuracy(three.labels, mean_probabilities(three, weights)) == 1


def test_greedy_selection_is_never_worse_than_the_best_member(noisy):
    joined = accuracy(noisy.labels, mean_probabilities(noisy, greedy_weights(noisy)))
    assert joined >= noisy.correct.mean(1).max()


def test_no_face_is_scored_with_weights_that_it_had_a_part_in(noisy):
    seen = []

    def weigh(val: Outputs) -> np.ndarray:
        seen.append({face.tobytes() for face in val.logits[0]})
        return np.full(5, 0.2)

    def combine(own: Outputs, weights: np.ndarray) -> np.ndarray:
        assert not seen[-1] & {face.tobytes() for face in own.logits[0]}
        return mean_probabilities(own, weights)

    np.testing.assert_allclose(
        cross_fitted(Rule("spy", combine, weigh), noisy), RULES["mean"].combine(noisy, np.full(5, 0.2))
    )
    assert len(seen) == 5
    assert {len(faces) for faces in seen} == {320}


def test_disagreement_by_hand():
    correct = np.array([[1, 1, 0, 0], [1, 0, 1, 0]], dtype=bool)
    np.testing.assert_array_equal(disagreement(correct), [[0, 0.5], [0.5, 0]])
