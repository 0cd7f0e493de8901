"""Coverage of 95 % intervals: how often those of samples hold the figure of the population that they were drawn from.

python benchmarks/bench_intervals.py --faces 400 --samples 2000
python benchmarks/bench_intervals.py --predictions RUN_predictions.npz RUN_val_predictions.npz

The population is a file of predictions, or drawn from a model of them: labels in the shares of FER2013's PrivateTest,
probabilities from a Dirichlet distribution around the mean ones that fer_resnet_wide gives the faces of each class.
Samples are drawn from it with replacement. "Before" are percentile intervals of the bootstrap, mirrored at the figure
for the ECE, as evaluate.py had them; "now" those of ferlib.evaluation.intervals. The interval of the ECE is tested on
two further populations: labels drawn from the probabilities, so that the true error is 0, and labels drawn from the
probabilities raised to a power, so that it is small.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parents[1]))

from config import EMOTIONS
from ferlib.data.facts import DATASETS
from ferlib.evaluation.bootstrap import quantiles, resample, weighted_figures
from ferlib.evaluation.calibration import binned_errors
from ferlib.evaluation.ece_interval import infer_binned_error
from ferlib.evaluation.intervals import METHODS, figure_intervals, in_top
from ferlib.evaluation.matrix_scores import cohens_kappa, matthews_correlation
from ferlib.evaluation.predictions import read_predictions
from ferlib.evaluation.units import Units

MEAN_PROBABILITIES = (  # of the faces of each class, by the shipped fer_resnet_wide with ten crops
    (0.481, 0.031, 0.137, 0.064, 0.105, 0.138, 0.044),
    (0.228, 0.484, 0.070, 0.053, 0.045, 0.085, 0.035),
    (0.141, 0.022, 0.390, 0.064, 0.108, 0.182, 0.093),
    (0.051, 0.018, 0.048, 0.700, 0.084, 0.052, 0.047),
    (0.089, 0.020, 0.090, 0.103, 0.501, 0.156, 0.041),
    (0.124, 0.024, 0.147, 0.074, 0.171, 0.419, 0.041),
    (0.059, 0.021, 0.122, 0.085, 0.058, 0.051, 0.604),
)
CONCENTRATION = 3.5  # of the Dirichlet distribution: accuracy 68 %, as spread as the network's
POWER = 1.15  # of the probabilities from which labels are drawn that are nearly calibrated


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Flags of the benchmark."""

    faces: int = 400  # of a sample
    samples: int = 2000
    population: int = 20_000  # faces of a drawn population
    predictions: tuple[Path, ...] = ()  # files of evaluate.py that are the population instead
    before: bool = True  # also the bootstrap's intervals, which take ten times as long
    seed: int = 0


@dataclass(frozen=True)
class Population:
    """Faces of which samples are drawn."""

    labels: np.ndarray  # int N
    probabilities: np.ndarray  # float N×7

    def sample(self, faces: int, generator: np.random.Generator) -> Population:
        """So many faces, drawn with replacement."""
        rows = generator.integers(len(self.labels), size=faces)
        return Population(self.labels[rows], self.probabilities[rows])


def draw_population(faces: int, seed: int) -> Population:
    """Labels and probabilities from the model of this module."""
    generator = np.random.default_rng((seed, 1))
    counts = np.array((DATASETS["fer2013"].official_counts or {})["test"])
    labels = generator.choice(len(EMOTIONS), faces, p=counts / counts.sum())
    shapes = CONCENTRATION * np.array(MEAN_PROBABILITIES)[labels]
    drawn = generator.gamma(shapes) + 1e-12
    return Population(labels, drawn / drawn.sum(1, keepdims=True))


def read_population(paths: tuple[Path, ...]) -> Population:
    """The faces of several files of predictions together."""
    found = [read_predictions(path, "evaluate.py") for path in paths]
    labels = np.concatenate([each.labels for each in found])
    return Population(labels, np.concatenate([each.probabilities for each in found]).astype(np.float64))


def relabelled(population: Population, power: float, seed: int) -> Population:
    """The same probabilities with labels drawn from them, raised to `power` and made to sum to 1."""
    sharper = population.probabilities**power
    cumulated = (sharper / sharper.sum(1, keepdims=True)).cumsum(1)
    labels = (cumulated > np.random.default_rng((seed, 2)).random((len(cumulated), 1))).argmax(1)
    return Population(labels, population.probabilities)


