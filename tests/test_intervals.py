"""intervals.py, ece_interval.py: known answers of each method, and how often the intervals hold the truth."""

import numpy as np
import pytest
from scipy.stats import binomtest, bootstrap, norm
from scipy.stats import t as student
from sklearn.metrics import cohen_kappa_score, matthews_corrcoef, roc_auc_score, top_k_accuracy_score
from statsmodels.stats.proportion import proportion_confint

from bench_intervals import Population, bootstrap_intervals, draw_population, measure_coverage, measure_ece, relabelled
from ferlib.evaluation.calibration import binned_errors
from ferlib.evaluation.ece_interval import infer_binned_error
from ferlib.evaluation.intervals import (
    METHODS,
    Proportions,
    area_under_curve,
    auc_interval,
    bin_interval,
    calibration_with_intervals,
    correlate,
    figure_intervals,
    fisher_interval,
    hanley_mcneil,
    in_top,
    mean_interval,
    mover,
    wilson,
)
from ferlib.evaluation.matrix_scores import cohens_kappa, matthews_correlation
from ferlib.evaluation.metrics import HEADLINES, accuracy_interval, compute_metrics
from ferlib.evaluation.units import Units

Z = norm.ppf(0.975)


@pytest.fixture(scope="module")
def predictions():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 7, 300)
    probabilities = rng.dirichlet(np.ones(7), 300) + 0.3 * np.eye(7)[labels]
    return labels, probabilities / probabilities.sum(1, keepdims=True)


# ── coverage ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def population():
    return draw_population(20_000, seed=0)


def test_coverage_at_four_hundred_faces(population):
    """Of 250 samples, 95 ± 1.4 % should hold the truth; one that covers 95 % hardly ever lies below 90.5 %."""
    found = measure_coverage(population, faces=400, samples=250, seed=1)["now"]
    for name in METHODS:
        values = np.atleast_1d(found[name])
        assert values.min() > 0.905, f"{name} covers {values}"
    narrow = [found[name].mean() for name in ("accuracy", "recall", "precision", "f1", "macro_f1", "balanced_accuracy")]
    assert max(narrow) < 0.985, "intervals that nearly always hold the truth are too wide"


@pytest.mark.slow
def test_the_bootstrap_covers_less(population):
    found = measure_coverage(population, faces=400, samples=150, seed=1, before=True)
    gained = {name: found["now"][name] - found["before"][name] for name in ("macro_f1", "recall", "auc")}
    assert gained["macro_f1"] > 0
    assert gained["recall"][1] > 0.03  # Disgust, six faces
    assert gained["auc"][1] > 0.1


def test_coverage_of_the_calibration_error(population):
    calibrated = relabelled(population, 1.0, seed=0)
    assert measure_ece(calibrated, 0.0, 400, 100, seed=0) > 0.9
    assert measure_ece(relabelled(population, 1.3, seed=0), None, 400, 100, seed=0) > 0.85


# ── proportions ──────────────────────────────────────────────────────────────────────────────────────────────────────


def proportion(hits, trials):
    rows = np.arange(trials)[:, None]
    return Proportions.of(np.ones((trials, 1), bool), rows < hits)


COUNTS = [(0, 5), (5, 5), (3, 7), (70, 100), (2599, 3589)]


@pytest.mark.parametrize(("hits", "trials"), COUNTS)
def test_wilson_is_that_of_scipy(hits, trials):
    ends = wilson(proportion(hits, trials), Units(trials))[:, 0]
    theirs = binomtest(hits, trials).proportion_ci(0.95, method="wilson")
    assert ends == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_wilson_is_that_of_statsmodels():
    for hits, trials in COUNTS:
        ends = wilson(proportion(hits, trials), Units(trials))[:, 0]
        assert ends == pytest.approx(proportion_confint(hits, trials, method="wilson"), abs=1e-9)


def test_no_trial_has_no_interval():
    assert np.isnan(wilson(Proportions.of(np.zeros((4, 1), bool), np.zeros((4, 1), bool)), Units(4))).all()


def test_f1_by_the_jaccard_index():
    """Two of three found, one false alarm: J = 2/4, F1 = 2/3; Wilson's of 2 in 4, transformed."""
    labels, predictions = np.array([0, 0, 0, 1, 1, 1]), np.array([0, 0, 1, 0, 1, 1])
    ends = figure_intervals(labels, np.eye(7)[predictions] * 0.9 + 0.1 / 7)["f1"][:, 0]
    jaccard = wilson(proportion(2, 4), Units(4))[:, 0]
    assert ends == pytest.approx(2 * jaccard / (1 + jaccard))


