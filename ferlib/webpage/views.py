"""What the page shows of a photo, a face and a map: HTML from templates, with the pictures inside it."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
import numpy as np
from matplotlib.colors import to_hex
from PIL import Image

from config import EMOTIONS
from ferlib.explanations.maps import color_limit, sum_blocks
from ferlib.faces.crops import DetectedFace, crop_face
from ferlib.figures.heatmaps import stretch, tint
from ferlib.figures.parts import IMPORTANCE, SIGNED, overlay
from ferlib.report.methods import Method
from ferlib.webpage.methods import UNITS, how_to_read, method_facts

TEMPLATES = Path(__file__).with_name("templates")
PHOTO_SIDE = 1100  # longest side of the photo as it is shown
MAP_SIDE = 352  # side of a face or a map as it is shown, or a little more
UNSURE, DOUBTFUL_SCORE, SMALL_FACE = 0.5, 0.7, 40  # below: said beside the result


@dataclass(frozen=True)
class Reading:
    """What the detector and the network made of a photo."""

    photo: np.ndarray  # uint8 H,W,3
    faces: tuple[DetectedFace, ...]  # largest first
    crops: np.ndarray  # uint8 N,S,S,3, as the model sees them: grey where it does
    margin: int  # pixels at each border of a crop that the model does not see
    probabilities: np.ndarray  # float32 N,7
    model: str  # for people

    def top(self, face: int) -> int:
        """The class that the network gives to a face."""
        return int(self.probabilities[face].argmax())


def render(template: str, **values: Any) -> str:
    loader = jinja2.FileSystemLoader(TEMPLATES)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template(template).render(values)


def read_template(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def percent(share: float) -> str:
    return f"{100 * share:.0f}" if share >= 0.1 or share == 0 else f"{100 * share:.1f}"


# ── pictures ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def to_uri(picture: np.ndarray, kind: str = "WEBP", **options: Any) -> str:
    """uint8 H×W×3 as a data URI; nothing is written to a file."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def shown_photo(photo: np.ndarray) -> dict[str, Any]:
    """The photo, at most PHOTO_SIDE pixels a side."""
    picture = Image.fromarray(photo)
    picture.thumbnail((PHOTO_SIDE, PHOTO_SIDE))
    return {"uri": to_uri(np.asarray(picture), quality=88), "width": picture.width, "height": picture.height}


def enlarge(picture: np.ndarray, side: int) -> np.ndarray:
    """uint8 H×W×3 → float side×side×3 in 0..1."""
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC)) / 255


def to_bytes(picture: np.ndarray) -> np.ndarray:
    """float in 0..1 → uint8."""
    return (np.clip(picture, 0, 1) * 255).round().astype(np.uint8)


