"""What the explain_* scripts share: load a run, pick its faces, explain them, save maps, figures and summary."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

import datasets
import models
import transforms
from config import DATASETS, EMOTIONS, Explain, Run, to_plain
from devices import autocast, autocast_dtype, device_name, resolve_device
from distributed import barrier, is_main, rank, world_size
from utils import UserError, atomic_path, combine_seeds, command_line, library_versions, lookup, require, write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# flags that change neither the faces' maps nor their numbers
NEUTRAL_FLAGS = {"data_dir", "outputs_dir", "tag", "checkpoint", "samples", "batch_size", "figures"}
FIGURE_NAME = re.compile(rf"\d{{3,}}_({'|'.join(EMOTIONS)})_pred({'|'.join(EMOTIONS)})\.png")


@dataclass(frozen=True)
class Face:
    """A face of the test split and what the model makes of it."""

    index: int  # in the test split
    name: str
    true: int
    probabilities: np.ndarray  # float64, one per class
    target: int  # class that is explained
    image: np.ndarray  # float32 H×W×C in 0..1: what the model sees
    seed: int  # of this face's random draws, made of the run's seed and the index

    @property
    def predicted(self) -> int:
        return int(self.probabilities.argmax())


@dataclass(frozen=True)
class Attribution:
    """What a method says of one face."""

    map: np.ndarray  # float32 H×W, positive: speaks for the target class
    arrays: dict[str, np.ndarray] = field(default_factory=dict)  # of one shape for all faces; saved beside the maps
    facts: dict[str, float] = field(default_factory=dict)  # saved in the summary


@dataclass(frozen=True)
class Method:
    """What an explain_* script adds to this module."""

    name: str
    output: str  # what is explained: "probability" or "logit" of the target class
    settings: dict[str, Any]  # all that the maps depend on beside model, face and seed
    explain: Callable[[torch.Tensor, list[int], list[int]], list[Attribution]]  # (N,C,H,W images, targets, seeds)
    draw: Callable[[Face, Attribution], Figure]
    faces_per_call: int = 1


class LogitModel(nn.Module):
    """A classifier in evaluation mode and mixed precision: images N×C×H×W in 0..1 → float32 logits N×7.

    Its parameters are frozen: explanations need gradients of the pixels only.
    """

    def __init__(self, classifier: nn.Module, dtype: torch.dtype = torch.float32):
        super().__init__()
        self.classifier = classifier.eval().requires_grad_(False)
        self.dtype = dtype

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        with autocast(images.device, self.dtype):
            return self.classifier(images).float()


@dataclass(frozen=True)
class Subject:
    """A trained run, ready to be explained."""

    config: Explain
    checkpoint: Path
    model: LogitModel
    spec: models.ModelSpec
    data: datasets.FaceData
    device: torch.device

    @property
    def run(self) -> Run:
        return self.config.run

    def views(self, faces: datasets.FaceData, indices: np.ndarray) -> torch.Tensor:
        """The chosen faces as the model sees them: float32 N×C×size×size in 0..1, on the device."""
        images = torch.from_numpy(np.array(faces.images[indices])).to(self.device)
        return transforms.center_view(images, self.spec)


def open_run(config: Explain) -> Subject:
    """Loads the checkpoint and the faces that `config` names; UserError if one is missing or another model's."""
    lookup(models.MODELS, config.model, "model")
    lookup(DATASETS, config.dataset, "data set")
    device = resolve_device(config.device)
    path = require(config.checkpoint or config.run.best_checkpoint, config.run.command("train.py"))
    checkpoint = models.load_checkpoint(path, device)
    if checkpoint.info["model"] != config.model:
        raise UserError(f"{path} holds a {checkpoint.info['model']}; use --model {checkpoint.info['model']}")
    data = datasets.load_faces(config.dataset, config.data_dir, config.outputs_dir)
    model = LogitModel(checkpoint.model, autocast_dtype(device, config.amp))
    return Subject(config, path, model, checkpoint.spec, data, device)


def own_flags(config: Explain) -> dict[str, Any]:
    """The flags of one explain_* script that the others do not have."""
    shared = {flag.name for flag in dataclasses.fields(Explain)}
    return {name: value for name, value in to_plain(config).items() if name not in shared}