def test_subjects_that_are_all_alike_count_once():
    """Of 40 faces of 10 subjects, each right in all or none: Wilson's with ten trials and Student's t."""
    correct = np.repeat([True] * 7 + [False] * 3, 4)
    units = Units(40, np.repeat(np.arange(10), 4))
    found = wilson(Proportions.of(np.ones((40, 1), bool), correct[:, None]), units)[:, 0]
    p, n, q = 0.7, 10, student.ppf(0.975, 9)
    half = q * np.sqrt(p * (1 - p) / n + q**2 / (4 * n**2)) / (1 + q**2 / n)
    assert found == pytest.approx(np.add((p + q**2 / (2 * n)) / (1 + q**2 / n), [-half, half]))


def test_faces_of_a_class_that_one_subject_shows_count_as_one():
    """Of 12 subjects of 20 faces, one shows all 10 faces of class 0, and half are found: as a single trial."""
    labels, subjects = np.ones(240, int), np.repeat(np.arange(12), 20)
    labels[:10] = 0
    scores = np.random.default_rng(0).random(240)
    probabilities = np.full((240, 7), 1e-3)
    probabilities[:, 0], probabilities[:, 1] = scores, 0.5
    probabilities[:10, 0] = np.repeat([0.4, 0.6], 5)
    found = figure_intervals(labels, probabilities, subjects)
    q, n, p = student.ppf(0.975, 11), 1, 0.5
    half = q * np.sqrt(p * (1 - p) / n + q**2 / (4 * n**2)) / (1 + q**2 / n)
    assert found["recall"][:, 0] == pytest.approx([0.5 - half, 0.5 + half])
    assert np.ptp(found["auc"][:, 0]) > np.ptp(figure_intervals(labels, probabilities)["auc"][:, 0])


def test_subjects_of_one_face_each_change_little():
    correct = np.random.default_rng(0).random(200) < 0.7
    alone, named = accuracy_interval(correct), accuracy_interval(correct, np.arange(200))
    assert named == pytest.approx(alone, abs=0.003)


