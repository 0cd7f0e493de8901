"""Values of facial regions over many faces: a table of regions and emotions, beside what EMFACS expects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from config import EMOTIONS
from ferlib.explanations.region_contrasts import make_contrasts
from ferlib.explanations.region_words import expected_units

FEWEST = 2  # faces of an emotion that its row needs
PERMUTATIONS = 10_000


def make_table(faces: Sequence[Mapping[str, Any]], seed: int = 0) -> dict[str, Any] | None:
    """Means of the faces' values by the emotion that is explained, as plain Python; None of contrasts and few faces.

    faces: of a summary. regions: their names. emotions: by name, faces (their number), mean, low and high of each
    region (the mean with Student's 95 % interval over faces), expected (the regions in which EMFACS expects action
    units), and agreement: how often a region that is expected has a higher mean than one that is not, 0.5 being chance.
    agreement: its mean over the emotions, and p: the share of PERMUTATIONS of the regions, drawn for each emotion, in
    which it is as high. null where no emotion has both kinds of regions. contrasts: see region_contrasts.
    """
    groups = {emotion: [face["values"] for face in faces if face["target"] == emotion] for emotion in EMOTIONS}
    groups = {emotion: rows for emotion, rows in groups.items() if len(rows) >= FEWEST}
    if not groups:
        return None
    names = list(next(iter(groups.values()))[0])
    emotions = {emotion: make_row(emotion, names, rows) for emotion, rows in groups.items()}
    compared = {name: row for name, row in emotions.items() if row["agreement"] is not None}
    overall, p = permutation_test([(row["mean"], is_expected(name, names)) for name, row in compared.items()], seed)
    contrasts = make_contrasts(faces, names)
    return {"regions": names, "emotions": emotions, "agreement": overall, "p": p, "contrasts": contrasts}


def make_row(emotion: str, names: Sequence[str], rows: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """What the table says of an emotion."""
    values = np.array([[row[name] for name in names] for row in rows])
    mean = values.mean(0)
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(0, ddof=1) / len(values) ** 0.5
    expected = is_expected(emotion, names)
    return {
        "faces": len(values),
        "mean": mean.tolist(),
        "low": (mean - half).tolist(),
        "high": (mean + half).tolist(),
        "expected": [name for name, here in zip(names, expected, strict=True) if here],
        "agreement": agreement(mean, expected) if 0 < expected.sum() < len(names) else None,
    }


def is_expected(emotion: str, names: Sequence[str]) -> np.ndarray:
    """bool n: whether EMFACS expects action units of an emotion in each region."""
    return np.array([bool(expected_units(emotion, name)) for name in names])


def agreement(means: np.ndarray, expected: np.ndarray) -> float:
    """How often an expected region has the higher mean, 0..1; ties count half (Mann & Whitney's U over its maximum)."""
    ranks = stats.rankdata(means)
    count = expected.sum()
    largest = count * (len(means) - count)
    return float((ranks[expected].sum() - count * (count + 1) / 2) / largest)


def permutation_test(
    rows: Sequence[tuple[Sequence[float], np.ndarray]], seed: int
) -> tuple[float | None, float | None]:
    """The mean agreement of rows of means and expected regions, and its one-sided p by permutation of the regions."""
    if not rows:
        return None, None
    observed = float(np.mean([agreement(np.asarray(means), expected) for means, expected in rows]))
    rng = np.random.default_rng(seed)
    chance = np.zeros(PERMUTATIONS)
    for means, expected in rows:
        ranks = stats.rankdata(means)
        drawn = rng.permuted(np.broadcast_to(ranks, (PERMUTATIONS, len(ranks))), axis=1)[:, expected].sum(1)
        count = expected.sum()
        chance += (drawn - count * (count + 1) / 2) / (count * (len(ranks) - count)) / len(rows)
    return observed, float((1 + (chance >= observed - 1e-12).sum()) / (1 + PERMUTATIONS))
