"""LIME: which superpixels of a face speak for and against the predicted expression.

python explain_lime.py --model resnet50 --dataset fer2013 --samples 20 --lime-samples 1000
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

import config
from ferlib.explanations import kernel_shap
from ferlib.explanations.driver import Method, explain_run, face_seeds, own_flags, run_explainer
from ferlib.explanations.records import Attribution
from ferlib.explanations.subject import open_run
from ferlib.explanations.superpixels import segment
from ferlib.figures.lime import draw_lime
from ferlib.runtime.errors import UserError, run_script
from ferlib.runtime.seeds import combine_seeds

KERNEL_WIDTH = 0.25  # of the proximity in cosine distance, lime's default for images
RIDGE = 1.0  # penalty on the squared weights, lime's default
FACES_PER_CALL = {"cpu": 4, "mps": 8, "cuda": 32}  # so that little is lost by an interruption, and a GPU is busy
# --lime-samples auto: draws are added until the strongest regions stay the same and their weights are known well
AUTO_STEP, AUTO_LIMIT = 256, 4096
AUTO_ERROR = 0.1  # standard error allowed, as a share of the largest weight


@dataclass
class Puzzle:
    """A face cut into regions, with the random sets of them that were shown and what the model said of each."""

    image: torch.Tensor  # C,H,W in 0..1
    fill: torch.Tensor  # C,H,W: what stands in the place of a hidden region
    segments: np.ndarray  # int16 H,W
    random: np.random.RandomState  # as lime draws: the same seed gives the same sets
    shown: np.ndarray  # uint8 draws,regions
    probabilities: np.ndarray  # float64 draws,7; of the first draws, the rest is still to be asked

    def draw(self, count: int) -> Puzzle:
        """Adds `count` random sets of regions; the very first set is the whole face."""
        regions = self.shown.shape[1]
        sets = self.random.randint(0, 2, count * regions).reshape(count, regions).astype(np.uint8)
        if len(self.shown) == 0:
            sets[0] = 1
        self.shown = np.concatenate([self.shown, sets])
        return self


@dataclass(frozen=True)
class Surrogate:
    """The weighted ridge regression of a face."""

    weights: np.ndarray  # float64 regions,7
    standard_errors: np.ndarray  # float64 regions: of the weights for the target
    r2: float  # weighted, of the target


# ── perturbing ───────────────────────────────────────────────────────────────────────────────────────────────────────


def make_puzzle(image: torch.Tensor, segments: np.ndarray, hide_value: float | None, seed: int) -> Puzzle:
    """A face C×H×W without draws."""
    regions = int(segments.max()) + 1
    fill = torch.full_like(image, hide_value) if hide_value is not None else region_means(image, segments)
    empty = np.zeros((0, regions), np.uint8)
    return Puzzle(image, fill, segments, np.random.RandomState(seed), empty, np.zeros((0, 7)))


def region_means(image: torch.Tensor, segments: np.ndarray) -> torch.Tensor:
    """Each pixel of C×H×W replaced by the mean of its region."""
    numbers = torch.from_numpy(segments.astype(np.int64)).to(image.device).flatten()
    sums = torch.zeros(len(image), int(segments.max()) + 1, device=image.device)
    sums.index_add_(1, numbers, image.flatten(1))
    return (sums / torch.bincount(numbers))[:, numbers].view_as(image)


def perturb(puzzle: Puzzle, shown: torch.Tensor) -> torch.Tensor:
    """Copies of a face with only some regions shown: bool draws×regions on its device → draws×C×H×W, channels last."""
    numbers = torch.from_numpy(puzzle.segments.astype(np.int64)).to(shown.device)
    visible = shown.gather(1, numbers.flatten().expand(len(shown), -1)).view(-1, *numbers.shape, 1)
    image, fill = puzzle.image.permute(1, 2, 0), puzzle.fill.permute(1, 2, 0)
    return torch.lerp(fill, image, visible.to(image.dtype)).permute(0, 3, 1, 2)  # exact at 0 and 1; `where` is slower


@torch.inference_mode()
def ask_model(model: nn.Module, puzzles: Iterable[Puzzle], batch_size: int) -> list[Puzzle]:
    """Asks for all draws that the model has not seen, a batch taking draws of several faces; returns the puzzles."""
    answers: dict[int, list[torch.Tensor]] = {}
    asked: dict[int, Puzzle] = {}
    for batch in pack(puzzles, batch_size):
        parts = [perturb(puzzle, shown) for puzzle, shown in batch]
        images = torch.cat(parts) if len(parts) > 1 else parts[0]  # spares a copy
        outputs = model(images.contiguous(memory_format=torch.channels_last)).double().softmax(1)
        for (puzzle, _), part in zip(batch, outputs.split([len(shown) for _, shown in batch]), strict=True):
            asked[id(puzzle)] = puzzle
            answers.setdefault(id(puzzle), []).append(part)
    for number, puzzle in asked.items():
        found = torch.cat(answers[number]).cpu().numpy()
        if not np.isfinite(found).all():
            raise UserError("the model's probabilities are not finite; try --no-amp, or train it again")
        puzzle.probabilities = np.concatenate([puzzle.probabilities, found])
    return list(asked.values())


def pack(puzzles: Iterable[Puzzle], batch_size: int) -> Iterator[list[tuple[Puzzle, torch.Tensor]]]:
    """Batches of draws not yet answered, each a list of faces with the sets of regions to show."""
    batch, room = [], batch_size
    for puzzle in puzzles:
        todo = torch.from_numpy(puzzle.shown[len(puzzle.probabilities) :]).bool().to(puzzle.image.device)
        while len(todo):
            part, todo = todo[:room], todo[room:]
            batch.append((puzzle, part))
            room -= len(part)
            if not room:
                yield batch
                batch, room = [], batch_size
    if batch:
        yield batch


# ── the surrogate ────────────────────────────────────────────────────────────────────────────────────────────────────


def proximity(shown: np.ndarray) -> np.ndarray:
    """Weight of each draw: exp(−D²/KERNEL_WIDTH²)^½ with D the cosine distance to the whole face.

    Ribeiro et al., "Why should I trust you?" (2016), section 3.4; lime takes the root of their kernel.
    """
    distance = 1 - np.sqrt(shown.mean(1))  # the cosine of a 0/1 vector with k ones of n to all ones is √(k/n)
    return np.sqrt(np.exp(-(distance**2) / KERNEL_WIDTH**2))


def fit_surrogate(shown: np.ndarray, outputs: np.ndarray, target: np.ndarray) -> Surrogate:
    """Ridge regression of the outputs draws×7 on the shown regions, for all classes at once in closed form.

    Ribeiro et al. 2016, equation 2 with K-Lasso replaced by ridge, as lime does for images; the intercept is free. The
    standard errors, for the outputs' product with `target`, are those of White (1980): the linear model is wrong, and
    its residuals are not alike.
    """
    weights = proximity(shown)
    share = weights / weights.sum()
    centered = shown - share @ shown
    products = outputs - share @ outputs
    gram = (centered * weights[:, None]).T @ centered + RIDGE * np.eye(shown.shape[1])
    solved = np.linalg.solve(gram, np.concatenate([(centered * weights[:, None]).T @ products, np.eye(len(gram))], 1))
    coefficients, inverse = solved[:, : outputs.shape[1]], solved[:, outputs.shape[1] :]
    residuals = (products - centered @ coefficients) @ target
    scores = centered * (weights * residuals)[:, None]
    errors = np.sqrt(np.diag(inverse @ (scores.T @ scores) @ inverse).clip(min=0))
    total = share @ (products @ target) ** 2
    return Surrogate(coefficients, errors, float(1 - share @ residuals**2 / total) if total else 0.0)


def top_regions(surrogate: Surrogate, target: np.ndarray, count: int) -> frozenset[int]:
    return frozenset(np.argsort(-np.abs(surrogate.weights @ target))[:count].tolist())


# ── faces ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def explain_faces(
    model: nn.Module,
    images: torch.Tensor,
    targets: torch.Tensor,
    seeds: Sequence[int],
    settings: config.ExplainLime,
) -> list[Attribution]:
    """LIME of each face of a batch N×C×H×W in 0..1 for the target weights N×7.

    A pixel's value is the weight of its region: by how much showing the region raises the target's probability. The
    facts are the surrogate's weighted R², the number of regions and of draws.
    """
    targets = targets.cpu().numpy().astype(np.float64)
    puzzles = cut_faces(images, seeds, settings)
    if settings.lime_samples == "auto":
        puzzles = list(puzzles)
        surrogates = sample_until_stable(model, puzzles, targets, settings)
    else:
        puzzles = ask_model(model, (puzzle.draw(settings.lime_samples) for puzzle in puzzles), settings.batch_size)
        surrogates = [fit(puzzle, target) for puzzle, target in zip(puzzles, targets, strict=True)]
    attributions = [paint(*row) for row in zip(puzzles, surrogates, targets, strict=True)]
    if settings.kernel_shap:
        values = shapley_values(model, puzzles, seeds, settings)
        for puzzle, attribution, found, target in zip(puzzles, attributions, values, targets, strict=True):
            attribution.arrays["kernel_shap"] = (found @ target)[puzzle.segments].astype(np.float16)
    return attributions


def shapley_values(
    model: nn.Module, puzzles: Sequence[Puzzle], seeds: Sequence[int], settings: config.ExplainLime
) -> list[np.ndarray]:
    """KernelSHAP of each face's regions, float64 regions×7, from LIME's draws and `kernel_shap` further ones."""
    further = []
    for puzzle, seed in zip(puzzles, seeds, strict=True):
        regions = puzzle.shown.shape[1]
        own = kernel_shap.draw_sets(settings.kernel_shap, regions, np.random.default_rng([seed, 2]))
        sets = np.concatenate([np.zeros((1, regions), np.uint8), own])
        further.append(replace(puzzle, shown=sets, probabilities=np.zeros((0, len(config.EMOTIONS)))))
    ask_model(model, further, settings.batch_size)
    return [solve_shapley(*pair) for pair in zip(puzzles, further, strict=True)]


def solve_shapley(lime: Puzzle, further: Puzzle) -> np.ndarray:
    """Both puzzles' draws in one regression; LIME's first one shows the whole face, the further ones' first none."""
    shown = np.concatenate([lime.shown[1:], further.shown[1:]])
    outputs = np.concatenate([lime.probabilities[1:], further.probabilities[1:]])
    weights = kernel_shap.mixture_weights(shown, len(lime.shown) - 1, len(further.shown) - 1)
    return kernel_shap.solve(shown, outputs, weights, lime.probabilities[0], further.probabilities[0])


