"""The driver of the explain_* scripts: load a run, choose its faces, explain them, save maps, figures and summary."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import tyro
from tqdm import tqdm

from config import EMOTIONS, Explain
from ferlib.explanations import choice as face_choice
from ferlib.explanations.archive import Archive
from ferlib.explanations.choice import Candidates, choose_faces, describe_question
from ferlib.explanations.records import Attribution, Entry, Face, check_map
from ferlib.explanations.subject import Subject
from ferlib.figures.pool import FigurePool, is_drawn
from ferlib.inference.splits import predict_split
from ferlib.runtime.devices import device_name
from ferlib.runtime.distributed import barrier, is_main, processes, rank, world_size
from ferlib.runtime.errors import UserError
from ferlib.runtime.files import write_json
from ferlib.runtime.provenance import command_line, library_versions, to_plain
from ferlib.runtime.runs import Run
from ferlib.runtime.seeds import combine_seeds

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# flags that change neither the faces' maps nor their numbers
NEUTRAL_FLAGS = {
    "data_dir", "outputs_dir", "tag", "checkpoint", "samples", "only", "indices", "image", "target", "against",
    "batch_size", "figures", "format",
}  # fmt: skip
FIGURE_NAME = re.compile(rf"\d{{3,}}_({'|'.join(EMOTIONS)}|unknown)_pred({'|'.join(EMOTIONS)})\.(png|pdf|svg)")


@dataclass(frozen=True)
class Method:
    """What an explain_* script adds to this module.

    explain: images float32 N×C×H×W in 0..1 on the device, weights of the outputs float32 N×7 (Target.weights), and a
    seed per face → an attribution per face. draw: a face, its pixels float32 H×W×C in 0..1, its attribution → a figure;
    it runs in another process, so it is a function of a module, or a partial of one.
    """

    name: str
    output: str  # what is explained: "probability" or "logit" of the target
    settings: dict[str, Any]  # all that the maps depend on beside model, face and seed
    explain: Callable[[torch.Tensor, torch.Tensor, Sequence[int]], list[Attribution]]
    draw: Callable[[Face, np.ndarray, Attribution], Figure]
    faces_per_call: int = 1


def own_flags(config: Explain) -> dict[str, Any]:
    """The flags of one explain_* script that the others do not have."""
    shared = {flag.name for flag in dataclasses.fields(Explain)}
    return {name: value for name, value in to_plain(config).items() if name not in shared}


def find_candidates(subject: Subject) -> Candidates:
    """The pictures given, or the test split, with the model's probabilities of each."""
    config, test = subject.config, subject.data.split("test")
    images, names, labels = test.images, test.names, test.labels
    if config.image:
        images, names = face_choice.read_pictures(config.image, config.dataset)
        labels = None
    model, options = subject.model.classifier, {"device": subject.device, "dtype": subject.model.dtype}
    logits = predict_split(model, subject.spec, images, **options, progress="choosing faces")
    probabilities = torch.softmax(logits.double(), dim=1).numpy()
    if not np.isfinite(probabilities).all():
        raise UserError("the model's logits are not finite; try --no-amp, or train it again")
    return Candidates(images, names, labels, probabilities)


def face_seeds(seed: int, count: int) -> list[int]:
    """One seed per face of a batch that has no place in a split."""
    return [combine_seeds(seed, position) for position in range(count)]


