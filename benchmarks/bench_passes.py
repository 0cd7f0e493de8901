"""Error of LIME, KernelSHAP and SHAP by the number of passes: plain sampling against ours, on real faces.

python benchmarks/bench_passes.py --model fer_resnet_wide --dataset fer2013 --checkpoint
pretrained/fer_resnet_wide_fer2013_seed2.pth --figure docs/passes.png

Error: standard deviation of the values over independent runs, root mean square over the regions (SHAP: pixels) of a
face, as a share of the root mean square of the values themselves; geometric mean over the faces. No reference is
needed, as plain sampling is unbiased up to lime's ridge; the squared difference of both kinds' means, less what their
variances explain, is printed as a share of plain sampling's variance. Plain: random masks and lime's regression;
masks in proportion to Shapley's kernel; background faces and shares drawn independently, as in shap.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import tyro
from torch import nn
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parents[1]))

from config import Explain, Stage
from ferlib.explanations import lime
from ferlib.explanations.chosen_faces import choose_faces
from ferlib.explanations.kernel_shap import combine, draw_by_leverage, size_probabilities, solve
from ferlib.explanations.methods import METHODS
from ferlib.explanations.perturbations import PerturbedFace, predict_perturbations, segment_faces
from ferlib.explanations.shap import PathSamples, sample_paths
from ferlib.explanations.subject import open_subject
from ferlib.explanations.superpixels import segmenter
from ferlib.figures.palette import BLUE, VERMILION
from ferlib.figures.style import entitle, saved_figure

PLAIN, OURS = KINDS = ("plain sampling", "ours")
Runs = dict[str, list[np.ndarray]]  # kind → estimates of a face, a run each


@dataclass(frozen=True, kw_only=True)
class Flags(Stage):
    """Flags of the benchmark."""

    checkpoint: Path | None = None  # default: the best one of the run
    faces: int = 20
    shap_faces: int = 5
    passes: tuple[int, ...] = (512, 1024)  # in halves more than there are regions
    samples: tuple[int, ...] = (50, 100, 200, 400)  # of SHAP; none: without SHAP
    repeats: int = 2  # independent runs
    segmentation: str = METHODS["lime"].defaults["segmentation"]
    regions: int = METHODS["lime"].defaults["regions"]
    bg_samples: int = METHODS["shap"].defaults["background_size"]
    batch_size: int = 64
    figure: Path | None = None


# ── estimates ────────────────────────────────────────────────────────────────────────────────────────────────────────


def region_runs(model: nn.Module, face: PerturbedFace, target: np.ndarray, flags: Flags) -> dict[str, dict[int, Runs]]:
    """Method → passes → runs."""
    found: dict[str, dict[int, Runs]] = {
        method: {count: {kind: [] for kind in KINDS} for count in flags.passes} for method in ("LIME", "KernelSHAP")
    }
    for repeat in range(flags.repeats):
        run = replace(face, random=np.random.RandomState(1 + repeat), seed=1 + repeat)
        independent, paired, by_kernel, by_leverage = drawn = draw_all(run, max(flags.passes))
        predict_perturbations(model, drawn, flags.batch_size)
        for count in flags.passes:
            at_random, in_pairs = first(independent, count + 1), first(paired, count)
            lime_runs, shap_runs = found["LIME"][count], found["KernelSHAP"][count]
            lime_runs[PLAIN].append(lime.fit(without_face(at_random), target).weights @ target)
            lime_runs[OURS].append(lime.fit(in_pairs, target).weights @ target)
            shap_runs[PLAIN].append(plain_kernel_shap(first(by_kernel, count)) @ target)
            own, new = first(paired, 2 + count // 4 * 2), first(by_leverage, 1 + count - count // 4 * 2)
            shap_runs[OURS].append(combine(own, new, target).values @ target)
    return found


def draw_all(run: PerturbedFace, count: int) -> list[PerturbedFace]:
    """The masks of LIME, plain and ours, and those of KernelSHAP, plain (all and no regions first) and ours (none
    first, to be combined with LIME's)."""
    regions, rng = run.masks.shape[1], np.random.default_rng([run.seed, 2])
    sizes = rng.choice(np.arange(1, regions), count, p=size_probabilities(regions))
    ranks = rng.random((count, regions)).argsort(1).argsort(1)
    ends = np.repeat([[1], [0]], regions, axis=1).astype(np.uint8)
    by_kernel = np.concatenate([ends, (ranks < sizes[:, None]).astype(np.uint8)])
    by_leverage = np.concatenate([ends[1:], draw_by_leverage(count // 2 + 2, regions, rng)])
    return [
        replace(run).draw_masks(count + 1, "independent"),
        replace(run).draw_masks(count + 2, "paired"),
        replace(run, masks=by_kernel),
        replace(run, masks=by_leverage),
    ]


def first(run: PerturbedFace, count: int) -> PerturbedFace:
    """The first masks of a run."""
    return replace(run, masks=run.masks[:count], probabilities=run.probabilities[:count])


def without_face(run: PerturbedFace) -> PerturbedFace:
    """Without the first mask, of the face itself: lime gives it a place in the regression, which shifts all weights."""
    return replace(run, masks=run.masks[1:], probabilities=run.probabilities[1:])


def plain_kernel_shap(run: PerturbedFace) -> np.ndarray:
    """Lundberg & Lee (2017): masks drawn in proportion to the kernel have equal weights."""
    outputs = run.probabilities
    return solve(run.masks[2:], outputs[2:], np.ones(len(outputs) - 2), outputs[0], outputs[1])


def sample_independently(count: int, background: int, seed: int) -> PathSamples:
    """As shap.GradientExplainer samples."""
    rng = np.random.default_rng(seed)
    return PathSamples(rng.integers(0, background, count), rng.random(count))


SAMPLERS: dict[str, Callable[[int, int, int], PathSamples]] = {PLAIN: sample_independently, OURS: sample_paths}


def path_runs(
    model: nn.Module, face: torch.Tensor, target: torch.Tensor, background: torch.Tensor, flags: Flags
) -> dict[int, Runs]:
    """Samples → runs, of the values of the target class alone."""
    return {
        count: {
            kind: [
                target_gradients(model, face, target, background, sample(count, len(background), repeat), flags)
                for repeat in range(flags.repeats)
            ]
            for kind, sample in SAMPLERS.items()
        }
        for count in flags.samples
    }


def target_gradients(
    model: nn.Module,
    face: torch.Tensor,
    target: torch.Tensor,
    background: torch.Tensor,
    samples: PathSamples,
    flags: Flags,
) -> np.ndarray:
    """Expected gradients of the target's logit as shap.expected_gradients sums them, without those of other classes."""
    total = torch.zeros_like(face[0])
    rows, shares = torch.from_numpy(samples.rows), torch.from_numpy(samples.shares).float()
    for row, share in zip(rows.split(flags.batch_size), shares.split(flags.batch_size), strict=True):
        others = background[row.to(face.device)]
        inputs = torch.lerp(others, face, share.view(-1, 1, 1, 1).to(face.device)).requires_grad_()
        gradients = torch.autograd.grad((model(inputs).float() @ target).sum(), inputs)[0]
        total += (gradients * (face - others)).sum((0, 1))
    return (total / len(rows)).double().cpu().numpy().ravel()


# ── errors ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Errors:
    """Of a method, by kind, for each number of passes."""

    counts: tuple[int, ...]
    errors: dict[str, np.ndarray]
    bias: float  # squared, of ours, at the largest number, as a share of plain sampling's variance
    saved: np.ndarray  # passes of plain sampling with the error of ours, over passes of ours


def summarize(faces: Sequence[dict[int, Runs]]) -> Errors:
    """Over the faces."""
    counts = tuple(faces[0])
    errors = {kind: np.array([mean_error(faces, count, kind) for count in counts]) for kind in KINDS}
    biases = [squared_bias(face[counts[-1]]) / spread(face[counts[-1]][PLAIN]) for face in faces]
    return Errors(counts, errors, float(np.mean(biases)), equal_passes(counts, errors[PLAIN], errors[OURS]) / counts)


def mean_error(faces: Sequence[dict[int, Runs]], count: int, kind: str) -> float:
    """Geometric mean over the faces of the error as a share of the values' size."""
    return float(np.exp(np.mean([np.log(spread(face[count][kind]) / size(face)) / 2 for face in faces])))


def spread(runs: Sequence[np.ndarray]) -> float:
    """Variance over the runs, the mean of all regions."""
    return float(np.var(runs, axis=0, ddof=1).mean())


def size(face: dict[int, Runs]) -> float:
    """Mean square of the values, from products of different runs of ours with most passes."""
    runs = np.array(face[max(face)][OURS])
    return float((runs.mean(0) ** 2).mean() - spread(list(runs)) / len(runs))


def squared_bias(runs: Runs) -> float:
    """Of ours from plain sampling, less what their variances explain."""
    difference = np.mean(runs[OURS], axis=0) - np.mean(runs[PLAIN], axis=0)
    return float((difference**2).mean() - sum(spread(runs[kind]) / len(runs[kind]) for kind in KINDS))


def equal_passes(counts: Sequence[int], plain: np.ndarray, ours: np.ndarray) -> np.ndarray:
    """Passes of plain sampling that err as ours: interpolated, and as 1 / √passes beyond the largest number."""
    logs = np.log(plain[::-1]), np.log(counts)[::-1]
    inside = np.exp(np.interp(np.log(ours), *logs))
    return np.where(ours < plain[-1], counts[-1] * (plain[-1] / ours) ** 2, inside)


# ── output ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def print_errors(method: str, found: Errors) -> None:
    """A line a kind."""
    print(f"\n{method:<34}" + "".join(f"{count:>9}" for count in found.counts))
    for kind, values in found.errors.items():
        print(f"{'error, ' + kind:<34}" + "".join(f"{value:>9.1%}" for value in values))
    print(f"{'fewer passes of ours':<34}" + "".join(f"{value:>8.1f}×" for value in found.saved))
    print(f"squared bias of ours: {found.bias:.3f} of plain sampling's variance")


def plot_errors(path: Path, methods: dict[str, Errors], about: str) -> None:
    """Both errors over the number of passes, a panel a method, on logarithmic axes."""
    with saved_figure(path, figsize=(3.4 * len(methods) + 0.6, 3.9)) as figure:
        for axes, (method, found) in zip(
            figure.subplots(1, len(methods), squeeze=False)[0], methods.items(), strict=True
        ):
            for (kind, values), color in zip(found.errors.items(), (BLUE, VERMILION), strict=True):
                axes.loglog(found.counts, values, "o-", markersize=5, color=color, label=kind)
            axes.set_xticks(found.counts, [str(count) for count in found.counts])
            axes.minorticks_off()
            both = np.concatenate(list(found.errors.values()))
            ticks = [tick for tick in 0.025 * 2.0 ** np.arange(10) if both.min() / 1.5 < tick < both.max() * 1.5]
            axes.set_yticks(ticks, [f"{100 * tick:g} %" for tick in ticks])
            axes.set(title=method, xlabel="Samples" if method == "SHAP" else "Passes")
        figure.axes[0].set_ylabel("Error, as a share of the values' own size")
        figure.axes[0].legend()
        saved = ", ".join(f"{method} {found.saved[-1]:.1f}" for method, found in methods.items())
        entitle(figure, f"Times fewer passes to the same error: {saved}", about)


def describe_range(numbers: Sequence[int]) -> str:
    """The least and the largest number."""
    least, largest = min(numbers), max(numbers)
    return f"{least}" if least == largest else f"{least} to {largest}"


def main() -> None:
    """Prints errors and ratios."""
    flags = tyro.cli(Flags)
    shared = {name: getattr(flags, name) for name in Stage.__dataclass_fields__}
    settings = Explain(**shared, checkpoint=flags.checkpoint, samples=flags.faces, batch_size=flags.batch_size)
    subject = open_subject(settings)
    chosen = choose_faces(subject, settings)
    images = subject.views(chosen.images)
    targets = np.stack([face.target.weights() for face in chosen.faces])
    segments = segmenter(flags.segmentation, regions=flags.regions)
    faces = segment_faces(images, [face.seed for face in chosen.faces], segments, "grey", targets.shape[1])
    model = replace(subject, face_count=len(images)).forward(4 * flags.repeats * max(flags.passes))
    rows = list(zip(faces, targets, strict=True))
    runs = [region_runs(model, *row, flags) for row in tqdm(rows, unit=" faces")]
    methods = {method: summarize([each[method] for each in runs]) for method in ("LIME", "KernelSHAP")}
    if flags.samples:
        model, background = subject.gradients(), subject.background(flags.bg_samples)
        weights = torch.from_numpy(targets).float().to(images.device)
        few = range(min(flags.shap_faces, len(images)))
        paths = [path_runs(model, images[row], weights[row], background, flags) for row in tqdm(few, unit=" faces")]
        methods["SHAP"] = summarize(paths)
    regions = [face.masks.shape[1] for face, _ in rows]
    about = (
        f"{subject.run.name} · {len(images)} faces, {flags.segmentation}, {describe_range(regions)} regions · "
        f"{flags.repeats} runs each"
    )
    print(about)
    for method, found in methods.items():
        print_errors(method, found)
    if flags.figure:
        plot_errors(flags.figure, methods, about)


if __name__ == "__main__":
    main()
