"""The picture of exact Shapley values of facial regions: the values, in words too, and what changes the prediction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from config import EMOTIONS
from ferlib.explanations.face_regions import PARTITIONS
from ferlib.explanations.region_words import describe_face, expected_units, signed
from ferlib.figures.blending import AGAINST, FOR, overlay, to_rgb
from ferlib.figures.lettering import wrap
from ferlib.figures.lime import dim_outside
from ferlib.figures.panels import (
    EDGE,
    SMALL,
    footnote,
    headline,
    key,
    new_figure,
    outline,
    panel_row,
    show,
    signed_bar,
    title_panel,
    two_rows,
)
from ferlib.figures.style import WIDTH, in_style
from ferlib.runtime.words import with_article

if TYPE_CHECKING:
    from ferlib.explanations.records import Attribution, ExplainedFace

LINE = 0.17  # inches of a line of the sentence


@in_style()
def draw_regions(
    face: ExplainedFace, image: np.ndarray, attribution: Attribution, partition: str, run: str, footer: str
) -> Figure:
    """The values in a sentence, then six panels: the face with its regions, their values on it and as bars; the fewest
    regions that keep the class, the fewest without which it is another one, and those of a real face."""
    names, facts = PARTITIONS[partition], attribution.facts
    words = describe_face(face.target.name, facts | {"probability": float(face.probabilities[face.target.label])})
    sentences = wrap(words, WIDTH - 0.15, 9)
    room = LINE * (sentences.count("\n") + 1) + 0.08
    figure = new_figure(6.9 + room, room)
    figure.text(0.012, 1 - 0.5 / figure.get_figheight(), sentences, fontsize=9, va="top", linespacing=1.25)
    upper, lower = two_rows(figure)
    draw_values(upper, face, image, attribution, names)
    draw_changes(lower, image, attribution, names)
    label = facts["label"]  # of all regions, whose passes may be of another precision than the prediction's
    said = [] if label == face.predicted else [f"in the precision of the sets: {EMOTIONS[label]}"]
    headline(figure, "Facial regions", face, *said)
    footnote(figure, run, face, footer)
    return figure


def draw_values(
    figure: SubFigure, face: ExplainedFace, image: np.ndarray, attribution: Attribution, names: tuple[str, ...]
) -> None:
    """The upper row."""
    panels, bars = panel_row(figure, 3, last=1.25)
    regions, values = attribution.arrays["regions"], attribution.map.astype(np.float32)
    limit = max(map(abs, attribution.facts["values"].values())) or 1.0
    show(panels[0], to_rgb(image), "face as it is given", smooth=True)
    outline(panels[0], regions + 1, color=(1, 1, 1, 0.75), linewidth=0.8)
    key(bars[0], (f"explained: why {face.target.name}?", "black"))
    show(panels[1], overlay(image, values, limit), "its regions' values")
    outline(panels[1], regions + 1, color=(0, 0, 0, 0.35), linewidth=0.6)
    signed_bar(figure, bars[1], limit, f"{face.target.name}: Δ probability")
    draw_bars(panels[2], attribution.facts["values"], face, names)
    bars[2].axis("off")


def draw_bars(axes: Axes, values: dict[str, float], face: ExplainedFace, names: tuple[str, ...]) -> None:
    """All regions by their value, with the action units that EMFACS expects of the class there."""
    ordered = sorted(names, key=lambda name: -values[name])
    places, sizes = np.arange(len(names)), np.array([values[name] for name in ordered])
    axes.barh(places, sizes, color=[FOR if size > 0 else AGAINST for size in sizes], height=0.7, **EDGE)
    reach = np.abs(sizes).max() or 1.0
    for place, size in zip(places.tolist(), sizes.tolist(), strict=True):
        beside = 0.04 * reach * (1 if size >= 0 else -1)
        axes.text(size + beside, place, signed(size), va="center", ha="left" if size >= 0 else "right", fontsize=SMALL)
    axes.set_xlim(min(sizes.min(), 0) - 0.65 * reach * (sizes.min() < 0), max(sizes.max(), 0) + 0.45 * reach)
    emotion = EMOTIONS[face.target.label]
    units = [", ".join(map(str, expected_units(emotion, name))) for name in ordered]
    labels = [f"{name} · AU {each}" if each else name for name, each in zip(ordered, units, strict=True)]
    axes.set_yticks(places, labels, fontsize=SMALL)
    axes.invert_yaxis()
    axes.axvline(0, color="0.4", linewidth=0.8)
    axes.set_xticks([])
    meaning = f"AU: expected by\nEMFACS of {emotion}" if any(units) else f"EMFACS expects\nno AU of {emotion}"
    axes.set_xlabel(meaning, fontsize=SMALL, color="0.35")
    axes.grid(False)
    axes.tick_params(axis="y", length=0)
    axes.spines[:].set_visible(False)
    title_panel(axes, "Δ probability, exact")


def draw_changes(figure: SubFigure, image: np.ndarray, attribution: Attribution, names: tuple[str, ...]) -> None:
    """The lower row."""
    panels, bars = panel_row(figure, 3)
    facts, regions = attribution.facts, attribution.arrays["regions"]
    said, (keeping, without) = EMOTIONS[facts["label"]], (facts["keeping"], facts["without"])
    held = in_regions(regions, names, keeping)
    show(panels[0], dim_outside(image, held), f"{len(keeping)} of {len(names)} regions: still {said}")
    outline(panels[0], held.astype(int), color=tuple(FOR), linewidth=1.4)
    key(bars[0], (", ".join(keeping) or f"the filled face is {said} too", "black"))
    left_out = in_regions(regions, names, without or ())
    become = "no set changes it" if without is None else f"without {len(without)} it is {EMOTIONS[facts['becomes']]}"
    show(panels[1], dim_outside(image, ~left_out), become)
    outline(panels[1], left_out.astype(int), linewidth=1.4)
    key(bars[1], ("without: " + ", ".join(without) if without else "", "black"))
    draw_transplant(panels[2], bars[2], attribution, names)


def draw_transplant(axes: Axes, bar: Axes, attribution: Attribution, names: tuple[str, ...]) -> None:
    """The face with regions of a real face of another class, which is shown in the corner."""
    found: dict[str, Any] | None = attribution.facts.get("counterfactual")
    if found is None:
        axes.axis("off")
        bar.axis("off")
        return
    label = EMOTIONS[found["label"]]
    taken = found["regions"]
    donor = f"{with_article(label)} face's regions"
    title = f"{donor} make it {label}" if taken else f"even {donor} do not"
    show(axes, as_picture(attribution.arrays["transplant"]), title, smooth=True)
    changed = in_regions(attribution.arrays["regions"], names, taken or ())
    outline(axes, changed.astype(int), color=tuple(FOR), linewidth=1.0)
    corner = axes.inset_axes((0.7, 0.7, 0.3, 0.3))
    corner.imshow(as_picture(attribution.arrays["donor"]), interpolation="bicubic")
    corner.set_xticks([])
    corner.set_yticks([])
    corner.spines[:].set(color="white", linewidth=1.5)
    words = f"{', '.join(taken)} of the face in the corner: {label} {100 * found['probability']:.0f} %" if taken else ""
    key(bar, (words, "black"))


def as_picture(pixels: np.ndarray) -> np.ndarray:
    """float RGB of uint8 H×W×C."""
    return to_rgb(pixels.astype(np.float32) / 255)


def in_regions(regions: np.ndarray, names: tuple[str, ...], chosen: list[str] | tuple[str, ...]) -> np.ndarray:
    """bool H×W: pixels of the regions that are named."""
    return np.isin(regions, [names.index(name) for name in chosen])
