"""Pictures of explanations: vermilion speaks for a class, blue against it; safe for colour-blind readers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure, SubFigure
from PIL import Image

from config import EMOTIONS

if TYPE_CHECKING:
    from attributions import Attribution, Face

FOR, AGAINST = np.array((213, 94, 0)) / 255, np.array((0, 114, 178)) / 255  # Okabe & Ito's vermilion and blue
PALE = np.full(3, 0.93)
SIGNED = LinearSegmentedColormap.from_list("against_for", [AGAINST, PALE, FOR])
IMPORTANCE = "cividis"
DPI = 130
MAX_SIDE = 28  # finer maps are summed over square blocks of pixels before they are drawn


# ── arrays ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def to_rgb(image: np.ndarray) -> np.ndarray:
    """H×W×1 or H×W×3 in 0..1 → H×W×3."""
    return np.broadcast_to(np.clip(image, 0, 1), (*image.shape[:2], 3))


def to_grey(image: np.ndarray) -> np.ndarray:
    """H×W×1 or H×W×3 in 0..1 → H×W."""
    return image.mean(axis=2)


def overlay(image: np.ndarray, values: np.ndarray, limit: float) -> np.ndarray:
    """The face in pale grey under the colours of H×W signed values, opaque at ±limit: H×W×3 in 0..1."""
    strength = np.clip(np.abs(values) / limit, 0, 1)[..., None]
    face = np.repeat((0.35 + 0.6 * to_grey(image))[..., None], 3, axis=2)
    colour = np.where(values[..., None] > 0, FOR, AGAINST)
    return face + (colour - face) * 0.9 * strength**0.75


def sum_blocks(values: np.ndarray, max_side: int = MAX_SIDE) -> tuple[np.ndarray, int]:
    """H×W summed over the smallest square blocks of which at most `max_side` lie in a row, and the blocks' side.

    Attributions add up, so a block's sum is the attribution of the block.
    """
    block = -(-max(values.shape) // max_side)
    rows, columns = (-(-side // block) for side in values.shape)
    padded = np.zeros((rows * block, columns * block))
    padded[: values.shape[0], : values.shape[1]] = values
    return padded.reshape(rows, block, columns, block).sum(axis=(1, 3)), block


def color_limit(maps: np.ndarray, quantile: float = 0.995) -> float:
    """The absolute value that gets full colour: a high quantile, lest one pixel makes all others pale."""
    limit = float(np.quantile(np.abs(maps), quantile)) or float(np.abs(maps).max())
    return limit or 1.0


def top_supporting(values: np.ndarray, segments: np.ndarray, count: int) -> np.ndarray:
    """Mask H×W of the `count` segments with the largest positive values; fewer if fewer are positive."""
    numbers, first = np.unique(segments, return_index=True)
    weights = values.ravel()[first]
    order = np.argsort(-weights, kind="stable")[:count]
    return np.isin(segments, numbers[order[weights[order] > 0]])


# ── parts of a figure ────────────────────────────────────────────────────────────────────────────────────────────────


def new_figure(width: float, height: float) -> Figure:
    """An empty page that leaves 0.4 inches at the top for the headline."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white")
    figure.get_layout_engine().set(w_pad=0.09, rect=(0, 0, 1, 1 - 0.4 / height))
    return figure


def show(axes: Axes, picture: np.ndarray, title: str, smooth: bool = False, **colours) -> None:
    """A picture without ticks; `smooth` for faces, not for maps, whose pixels are what was measured."""
    axes.imshow(picture, interpolation="bicubic" if smooth else "nearest", interpolation_stage="data", **colours)
    axes.set_title(title, fontsize=9)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def outline(axes: Axes, numbers: np.ndarray, color: str = "black", linewidth: float = 1.2) -> None:
    """Lines along the pixel edges where the values of H×W change, 0 lying beyond the border."""
    padded = np.pad(numbers, 1)
    for row, column in np.argwhere(padded[1:, 1:-1] != padded[:-1, 1:-1]):
        axes.plot([column - 0.5, column + 0.5], [row - 0.5] * 2, color=color, linewidth=linewidth, clip_on=False)
    for row, column in np.argwhere(padded[1:-1, 1:] != padded[1:-1, :-1]):
        axes.plot([column - 0.5] * 2, [row - 0.5, row + 0.5], color=color, linewidth=linewidth, clip_on=False)


