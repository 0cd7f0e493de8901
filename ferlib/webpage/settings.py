"""The settings of the methods that have controls on the page, from the table of methods; imports no Gradio."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ferlib.explanations.baselines import NAMES, describe_baseline
from ferlib.explanations.methods import METHODS
from ferlib.explanations.specs import Method, Setting

SETTINGS = {  # method → those of its settings that have a label
    row.name: labelled for row in METHODS.values() if (labelled := tuple(item for item in row.settings if item.label))
}
COUNTS = ("num_samples", "steps")  # settings that say how many faces the network computes
MORE = "more: less sampling error, longer computation"
ANY_GREY = "or a grey level from 0 (black) to 1 (white)"


def list_choices(setting: Setting) -> list[tuple[str, str]]:
    """Title and value of each choice of a setting that is chosen from a list; empty for a slider."""
    if setting.name == "baseline":
        return [(describe_baseline(name), name) for name in (*NAMES, *setting.choices)]
    return [(title, value) for value, title in setting.choices.items()]


def describe_setting(setting: Setting) -> str:
    """The line below a control."""
    return ANY_GREY if setting.name == "baseline" else MORE if setting.name in COUNTS else ""


def own_settings(method: str, values: Sequence[Any]) -> dict[str, Any]:
    """Name → value of the method's settings, of the values of all methods' controls in the order of SETTINGS."""
    owners = [(owner, setting.name) for owner, settings in SETTINGS.items() for setting in settings]
    return {name: value for (owner, name), value in zip(owners, values, strict=True) if owner == method}


def count_faces(settings: Mapping[str, Any]) -> int | None:
    """How many faces the network computes for one map, where a setting says so."""
    if "background_size" in settings:
        return METHODS["shap"].constants["per_face"] * int(settings["background_size"])
    return next((int(settings[name]) for name in COUNTS if name in settings), None)


def how_to_read(method: Method) -> str:
    """How to read a method's map of a photo."""
    background = " The background faces are drawn ones." if "background" in method.needs else ""
    return method.how_to_read + background
