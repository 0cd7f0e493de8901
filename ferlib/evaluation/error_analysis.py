"""The errors of a classifier: main confusions, tests of their pattern, the most confident errors."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import chi2, chi2_contingency
from sklearn.metrics import confusion_matrix

from config import EMOTIONS

ROUNDS = 10_000  # of fitting at most; a 7×7 table takes about twenty


def analyse_errors(labels: np.ndarray, probabilities: np.ndarray, names: np.ndarray) -> dict[str, Any]:
    """The errors as the results hold them, from labels N, probabilities N×7 and names N."""
    matrix = confusion_matrix(labels, probabilities.argmax(1), labels=range(len(EMOTIONS)))
    return {
        "main_confusions": main_confusions(matrix),
        "confusion_test": confusion_test(matrix),
        "confident_errors": confident_errors(labels, probabilities, names),
    }


# ── pairs ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def main_confusions(matrix: np.ndarray, count: int = 10) -> list[dict[str, Any]]:
    """The pairs (true, predicted) that took the largest share of the true class, largest first.

    `matrix` holds counts 7×7, true classes in rows.
    """
    matrix = np.asarray(matrix)
    pairs = [
        {"true": EMOTIONS[true], "predicted": EMOTIONS[predicted], "faces": faces, "share": faces / sum(row)}
        for true, row in enumerate(matrix.tolist())
        for predicted, faces in enumerate(row)
        if true != predicted and faces
    ]
    return sorted(pairs, key=lambda pair: -pair["share"])[:count]


def describe_pair(pair: dict[str, Any]) -> str:
    """A row of main_confusions as Fear → Sad 22 %."""
    return f"{pair['true']} → {pair['predicted']} {100 * pair['share']:.0f} %"


# ── tests ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def confusion_test(matrix: np.ndarray) -> dict[str, Any]:
    """Two chi-square tests on a confusion matrix 7×7 of counts, true classes in rows.

    `errors`: are the confusions more than the classes' shares of the errors explain? The null hypothesis is
    quasi-independence: among the misclassified faces, where the diagonal is empty by construction, the predicted class
    does not depend on the true one (Goodman, "The analysis of cross-classified data: independence, quasi-independence,
    and interactions in contingency tables with or without missing entries", JASA 1968).
    `all_faces`: does the prediction depend on the true class at all? Independence in the whole matrix, which any
    classifier better than chance refutes; given because it is often reported.
    """
    matrix = np.asarray(matrix)
    errors = matrix * ~np.eye(len(matrix), dtype=bool)
    return {"errors": chi_square(errors, fit_quasi_independence(errors)), "all_faces": independence(matrix)}


def fit_quasi_independence(errors: np.ndarray) -> np.ndarray:
    """Expected counts a_i b_j off the diagonal, with the margins of `errors` K×K: iterative proportional fitting.

    Deming & Stephan 1940; it converges to the maximum likelihood (Fienberg, Annals of Mathematical Statistics 1970).
    """
    expected = (~np.eye(len(errors), dtype=bool)).astype(float)
    for _ in range(ROUNDS):
        for axis in (0, 1):
            margin = expected.sum(axis, keepdims=True)
            expected *= errors.sum(axis, keepdims=True) / np.where(margin > 0, margin, 1)
        if np.allclose(expected.sum(0), errors.sum(0), rtol=1e-10, atol=1e-8):
            break
    return expected


def independence(matrix: np.ndarray) -> dict[str, Any] | None:
    """Pearson's test of independence of rows and columns, less the empty ones."""
    matrix = matrix[matrix.any(1)][:, matrix.any(0)]
    if min(matrix.shape) < 2:
        return None
    return chi_square(matrix, chi2_contingency(matrix, correction=False).expected_freq)


def chi_square(counts: np.ndarray, expected: np.ndarray) -> dict[str, Any] | None:
    """Pearson's X² of counts against those that row and column effects alone make one expect.

    Cells expected empty are left out; None where no degree of freedom is left. `cramers_v` is √(X² / n (k - 1)) with k
    the smaller number of rows and columns in use (Cramér, "Mathematical methods of statistics", 1946, p. 282): 0 where
    there is no pattern, at most 1 in a full table; where the diagonal is empty and each of k equally frequent classes
    is always taken for one and the same other, √((k - 2) / (k - 1)), 0.91 for seven. `sparse_cells` is the share of
    cells that expect fewer than 5: where it exceeds a fifth, the p-value is rough (Cochran, Biometrics 1954). A p-value
    of 0 is one below 1e-308.
    """
    cells = expected > 0
    rows, columns = cells.nonzero()
    effects = np.hstack([np.eye(len(counts))[rows], np.eye(counts.shape[1])[columns]])
    freedom = len(rows) - int(np.linalg.matrix_rank(effects)) if len(rows) else 0
    if freedom < 1:
        return None
    statistic = float(((counts - expected)[cells] ** 2 / expected[cells]).sum())
    smaller = min(cells.any(1).sum(), cells.any(0).sum())
    return {
        "chi_square": statistic,
        "degrees_of_freedom": freedom,
        "p_value": float(chi2.sf(statistic, freedom)),
        "cramers_v": float(np.sqrt(statistic / (counts.sum() * (smaller - 1)))),
        "faces": int(counts.sum()),
        "sparse_cells": float((expected[cells] < 5).mean()),
    }


def describe_test(test: dict[str, Any] | None) -> str:
    """A chi-square test as χ² = 275.6, 29 degrees of freedom, p < 0.001, Cramér's V = 0.21."""
    if test is None or any(test[name] is None for name in ("p_value", "chi_square", "cramers_v")):
        return "too few kinds of errors for a test"
    p_value = "p < 0.001" if test["p_value"] < 0.001 else f"p = {test['p_value']:.3f}"
    freedom = f"{test['degrees_of_freedom']} degrees of freedom"
    return f"χ² = {test['chi_square']:.1f}, {freedom}, {p_value}, Cramér's V = {test['cramers_v']:.2f}"


def pearson_residuals(matrix: np.ndarray) -> np.ndarray:
    """(count - expected) / √expected of each confusion under quasi-independence, K×K; NaN where none is possible."""
    errors = np.asarray(matrix) * ~np.eye(len(matrix), dtype=bool)
    expected = fit_quasi_independence(errors)
    return np.divide(errors - expected, np.sqrt(expected), out=np.full(expected.shape, np.nan), where=expected > 0)


# ── single faces ─────────────────────────────────────────────────────────────────────────────────────────────────────


def confident_errors(
    labels: np.ndarray, probabilities: np.ndarray, names: np.ndarray, count: int = 50
) -> list[dict[str, Any]]:
    """The misclassified faces whose predicted class is the most probable, most probable first: likely label errors.

    labels N, probabilities N×7, names N; `index` is the face's place among the N.
    """
    predictions, confidence = probabilities.argmax(1), probabilities.max(1)
    wrong = np.flatnonzero(predictions != labels)
    return [
        {
            "index": int(row),
            "name": str(names[row]),
            "true": EMOTIONS[labels[row]],
            "predicted": EMOTIONS[predictions[row]],
            "probability": float(confidence[row]),
            "probabilities": [round(float(share), 4) for share in probabilities[row]],
        }
        for row in wrong[np.argsort(-confidence[wrong], kind="stable")][:count]
    ]
