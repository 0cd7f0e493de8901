"""Times training beside programs that keep the cores busy, with all threads and with one.

python benchmarks/bench_load.py
python benchmarks/bench_load.py --model resnet18 --busy 0 1 4 16
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).parents[1]))
from ferlib.runtime.cores import available_cores
from ferlib.runtime.devices import autocast, autocast_dtype, keep_freed_memory
from ferlib.runtime.flags import parse_flags
from models import create_model, model_spec

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Flags:
    """Time training beside busy programs: python benchmarks/bench_load.py"""

    model: str = "mini_resnet"  # a row of models.MODELS
    batch_size: int = 128  # faces in a step
    busy: tuple[int, ...] = (0, 1, 2, 8)  # numbers of programs beside it that never pause
    seconds: float = 6.0  # of a measurement
    rounds: int = 2  # of all numbers of threads in turn


@contextmanager
def busy_programs(count: int) -> Iterator[None]:
    """Processes that compute without a pause."""
    programs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        time.sleep(1)
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()


def measure(flags: Flags, threads: int) -> float:
    """Faces a second of training steps."""
    torch.set_num_threads(threads)
    spec, model = model_spec(flags.model), create_model(flags.model).train()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    faces = torch.rand(flags.batch_size, 1, spec.image_size, spec.image_size)
    labels = torch.randint(0, 7, (flags.batch_size,))

    def step() -> None:
        with autocast(CPU, autocast_dtype(CPU)):
            loss = F.cross_entropy(model(faces).float(), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    step()
    started, steps = time.perf_counter(), 0
    while time.perf_counter() - started < flags.seconds:
        step()
        steps += 1
    return steps * flags.batch_size / (time.perf_counter() - started)


def main() -> None:
    flags, cores = parse_flags(Flags), available_cores()
    keep_freed_memory()
    choices = sorted({1, max(1, cores // 2), max(1, cores - 1), cores})
    print(f"{flags.model}, faces a second in training; {cores} cores")
    print("busy programs" + "".join(f"{f'{threads} threads':>14}" for threads in choices))
    for busy in flags.busy:
        with busy_programs(busy):
            speeds = [[measure(flags, threads) for threads in choices] for _ in range(flags.rounds)]
        best = [max(column) for column in zip(*speeds, strict=True)]
        print(f"{busy:13}" + "".join(f"{speed:14.0f}" for speed in best), flush=True)


if __name__ == "__main__":
    main()