def cut_faces(images: torch.Tensor, seeds: Sequence[int], settings: config.ExplainLime) -> Iterator[Puzzle]:
    """The faces with their superpixels; beside a GPU, those of the next faces are computed while it works."""
    pixels = images.permute(0, 2, 3, 1).cpu().numpy()
    jobs = [(face, settings, combine_seeds(seed, 1)) for face, seed in zip(pixels, seeds, strict=True)]
    with ThreadPoolExecutor() if images.device.type != "cpu" else nullcontext() as pool:
        regions = (pool.map if pool else map)(segment, *zip(*jobs, strict=True))
        for image, numbers, seed in zip(images, regions, seeds, strict=True):
            yield make_puzzle(image, numbers, settings.hide_value, seed)


def sample_until_stable(
    model: nn.Module, puzzles: Sequence[Puzzle], targets: np.ndarray, settings: config.ExplainLime
) -> list[Surrogate]:
    """Adds draws to each face until its top regions are those of the step before and their errors are small."""
    surrogates: list[Surrogate | None] = [None] * len(puzzles)
    tops: list[frozenset[int] | None] = [None] * len(puzzles)
    active = list(range(len(puzzles)))
    while active:
        ask_model(model, [puzzles[number].draw(AUTO_STEP) for number in active], settings.batch_size)
        for number in list(active):
            puzzle, target = puzzles[number], targets[number]
            found = surrogates[number] = fit(puzzle, target)
            before, tops[number] = tops[number], top_regions(found, target, settings.top_regions)
            limit = AUTO_ERROR * np.abs(found.weights @ target).max()
            known = found.standard_errors[list(tops[number])].max() <= limit
            if (known and before == tops[number]) or len(puzzle.shown) >= AUTO_LIMIT:
                active.remove(number)
    return surrogates


