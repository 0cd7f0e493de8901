"""Convergence and precision of the maps: SHAP's error by the number of samples, reduced precision against float32.

python benchmarks/bench_agreement.py --model fer_resnet --dataset fer2013 --figure shap_error.png

Error: root mean square over pixels, classes and faces of the values from so many samples, against --reference samples,
as a share of the reference's own root mean square. shap samples background faces and shares independently;
explanations.shap samples both systematically (sample_paths). Both kinds go through the same gradients, which the tests
compare with shap.GradientExplainer on equal samples. Precision: Spearman's rank correlation of the maps of both
precisions from the same samples, by region where a method has segments and by pixel otherwise.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import tyro
from scipy.stats import spearmanr
from torch import nn
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parents[1]))

from config import EngineFlags, Explain, Stage
from ferlib.explanations.binding import bind
from ferlib.explanations.chosen_faces import choose_faces
from ferlib.explanations.methods import METHODS, find_method
from ferlib.explanations.records import Attribution, ExplainedFace
from ferlib.explanations.shap import PathSamples, expected_gradients, sample_paths
from ferlib.explanations.specs import Method
from ferlib.explanations.subject import Subject, open_subject
from ferlib.figures.palette import BLUE, VERMILION
from ferlib.figures.style import entitle, saved_figure
from ferlib.inference.engine import is_usable
from ferlib.inference.logit_model import LogitModel


@dataclass(frozen=True, kw_only=True)
class Flags(Stage):
    """Flags of the benchmark."""

    faces: int = 2
    samples: tuple[int, ...] = (25, 50, 100, 200, 400)
    repeats: int = 4  # of each number of samples, with other seeds
    reference: int = 20_000
    bg_samples: int = METHODS["shap"].defaults["background_size"]
    batch_size: int = 64
    methods: tuple[str, ...] = tuple(row.name for row in METHODS.values() if row.network != "plain")  # of the precision
    figure: Path | None = None


def sample_independently(count: int, background: int, seed: int) -> PathSamples:
    """As shap.GradientExplainer samples."""
    rng = np.random.default_rng(seed)
    return PathSamples(rng.integers(0, background, count), rng.random(count))


KINDS = {"independent samples, as in shap": sample_independently, "systematic samples, ours": sample_paths}


def measure_errors(model: nn.Module, images: torch.Tensor, background: torch.Tensor, flags: Flags) -> dict[str, list]:
    """Relative error by kind of samples, for each number of samples."""

    def values(sample: Callable[[int, int, int], PathSamples], count: int, seed: int) -> torch.Tensor:
        samples = [sample(count, len(background), seed + number) for number in range(len(images))]
        return expected_gradients(model, images, background, samples, flags.batch_size)

    bar = tqdm(total=flags.reference + len(KINDS) * flags.repeats * sum(flags.samples), unit=" samples")
    exact = values(sample_paths, flags.reference, 10**6)
    bar.update(flags.reference)
    errors: dict[str, list] = {}
    for kind, sample in KINDS.items():
        for count in flags.samples:
            squares = []
            for repeat in range(flags.repeats):
                squares.append((values(sample, count, 1000 * repeat) - exact).square().mean().item())
                bar.update(count)
            errors.setdefault(kind, []).append(float((np.mean(squares) / exact.square().mean().item()) ** 0.5))
    bar.close()
    return errors


def independent_samples(flags: Flags, errors: dict[str, list]) -> np.ndarray:
    """How many independent samples err as each number of systematic ones: their squared error falls as 1 / samples."""
    theirs, ours = (np.square(errors[kind]) for kind in KINDS)
    return (theirs * flags.samples).mean() / ours


def plot_errors(path: Path, flags: Flags, errors: dict[str, list], run: str) -> None:
    """Both errors over the number of samples, on logarithmic axes."""
    theirs, ours = (errors[kind][-1] for kind in KINDS)
    finding = (
        f"Systematic samples err {theirs / ours:.1f} times less than independent ones at {flags.samples[-1]} samples"
    )
    with saved_figure(path, figsize=(5.5, 3.9)) as figure:
        axes = figure.subplots()
        for (kind, values), color in zip(errors.items(), (BLUE, VERMILION), strict=True):
            axes.loglog(flags.samples, values, "o-", markersize=5, color=color, label=kind)
        axes.set_xticks(flags.samples, [str(count) for count in flags.samples])
        axes.minorticks_off()
        axes.set_yticks(ticks := [0.05, 0.1, 0.2, 0.4, 0.8], [f"{100 * tick:.0f} %" for tick in ticks])
        axes.set(xlabel="Samples per face", ylabel="Error, as a share of the values' own size")
        axes.legend()
        entitle(figure, finding, f"expected gradients of {run}, against {flags.reference:,} samples")


def explain_faces(
    method: Method, subject: Subject, images: torch.Tensor, faces: list[ExplainedFace], flags: Flags
) -> list[Attribution]:
    """The attributions of a method by its default settings."""
    values = method.defaults | ({"background_size": flags.bg_samples} if "background" in method.needs else {})
    targets = torch.from_numpy(np.stack([face.target.weights() for face in faces])).to(images.device)
    return bind(method, values, subject)(images, targets, [face.seed for face in faces])


def rank_correlations(
    subject: Subject, images: torch.Tensor, faces: list[ExplainedFace], flags: Flags
) -> dict[str, list[float]]:
    """Of the maps in the device's reduced precision with those in float32, a number per face and method."""
    exact = replace(subject, model=LogitModel(subject.model.classifier))
    reduced = {"": subject}
    if is_usable(subject.device):
        reduced[" in 8 bits"] = subject.with_engine(EngineFlags(precision="int8", max_flips=1), flags.amp, passes=0)
    found = {}
    for method in map(find_method, flags.methods):
        expected = explain_faces(method, exact, images, faces, flags)
        for name, network in reduced.items() if method.forward_only else [("", subject)]:
            pairs = zip(expected, explain_faces(method, network, images, faces, flags), strict=True)
            found[method.title + name] = [rank_correlation(*pair) for pair in pairs]
    return found


