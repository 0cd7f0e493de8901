"""Whether pictures are those of a known copy, and alike in all splits: blurred, equalised, stretched ones are not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ferlib.data.audit.duplicates import describe_face
from ferlib.data.audit.findings import Finding
from ferlib.data.face_data import FaceData
from ferlib.data.facts import SPLITS
from ferlib.data.picture_quality import FLAT, MEASURES
from ferlib.runtime.terminal import counted
from ferlib.runtime.words import enumerate_words

Measures = Mapping[str, np.ndarray]
EFFECT = 0.1  # distance from 1/2 of the probability of superiority from which two groups of pictures differ
DEVIATIONS = 4.0  # standard deviations of that probability, under equal distributions, that it must exceed too
EQUALISED = 0.05  # median distance from the uniform histogram below which pictures are equalised
COMBED = 0.05  # median excess of empty grey levels from which pictures were stretched
SATURATED = 0.5  # share of the pixels at 0 or 255
QUANTILES = np.linspace(0, 1, 101)
SHOWN = (0.1, 0.5, 0.9)  # quantiles that the audit's file has
WORDS = {  # measure → a word for less of it and one for more
    "sharpness": ("blurred", "sharper or noisier"),
    "contrast": ("of less contrast", "of more contrast"),
    "brightness": ("darker", "brighter"),
    "saturation": ("less saturated", "more saturated"),
}


def quality_facts(measures: Measures, splits: np.ndarray) -> dict[str, dict[str, list[float]]]:
    """Measure → split → its 10 %, 50 % and 90 % quantiles."""
    return {
        name: {
            split: [round(float(value), 4) for value in np.quantile(values[splits == code], SHOWN)]
            for code, split in enumerate(SPLITS)
            if (splits == code).any()
        }
        for name, values in measures.items()
    }


def superiority(values: np.ndarray, others: np.ndarray) -> float:
    """Probability that a value N exceeds one of the others M, ties half (Mann-Whitney's U by N·M), 0..1."""
    order = np.sort(others)
    below, up_to = (np.searchsorted(order, values, side) for side in ("left", "right"))
    return float((below + up_to).mean() / (2 * len(others)))


def differs(values: np.ndarray, others: np.ndarray, count: int) -> int:
    """-1 where values N are smaller than the others, 1 where they are larger, 0 where they are alike.

    count: number of pictures that the others stand for.
    """
    probability = superiority(values, others)
    deviation = np.sqrt((len(values) + count + 1) / (12 * len(values) * count))
    if abs(probability - 0.5) < max(EFFECT, DEVIATIONS * deviation):
        return 0
    return 1 if probability > 0.5 else -1


def alterations(measures: Measures) -> list[str]:
    """What was done to pictures, by traces in their histograms alone."""
    if np.median(measures["uniformity"]) < EQUALISED:
        return ["equalised"]
    return ["contrast-stretched"] if np.median(measures["comb"]) > COMBED else []


def differences(measures: Measures, others: Measures, count: int) -> list[str]:
    """In what words pictures differ from others, less what an alteration of their histograms explains."""
    found = [word for word in alterations(measures) if word not in alterations(others)]
    names = ["sharpness"] if found else list(WORDS)
    for name in names:
        if direction := differs(measures[name], others[name], count):
            found.append(WORDS[name][direction > 0])
    return found


def judge_quality(measures: Measures, splits: np.ndarray, known: Measures | None, count: int) -> list[Finding]:
    """Whether pictures are altered, and whether splits differ.

    known: quantiles of the measures of `count` pictures of a known copy.
    """
    found = []
    if known is not None:
        if words := differences(measures, known, count):
            what = enumerate_words(words)
            text = f"the pictures are {what}, compared with the known copy: figures on them are not comparable"
            found.append(Finding("pictures", "error", text))
    elif words := alterations(measures):
        found.append(
            Finding(
                "pictures", "warning", f"the pictures are {enumerate_words(words)}: grey levels are not as recorded"
            )
        )
    train = select(measures, splits == SPLITS.index("train"))
    for split in ("val", "test"):
        chosen = splits == SPLITS.index(split)
        if not chosen.any() or not len(train["contrast"]):
            continue
        if words := differences(select(measures, chosen), train, len(train["contrast"])):
            text = f"the pictures of {split} are {enumerate_words(words)}, compared with those of train"
            found.append(Finding("pictures", "error", text))
    return found or [
        Finding("pictures", "ok", f"brightness, contrast and sharpness are alike in all splits{as_known(known)}")
    ]


def as_known(known: Measures | None) -> str:
    """Whether that was compared with a known copy too, in words."""
    return "" if known is None else " and in the known copy"


def select(measures: Measures, chosen: np.ndarray) -> Measures:
    """The measures of some pictures."""
    return {name: values[chosen] for name, values in measures.items()}


# ── single pictures ──────────────────────────────────────────────────────────────────────────────────────────────────


def defects(data: FaceData, measures: Measures) -> dict[str, list[dict[str, Any]]]:
    """Faces that show nothing, and others of which half of the pixels or more are black or white."""
    return {name: [describe_face(data, row) for row in rows] for name, rows in blank_pictures(measures).items()}


def blank_pictures(measures: Measures) -> dict[str, np.ndarray]:
    """Rows int64 of pictures of one grey level (flat), and of others that are half black or white (saturated)."""
    flat = measures["contrast"] < FLAT
    saturated = ~flat & (measures["saturation"] >= SATURATED)
    return {"flat": np.flatnonzero(flat), "saturated": np.flatnonzero(saturated)}


def judge_defects(found: dict[str, list[dict[str, Any]]]) -> list[Finding]:
    """Whether there are pictures that show no face."""
    flat, saturated = found["flat"], found["saturated"]
    if not flat and not saturated:
        return [Finding("blank pictures", "ok", "no picture is of one grey level, or half black or white")]
    text = (
        f"{counted(len(flat), 'picture is', 'pictures are')} of one grey level ({where(flat)}), "
        f"{counted(len(saturated), 'more is', 'more are')} half black or white"
    )
    return [Finding("blank pictures", "warning", text)]


def where(faces: list[dict[str, Any]]) -> str:
    """Faces by split, in words."""
    counts = {split: sum(face["split"] == split for face in faces) for split in SPLITS}
    return ", ".join(f"{count} in {split}" for split, count in counts.items() if count) or "none"


def quantiles_of(measures: Measures) -> dict[str, np.ndarray]:
    """float32 101 by measure: the quantiles by which a copy is known."""
    return {name: np.quantile(measures[name], QUANTILES).astype(np.float32) for name in MEASURES}
