"""Two or more classifiers on the same faces: tests, intervals and probabilities of their differences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ferlib.evaluation.bootstrap import SEED, matrix_figures, p_of_draws, quantiles, resample
from ferlib.evaluation.calibration import face_losses
from ferlib.evaluation.metrics import BOOTSTRAP, MCNEMAR, defined, interval, mcnemar
from ferlib.evaluation.units import Units
from ferlib.runtime.errors import UserError

EQUAL = 0.005  # of accuracy, within which two classifiers are practically equal
SIGNIFICANT = 0.05
CERTAIN = 0.95  # probability of practical equality from which it is stated


@dataclass(frozen=True)
class Contestant:
    """A classifier on the test faces, as one run or as several runs that differ only in their seed."""

    name: str
    labels: np.ndarray  # int N
    probabilities: np.ndarray  # float S×N×7, of S seeds

    @cached_property
    def correct(self) -> np.ndarray:
        """bool S×N."""
        return self.probabilities.argmax(2) == self.labels

    @property
    def seeds(self) -> int:
        """Number of runs."""
        return len(self.probabilities)

    def figures(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Accuracy, macro F1 and log loss of every seed under B weightings B×N of the faces: S×B; recall S×B×7."""
        classes = self.probabilities.shape[2]
        total, found = weights.sum(1), []
        for probabilities in self.probabilities:
            cells = np.eye(classes**2)[self.labels * classes + probabilities.argmax(1)]
            matrices = (weights @ cells).reshape(-1, classes, classes)
            scores = matrix_figures(matrices)
            found.append(
                {
                    "accuracy": matrices.trace(axis1=1, axis2=2) / total,
                    "macro_f1": scores["macro_f1"],
                    "nll": weights @ face_losses(self.labels, probabilities) / total,
                    "recall": scores["recall"],
                }
            )
        return {name: np.stack([each[name] for each in found]) for name in found[0]}


# ── draws ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Draws:
    """Figures of each contestant, measured and in every bootstrap draw of the faces, seeds averaged."""

    measured: dict[str, np.ndarray]  # figure → C, or C×7
    drawn: dict[str, np.ndarray]  # figure → C×B, or C×B×7

    def gain(self, figure: str, first: int, second: int) -> tuple[np.ndarray, np.ndarray]:
        """By how much the first exceeds the second: measured, and in each of the B draws."""
        return (
            self.measured[figure][first] - self.measured[figure][second],
            self.drawn[figure][first] - self.drawn[figure][second],
        )


def draw_figures(contestants: Sequence[Contestant], subjects: np.ndarray | None = None) -> Draws:
    """The figures of all contestants in the same draws of faces, or of subjects N where they are known.

    The paired bootstrap: a face that is drawn counts for every contestant, so that what they have in common cancels.
    Of a contestant of S > 1 seeds, each draw also draws S seeds with replacement (faces × seeds), their deviations from
    the mean enlarged by √(S / (S - 1)), as S drawn seeds vary less than S new ones (Davison & Hinkley, "Bootstrap
    methods and their application", 1997, sections 2.4 and 3.8).
    """
    faces = len(contestants[0].labels)
    units = np.arange(faces) if subjects is None else subjects
    generator = np.random.default_rng(SEED)
    blocks: list[list[dict[str, np.ndarray]]] = [[] for _ in contestants]
    for weights in resample(units):
        for place, contestant in enumerate(contestants):
            figures = contestant.figures(weights.astype(np.float64))
            blocks[place].append({name: draw_seeds(values, generator) for name, values in figures.items()})
    once = [contestant.figures(np.ones((1, faces))) for contestant in contestants]
    names = list(once[0])
    return Draws(
        {name: np.stack([each[name].mean(0)[0] for each in once]) for name in names},
        {name: np.stack([np.concatenate([block[name] for block in each]) for each in blocks]) for name in names},
    )


