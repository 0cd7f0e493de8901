"""What temperature and prediction sets, fitted on val, change on test; and their file beside the checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ferlib.evaluation.agreement import uncertainty
from ferlib.evaluation.calibration import binned_errors, face_brier_scores, face_losses
from ferlib.evaluation.conformal import class_thresholds, common_threshold, measure_sets
from ferlib.evaluation.ece_interval import infer_binned_error
from ferlib.evaluation.intervals import calibration_with_intervals, mean_interval
from ferlib.evaluation.metrics import defined, interval
from ferlib.evaluation.predictions import SavedPredictions
from ferlib.evaluation.selective import selective_accuracy
from ferlib.evaluation.temperature import fit_temperature
from ferlib.evaluation.units import Units
from ferlib.inference.confidence import LEVEL, SHAPE, Calibration
from ferlib.runtime.errors import UserError
from ferlib.runtime.files import read_json, write_json
from ferlib.runtime.runs import Run


def fit_calibration(val: SavedPredictions, votes: np.ndarray | None = None) -> Calibration:
    """The temperature with the smallest log loss on val, and a threshold for the sets of each class, both on val.

    votes: shares of the annotators N×7, rows of zeros where there are none, for a network whose probabilities stand for
    them: its temperature is fitted to them, so that they still do. Thresholds are those of the labels.
    """
    if votes is None:
        temperature = fit_temperature(val.labels, val.logits)
    else:
        rows = votes.any(1)
        temperature = fit_temperature(votes[rows].astype(np.float64), val.logits[rows])
    scaled = Calibration(temperature).probabilities(val.logits.astype(np.float64))
    thresholds = tuple(class_thresholds(val.labels, scaled))
    return Calibration(temperature, thresholds, len(val.labels), "labels" if votes is None else "votes")


def calibrated_results(
    val: SavedPredictions,
    labels: np.ndarray,
    logits: np.ndarray,
    subjects: np.ndarray | None = None,
    *,
    votes: np.ndarray | None = None,
    val_votes: np.ndarray | None = None,
) -> dict[str, Any]:
    """The figures of calibrated probabilities on test, against the labels and, where they are known, the votes.

    val: predictions of val. labels N, logits N×7, subjects N and votes N×7 of test. val_votes: as in fit_calibration.
    """
    fitted, wide = fit_calibration(val, val_votes), val.logits.astype(np.float64)
    on_val = {
        name: probability_scores(val.labels, scale.probabilities(wide))
        for name, scale in (("before", Calibration()), ("after", fitted))
    }
    probabilities = fitted.probabilities(logits.astype(np.float64))
    common = common_threshold(val.labels, fitted.probabilities(wide))
    return {
        "split": "val",
        "views": val.views,
        "faces": fitted.faces,
        "temperature": fitted.temperature,
        "fitted_to": fitted.fitted_to,
        "on_val": on_val,
        **probability_scores(labels, probabilities, subjects),
        "calibration": calibration_with_intervals(labels, probabilities, Units(len(labels), subjects)),
        "against_votes": uncertainty(probabilities, votes),
        "sets": {
            "level": LEVEL,
            "thresholds": list(fitted.thresholds),
            **measure_sets(labels, probabilities, list(fitted.thresholds), subjects),
            "one_threshold": measure_sets(labels, probabilities, [common] * probabilities.shape[1], subjects),
        },
        "selective": selective_accuracy(labels, probabilities, subjects),
    }


def probability_scores(
    labels: np.ndarray, probabilities: np.ndarray, subjects: np.ndarray | None = None
) -> dict[str, Any]:
    """ECE, log loss and Brier score of labels N and probabilities N×7, with 95 % intervals."""
    units = Units(len(labels), subjects)
    inferred = infer_binned_error(*binned_errors(labels, probabilities), units)
    losses, scores = face_losses(labels, probabilities), face_brier_scores(labels, probabilities)
    ends = {"ece": inferred.interval, "nll": mean_interval(losses, units), "brier": mean_interval(scores, units)}
    return {
        "ece": inferred.measured,
        "ece_debiased": defined(inferred.debiased),
        "nll": float(losses.mean()),
        "brier": float(scores.mean()),
        "intervals": {name: interval(each) for name, each in ends.items()},
    }


def write_calibration(run: Run, fitted: Mapping[str, Calibration], digest: str, fingerprint: str) -> None:
    """Writes what was fitted for each kind of views, beside those that the file has for the same checkpoint and faces.

    digest: of the checkpoint. fingerprint: of the data set.
    """
    views = kept_views(run, digest, fingerprint)
    views |= {name: {**vars(each), "thresholds": list(each.thresholds)} for name, each in fitted.items()}
    identity = {"run": run.identity(), "checkpoint_digest": digest, "fingerprint": fingerprint}
    write_json(run.calibration, {**identity, "split": "val", "level": LEVEL, "views": views})


def kept_views(run: Run, digest: str, fingerprint: str) -> dict[str, Any]:
    """The views of the file as it is; none where it is missing, damaged, or of another checkpoint or other faces."""
    try:
        content = read_json(run.calibration, "evaluate.py", SHAPE)
    except UserError:
        return {}
    same = (content["checkpoint_digest"], content["fingerprint"], content["level"]) == (digest, fingerprint, LEVEL)
    return dict(content["views"]) if same else {}
