"""One process with all threads against several with a part of them each: whole evaluate and explain scripts.

python benchmarks/bench_scale.py
python benchmarks/bench_scale.py --model resnet50 --data-dir data --checkpoint FILE --rounds 1

The scripts are started as a user starts them, with python and with torchrun, and take turns. Seconds of the whole
command, start and loading included, and its faces a second; the ratio is that of the pure work: the time of a run of
few faces is taken off that of a run of more.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from ferlib.runtime.cores import available_cores
from ferlib.runtime.flags import parse_flags

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Flags:
    """Time one process against several: python benchmarks/bench_scale.py"""

    model: str = "fer_resnet_wide"
    dataset: str = "fer2013"
    data_dir: Path = Path("data")
    checkpoint: Path = Path("pretrained/fer_resnet_wide_fer2013_seed2.pth")
    processes: int = 2
    few: int = 4  # faces of the short run of LIME and SHAP
    faces: int = 12  # of the long one; too few for a network to be compiled
    rounds: int = 2  # of all in turn; the median counts


@dataclass(frozen=True)
class Task:
    """A script with the flags of its short and of its long run; a short one of None takes nothing off."""

    name: str
    long: list[str]
    short: list[str] | None = None


def tasks(flags: Flags) -> list[Task]:
    """Evaluation of the whole test split; LIME and SHAP of a few faces."""
    few, many = ([f"--samples={count}", "--no-figures"] for count in (flags.few, flags.faces))
    return [
        Task("evaluate", ["evaluate.py", "--no-figures"]),
        *(Task(name, [f"explain_{name}.py", *many], [f"explain_{name}.py", *few]) for name in ("lime", "shap")),
    ]


def run(flags: Flags, words: list[str], processes: int, outputs: Path) -> float:
    """Seconds of a command, without anything that an earlier one explained."""
    shutil.rmtree(outputs / "explanations", ignore_errors=True)
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    where = [f"--model={flags.model}", f"--dataset={flags.dataset}", f"--data-dir={flags.data_dir.absolute()}"]
    where += [f"--checkpoint={flags.checkpoint.absolute()}", f"--outputs-dir={outputs}"]
    environment = {**os.environ, "OMP_NUM_THREADS": str(max(1, available_cores() // processes))}
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *launch, *words, *where], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    return time.perf_counter() - started


def main() -> None:
    flags, cores = parse_flags(Flags), available_cores()
    kinds = (1, flags.processes)
    print(
        f"{flags.model}, {cores} cores; processes × threads: " + ", ".join(f"{n} × {max(1, cores // n)}" for n in kinds)
    )
    with tempfile.TemporaryDirectory() as folder:
        outputs = Path(folder)
        run(flags, tasks(flags)[0].long, 1, outputs)  # decodes the data set once
        for task in tasks(flags):
            whole: dict[int, list[float]] = {count: [] for count in kinds}
            work: dict[int, list[float]] = {count: [] for count in kinds}
            for _ in range(flags.rounds):
                for count in kinds:
                    short = run(flags, task.short, count, outputs) if task.short else 0.0
                    whole[count].append(run(flags, task.long, count, outputs))
                    work[count].append(max(whole[count][-1] - short, 1e-3))
            seconds = {count: statistics.median(whole[count]) for count in kinds}
            ratio = statistics.median(work[1]) / statistics.median(work[flags.processes])
            words = ", ".join(f"{count} process{'es' * (count > 1)} {seconds[count]:.1f} s" for count in kinds)
            pace = f"{flags.faces - flags.few} faces more" if task.short else "the whole command"
            print(f"{task.name:9} {words}; {pace}: {ratio:.2f} × the speed of one process", flush=True)


if __name__ == "__main__":
    main()
