"""explanations/region_table.py and its picture: means over faces, and agreement with EMFACS."""

import numpy as np
import pytest

from ferlib.explanations.face_regions import TEN
from ferlib.explanations.region_table import agreement, is_expected, make_table, permutation_test
from ferlib.figures.region_table import describe_agreement, draw_region_table


def faces_of(emotion, rows):
    return [{"target": emotion, "values": dict(zip(TEN, map(float, row), strict=True))} for row in rows]


def test_means_and_intervals_over_faces():
    rows = np.arange(40.0).reshape(4, 10)
    table = make_table(faces_of("Happy", rows) + faces_of("Fear", rows[:1]))
    assert list(table["emotions"]) == ["Happy"]  # one face has no interval
    row = table["emotions"]["Happy"]
    assert row["faces"] == 4
    np.testing.assert_allclose(row["mean"], rows.mean(0))
    half = 3.1824463 * rows.std(0, ddof=1) / 2  # Student's t, 3 degrees of freedom
    np.testing.assert_allclose(row["low"], rows.mean(0) - half, rtol=1e-6)
    np.testing.assert_allclose(row["high"], rows.mean(0) + half, rtol=1e-6)
    assert row["expected"] == ["left eye", "right eye", "cheeks", "mouth"]


def test_contrasts_have_no_table():
    assert make_table(faces_of("Happy rather than Sad", np.zeros((5, 10)))) is None
    assert make_table([]) is None


def test_agreement_is_mann_whitney():
    expected = np.array([True, False, True, False])
    assert agreement(np.array([4.0, 1, 3, 2]), expected) == 1
    assert agreement(np.array([1.0, 4, 2, 3]), expected) == 0
    assert agreement(np.array([1.0, 1, 1, 1]), expected) == 0.5
    assert agreement(np.array([4.0, 3, 2, 1]), expected) == pytest.approx(3 / 4)


def test_p_of_the_permutations():
    """Of 10 over 4 orders of the Happy regions one is perfect: p is 1/210."""
    happy = is_expected("Happy", TEN)
    perfect = happy.astype(float) + np.arange(10) / 100
    observed, p = permutation_test([(perfect, happy)], seed=0)
    assert observed == 1
    assert p == pytest.approx(1 / 210, rel=0.4)
    assert permutation_test([(-perfect, happy)], seed=0)[1] == 1
    assert permutation_test([], seed=0) == (None, None)
    twice = permutation_test([(perfect, happy), (perfect, happy)], seed=0)[1]
    assert twice < p / 10


def test_neutral_alone_has_no_agreement():
    table = make_table(faces_of("Neutral", np.random.default_rng(0).normal(size=(5, 10))))
    assert table["agreement"] is None
    assert table["p"] is None
    assert "comparisons" not in describe_agreement(table)


def test_the_picture_shows_every_mean():
    rng = np.random.default_rng(0)
    table = make_table([face for name in ("Happy", "Fear") for face in faces_of(name, rng.normal(size=(6, 10)))])
    figure = draw_region_table(table, "run", "footer")
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert len(texts) == 20
    assert len(figure.axes[0].patches) == sum(len(row["expected"]) for row in table["emotions"].values())
    assert "50 % is chance" in describe_agreement(table)
