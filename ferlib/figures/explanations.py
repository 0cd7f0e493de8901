"""The figures of an explain_* run: which function draws a method, what its footnote says, and the whole run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ferlib.explanations.baselines import describe_baseline
from ferlib.explanations.landmark_detector import describe_placed
from ferlib.explanations.specs import Method
from ferlib.figures.heatmaps import draw_heatmap
from ferlib.figures.lime import draw_lime
from ferlib.figures.pool import FigurePool
from ferlib.figures.region_table import draw_contrasts, draw_region_table
from ferlib.figures.regions import draw_regions
from ferlib.figures.shap import draw_shap
from ferlib.figures.style import save_figure

if TYPE_CHECKING:
    from config import Explain


def explain_and_draw(flags: Explain, method: Method, values: Mapping[str, Any]) -> dict[str, Any]:
    """Explains the faces that the flags name; writes maps, figures and summary and returns the summary.

    The processes of torchrun divide the faces. UserError for a run, a data set or a picture that cannot be read.
    """
    from ferlib.explanations.driver import explain_run, resolve
    from ferlib.explanations.paths import Paths
    from ferlib.explanations.subject import open_subject
    from ferlib.runtime.distributed import is_main, processes

    with processes():
        subject = open_subject(flags)
        values = resolve(values, method, subject)
        draw = figure_of(
            method, {**values, "seed": flags.seed, "precision": subject.engine.precision}, subject.run.name
        )
        summary = explain_run(subject, method, values, flags, FigurePool(draw, flags.figures, flags.format))
        if method.table and is_main():
            draw_table(Paths(subject.run, method.name, "pictures" if flags.image else "").table, summary, draw, flags)
        return summary


def draw_table(path: Path, summary: Mapping[str, Any], draw: partial, flags: Explain) -> None:
    """Draws the table of a summary and its contrasts; where it has none, removes the pictures of an earlier run."""
    beside = path.with_name("contrasts.png")
    for old in (old for each in (path, beside) for old in path.parent.glob(f"{each.stem}.*")):
        old.unlink()
    if flags.figures and "table" in summary:
        footer = " · ".join(filter(None, [draw.keywords["footer"], describe_placed(summary["faces"])]))
        figure = draw_region_table(summary["table"], draw.keywords["run"], footer)
        save_figure(figure, path, flags.format)
        if summary["table"]["contrasts"]:
            save_figure(draw_contrasts(summary["table"], draw.keywords["run"]), beside, flags.format)


def figure_of(method: Method, values: Mapping[str, Any], run: str) -> partial:
    """The function (face, image, attribution) → figure of a method; values: its settings, seed and precision."""
    footer = footnotes.get(method.name, describe_settings)(method, values)
    footer += " · network in 8 bits" * (values.get("precision") == "int8")
    if method.name == "lime":
        return partial(draw_lime, top_regions=values["top_regions"], run=run, footer=footer)
    if method.name == "shap":
        return partial(draw_shap, run=run, footer=footer)
    if method.name == "regions":
        return partial(draw_regions, partition=values["partition"], run=run, footer=footer)
    return partial(draw_heatmap, method=method, run=run, footer=footer)


def describe_settings(method: Method, values: Mapping[str, Any]) -> str:
    """The method's note with its settings filled in."""
    if not method.note:
        shown = ", ".join(f"{name} {value}" for name, value in values.items() if name in method.defaults)
        return f"{method.title}: {shown or 'no settings'}"
    words = {"baseline": describe_baseline(values["baseline"])} if "baseline" in values else {}
    return f"{method.title}: {method.note.format(**{**values, **words})}"


def describe_lime(method: Method, values: Mapping[str, Any]) -> str:
    """Perturbations, baseline and segmentation."""
    by_colour = "quickshift on {segmentation_side} px: kernel {kernel_size:g}, max_dist {max_dist:g}, ratio {ratio:g}"
    segments = {
        "facial": "parts of the face",  # each face's footnote says how they were placed
        "quickshift": by_colour,
        "merged": f"{by_colour}, merged into at most {{regions}} regions",
    }.get(values["segmentation"], "{segmentation} on {segmentation_side} px: about {regions} regions")
    return (
        f"{method.title}: {values['num_samples']} perturbations, hidden regions filled with "
        f"{describe_baseline(values['baseline'])} · {segments.format(**values)} · bars: 95 % intervals · R² held out: "
        f"perturbations are predicted from the others · seed {values['seed']}"
    )


def describe_shap(method: Method, values: Mapping[str, Any]) -> str:
    """Samples and background."""
    return (
        f"{method.title}: expected gradients of the logits, {values['num_samples']} samples over "
        f"{values['background_size']} background faces of the train split · errors: how much the values would differ "
        f"with other samples or background faces, as a share of their size · seed {values['seed']}"
    )


footnotes: dict[str, Callable[[Method, Mapping[str, Any]], str]] = {"lime": describe_lime, "shap": describe_shap}
