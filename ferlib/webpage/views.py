"""The parts of the page as HTML from templates: a photo's faces, probabilities, an explanation, messages."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from matplotlib.colors import to_hex

from config import EMOTIONS
from ferlib.explanations.maps import locate
from ferlib.explanations.methods import METHODS, find_method
from ferlib.explanations.records import Attribution
from ferlib.explanations.region_words import describe_expected, list_regions
from ferlib.faces.crops import DetectedFace
from ferlib.faces.photo_rows import TURNED_BACK, describe_candidates
from ferlib.figures.panels import SIGNED, SIZES
from ferlib.webpage.photo_results import PhotoResult
from ferlib.webpage.pictures import (
    central_square,
    draw_map,
    enlarge,
    strip_margin,
    to_bytes,
    to_uri,
)
from ferlib.webpage.settings import how_to_read

TEMPLATES = Path(__file__).with_name("templates")
UNSURE = 0.5  # highest probability below which the page calls the prediction uncertain
DOUBTFUL_SCORE = 0.7  # score of a detection below which the page says that it may not be a face
SMALL_FACE = 40  # pixels of a face's box below which the page says that it has little detail


@cache
def environment() -> jinja2.Environment:
    """The templates; values are escaped."""
    loader = jinja2.FileSystemLoader(TEMPLATES)
    return jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )


def render(template: str, **values: Any) -> str:
    """A template filled with values."""
    return environment().get_template(template).render(values)


def read_template(name: str) -> str:
    """A template's text as it is."""
    return (TEMPLATES / name).read_text(encoding="utf-8")


def percent(share: float) -> str:
    """A share in percent: no decimals from 10 % up, one below."""
    return f"{100 * share:.0f}" if share >= 0.1 or share == 0 else f"{100 * share:.1f}"


# ── texts ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def show_welcome() -> str:
    """The text in place of a photo."""
    return render("welcome.html")


def show_head(keep_seconds: float) -> str:
    """Title of the page, what it does, and for how long it keeps a photo."""
    return render("head.html", keeps=f"{keep_seconds / 60:.3g} minutes")


def show_meaning() -> str:
    """The tab that explains probabilities, methods and their limits, as Markdown."""
    return render("meaning.md", methods=[(row.title, how_to_read(row), row.caution) for row in METHODS.values()])


def show_message(message: str) -> str:
    """An error, as a sentence."""
    return render("message.html", message=as_sentence(message))


def as_sentence(message: str) -> str:
    """A message with a capital letter and a full stop."""
    return message[0].upper() + message[1:] + ("" if message.endswith(".") else ".")


def show_examples(examples: dict[str, np.ndarray]) -> str:
    """A button with a picture for each example, name → uint8 H×W×3."""
    rows = [
        {"name": name, "uri": to_uri(to_bytes(enlarge(central_square(picture), 96)))}
        for name, picture in examples.items()
    ]
    return render("examples.html", examples=rows)


# ── a photo ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def show_faces(result: PhotoResult, chosen: int) -> str:
    """The photo with its faces marked, one of them chosen."""
    height, width = result.size
    faces = []
    for number, (face, crop) in enumerate(zip(result.faces, result.crops, strict=True)):
        left, top, wide, high = (float(value) for value in face.box)
        code = result.code(number)
        faces.append(
            {
                **to_percent(left, wide, width, ("left", "width")),
                **to_percent(top, high, height, ("top", "height")),
                "label": EMOTIONS[code],
                "percent": percent(result.probabilities[number, code]),
                "chosen": number == chosen,
                "uri": to_uri(to_bytes(enlarge(crop, 64)), quality=85) if len(result.faces) > 1 else "",
            }
        )
    return render("faces.html", photo=result.photo, faces=faces, found=result.found, smallest=result.smallest)


def to_percent(start: float, length: float, whole: int, names: tuple[str, str]) -> dict[str, float]:
    """Start and length of a box in percent of the photo's side, cut off at its border."""
    begin, end = max(start, 0), min(start + length, whole)
    return dict(zip(names, (round(100 * begin / whole, 2), round(100 * (end - begin) / whole, 2)), strict=True))


def show_probabilities(result: PhotoResult, chosen: int) -> str:
    """The probabilities of a face as bars, the model and the detector's score."""
    shares, face = result.probabilities[chosen], result.faces[chosen]
    order = np.argsort(-shares, kind="stable").tolist()
    rows = [
        {"name": name, "percent": percent(share), "width": round(100 * float(share), 2), "first": code == order[0]}
        for code, (name, share) in enumerate(zip(EMOTIONS, shares, strict=True))
    ]
    return render(
        "probabilities.html",
        rows=rows,
        top=rows[order[0]],
        comment=comment_on(shares, order, result.candidates[chosen] if result.candidates else ()),
        model=result.model,
        detector=result.detector,
        score=f"{face.score:.2f}",
        note=note_on(face),
        calibration=result.calibration,
    )


def comment_on(shares: np.ndarray, order: Sequence[int], candidates: Sequence[str] = ()) -> str:
    """The prediction set of several classes; else the second class, and whether the prediction is uncertain."""
    if len(candidates) > 1:
        return f"{as_sentence(describe_candidates(candidates))}"
    second = f"{EMOTIONS[order[1]]} ({percent(shares[order[1]])} %)"
    if shares[order[0]] < UNSURE:
        return f"Uncertain: no expression has a probability of {percent(UNSURE)} %. Next: {second}."
    return f"Next: {second}."


def note_on(face: DetectedFace) -> str:
    """What makes a detected face doubtful; empty for most."""
    side = min(face.box[2:])
    notes = [f"only {side:.0f} pixels wide, so it has little detail"] if side < SMALL_FACE else []
    notes += ["this may not be a face"] if face.score < DOUBTFUL_SCORE else []
    notes += [f"the photo was turned by {TURNED_BACK[face.turn]} for it"] if face.turn else []
    return "".join(f" · {note}" for note in notes)


def show_explanation(
    result: PhotoResult, chosen: int, found: Attribution, method: str, target: int, seconds: float
) -> str:
    """The map float32 S×S of the chosen face's crop, the meaning of its colours, and how to read it."""
    values = strip_margin(found.map, result.margin)
    row, name, place = find_method(method), EMOTIONS[target], locate(values)
    pictures, limit = draw_map(result, chosen, values, row)
    palette = SIGNED if row.signed else SIZES
    parts = row.name_regions(name, found.facts)
    ends = (f"against {name}: −{limit:.2g}", f"for {name}: +{limit:.2g}") if row.signed else ("0", f"{limit:.2g}")
    return render(
        "explanation.html",
        maps=pictures,
        title=row.title,
        question=f"Why {name}, {percent(result.probabilities[chosen, target])} %?",
        alt=f"The map of {row.title} over the face; it is strongest {place}",
        signed=row.signed,
        unit=row.unit,
        ends=ends,
        colours=[to_hex(palette(share)) for share in np.linspace(0, 1, 9)],
        words=row.describe(name, found.facts | {"probability": float(result.probabilities[chosen, target])}),
        regions=list_regions(parts["values"], parts["expected_units"]) if parts else (),
        expected=describe_expected(name, parts["expected_units"]) if parts else "",
        how_to_read=how_to_read(row),
        facts=f"Strongest {place} · computed in {seconds:.2g} s",
    )
