"""Compares the shipped network with packages that a user would install instead, each in an environment of its own.

python benchmarks/bench_peers.py --prepare --folder /tmp/peers
python benchmarks/bench_peers.py --folder /tmp/peers --data-dir DATA --json peers.json
python benchmarks/bench_peers.py --python fer=/path/to/venv/bin/python

Accuracy on the test split of FER2013 (PrivateTest): each network is given the 48×48 faces directly, preprocessed as its
package does, without a detector. Speed: whole batches of these faces, preprocessing included, in rounds of all in turn.
Cold: a new process that imports, loads and reads one photo, with the detector that the package has; ours is predict.py,
which also writes the annotated picture. Warm: the same photo again. All get the same number of threads.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from config import EMOTIONS
from ferlib.runtime.errors import UserError, lookup, run_script
from ferlib.runtime.files import write_json
from ferlib.runtime.flags import parse_flags
from ferlib.runtime.processor import describe_processor
from ferlib.runtime.runs import shipped_checkpoint

HERE = Path(__file__).parent
ROOT = HERE.parent
SEVEN = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")  # FER2013's own order
WORDS = {  # what packages call the classes, beside EMOTIONS in lower case
    "anger": "Angry", "disgusted": "Disgust", "fearful": "Fear", "happiness": "Happy", "sadness": "Sad",
    "surprised": "Surprise",
}  # fmt: skip
BATCH_SIZES = (1, 64)


@dataclass(frozen=True)
class Peer:
    """A row of PEERS."""

    package: str  # name in its registry
    classes: tuple[str, ...] = ()  # of its scores, in order
    install: tuple[str, ...] = ()  # arguments of `pip install`, or of `npm install`, in turn
    weights: str = ""  # file in the environment, as a glob pattern
    note: str = ""  # input size, detector, what differs from the package's own installation
    kind: str = "python"  # or "node"
    shared_torch: bool = False  # --prepare lets it use the torch of this interpreter's environment
    checkpoint: str = ""  # of our own rows: a shipped network's name
    fetched_from: str = ""  # where the package gets its weights when it is first used, which nothing here measures


PEERS = {
    "ours": Peer("", EMOTIONS, note="44 px; YuNet", checkpoint="fer2013"),
    "ours-small": Peer("", EMOTIONS, note="44 px; YuNet", checkpoint="small"),
    "fer": Peer(
        "fer",
        SEVEN,
        (
            "--no-deps fer",
            "tensorflow-cpu opencv-python-headless<5 pandas requests tqdm Pillow matplotlib setuptools<81",
        ),
        "fer/data/emotion_model_quantized.tflite",
        "64 px; Haar cascade; one thread by its own choice; tensorflow-cpu for tensorflow, without facenet-pytorch",
    ),
    "what-the-face": Peer(
        "what-the-face-classification",
        SEVEN,
        ("--no-deps what-the-face-classification setuptools<81",),
        "what_the_face_classification/active_model.pth",
        "48 px; Haar cascade",
        shared_torch=True,
    ),
    "pyemotion": Peer(
        "PyEmotion",
        SEVEN,
        ("--no-deps PyEmotion facenet-pytorch art termcolor requests charset-normalizer idna urllib3 certifi",),
        "PyEmotion/model/main_model.pkl",
        "48 px; MTCNN; with a newer torch than facenet-pytorch asks for",
        shared_torch=True,
    ),
    "face-api": Peer(
        "@vladmandic/face-api",
        ("neutral", "happy", "sad", "angry", "fearful", "disgusted", "surprised"),
        ("@vladmandic/face-api @tensorflow/tfjs @tensorflow/tfjs-backend-wasm @canvas/image",),
        "@vladmandic/face-api/model/face_expression_model.bin",
        "112 px; tiny detector; WebAssembly in one thread",
        kind="node",
    ),
    "deepface": Peer("deepface", fetched_from="github.com/serengil/deepface_models"),
    "hsemotion": Peer("hsemotion", fetched_from="github.com/HSE-asavchenko/face-emotion-recognition"),
    "emotiefflib": Peer("emotiefflib", fetched_from="github.com/sb-ai-lab/EmotiEffLib"),
    "py-feat": Peer("py-feat", fetched_from="huggingface.co/py-feat"),
    "rmn": Peer("rmn", fetched_from="huggingface.co"),
}


@dataclass(frozen=True)
class Flags:
    """Compare with other packages: python benchmarks/bench_peers.py --folder /tmp/peers --data-dir DATA"""

    names: tuple[str, ...] = tuple(PEERS)  # rows of PEERS
    folder: Path = Path("outputs/peers")  # holds an environment a package, named as its row
    python: tuple[str, ...] = ()  # NAME=INTERPRETER of an environment elsewhere
    prepare: bool = False  # make the environments with venv and pip, or npm, instead of measuring
    accuracy: bool = True
    speed: bool = True
    photo: Path | None = None  # of the cold and warm start; default: scikit-image's portrait of an astronaut
    samples: int | None = None  # test faces for the accuracy, the first ones of a random order; default: all
    threads: int = 2  # of every library
    seconds: float = 2.0  # of one measurement of speed
    rounds: int = 3  # of all packages in turn
    starts: int = 5  # new processes for the cold start
    data_dir: Path = Path("data")
    outputs_dir: Path = Path("outputs")
    json: Path | None = None  # write all results to this file


# ── environments ─────────────────────────────────────────────────────────────────────────────────────────────────────


def interpreter(name: str, flags: Flags) -> Path:
    """What runs the worker of a row: its environment's Python; for Node, the folder of its packages."""
    given = dict(entry.split("=", 1) for entry in flags.python if "=" in entry)
    if PEERS[name].checkpoint:
        return Path(sys.executable)
    if PEERS[name].kind == "node":
        return Path(given.get(name, flags.folder / name / "node_modules"))
    return Path(given.get(name, flags.folder / name / ("Scripts/python.exe" if os.name == "nt" else "bin/python")))


