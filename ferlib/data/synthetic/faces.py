"""Drawn faces of known expression, with the regions that show it."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from config import EMOTIONS
from ferlib.data.synthetic.action_units import displaced_shape, sample_action_units
from ferlib.data.synthetic.identities import sample_identity, sample_view
from ferlib.data.synthetic.rendering import develop, make_scene, region_map, render
from ferlib.runtime.interrupts import interrupts_held

EVIDENCE_THRESHOLD = 8  # of 255, in the channel that differs most; below it a difference is hard to see
SIZES = (32, 512)  # smallest and largest image side
NEUTRAL = EMOTIONS.index("Neutral")
CHUNK = 50  # faces per piece of work for one process


@dataclass(frozen=True)
class SyntheticFace:
    """One face: image (size,size,3) uint8, evidence (size,size) uint8 region codes, action unit → intensity 0..1."""

    image: np.ndarray
    evidence: np.ndarray
    emotion: int
    subject: int
    action_units: dict[int, float]


@dataclass(frozen=True)
class SyntheticFaces:
    """Many faces: images (N,size,size,3) uint8, evidence (N,size,size) uint8, labels and subjects (N,) int64."""

    images: np.ndarray
    evidence: np.ndarray
    labels: np.ndarray
    subjects: np.ndarray


def draw_face(
    emotion: int, subject: int, sample: int, size: int = 48, seed: int = 0, intensity: float | None = None
) -> SyntheticFace:
    """Draw one face; every pixel is a pure function of the arguments.

    emotion is an index into EMOTIONS, subject and sample any integers from 0, size the image's side, 32..512. The
    identity depends on (seed, subject), pose, light, background, blur and noise on (seed, subject, sample) and the
    action units (EMFACS prototypes, Friesen & Ekman 1983) on these and the emotion; intensity 0..1 replaces the
    random 0.35..1. Evidence is where the picture before noise differs by more than EVIDENCE_THRESHOLD of 255 from the
    same identity, pose, light and blur drawn neutral, each pixel under its nearest region. Raises ValueError.
    """
    check_arguments(emotion, subject, sample, size, seed, intensity)
    identity, view = sample_identity(seed, subject), sample_view(seed, subject, sample)
    action_units = sample_action_units(emotion, subject, sample, seed, intensity)
    step = -(-96 // size)  # small pictures are drawn larger and averaged down
    scene = make_scene(size * step, identity, view)

    def picture(units: dict[int, float]) -> np.ndarray:
        return develop(render(scene, displaced_shape(identity.shape, units)), size, view.blur)

    clean = picture(action_units)
    evidence = np.zeros((size, size), np.uint8)
    if action_units:
        changed = np.abs(clean - picture({})).max(0) > EVIDENCE_THRESHOLD
        evidence = region_map(scene.grid, step) * changed
    noise = np.random.default_rng(view.noise_seed).standard_normal((3, size, size), np.float32)
    noisy = clean + noise * (255 * view.noise)
    image = np.ascontiguousarray(np.clip(np.rint(noisy), 0, 255).astype(np.uint8).transpose(1, 2, 0))
    return SyntheticFace(image, evidence, emotion, subject, action_units)


def check_arguments(emotion: int, subject: int, sample: int, size: int, seed: int, intensity: float | None) -> None:
    """Raise ValueError where draw_face cannot draw, saying what is valid."""
    if not 0 <= emotion < len(EMOTIONS):
        names = ", ".join(f"{index} {name}" for index, name in enumerate(EMOTIONS))
        raise ValueError(f"emotion {emotion} does not exist; valid: {names}")
    if not SIZES[0] <= size <= SIZES[1]:
        raise ValueError(f"size {size} is not possible; valid: {SIZES[0]} to {SIZES[1]} pixels")
    if min(subject, sample, seed) < 0:
        raise ValueError(f"subject {subject}, sample {sample} and seed {seed} must be 0 or more")
    if intensity is not None and not 0 <= intensity <= 1:
        raise ValueError(f"intensity {intensity} is not possible; valid: 0 to 1")


def draw_chunk(start: int, stop: int, size: int, seed: int, subjects: int) -> list[SyntheticFace]:
    """Faces start..stop of a set: emotions take turns, then subjects, and every face has its own pose and light."""
    classes = len(EMOTIONS)
    return [draw_face(i % classes, i // classes % subjects, i, size, seed) for i in range(start, stop)]


def draw_faces(
    count: int,
    size: int = 48,
    seed: int = 0,
    subjects: int | None = None,
    workers: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> SyntheticFaces:
    """Draw count faces of balanced emotions; the result does not depend on the number of workers.

    subjects is the number of identities (default: one per 21 faces), workers the number of processes (default: one per
    CPU), progress is called with the number of faces just drawn, as tqdm's update is. Raises ValueError.
    """
    if count < 1 or (subjects is not None and subjects < 1) or (workers is not None and workers < 1):
        raise ValueError(f"count {count}, subjects {subjects} and workers {workers} must be 1 or more")
    check_arguments(NEUTRAL, 0, 0, size, seed, None)
    subjects = subjects or -(-count // (3 * len(EMOTIONS)))
    starts = range(0, count, CHUNK)
    stops = [min(start + CHUNK, count) for start in starts]
    draw = partial(draw_chunk, size=size, seed=seed, subjects=subjects)
    faces = []
    with contextlib.ExitStack() as stack:
        for chunk in choose_map(min(workers or os.cpu_count() or 1, len(starts)), stack)(draw, starts, stops):
            faces += chunk
            if progress:
                progress(len(chunk))
    return SyntheticFaces(
        images=np.stack([face.image for face in faces]),
        evidence=np.stack([face.evidence for face in faces]),
        labels=np.array([face.emotion for face in faces], np.int64),
        subjects=np.array([face.subject for face in faces], np.int64),
    )


def choose_map(workers: int, stack: contextlib.ExitStack) -> Callable:
    """The built-in map for one worker, else that of a pool of processes which the stack closes."""
    # A process that is itself a worker (a script without a main guard under spawn, a DataLoader's) draws alone.
    if workers == 1 or multiprocessing.current_process().name != "MainProcess":
        return map
    # Ctrl-C stops this process alone, which then lets the others finish the chunk at hand and no more.
    pool = ProcessPoolExecutor(workers, initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN))
    stack.callback(pool.shutdown, cancel_futures=True)

    def map_over_processes(*arguments: Any, **settings: Any) -> Iterator:
        with interrupts_held():  # the processes start here
            return pool.map(*arguments, **settings)

    return map_over_processes