def test_a_perfect_classifier_is_not_said_to_be_certain():
    assert accuracy_interval(np.ones(20, bool), np.arange(20) // 2)[0] < accuracy_interval(np.ones(20, bool))[0] < 0.9


def test_bins_of_the_calibration_know_the_subjects():
    """Four subjects whose ten faces are all alike: as wide as of four faces, and no narrower than of forty."""
    alike = np.repeat(np.arange(4), 10)
    labels = np.where(alike == 0, 3, 0)  # the answer 0 is right for three of the four
    probabilities = np.tile(np.array([0.7, *[0.05] * 6]), (40, 1))

    def bins(subjects, rows=slice(None)):
        units = Units(len(labels[rows]), None if subjects is None else subjects[rows])
        return calibration_with_intervals(labels[rows], probabilities[rows], units)["bins"]

    [found] = [row["interval"] for row in bins(alike) if row["faces"]]
    [by_face] = [row["interval"] for row in bins(None) if row["faces"]]
    assert by_face == pytest.approx(list(binomtest(30, 40).proportion_ci(method="wilson")))
    assert found[1] - found[0] > 1.8 * (by_face[1] - by_face[0])
    assert bin_interval({"faces": 40, "accuracy": 0.75, "interval": found}) == tuple(found)
    assert bin_interval({"faces": 40, "accuracy": 0.75}) == pytest.approx(tuple(by_face)), "earlier results"
    assert all(row["interval"] is None for row in bins(alike) if not row["faces"])


def test_one_subject_says_nothing_of_others(predictions):
    metrics = compute_metrics(*predictions, np.zeros(300, int))
    low, high = metrics["intervals"]["accuracy"]
    assert high - low > 0.7
    assert {metrics["intervals"][name] for name in HEADLINES if name not in ("accuracy", "top2_accuracy")} == {None}
    assert metrics["interval_methods"]["unit"] == "subject"


def test_faces_of_few_subjects_widen_every_interval(predictions):
    labels, probabilities = predictions
    subjects = np.repeat(np.arange(30), 10)
    alike, labels = np.repeat(probabilities[::10], 10, axis=0), np.repeat(labels[::10], 10)
    by_face, by_subject = (compute_metrics(labels, alike, units)["intervals"] for units in (None, subjects))
    for name in HEADLINES:
        assert np.ptp(by_subject[name]) > 1.5 * np.ptp(by_face[name]), name


# ── areas ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_area_and_its_variance_by_all_pairs():
    """DeLong's variance from the matrix of pairs, ties half."""
    rng = np.random.default_rng(0)
    positive, scores = rng.random(60) < 0.3, rng.integers(0, 9, 60) / 8
    scores = scores + positive
    area = area_under_curve(positive, scores)
    pairs = np.sign(scores[positive][:, None] - scores[~positive]) / 2 + 0.5
    assert area.value == pytest.approx(pairs.mean()) == roc_auc_score(positive, scores)
    variance = pairs.mean(1).var(ddof=1) / area.positives + pairs.mean(0).var(ddof=1) / area.negatives
    assert (area.influence**2).sum() == pytest.approx(variance)


def test_ends_of_an_area_solve_newcombes_equation():
    """Where DeLong's variance is the modelled one, the ends are z standard errors, at the end, from the area."""
    area = area_under_curve(
        np.arange(100) % 3 == 0, np.random.default_rng(1).random(100) + (np.arange(100) % 3 == 0) / 2
    )
    low, high = auc_interval(area, Units(100))
    ratio = np.sqrt((area.influence**2).sum() * 100 / 99 / hanley_mcneil(area.value, area.positives, area.negatives))
    z = Z * (ratio if ratio > 1 else ratio ** (area.positives / (area.positives + 50)))
    for end in (low, high):
        error = np.sqrt(hanley_mcneil(end, area.positives, area.negatives))
        assert abs(end - area.value) == pytest.approx(z * error, rel=1e-6)


def test_a_perfect_area_ends_at_one_and_begins_below():
    low, high = auc_interval(area_under_curve(np.arange(20) < 4, -np.arange(20.0)), Units(20))
    assert high == 1
    assert 0.5 < low < 0.95


def test_areas_of_one_kind_have_no_interval():
    assert np.isnan(auc_interval(area_under_curve(np.ones(5, bool), np.arange(5.0)), Units(5))).all()


# ── means ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_mover_of_symmetric_intervals_is_the_usual_one():
    """Of values 0.2 ± 0.1 and 0.6 ± 0.2: the mean ± √(0.1² + 0.2² + 2 r 0.1 0.2) / 2."""
    ends = np.array([[0.1, 0.4], [0.3, 0.8]])
    for r in (0.0, 0.5, -1.0):
        half = np.sqrt(0.01 + 0.04 + 2 * r * 0.02) / 2
        found = mover(np.array([0.2, 0.6]), ends, np.array([0.5, 0.5]), np.array([[1, r], [r, 1]]))
        assert found == pytest.approx([0.4 - half, 0.4 + half])


def test_recalls_of_different_classes_do_not_correlate(predictions):
    labels, probabilities = predictions
    true = labels[:, None] == np.arange(7)
    recall = Proportions.of(true, true & (probabilities.argmax(1)[:, None] == np.arange(7)))
    np.testing.assert_allclose(correlate(recall.influence, Units(300)), np.eye(7), atol=1e-12)


def test_interval_of_a_mean_is_students_on_the_logarithm():
    values = np.array([1.0, 2.0, 4.0, 5.0])
    half = student.ppf(0.975, 3) * values.std(ddof=1) / 2 / 3
    assert mean_interval(values, Units(4)) == pytest.approx(3 * np.exp([-half, half]))


@pytest.mark.parametrize(
    ("ours", "theirs"), [(cohens_kappa, cohen_kappa_score), (matthews_correlation, matthews_corrcoef)]
)
def test_chance_corrected_scores(predictions, ours, theirs):
    """The value is scikit-learn's, the standard error that of the jackknife."""
    labels, probabilities = predictions
    guesses = probabilities.argmax(1)
    value, influence = ours(labels, guesses)
    assert value == pytest.approx(theirs(labels, guesses))
    left_out = [theirs(np.delete(labels, row), np.delete(guesses, row)) for row in range(300)]
    jackknife = np.sqrt(299 / 300 * ((np.array(left_out) - np.mean(left_out)) ** 2).sum())
    assert np.sqrt((influence**2).sum()) == pytest.approx(jackknife, rel=0.01)
    low, high = fisher_interval(value, influence, Units(300))
    assert (high - low) / 2 == pytest.approx(Z * jackknife, rel=0.03)


def test_scores_of_a_single_class():
    ones = np.ones(4, int)
    assert np.isnan(cohens_kappa(ones, ones)[0])
    assert matthews_correlation(ones, ones)[0] == 0


def test_macro_f1_beside_the_bca_interval_of_scipy(predictions):
    """Both are approximations: of balanced classes their ends lie close together."""
    labels, probabilities = predictions
    guesses = probabilities.argmax(1)

    def macro(rows):
        true, guess = labels[rows.astype(int)], guesses[rows.astype(int)]
        hits = [2 * ((true == c) & (guess == c)).sum() / ((true == c).sum() + (guess == c).sum()) for c in range(7)]
        return float(np.mean(hits))

    theirs = bootstrap(
        (np.arange(300),), macro, n_resamples=500, vectorized=False, method="BCa", rng=0
    ).confidence_interval
    low, high = figure_intervals(labels, probabilities)["macro_f1"]
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=0.15 * (theirs.high - theirs.low))


