"""CPU milliseconds of one thread for the gradients of all logits of an image: PyTorch and OpenVINO, in turns.

OMP_NUM_THREADS=1 python benchmarks/bench_gradients.py --models fer_resnet_wide resnet50 efficientnet_b0

With ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 in front and --precisions float32, as on a processor with AVX2
only. The weights are random: they do not change the time.
"""

from __future__ import annotations

import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

sys.path.insert(0, str(Path(__file__).parents[1]))

from ferlib.inference.class_gradients import class_gradients
from ferlib.inference.folding import prepare
from ferlib.inference.logit_model import LogitModel
from ferlib.inference.openvino_gradients import openvino_gradients
from models import create_model, model_spec


@dataclass(frozen=True)
class Flags:
    """Flags of the benchmark."""

    models: tuple[str, ...] = ("fer_resnet_wide", "resnet50", "efficientnet_b0")
    precisions: tuple[str, ...] = ("float32", "bfloat16")
    batch_sizes: tuple[int, ...] = (8, 32)  # of PyTorch; OpenVINO takes one image at a time
    images: int = 32  # a turn
    rounds: int = 3  # turns of each; the median counts


def measure(name: str, precision: str, flags: Flags) -> dict[str, float]:
    """Milliseconds an image of each contestant."""
    torch.manual_seed(0)
    classifier, spec = create_model(name), model_spec(name)
    images = torch.rand(flags.images, spec.channels, spec.image_size, spec.image_size)
    dtype = getattr(torch, precision)
    prepared = LogitModel(prepare(classifier, images[:1], dtype), dtype)
    contestants: dict[str, tuple[torch.nn.Module, int]] = {
        f"PyTorch, batches of {size}": (prepared, size) for size in flags.batch_sizes
    }
    contestants["OpenVINO"] = openvino_gradients(prepared, classifier, images, precision, threads=1), 1
    seconds: dict[str, list[float]] = {kind: [] for kind in contestants}
    for warm in range(flags.rounds + 1):
        for kind, (model, size) in contestants.items():
            started = time.process_time()
            for batch in images.contiguous(memory_format=torch.channels_last).split(size):
                for _ in class_gradients(model, batch):
                    pass
            if warm:
                seconds[kind].append(time.process_time() - started)
    return {kind: 1000 * statistics.median(values) / flags.images for kind, values in seconds.items()}


def main() -> None:
    """Prints a line a model and precision."""
    flags = tyro.cli(Flags)
    torch.set_num_threads(1)
    for name in flags.models:
        for precision in flags.precisions:
            found = measure(name, precision, flags)
            best = min(value for kind, value in found.items() if kind != "OpenVINO")
            columns = ", ".join(f"{kind} {value:.1f}" for kind, value in found.items())
            print(f"{name} {precision}: {columns} ms; {best / found['OpenVINO']:.2f} times as fast", flush=True)


if __name__ == "__main__":
    main()
