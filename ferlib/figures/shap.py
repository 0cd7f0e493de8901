"""The picture of SHAP for a face: the class it was taken for, a rival, and all seven classes on one scale."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from config import EMOTIONS
from ferlib.explanations.doubts import caution_of_shap
from ferlib.explanations.maps import color_limit, sum_blocks
from ferlib.explanations.methods import METHODS
from ferlib.figures.blending import to_rgb
from ferlib.figures.panels import (
    EVIDENCE,
    SIZES,
    SMALL,
    draw_signed,
    footnote,
    headline,
    importance_bar,
    key,
    name_with_percent,
    new_figure,
    panel_row,
    show,
    signed_bar,
    stamp_all,
    two_rows,
)
from ferlib.figures.style import in_style

if TYPE_CHECKING:
    from ferlib.explanations.records import Attribution, ExplainedFace


@in_style()
def draw_shap(face: ExplainedFace, image: np.ndarray, attribution: Attribution, run: str, footer: str) -> Figure:
    """Two rows: the face, SHAP of the target and of a rival class, importance; the seven classes on one scale."""
    values, block = sum_blocks(attribution.map.astype(np.float32))
    maps = np.stack([sum_blocks(each.astype(np.float32))[0] for each in attribution.arrays["class_maps"]])
    limit = color_limit(np.concatenate([maps, values[None]]))
    figure = new_figure(6.5)
    upper, lower = two_rows(figure)
    panels = draw_shap_pair(upper, face, image, values, maps, limit)
    classes = draw_shap_classes(lower, face, image, maps, limit, attribution.facts)
    if doubt := METHODS["shap"].doubts(attribution.facts):
        stamp_all([*panels[1:], *classes], doubt)
    headline(figure, "SHAP", face, *describe_errors(attribution.facts))
    caution = caution_of_shap(face.target.name, attribution.facts).rstrip(".")
    notes = [footer, f"drawn as sums over {block}×{block} pixels" if block > 1 else "", caution]
    notes.append(f"colours saturate at ±{limit:.2g} (99.5 % of all classes' values are smaller)")
    footnote(figure, run, face, " · ".join(filter(None, notes)))
    return figure


def role(face: ExplainedFace, label: int) -> str:
    """What a class is to a face: predicted, true, both, the runner-up, or nothing in particular."""
    if label == face.predicted:
        return {True: "predicted, true", False: "predicted, wrong", None: "predicted"}[face.correct]
    return "true class" if label == face.true else "runner-up" if label == face.runner_up else ""


def rival(face: ExplainedFace) -> int:
    """The class to set beside the target: the one it is compared with, the true one, the predicted one, or the next."""
    choices = (face.target.against, face.true, face.predicted, face.runner_up)
    return next(label for label in choices if label not in (None, face.target.label))


def draw_shap_pair(
    figure: SubFigure, face: ExplainedFace, image: np.ndarray, values: np.ndarray, maps: np.ndarray, limit: float
) -> np.ndarray:
    """The face, the target's values, those of a rival class, importance; returns their axes."""
    panels, bars = panel_row(figure, 4)
    show(panels[0], to_rgb(image), "face as the model is given it", smooth=True)
    key(bars[0], *EVIDENCE)
    other = rival(face)
    title = face.target.name if face.target.against is not None else title_of_class(face, face.target.label)
    for axes, bar, shown, name, text in (
        (panels[1], bars[1], values, face.target.name, title),
        (panels[2], bars[2], maps[other], EMOTIONS[other], title_of_class(face, other)),
    ):
        draw_signed(axes, image, shown, limit, text)
        signed_bar(figure, bar, limit, f"{name}: Δ logit")
    title = f"importance for or against {face.target.name}"
    show(panels[3], np.abs(values), title, cmap=SIZES, vmin=0, vmax=limit)
    importance_bar(figure, bars[3], limit, f"{face.target.name}: |Δ logit|")
    return panels


def describe_errors(facts: dict[str, Any]) -> list[str]:
    """How far the values would change with other samples, and with other background faces."""
    names = {"sampling_error": "sampling error", "background_error": "background error"}
    return [f"{name} {100 * facts[key]:.0f} %" for key, name in names.items() if facts.get(key) is not None]


def title_of_class(face: ExplainedFace, label: int) -> str:
    """A class, its probability and its role."""
    return ":\n".join(part for part in (role(face, label), name_with_percent(face, label)) if part)


def draw_shap_classes(
    figure: SubFigure,
    face: ExplainedFace,
    image: np.ndarray,
    maps: np.ndarray,
    limit: float,
    facts: dict[str, Any],
) -> list[Axes]:
    """One panel per class, with what its values sum to beside what they should (completeness); returns them."""
    grid = figure.add_gridspec(2, len(EMOTIONS), height_ratios=(1, 0.06))
    panels = [figure.add_subplot(grid[0, column]) for column in range(len(EMOTIONS))]
    marks = {face.true: "true", face.predicted: "right" if face.correct else "predicted"}
    for label, axes in enumerate(panels):
        rise, gap = facts["logits_above_background"][label], facts["completeness_gaps"][label]
        percent = f"{100 * face.probabilities[label]:.0f} %"
        draw_signed(axes, image, maps[label], limit, f"{marks.get(label, '')}\n{EMOTIONS[label]}\n{percent}")
        axes.set_xlabel(f"Σ {rise + gap:+.2f}\nof {rise:+.2f}".replace("-", "−"), fontsize=SMALL)
        if label in marks:
            axes.title.set_fontweight("bold")
            axes.spines[:].set(visible=True, linewidth=2, color="black")
    words = (
        "Δ logit of the class above. Σ: the sum of its values, "
        "of what it should be (its logit less its mean over the background faces)"
    )
    signed_bar(figure, figure.add_subplot(grid[1, 1:-1]), limit, words)
    return panels