def test_top_two(predictions):
    labels, probabilities = predictions
    assert in_top(labels, probabilities).mean() == top_k_accuracy_score(labels, probabilities, k=2)
    assert in_top(np.array([1, 2]), np.array([[0.5, 0.5, 0.5], [0.5, 0.5, 0.5]])).tolist() == [True, False]


# ── calibration ──────────────────────────────────────────────────────────────────────────────────────────────────────


def inferred(population):
    return infer_binned_error(
        *binned_errors(population.labels, population.probabilities), Units(len(population.labels))
    )


def test_noise_is_taken_out_of_the_calibration_error(population):
    """Of a calibrated network, 400 faces measure 5 %; less noise it is a third, and the interval begins at 0."""
    calibrated = relabelled(population, 1.0, seed=0)
    found = [inferred(calibrated.sample(400, np.random.default_rng(seed))) for seed in range(20)]
    measured, debiased = (np.mean([getattr(each, name) for each in found]) for name in ("measured", "debiased"))
    assert measured > 0.04
    assert debiased < 0.6 * measured
    assert np.mean([each.interval[0] for each in found]) < 0.01
    for each in found:
        low, high = each.interval
        assert 0 <= low <= each.debiased <= high


def test_a_large_calibration_error_lies_in_its_interval():
    """90 % sure and 60 % right: the error is 30 %, and its interval that of the accuracy."""
    labels = np.repeat([0, 1], [600, 400])
    probabilities = np.tile([0.9, *[0.1 / 6] * 6], (1000, 1))
    found = inferred(Population(labels, probabilities))
    assert found.measured == pytest.approx(0.3)
    assert found.debiased == pytest.approx(0.3, abs=0.003)
    half = Z * np.sqrt(0.6 * 0.4 / 1000)
    assert found.interval == pytest.approx([0.3 - half, 0.3 + half], abs=0.003)


# ── all together ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_intervals_hold_the_figures_and_come_out_the_same_twice(predictions):
    metrics, again = compute_metrics(*predictions), compute_metrics(*predictions)
    assert metrics == again
    for name in HEADLINES:
        low, high = metrics["intervals"][name]
        assert low < metrics[name] < high, name
    for row in metrics["per_class"]:
        for name, (low, high) in row["intervals"].items():
            assert low < row[name] < high


def test_absent_classes_have_no_interval():
    labels, probabilities = np.array([0, 0, 1, 1]), np.eye(7)[[0, 1, 1, 1]] * 0.9 + 0.1 / 7
    ends = figure_intervals(labels, probabilities)
    for name in ("auc", "recall", "precision", "f1"):
        assert np.isnan(ends[name][:, 2:]).all()
        assert not np.isnan(ends[name][:, :2]).any()
    assert not np.isnan(ends["mean_auc"]).any()
    assert compute_metrics(np.array([0, 0, 0]), np.eye(7)[[0, 0, 1]])["intervals"]["mean_auc"] is None


@pytest.mark.parametrize("faces", [1, 2, 14])
def test_small_and_perfect_sets_have_intervals_in_range(faces):
    labels = np.arange(faces) % 7
    metrics = compute_metrics(labels, np.eye(7)[labels])
    for name, ends in metrics["intervals"].items():
        assert ends is None or 0 <= ends[0] <= ends[1] <= 1 + 1e-12, name


def test_the_bootstrap_of_the_benchmark_is_the_earlier_one(predictions):
    """So that "before" in the table is what it says: near scipy's percentiles."""
    labels, probabilities = predictions
    correct = (probabilities.argmax(1) == labels).astype(float)
    theirs = bootstrap((correct,), np.mean, method="percentile", n_resamples=1000, rng=0).confidence_interval
    low, high = bootstrap_intervals(labels, probabilities)["accuracy"]
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=0.1 * (theirs.high - theirs.low))
