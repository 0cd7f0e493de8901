"""A sheet of drawn faces, one row per subject: python -m ferlib.data.synthetic.sheet --out sheet.png --evidence"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tyro
from PIL import Image, ImageDraw

from config import EMOTIONS
from ferlib.data.synthetic.faces import SyntheticFace, draw_face


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
