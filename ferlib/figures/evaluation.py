"""Every picture of an evaluated run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ferlib.data.face_data import FaceData
from ferlib.evaluation.error_analysis import describe_test
from ferlib.evaluation.terminal import with_interval
from ferlib.figures import findings
from ferlib.figures.class_scores import plot_class_scores
from ferlib.figures.confident_errors import SHOWN, plot_confident_errors
from ferlib.figures.confusion import plot_confusion_matrix, plot_misclassifications
from ferlib.figures.curves import plot_precision_recall, plot_roc_curves
from ferlib.figures.reliability import plot_reliability
from ferlib.figures.style import PNG
from ferlib.runtime.runs import Run


def draw_plots(
    run: Run, faces: FaceData, probabilities: np.ndarray, results: dict[str, Any], formats: Sequence[str] = PNG
) -> None:
    """Every picture of a run on the test faces, from probabilities N×7 and the results."""
    labels, matrix = faces.labels, np.array(results["confusion_matrix"])
    classes, errors, calibration = results["per_class"], results["confident_errors"], results["calibration"]
    subject = findings.subject(run, len(labels))
    overall = f"{subject}, accuracy {results['accuracy']:.1%}"
    pattern = f"{subject}\n{describe_test(results['confusion_test']['errors'])}"
    ece = f"{subject}\nECE {with_interval(results['ece'], results['intervals']['ece'], '.1%')}"
    against = f"each class against the rest, {subject}"
    titles = {score: findings.of_classes(classes, score) for score in findings.SCORES}
    plot_confusion_matrix(run.plot("confusion_matrix"), matrix, (titles["recall"], overall), formats)
    plot_roc_curves(run.plot("roc_curves"), labels, probabilities, (titles["auc"], against), formats)
    separated = (titles["average_precision"], against)
    plot_precision_recall(run.plot("precision_recall"), labels, probabilities, separated, formats)
    plot_class_scores(run.plot("class_scores"), classes, (titles["f1"], overall), formats)
    confused = findings.of_confusions(results["main_confusions"])
    plot_misclassifications(run.plot("misclassifications"), matrix, (confused, pattern), formats)
    plot_reliability(run.plot("reliability"), calibration, (findings.of_calibration(calibration), ece), formats)
    surest = (findings.of_errors(errors[:SHOWN]), subject)
    plot_confident_errors(run.plot("confident_errors"), faces.images, errors, surest, formats)
