"""paired.py, slices.py, published.py: tests, intervals and verdicts with known answers."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest, false_discovery_control, norm
from scipy.stats import t as student
from statsmodels.stats import contingency_tables, multitest

from ferlib.data.facts import SPLITS
from ferlib.evaluation.bootstrap import p_of_draws
from ferlib.evaluation.metrics import accuracy_interval, compute_metrics, mcnemar
from ferlib.evaluation.paired import (
    Contestant,
    better_first,
    compare_pairs,
    describe_p,
    describe_pair,
    differing_faces,
    draw_seeds,
    holm,
    in_both_orders,
    in_points,
)
from ferlib.evaluation.published import PUBLISHED, published_rows
from ferlib.evaluation.slices import TAIL, find_slices, score_slices
from ferlib.runtime.errors import UserError


def contestant(name, correct, labels=None):
    """A classifier that is right where `correct` (S×N or N) says, and takes the next class elsewhere."""
    correct = np.atleast_2d(correct)
    labels = np.arange(correct.shape[1]) % 7 if labels is None else labels
    answers = np.where(correct, labels, (labels + 1) % 7)
    return Contestant(name, labels, np.eye(7)[answers] * 0.8 + 0.2 / 7)


def blocks(*counts):
    """Faces in blocks: both right, only the first, only the second, none."""
    return np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)


# ── one pair ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_pair_by_hand():
    """Of 1000 faces 120 are right for the first alone, 60 for the second: 6 points, and the exact test of 120 : 60."""
    first, second = blocks(600, 120, 60, 220)
    [row] = compare_pairs([contestant("a", first), contestant("b", second)])
    assert row["gain"] == pytest.approx(0.06)
    assert (row["won"], row["lost"], row["test"]) == (120, 60, "McNemar")
    assert row["p"] == row["p_holm"] == pytest.approx(binomtest(120, 180).pvalue)
    half = norm.ppf(0.975) * np.sqrt((0.18 - 0.06**2) / 1000)
    assert row["interval"] == pytest.approx([0.06 - half, 0.06 + half], abs=0.003)
    spread = half / norm.ppf(0.975)
    assert row["better"] == pytest.approx(norm.sf((0.005 - 0.06) / spread), abs=0.01)
    assert row["better"] + row["equal"] + row["worse"] == pytest.approx(1)
    assert row["verdict"] == "better"
    assert describe_pair(row).startswith("a is better than b: +6.0 points, 95 % interval +")


def test_the_better_one_is_named_first():
    first, second = blocks(600, 60, 120, 220)
    [row] = compare_pairs([contestant("a", first), contestant("b", second)])
    assert row["verdict"] == "worse"
    assert describe_pair(row).startswith("b is better than a: +6.0 points, 95 % interval +")


def test_a_pair_in_the_other_order():
    """Swapped, a pair is that of the contestants in the other order, by hand and by what compare_pairs finds."""
    first, second = blocks(600, 60, 120, 220)
    [row] = compare_pairs([contestant("a", first), contestant("b", second)])
    [other] = compare_pairs([contestant("b", second), contestant("a", first)])
    named = better_first(row)
    keys = ("first", "second", "gain", "interval", "better", "equal", "worse", "verdict")
    assert [named[key] for key in keys] == [
        pytest.approx(other[key], abs=1e-12) if isinstance(other[key], float | list) else other[key] for key in keys
    ]
    assert better_first(named) is named
    assert list(in_both_orders([row])) == [row, named]


def test_what_the_data_cannot_tell():
    first, second = blocks(60, 12, 8, 20)
    [row] = compare_pairs([contestant("a", first), contestant("b", second)])
    assert row["verdict"] == "unknown"
    assert describe_pair(row).startswith("The data cannot tell a from b: +4.0 points")


def test_practically_equal():
    first, second = blocks(7000, 5, 5, 2990)
    [row] = compare_pairs([contestant("a", first), contestant("b", second)])
    assert row["verdict"] == "equal"
    assert row["equal"] == 1
    assert "practically equal, within 0.5 points with a probability of 100%" in describe_pair(row)
    [same] = compare_pairs([contestant("a", first), contestant("b", first)])
    assert (same["gain"], same["p"], same["verdict"]) == (0, 1, "equal")
    assert in_points(same["gain"]) == "0.0"


def test_other_figures_are_those_of_each(monkeypatch):
    first, second = blocks(100, 30, 10, 60)
    one, other = contestant("a", first), contestant("b", second)
    [row] = compare_pairs([one, other])
    metrics = [compute_metrics(each.labels, each.probabilities[0]) for each in (one, other)]
    for name in ("macro_f1", "nll"):
        assert row["other_figures"][name]["gain"] == pytest.approx(metrics[0][name] - metrics[1][name])
    recalls = [[each["recall"] for each in found["per_class"]] for found in metrics]
    assert [each["gain"] for each in row["per_class"]] == pytest.approx(np.subtract(*recalls).tolist())


def test_subjects_widen_the_interval_and_replace_the_test():
    first, second = blocks(600, 120, 60, 220)
    pair = [contestant("a", first), contestant("b", second)]
    people = np.arange(1000) // 50
    [row], [alone] = compare_pairs(pair, people), compare_pairs(pair)
    assert np.ptp(row["interval"]) > 3 * np.ptp(alone["interval"])
    assert row["test"] == "bootstrap"
    assert row["p"] > alone["p"]


def test_many_contestants_by_subject_can_differ():
    """55 pairs: no draw of a thousand is rare enough for Holm's correction, the tail of their distribution is."""
    rng = np.random.default_rng(0)
    people = np.arange(600) // 10
    shares = [0.99, 0.1, *[0.5] * 9]
    rows = compare_pairs(
        [contestant(f"c{place}", rng.random(600) < share) for place, share in enumerate(shares)], people
    )
    first = rows[0]
    assert (first["first"], first["second"], first["verdict"]) == ("c0", "c1", "better")
    assert first["p_holm"] < 0.001
    assert sum(row["verdict"] == "unknown" for row in rows) > 25, "the nine of 50 % do not differ"


