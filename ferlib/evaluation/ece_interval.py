"""The interval of a binned calibration error, and its estimate without the part that noise adds.

A binned error Σ w |g| over bins of share w and gap g is raised by noise: of a perfectly calibrated network on 400 faces
it is 5 %. An interval of resamples therefore lies too high, and one mirrored at the figure may exclude it. Here the
true error is inferred instead: every size of miscalibration is tested against the figure, and those that are not
refuted are the interval.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

from ferlib.evaluation.units import LEVEL, Units, Z

DRAWS = 2000
SEED = 0
PRIOR = 2  # faces that the bin's own confidence counts for in the variance of its accuracy


@dataclass(frozen=True)
class InferredError:
    """A binned error, what is left of it without noise, and the 95 % interval of the latter."""

    measured: float
    debiased: float  # the size of which the figure is the median
    interval: np.ndarray  # 2


def infer_binned_error(confidence: np.ndarray, outcomes: np.ndarray, bins: np.ndarray, units: Units) -> InferredError:
    """The error Σ w |mean confidence - mean outcome| of faces in bins, and the interval of its true value.

    confidence N in 0..1, outcomes N (1: it came true), bins int N; units: of the faces. The gaps are t d + noise with
    the profile d of the measured ones and an unknown size t ≥ 0; d is the measured gaps drawn towards their mean by the
    square root of the share of their variance that is no noise, which keeps their spread (Louis, "Estimating a
    population of parameter values using Bayes and empirical Bayes methods", 1984). The interval holds the sizes for
    which the measured error lies between the 2.5 % and 97.5 % quantiles of DRAWS draws.
    NaN for one subject, and where no gap is measured at all.
    """
    faces, codes = len(confidence), np.unique(bins, return_inverse=True)[1]
    counts = np.bincount(codes)
    shares, claimed = counts / faces, np.bincount(codes, confidence) / counts
    reached = np.bincount(codes, outcomes) / counts
    gaps = claimed - reached
    measured = float(shares @ np.abs(gaps))
    if units.count < 2:
        return InferredError(measured, float("nan"), np.full(2, np.nan))
    smoothed = (reached * counts + PRIOR * claimed) / (counts + PRIOR)
    errors = np.sqrt(smoothed * (1 - smoothed) / counts)
    profile = shrink_gaps(gaps, errors)
    size = float(shares @ np.abs(profile))
    if size == 0:
        return InferredError(measured, 0.0, np.full(2, np.nan))
    noise = draw_noise((confidence - outcomes) - gaps[codes], codes, shares * errors, units)
    spread = np.sqrt(units.covariance(((np.abs(profile)[codes] - size) / faces)[:, None])[0, 0])
    of_shares = spread * np.random.default_rng(SEED + 1).standard_normal(DRAWS)

    def excess(scale: float, quantile: float) -> float:
        return (
            float(np.quantile(np.abs(scale * shares * profile + noise).sum(1) + scale * of_shares, quantile)) - measured
        )

    def solve(quantile: float) -> float:
        if excess(0, quantile) >= 0:
            return 0.0
        highest = 1.0
        while excess(highest, quantile) < 0:
            highest *= 2
        return size * brentq(excess, 0, highest, args=(quantile,), xtol=1e-4)

    tail = (1 - LEVEL) / 2
    ends = np.array([solve(1 - tail), solve(tail)])
    if ends[1] == 0:  # less than even perfectly calibrated probabilities mostly show: at most what was measured
        ends[1] = measured
    return InferredError(measured, min(solve(0.5), 1.0), np.minimum(ends, 1))


def shrink_gaps(gaps: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Gaps B drawn towards their mean, by the variance between bins that exceeds the `errors` B of each.

    The variance between them is that of DerSimonian & Laird, "Meta-analysis in clinical trials", 1986.
    """
    weights = 1 / np.maximum(errors, 1e-6) ** 2
    mean = weights @ gaps / weights.sum()
    freedom = weights.sum() - (weights**2).sum() / weights.sum()
    excess = weights @ (gaps - mean) ** 2 - (len(gaps) - 1)
    between = max(0.0, excess / freedom) if freedom > 0 else 0.0
    return mean + (gaps - mean) * np.sqrt(between / (between + errors**2 + 1e-12))


def draw_noise(residuals: np.ndarray, codes: np.ndarray, errors: np.ndarray, units: Units) -> np.ndarray:
    """Noise of the B bins' shares of the error, DRAWS×B: normal, with the standard errors B of independent faces.

    Where subjects are known, it has the covariance of sums over subjects of the residuals N of faces in bins `codes`,
    and in no bin less variance than that of independent faces.
    """
    draw = np.random.default_rng(SEED).standard_normal
    if units.subjects is None:
        return errors * draw((DRAWS, len(errors)))
    parts = np.zeros((len(residuals), len(errors)))
    parts[np.arange(len(residuals)), codes] = residuals / len(residuals)
    factors = units.sums(parts) * np.sqrt(units.count / (units.count - 1))  # G,B: their squares sum to the variances
    missing = np.sqrt(np.maximum(errors**2 - (factors**2).sum(0), 0))
    wider = units.quantile / Z  # few subjects
    return wider * (draw((DRAWS, units.count)) @ factors + missing * draw((DRAWS, len(errors))))
