"""Times reading and drawing: a FER2013 CSV of 300 MB the first and the second time, and the drawn faces.

python benchmarks/bench_data.py
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
PARTS = {"Training": 28709, "PublicTest": 3589, "PrivateTest": 3589}
MEASURE = """
import resource, sys, time
import datasets
from pathlib import Path
started = time.perf_counter()
data = datasets.load_faces("fer2013", Path(sys.argv[1]), Path(sys.argv[1]))
data.images[::100].sum()
seconds = time.perf_counter() - started
print(len(data), seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""
DRAW = """
import time
from ferlib.data.synthetic.faces import draw_faces
started = time.perf_counter()
faces = draw_faces(4000, 48)
print(len(faces.labels), time.perf_counter() - started, 0)
"""


def write_csv(path: Path) -> None:
    """Random faces in the format and number of the Kaggle CSV."""
    rng = np.random.default_rng(0)
    with path.open("w") as file:
        file.write("emotion,pixels,Usage\n")
        for usage, count in PARTS.items():
            for _ in range(count):
                pixels = " ".join(map(str, rng.integers(0, 256, 2304)))
                file.write(f"{rng.integers(7)},{pixels},{usage}\n")


def measure(code: str, *arguments: str) -> tuple[int, float, float]:
    """(faces, seconds, peak MiB) of a fresh process."""
    command = [sys.executable, "-c", code, *arguments]
    output = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    faces, seconds, peak = output.split()
    return int(faces), float(seconds), float(peak)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_csv(Path(folder) / "fer2013.csv")
        size = (Path(folder) / "fer2013.csv").stat().st_size / 1e6
        for name in (f"CSV of {size:.0f} MB, first time", "the same again, from the cache"):
            faces, seconds, peak = measure(MEASURE, folder)
            print(f"{name:<34} {faces:,} faces  {seconds:6.2f} s  peak {peak:4.0f} MiB")
    faces, seconds, _ = measure(DRAW)
    print(f"{'drawing the synthetic faces':<34} {faces:,} faces   {seconds:6.2f} s")


if __name__ == "__main__":
    main()
