"""evaluation/agreement.py: agreement with annotators' votes, by hand."""

import numpy as np
import pytest

from ferlib.evaluation.agreement import CLAIMS, against_votes, agree_with_labels, agreement, describe_agreement

VOTES = np.zeros((4, 7))
VOTES[0, :2] = 0.7, 0.3
VOTES[1, 2:4] = 0.5, 0.5  # a tie
VOTES[2, 6] = 1.0
# face 3 has no votes


def test_agreement_by_hand():
    found = agreement(np.array([0, 3, 5]), VOTES[:3])
    assert found["one_annotator"] == pytest.approx((0.7 + 0.5 + 0) / 3)
    assert found["most_annotators"] == pytest.approx((1 + 0.5 + 0) / 3)


PROBABILITIES = np.full((4, 7), 0.05)
for face, answer in enumerate((0, 3, 5, 0)):
    PROBABILITIES[face, answer] = 0.7 - 0.1 * face


def test_faces_without_votes_do_not_count():
    found = against_votes(np.array([1, 2, 6, 0]), PROBABILITIES, VOTES)
    assert found["faces"] == 3
    assert found["predictions"]["one_annotator"] == pytest.approx(0.4)
    assert found["labels"]["most_annotators"] == pytest.approx((0 + 0.5 + 1) / 3)
    assert agree_with_labels(np.array([1, 2, 6, 0]), VOTES) == {"faces": 3, "labels": found["labels"]}


def test_errors_are_sorted_by_what_annotators_say():
    found = against_votes(np.array([1, 2, 6, 0]), PROBABILITIES, VOTES)["errors"]
    assert [found[name] for name in ("count", *CLAIMS)] == [3, 2, 0, 1]  # Angry and Happy have the most votes, Sad none
    assert found["label_without_votes"] == 0
    assert [error["index"] for error in found["surest"]["most"]] == [0, 1]  # the surest first
    assert found["surest"]["none"][0]["votes"] == [0, 0, 0, 0, 0, 0, 1]
    other = against_votes(np.array([4]), PROBABILITIES[:1, [1, 0, 2, 3, 4, 5, 6]], VOTES[:1])["errors"]
    assert [other[name] for name in ("most", "some", "none", "label_without_votes")] == [0, 1, 0, 1]


def test_accuracy_where_people_agree_and_elsewhere():
    labels = np.array([0, 3, 5, 0])
    found = against_votes(labels, PROBABILITIES, VOTES)
    assert found["label_has_most_votes"]["faces"] == 2  # a tie counts
    assert found["label_has_most_votes"]["accuracy"] == 1
    assert found["elsewhere"] == {"faces": 1, "accuracy": 1, "interval": found["elsewhere"]["interval"]}
    assert found["labels_without_votes"] == pytest.approx(1 / 3)
    assert [part["faces"] for part in found["by_share"]] == [1, 0, 0, 1, 1, 0]  # no vote, 0.5, 0.7
    assert found["by_share"][1]["accuracy"] is None


def test_calibration_and_entropy_beside_the_votes():
    generator = np.random.default_rng(0)
    votes = generator.dirichlet(np.full(7, 0.3), 5000)
    found = against_votes(generator.integers(0, 7, 5000), votes.astype(np.float32), votes)
    assert found["calibration"]["ece"] < 1e-6  # probabilities that are the shares themselves
    assert found["entropy"]["rank_correlation"] == pytest.approx(1)
    assert found["entropy"]["network"] == pytest.approx(found["entropy"]["people"], abs=1e-4)
    sure = np.where(votes == votes.max(1, keepdims=True), 0.94, 0.01)
    assert against_votes(generator.integers(0, 7, 5000), sure, votes)["entropy"]["rank_correlation"] is None


def test_votes_of_each_class():
    found = against_votes(np.array([0, 0, 6, 0]), PROBABILITIES, VOTES)["per_class"]
    assert found[0]["faces"] == 2
    assert found[0]["votes"][:4] == pytest.approx([0.35, 0.15, 0.25, 0.25])
    assert (found[0]["label_without_votes"], found[0]["recall"]) == (0.5, 0.5)
    assert found[2] | {"emotion": ""} == {"emotion": "", "faces": 0} | dict.fromkeys(
        ("votes", "label_without_votes", "most_annotators", "recall", "network")
    )


def test_what_the_accuracy_means_in_words():
    results = {"accuracy": 0.25, "against_votes": against_votes(np.array([1, 2, 6, 0]), PROBABILITIES, VOTES)}
    text = describe_agreement(results).replace("\N{NARROW NO-BREAK SPACE}", "")
    assert text.startswith(
        "An accuracy of 0.0% on the faces with votes is agreement with labels that one annotator, drawn at random "
        "from those who name one of the 7 emotions, gives to 60.0%"
    )
    assert text.endswith(
        "Of its 3 errors, most annotators say what the network says in 67%, and 0% have a label that no annotator gave."
    )
    assert describe_agreement({"accuracy": 0.25, "against_votes": None}) == ""


def test_no_votes():
    assert against_votes(np.zeros(2, int), np.full((2, 7), 1 / 7), None) is None
    assert against_votes(np.zeros(2, int), np.full((2, 7), 1 / 7), np.zeros((2, 7))) is None


def test_shares_at_the_end_of_a_range_belong_to_it():
    votes = np.zeros((5, 7), np.float32)
    votes[:, 0] = np.arange(2, 11, 2, dtype=np.float32) / 10  # 0.2 as 32 bits is more than 0.2
    votes[:, 1] = 1 - votes[:, 0]
    found = against_votes(np.zeros(5, int), np.eye(7)[[0] * 5], votes)
    assert [part["faces"] for part in found["by_share"]] == [0, 1, 1, 1, 1, 1]
