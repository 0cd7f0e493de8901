"""Drawn faces of known expression with known evidence regions; a sheet of them: python synthetic_faces.py --out FILE"""

import contextlib
import math
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import tyro
from PIL import Image, ImageDraw

from config import EMOTIONS
from ferlib.data.synthetic.drawing import REGIONS as REGIONS
from ferlib.data.synthetic.drawing import develop, region_map, render, set_scene
from ferlib.runtime.interrupts import interrupts_held

EVIDENCE_THRESHOLD = 8  # of 255, in the channel that differs most; below it a difference is hard to see
SIZES = (32, 512)  # smallest and largest image side
NEUTRAL = EMOTIONS.index("Neutral")
CHUNK = 50  # faces per piece of work for one process

# Each emotion's variants, action unit: weight at full intensity, after the prototypes of EMFACS (Friesen & Ekman 1983).
ACTION_UNITS = {
    "Angry":    ({4: 1, 5: 0.7, 7: 0.8, 23: 1}, {4: 1, 5: 0.7, 7: 0.8, 10: 0.5, 23: 0.6, 25: 0.8}),
    "Disgust":  ({9: 1, 15: 0.8, 16: 0.9}, {9: 1, 10: 1, 17: 0.9}),
    "Fear":     ({1: 1, 2: 0.5, 4: 0.8, 5: 1, 20: 1, 26: 0.5}, {1: 1, 2: 0.3, 4: 0.8, 5: 1, 7: 0.2, 20: 1, 25: 0.8}),
    "Happy":    ({6: 1, 12: 1}, {6: 1, 12: 1, 25: 1}),
    "Neutral":  ({},),
    "Sad":      ({1: 1, 4: 0.6, 15: 1}, {1: 1, 4: 0.6, 15: 0.8, 17: 0.8}),
    "Surprise": ({1: 1, 2: 1, 5: 0.9, 26: 1},),
}  # fmt: skip
ACTION_UNIT_NAMES = {
    1: "inner brow raiser", 2: "outer brow raiser", 4: "brow lowerer", 5: "upper lid raiser", 6: "cheek raiser",
    7: "lid tightener", 9: "nose wrinkler", 10: "upper lip raiser", 12: "lip corner puller",
    15: "lip corner depressor", 16: "lower lip depressor", 17: "chin raiser", 20: "lip stretcher",
    23: "lip tightener", 25: "lips part", 26: "jaw drop",
}  # fmt: skip

# What one action unit at full intensity adds to the shape of the face (what it moves: Ekman & Friesen 1978, FACS).
MOVES = {
    1:  {"brow_inner": -0.15, "brow_middle": -0.03, "forehead_lines": 0.5, "lid_slant": 0.012},
    2:  {"brow_outer": -0.10, "brow_middle": -0.13, "brow_inner": -0.02, "forehead_lines": 0.5},
    4:  {"brow_inner": 0.095, "brow_middle": 0.065, "brow_outer": 0.01, "brow_gap": -0.055, "frown_lines": 1.0,
         "upper_lid": -0.008},
    5:  {"upper_lid": 0.050},
    6:  {"lower_lid": -0.030, "upper_lid": -0.014, "crows_feet": 1.0, "cheek_raise": 0.8, "eye_bags": 0.6},
    7:  {"lower_lid": -0.026, "upper_lid": -0.026, "eye_bags": 0.5},
    9:  {"nose_lift": -0.045, "nose_width": 0.020, "nose_lines": 1.0, "nasolabial": 0.8, "cheek_raise": 0.4,
         "brow_inner": 0.06, "brow_middle": 0.04, "lower_lid": -0.018, "upper_lid": -0.022, "open_up": 0.02,
         "upper_lip": -0.008, "mouth_height": -0.02},
    10: {"open_up": 0.055, "upper_teeth": 0.8, "mouth_square": 0.6, "nasolabial": 0.5, "nose_lift": -0.015},
    12: {"mouth_curve": -0.13, "mouth_width": 0.09, "mouth_height": 0.02, "nasolabial": 0.9, "cheek_raise": 0.4,
         "upper_lip": -0.012, "lower_lip": -0.012},
    15: {"mouth_corner": 0.085, "mouth_curve": 0.035, "mouth_width": 0.01, "mouth_height": -0.015},
    16: {"open_down": 0.065, "lower_teeth": 1.0, "mouth_square": 0.5, "lower_lip": 0.012},
    17: {"mouth_height": -0.045, "mouth_curve": 0.05, "lower_lip": 0.015, "chin_boss": 1.0},
    20: {"mouth_width": 0.10, "mouth_corner": 0.03, "mouth_square": 1.0, "open_down": 0.04, "lower_teeth": 0.8,
         "upper_lip": -0.012, "lower_lip": -0.02},
    23: {"upper_lip": -0.030, "lower_lip": -0.040, "mouth_width": -0.055, "chin_boss": 0.4},
    25: {"open_up": 0.020, "open_down": 0.055, "upper_teeth": 1.0},
    26: {"jaw_drop": 0.15, "mouth_height": 0.055, "open_down": 0.165, "open_up": 0.085, "mouth_width": -0.095,
         "upper_teeth": 0.3},
}  # fmt: skip

