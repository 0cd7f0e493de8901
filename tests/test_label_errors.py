"""Confident learning and its score against votes, by hand and on labels with known errors."""

import numpy as np
import pytest

from config import EMOTIONS
from ferlib.data.face_data import FaceData
from ferlib.evaluation.audits import audit_labels, find_predicted
from ferlib.evaluation.label_errors import (
    errors_by_votes,
    margins,
    precision_at,
    rank_label_errors,
    score_ranking,
)
from ferlib.evaluation.predictions import SavedPredictions, save_predictions
from ferlib.runtime.errors import UserError
from ferlib.runtime.files import write_json
from ferlib.runtime.runs import Run


def test_confident_joint_by_hand():
    """Thresholds are 0.75 for class 0 and 0.6 for class 1: the third face counts for class 1, the fourth for none."""
    labels = np.array([0, 0, 0, 1, 1])
    probabilities = np.array([[0.95, 0.05], [0.9, 0.1], [0.4, 0.6], [0.5, 0.5], [0.3, 0.7]])
    ranking = rank_label_errors(labels, probabilities)
    assert ranking.thresholds == pytest.approx([0.75, 0.6])
    assert ranking.joint.tolist() == [[2, 1], [0, 1]]
    assert ranking.candidates == 1
    assert ranking.order[0] == 2
    assert ranking.order[1:].tolist() == [3, 4, 1, 0], "behind the candidates by the margin"
    assert margins(labels, probabilities) == pytest.approx([0.9, 0.8, -0.2, 0, 0.4])


def test_a_class_without_faces_has_no_threshold():
    ranking = rank_label_errors(np.array([0, 0, 1]), np.array([[0.6, 0.2, 0.2], [0.1, 0.1, 0.8], [0.2, 0.7, 0.1]]))
    assert ranking.thresholds[2] == np.inf
    assert ranking.candidates == 0


def noisy(count=2000, share=0.1, seed=0):
    """True classes, labels of which a share is wrong, and probabilities of a network that is right mostly."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, 7, count)
    wrong = rng.random(count) < share
    labels = np.where(wrong, (true + rng.integers(1, 7, count)) % 7, true)
    logits = rng.normal(0, 1, (count, 7))
    logits[np.arange(count), true] += 3
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return true, labels, probabilities, wrong


def test_wrong_labels_come_first():
    _, labels, probabilities, wrong = noisy()
    ranking = rank_label_errors(labels, probabilities)
    top = precision_at(ranking.order, wrong)
    assert [row["k"] for row in top] == [10, 20, 50, 100, 200, 500, 1000]
    assert top[3]["precision"] > 0.95
    assert wrong[ranking.order[: ranking.candidates]].mean() > 0.6
    low, high = top[3]["interval"]
    assert low < top[3]["precision"] <= high <= 1
    shuffled = precision_at(np.random.default_rng(0).permutation(len(labels)), wrong)
    assert shuffled[-1]["precision"] == pytest.approx(0.1, abs=0.03)


def test_precision_and_wilson_interval_by_hand():
    errors = np.array([True] * 8 + [False] * 12)
    [first, second] = precision_at(np.arange(20), errors, (10, 20))
    assert (first["errors"], first["precision"]) == (8, 0.8)
    assert first["interval"] == pytest.approx([0.490, 0.943], abs=1e-3)
    assert second["precision"] == 0.4


def test_votes_say_what_an_error_is():
    labels = np.array([0, 1, 2, 3])
    votes = np.zeros((4, 7))
    votes[0, 0], votes[1, 1], votes[1, 2], votes[2, 5] = 1, 0.4, 0.6, 1
    found = errors_by_votes(labels, votes)
    assert found["outvoted"].tolist() == [False, True, True, False]
    assert found["no_vote"].tolist() == [False, False, True, True]
    assert (
        score_ranking(labels, np.full((4, 7), 1 / 7), np.zeros((4, 7)), rank_label_errors(labels, np.eye(7)[:4]))
        is None
    )


def test_a_ranking_is_scored_over_the_faces_with_votes():
    true, labels, probabilities, wrong = noisy()
    votes = np.eye(7)[true]
    votes[::2] = 0
    scored = score_ranking(labels, probabilities, votes, rank_label_errors(labels, probabilities))
    assert scored["faces"] == 1000
    criterion = scored["criteria"]["no_vote"]
    assert criterion["share"] == pytest.approx(wrong[1::2].mean())
    assert criterion["confident_learning"][2]["precision"] > 0.9
    assert scored["suggestion"][2]["precision"] > 0.9


# ── predictions of runs ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def data():
    true, labels, _, _ = noisy(300)
    splits = np.arange(300) % 3
    names = np.array([f"face_{row}" for row in range(300)])
    votes = np.eye(7, dtype=np.float32)[true]
    return FaceData("fer2013", np.zeros((300, 1, 1, 1), np.uint8), labels, names, splits, "abc", votes=votes)


def write_run(folder, data, tag, seed, splits=(1, 2), fingerprint="abc"):
    """A run whose predictions of val and test are those of `noisy` with more noise the larger the seed."""
    run = Run("mini_resnet", data.dataset, tag, folder)
    _, _, probabilities, _ = noisy(300)
    noise = np.random.default_rng(seed).dirichlet(np.full(7, 0.5), 300)
    probabilities = ((10 - seed) * probabilities + seed * noise) / 10
    for code, path in ((1, run.val_predictions), (2, run.predictions)):
        if code in splits:
            rows = data.splits == code
            saved = SavedPredictions(
                data.labels[rows], probabilities[rows], np.log(probabilities[rows]), data.names[rows], "", fingerprint
            )
            save_predictions(path, saved)
    write_json(run.history, {"run": run.identity()})
    return run


def test_the_run_that_is_best_on_val_ranks(tmp_path, data):
    assert find_predicted(data, tmp_path) is None
    write_run(tmp_path, data, "poor", 8)
    best = write_run(tmp_path, data, "good", 1)
    write_run(tmp_path, data, "other", 0, fingerprint="of another copy")
    found = find_predicted(data, tmp_path)
    assert found.run.name == best.name
    assert found.splits == ("val", "test")
    assert set(data.splits[found.rows]) == {1, 2}
    assert find_predicted(data, tmp_path, "mini_resnet:poor").run.tag == "poor"
    assert find_predicted(data.select(np.arange(90)), tmp_path) is None, "of other faces"


def test_a_network_that_may_have_seen_the_faces_does_not_rank_them(tmp_path, data):
    poor = write_run(tmp_path, data, "poor", 8)
    seen = write_run(tmp_path, data, "seen", 0)
    write_json(seen.results, {"run": seen.identity(), "may_have_seen": True})
    assert find_predicted(data, tmp_path).run.name == poor.name
    write_json(poor.results, {"run": poor.identity()})  # of an earlier version, which does not say it
    assert find_predicted(data, tmp_path).run.name == poor.name
    with pytest.raises(UserError, match="may have been training faces; name another --run"):
        find_predicted(data, tmp_path, "mini_resnet:seen")


def test_label_errors_of_an_audit(tmp_path, data):
    assert audit_labels(data, None) == (None, [])
    write_run(tmp_path, data, "good", 1)
    facts, [finding] = audit_labels(data, find_predicted(data, tmp_path))
    assert facts["faces"] == 200
    assert 0 < facts["candidates"] < 60
    first = facts["faces_listed"][0]
    assert data.names[first["row"]] == first["name"]
    assert first["label"] == EMOTIONS[data.labels[first["row"]]] != first["predicted"]
    assert finding.level == "warning"
    assert "of the first 100" in finding.text
    assert "have more votes for another class" in finding.text