def draw_seeds(values: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """The mean over S drawn seeds of values S×B (or S×B×7) in each of B draws: B (or B×7)."""
    seeds, draws = values.shape[:2]
    mean = values.mean(0)
    if seeds == 1:
        return mean
    chosen = generator.integers(seeds, size=(seeds, draws))
    picked = values[chosen, np.arange(draws)].mean(0)
    return mean + np.sqrt(seeds / (seeds - 1)) * (picked - mean)


# ── pairs ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def compare_pairs(contestants: Sequence[Contestant], subjects: np.ndarray | None = None) -> list[dict[str, Any]]:
    """A row for each pair: differences with 95 % intervals, a test, Holm's p-value, probabilities, a verdict.

    `p` is McNemar's exact test for two single runs without known subjects, else bootstrap.p_of_draws. `better`,
    `equal` and `worse` are the shares of the draws above, within and below EQUAL, which stand for probabilities as the
    bootstrap's distribution does for a posterior without prior knowledge (Rubin, "The Bayesian bootstrap", 1981). A
    class without faces has no gain. UserError where all faces are of one subject.
    """
    if subjects is not None and len(np.unique(subjects)) < 2:
        raise UserError(
            "all test faces are of one subject, which says nothing of others; compare runs on more people: where a set "
            "is split by subject, those of all its folds (evaluate.py --all-folds)"
        )
    draws = draw_figures(contestants, subjects)
    pairs = [(first, second) for first in range(len(contestants)) for second in range(first + 1, len(contestants))]
    rows = [describe_difference(contestants, draws, first, second, subjects) for first, second in pairs]
    for row, corrected in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["p_holm"] = corrected
        row["verdict"] = give_verdict(row)
    return rows


def describe_difference(
    contestants: Sequence[Contestant], draws: Draws, first: int, second: int, subjects: np.ndarray | None
) -> dict[str, Any]:
    """The figures of one pair, the first less the second."""
    gain, drawn = draws.gain("accuracy", first, second)
    recalls, drawn_recalls = draws.gain("recall", first, second)
    one, other = contestants[first], contestants[second]
    exact = one.seeds == other.seeds == 1 and subjects is None
    won, lost = int((one.correct[0] & ~other.correct[0]).sum()), int((other.correct[0] & ~one.correct[0]).sum())
    units = Units(len(one.labels), subjects).count
    return {
        "first": one.name,
        "second": other.name,
        "gain": float(gain),
        "interval": quantiles(drawn).tolist(),
        "test": MCNEMAR if exact else BOOTSTRAP,
        "p": mcnemar(won, lost) if exact else p_of_draws(float(gain), drawn, units),
        **({"won": won, "lost": lost} if exact else {}),
        "better": float((drawn > EQUAL).mean()),
        "equal": float((np.abs(drawn) <= EQUAL).mean()),
        "worse": float((drawn < -EQUAL).mean()),
        "other_figures": {
            name: {"gain": float(value), "interval": quantiles(values).tolist()}
            for name in ("macro_f1", "nll")
            for value, values in [draws.gain(name, first, second)]
        },
        "per_class": [
            {"gain": defined(value), "interval": interval(ends)}
            for value, ends in zip(recalls, quantiles(drawn_recalls).T, strict=True)
        ],
    }


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number: Holm, "A simple sequentially rejective multiple test procedure", 1979."""
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    stepped = np.maximum.accumulate(np.array(p_values)[order] * factors)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(stepped, 1)
    return corrected.tolist()


def give_verdict(row: dict[str, Any]) -> str:
    """better, worse, equal or unknown, of the first of a pair."""
    if row["p_holm"] < SIGNIFICANT:
        return "better" if row["gain"] > 0 else "worse"
    return "equal" if row["equal"] >= CERTAIN else "unknown"


def in_points(value: float) -> str:
    """A difference of shares in points, with its sign and a real minus."""
    shown = f"{100 * value:+.1f}"
    return "0.0" if float(shown) == 0 else shown.replace("-", "\N{MINUS SIGN}")


def swap_pair(row: dict[str, Any]) -> dict[str, Any]:
    """The same pair with its second contestant first: names, gain, interval, probabilities and verdict."""
    low, high = row["interval"]
    return {
        **row,
        "first": row["second"],
        "second": row["first"],
        "gain": -row["gain"],
        "interval": [-high, -low],
        "better": row["worse"],
        "worse": row["better"],
        "verdict": {"better": "worse", "worse": "better"}.get(row["verdict"], row["verdict"]),
    }


def in_both_orders(pairs: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Each pair, and the same with its second contestant first: the cells of a matrix."""
    for row in pairs:
        yield from (row, swap_pair(row))


def better_first(row: dict[str, Any]) -> dict[str, Any]:
    """A pair in the order in which sentences name it: the better one first, where one is better."""
    return swap_pair(row) if row["verdict"] == "worse" else row


def describe_verdict(row: dict[str, Any]) -> str:
    """What can be said of a pair; the better one is named first."""
    row = better_first(row)
    first, second = row["first"], row["second"]
    if row["verdict"] == "better":
        return f"{first} is better than {second}"
    if row["verdict"] == "equal":
        return f"{first} and {second} are practically equal"
    return f"The data cannot tell {first} from {second}"


def describe_pair(row: dict[str, Any]) -> str:
    """One sentence on a pair: the verdict, and by how many points the first that it names exceeds the second."""
    row = better_first(row)
    low, high = row["interval"]
    ends = f"95 % interval {in_points(low)} to {in_points(high)}, Holm’s p {describe_p(row['p_holm'])}"
    limit = (
        f", within {100 * EQUAL:g} points with a probability of {row['equal']:.0%}" if row["verdict"] == "equal" else ""
    )
    return f"{describe_verdict(row)}{limit}: {in_points(row['gain'])} points, {ends}."


def describe_p(value: float) -> str:
    """A p-value with two digits, or that it is below 0.001."""
    return "< 0.001" if value < 0.001 else f"{value:.2g}"


# ── faces ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def differing_faces(one: Contestant, other: Contestant, names: np.ndarray, count: int = 24) -> dict[str, Any]:
    """The faces that only one of the two names correctly, those of which both are surest first.

    Of several seeds, by the mean of their probabilities. `only_first` and `only_second` hold `count` faces at most,
    with the label, what either predicts and how probable, and the number of all.
    """
    shares = [contestant.probabilities.mean(0) for contestant in (one, other)]
    classes = [share.argmax(1) for share in shares]
    right = [found == one.labels for found in classes]
    sure = np.minimum(shares[0].max(1), shares[1].max(1))

    def rows(which: np.ndarray) -> dict[str, Any]:
        chosen = np.flatnonzero(which)
        chosen = chosen[np.argsort(-sure[chosen], kind="stable")]
        return {
            "count": len(chosen),
            "faces": [
                {
                    "index": int(row),
                    "name": str(names[row]),
                    "true": int(one.labels[row]),
                    "predicted": [int(found[row]) for found in classes],
                    "probability": [float(share[row].max()) for share in shares],
                }
                for row in chosen[:count]
            ],
        }

    return {"only_first": rows(right[0] & ~right[1]), "only_second": rows(right[1] & ~right[0])}
