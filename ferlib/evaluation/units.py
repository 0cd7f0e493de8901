"""The independent units of a set of faces: the faces themselves, or the subjects whom they show."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.stats import norm, t

LEVEL = 0.95  # of every interval
Z = float(norm.ppf((1 + LEVEL) / 2))


@dataclass(frozen=True)
class Units:
    """N faces, each of one unit; faces of different units are independent."""

    faces: int
    subjects: np.ndarray | None = None  # of any kind, N; None: every face is a unit of its own

    @cached_property
    def codes(self) -> np.ndarray:
        """int N: the unit of each face, from 0."""
        if self.subjects is None:
            return np.arange(self.faces)
        return np.unique(self.subjects, return_inverse=True)[1]

    @property
    def name(self) -> str:
        """face or subject."""
        return "face" if self.subjects is None else "subject"

    @cached_property
    def count(self) -> int:
        """Number of units."""
        return int(self.codes.max()) + 1 if self.faces else 0

    @property
    def quantile(self) -> float:
        """Of Student's t with a degree of freedom less than there are units; NaN for a single one."""
        return float(t.ppf((1 + LEVEL) / 2, self.count - 1)) if self.count > 1 else float("nan")

    @property
    def binomial_quantile(self) -> float:
        """Of the normal distribution for faces, of Student's t for several subjects."""
        return Z if self.subjects is None or self.count < 2 else self.quantile

    def count_of(self, masks: np.ndarray) -> np.ndarray:
        """int K: how many units have a face in each of the masks N×K."""
        return (self.sums(masks.astype(float)) > 0).sum(0)

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Values N×K (or N) summed over the faces of each unit: G×K (or G)."""
        if self.subjects is None:
            return values
        found = np.zeros((self.count, *values.shape[1:]))
        np.add.at(found, self.codes, values)
        return found

    def covariance(self, influence: np.ndarray) -> np.ndarray:
        """Covariance K×K of estimates whose errors are sums over the faces of `influence` N×K, of mean 0 each.

        The cluster-robust estimate (Liang & Zeger, "Longitudinal data analysis using generalized linear models", 1986)
        with the factor G / (G - 1); NaN for a single unit.
        """
        sums = self.sums(influence)
        factor = self.count / (self.count - 1) if self.count > 1 else np.nan
        return factor * (sums.T @ sums)
