"""error_analysis.py: confusions in words, tests of their pattern against scipy, surest errors."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import chi2, chi2_contingency
from scipy.stats.contingency import association

from config import EMOTIONS
from ferlib.evaluation.error_analysis import (
    analyse_errors,
    confident_errors,
    confusion_test,
    describe_pair,
    describe_test,
    fit_quasi_independence,
    main_confusions,
    pearson_residuals,
)

OFF = ~np.eye(7, dtype=bool)


@pytest.fixture(scope="module")
def matrix():
    return np.random.default_rng(0).integers(5, 60, (7, 7)) + np.diag([200] * 7)


def test_main_confusions_in_words():
    matrix = np.diag([78, 10, 50, 10, 10, 10, 10])
    matrix[2, 5], matrix[0, 2] = 14, 22
    pairs = main_confusions(matrix)
    assert list(map(describe_pair, pairs)) == ["Angry → Fear 22 %", "Fear → Sad 22 %"]
    assert pairs[0] == {"true": "Angry", "predicted": "Fear", "faces": 22, "share": 0.22}
    assert main_confusions(matrix, 1) == pairs[:1]


def test_independence_of_the_whole_matrix_is_scipys(matrix):
    expected = chi2_contingency(matrix, correction=False)
    found = confusion_test(matrix)["all_faces"]
    assert found["chi_square"] == pytest.approx(expected.statistic)
    assert found["degrees_of_freedom"] == expected.dof
    assert found["p_value"] == pytest.approx(expected.pvalue)
    assert found["cramers_v"] == pytest.approx(association(matrix, method="cramer"))


def test_quasi_independence_has_the_largest_likelihood(matrix):
    """The fit keeps both margins, has the form a_i b_j, and no other such table is likelier (scipy's optimiser)."""
    errors = matrix * OFF
    fitted = fit_quasi_independence(errors)
    np.testing.assert_allclose(fitted.sum(0), errors.sum(0))
    np.testing.assert_allclose(fitted.sum(1), errors.sum(1))

    def unlikelihood(effects):  # of Poisson counts, less a constant
        logs = effects[:7, None] + effects[7:]
        return (np.exp(logs) * OFF - errors * logs).sum()

    effects = minimize(unlikelihood, np.full(14, np.log(errors.mean()) / 2), method="BFGS").x
    np.testing.assert_allclose(np.exp(effects[:7, None] + effects[7:]) * OFF, fitted, rtol=1e-4)


def test_pattern_of_the_errors(matrix):
    errors = matrix * OFF
    fitted = fit_quasi_independence(errors)
    found = confusion_test(matrix)["errors"]
    statistic = ((errors - fitted)[OFF] ** 2 / fitted[OFF]).sum()
    assert found["chi_square"] == pytest.approx(statistic)
    assert found["degrees_of_freedom"] == 7 * 7 - 3 * 7 + 1  # Goodman 1968
    assert found["p_value"] == pytest.approx(chi2.sf(statistic, 29))
    assert found["cramers_v"] == pytest.approx(np.sqrt(statistic / (errors.sum() * 6)))
    assert found["faces"] == errors.sum()
    assert np.nansum(pearson_residuals(matrix) ** 2) == pytest.approx(statistic)


def test_errors_without_a_pattern_are_not_taken_for_one():
    """Confusions drawn from a_i b_j: p-values are about uniform, though the whole matrix is far from independent."""
    rng = np.random.default_rng(0)
    rates = np.outer(rng.uniform(5, 15, 7), rng.uniform(2, 8, 7)) * OFF + np.diag([500] * 7)
    tests = [confusion_test(rng.poisson(rates)) for _ in range(200)]
    p_values = np.array([test["errors"]["p_value"] for test in tests])
    assert 0.01 <= (p_values < 0.05).mean() <= 0.1
    assert 0.4 < p_values.mean() < 0.6
    assert max(test["all_faces"]["p_value"] for test in tests) < 1e-100


def test_every_class_always_taken_for_the_same_other():
    found = confusion_test(np.roll(np.diag([70] * 7), 1, axis=1))["errors"]
    assert found["cramers_v"] == pytest.approx(np.sqrt(5 / 6))
    assert found["p_value"] == 0


@pytest.mark.parametrize("cells", [{}, {(0, 1): 3}, {(0, 1): 3, (1, 0): 2}, {(row, 6): 4 for row in range(6)}])
def test_too_few_kinds_of_errors(cells):
    matrix = np.diag([9] * 7)
    for cell, count in cells.items():
        matrix[cell] = count
    found = confusion_test(matrix)
    assert found["errors"] is None
    assert found["all_faces"]["p_value"] < 0.001
    assert describe_test(found["errors"]) == "too few kinds of errors for a test"


def test_classes_that_are_never_confused_take_degrees_of_freedom(matrix):
    without = matrix.copy()
    without[1, OFF[1]] = without[OFF[:, 1], 1] = 0  # Disgust
    assert confusion_test(without)["errors"]["degrees_of_freedom"] == 6 * 6 - 3 * 6 + 1
    assert np.isnan(pearson_residuals(without)[1]).all()


def test_a_constant_answer_has_no_test_at_all():
    matrix = np.zeros((7, 7), int)
    matrix[:, 3] = 10
    assert confusion_test(matrix) == {"errors": None, "all_faces": None}


def test_test_in_words(matrix):
    test = {"chi_square": 12.34, "degrees_of_freedom": 29, "p_value": 0.0123, "cramers_v": 0.2117}
    assert describe_test(test) == "χ² = 12.3, 29 degrees of freedom, p = 0.012, Cramér's V = 0.21"
    assert "p < 0.001" in describe_test(test | {"p_value": 1e-9})


def test_surest_errors_come_first():
    probabilities = np.full((4, 7), 0.05)
    probabilities[[0, 1, 2, 3], [3, 3, 5, 0]] = (0.7, 0.7, 0.9, 0.99)
    probabilities[2] /= probabilities[2].sum()
    names = np.array(["a", "b", "c", "d"])
    errors = confident_errors(np.array([0, 3, 2, 0]), probabilities, names)
    assert [(row["index"], row["name"], row["true"], row["predicted"]) for row in errors] == [
        (2, "c", "Fear", "Sad"),
        (0, "a", "Angry", "Happy"),
    ]
    assert errors[1]["probability"] == pytest.approx(0.7)
    assert errors[1]["probabilities"] == [0.05, 0.05, 0.05, 0.7, 0.05, 0.05, 0.05]
    assert len(confident_errors(np.array([0, 3, 2, 0]), probabilities, names, 1)) == 1


def test_no_errors_at_all():
    labels = np.arange(7)
    found = analyse_errors(labels, np.eye(7), np.array(EMOTIONS))
    assert found["main_confusions"] == found["confident_errors"] == []
    assert found["confusion_test"]["errors"] is None