def rank_correlation(first: Attribution, second: Attribution) -> float:
    """Spearman's, over one pixel of each region where there are segments, else over all pixels."""
    values = first.map.ravel(), second.map.ravel()
    if "segments" in first.arrays:
        rows = np.unique(first.arrays["segments"], return_index=True)[1]
        values = values[0][rows], values[1][rows]
    return float(spearmanr(*values).statistic)


def main() -> None:
    """Prints rank correlations and errors."""
    flags = tyro.cli(Flags)
    shared = {name: getattr(flags, name) for name in Stage.__dataclass_fields__}
    settings = Explain(**shared, samples=flags.faces, batch_size=flags.batch_size)
    subject = open_subject(settings)
    chosen = choose_faces(subject, settings)
    images = subject.views(chosen.images)
    for method, values in rank_correlations(subject, images, chosen.faces, flags).items():
        print(f"{method}: rank correlation of reduced precision with float32: {', '.join(f'{v:.4f}' for v in values)}")
    errors = measure_errors(subject.gradients(), images, subject.background(flags.bg_samples), flags)
    print(f"{'samples':<34}" + "".join(f"{count:>9}" for count in flags.samples))
    for kind, values in errors.items():
        print(f"{kind:<34}" + "".join(f"{value:>9.1%}" for value in values))
    independent = independent_samples(flags, errors)
    print(f"{'independent samples of equal error':<34}" + "".join(f"{count:>9.0f}" for count in independent))
    for count in (200, 400):
        if independent.min() <= count <= independent.max():
            equal = np.exp(np.interp(np.log(count), np.log(independent), np.log(flags.samples)))
            print(f"{count} independent samples err as {equal:.0f} systematic ones: {count / equal:.1f}× fewer")
    if flags.figure:
        plot_errors(flags.figure, flags, errors, subject.run.name)


if __name__ == "__main__":
    main()