def test_one_subject_says_nothing_of_others():
    first, second = blocks(600, 120, 60, 220)
    with pytest.raises(UserError, match="all test faces are of one subject"):
        compare_pairs([contestant("a", first), contestant("b", second)], np.zeros(1000))


def test_draws_beside_a_tail():
    drawn = np.linspace(-0.02, 0.06, 1000)
    below = int((drawn <= 0).sum())
    assert p_of_draws(0.02, drawn, 1000) == pytest.approx(2 * (below + 1) / 1001)
    assert p_of_draws(-0.02, -drawn, 1000) == pytest.approx(2 * (below + 1) / 1001)
    beyond = drawn + 0.1
    assert p_of_draws(0.12, beyond, 5) == pytest.approx(2 * student.sf(0.12 / beyond.std(ddof=1), 4))
    assert p_of_draws(0.12, beyond, 1) == 1
    assert p_of_draws(0.0, np.zeros(1000), 100) == 1


def test_a_class_without_faces_has_no_gain():
    first, second = blocks(60, 12, 8, 20)
    labels = np.where(contestant("a", first).labels == 1, 2, contestant("a", first).labels)
    pair = [replace(contestant(name, right), labels=labels) for name, right in (("a", first), ("b", second))]
    row = compare_pairs(pair)[0]["per_class"][1]
    assert row == {"gain": None, "interval": None}


def test_the_interval_of_a_pair_covers():
    """Of 200 pairs whose true difference is 2 points, 95 ± 1.5 % of the intervals should hold it."""
    rng, held = np.random.default_rng(0), 0
    for _ in range(200):
        first, second = rng.random((2, 400)) < [[0.72], [0.70]]
        [row] = compare_pairs([contestant("a", first), contestant("b", second)])
        held += row["interval"][0] <= 0.02 <= row["interval"][1]
    assert 180 <= held <= 199


# ── seeds ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_seeds_that_differ_widen_the_interval():
    """Three seeds whose accuracies are 2 points apart: the interval is wider than that of one run of their mean."""
    rng = np.random.default_rng(0)
    level = np.array([0.68, 0.70, 0.72])[:, None]
    seeds, other = rng.random((3, 3000)) < level, rng.random(3000) < 0.70
    [many] = compare_pairs([contestant("a", seeds), contestant("b", other)])
    [alone] = compare_pairs([contestant("a", seeds[1]), contestant("b", other)])
    assert many["test"] == "bootstrap"
    assert "won" not in many
    assert many["gain"] == pytest.approx(float(seeds.mean() - other.mean()))
    within = np.ptp(alone["interval"])
    spread = 2 * norm.ppf(0.975) * np.std(seeds.mean(1), ddof=1) / np.sqrt(3)
    assert np.ptp(many["interval"]) > 0.85 * np.hypot(spread, within * np.sqrt(2 / 3))


def test_drawn_seeds_vary_as_new_ones():
    """The mean of three drawn of three seeds, enlarged, has the variance s² / 3 of the mean of three new ones."""
    values = np.repeat([[0.6], [0.7], [0.83]], 20_000, axis=1)
    drawn = draw_seeds(values, np.random.default_rng(0))
    assert drawn.mean() == pytest.approx(values.mean(), abs=0.001)
    assert drawn.var() == pytest.approx(values[:, 0].var(ddof=1) / 3, rel=0.03)
    one = draw_seeds(values[:1], np.random.default_rng(0))
    np.testing.assert_array_equal(one, values[0])


