"""Temperature scaling: one number that makes confidence as high as accuracy; it changes no prediction."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from ferlib.inference.confidence import RANGE

EVEN = 0.01  # a mean gap between confidence and accuracy that is hardly one


def fit_temperature(targets: np.ndarray, logits: np.ndarray) -> float:
    """The temperature T > 0 with the smallest mean negative log likelihood of softmax(logits / T).

    targets: labels int N, or the shares of annotators' votes N×K; logits N×K; of faces that did not train the network.
    Guo, Pleiss, Sun & Weinberger, "On calibration of
    modern neural networks", 2017, section 4.2. The loss is convex in 1 / T. Below 1 confidence is raised, above 1
    lowered; within RANGE.
    """
    wide = logits.astype(np.float64)
    shares = targets if targets.ndim == 2 else np.eye(logits.shape[1])[targets]

    def loss(log_temperature: float) -> float:
        return -float((shares * log_softmax(wide / np.exp(log_temperature), axis=1)).sum(1).mean())

    return float(np.exp(minimize_scalar(loss, bounds=np.log(RANGE), method="bounded", options={"xatol": 1e-5}).x))


def describe_direction(confidence: float, accuracy: float) -> str:
    """Whether mean confidence misses accuracy, both in 0..1: too unsure by 10.0 points, too sure by …, calibrated."""
    gap = confidence - accuracy
    if abs(gap) < EVEN:
        return "neither too sure nor too unsure on average"
    return f"too {'sure' if gap > 0 else 'unsure'} by {100 * abs(gap):.1f} points"