# ── faces ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def pick_faces(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Indices of `count` faces, spread over the classes as evenly as they allow, in ascending order.

    labels: N class numbers. The same seed gives the same faces, and a smaller count gives a part of them. All faces if
    there are no more than `count`; UserError if count < 1 or there is no face at all.
    """
    if count < 1:
        raise UserError(f"{count} faces were asked for; at least one is needed")
    if len(labels) == 0:
        raise UserError("there is no face to pick from")
    order = np.random.default_rng(seed).permutation(len(labels))
    rank = np.empty(len(labels), dtype=np.int64)  # how many faces of its class come before it
    for label in np.unique(labels):
        members = order[labels[order] == label]
        rank[members] = np.arange(len(members))
    return np.sort(np.lexsort((labels, rank))[:count])  # every class's first face, every class's second, …


@torch.inference_mode()
def predict_probabilities(model: nn.Module, images: torch.Tensor, batch_size: int = 64) -> np.ndarray:
    """Softmax probabilities, float64 N×7, of images N×C×H×W in 0..1; UserError if they are not finite."""
    logits = torch.cat([model(batch).float().cpu() for batch in images.split(batch_size)])
    probabilities = torch.softmax(logits.double(), dim=1).numpy()
    if not np.isfinite(probabilities).all():
        raise UserError("the model's logits are not finite; try --no-amp, or train it again")
    return probabilities


def choose_faces(subject: Subject) -> list[Face]:
    """The faces of the test split that every method explains, each with its predicted class as the target."""
    config, test = subject.config, subject.data.split("test")
    indices = pick_faces(test.labels, config.samples, config.seed)
    views = subject.views(test, indices)
    probabilities = predict_probabilities(subject.model, views, config.batch_size)
    images = views.permute(0, 2, 3, 1).cpu().numpy()
    return [
        Face(
            index=int(index),
            name=str(test.names[index]),
            true=int(test.labels[index]),
            probabilities=probabilities[position],
            target=int(probabilities[position].argmax()),
            image=images[position],
            seed=combine_seeds(config.seed, int(index)),
        )
        for position, index in enumerate(indices)
    ]


def face_seeds(seed: int, count: int) -> list[int]:
    """One seed per face of a batch that has no place in a split."""
    return [combine_seeds(seed, position) for position in range(count)]


# ── computing ────────────────────────────────────────────────────────────────────────────────────────────────────────


def explain_run(subject: Subject, method: Method) -> dict[str, Any]:
    """Explains the chosen faces with `method`; writes figures, maps and summary and returns the summary.

    The processes of torchrun share the faces; the first one writes, the others return an empty summary.
    Faces explained before an interruption are not explained again. Figures of faces no longer chosen are removed.
    """
    run, faces = subject.run, choose_faces(subject)
    store = FaceStore(run.explanations(method.name) / "partial", fingerprint(subject, method))
    attributions, seconds = explain_faces(method, faces, subject.device, store)
    if not is_main():
        return {}
    figures = save_figures(run, method, faces, attributions) if subject.config.figures else [None] * len(faces)
    save_maps(run.explanation_maps(method.name), faces, attributions)
    summary = summarize(subject, method, faces, attributions, seconds, figures)
    write_json(run.explanation_summary(method.name), summary)
    remove_stale_figures(run.explanations(method.name), keep=figures)
    store.remove()
    return summary


def explain_faces(
    method: Method, faces: Sequence[Face], device: torch.device, store: FaceStore
) -> tuple[list[Attribution], list[float]]:
    """One attribution per face and the seconds it took, from the store where an earlier run left it there."""
    found = [store.load(face) for face in faces]
    missing = [position for position, entry in enumerate(found) if entry is None]
    barrier()  # no process may save a face before all have looked
    own = missing[rank() :: world_size()]
    done = len(faces) - len(missing)
    with tqdm(total=done + len(own), initial=done, desc=method.name, unit="face", disable=not is_main()) as progress:
        for start in range(0, len(own), method.faces_per_call):
            positions = own[start : start + method.faces_per_call]
            batch = [faces[position] for position in positions]
            attributions, seconds = explain_batch(method, batch, device)
            for position, attribution in zip(positions, attributions, strict=True):
                found[position] = attribution, seconds
                store.save(faces[position], attribution, seconds)
            progress.update(len(batch))
    barrier()
    found = [entry or store.load(face) for entry, face in zip(found, faces, strict=True)]
    return [attribution for attribution, _ in found], [seconds for _, seconds in found]


def explain_batch(method: Method, faces: Sequence[Face], device: torch.device) -> tuple[list[Attribution], float]:
    """One attribution per face and the mean seconds per face; UserError if a map is not finite."""
    images = torch.from_numpy(np.stack([face.image for face in faces])).permute(0, 3, 1, 2).to(device)
    start = time.perf_counter()
    attributions = method.explain(images, [face.target for face in faces], [face.seed for face in faces])
    seconds = (time.perf_counter() - start) / len(faces)
    for face, attribution in zip(faces, attributions, strict=True):
        check_map(method.name, face, attribution.map)
    return attributions, seconds


def check_map(method: str, face: Face, attribution: np.ndarray) -> None:
    if attribution.shape != face.image.shape[:2]:
        raise ValueError(f"{method} gave a map of {attribution.shape} for a face of {face.image.shape[:2]}")
    if not np.isfinite(attribution).all():
        raise UserError(f"{method} gave values that are not finite for face {face.index} ({face.name}); try --no-amp")


@dataclass(frozen=True)
class FaceStore:
    """Attributions of single faces on disk until the whole run is saved, so that an interrupted run goes on."""

    folder: Path
    fingerprint: str  # of all that the maps depend on beside the face

    def path(self, face: Face) -> Path:
        key = hashlib.sha256(self.fingerprint.encode())
        key.update(json.dumps([face.index, face.target, face.seed, face.image.shape]).encode())
        key.update(np.ascontiguousarray(face.image).tobytes())
        return self.folder / f"{key.hexdigest()[:32]}.npz"

    def save(self, face: Face, attribution: Attribution, seconds: float) -> None:
        arrays = {f"array_{name}": value for name, value in attribution.arrays.items()}
        facts = json.dumps({"seconds": seconds, "facts": attribution.facts})
        with atomic_path(self.path(face)) as temporary:
            np.savez(temporary, map=attribution.map, facts=facts, **arrays)

    def load(self, face: Face) -> tuple[Attribution, float] | None:
        if not self.path(face).exists():
            return None
        with np.load(self.path(face)) as saved:
            facts = json.loads(str(saved["facts"]))
            arrays = {key.removeprefix("array_"): saved[key] for key in saved.files if key.startswith("array_")}
            return Attribution(saved["map"], arrays, facts["facts"]), facts["seconds"]

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def fingerprint(subject: Subject, method: Method) -> str:
    """A digest of the checkpoint, the settings and the libraries: all that a map depends on beside the face."""
    flags = {name: value for name, value in to_plain(subject.config).items() if name not in NEUTRAL_FLAGS}
    facts = [method.name, method.output, flags, method.settings, library_versions(), device_name(subject.device)]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    digest.update(subject.checkpoint.read_bytes())
    return digest.hexdigest()


# ── saving ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def save_maps(path: Path, faces: Sequence[Face], attributions: Sequence[Attribution]) -> None:
    """npz: maps float16 N×H×W, indices and targets int64 N, and each of the method's arrays with N in front."""
    arrays = {name: np.stack([item.arrays[name] for item in attributions]) for name in attributions[0].arrays}
    with atomic_path(path) as temporary:
        np.savez_compressed(
            temporary,
            maps=np.stack([item.map for item in attributions]).astype(np.float16),
            indices=np.array([face.index for face in faces], dtype=np.int64),
            targets=np.array([face.target for face in faces], dtype=np.int64),
            **arrays,
        )


