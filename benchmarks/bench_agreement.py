"""How far explanations are from where they would end: SHAP's error by draws, and reduced precision against float32.

python benchmarks/bench_agreement.py --model fer_resnet --dataset fer2013 --figure shap_error.png

Error: root mean square over pixels, classes and faces of the values from so many draws, against --reference draws, as
a share of the reference's own root mean square. shap draws background face and share independently; ours draws both
evenly (explain_shap.draw_evenly). Both kinds of draws go through the same gradients, which the tests compare with
shap.GradientExplainer on equal draws. Precision: Spearman's rank correlation of the maps of both precisions from the
same draws, LIME by region and SHAP by pixel.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from scipy.stats import spearmanr
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parents[1]))

import explain_lime
import explain_shap
from config import ExplainLime, ExplainShap, Stage
from explain_shap import Background, Draws, draw_evenly, expected_gradients
from ferlib.explanations.choice import choose_faces
from ferlib.explanations.driver import find_candidates
from ferlib.explanations.records import Face
from ferlib.explanations.subject import LogitModel, Subject, open_run
from ferlib.figures.style import BLUE, VERMILION, entitle, saved_figure
from ferlib.inference.int8 import quantization


@dataclass(frozen=True, kw_only=True)
class Flags(Stage):
    faces: int = 2
    draws: tuple[int, ...] = (25, 50, 100, 200, 400)
    repeats: int = 4  # of each number of draws, with other seeds
    reference: int = 20_000
    bg_samples: int = 100
    batch_size: int = 64
    figure: Path | None = None


def draw_independently(count: int, background: int, seed: int) -> Draws:
    """As shap.GradientExplainer draws."""
    rng = np.random.default_rng(seed)
    return Draws(rng.integers(0, background, count), rng.random(count))


KINDS = {"independent draws, as in shap": draw_independently, "even draws, ours": draw_evenly}


def measure_errors(model: LogitModel, images: torch.Tensor, background: Background, flags: Flags) -> dict[str, list]:
    """Relative error by kind of draws, for each number of draws."""
    faces = background.images

    def values(draw, count: int, seed: int) -> torch.Tensor:
        draws = [draw(count, len(faces), seed + number) for number in range(len(images))]
        return expected_gradients(model, images, faces, draws, flags.batch_size)

    bar = tqdm(total=flags.reference + len(KINDS) * flags.repeats * sum(flags.draws), unit=" draws")
    exact = values(draw_evenly, flags.reference, 10**6)
    bar.update(flags.reference)
    errors: dict[str, list] = {}
    for kind, draw in KINDS.items():
        for count in flags.draws:
            squares = []
            for repeat in range(flags.repeats):
                squares.append((values(draw, count, 1000 * repeat) - exact).square().mean().item())
                bar.update(count)
            errors.setdefault(kind, []).append(float((np.mean(squares) / exact.square().mean().item()) ** 0.5))
    bar.close()
    return errors


def independent_draws(flags: Flags, errors: dict[str, list]) -> np.ndarray:
    """How many independent draws err as each number of even ones: their squared error falls as 1 / draws."""
    theirs, ours = (np.square(errors[kind]) for kind in KINDS)
    return (theirs * flags.draws).mean() / ours


def plot_errors(path: Path, flags: Flags, errors: dict[str, list], run: str) -> None:
    theirs, ours = (errors[kind][-1] for kind in KINDS)
    finding = f"Even draws err {theirs / ours:.1f} times less than independent ones at {flags.draws[-1]} draws"
    with saved_figure(path, figsize=(5.5, 3.9)) as figure:
        axes = figure.subplots()
        for (kind, values), color in zip(errors.items(), (BLUE, VERMILION), strict=True):
            axes.loglog(flags.draws, values, "o-", markersize=5, color=color, label=kind)
        axes.set_xticks(flags.draws, [str(count) for count in flags.draws])
        axes.minorticks_off()
        axes.set_yticks(ticks := [0.05, 0.1, 0.2, 0.4, 0.8], [f"{100 * tick:.0f} %" for tick in ticks])
        axes.set(xlabel="Draws per face", ylabel="Error, as a share of the values' own size")
        axes.legend()
        entitle(figure, finding, f"expected gradients of {run}, against {flags.reference:,} draws")


def rank_correlations(
    subject: Subject, images: torch.Tensor, faces: list[Face], flags: Flags
) -> dict[str, list[float]]:
    """Of the maps in the device's reduced precision with those in float32, a number per face and method."""
    slow, fast = LogitModel(subject.model.classifier), subject.prepared()
    targets = torch.from_numpy(np.stack([face.target.weights() for face in faces]))
    seeds = [face.seed for face in faces]
    reduced = {"LIME": fast}
    if quantization.is_available(subject.device):
        reduced["LIME in 8 bits"] = subject.prepared(int8=True)
    exact = explain_lime.explain_faces(slow, images, targets, seeds, ExplainLime())
    found = {
        name: [
            spearmanr(first.map.ravel()[rows], second.map.ravel()[rows]).statistic
            for first, second in zip(
                exact, explain_lime.explain_faces(model, images, targets, seeds, ExplainLime()), strict=True
            )
            for rows in [np.unique(first.arrays["segments"], return_index=True)[1]]  # one pixel of each region
        ]
        for name, model in reduced.items()
    }
    settings = ExplainShap(batch_size=flags.batch_size)
    background = explain_shap.choose_background(subject, slow, settings)
    exact = explain_shap.explain_faces(slow, images, targets, seeds, background, settings)
    reduced = {"SHAP": fast}
    if quantization.is_available(subject.device):
        reduced["SHAP in 8 bits"] = subject.prepared_gradients(int8=True)
    for name, model in reduced.items():
        pairs = zip(exact, explain_shap.explain_faces(model, images, targets, seeds, background, settings), strict=True)
        found[name] = [spearmanr(first.map.ravel(), second.map.ravel()).statistic for first, second in pairs]
    return found


def main() -> None:
    flags = tyro.cli(Flags)
    shared = {name: getattr(flags, name) for name in Stage.__dataclass_fields__}
    settings = ExplainShap(**shared, samples=flags.faces, bg_samples=flags.bg_samples, batch_size=flags.batch_size)
    subject = open_run(settings)
    candidates = find_candidates(subject)
    faces = choose_faces(candidates, settings)
    images = subject.views(candidates.images[[face.index for face in faces]])
    model = subject.prepared()
    background = explain_shap.choose_background(subject, model, settings)
    for method, values in rank_correlations(subject, images, faces, flags).items():
        print(f"{method}: rank correlation of reduced precision with float32: {', '.join(f'{v:.4f}' for v in values)}")
    errors = measure_errors(model, images, background, flags)
    print(f"{'draws':<32}" + "".join(f"{count:>9}" for count in flags.draws))
    for kind, values in errors.items():
        print(f"{kind:<32}" + "".join(f"{value:>9.1%}" for value in values))
    independent = independent_draws(flags, errors)
    print(f"{'independent draws of equal error':<32}" + "".join(f"{count:>9.0f}" for count in independent))
    for count in (200, 400):
        if independent.min() <= count <= independent.max():
            equal = np.exp(np.interp(np.log(count), np.log(independent), np.log(flags.draws)))
            print(f"{count} independent draws err as {equal:.0f} even ones: {count / equal:.1f}× fewer")
    if flags.figure:
        plot_errors(flags.figure, flags, errors, subject.run.name)


if __name__ == "__main__":
    main()