def run_explainer(flags: type[Explain], explain: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    """The main of an explain_* script: its flags from the command line, its processes, its summary."""
    settings = tyro.cli(flags)
    for name in ("batch_size", "regions", "segmentation_side"):
        if getattr(settings, name, 1) < 1:
            raise UserError(f"--{name.replace('_', '-')} must be 1 or more")
    with processes():
        return explain(settings)


# ── a run ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Paths:
    """Where a run's explanations lie; those of pictures have a folder of their own."""

    run: Run
    method: str
    folder: str = ""  # below the run's

    @property
    def maps(self):
        path = self.run.explanation_maps(self.method)
        return path.parent / self.folder / path.name

    @property
    def summary(self):
        path = self.run.explanation_summary(self.method)
        return path.parent / self.folder / path.name

    def figure(self, face: Face):
        true = "unknown" if face.true is None else EMOTIONS[face.true]
        path = self.run.explanation_figure(self.method, face.index, true, EMOTIONS[face.predicted])
        return path.parent / self.folder / path.name


def explain_run(subject: Subject, method: Method) -> dict[str, Any]:
    """Explains the chosen faces with `method`; writes figures, maps and summary and returns the summary.

    The processes of torchrun share the faces; the first one writes maps and summary, the others return an empty one.
    Faces that this script explained before with the same settings are not explained again, and keep their figures.
    """
    config = subject.config
    paths = Paths(subject.run, method.name, "pictures" if config.image else "")
    candidates = find_candidates(subject)
    faces = choose_faces(candidates, config)
    archive = Archive(paths.maps, fingerprint(subject, method))
    with FigurePool(method.draw, config.figures, config.format) as figures:
        entries = explain_faces(subject, method, faces, candidates.images, archive, paths, figures)
    if not is_main():
        return {}
    archive.finish(faces, entries)
    names = [paths.figure(face).name if config.figures else None for face in faces]
    summary = summarize(subject, method, faces, entries, names)
    write_json(paths.summary, summary)
    remove_stale_figures(paths, keep=names)
    return summary


def explain_faces(
    subject: Subject,
    method: Method,
    faces: Sequence[Face],
    images: np.ndarray,
    archive: Archive,
    paths: Paths,
    figures: FigurePool,
) -> list[Entry]:
    """An entry per face, from the archive where it is there; every process computes and draws its own part."""
    found = archive.find(faces)
    barrier()  # no process may add a face before all have looked
    missing = [position for position, entry in enumerate(found) if entry is None]

    def draw(face: Face, pixels: np.ndarray, entry: Entry) -> None:
        figures.draw(paths.figure(face), archive.key(face), face, pixels, entry.attribution)

    for face, entry in list(zip(faces, found, strict=True))[rank() :: world_size()]:
        if entry and figures.wanted and not is_drawn(paths.figure(face), archive.key(face), subject.config.format):
            draw(face, to_pixels(subject.views(images[[face.index]]))[0], entry)
    own, done = missing[rank() :: world_size()], len(faces) - len(missing)
    with tqdm(total=done + len(own), initial=done, desc=method.name, unit=" faces", disable=not is_main()) as progress:
        for start in range(0, len(own), method.faces_per_call):
            positions = own[start : start + method.faces_per_call]
            batch = [faces[position] for position in positions]
            views = subject.views(images[[face.index for face in batch]])
            entries = explain_batch(method, batch, views)
            archive.add(batch, entries)
            for position, face, entry, pixels in zip(positions, batch, entries, to_pixels(views), strict=True):
                found[position] = entry
                draw(face, pixels, entry)
            progress.update(len(batch))
    barrier()
    return [entry or other for entry, other in zip(found, archive.find(faces), strict=True)] if is_main() else []


def explain_batch(method: Method, faces: Sequence[Face], images: torch.Tensor) -> list[Entry]:
    """An entry per face of N×C×H×W, with the mean time of the batch; UserError if a map is not finite."""
    weights = torch.from_numpy(np.stack([face.target.weights() for face in faces])).to(images.device)
    start = time.perf_counter()
    attributions = method.explain(images, weights, [face.seed for face in faces])
    seconds = (time.perf_counter() - start) / len(faces)
    for face, attribution in zip(faces, attributions, strict=True):
        check_map(method.name, face, attribution, tuple(images.shape[-2:]))
    return [Entry(attribution.rounded(), seconds) for attribution in attributions]


def to_pixels(views: torch.Tensor) -> np.ndarray:
    """N×C×H×W → float32 N×H×W×C on the host."""
    return views.permute(0, 2, 3, 1).cpu().numpy()


def fingerprint(subject: Subject, method: Method) -> str:
    """A digest of the checkpoint, the settings and the libraries: all that a map depends on beside the face."""
    flags = {name: value for name, value in to_plain(subject.config).items() if name not in NEUTRAL_FLAGS}
    facts = [method.name, method.output, flags, method.settings, library_versions(), device_name(subject.device)]
    return hashlib.sha256(json.dumps([*facts, subject.checkpoint_digest], sort_keys=True).encode()).hexdigest()


# ── saving ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def remove_stale_figures(paths: Paths, keep: Sequence[str | None]) -> None:
    """Removes the figures that an earlier run left and the summary no longer names, in every format."""
    for path in paths.summary.parent.iterdir():
        if FIGURE_NAME.fullmatch(path.name) and path.with_suffix(".png").name not in keep:
            path.unlink()


def summarize(
    subject: Subject,
    method: Method,
    faces: Sequence[Face],
    entries: Sequence[Entry],
    figures: Sequence[str | None],
) -> dict[str, Any]:
    """What was explained, how, from which checkpoint and with which result, as plain Python."""
    config = subject.config
    return {
        "run": subject.run.identity(),
        "method": method.name,
        "settings": {"samples": config.samples, "only": config.only, **method.settings},
        "seed": config.seed,
        "command": command_line(),
        "checkpoint": str(config.checkpoint or subject.run.best_checkpoint),
        "explained": describe_question(config),
        "output": method.output,
        "image_size": subject.spec.image_size,
        "scaled_size": subject.spec.scaled_size,  # the model sees the centre of a face of this side
        "device": device_name(subject.device),
        "precision": str(subject.model.dtype).removeprefix("torch."),
        "seconds_per_face": float(np.mean([entry.seconds for entry in entries])),
        "versions": library_versions(),
        "faces": [describe_face(*row) for row in zip(faces, entries, figures, strict=True)],
    }


def describe_face(face: Face, entry: Entry, figure: str | None) -> dict[str, Any]:
    return {
        "index": face.index,
        "name": face.name,
        "true": None if face.true is None else EMOTIONS[face.true],
        "predicted": EMOTIONS[face.predicted],
        "target": face.target.name,
        "probability": float(face.probabilities[face.target.label]),
        "probabilities": face.probabilities.tolist(),
        "figure": figure,
        "seconds": entry.seconds,
        **entry.attribution.facts,
    }