def save_figures(run: Run, method: Method, faces: Sequence[Face], attributions: Sequence[Attribution]) -> list[str]:
    """Draws and writes one PNG per face; returns the file names."""
    paths = []
    for face, attribution in zip(tqdm(faces, desc="figures", unit="face"), attributions, strict=True):
        path = run.explanation_figure(method.name, face.index, EMOTIONS[face.true], EMOTIONS[face.predicted])
        with atomic_path(path) as temporary:
            method.draw(face, attribution).savefig(temporary)
        paths.append(path.name)
    return paths


def remove_stale_figures(folder: Path, keep: Sequence[str | None]) -> None:
    """Removes the figures that an earlier run left and the summary no longer names."""
    for path in folder.glob("*.png"):
        if FIGURE_NAME.fullmatch(path.name) and path.name not in keep:
            path.unlink()


def summarize(
    subject: Subject,
    method: Method,
    faces: Sequence[Face],
    attributions: Sequence[Attribution],
    seconds: Sequence[float],
    figures: Sequence[str | None],
) -> dict[str, Any]:
    """What was explained, how, from which checkpoint and with which result, as plain Python."""
    return {
        "run": subject.run.identity(),
        "method": method.name,
        "settings": {"samples": subject.config.samples, **method.settings},
        "seed": subject.config.seed,
        "command": command_line(),
        "checkpoint": str(subject.checkpoint),
        "explained": "predicted class",
        "output": method.output,
        "image_size": subject.spec.image_size,
        "device": device_name(subject.device),
        "precision": str(subject.model.dtype).removeprefix("torch."),
        "seconds_per_face": float(np.mean(seconds)),
        "versions": library_versions(),
        "faces": [describe_face(*row) for row in zip(faces, attributions, seconds, figures, strict=True)],
    }


def describe_face(face: Face, attribution: Attribution, seconds: float, figure: str | None) -> dict[str, Any]:
    return {
        "index": face.index,
        "name": face.name,
        "true": EMOTIONS[face.true],
        "predicted": EMOTIONS[face.predicted],
        "target": EMOTIONS[face.target],
        "probability": float(face.probabilities[face.target]),
        "probabilities": face.probabilities.tolist(),
        "figure": figure,
        "seconds": seconds,
        **attribution.facts,
    }