# The neutral shape, mean and spread between subjects: lengths in half face heights (x to the right, y down, the origin
# on the bridge of the nose), folds and bulges as amounts 0..1. What only an expression shows is 0 here.
NEUTRAL_SHAPE = {
    "face_width": (0.76, 0.035), "jaw": (0.27, 0.06), "chin": (1.02, 0.03),
    "eye_spacing": (0.335, 0.012), "eye_width": (0.178, 0.01), "eye_height": (-0.12, 0.01),
    "upper_lid": (0.086, 0.008), "lower_lid": (0.056, 0.005), "lid_slant": (0.012, 0.008),
    "brow_height": (-0.345, 0.018), "brow_arch": (0.045, 0.015), "brow_thickness": (0.040, 0.008),
    "brow_gap": (0.125, 0.012), "nose_width": (0.125, 0.012), "nose_length": (0.32, 0.02),
    "mouth_height": (0.60, 0.015), "mouth_width": (0.285, 0.02), "mouth_curve": (0, 0.006), "mouth_corner": (0, 0.006),
    "upper_lip": (0.050, 0.008), "lower_lip": (0.075, 0.01), "nasolabial": (0.12, 0.08), "eye_bags": (0.15, 0.08),
} | dict.fromkeys((
    "brow_inner", "brow_middle", "brow_outer", "nose_lift", "open_up", "open_down", "jaw_drop", "mouth_square",
    "upper_teeth", "lower_teeth", "forehead_lines", "frown_lines", "crows_feet", "nose_lines", "cheek_raise",
    "chin_boss",
), (0, 0))  # fmt: skip

SKIN_TONES = (
    (247, 214, 190), (239, 196, 165), (226, 178, 142), (205, 155, 118), (176, 124, 90), (140, 95, 68), (98, 66, 49),
)  # fmt: skip
HAIR_TONES = ((28, 24, 24), (52, 36, 28), (88, 58, 38), (124, 84, 50), (188, 148, 92), (140, 62, 36), (158, 156, 154))
IRIS_TONES = ((62, 38, 24), (84, 54, 30), (92, 96, 62), (84, 118, 146), (110, 122, 126))
HAIR_STYLES = ("short", "parted", "fringe", "short", "curly", "bald")
BEARDS = ("none", "stubble", "moustache", "full")


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


# ── what is drawn: identity, view, action units ───────────────────────────────────────────────────────────────────────


def clipped_normal(rng: np.random.Generator, spread: float) -> float:
    """A normal deviate of mean 0 that never exceeds 2.5 times its spread."""
    return spread * min(2.5, max(-2.5, rng.normal()))


def unit_vector(x: float, y: float, z: float) -> tuple[float, float, float]:
    """(x, y, z) at length 1."""
    length = math.hypot(x, y, z)
    return x / length, y / length, z / length


def sample_identity(seed: int, subject: int) -> SimpleNamespace:
    """What a subject keeps in every picture: shape, colours (0..1 RGB), hair, beard, glasses."""
    rng = np.random.default_rng((1, seed, subject))
    mean, spread = np.transpose(list(NEUTRAL_SHAPE.values()))
    shape = dict(zip(NEUTRAL_SHAPE, (mean + spread * np.clip(rng.normal(size=len(mean)), -2, 2)).tolist(), strict=True))
    tone = rng.uniform(0, len(SKIN_TONES) - 1)
    skin = np.stack([np.interp(tone, range(len(SKIN_TONES)), channel) for channel in np.transpose(SKIN_TONES)]) / 255
    bearded = rng.random() < 0.5
    dark = tone > 3.5
    hair = np.array(HAIR_TONES[rng.integers(2 if dark else len(HAIR_TONES))]) / 255
    styles = HAIR_STYLES if bearded else ("long", "fringe", "long", "parted", "curly", "long")
    return SimpleNamespace(
        shape=shape,
        skin=skin.astype(np.float32),
        hair=(hair * rng.uniform(0.8, 1.15)).astype(np.float32),
        iris=np.array(IRIS_TONES[rng.integers(2 if dark else len(IRIS_TONES))], np.float32) / 255,
        lips=(skin * (np.array([0.88, 0.66, 0.64]) + rng.uniform(-0.05, 0.05))).astype(np.float32),
        blush=rng.uniform(0.1, 0.5),
        hair_style=styles[rng.integers(len(styles))],
        hair_phase=rng.uniform(0, 6.28),
        hairline=rng.uniform(-0.80, -0.68),
        beard=BEARDS[rng.choice(4, p=(0.4, 0.25, 0.15, 0.2))] if bearded else "none",
        glasses=rng.random() < 0.2,
        frame=np.array(((0.10, 0.09, 0.09), (0.35, 0.22, 0.14), (0.45, 0.46, 0.50))[rng.integers(3)], np.float32),
    )


