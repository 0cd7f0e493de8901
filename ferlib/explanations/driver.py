"""The driver of the explain_* scripts: chooses the faces of a run, explains them, saves maps and summary.

Figures are drawn by what is handed in (`Figures`), as drawing lies above this room.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from config import EMOTIONS, Explain
from ferlib.data.copies import training_copies
from ferlib.explanations.archive import Archive
from ferlib.explanations.binding import bind
from ferlib.explanations.choice import describe_face, describe_target
from ferlib.explanations.chosen_faces import Chosen, choose_faces, precision_of
from ferlib.explanations.estimate import LONG, Estimate, mean_size
from ferlib.explanations.flags import engine_flags
from ferlib.explanations.gathering import Gathering, send
from ferlib.explanations.landmark_detector import describe_detector
from ferlib.explanations.methods import METHODS
from ferlib.explanations.paths import Paths, remove_stale_figures
from ferlib.explanations.records import Attribution, Entry, ExplainedFace, Outcome, check_map
from ferlib.explanations.specs import Method
from ferlib.explanations.subject import Subject
from ferlib.runtime.channel import Channel
from ferlib.runtime.devices import device_name
from ferlib.runtime.distributed import check_equal, from_first, is_main, world_size
from ferlib.runtime.files import check_writable, write_json
from ferlib.runtime.locks import sole_process
from ferlib.runtime.openvino import is_installed
from ferlib.runtime.provenance import command_line, library_versions
from ferlib.runtime.runs import check_same_set

SAMPLED = 20  # faces whose files are measured for the estimate of a run
PATIENCE = 2  # times the longest share, after which a face in the hands of another process is explained by the first
PATIENCE_AT_LEAST = 30.0  # seconds
COMMON = ("samples", "only", "indices", "target", "against", "seed", "fold")  # flags that all processes must share


class Figures(Protocol):
    """A context that draws figures of explained faces; when it ends, all are on disk or the first error is raised."""

    wanted: bool

    @property
    def pace(self) -> float | None:
        """Seconds between two figures; None while none is drawn."""

    def __enter__(self) -> Any:
        """Begins."""

    def __exit__(self, *error: Any) -> None:
        """Waits for the figures, unless an error ends the context."""

    def is_drawn(self, path: Path, key: str) -> bool:
        """Whether the figure at `path` was drawn under this key."""

    def draw(self, path: Path, key: str, face: ExplainedFace, pixels: np.ndarray, attribution: Attribution) -> None:
        """Draws a face float32 H×W×C in 0..1 and its attribution to the PNG `path`; `key` is kept in it."""


def explain_run(
    subject: Subject, method: Method, values: Mapping[str, Any], flags: Explain, figures: Figures, folder: str = ""
) -> dict[str, Any]:
    """Explains the chosen faces, has their figures drawn, then writes maps and summary; returns the summary.

    folder: below the run's and the method's, where they are written; default: the run's, or that of pictures.

    The processes of torchrun divide the faces; the first one writes all files, the others return an empty summary.
    Faces that the script explained before with the same settings are not explained again, and keep their figures.
    """
    paths = Paths(subject.run, method.name, folder or ("pictures" if flags.image else ""))
    if is_main():
        check_same_set(paths.summary, "run.dataset", subject.run.dataset)
        check_writable(paths.maps)
    check_equal(
        {
            "the checkpoint": subject.checkpoint_digest,
            "the precision": precision_of(subject),
            "the engine": [engine_flags(flags), is_installed()],
            "the data set": subject.data.fingerprint,
            "the settings": [dict(values), [getattr(flags, name) for name in COMMON]],
            "the version of a library": library_versions(),
            "the detector of landmarks": detector_of(method, resolve(values, method, subject)),
        }
    )
    lock = paths.run.lock(f"{method.name}-pictures" if flags.image else method.name)
    with sole_process(lock, f"{subject.run.name} is being explained") if is_main() else nullcontext():
        return explain_alone(subject, method, values, flags, figures, paths)


def explain_alone(
    subject: Subject, method: Method, values: Mapping[str, Any], flags: Explain, figures: Figures, paths: Paths
) -> dict[str, Any]:
    """As `explain_run`, while no other process explains the run by the method."""
    chosen = choose_faces(subject, flags)
    values = resolve(values, method, subject)
    passes = method.count_passes(subject.spec.image_size, values) * len(chosen.faces)
    if method.forward_only:
        subject = subject.with_engine(engine_flags(flags), flags.amp, passes)
    else:
        subject = subject.with_torch()
    archive = Archive(paths.maps, fingerprint(subject, method, values, flags))
    with figures:
        outcomes = explain_faces(subject, method, values, chosen, archive, paths, figures)
    if not is_main():
        return {}
    archive.finish(chosen.faces)
    names = [paths.figure(face).name if flags.figures else None for face in chosen.faces]
    summary = summarize(subject, method, values, flags, chosen.faces, outcomes, names)
    summary["settings_digest"] = archive.settings
    write_json(paths.summary, summary)
    remove_stale_figures(paths, keep=names)
    return summary


def resolve(values: Mapping[str, Any], method: Method, subject: Subject) -> dict[str, Any]:
    """The settings with those filled in that follow others: the model's own CAM layer where none is named, the
    segmentation for its size of faces, the number of samples for that of background faces."""
    own: dict[str, Any] = {}
    if "cells" in method.needs:
        own["layer"] = values["layer"] or subject.spec.cam_layer
    if "segments" in method.needs:
        from ferlib.explanations.superpixels import choose_segmentation  # skimage is loaded for it

        own["segmentation"] = choose_segmentation(values["segmentation"], subject.spec.image_size)
    if "background" in method.needs:
        from ferlib.explanations.shap import count_samples

        own["num_samples"] = count_samples(values["num_samples"], values["background_size"])
    return {**values, **own}


def explain_faces(
    subject: Subject,
    method: Method,
    values: Mapping[str, Any],
    chosen: Chosen,
    archive: Archive,
    paths: Paths,
    figures: Figures,
) -> list[Outcome]:
    """What the summary says of each face, from the archive where it is there.

    Every process explains shares of the other faces as it is free, and the first one keeps and draws all; the others
    return nothing.
    """
    found = [archive.find_outcome(face) if is_main() else None for face in chosen.faces]
    missing = from_first([position for position, outcome in enumerate(found) if outcome is None])
    explain = bind(method, values, replace(subject, face_count=len(missing))) if missing else None
    step = dict(zip(("cpu", "mps", "cuda"), method.faces_per_call, strict=True))[subject.device.type]
    step = max(1, min(step, math.ceil(len(missing) / world_size())))
    first = 1 if len(missing) > 2 * step else step  # it prepares the network; the second share is timed
    channel = Channel()
    shares = channel.shares(missing, step, first)

    def compute(positions: Sequence[int]) -> list[tuple[int, Entry]]:
        batch, views = [chosen.faces[position] for position in positions], subject.views(chosen.images[positions])
        return list(zip(positions, explain_batch(method.name, explain, batch, views), strict=True))

    def draw(positions: Sequence[int]) -> None:
        draw_faces(subject, chosen, positions, archive, paths, figures)

    if not is_main():
        for positions in shares:
            for position, entry in compute(positions):
                send(channel, position, entry)
        return []
    with Gathering(chosen.faces, found, archive, channel, method.progress) as gathering:
        draw(sorted(set(range(len(found))).difference(missing)))
        for number, positions in enumerate(until_finished(shares, gathering)):
            entries = compute(positions) if positions else []
            for position, entry in entries:
                gathering.keep(position, entry)
            draw(gathering.take_fresh())
            if number == 1 and entries:
                announce(gathering, entries[0][1].seconds, chosen, archive, paths, figures)
        draw(gathering.take_fresh())
    return [outcome for outcome in gathering.outcomes if outcome is not None]


def until_finished(shares: Iterable[Sequence[int]], gathering: Gathering) -> Iterator[Sequence[int]]:
    """The first process's shares, then those that others took and did not finish in time: their machine may be lost.

    An empty one where faces of other processes have arrived, which are to be drawn.
    """
    longest = 0.0
    for positions in shares:
        started = time.monotonic()
        yield positions
        longest = max(longest, time.monotonic() - started)
    while left := gathering.unfinished():
        gathering.wait(max(PATIENCE * longest, PATIENCE_AT_LEAST))
        yield left[-1:] if gathering.unfinished() == left else []


def announce(
    gathering: Gathering, seconds: float, chosen: Chosen, archive: Archive, paths: Paths, figures: Figures
) -> None:
    """Prints how long the run will take, where that is long; UserError where the disk is too small for it.

    seconds: of a process for a face.
    """
    left = gathering.unfinished()
    done = [face for position, face in enumerate(chosen.faces) if gathering.outcomes[position]][-SAMPLED:]
    estimate = Estimate(
        faces=len(left),
        seconds=seconds,
        processes=world_size(),
        face_size=mean_size(map(archive.path, done)),
        figure_size=mean_size(map(paths.figure, done)) if figures.wanted else None,
        figure_seconds=figures.pace,
    )
    check_writable(paths.maps, estimate.size)
    if estimate.duration >= LONG:
        gathering.bar.write(f"{gathering.name}: {estimate}")


def draw_faces(
    subject: Subject, chosen: Chosen, positions: Sequence[int], archive: Archive, paths: Paths, figures: Figures
) -> None:
    """Has the figures of finished faces drawn that are not there."""
    for position in positions if figures.wanted else ():
        face = chosen.faces[position]
        path, key = paths.figure(face), archive.figure_key(face)
        if not figures.is_drawn(path, key) and (entry := archive.find(face)):
            pixels = to_pixels(subject.views(chosen.images[position][None]))[0]
            figures.draw(path, key, face, pixels, entry.attribution)


def explain_batch(name: str, explain: Any, faces: Sequence[ExplainedFace], images: torch.Tensor) -> list[Entry]:
    """An entry per face of N×C×H×W, with the mean time of the batch; UserError if a map is not finite."""
    weights = torch.from_numpy(np.stack([face.target.weights() for face in faces])).to(images.device)
    start = time.perf_counter()
    attributions = explain(images, weights, [face.seed for face in faces])
    seconds = (time.perf_counter() - start) / len(faces)
    height, width = images.shape[-2:]
    for face, attribution in zip(faces, attributions, strict=True):
        check_map(name, face, attribution, (height, width))
    return [Entry(attribution.rounded(), seconds) for attribution in attributions]


def to_pixels(views: torch.Tensor) -> np.ndarray:
    """N×C×H×W → float32 N×H×W×C on the host."""
    return views.permute(0, 2, 3, 1).cpu().numpy()


def fingerprint(subject: Subject, method: Method, values: Mapping[str, Any], flags: Explain) -> str:
    """A digest of the checkpoint, the settings and the libraries: all that an attribution depends on but the face."""
    facts = {
        "method": method.name,
        "settings": values,
        "constants": dict(method.constants),  # an earlier version's faces are not taken for this one's
        "methods": {name: settings_of(METHODS[name]) for name in values.get("methods", ())},  # of a stage of scoring
        "landmarks": detector_of(method, values),
        "engine": [subject.engine.title, subject.engine.precision],
        "precision": str(subject.model.dtype),
        "seed": flags.seed,
        "data": [flags.dataset, flags.fold, subject.data.fingerprint],
        "checkpoint": subject.checkpoint_digest,
        "device": subject.device.type,  # without the threads: their number follows what else runs on the machine
        "versions": library_versions(),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def settings_of(method: Method) -> list[dict[str, Any]]:
    """What the maps of a method with its default settings depend on."""
    return [method.defaults, dict(method.fixed), dict(method.constants)]


def detector_of(method: Method, values: Mapping[str, Any]) -> str | None:
    """What finds the landmarks that the maps depend on; None of methods without them."""
    return describe_detector() if method.uses_landmarks(values) else None


# ── saving ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def summarize(
    subject: Subject,
    method: Method,
    values: Mapping[str, Any],
    flags: Explain,
    faces: Sequence[ExplainedFace],
    outcomes: Sequence[Outcome],
    figures: Sequence[str | None],
) -> dict[str, Any]:
    """What was explained, how, from which checkpoint and with which result, as plain Python."""
    marked = method.table and not flags.image
    copies = training_copies(subject.data, exclude_leaks=subject.exclude_leaks) if marked else None
    choice = {} if flags.image else {"samples": flags.samples, "only": flags.only}
    own = {**choice, **method.fixed, **values, **method.constants}
    rows = [
        {**describe_face(face), "figure": figure, "seconds": outcome.seconds, **outcome.facts}
        | method.name_regions(EMOTIONS[face.target.label], outcome.facts)
        | ({} if copies is None else {"training_copy": bool(copies[face.index])})
        | (
            {"words": words}
            if (words := method.describe(face.target.name, {**describe_face(face), **outcome.facts}))
            else {}
        )
        for face, outcome, figure in zip(faces, outcomes, figures, strict=True)
    ]
    return {
        "run": subject.run.identity(),
        "method": method.name,
        "settings": own,
        "seed": flags.seed,
        "command": command_line(),
        "checkpoint": str(subject.checkpoint),
        "checkpoint_digest": subject.checkpoint_digest,
        "fingerprint": subject.data.fingerprint,
        "explained": describe_target(flags.target, flags.against, faces),
        "output": method.output,
        "image_size": subject.spec.image_size,
        "scaled_size": subject.spec.scaled_size,  # the model is given the centre of a face of this side
        "device": device_name(subject.device),
        **subject.engine.describe(),
        "seconds_per_face": float(np.mean([outcome.seconds for outcome in outcomes])),
        "versions": library_versions(),
        "faces": rows,
        **method.tabulate(rows),
    }
