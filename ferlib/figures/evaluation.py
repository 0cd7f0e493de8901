"""Every picture of an evaluated run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ferlib.data.face_data import FaceData
from ferlib.evaluation.error_analysis import describe_test
from ferlib.evaluation.terminal import describe_ece
from ferlib.figures import findings
from ferlib.figures.class_scores import plot_class_scores
from ferlib.figures.confidence import plot_confidence
from ferlib.figures.confident_errors import SHOWN, plot_confident_errors
from ferlib.figures.confusion import plot_confusion_matrix, plot_misclassifications
from ferlib.figures.curves import plot_precision_recall, plot_roc_curves
from ferlib.figures.reliability import plot_reliability
from ferlib.figures.style import PNG
from ferlib.figures.votes import plot_vote_errors, plot_votes
from ferlib.runtime.runs import Run


def draw_plots(
    run: Run, faces: FaceData, probabilities: np.ndarray, results: dict[str, Any], formats: Sequence[str] = PNG
) -> None:
    """Every picture of a run on the test faces, from probabilities N×7 and the results."""
    labels, matrix = faces.labels, np.array(results["confusion_matrix"])
    classes, errors, calibration = results["per_class"], results["confident_errors"], results["calibration"]
    clean = (results.get("without_training_copies") or {}).get("samples")
    subject = findings.subject(run, len(labels), results["views"], clean=clean)
    calibrated = results.get("calibrated")
    after = calibrated["calibration"] if calibrated else None
    overall = f"{subject}, accuracy {results['accuracy']:.1%}"
    pattern = f"{subject}\n{describe_test(results['confusion_test']['errors'])}"
    ece = f"{subject}\n{describe_ece(results)}"
    if calibrated:
        ece = f"{ece}\nafter temperature {calibrated['temperature']:.2f}, fitted on val: {describe_ece(calibrated)}"
    against = f"each class against the rest, {subject}"
    titles = {score: findings.of_classes(classes, score) for score in findings.SCORES}
    plot_confusion_matrix(run.plot("confusion_matrix"), matrix, (titles["recall"], overall), formats)
    roc = (titles["auc"], against)
    plot_roc_curves(run.plot("roc_curves"), labels, probabilities, roc, formats, classes)
    separated = (titles["average_precision"], against)
    plot_precision_recall(run.plot("precision_recall"), labels, probabilities, separated, formats)
    plot_class_scores(run.plot("class_scores"), classes, (titles["f1"], overall), formats)
    confused = findings.of_confusions(results["main_confusions"])
    plot_misclassifications(run.plot("misclassifications"), matrix, (confused, pattern), formats)
    gap = findings.of_calibration(calibration, after)
    plot_reliability(run.plot("reliability"), calibration, (gap, ece), formats, after)
    if calibrated:
        scaled = (
            f"{subject}\ntemperature {calibrated['temperature']:.2f} and thresholds fitted on {calibrated['split']}"
        )
        plot_confidence(run.plot("confidence"), calibrated, (findings.of_confidence(calibrated), scaled), formats)
    own = f"{subject}; the network’s own probabilities, without its temperature" if calibrated else subject
    if (found := results.get("against_votes")) and faces.votes is not None:
        rows = faces.votes.any(1)
        told = (findings.of_votes(found, run), f"{subject}; {found['faces']:,} of them have votes")
        after_votes = calibrated["against_votes"] if calibrated else None
        plot_votes(run.plot("votes"), found, after_votes, (probabilities[rows], faces.votes[rows]), told, formats)
        if found["errors"]["count"]:
            judged = (findings.of_vote_errors(found["errors"]), own)
            plot_vote_errors(run.plot("vote_errors"), faces.images, found["errors"], judged, formats)
    surest = (findings.of_errors(errors[:SHOWN]), own)
    plot_confident_errors(run.plot("confident_errors"), faces.images, errors, surest, formats)