def what_is_missing(name: str, flags: Flags) -> str:
    """Why a row cannot be measured, and what to do; empty where it can."""
    peer, place = PEERS[name], interpreter(name, flags)
    if peer.fetched_from:
        return f"weights not to be had: {peer.package} holds none and fetches them from {peer.fetched_from}"
    if place.exists():
        return ""
    tool = "npm" if peer.kind == "node" else "pip"
    own = " && ".join(f"{tool} install {arguments}" for arguments in peer.install)
    return (
        f"{place} does not exist; run: python benchmarks/bench_peers.py --prepare --names {name} "
        f"--folder {flags.folder}   (or make it yourself: {own}; then --python {name}={place})"
    )


def prepare(name: str, flags: Flags) -> None:
    """Makes the environment of a row in its folder."""
    peer, folder = PEERS[name], flags.folder / name
    if peer.checkpoint or peer.fetched_from:
        return
    folder.mkdir(parents=True, exist_ok=True)
    if peer.kind == "node":
        for arguments in peer.install:
            subprocess.run(["npm", "install", "--no-audit", "--no-fund", *arguments.split()], cwd=folder, check=True)
        return
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    if peer.shared_torch:
        import torch

        ours = Path(torch.__file__).parents[1]
        for packages in folder.glob("lib/python*/site-packages"):
            (packages / "zz_shared_torch.pth").write_text(f"{ours}\n")
    for arguments in peer.install:
        pip = [str(interpreter(name, flags)), "-m", "pip", "install", "--quiet", *arguments.split()]
        subprocess.run(pip, check=True)


# ── measurements ─────────────────────────────────────────────────────────────────────────────────────────────────────


def environment(threads: int) -> dict[str, str]:
    """The process's own variables with the number of threads for every library."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")
    limits = {name: str(threads) for name in (*names, "OPENCV_FOR_THREADS_NUM")}
    return {
        **os.environ,
        **limits,
        "TF_NUM_INTEROP_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "",
    }


def ask(name: str, task: str, flags: Flags, **request: Any) -> dict[str, Any]:
    """The worker's answer, with the CPU seconds and the seconds that its process took; UserError if it fails."""
    place = interpreter(name, flags)
    with tempfile.TemporaryDirectory() as folder:
        question, answer = Path(folder, "request.json"), Path(folder, "answer.json")
        facts = {"open": name, "task": task, "answer": str(answer), "modules": str(place.absolute()), **request}
        facts |= {"checkpoint": PEERS[name].checkpoint}
        question.write_text(json.dumps(facts))
        runner = ["node", str(HERE / "peer_worker.js")] if PEERS[name].kind == "node" else worker_command(place)
        cpu, wall = run_timed([*runner, str(question)], name, flags)
        return {**json.loads(answer.read_text()), "cpu": cpu, "wall": wall}


