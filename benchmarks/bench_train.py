"""Images per second of a training step: ours, a plain loop, and the limit, side by side in one run.

python benchmarks/bench_train.py --models resnet50 fer_vgg
python benchmarks/bench_train.py --models mini_resnet fer_resnet --recipe "" --batch-size 0 --no-amp

plain: a DataLoader that decodes and transforms with PIL in one process per core, then a float32 step, as most
projects train, with the allocator as they leave it. ours: the step of engine.py, from faces in memory. limit: the same
model step in the same precision, fed one constant batch. torch: the limit with the gradients of convolutions that torch
has (ferlib/training/convolutions.py). They take turns, so that a change of the machine's speed meets all of
them. The first line says how fast large matrix products are in both precisions: no network can gain more from the
reduced one. On a machine that others use, --cpu-seconds with OMP_NUM_THREADS=1 compares ours and the limit.
"""

from __future__ import annotations

import contextlib
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import torch
import tyro
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode
from torchvision.transforms import v2

sys.path.insert(0, str(Path(__file__).parents[1]))

import config
from ferlib.runtime.devices import autocast_dtype, device_name, resolve_device
from ferlib.runtime.errors import lookup
from ferlib.training import engine, state
from ferlib.training.augmentation import augment, mix
from ferlib.training.batches import Batch, Faces
from ferlib.training.losses import make_criterion
from ferlib.training.state import start_training
from models import ModelSpec, create_model, model_spec, resized
from recipes import RECIPES, Augmentation, Recipe, changed
from stock_memory import stock_memory


@dataclass(frozen=True)
class Flags:
    models: tuple[str, ...] = ("resnet50", "fer_vgg")
    rounds: int = 5  # turns of each of the four; the median counts
    steps: int = 4  # of a turn
    recipe: str = "finetune"  # of ours and the limit, a row of recipes.RECIPES; empty: each model's own
    batch_size: int = 32  # 0: that of the recipe
    amp: bool = True  # reduced precision where the processor has it; --no-amp: float32 throughout
    cpu_seconds: bool = False  # of this process instead of wall-clock, without the plain loop, which has several
    image_size: int | None = None  # side of the faces; default: each model's own
    compile: bool = False  # ours and the limit with torch.compile
    device: str = "auto"
    peak_tflops: float | None = None  # of the device in the precision used; then the utilisation is printed


class Pictures(Dataset):
    """Faces as picture files in memory, transformed one by one with PIL."""

    def __init__(self, faces: np.ndarray, spec: ModelSpec):
        self.pictures = [Image.fromarray(face.squeeze()) for face in faces]
        self.transform = v2.Compose(
            [
                v2.Resize((spec.scaled_size, spec.scaled_size)),
                v2.RandomCrop(spec.image_size),
                v2.RandomHorizontalFlip(),
                v2.RandomRotation(10),
                v2.ColorJitter(brightness=0.2, contrast=0.2),
                v2.Grayscale(spec.channels),
                v2.PILToTensor(),
                v2.ToDtype(torch.float32, scale=True),
            ]
        )

    def __len__(self) -> int:
        return 10**6

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        number = index % len(self.pictures)
        return self.transform(self.pictures[number]), number % 7


def plain_loop(name: str, faces: np.ndarray, batch_size: int, flags: Flags, device: torch.device) -> Iterator[None]:
    """One float32 step per turn of the iterator, fed by a DataLoader."""
    torch.manual_seed(0)
    spec = resized(model_spec(name), flags.image_size)
    model = create_model(name, image_size=flags.image_size)
    model = model.to(device, memory_format=torch.contiguous_format).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
    loader = DataLoader(Pictures(faces, spec), batch_size, num_workers=os.cpu_count() or 1)
    for images, labels in loader:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(images.to(device)), labels.to(device))
        loss.backward()
        optimizer.step()
        loss.item()
        yield


def recipe_of(name: str, flags: Flags) -> Recipe:
    """The recipe of the flags for a model, from random weights."""
    recipe = lookup(RECIPES, flags.recipe or model_spec(name).recipe, "recipe")
    return changed(recipe, weights="none", batch_size=flags.batch_size or recipe.training.batch_size)


def our_steps(
    name: str, faces: np.ndarray, flags: Flags, device: torch.device, *, constant: bool = False, stock: bool = False
) -> Iterator[None]:
    """Our step; with `constant`, on one batch that is made once: what the model's own work costs.

    stock: with torch's own gradients of convolutions.
    """
    recipe = recipe_of(name, flags)
    settings = config.Train(
        model=name, settings=recipe, device=flags.device, compile=flags.compile, image_size=flags.image_size
    )
    dtype, spec = autocast_dtype(device, flags.amp), resized(model_spec(name), flags.image_size)
    with mock.patch.object(state, "use_fast_gradients") if stock else contextlib.nullcontext():
        training = start_training(settings, device, dtype)
    training.model.train()
    labels = torch.arange(len(faces), device=device) % 7
    held = Faces(torch.from_numpy(faces).to(device), torch.eye(7, device=device)[labels], labels, device)
    generator = torch.Generator(device).manual_seed(0)
    loss = make_criterion("cross_entropy", recipe.objective, len(config.EMOTIONS))
    fixed: Batch | None = None
    while True:
        if fixed is None or not constant:
            rows = torch.randint(len(faces), (recipe.training.batch_size,), generator=generator, device=device)
            fixed = prepare(held, rows, spec, recipe.augmentation, generator)
        engine.update_weights(training, fixed, loss, dtype=dtype, clip_norm=recipe.optimization.clip_norm)
        yield