def sample_view(seed: int, subject: int, sample: int) -> SimpleNamespace:
    """What changes from picture to picture whatever the expression: pose, gaze, light, background, blur, noise."""
    rng = np.random.default_rng((2, seed, subject, sample))
    return SimpleNamespace(
        roll=clipped_normal(rng, 0.07),
        yaw=clipped_normal(rng, 0.35),
        pitch=clipped_normal(rng, 0.35),
        scale=rng.uniform(0.92, 1.08),
        shift=rng.uniform(-0.06, 0.06, 2).tolist(),
        gaze=clipped_normal(rng, 0.008),
        light=unit_vector(rng.uniform(-0.8, 0.8), rng.uniform(-0.8, -0.1), 1.0),
        ambient=rng.uniform(0.35, 0.6),
        gain=rng.uniform(0.78, 1.12),
        warmth=clipped_normal(rng, 0.03),
        backdrop=(rng.uniform(0.25, 0.85) * (1 + 0.12 * rng.uniform(-1, 1, 3))).astype(np.float32),
        clothes=(rng.uniform(0.1, 0.7) * (1 + 0.3 * rng.uniform(-1, 1, 3))).astype(np.float32),
        blur=0.012 * rng.uniform(0, 1) ** 3,  # of the image side
        noise=0.03 * rng.uniform(0.1, 1) ** 1.5,  # of full scale
        noise_seed=int(rng.integers(2**31)),
    )


def sample_action_units(
    emotion: int, subject: int, sample: int, seed: int, intensity: float | None
) -> dict[int, float]:
    """One variant of the emotion's prototype, each action unit at weight × intensity × 0.85..1.15, at most 1."""
    rng = np.random.default_rng((3, seed, subject, sample, emotion))
    variants = ACTION_UNITS[EMOTIONS[emotion]]
    variant, drawn = variants[rng.integers(len(variants))], rng.uniform(0.35, 1.0)
    strength = drawn if intensity is None else intensity
    return {unit: min(1.0, float(weight * strength * rng.uniform(0.85, 1.15))) for unit, weight in variant.items()}


def move_shape(neutral: dict[str, float], action_units: dict[int, float]) -> SimpleNamespace:
    """The neutral shape with every action unit's moves added in proportion to its intensity."""
    shape = dict(neutral)
    for unit, intensity in action_units.items():
        for name, move in MOVES[unit].items():
            shape[name] += intensity * move
    return SimpleNamespace(**shape)


# ── the public functions ──────────────────────────────────────────────────────────────────────────────────────────────


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
    scene = set_scene(size * step, identity, view)

    def picture(units: dict[int, float]) -> np.ndarray:
        return develop(render(scene, move_shape(identity.shape, units)), size, view.blur)

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
    CPU), progress is called with the number of faces just drawn, as tqdm's update wants it. Raises ValueError.
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

    def map_over_processes(*arguments: object, **settings: object) -> Iterator:
        with interrupts_held():  # the processes start here
            return pool.map(*arguments, **settings)

    return map_over_processes


# ── the contact sheet ─────────────────────────────────────────────────────────────────────────────────────────────────


def overlay_evidence(face: SyntheticFace) -> np.ndarray:
    """The face (size,size,3) uint8 with its evidence tinted by region."""
    tints = np.array([(0, 0, 0), (230, 80, 60), (60, 130, 240), (240, 200, 40), (220, 70, 200), (60, 190, 90)])
    alpha = 0.55 * (face.evidence > 0)[..., None]
    return (face.image * (1 - alpha) + tints[face.evidence] * alpha).astype(np.uint8)


def contact_sheet(
    size: int, subjects: int, seed: int, zoom: int, intensity: float | None, evidence: bool
) -> Image.Image:
    """One row per subject, one column per emotion, names on top; small faces may be enlarged zoom times."""
    side, top = size * zoom, 16
    sheet = Image.new("RGB", (side * len(EMOTIONS), top + side * subjects), "white")
    for emotion, name in enumerate(EMOTIONS):
        ImageDraw.Draw(sheet).text((emotion * side + 4, 2), name, "black")
        for subject in range(subjects):
            face = draw_face(emotion, subject, len(EMOTIONS) * subject + emotion, size, seed, intensity)
            picture = Image.fromarray(overlay_evidence(face) if evidence else face.image)
            sheet.paste(picture.resize((side, side), Image.Resampling.NEAREST), (emotion * side, top + subject * side))
    return sheet


def main(
    out: Path = Path("synthetic_faces.png"),
    size: int = 160,
    subjects: int = 6,
    seed: int = 0,
    zoom: int = 1,
    intensity: float | None = None,
    evidence: bool = False,
) -> None:
    """Write a contact sheet of the seven expressions as PNG, plain or with the evidence tinted."""
    contact_sheet(size, subjects, seed, zoom, intensity, evidence).save(out)
    print(f"{subjects} subjects × {len(EMOTIONS)} expressions → {out}")


if __name__ == "__main__":
    tyro.cli(main)
