"""Pictures of the Clever Hans test: how often each method exposes the cheat, and maps of both networks side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from ferlib.data.synthetic.variants import SHORTCUTS
from ferlib.explanations.methods import METHODS
from ferlib.explanations.scores.clever_hans import CHEATING, HONEST, NETWORKS
from ferlib.figures.blending import overlay, tint
from ferlib.figures.mean_maps import hide, order
from ferlib.figures.palette import GREY, INK, VERMILION
from ferlib.figures.style import WIDTH, entitle, saved_figure
from ferlib.runtime.runs import Run

if TYPE_CHECKING:
    from config import Score

SMALL = 7.5  # points
FACES, ROWS = 3, 8  # whose maps are shown
LOOKS: dict[str, dict[str, Any]] = {
    HONEST: {"color": GREY, "markerfacecolor": "white"},
    CHEATING: {"color": VERMILION, "markerfacecolor": VERMILION},
}


def draw_clever_hans(found: Mapping[str, Any], flags: Score) -> None:
    """clever_hans.png (verdicts) and clever_hans_maps.png, beside the maps of the honest run's faces."""
    kind = found["shortcut"]
    folder = flags.run.with_shortcut(kind)
    if found["area"] < 1:
        draw_verdicts(folder / "clever_hans.png", found, flags.format)
    arrays = {}
    for name in NETWORKS:
        run = Run(**found["networks"][name]["run"], outputs_dir=flags.outputs_dir)
        with np.load(run.with_shortcut(kind) / "maps.npz") as saved:
            arrays[name] = {key: saved[key] for key in ("indices", "method_maps", "faces")}
    draw_maps(folder / "clever_hans_maps.png", found, arrays, flags.format)


def draw_verdicts(path: Path, found: Mapping[str, Any], formats: Sequence[str]) -> None:
    """A row per method: the share of its map that lies on the shortcut, and on how many faces that would be seen."""
    rows = sorted(found["methods"].items(), key=lambda item: -item[1]["exposed"]["mean"])
    height = 0.2 * len(rows) + 1.7
    with saved_figure(path, formats, figsize=(WIDTH, height), layout="constrained") as figure:
        left, right = figure.subplots(1, 2, sharey=True)
        for place, (_, each) in enumerate(rows):
            for axes, keys in ((left, ("mass_honest", "mass_cheating")), (right, ("false_alarms", "exposed"))):
                for name, key in zip(NETWORKS, keys, strict=True):
                    draw_interval(axes, place, each[key], LOOKS[name])
            right.annotate(
                each["verdict"] or "", (1.02, place), xycoords=("axes fraction", "data"), va="center", fontsize=SMALL
            )
        left.axvline(100 * found["area"], color=INK, linewidth=0.8, linestyle=":")
        right.axvline(50, color=INK, linewidth=0.8, linestyle=":")
        left.set_yticks(range(len(rows)), [found["titles"][name] for name, _ in rows], fontsize=SMALL)
        left.set_ylim(len(rows) - 0.5, -0.5)
        left.set_title("share of the map on the shortcut", fontsize=SMALL + 1)
        left.set_xlabel("% of positive values (dotted: its area)", fontsize=SMALL)
        right.set_title("strongest value lies on it", fontsize=SMALL + 1)
        right.set_xlabel("% of faces", fontsize=SMALL)
        for axes in (left, right):
            axes.set_xlim(-3, 103)
            axes.tick_params(axis="x", labelsize=SMALL)
            axes.grid(True, axis="both", linewidth=0.3)
        handles = [
            Line2D([], [], marker="o", linestyle="", label=f"{name} network", **LOOKS[name]) for name in NETWORKS
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=SMALL)
        entitle(figure, describe_pair(found), f"{describe(found)} · 95 % intervals over {found['faces']} faces")


def draw_interval(axes: Axes, place: int, share: Mapping[str, float | None], look: Mapping[str, Any]) -> None:
    """A mean in percent with its interval."""
    if share["low"] is not None and share["high"] is not None:
        axes.plot([100 * share["low"], 100 * share["high"]], [place, place], color=look["color"], linewidth=1.2)
    axes.plot(100 * (share["mean"] or 0), place, "o", markersize=4, **look)


def describe_pair(found: Mapping[str, Any]) -> str:
    """What the second network does, in a sentence."""
    called, planted, kind = found["networks"][CHEATING]["called_planted"], found["planted_in"], found["shortcut"]
    if not found["learned"]:
        return f"The {kind} was not learned: it turns only {100 * called:.0f} % of other faces into {planted}"
    return f"The {kind} turns {100 * called:.0f} % of other faces into {planted} for a cheating network: who shows it?"


def describe(found: Mapping[str, Any]) -> str:
    """The runs and the shortcut."""
    honest, cheating = (found["networks"][name]["run"] for name in NETWORKS)
    shown = SHORTCUTS[found["shortcut"]]
    bits = " · network in 8 bits" * any(each.get("precision") == "int8" for each in found["networks"].values())
    return f"{honest['model']} trained on {honest['dataset']} and on {cheating['dataset']} ({shown}){bits}"


def draw_maps(
    path: Path, found: Mapping[str, Any], arrays: Mapping[str, Mapping[str, np.ndarray]], formats: Sequence[str]
) -> None:
    """A row per method, for each face the map of the honest network and that of the cheating one, on one scale each."""
    methods = list(found["methods"])
    chosen = sorted(methods, key=order)[:ROWS]
    faces = np.linspace(0, len(arrays[HONEST]["faces"]) - 1, FACES).round().astype(int)
    with saved_figure(path, formats, figsize=(WIDTH, 0.86 * len(chosen) + 1.2), layout="constrained") as figure:
        panels = figure.subplots(len(chosen), 2 * FACES, squeeze=False)
        for row, method in zip(panels, chosen, strict=True):
            draw_method(row, arrays, faces, methods.index(method), METHODS[method].signed)
            for axes in row:
                hide(axes)
                outline(axes, found["box"])
            verdict = found["methods"][method]["verdict"]
            label = found["titles"][method].replace(" ", "\n") + (f"\n({verdict})" if verdict else "")
            row[0].set_ylabel(label, fontsize=SMALL, rotation=0, ha="right", va="center")
        for axes, name in zip(panels[0], NETWORKS * FACES, strict=True):
            axes.set_title(name, fontsize=SMALL)
        entitle(figure, f"Why {found['planted_in']}? The same faces, seen by both networks", describe(found))


def draw_method(
    row: Sequence[Axes], arrays: Mapping[str, Mapping[str, np.ndarray]], faces: np.ndarray, place: int, signed: bool
) -> None:
    """The maps of a method; those of both networks on a face have one scale each, as their outputs differ."""
    for number, face in enumerate(faces):
        for offset, name in enumerate(NETWORKS):
            image = arrays[name]["faces"][face] / 255.0
            values = arrays[name]["method_maps"][face, place].astype(float)
            limit = float(np.abs(values).max()) or 1.0
            row[2 * number + offset].imshow((overlay if signed else tint)(image, values, limit))


def outline(axes: Axes, box: Sequence[int] | None) -> None:
    """The edge of a shortcut that has a place: top, left, bottom, right."""
    if box:
        top, left, bottom, right = box
        axes.add_patch(
            Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False, edgecolor="white", linewidth=1)
        )
