"""Exact values of games whose players are few enough that every coalition is played.

A game is a table 2ⁿ×K: row S, whose bit i says whether player i takes part, holds the K outcomes of coalition S.
"""

from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np

MOST_PLAYERS = 16  # a table of 2¹⁶ rows


def coalitions(players: int) -> np.ndarray:
    """uint8 2ⁿ×n: all coalitions, row S in the order of the table; the first is empty, the last is everyone.

    ValueError for more than MOST_PLAYERS players.
    """
    if not 0 < players <= MOST_PLAYERS:
        raise ValueError(f"all coalitions of {players} players: from 1 to {MOST_PLAYERS} can be listed")
    return (np.arange(2**players)[:, None] >> np.arange(players) & 1).astype(np.uint8)


def count_players(table: np.ndarray) -> int:
    """n of a table with 2ⁿ rows; ValueError for another number of rows."""
    players = len(table).bit_length() - 1
    if players < 1 or len(table) != 2**players:
        raise ValueError(f"a table of {len(table)} coalitions is not one of all coalitions of 1, 2, 3, … players")
    return players


def shapley_values(table: np.ndarray) -> np.ndarray:
    """float64 n×K: each player's mean contribution over all orders in which the players can join.

    Shapley, "A value for n-person games" (1953), equation 13. The values add up to the outcome of all players less
    that of none, up to rounding.
    """
    players = count_players(table)
    sizes = coalitions(players).sum(1)
    weights = np.array([1 / (players * comb(players - 1, size)) for size in range(players)])
    values = np.empty((players, *table.shape[1:]))
    for player in range(players):
        absent, present = divide(table, player)
        values[player] = np.tensordot(weights[divide(sizes, player)[0]], present - absent, 1)
    return values


def interactions(table: np.ndarray) -> np.ndarray:
    """float64 n×n×K, symmetric, zeros on the diagonal: how much more two players contribute together than each alone.

    The Shapley interaction index of pairs: Grabisch & Roubens, "An axiomatic approach to the concept of interaction
    among players in cooperative games" (1999), equation 4. Positive: they need each other; negative: one does instead
    of the other.
    """
    players = count_players(table)
    found = np.zeros((players, players, *table.shape[1:]))
    if players < 2:
        return found
    sizes = coalitions(players).sum(1)
    weights = np.array([1 / ((players - 1) * comb(players - 2, size)) for size in range(players - 1)])
    for first, second in combinations(range(players), 2):
        (none, one), (other, both) = (divide(part, first) for part in divide(table, second))
        absent = divide(divide(sizes, second)[0], first)[0]
        found[first, second] = found[second, first] = np.tensordot(weights[absent], both - one - other + none, 1)
    return found


def divide(rows: np.ndarray, player: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows of coalitions without a player and of the same ones with it, each in the order of the table."""
    halves = rows.reshape(-1, 2, 2**player, *rows.shape[1:])
    return halves[:, 0].reshape(-1, *rows.shape[1:]), halves[:, 1].reshape(-1, *rows.shape[1:])


def smallest_keeping(table: np.ndarray, label: int) -> int | None:
    """The row of the smallest coalition whose highest outcome is `label`'s; of several, that with the highest one.

    None where no coalition has it.
    """
    return pick(table.argmax(1) == label, coalition_sizes(table), -table[:, label])


def smallest_changing(table: np.ndarray, label: int) -> int | None:
    """The row of the coalition that is left when the fewest players leave and the highest outcome is not `label`'s.

    Of several, that with the lowest outcome of `label`; None where every coalition keeps it.
    """
    return pick(table.argmax(1) != label, -coalition_sizes(table), table[:, label])


def coalition_sizes(table: np.ndarray) -> np.ndarray:
    """Players of each row."""
    return coalitions(count_players(table)).sum(1).astype(int)


def pick(allowed: np.ndarray, first: np.ndarray, second: np.ndarray) -> int | None:
    """The allowed row with the smallest `first`, of equal ones that with the smallest `second`."""
    rows = np.flatnonzero(allowed)
    return int(rows[np.lexsort((second[rows], first[rows]))[0]]) if len(rows) else None
