"""Expressions as facial action units, and what each action unit changes in the shape of a face."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from config import EMOTIONS

# Each emotion's variants, action unit: weight at full intensity, after the prototypes of EMFACS (Friesen & Ekman 1983).
ACTION_UNITS: dict[str, tuple[dict[int, float], ...]] = {
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

# What each action unit at full intensity adds to the shape of the face (FACS: Ekman & Friesen 1978).
DISPLACEMENTS = {
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


def sample_action_units(
    emotion: int, subject: int, sample: int, seed: int, intensity: float | None
) -> dict[int, float]:
    """Action unit → intensity of one variant of the prototype: weight × intensity × 0.85..1.15, at most 1."""
    rng = np.random.default_rng((3, seed, subject, sample, emotion))
    variants = ACTION_UNITS[EMOTIONS[emotion]]
    variant, drawn = variants[rng.integers(len(variants))], rng.uniform(0.35, 1.0)
    strength = drawn if intensity is None else intensity
    return {unit: min(1.0, float(weight * strength * rng.uniform(0.85, 1.15))) for unit, weight in variant.items()}


def displaced_shape(neutral: dict[str, float], action_units: dict[int, float]) -> SimpleNamespace:
    """The neutral shape plus the displacements of every action unit, in proportion to its intensity."""
    shape = dict(neutral)
    for unit, intensity in action_units.items():
        for name, displacement in DISPLACEMENTS[unit].items():
            shape[name] += intensity * displacement
    return SimpleNamespace(**shape)