def worker_command(python: Path) -> list[str]:
    return [str(python), str(HERE / "peer_worker.py")]


def run_timed(command: Sequence[str], name: str, flags: Flags) -> tuple[float, float]:
    """CPU seconds and seconds of a process with its children; UserError with the end of its messages if it fails."""
    started = time.perf_counter()
    with tempfile.TemporaryFile() as messages:
        process = subprocess.Popen(command, env=environment(flags.threads), stdout=messages, stderr=messages, cwd=ROOT)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            messages.seek(0)
            raise UserError(f"{name} failed: {messages.read().decode(errors='replace').strip()[-600:]}")
    return used.ru_utime + used.ru_stime, time.perf_counter() - started


def reorder(scores: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Scores N×classes of a package as N×7 in the order of EMOTIONS; classes beside the seven are dropped."""
    if scores.ndim != 2 or scores.shape[1] != len(classes):
        raise UserError(f"scores have the shape {scores.shape}; {len(classes)} classes were expected")
    names = [WORDS.get(word.lower(), word.capitalize()) for word in classes]
    return scores[:, [names.index(emotion) for emotion in EMOTIONS]]


def measure_accuracy(name: str, faces: Path, labels: np.ndarray, flags: Flags) -> dict[str, float]:
    """Share of faces whose highest score is the label's, with Wilson's 95 % interval."""
    from scipy.stats import binomtest

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "scores.npy")
        ask(name, "score", flags, faces=str(faces), scores=str(file))
        scores = reorder(np.load(file), PEERS[name].classes)
    if len(scores) != len(labels) or not np.isfinite(scores).all():
        raise UserError(f"{name}: {len(scores)} rows of scores for {len(labels)} faces, or scores that are no numbers")
    right = int((scores.argmax(1) == labels).sum())
    interval = binomtest(right, len(labels)).proportion_ci(0.95, method="wilson")
    return {"accuracy": right / len(labels), "low": interval.low, "high": interval.high, "faces": len(labels)}


def measure_speed(name: str, faces: Path, photo: Path, flags: Flags) -> dict[str, Any]:
    """One round: faces/s by batch size, one cold start."""
    rates = ask(name, "speed", flags, faces=str(faces), batch_sizes=BATCH_SIZES, seconds=flags.seconds)["rates"]
    return {"rates": rates, **measure_cold(name, photo, flags)}


def measure_cold(name: str, photo: Path, flags: Flags) -> dict[str, float]:
    """CPU seconds and seconds of a new process that reads one photo."""
    if own := PEERS[name].checkpoint:
        with tempfile.TemporaryDirectory() as folder:
            command = [
                sys.executable,
                str(ROOT / "predict.py"),
                str(photo),
                "--outputs-dir",
                folder,
                "--checkpoint",
                own,
            ]
            cpu, wall = run_timed(command, name, flags)
    else:
        answer = ask(name, "photo", flags, photo=str(photo), looks=0)
        cpu, wall = answer["cpu"], answer["wall"]
    return {"cold_cpu": cpu, "cold_wall": wall}


def measure_size(name: str, flags: Flags) -> dict[str, Any]:
    """Bytes of the weights and of the installed packages; packages that are required but absent."""
    peer, place = PEERS[name], interpreter(name, flags)
    if peer.checkpoint:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        requirements = [*project["dependencies"], *project["optional-dependencies"]["video"]]
        weights = shipped_checkpoint(peer.checkpoint).stat().st_size
        answer = ask(name, "size", flags, requirements=requirements)
        own = sum(path.stat().st_size for path in (ROOT / "ferlib").rglob("*.py"))
        return {**answer, "version": "", "installed": answer["installed"] + own + weights, "weights": weights}
    if peer.kind == "node":
        files = [path for path in place.rglob("*") if path.is_file()]
        version = json.loads((place / peer.package / "package.json").read_text())["version"]
        found = sum(path.stat().st_size for path in files)
        return {"installed": found, "absent": [], "version": version, "weights": (place / peer.weights).stat().st_size}
    weights = next(place.parents[1].glob(f"lib/python*/site-packages/{peer.weights}"), None)
    answer = ask(name, "size", flags, requirements=[peer.package])
    return {**answer, "weights": weights.stat().st_size if weights else 0}


def measure(names: Sequence[str], flags: Flags) -> dict[str, dict[str, Any]]:
    """Results by row of those that can be measured."""
    results: dict[str, dict[str, Any]] = {name: measure_size(name, flags) for name in names}
    with tempfile.TemporaryDirectory() as folder:
        images, labels = test_faces(flags)
        faces, photo = Path(folder, "faces.npy"), flags.photo or save_portrait(Path(folder, "portrait.jpg"))
        np.save(faces, images)
        for name in names if flags.accuracy else ():
            results[name] |= measure_accuracy(name, faces, labels, flags)
            print(f"{name}: accuracy {describe_accuracy(results[name])}", flush=True)
        if flags.speed:
            rounds = [{name: measure_speed(name, faces, photo, flags) for name in names} for _ in range(flags.rounds)]
            for name in names:
                starts = [each[name] for each in rounds]
                starts += [measure_cold(name, photo, flags) for _ in range(flags.starts - flags.rounds)]
                rates = [each[name]["rates"] for each in rounds]
                results[name]["rates"] = {size: median(rate[size] for rate in rates) for size in rates[0]}
                results[name] |= {key: median(each[key] for each in starts) for key in ("cold_cpu", "cold_wall")}
                answer = ask(name, "photo", flags, photo=str(photo.absolute()), looks=10)
                results[name] |= {"warm": answer["warm"], "found": answer["found"]}
    return results


def median(values: Any) -> float:
    return float(np.median(list(values)))


def test_faces(flags: Flags) -> tuple[np.ndarray, np.ndarray]:
    """uint8 N×48×48 and labels: the test split, or so many of it at random."""
    import datasets

    test = datasets.load_faces("fer2013", flags.data_dir, flags.outputs_dir).split("test")
    order = np.sort(np.random.default_rng(0).permutation(len(test.images))[: flags.samples])
    return np.ascontiguousarray(test.images[order][..., 0]), np.asarray(test.labels)[order]


def save_portrait(path: Path) -> Path:
    """scikit-image's photo of an astronaut, 512×512, as a JPEG."""
    import skimage.data
    from PIL import Image

    Image.fromarray(skimage.data.astronaut()).save(path, quality=95)
    return path


# ── the table ────────────────────────────────────────────────────────────────────────────────────────────────────────


def describe_accuracy(row: Mapping[str, Any]) -> str:
    """Accuracy and interval in percent, and the number of faces."""
    return f"{row['accuracy']:.2%} ({row['low']:.2%} to {row['high']:.2%}, {row['faces']:,} faces)"


def describe(name: str, row: Mapping[str, Any]) -> str:
    """The line of a row in the table."""
    rates = row.get("rates", {})
    cells = [f"{name} {row['version']}"]
    cells.append(f"{row['accuracy']:.2%}" if "accuracy" in row else "")
    cells += [f"{rates[str(size)]:,.0f}" if rates else "" for size in BATCH_SIZES]
    cells += [f"{row[key]:.2f}" if key in row else "" for key in ("cold_cpu", "cold_wall")]
    cells.append(f"{1000 * row['warm']:.0f}" if row.get("warm") else "")
    cells += [f"{row['weights'] / 1e6:.2f}", f"{row['installed'] / 1e6:,.0f}"]
    return LINE.format(*cells)


LINE = "{:24} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>10}"
HEAD = LINE.format("", "accuracy", "faces/s 1", "of 64", "cold, CPU", "cold, s", "warm, ms", "weights", "installed")


def main() -> None:
    flags = parse_flags(Flags)
    for name in flags.names:
        lookup(PEERS, name, "package")
    if flags.prepare:
        for name in flags.names:
            prepare(name, flags)
        return
    missing = {name: what_is_missing(name, flags) for name in flags.names}
    results = measure([name for name in flags.names if not missing[name]], flags)
    print(f"\n{describe_processor()}; {flags.threads} threads; sizes in MB\n{HEAD}")
    for name, row in results.items():
        without = f"; required but absent: {', '.join(row['absent'])}" if row["absent"] else ""
        print(f"{describe(name, row)}\n    {PEERS[name].note}{without}")
    for name, reason in missing.items():
        if reason:
            print(f"{name}: {reason}")
    if flags.json:
        write_json(flags.json, {"processor": describe_processor(), "threads": flags.threads, "rows": results})


if __name__ == "__main__":
    run_script(main)
