"""figures/findings.py: each title says what the numbers say, and something true where there is nothing to say."""

import pytest

from ferlib.figures import findings
from ferlib.runtime.runs import Run


def row(emotion, value, support=10):
    scores = ("recall", "precision", "f1", "auc", "average_precision")
    return {"emotion": emotion, "support": support, **dict.fromkeys(scores, value)}


CLASSES = [row("Angry", 0.5), row("Disgust", 0.0, support=0), row("Happy", 0.9), row("Sad", None), row("Fear", 0.4)]


@pytest.mark.parametrize(
    ("score", "words"),
    [
        ("recall", "Happy is recognised most often (90%), Fear least (40%)"),
        ("f1", "F1 is highest for Happy (90%), lowest for Fear (40%)"),
        ("auc", "Happy is separated best from the rest (AUC 0.90), Fear worst (0.40)"),
        ("average_precision", "Happy is found most precisely (AP 0.90), Fear least (0.40)"),
    ],
)
def test_best_and_worst_class(score, words):
    assert findings.of_classes(CLASSES, score) == words
    assert "(" not in findings.of_classes([row("Angry", 0.5), row("Happy", 0.5)], score), "no best among equals"
    assert "(" not in findings.of_classes([], score), "nor among none"


def test_the_largest_confusion():
    pair = {"true": "Fear", "predicted": "Sad", "faces": 3, "share": 0.3}
    assert findings.of_confusions([pair]) == "The largest confusion: 30% (3 faces) of Fear are taken for Sad"
    assert findings.of_confusions([]) == "No face is misclassified"


@pytest.mark.parametrize(
    ("confidence", "words"),
    [
        (0.6, "The network is too unsure by 10.0 points"),
        (0.85, "The network is too sure by 15.0 points"),
        (0.705, "The network is neither too sure nor too unsure on average"),
    ],
)
def test_calibration(confidence, words):
    bins = [
        {"faces": 30, "confidence": confidence, "accuracy": 0.6},
        {"faces": 10, "confidence": confidence, "accuracy": 1.0},
        {"faces": 0, "confidence": None, "accuracy": None},
    ]
    calibration = {"bins": bins}
    assert findings.of_calibration(calibration) == f"{words}: confidence {confidence:.1%}, accuracy 70.0%"
    even = {"bins": [{"faces": 40, "confidence": 0.7, "accuracy": 0.7}]}
    assert findings.of_calibration(calibration, even) == (
        f"{words}; after temperature scaling, neither too sure nor too unsure on average"
    )


def test_confidence():
    curve = [{"coverage": share, "accuracy": 1 - share / 2} for share in (0.25, 0.5, 1.0)]
    calibrated = {"selective": {"curve": curve}, "sets": {"mean_size": 1.94, "coverage": 0.905}}
    words = "The surer half is right in 75%; sets of 1.9 classes hold the label of 90%"
    assert findings.of_confidence(calibrated) == words


def test_confident_errors():
    errors = [{"predicted": name} for name in ("Sad", "Sad", "Happy")]
    assert findings.of_errors(errors) == "Most confident errors: 2 of 3 are taken for Sad"
    assert findings.of_errors([]) == "Every face is recognised"


def test_of_what():
    assert findings.subject(Run("fer_resnet", "fer2013", "seed1"), 3589, "flip") == (
        "fer_resnet (seed1) on FER2013 test, 3,589 faces, views: flip"
    )
    assert "3,589 faces (288 copied in train)" in findings.subject(Run("a", "fer2013"), 3589, "flip", clean=3301)
    assert "copied" not in findings.subject(Run("a", "fer2013"), 3589, "flip", clean=3589)
    assert findings.run_on(Run("fer_resnet", "jaffe", fold=2)) == "fer_resnet (fold 2) on JAFFE"
