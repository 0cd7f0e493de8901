"""What a drawn person keeps in every picture, and what changes from picture to picture whatever the expression."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np

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