def panel_row(figure: Figure | SubFigure, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Axes of `count` pictures side by side and, below each, the narrow axes of its colour bar or key."""
    return figure.subplots(2, count, height_ratios=(1, 0.045))


def signed_bar(figure: Figure | SubFigure, axes: Axes, limit: float, name: str, unit: str) -> None:
    """A colour bar whose ends say in words which colour speaks for and which against the class `name`."""
    bar = figure.colorbar(ScalarMappable(Normalize(-limit, limit), SIGNED), cax=axes, orientation="horizontal")
    bar.set_ticks(
        [-limit, 0, limit], labels=[f"−{limit:.2g}\nagainst {name}", f"0\n{unit}", f"+{limit:.2g}\nfor {name}"]
    )
    left, middle, right = bar.ax.get_xticklabels()
    left.set(ha="left", color=AGAINST, fontweight="bold")
    middle.set(color="0.35")
    right.set(ha="right", color=FOR, fontweight="bold")
    style_bar(bar)


def importance_bar(figure: Figure | SubFigure, axes: Axes, limit: float, unit: str) -> None:
    """A colour bar of values without a sign."""
    bar = figure.colorbar(ScalarMappable(Normalize(0, limit), IMPORTANCE), cax=axes, orientation="horizontal")
    bar.set_ticks([0, limit], labels=["0\nno influence", f"{limit:.2g}\n{unit}"])
    left, right = bar.ax.get_xticklabels()
    left.set_ha("left")
    right.set_ha("right")
    style_bar(bar)


def style_bar(bar: Colorbar) -> None:
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, length=2)


def key(axes: Axes, *lines: tuple[str, tuple | np.ndarray]) -> None:
    """Words in place of a colour bar, each line in its colour."""
    axes.axis("off")
    for row, (text, color) in enumerate(lines):
        axes.annotate(
            text, (0.5, 1), (0, -12 * row), xycoords="axes fraction", textcoords="offset points", color=color,
            ha="center", va="top", fontsize=8, fontweight="bold", annotation_clip=False,
        )  # fmt: skip


def headline(figure: Figure, method: str, face: Face, *facts: str) -> None:
    """Title of a figure: method, true and predicted class, probability; a black badge if the prediction is wrong."""
    true = [] if face.true is None else [f"true {EMOTIONS[face.true]}"]
    parts = [method, *true, f"predicted {name_with_percent(face, face.predicted)}", *facts]
    style = {"fontsize": 12, "fontweight": "bold", "va": "center"}
    height = 1 - 0.2 / figure.get_figheight()
    figure.text(0.01, height, " · ".join(parts), **style)
    if face.correct is None:
        return
    box = {"boxstyle": "round", "facecolor": "white" if face.correct else "black", "edgecolor": "black"}
    text, color = ("✓ right", "black") if face.correct else ("✗ WRONG", "white")
    figure.text(0.985, height, text, color=color, ha="right", bbox=box, **style)


def footnote(figure: Figure, run: str, face: Face, footer: str) -> None:
    """Small print: run, face, settings and seed."""
    where = face.name if face.true is None else f"face {face.index} of the test split ({face.name})"
    text = f"{run} · {where}\n{footer}"
    figure.supxlabel(text, fontsize=7, color="0.35", x=0.01, ha="left")


def name_with_percent(face: Face, label: int) -> str:
    return f"{EMOTIONS[label]} ({100 * face.probabilities[label]:.0f} %)"


# ── figures ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def draw_lime(
    face: Face, image: np.ndarray, attribution: Attribution, top_regions: int, run: str, footer: str
) -> Figure:
    """Five panels: the face, the regions that support the class, all regions for and against it, the strongest of them
    with the intervals of their weights, their importance; and their Shapley values, where there are any."""
    name, weights = face.target.name, attribution.map.astype(np.float32)
    segments = attribution.arrays["segments"]
    limit = float(np.abs(weights).max()) or 1.0
    supporting = top_supporting(weights, segments, top_regions)
    shown = len(np.unique(segments[supporting]))
    shapley = attribution.arrays.get("kernel_shap")
    figure = new_figure(13.5 if shapley is None else 16, 4.1)
    panels, bars = panel_row(figure, 5 if shapley is None else 6)
    show(panels[0], to_rgb(image), "face as the model sees it", smooth=True)
    key(bars[0], (f"explained: why {name}?", "black"))
    show(panels[1], dim_outside(image, supporting), f"the {shown} regions that most support it")
    outline(panels[1], np.where(supporting, segments + 1, 0), color=tuple(FOR), linewidth=1.6)
    key(bars[1], ("outlined: speaks for the class", FOR), ("pale: all other regions", "0.35"))
    show(panels[2], overlay(image, weights, limit), f"all {attribution.facts['segments']} regions, Δ probability")
    signed_bar(figure, bars[2], limit, EMOTIONS[face.target.label], "")
    draw_ranking(panels[3], attribution, top_regions, [panels[2]])
    key(bars[3], ("lines: 95 % interval of the weight", "0.35"))
    show(panels[4], np.abs(weights), "importance, for or against", cmap=IMPORTANCE, vmin=0, vmax=limit)
    importance_bar(figure, bars[4], limit, "|Δ probability|")
    if shapley is not None:
        limit = float(np.abs(shapley).max()) or 1.0
        show(panels[5], overlay(image, shapley.astype(np.float32), limit), "Shapley values, Δ probability")
        signed_bar(figure, bars[5], limit, EMOTIONS[face.target.label], "")
    headline(figure, "LIME", face, f"R² of the surrogate {attribution.facts['r2']:.2f}")
    footnote(figure, run, face, footer)
    return figure


def draw_ranking(axes: Axes, attribution: Attribution, count: int, maps: list[Axes]) -> None:
    """Bars of the strongest regions' weights with 95 % intervals; their ranks are written on the regions in `maps`."""
    regions, weights, errors = rank_regions(attribution, count)
    places = np.arange(len(regions))
    axes.barh(places, weights, xerr=1.96 * errors, color=[FOR if weight > 0 else AGAINST for weight in weights],
              height=0.7, error_kw={"elinewidth": 1, "ecolor": "0.25", "capsize": 2})  # fmt: skip
    axes.set_yticks(places, [f"{place + 1}" for place in places], fontsize=8)
    axes.invert_yaxis()
    axes.axvline(0, color="0.4", linewidth=0.8)
    axes.tick_params(axis="x", labelsize=7)
    axes.locator_params(axis="x", nbins=4)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_box_aspect(1)
    axes.set_title(f"weights of the {len(regions)} strongest", fontsize=9)
    for place, region in enumerate(regions):
        row, column = middle_of(attribution.arrays["segments"] == region)
        for each in maps:
            each.text(column, row, f"{place + 1}", fontsize=6, ha="center", va="center", color="black",
                      bbox={"boxstyle": "circle,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.75},
                      )  # fmt: skip


def rank_regions(attribution: Attribution, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers, weights and standard errors of the regions with the largest absolute weights, the largest first."""
    numbers, first = np.unique(attribution.arrays["segments"], return_index=True)
    weights = attribution.map.astype(np.float32).ravel()[first]
    errors = attribution.arrays["standard_errors"].astype(np.float32).ravel()[first]
    order = np.argsort(-np.abs(weights), kind="stable")[:count]
    return numbers[order], weights[order], errors[order]


def middle_of(mask: np.ndarray) -> tuple[int, int]:
    """The pixel (row, column) of a region that lies nearest to its centre of mass, and so within it."""
    places = np.argwhere(mask)
    return tuple(places[((places - places.mean(0)) ** 2).sum(1).argmin()])


def dim_outside(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The face, all but the mask H×W faded to a pale grey."""
    return np.where(mask[..., None], to_rgb(image), 0.7 + 0.15 * to_grey(image)[..., None])


def draw_shap(face: Face, image: np.ndarray, attribution: Attribution, run: str, footer: str) -> Figure:
    """Two rows: the face, SHAP of the target and of a rival class, importance; the seven classes on one scale."""
    values, block = sum_blocks(attribution.map.astype(np.float32))
    maps = np.stack([sum_blocks(each.astype(np.float32))[0] for each in attribution.arrays["class_maps"]])
    limit = color_limit(np.concatenate([maps, values[None]]))
    figure = new_figure(11, 6.6)
    upper, lower = figure.subfigures(2, 1, height_ratios=(1.35, 1))
    draw_shap_pair(upper, face, image, values, maps, limit)
    draw_shap_classes(lower, face, image, maps, limit, attribution.facts)
    headline(figure, "SHAP", face)
    note = f" · drawn as sums over {block}×{block} pixels" if block > 1 else ""
    footnote(figure, run, face, f"{footer}{note} · colours saturate at ±{limit:.2g}")
    return figure


def role(face: Face, label: int) -> str:
    """What a class is to a face: predicted, true, both, the runner-up, or nothing in particular."""
    if label == face.predicted:
        return {True: "predicted, true", False: "predicted, wrong", None: "predicted"}[face.correct]
    return "true class" if label == face.true else "runner-up" if label == face.runner_up else ""


def rival(face: Face) -> int:
    """The class to set beside the target: the one it is compared with, the true one, the predicted one, or the next."""
    choices = (face.target.against, face.true, face.predicted, face.runner_up)
    return next(label for label in choices if label not in (None, face.target.label))


def draw_shap_pair(
    figure: SubFigure, face: Face, image: np.ndarray, values: np.ndarray, maps: np.ndarray, limit: float
) -> None:
    panels, bars = panel_row(figure, 4)
    show(panels[0], to_rgb(image), "face as the model sees it", smooth=True)
    key(bars[0], ("■ speaks for the class", FOR), ("■ speaks against the class", AGAINST))
    other = rival(face)
    title = face.target.name if face.target.against is not None else title_of_class(face, face.target.label)
    for axes, bar, shown, name, text in (
        (panels[1], bars[1], values, EMOTIONS[face.target.label], title),
        (panels[2], bars[2], maps[other], EMOTIONS[other], title_of_class(face, other)),
    ):
        draw_signed(axes, image, shown, limit, text)
        signed_bar(figure, bar, limit, name, "Δ logit")
    title = f"importance for or against {face.target.name}"
    show(panels[3], np.abs(values), title, cmap=IMPORTANCE, vmin=0, vmax=limit)
    importance_bar(figure, bars[3], limit, "|Δ logit|")


def title_of_class(face: Face, label: int) -> str:
    return ": ".join(part for part in (role(face, label), name_with_percent(face, label)) if part)


def draw_shap_classes(
    figure: SubFigure, face: Face, image: np.ndarray, maps: np.ndarray, limit: float, facts: dict[str, list[float]]
) -> None:
    """One panel per class, with what its values sum to beside what they should (completeness)."""
    grid = figure.add_gridspec(2, len(EMOTIONS), height_ratios=(1, 0.06))
    panels = [figure.add_subplot(grid[0, column]) for column in range(len(EMOTIONS))]
    marks = {face.true: "true", face.predicted: "predicted, true" if face.correct else "predicted"}
    for label, axes in enumerate(panels):
        rise, gap = facts["logits_above_background"][label], facts["completeness_gaps"][label]
        title = f"{name_with_percent(face, label)}\n{marks.get(label, '')}\nΣ {rise + gap:+.2f} of {rise:+.2f}"
        draw_signed(axes, image, maps[label], limit, title)
        if label in marks:
            axes.title.set_fontweight("bold")
            axes.spines[:].set(visible=True, linewidth=2, color="black")
    bar = figure.add_subplot(grid[1, 1:-1])
    signed_bar(
        figure, bar, limit, "the class above", "Δ logit; Σ: sum of the values, of the logit's rise over the mean"
    )


def draw_signed(axes: Axes, image: np.ndarray, values: np.ndarray, limit: float, title: str) -> None:
    """Signed sums over blocks of pixels, with the face at twice their resolution or its own behind them."""
    block = -(-len(image) // len(values))
    image = shrink(image, len(values), block)
    repeat = len(image) // len(values)
    show(axes, overlay(image, np.repeat(np.repeat(values, repeat, axis=0), repeat, axis=1), limit), title)


def shrink(image: np.ndarray, blocks: int, block: int) -> np.ndarray:
    """A grey face with at most 2×2 pixels a block, of `blocks` × `blocks` blocks that may reach beyond it: S×S×1."""
    fill = [(0, blocks * block - side) for side in image.shape[:2]]
    side = blocks * min(block, 2)
    grey = Image.fromarray(np.pad(to_grey(image), fill, mode="edge").astype(np.float32))
    return np.asarray(grey.resize((side, side), Image.Resampling.BOX))[..., None]
