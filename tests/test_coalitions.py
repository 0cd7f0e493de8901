"""explanations/coalitions.py: games whose values are known by hand, and those of shapiq."""

from itertools import permutations

import numpy as np
import pytest
import shapiq

from ferlib.explanations.coalitions import (
    coalitions,
    divide,
    interactions,
    shapley_values,
    smallest_changing,
    smallest_keeping,
)


def game(players, outcome):
    """The table of a function of sets."""
    return np.array([[outcome(set(np.flatnonzero(row)))] for row in coalitions(players)], float)


def random_table(players, classes=3):
    return np.random.default_rng(players).normal(size=(2**players, classes))


def test_rows_are_all_coalitions_in_the_order_of_their_bits():
    assert coalitions(3).tolist() == [
        [0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 1], [1, 0, 1], [0, 1, 1], [1, 1, 1],
    ]  # fmt: skip
    for players in (0, 17):
        with pytest.raises(ValueError, match="from 1 to 16"):
            coalitions(players)


def test_a_player_divides_the_table():
    table = np.arange(8)[:, None]
    absent, present = divide(table, 1)
    assert absent.ravel().tolist() == [0, 1, 4, 5]
    assert present.ravel().tolist() == [2, 3, 6, 7]


def test_glove_game():
    """One left glove and two right ones; a pair is worth 1. Shapley values 2/3, 1/6, 1/6 (by hand)."""
    table = game(3, lambda who: float(0 in who and bool({1, 2} & who)))
    np.testing.assert_allclose(shapley_values(table).ravel(), [2 / 3, 1 / 6, 1 / 6], atol=1e-12)


def test_airport_game():
    """Runways of lengths 1, 3, 6: each stretch is shared by those that need it."""
    table = game(3, lambda who: max((0, *((1, 3, 6)[player] for player in who))))
    np.testing.assert_allclose(shapley_values(table).ravel(), [1 / 3, 1 / 3 + 1, 1 / 3 + 1 + 3], atol=1e-12)


def test_values_are_means_over_all_orders():
    table = random_table(5)
    expected = np.zeros((5, 3))
    orders = list(permutations(range(5)))
    for order in orders:
        row = 0
        for player in order:
            expected[player] += table[row | 1 << player] - table[row]
            row |= 1 << player
    np.testing.assert_allclose(shapley_values(table), expected / len(orders), atol=1e-12)


@pytest.mark.parametrize("players", [1, 2, 7, 11])
def test_values_are_complete(players):
    table = random_table(players, 7)
    np.testing.assert_allclose(shapley_values(table).sum(0), table[-1] - table[0], atol=1e-10)


def test_interactions_of_a_product_and_of_a_sum():
    product = game(4, lambda who: 5.0 * ({1, 3} <= who) + 2 * len(who))
    expected = np.zeros((4, 4))
    expected[1, 3] = expected[3, 1] = 5
    np.testing.assert_allclose(interactions(product)[..., 0], expected, atol=1e-12)
    either = game(2, lambda who: float(bool(who)))  # one does instead of the other
    assert interactions(either)[0, 1, 0] == -1
    assert interactions(np.zeros((2, 1))).shape == (1, 1, 1)


def test_interaction_of_three_is_shared_by_pairs():
    """A carrier game of three: each pair's index is ½ (Grabisch & Roubens 1999, of the unanimity game: 1/(t − 1))."""
    table = game(5, lambda who: float({0, 1, 2} <= who))
    found = interactions(table)[..., 0]
    np.testing.assert_allclose(found[:3, :3], 0.5 * (1 - np.eye(3)), atol=1e-12)
    np.testing.assert_allclose(found[3:], 0, atol=1e-12)


def test_values_and_interactions_are_those_of_shapiq():
    players = 6
    table = random_table(players, 1)

    def play(masks):
        return table[masks.astype(int) @ (1 << np.arange(players)), 0]

    computer = shapiq.ExactComputer(play, players)
    values, pairs = computer("SV", order=1), computer("SII", order=2)
    for player in range(players):
        assert values[(player,)] == pytest.approx(shapley_values(table)[player, 0], abs=1e-9)
    for first in range(players):
        for second in range(first + 1, players):
            assert pairs[(first, second)] == pytest.approx(interactions(table)[first, second, 0], abs=1e-9)


def test_smallest_sets():
    table = np.array([[0.5, 0.5, 0], [0.4, 0.6, 0], [0.7, 0.3, 0], [0.2, 0.8, 0]])
    assert smallest_keeping(table, 1) == 1  # player 0 alone
    assert smallest_changing(table, 1) == 2  # without player 0
    assert smallest_keeping(table, 2) is None
    assert smallest_changing(np.array([[0, 1.0], [0, 1.0]]), 1) is None


def test_of_equally_small_sets_the_clearest_is_named():
    table = np.zeros((8, 2))
    table[:, 0] = 0.5
    table[[1, 4, 7], 1] = [0.6, 0.9, 1.0]
    assert smallest_keeping(table, 1) == 4
    table[[3, 5], 0], table[[3, 5], 1], table[6, 1] = 0.9, [0.3, 0.1], 0.8
    assert smallest_changing(table, 1) == 5


def test_a_table_of_some_coalitions_is_refused():
    with pytest.raises(ValueError, match="a table of 5 coalitions"):
        shapley_values(np.zeros((5, 1)))
