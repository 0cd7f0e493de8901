"""The pictures of an evaluation: they can be opened and show what they should, also of the smallest results."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from ferlib.evaluation.agreement import against_votes
from ferlib.evaluation.error_analysis import analyse_errors, confident_errors
from ferlib.evaluation.metrics import compute_metrics
from ferlib.evaluation.predictions import SavedPredictions
from ferlib.evaluation.recalibration import calibrated_results
from ferlib.figures import confident_errors as gallery_plots
from ferlib.figures.class_scores import plot_class_scores
from ferlib.figures.confidence import plot_confidence
from ferlib.figures.confident_errors import plot_confident_errors
from ferlib.figures.confusion import plot_misclassifications
from ferlib.figures.curves import plot_precision_recall, plot_roc_curves
from ferlib.figures.evaluation import draw_plots
from ferlib.figures.palette import VERMILION as RED
from ferlib.figures.reliability import plot_reliability
from ferlib.report.plots import PLOTS
from ferlib.runtime.runs import Run

VERMILION = tuple(bytes.fromhex(RED[1:]))


def dirichlet(samples: int):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 7, samples)
    probabilities = rng.dirichlet(np.ones(7), samples) + 0.3 * np.eye(7)[labels]
    return labels, probabilities / probabilities.sum(1, keepdims=True)


CASES = {
    "usual": dirichlet(300),
    "perfect": (np.arange(14) % 7, np.eye(7)[np.arange(14) % 7]),
    "one face, right": (np.array([2]), np.eye(7)[[2]]),
    "one face, wrong": (np.array([2]), np.eye(7)[[3]]),
    "one class": (np.full(12, 4), dirichlet(12)[1]),
}


@pytest.mark.parametrize(("labels", "probabilities"), CASES.values(), ids=CASES)
def test_plots_can_be_opened(tmp_path, labels, probabilities):
    metrics = compute_metrics(labels, probabilities)
    images = np.random.default_rng(0).integers(0, 256, (len(labels), 48, 48, 1), np.uint8)
    errors = confident_errors(labels, probabilities, np.arange(len(labels)))
    plot_class_scores(tmp_path / "classes.png", metrics["per_class"], ("Classes", "of a few"))
    plot_precision_recall(tmp_path / "curves.png", labels, probabilities, ("Precision and recall", "of a few"))
    plot_misclassifications(tmp_path / "errors.png", np.array(metrics["confusion_matrix"]), ("Errors", "of a few"))
    plot_reliability(tmp_path / "reliability.png", metrics["calibration"], ("Reliability", "of a few"))
    plot_roc_curves(tmp_path / "roc.png", labels, probabilities, ("ROC", "of a few"))
    logits = np.log(np.clip(probabilities, 1e-9, 1))
    val = SavedPredictions(labels, probabilities, logits, labels.astype(str))
    plot_confidence(tmp_path / "confidence.png", calibrated_results(val, labels, logits), ("Sets", "of a few"))
    plot_confident_errors(tmp_path / "gallery.png", images, errors, ("Most confident errors", "of a few"))
    for path in tmp_path.iterdir():
        picture = np.asarray(Image.open(path).convert("L"))
        assert min(picture.shape) > 300
        assert picture.std() > 5, f"{path.name} is blank"


def gallery(path, count: int, channels: int = 1) -> Image.Image:
    """A gallery of the first errors on plain blue-green faces."""
    labels, probabilities = dirichlet(300)
    images = np.full((300, 10, 10, channels), (0, 90, 200)[-channels:], np.uint8)
    errors = confident_errors(labels, probabilities, np.arange(300))[:count]
    plot_confident_errors(path, images, errors, ("Errors", "of a few"))
    return Image.open(path).convert("RGB")


def test_gallery_grows_by_the_row_up_to_its_limit(tmp_path):
    heights = [gallery(tmp_path / f"{count}.png", count).height for count in (1, 4, 5, 20, 50)]
    assert heights[0] == heights[1] < heights[2] < heights[3] == heights[4]


def test_gallery_shows_faces_in_colour_and_the_predicted_class(tmp_path):
    pixels = np.asarray(gallery(tmp_path / "one.png", 1, channels=3)).reshape(-1, 3)
    side = round(gallery_plots.FACE * 200)
    assert (pixels == (0, 90, 200)).all(1).sum() == pytest.approx(side**2, rel=0.02)
    probability = np.sort(dirichlet(300)[1].max(1))[-1]
    assert 0 < (pixels == VERMILION).all(1).sum() <= probability * gallery_plots.BAR * 200 * 0.09 * 200 * 1.1


def test_every_picture_of_a_run_is_in_the_report(tmp_path, synthetic):
    faces = synthetic.split("test")
    probabilities = np.random.default_rng(0).dirichlet(np.ones(7), len(faces))
    results = compute_metrics(faces.labels, probabilities) | analyse_errors(faces.labels, probabilities, faces.names)
    val = SavedPredictions(faces.labels, probabilities, np.log(probabilities), faces.names)
    votes = np.random.default_rng(1).dirichlet(np.ones(7), len(faces))
    faces = replace(faces, votes=votes)
    calibrated = calibrated_results(val, faces.labels, np.log(probabilities), votes=votes)
    results |= {
        "views": "single",
        "calibrated": calibrated,
        "against_votes": against_votes(faces.labels, probabilities, votes),
    }
    run = Run("mini_resnet", "synthetic", outputs_dir=tmp_path)
    draw_plots(run, faces, probabilities, results)
    kinds = [kind for kind, plot in PLOTS.items() if plot.script == "evaluate.py"]
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == sorted(run.plot(kind).name for kind in kinds)
