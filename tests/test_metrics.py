"""metrics.py and plots.py: figures computed by hand, plots that can be opened."""

import numpy as np
import pytest
from PIL import Image

from config import EMOTIONS
from ferlib.evaluation.calibration import face_losses
from ferlib.evaluation.metrics import accuracy_interval, compare_accuracies, compute_metrics
from ferlib.figures.confusion import plot_confusion_matrix
from ferlib.figures.curves import plot_roc_curves
from ferlib.figures.training import plot_training_curves


def certain(predictions):
    """Probabilities of a model that is sure of its predictions."""
    return np.eye(len(EMOTIONS))[np.array(predictions)] * 0.9 + 0.1 / 7


def test_by_hand():
    labels = np.array([0, 0, 0, 0, 3, 3, 5, 5, 5, 5])
    metrics = compute_metrics(labels, certain([0, 0, 0, 3, 3, 3, 5, 5, 0, 0]))
    assert metrics["accuracy"] == 0.7
    # Angry: 3 of 5 found are right, 3 of 4 are found; Happy: 2 of 3 and 2 of 2; Sad: 2 of 2 and 2 of 4
    f1 = [2 * 3 / (5 + 4), 2 * 2 / (3 + 2), 2 * 2 / (2 + 4)]
    assert metrics["macro_f1"] == pytest.approx(np.mean(f1))
    assert metrics["weighted_f1"] == pytest.approx(np.dot(f1, [4, 2, 4]) / 10)
    angry, happy = metrics["per_class"][0], metrics["per_class"][3]
    assert (angry["emotion"], angry["support"]) == ("Angry", 4)
    assert (angry["precision"], angry["recall"], angry["f1"]) == pytest.approx((3 / 5, 3 / 4, f1[0]))
    assert (happy["precision"], happy["recall"]) == pytest.approx((2 / 3, 1))
    # Angry: of the 4×6 pairs, 3 positives stand above the 4 negatives called something else and tie with 2
    assert angry["auc"] == pytest.approx((3 * (4 + 0.5 * 2) + 1 * 0.5 * 4) / 24)
    assert metrics["confusion_matrix"][5] == [2, 0, 0, 0, 0, 2, 0]
    assert np.sum(metrics["confusion_matrix"]) == 10


def test_classes_without_faces_have_no_auc():
    metrics = compute_metrics(np.array([0, 0, 1]), certain([0, 0, 1]))
    assert [row["auc"] for row in metrics["per_class"]] == [1, 1, None, None, None, None, None]
    assert metrics["mean_auc"] == 1
    assert compute_metrics(np.array([2]), certain([2]))["mean_auc"] is None


def test_accuracy_interval_of_wilson():
    low, high = accuracy_interval(np.repeat([True, False], [70, 30]))
    assert (low, high) == pytest.approx((0.6042, 0.7811), abs=5e-5)
    assert accuracy_interval(np.ones(10, bool))[1] == 1


def test_two_classifiers_on_the_same_faces():
    """The second is right where the first is wrong on 8 faces and the other way round on 2: p of 8 heads in 10."""
    first = np.repeat([True, False, True, False], [50, 8, 2, 40])
    second = np.repeat([True, True, False, False], [50, 8, 2, 40])
    found = compare_accuracies(first, second)
    assert (found["won"], found["lost"], found["gain"]) == (8, 2, pytest.approx(0.06))
    assert found["p"] == pytest.approx(2 * (45 + 10 + 1) / 1024)
    margin = 1.96 * (0.1 - 0.06**2) ** 0.5 / 10  # of a normal distribution
    assert found["interval"] == pytest.approx([0.06 - margin, 0.06 + margin], abs=0.011)
    same = {"gain": 0, "interval": [0, 0], "test": "McNemar", "p": 1, "won": 0, "lost": 0}
    assert compare_accuracies(first, first) == same
    people = np.arange(100) // 10  # faces of one subject are drawn together
    by_person = compare_accuracies(first, second, people)
    assert np.ptp(by_person["interval"]) > np.ptp(found["interval"])
    assert by_person["test"] == "bootstrap"
    assert by_person["p"] > found["p"], "McNemar's test takes the faces for independent"
    one = compare_accuracies(first, second, np.zeros(100))
    assert (one["interval"], one["p"]) == ([-1, 1], 1)


def test_scores_that_are_not_defined_have_no_value():
    """Class 2 has no faces and is predicted once, class 3 is neither, class 1 has a face and is never predicted."""
    labels, predictions = np.array([0, 0, 1]), np.array([0, 0, 2])
    rows = compute_metrics(labels, np.eye(7)[predictions])["per_class"]
    shown = [[row[name] for name in ("precision", "recall", "f1")] for row in rows[:4]]
    assert shown == [[1, 1, 1], [None, 0, 0], [0, None, 0], [None, None, None]]


def test_log_losses_of_both_types_are_alike():
    sure = np.array([[1e-11, 1.0, 0, 0, 0, 0, 0]])
    single, double = (face_losses(np.array([0]), sure.astype(kind)) for kind in (np.float32, np.float64))
    assert single == pytest.approx(double)


@pytest.fixture
def predictions():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 7, 300)
    probabilities = rng.dirichlet(np.ones(7), 300) + 0.3 * np.eye(7)[labels]
    return labels, probabilities / probabilities.sum(1, keepdims=True)


def test_plots_can_be_opened(tmp_path, predictions):
    labels, probabilities = predictions
    matrix = np.array(compute_metrics(labels, probabilities)["confusion_matrix"])
    plot_confusion_matrix(tmp_path / "confusion.png", matrix, ("Confusion",))
    plot_roc_curves(tmp_path / "roc.png", labels, probabilities, ("ROC", "of a few"))
    epochs = [{"epoch": 1, "train_loss": 2.0, "val_loss": 1.9, "train_accuracy": 0.2, "val_accuracy": 0.3}]
    plot_training_curves(tmp_path / "curves.png", epochs, 1, ("Training",))
    for path in tmp_path.iterdir():
        picture = np.asarray(Image.open(path).convert("L"))
        assert min(picture.shape) > 500
        assert picture.std() > 10, f"{path.name} is blank"
