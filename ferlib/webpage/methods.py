"""The explanation methods as the page offers them: their units, and the settings that one may change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ferlib.report import methods as report_methods


@dataclass(frozen=True)
class Setting:
    """A flag of an explain_* script: a slider, or a list where it has choices."""

    flag: str
    label: str
    value: Any
    low: float = 0
    high: float = 1
    step: float = 1
    choices: tuple[tuple[str, str], ...] = ()  # what is shown, what is meant
    info: str = ""


GREY = "0: black, 1: white"
SEGMENTATIONS = (
    ("by colour (quickshift)", "quickshift"),
    ("compact (SLIC)", "slic"),
    ("by edges (Felzenszwalb)", "felzenszwalb"),
    ("squares", "grid"),
    ("parts of a face", "facial"),
)
SETTINGS = {
    "lime": (
        Setting("lime_samples", "Perturbations", 1000, 100, 4000, 100, info="more: less noise, more time"),
        Setting("segmentation", "Regions", "quickshift", choices=SEGMENTATIONS),
        Setting("hide_value", "Grey of what is hidden", 0.5, 0, 1, 0.05, info=GREY),
    ),
    "shap": (
        Setting("shap_samples", "Draws", 200, 20, 1000, 20, info="more: less noise, more time"),
        Setting("bg_samples", "Background faces", 100, 10, 200, 10, info="drawn ones, with which the face is compared"),
    ),
    "smoothgrad": (
        Setting("smooth_samples", "Noisy copies", 50, 5, 200, 5),
        Setting("smooth_sd", "Standard deviation of the noise", 0.03, 0, 0.2, 0.01, info="of a scale from 0 to 1"),
    ),
    "integrated_gradients": (
        Setting("steps", "Steps", 50, 5, 200, 5),
        Setting("baseline", "Grey of the face to start from", 0.5, 0, 1, 0.05, info=GREY),
    ),
    "occlusion": (
        Setting("window", "Side of the square", 0.2, 0.1, 0.5, 0.05, info="a share of the face's side"),
        Setting("stride", "Step of the square", 0.1, 0.05, 0.5, 0.05, info="at most the side of the square"),
        Setting("hide_value", "Grey of the square", 0.5, 0, 1, 0.05, info=GREY),
    ),
}
PASSES = {  # method → its setting that says how many faces the network is asked about
    "lime": "lime_samples",
    "shap": "shap_samples",
    "smoothgrad": "smooth_samples",
    "integrated_gradients": "steps",
}
UNITS = {  # of the methods with a sign
    "lime": "change of the probability",
    "shap": "change of the logit",
    "input_x_gradient": "change of the logit",
    "integrated_gradients": "change of the logit",
    "occlusion": "change of the probability",
}
HOW_TO_READ = {  # where the report's text speaks of numbers or of faces that the page does not have
    "lime": "Hides random sets of regions and fits a linear model to what that does to the probability of the class: "
    "vermilion regions speak for the class, blue ones against it. What changes when you explain again with other "
    "settings is noise.",
    "shap": "Shares out, among the pixels, by how much the logit of the class exceeds its mean over drawn faces: "
    "vermilion pixels raise it, blue ones lower it.",
    "smoothgrad": "Saliency averaged over copies of the face with noise: what remains matters nearby too. Much noise "
    "asks the network about other faces.",
    "integrated_gradients": "Shares out, among the pixels, by how much the logit exceeds that of a plain grey face: "
    "vermilion pixels raise it, blue ones lower it. Pixels as grey as that face get nothing.",
}


def how_to_read(name: str) -> str:
    return HOW_TO_READ.get(name) or method_facts(name).how_to_read


def method_facts(name: str) -> report_methods.Method:
    """How to read a method's maps, by the name that explains."""
    return report_methods.METHODS[name.replace("++", "_plus_plus")]
