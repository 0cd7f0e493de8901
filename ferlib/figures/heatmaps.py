"""Pictures of maps that give each pixel one value: over the face, and alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from config import EMOTIONS
from ferlib.explanations.maps import color_limit, sum_blocks
from ferlib.figures.blending import stretch, tint, to_rgb
from ferlib.figures.panels import (
    EVIDENCE,
    SIGNED,
    SIZES,
    draw_signed,
    footnote,
    headline,
    importance_bar,
    key,
    new_figure,
    panel_row,
    show,
    signed_bar,
    stamp_all,
)
from ferlib.figures.style import in_style

if TYPE_CHECKING:
    from ferlib.explanations.records import Attribution, ExplainedFace
    from ferlib.explanations.specs import Method


@in_style()
def draw_heatmap(
    face: ExplainedFace, image: np.ndarray, attribution: Attribution, *, method: Method, run: str, footer: str
) -> Figure:
    """Three panels: the face, the map over it, the map alone (as cells where the array "grid" has them).

    image H×W×C in 0..1, map H×W. The method's row says how: signed maps are dark red for and turquoise against the
    target, others cividis from 0 up. Maps whose values add up are drawn as sums over blocks of pixels, as signs that
    change from pixel to pixel cannot be read.
    """
    values, block = attribution.map.astype(np.float32), 1
    if method.summed:
        values, block = sum_blocks(values)
    cells = attribution.arrays.get("grid")
    limit = color_limit(values, method.quantile)
    label = EMOTIONS[face.target.label]
    of_what = ": ".join(filter(None, [method.subject(face.target.name, label), method.unit]))
    figure = new_figure(3.7)
    panels, bars = panel_row(figure, 3)
    show(panels[0], to_rgb(image), "face as the model is given it", smooth=True)
    key(bars[0], (method.question.format(target=face.target.name, label=label), "black"))
    alone, title = (values, "the map alone") if cells is None else (cells, "its {} × {} cells".format(*cells.shape))
    if method.signed:
        draw_signed(panels[1], stretch(image), values, limit, "the map over the face")
        key(bars[1], *EVIDENCE)
        show(panels[2], alone.astype(np.float32), title, cmap=SIGNED, vmin=-limit, vmax=limit)
        signed_bar(figure, bars[2], limit, of_what)
    else:
        show(panels[1], tint(stretch(image), values, limit), "the map over the face")
        key(bars[1], (method.meaning, "0.35"))
        show(panels[2], alone.astype(np.float32), title, cmap=SIZES, vmin=0, vmax=limit)
        importance_bar(figure, bars[2], limit, of_what)
    if doubt := method.doubts(attribution.facts):
        stamp_all(panels[1:], doubt)
    headline(figure, method.title, face)
    blocks = f" · drawn as sums over {block}×{block} pixels" if block > 1 else ""
    clipped = (
        f" · colours saturate at {'±' if method.signed else ''}{limit:.2g}" if np.abs(values).max() > limit else ""
    )
    footnote(figure, run, face, footer + blocks + clipped)
    return figure