# ── corrections and words ────────────────────────────────────────────────────────────────────────────────────────────


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1, 1]
    assert holm([0.02]) == [0.02]


def test_holm_is_stricter_than_the_false_discovery_rate():
    p_values = np.random.default_rng(0).random(12) ** 3
    assert (np.array(holm(p_values)) >= false_discovery_control(p_values) - 1e-12).all()


def test_holm_and_mcnemar_are_those_of_statsmodels():
    p_values = np.random.default_rng(0).random(9) ** 2
    assert holm(p_values) == pytest.approx(multitest.multipletests(p_values, method="holm")[1])
    assert mcnemar(12, 3) == pytest.approx(contingency_tables.mcnemar([[0, 12], [3, 0]], exact=True).pvalue)


def test_words():
    assert (describe_p(0.0004), describe_p(0.0312)) == ("< 0.001", "0.031")
    assert [in_points(value) for value in (0.0123, -0.0123, -0.0001)] == ["+1.2", "−1.2", "0.0"]


def test_faces_on_which_two_differ():
    first, second = blocks(3, 2, 1, 4)
    found = differing_faces(contestant("a", first), contestant("b", second), np.array([f"f{n}" for n in range(10)]))
    assert found["only_first"]["count"] == 2
    assert [face["index"] for face in found["only_first"]["faces"]] == [3, 4]
    [face] = found["only_second"]["faces"]
    assert (face["index"], face["name"], face["true"], face["predicted"]) == (5, "f5", 5, [6, 5])


# ── published, slices ────────────────────────────────────────────────────────────────────────────────────────────────


def test_published_rows_have_the_interval_of_their_faces():
    rows = published_rows("fer2013")
    assert len(rows) == len(PUBLISHED["fer2013"])
    row = rows[0]
    assert row["faces"] == 3589
    assert row["interval"] == accuracy_interval(np.arange(3589) < round(0.7088 * 3589))
    assert all(row["scored"] and row["picked"] for row in rows)
    assert published_rows("jaffe") == published_rows("folder:x") == []


def make_faces(synthetic):
    """Thirty test faces and ten train faces: four dark, four blank, a copy and a near copy in train, votes."""
    images = np.random.default_rng(0).integers(100, 156, (40, 48, 48, 3), np.uint8)
    images[:4] //= 4
    images[4:8] = 128
    images[39] = images[20]
    images[38], images[37] = images[21] + 1, images[20] + 1
    votes = np.zeros((40, 7), np.float32)
    votes[:, 0] = 1
    votes[10:22] = [0.4, 0.3, 0.3, 0, 0, 0, 0]
    splits = np.full(40, SPLITS.index("test"))
    splits[30:] = SPLITS.index("train")
    chosen = synthetic.select(np.zeros(40, int))
    labels = np.zeros(40, int)
    labels[22:30] = 1
    return replace(chosen, images=images, labels=labels, splits=splits, votes=votes, names=np.arange(40).astype(str))


def test_slices_are_what_they_say(synthetic, monkeypatch):
    monkeypatch.setattr("ferlib.evaluation.slices.FEWEST", 1)
    data = make_faces(synthetic)
    found = {each.name: np.flatnonzero(each.rows).tolist() for each in find_slices(data)}
    count = round(TAIL * 30)
    assert set(found["dark"]) <= {0, 1, 2, 3}
    assert len(found["dark"]) == count
    assert found["low contrast"] == found["blurred"] == [4, 5, 6, 7]
    assert found["copied"] == [20]
    assert found["nearly copied"] == [21]
    assert found["contested"] == list(range(10, 22))
    assert found["label without votes"] == list(range(22, 30))
    assert found["agreed"] == list(range(10))


def test_small_slices_are_left_out(synthetic):
    names = {each.name for each in find_slices(make_faces(synthetic))}
    assert "copied" not in names
    assert "dark" not in names
    assert "contested" in names


def test_slices_are_scored_inside_and_outside(synthetic):
    data = make_faces(synthetic)
    [each] = [each for each in find_slices(data) if each.name == "contested"]
    correct = np.zeros(30, bool)
    correct[10:16] = True
    [row] = score_slices([each], [contestant("a", correct, data.split("test").labels)])
    [cell] = row["contestants"]
    assert (row["faces"], cell["inside"]["accuracy"], cell["outside"]["accuracy"]) == (12, 0.5, 0)
    assert cell["inside"]["interval"] == accuracy_interval(correct[10:22])
