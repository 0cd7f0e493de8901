"""The picture of mean maps: a row per method, a column per explained class, over the mean face of these faces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from config import EMOTIONS
from ferlib.explanations.methods import METHODS
from ferlib.explanations.scores.columns import SIMPLE
from ferlib.figures.blending import overlay, stretch, tint
from ferlib.figures.panels import SIGNED, SIZES
from ferlib.figures.style import WIDTH, entitle, saved_figure

MOST = 6  # rows
LABELS = 1.1  # inches of the methods' names
CELL = (WIDTH - LABELS) / len(EMOTIONS)  # of a map
NARROWEST = 4.2  # of a figure, so that its title has room
FIRST = ("regions", "lime", "shap", "hirescam", "integrated_gradients", "occlusion")  # shown before others


def draw_mean_maps(
    path: Path,
    arrays: Mapping[str, np.ndarray],
    names: Sequence[str],
    right: bool,
    subject: str,
    formats: Sequence[str],
    by_prediction: bool = True,
) -> None:
    """Mean maps of the faces that are predicted right, or wrong; arrays: of mean_maps.npz.

    by_prediction: whether the class explained, of the columns, is the predicted one of each face.
    """
    ending = "right" if right else "wrong"
    emotions = [emotion for emotion in EMOTIONS if f"{emotion}_{ending}" in arrays]
    if not emotions:
        return
    chosen = sorted((name for name in names if name not in SIMPLE), key=order)[:MOST]
    size = (max(NARROWEST, LABELS + CELL * len(emotions)), 0.93 * len(chosen) + 1.4)
    absent = [emotion for emotion in EMOTIONS if emotion not in emotions]
    with saved_figure(path, formats, figsize=size, layout="constrained") as figure:
        panels = figure.subplots(len(chosen), len(emotions), squeeze=False)
        for row, name in zip(panels, chosen, strict=True):
            for axes, emotion in zip(row, emotions, strict=True):
                hide(axes)
                limit = largest(arrays, [f"{each}_{ending}" for each in emotions], names.index(name))
                draw_cell(axes, arrays, f"{emotion}_{ending}", names.index(name), METHODS[name].signed, limit)
            label = METHODS[name].title.replace(" ", "\n")
            row[0].set_ylabel(label, fontsize=7.5, rotation=0, ha="right", va="center")
        for axes, emotion in zip(panels[0], emotions, strict=True):
            count = int(arrays[f"{emotion}_{ending}_faces"])
            asked = emotion if by_prediction else f"why {emotion}?"
            axes.set_title(f"{asked}\n{count} face{'s' * (count != 1)}", fontsize=7.5)
        kinds = {METHODS[name].signed for name in chosen}
        ramps = {True: (SIGNED, -1, "against … for"), False: (SIZES, 0, "least … most")}
        for cmap, low, words in (ramps[kind] for kind in sorted(kinds, reverse=True)):
            scale = ScalarMappable(Normalize(low, 1), cmap)
            bar = figure.colorbar(scale, ax=panels, location="bottom", shrink=0.5, aspect=50, pad=0.03)
            bar.set_ticks([low, 0, 1] if low else [0, 1])
            bar.ax.tick_params(labelsize=7)
            bar.set_label(f"share of the row's largest mean ({words})", fontsize=7)
        missing = "no face is predicted {} and {}" if by_prediction else "{} is explained of no face predicted {}"
        without = f"\n{missing.format(', '.join(absent), ending)}" * bool(absent)
        entitle(figure, f"What the network looks at: mean maps of faces predicted {ending}", subject + without)


def order(name: str) -> tuple[int, int]:
    """Methods of FIRST come first."""
    return (FIRST.index(name) if name in FIRST else len(FIRST), list(METHODS).index(name))


def largest(arrays: Mapping[str, np.ndarray], groups: Sequence[str], row: int) -> float:
    """The largest size of a row's mean maps of some groups."""
    return float(max(np.abs(arrays[group][row]).max() for group in groups)) or 1.0


def draw_cell(axes: Axes, arrays: Mapping[str, np.ndarray], group: str, row: int, signed: bool, limit: float) -> None:
    """One mean map over the mean face; `limit` has full colour."""
    face = stretch(arrays[f"{group}_face"][..., None])
    axes.imshow((overlay if signed else tint)(face, arrays[group][row], limit))


def hide(axes: Axes) -> None:
    """No ticks and no frame."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.grid(False)