def prepare(
    faces: Faces, rows: torch.Tensor, spec: ModelSpec, augmentation: Augmentation, generator: torch.Generator
) -> Batch:
    """A batch as train_one_epoch makes it."""
    inputs = augment(faces.images[rows], spec, augmentation, generator)
    alphas = {"mixup_alpha": augmentation.mixup, "cutmix_alpha": augmentation.cutmix}
    inputs, targets = mix(inputs, faces.targets[rows], generator, **alphas)
    return inputs, targets, torch.ones(len(rows), device=faces.device)


def time_turns(
    contestants: dict[str, Iterator[None]], flags: Flags, batch_size: int, device: torch.device
) -> dict[str, float]:
    """Median images per second of each, the turns interleaved."""
    clock = time.process_time if flags.cpu_seconds else time.perf_counter
    speeds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(flags.rounds):
        for name, steps in contestants.items():
            with stock_memory() if name == "plain" else contextlib.nullcontext():
                next(steps)  # warm up: kernels, and what the allocator keeps
                seconds = time_steps(steps, flags.steps, device, clock)
            speeds[name].append(flags.steps * batch_size / seconds)
    return {name: statistics.median(values) for name, values in speeds.items()}


def time_steps(steps: Iterator[None], count: int, device: torch.device, clock: Callable[[], float]) -> float:
    synchronize: Callable[[], None] = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    synchronize()
    started = clock()
    for _ in range(count):
        next(steps)
    synchronize()
    return clock() - started


def flops_per_image(name: str, image_size: int | None = None) -> float:
    """Of a training step: three times the forward pass (a multiply-add counts as two)."""
    spec, model = resized(model_spec(name), image_size), create_model(name, image_size=image_size).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 1, spec.image_size, spec.image_size))
    return 3 * counter.get_total_flops()


def matmul_tflops(device: torch.device, dtype: torch.dtype, side: int = 2048, rounds: int = 5) -> float:
    """The best of some products of two square matrices."""
    left, right = torch.randn(2, side, side, device=device).to(dtype)
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        (left @ right)[0, 0].item()  # waits for the device
        seconds.append(time.perf_counter() - started)
    return 2 * side**3 / min(seconds) / 1e12


def name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def main() -> None:
    flags = tyro.cli(Flags)
    device = resolve_device(flags.device)
    faces = np.random.default_rng(0).integers(0, 256, (2048, 48, 48, 1), dtype=np.uint8)
    dtype = autocast_dtype(device, flags.amp)
    peaks = ", ".join(f"{name_of(each)} {matmul_tflops(device, each):.2f}" for each in {torch.float32: 0, dtype: 0})
    print(f"{device_name(device)}, {name_of(dtype)}; matrix products, TFLOP/s: {peaks}")
    speeds = "".join(f"{name:>9}" for name in ("plain", "ours", "limit", "torch"))
    print(f"{'model':<18}{'batch':>6}{speeds}  images/s   ours/plain  ours/limit  ours/torch  TFLOP/s")
    for name in flags.models:
        print(row(name, faces, flags, device), flush=True)


def row(name: str, faces: np.ndarray, flags: Flags, device: torch.device) -> str:
    """The line of a model in the table."""
    batch_size = recipe_of(name, flags).training.batch_size
    contestants = {
        "plain": plain_loop(name, faces, batch_size, flags, device),
        "ours": our_steps(name, faces, flags, device),
        "limit": our_steps(name, faces, flags, device, constant=True),
        "torch": our_steps(name, faces, flags, device, constant=True, stock=True),
    }
    if flags.cpu_seconds:
        del contestants["plain"]
    speeds = {"plain": math.nan, **time_turns(contestants, flags, batch_size, device)}
    tflops = speeds["ours"] * flops_per_image(name, flags.image_size) / 1e12
    columns = "".join(f"{speed:>9.1f}" for speed in speeds.values())
    ratios = f"{speeds['ours'] / speeds['plain']:>10.2f}× {speeds['ours'] / speeds['limit']:>10.1%}"
    ratios += f" {speeds['ours'] / speeds['torch']:>10.2f}×"
    utilisation = f"  {tflops / flags.peak_tflops:.0%} of peak" if flags.peak_tflops else ""
    return f"{name:<18}{batch_size:>6}{columns}            {ratios}  {tflops:>7.2f}{utilisation}"


if __name__ == "__main__":
    main()
