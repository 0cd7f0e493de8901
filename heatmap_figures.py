"""Pictures of maps that give each pixel one value: over the face, and alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from explanation_figures import (
    AGAINST,
    FOR,
    IMPORTANCE,
    SIGNED,
    color_limit,
    footnote,
    headline,
    importance_bar,
    key,
    new_figure,
    overlay,
    panel_row,
    show,
    signed_bar,
    to_grey,
    to_rgb,
)

if TYPE_CHECKING:
    from attributions import Attribution, Face


def draw_heatmap(
    face: Face,
    image: np.ndarray,
    attribution: Attribution,
    *,
    method_title: str,
    unit: str,
    signed: bool,
    run: str,
    footer: str,
) -> Figure:
    """Three panels: the face, the map over a pale face, the map alone (its own cells where the array "grid" has them).

    face H×W×C in 0..1, map H×W; signed maps are vermilion for and blue against the target, others cividis from 0 up.
    """
    values = attribution.map.astype(np.float32)
    alone = attribution.arrays.get("grid", values).astype(np.float32)
    limit = color_limit(values)
    name = face.target.name
    figure = new_figure(9.6, 4.3)
    panels, bars = panel_row(figure, 3)
    show(panels[0], to_rgb(image), "face as the model sees it", smooth=True)
    key(bars[0], (f"explained: why {name}?", "black"))
    show(panels[1], (overlay if signed else tint)(image, values, limit), "the map over the face")
    title = "the map alone" if alone is values else f"the {alone.shape[0]} × {alone.shape[1]} cells alone"
    if signed:
        key(bars[1], ("■ speaks for the class", FOR), ("■ speaks against the class", AGAINST))
        show(panels[2], alone, title, cmap=SIGNED, vmin=-limit, vmax=limit)
        signed_bar(figure, bars[2], limit, name, unit)
    else:
        show(panels[2], alone, title, cmap=IMPORTANCE, vmin=0, vmax=limit)
        importance_bar(figure, bars[2], limit, unit)
    headline(figure, method_title, face)
    footnote(figure, run, face, f"{footer} · colours saturate at {limit:.2g}")
    return figure


def tint(image: np.ndarray, values: np.ndarray, limit: float) -> np.ndarray:
    """The face in grey, lit in the colours of H×W values from 0 to `limit`: H×W×3 in 0..1."""
    colour = matplotlib.colormaps[IMPORTANCE](np.clip(values / limit, 0, 1))[..., :3]
    return colour * (0.35 + 0.65 * to_grey(image)[..., None])
