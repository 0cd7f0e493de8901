"""explanations/region_table.py and its picture: means over faces, and agreement with EMFACS."""

import numpy as np
import pytest

from ferlib.explanations.face_regions import TEN
from ferlib.explanations.region_contrasts import compare, confident, make_contrasts
from ferlib.explanations.region_table import agreement, is_expected, make_table, permutation_test
from ferlib.figures.region_table import describe_agreement, draw_contrasts, draw_region_table


def faces_of(emotion, rows):
    own = {"target": emotion, "predicted": emotion, "true": None, "probabilities": [1.0]}
    return [{**own, "values": dict(zip(TEN, map(float, row), strict=True))} for row in rows]


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


def test_few_faces_have_a_mean_and_no_interval():
    rng = np.random.default_rng(0)
    many, few = faces_of("Happy", rng.normal(size=(8, 10))), faces_of("Fear", rng.normal(size=(2, 10)))
    figure = draw_region_table(make_table(many + few), "run", "footer")
    assert sum("±" in text.get_text() for text in figure.axes[0].texts) == 10
    labels = [" ".join(label.get_text().split()) for label in figure.axes[0].get_xticklabels()]
    assert labels == ["Fear 2 faces, no interval", "Happy 8 faces"]
    assert "±: half of the 95 % interval" in " ".join(figure._supxlabel.get_text().split())
    figure = draw_region_table(make_table(few), "run", "footer")
    assert "±" not in " ".join([figure._supxlabel.get_text(), *(text.get_text() for text in figure.axes[0].texts)])
    assert "No interval: fewer than 8 faces." in " ".join(figure._supxlabel.get_text().split())


# ── groups ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_contrast_within_classes_by_hand():
    """Wrong faces of Happy have all evidence in the first region, right ones in the second; Fear has no wrong face."""
    first, second = np.eye(10)[0], -3 * np.eye(10)[1]  # a share is the value over the size of all
    wrong = [{**face, "true": "Sad"} for face in faces_of("Happy", [first, 2 * first] * 4)]
    right = [{**face, "true": "Happy"} for face in faces_of("Happy", [second] * 8)]
    others = [{**face, "true": "Fear"} for face in faces_of("Fear", [first] * 4)]
    found = make_contrasts(wrong + right + others, TEN)
    assert list(found) == ["wrong", "confident_wrong"]
    assert found["wrong"]["faces"] == [8, 8]
    np.testing.assert_allclose(found["wrong"]["difference"][:3], [1, 1, 0])
    np.testing.assert_allclose(found["wrong"]["low"], found["wrong"]["difference"])  # no spread within the groups


def test_confident_faces_are_as_sure_as_half_of_the_right_ones():
    own = {"predicted": "Happy", "values": {}}
    right = [{**own, "true": "Happy", "probabilities": [0.1 * place]} for place in range(1, 6)]
    wrong = [{**own, "true": "Sad", "probabilities": [share]} for share in (0.2, 0.35, 0.9)]
    sure = [max(face["probabilities"]) for face in confident(right + wrong)]
    assert sure == pytest.approx([0.3, 0.4, 0.5, 0.35, 0.9])
    assert confident(wrong) == []


def test_classes_of_groups_do_not_make_a_difference():
    """Two classes with other evidence, one of them wrong more often: within classes nothing differs."""
    rng = np.random.default_rng(0)
    faces = []
    for emotion, place, wrong in (("Happy", 0, 10), ("Fear", 5, 50)):
        for number, row in enumerate(np.eye(10)[place] + 0.05 * rng.normal(size=(100, 10))):
            faces += [{**face, "true": "Sad" if number < wrong else emotion} for face in faces_of(emotion, [row])]
    contrast = make_contrasts(faces, TEN)["wrong"]
    assert all(low < 0 < high for low, high in zip(contrast["low"], contrast["high"], strict=True))
    assert np.abs(contrast["difference"]).max() < 0.02


@pytest.mark.parametrize("sizes", [[(60, 60)], [(8, 8)], [(8, 30)], [(8, 8)] * 3, [(8, 30), (12, 8)]])
def test_intervals_hold_together(sizes):
    """Two groups of one distribution: all ten intervals hold 0 in 95 % of the draws, also of small groups."""
    rng, held = np.random.default_rng(0), 0
    for _ in range(800):
        found = compare([(rng.normal(size=(one, 10)), rng.normal(size=(other, 10))) for one, other in sizes])
        held += all(low < 0 < high for low, high in zip(found["low"], found["high"], strict=True))
    assert 0.92 <= held / 800 <= 0.985


def test_copies_are_compared_where_they_are_known():
    rows = faces_of("Happy", np.random.default_rng(0).normal(size=(16, 10)))
    faces = [{**face, "true": "Happy", "training_copy": place < 8} for place, face in enumerate(rows)]
    found = make_contrasts(faces, TEN)
    assert found["training_copy"]["faces"] == [8, 8]
    assert "wrong" not in found
    figure = draw_contrasts(make_table(faces), "run")
    assert len(figure.axes) == 1