def draw_map(reading: Reading, chosen: int, values: np.ndarray, method: Method) -> tuple[dict[str, str], float]:
    """The face as the network sees it, the map over the face of the photo and the map alone as data URIs, and the value
    that has full colour.

    values: float32 s×s, the part that the network sees. Attributions that add up are drawn as sums over blocks of
    pixels, as signs that change from pixel to pixel cannot be read.
    """
    values = sum_blocks(values)[0] if method.summed else values
    limit = color_limit(values) if method.signed else float(values.max()) or 1.0
    side = len(values) * -(-MAP_SIDE // len(values))  # every cell has as many pixels as any other
    face, large = cut_face(reading, chosen, side), enlarge_map(values, side, smooth=not method.signed)
    if method.signed:
        over, alone = overlay(face, large, limit), SIGNED((large / limit + 1) / 2)
    else:
        over, alone = tint(stretch(face), large, limit), matplotlib.colormaps[IMPORTANCE](large / limit)
    seen = enlarge(inner(reading.crops[chosen], reading.margin), side)
    pictures = {"seen": seen, "face": face, "over": over, "alone": alone[..., :3]}
    return {name: to_uri(to_bytes(picture), quality=90) for name, picture in pictures.items()}, limit


def central_square(picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return picture[top : top + side, left : left + side]


def inner(picture: np.ndarray, margin: int) -> np.ndarray:
    """H×W… without so many pixels at each border."""
    return picture[margin : len(picture) - margin, margin : picture.shape[1] - margin]


def cut_face(reading: Reading, chosen: int, side: int) -> np.ndarray:
    """What the network sees of a face, as sharp as the photo has it: float side×side×3 in 0..1."""
    whole = reading.crops.shape[1]
    factor = side / (whole - 2 * reading.margin)
    face = crop_face(reading.photo, reading.faces[chosen], round(whole * factor))
    return enlarge(inner(face, round(reading.margin * factor)), side)


def enlarge_map(values: np.ndarray, side: int, smooth: bool) -> np.ndarray:
    """float h×h → side×side; `side` is a multiple of h. Signs are kept apart, as squares."""
    if not smooth:
        return np.kron(values, np.ones((side // len(values),) * 2))
    return np.asarray(Image.fromarray(values).resize((side, side), Image.Resampling.BILINEAR))


def where(values: np.ndarray) -> str:
    """Which ninth of the face has most of the positive part of a map H×W, in words."""
    rows = [np.array_split(part, 3, axis=1) for part in np.array_split(np.clip(values, 0, None), 3)]
    sums = np.array([[cell.sum() for cell in row] for row in rows])
    if sums.max() == 0:
        return "nowhere"
    row, column = np.unravel_index(sums.argmax(), sums.shape)
    if (row, column) == (1, 1):
        return "in the middle"
    words = ("at the top", "in the middle", "at the bottom")[row], (", left", "", ", right")[column]
    return "".join(words)


# ── parts of the page ────────────────────────────────────────────────────────────────────────────────────────────────


def show_welcome() -> str:
    return render("welcome.html")


def show_message(message: str) -> str:
    return render("message.html", message=as_sentence(message))


def as_sentence(message: str) -> str:
    """An error's words as they stand alone."""
    return message[0].upper() + message[1:] + ("" if message.endswith(".") else ".")


def show_examples(examples: dict[str, np.ndarray]) -> str:
    """A button with a picture for each."""
    rows = [
        {"name": name, "uri": to_uri(to_bytes(enlarge(central_square(picture), 96)))}
        for name, picture in examples.items()
    ]
    return render("examples.html", examples=rows)


def show_faces(reading: Reading, chosen: int) -> str:
    """The photo with its faces marked, one of them chosen."""
    height, width = reading.photo.shape[:2]
    faces = []
    for number, (face, crop) in enumerate(zip(reading.faces, reading.crops, strict=True)):
        left, top, wide, high = (float(value) for value in face.box)
        label = reading.top(number)
        faces.append(
            {
                **place(left, wide, width, ("left", "width")),
                **place(top, high, height, ("top", "height")),
                "label": EMOTIONS[label],
                "percent": percent(reading.probabilities[number, label]),
                "chosen": number == chosen,
                "uri": to_uri(to_bytes(enlarge(crop, 64)), quality=85) if len(reading.faces) > 1 else "",
            }
        )
    return render("faces.html", photo=shown_photo(reading.photo), faces=faces)


def place(start: float, length: float, whole: int, names: tuple[str, str]) -> dict[str, float]:
    """Where a face begins and how long it is, in percent of the photo's side, cut off at its border."""
    begin, end = max(start, 0), min(start + length, whole)
    return dict(zip(names, (round(100 * begin / whole, 2), round(100 * (end - begin) / whole, 2)), strict=True))


def show_probabilities(reading: Reading, chosen: int) -> str:
    shares, face = reading.probabilities[chosen], reading.faces[chosen]
    order = np.argsort(-shares, kind="stable")
    rows = [
        {"name": name, "percent": percent(share), "width": round(100 * float(share), 2), "first": label == order[0]}
        for label, (name, share) in enumerate(zip(EMOTIONS, shares, strict=True))
    ]
    return render(
        "probabilities.html",
        rows=rows,
        top=rows[order[0]],
        comment=comment_on(shares, order),
        model=reading.model,
        score=f"{face.score:.2f}",
        note=note_on(face),
    )


def comment_on(shares: np.ndarray, order: Sequence[int]) -> str:
    """How sure the network is, in words."""
    second = f"{EMOTIONS[order[1]]} ({percent(shares[order[1]])} %)"
    if shares[order[0]] < UNSURE:
        return f"The network is unsure: no expression has half of the probability. Next: {second}."
    return f"Next: {second}."


def note_on(face: DetectedFace) -> str:
    """What makes a detected face doubtful, in words; nothing for most."""
    side = min(face.box[2:])
    notes = [f"only {side:.0f} pixels wide, so little can be seen"] if side < SMALL_FACE else []
    notes += ["this may not be a face"] if face.score < DOUBTFUL_SCORE else []
    return "".join(f" · {note}" for note in notes)


def show_explanation(
    reading: Reading, chosen: int, values: np.ndarray, method: str, target: int, seconds: float
) -> str:
    """A map float32 S×S of the chosen face, with what its colours say."""
    values = inner(values, reading.margin)
    facts, name, place = method_facts(method), EMOTIONS[target], where(values)
    pictures, limit = draw_map(reading, chosen, values, facts)
    if facts.signed:
        ends, palette = (f"against {name}: −{limit:.2g}", f"for {name}: +{limit:.2g}"), SIGNED
    else:
        ends, palette = ("nothing", "most in this face"), matplotlib.colormaps[IMPORTANCE]
    return render(
        "explanation.html",
        maps=pictures,
        title=facts.title,
        question=f"Why {name}, {percent(reading.probabilities[chosen, target])} %?",
        alt=f"The map of {facts.title} over the face; it is strongest {place}",
        signed=facts.signed,
        unit=UNITS.get(method, ""),
        ends=ends,
        colours=[to_hex(palette(share)) for share in np.linspace(0, 1, 9)],
        how_to_read=how_to_read(method),
        facts=f"Strongest {place} · computed in {seconds:.2g} s",
    )