def true_figures(population: Population) -> dict[str, np.ndarray]:
    """Every row of METHODS, of the whole population."""
    labels, probabilities = population.labels, population.probabilities
    found = weighted_figures(labels, probabilities, np.ones((1, len(labels))))
    predictions = probabilities.argmax(1)
    more = {
        "top2_accuracy": in_top(labels, probabilities).mean(),
        "balanced_accuracy": found["recall"][0].mean(),
        "kappa": cohens_kappa(labels, predictions)[0],
        "mcc": matthews_correlation(labels, predictions)[0],
    }
    return {name: values[0] for name, values in found.items()} | more


def intervals_now(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, np.ndarray]:
    """What evaluate.py has."""
    inferred = infer_binned_error(*binned_errors(labels, probabilities), Units(len(labels)))
    return figure_intervals(labels, probabilities) | {"ece": inferred.interval}


def bootstrap_intervals(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, np.ndarray]:
    """What evaluate.py had before: percentiles of 1,000 draws, those of the ECE mirrored at the figure."""
    blocks = [weighted_figures(labels, probabilities, weights) for weights in resample(np.arange(len(labels)))]
    ends = {name: quantiles(np.concatenate([block[name] for block in blocks])) for name in blocks[0]}
    ece = weighted_figures(labels, probabilities, np.ones((1, len(labels))))["ece"]
    return ends | {"ece": np.maximum(2 * ece - ends["ece"][::-1], 0)}


def holds(ends: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """1 where the interval holds the true figure, 0 where it does not, NaN where there is no interval."""
    inside = ((ends[0] <= truth) & (truth <= ends[1])).astype(float)
    return np.where(np.isnan(ends).any(0), np.nan, inside)


def measure_coverage(
    population: Population, faces: int, samples: int, seed: int, *, before: bool = False
) -> dict[str, dict[str, np.ndarray]]:
    """Kind of intervals → figure → share of the samples whose interval holds the population's: one, or one a class."""
    truth, generator = true_figures(population), np.random.default_rng(seed)
    kinds = {"now": intervals_now} | ({"before": bootstrap_intervals} if before else {})
    hits: dict[str, dict[str, list[np.ndarray]]] = {kind: {} for kind in kinds}
    for _ in tqdm(range(samples), unit=" samples", disable=samples < 200):
        drawn = population.sample(faces, generator)
        for kind, find in kinds.items():
            for name, ends in find(drawn.labels, drawn.probabilities).items():
                hits[kind].setdefault(name, []).append(holds(ends, truth[name]))
    return {
        kind: {name: np.nanmean(values, axis=0) for name, values in figures.items()} for kind, figures in hits.items()
    }


def measure_ece(population: Population, true_error: float | None, faces: int, samples: int, seed: int) -> float:
    """Share of the samples whose interval of the ECE holds the population's, or `true_error` where it is given."""
    generator, held = np.random.default_rng(seed), []
    truth = true_figures(population)["ece"] if true_error is None else true_error
    for _ in range(samples):
        drawn = population.sample(faces, generator)
        ends = infer_binned_error(*binned_errors(drawn.labels, drawn.probabilities), Units(faces)).interval
        held.append(holds(ends, np.array(truth)))
    return float(np.mean(held))


def describe(values: np.ndarray) -> str:
    """Coverages in percent, of one figure or of the seven classes."""
    return " ".join(f"{100 * value:5.1f}" for value in np.atleast_1d(values))


def main() -> None:
    """Prints the coverages."""
    flags = tyro.cli(Flags)
    chosen = read_population(flags.predictions) if flags.predictions else draw_population(flags.population, flags.seed)
    found = measure_coverage(chosen, flags.faces, flags.samples, flags.seed, before=flags.before)
    print(f"coverage of 95 % intervals, {flags.samples:,} samples of {flags.faces:,} faces")
    print(f"{'':<19}{'by class: ' + ' '.join(emotion[:5] for emotion in EMOTIONS)}")
    for name, method in METHODS.items():
        for kind in reversed(found):
            if name in found[kind]:
                text = f" {method}" if kind == "now" else " percentile bootstrap"
                print(f"{name:<19}{kind:<7}{describe(found[kind][name]):<43}{text}")
    for title, power, error in (("labels drawn from the probabilities", 1.0, 0.0), ("nearly calibrated", POWER, None)):
        other = relabelled(chosen, power, flags.seed)
        print(f"ece, {title}: {measure_ece(other, error, flags.faces, flags.samples, flags.seed):.1%}")


if __name__ == "__main__":
    main()
