"""The picture of LIME for a face: its regions for and against a class, the strongest of them with their intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from config import EMOTIONS
from ferlib.explanations.doubts import of_shapley_values
from ferlib.explanations.maps import top_supporting
from ferlib.explanations.methods import METHODS
from ferlib.figures.blending import AGAINST, FOR, overlay, to_grey, to_rgb
from ferlib.figures.palette import COLORS
from ferlib.figures.panels import (
    EDGE,
    SIZES,
    SMALL,
    footnote,
    headline,
    importance_bar,
    key,
    new_figure,
    outline,
    panel_row,
    show,
    signed_bar,
    stamp_all,
    title_panel,
    two_rows,
)
from ferlib.figures.style import in_style

if TYPE_CHECKING:
    from ferlib.explanations.records import Attribution, ExplainedFace

PLACED: dict[bool | None, str] = {  # of parts of the face
    True: " · parts placed by landmarks",
    False: " · parts placed as on an average face, as no landmarks were found",
}


@in_style()
def draw_lime(
    face: ExplainedFace, image: np.ndarray, attribution: Attribution, top_regions: int, run: str, footer: str
) -> Figure:
    """Six panels: the face, the regions that support the class, all regions for and against it; the strongest of them
    with the intervals of their weights, their importance, and their Shapley values, or else the seven probabilities."""
    weights = attribution.map.astype(np.float32)
    limit = float(np.abs(weights).max()) or 1.0
    figure = new_figure(6.7)
    upper, lower = two_rows(figure)
    supporting, regions = draw_regions(upper, face, image, attribution, top_regions, limit)
    panels, bars = panel_row(lower, 3)
    draw_ranking(panels[0], attribution, top_regions, [regions])
    bars[0].axis("off")
    show(panels[1], np.abs(weights), "importance, for or against", cmap=SIZES, vmin=0, vmax=limit)
    importance_bar(lower, bars[1], limit, f"{face.target.name}: |Δ probability|")
    if doubt := METHODS["lime"].doubts(attribution.facts):
        stamp_all([supporting, regions, *panels[:2]], doubt)
    shapley = attribution.arrays.get("kernel_shap")
    if shapley is None:
        draw_probabilities(panels[2], face)
        bars[2].axis("off")
    else:
        draw_shapley(lower, panels[2], bars[2], face, image, shapley.astype(np.float32), attribution.facts)
    headline(figure, "LIME", face, f"R² held out {attribution.facts['r2']:.2f}")
    drawn = attribution.facts.get("sampling")  # those of one face may be independent where others are paired
    placed = PLACED.get(attribution.facts.get("landmarks_found"), "")
    footnote(figure, run, face, footer + f" · {drawn} perturbations" * bool(drawn) + placed)
    return figure


def draw_regions(
    figure: SubFigure, face: ExplainedFace, image: np.ndarray, attribution: Attribution, top_regions: int, limit: float
) -> tuple[Axes, Axes]:
    """The upper row; returns the axes of the supporting regions, and of all, on which their ranks are written."""
    weights, segments = attribution.map.astype(np.float32), attribution.arrays["segments"]
    supporting = top_supporting(weights, segments, top_regions)
    shown = len(np.unique(segments[supporting]))
    panels, bars = panel_row(figure, 3)
    show(panels[0], to_rgb(image), "face as the model is given it", smooth=True)
    key(bars[0], (f"explained: why {face.target.name}?", "black"))
    show(panels[1], dim_outside(image, supporting), f"evidence for {face.target.name}: the {shown} strongest")
    outline(panels[1], np.where(supporting, segments + 1, 0), color=tuple(FOR), linewidth=1.4)
    key(bars[1], ("outlined: evidence for the class", FOR), ("pale: all other regions", "0.35"))
    show(panels[2], overlay(image, weights, limit), f"all {attribution.facts['segments']} regions")
    signed_bar(figure, bars[2], limit, f"{face.target.name}: Δ probability")
    return panels[1], panels[2]


def draw_shapley(
    figure: SubFigure,
    axes: Axes,
    bar: Axes,
    face: ExplainedFace,
    image: np.ndarray,
    values: np.ndarray,
    facts: dict[str, Any],
) -> None:
    """Shapley values of the regions over the face, covered where chance is most of them."""
    limit = float(np.abs(values).max()) or 1.0
    error = facts.get("shapley_error")
    stated = "" if error is None else f" (sampling error {100 * error:.0f} %)"
    show(axes, overlay(image, values, limit), f"Shapley values of the regions{stated}")
    signed_bar(figure, bar, limit, f"{face.target.name}: Δ probability")
    if doubt := of_shapley_values(facts):
        stamp_all([axes], doubt)


def draw_probabilities(axes: Axes, face: ExplainedFace) -> None:
    """The seven probabilities as bars in the colours of the emotions, with their percents."""
    places = np.arange(len(EMOTIONS))
    axes.barh(places, face.probabilities, color=COLORS, height=0.7)
    axes.set_yticks(places, EMOTIONS, fontsize=SMALL)
    for label in (face.target.label, face.target.against):
        if label is not None:
            axes.get_yticklabels()[label].set_fontweight("bold")
    for place, probability in zip(places, face.probabilities, strict=True):
        axes.text(probability + 0.03, float(place), f"{100 * probability:.0f} %", va="center", fontsize=SMALL)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.3)
    axes.set_xlabel(
        "bold: the class explained" if face.target.against is None else "bold: the classes compared",
        fontsize=SMALL,
        color="0.35",
    )
    axes.set_xticks([])
    axes.tick_params(axis="y", length=0)
    axes.spines["bottom"].set_visible(False)
    axes.grid(False)
    axes.set_box_aspect(1)
    title_panel(axes, "probability of each class")


def draw_ranking(axes: Axes, attribution: Attribution, count: int, maps: list[Axes]) -> None:
    """Bars of the strongest regions' weights with 95 % intervals; their ranks are written on the regions in `maps`."""
    regions, weights, errors = rank_regions(attribution, count)
    places = np.arange(len(regions))
    axes.barh(places, weights, xerr=1.96 * errors, color=[FOR if weight > 0 else AGAINST for weight in weights],
              height=0.7, **EDGE, error_kw={"elinewidth": 1, "ecolor": "0.25", "capsize": 2})  # fmt: skip
    axes.set_yticks(places, [f"{place + 1}" for place in places])
    axes.invert_yaxis()
    axes.axvline(0, color="0.4", linewidth=0.8)
    axes.locator_params(axis="x", nbins=4)
    axes.xaxis.set_major_formatter("{x:g}")  # tiny weights keep their exponent, which else lies over the label
    axes.set_xlabel("Δ probability, 95 % interval", fontsize=SMALL)
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_box_aspect(1)
    title_panel(axes, f"the {len(regions)} strongest, for or against")
    for place, region in enumerate(regions):
        row, column = middle_of(attribution.arrays["segments"] == region)
        for each in maps:
            each.text(column, row, f"{place + 1}", fontsize=SMALL, ha="center", va="center", color="black",
                      bbox={"boxstyle": "circle,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.75},
                      )  # fmt: skip


def rank_regions(attribution: Attribution, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers, weights and standard errors of the regions with the largest absolute weights, the largest first."""
    numbers, first = np.unique(attribution.arrays["segments"], return_index=True)
    weights = attribution.map.astype(np.float32).ravel()[first]
    errors = attribution.arrays["standard_errors"].astype(np.float32).ravel()[first]
    order = np.argsort(-np.abs(weights), kind="stable")[:count]
    return numbers[order], weights[order], errors[order]


def middle_of(mask: np.ndarray) -> tuple[float, float]:
    """The pixel (row, column) of a region nearest to its centre of mass."""
    places = np.argwhere(mask)
    row, column = places[((places - places.mean(0)) ** 2).sum(1).argmin()].tolist()
    return row, column


def dim_outside(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The face, all but the mask H×W faded to a pale grey."""
    return np.where(mask[..., None], to_rgb(image), 0.7 + 0.15 * to_grey(image)[..., None])