def fit(puzzle: Puzzle, target: np.ndarray) -> Surrogate:
    return fit_surrogate(puzzle.shown.astype(np.float64), puzzle.probabilities, target)


def paint(puzzle: Puzzle, surrogate: Surrogate, target: np.ndarray) -> Attribution:
    """The weights and their standard errors on their regions."""
    segments = puzzle.segments
    errors = surrogate.standard_errors[segments].astype(np.float16)
    facts = {"r2": surrogate.r2, "segments": puzzle.shown.shape[1], "draws": len(puzzle.shown)}
    weights = (surrogate.weights @ target).astype(np.float32)
    return Attribution(weights[segments], {"segments": segments, "standard_errors": errors}, facts)


def attribute(
    model: nn.Module, images: torch.Tensor, targets: torch.Tensor, settings: config.ExplainLime
) -> np.ndarray:
    """Signed LIME weights painted on their regions: images N×C×H×W in 0..1, targets N×7 → float32 N×H×W."""
    seeds = face_seeds(settings.seed, len(images))
    return np.stack([item.map for item in explain_faces(model, images, targets, seeds, settings)])


# ── the command ──────────────────────────────────────────────────────────────────────────────────────────────────────


def describe(settings: config.ExplainLime) -> str:
    """The line of settings under a figure."""
    hidden = "the region's mean" if settings.hide_value is None else f"grey {settings.hide_value:g}"
    regions = {
        "quickshift": f"kernel {settings.kernel_size:g}, max_dist {settings.max_dist:g}, ratio {settings.ratio:g}",
        "facial": "parts of a frontal face",
    }.get(settings.segmentation, f"about {settings.regions} regions")
    return (
        f"LIME: {settings.lime_samples} perturbations, hidden regions filled with {hidden} · {settings.segmentation} "
        f"on {settings.segmentation_side} px: {regions} · bars: 95 % intervals · seed {settings.seed}"
        + " · network in 8 bits"
        * settings.int8
    )


def explain(settings: config.ExplainLime) -> dict[str, Any]:
    """Explains the chosen faces; writes maps, figures and summary and returns the summary."""
    if settings.lime_samples != "auto" and settings.lime_samples < 2:
        raise UserError("--lime-samples must be 2 or more, or auto")
    if settings.kernel_shap < 0:
        raise UserError("--kernel-shap must be 0 or more")
    subject = open_run(settings)
    passes = (2 * AUTO_STEP if settings.lime_samples == "auto" else settings.lime_samples) + settings.kernel_shap
    method = Method(
        name="lime",
        output="probability",
        settings={**own_flags(settings), "kernel_width": KERNEL_WIDTH, "ridge": RIDGE},
        explain=partial(explain_faces, subject.prepared(passes, settings.int8), settings=settings),
        draw=partial(draw_lime, top_regions=settings.top_regions, run=subject.run.name, footer=describe(settings)),
        faces_per_call=FACES_PER_CALL[subject.device.type],
    )
    return explain_run(subject, method)


def main() -> dict[str, Any]:
    return run_explainer(config.ExplainLime, explain)


if __name__ == "__main__":
    run_script(main)
