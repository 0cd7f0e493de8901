"""The stages of scoring as rows like those of METHODS, so that the driver of the explain scripts runs and resumes them.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ferlib.explanations.specs import Method

ENGINE = ("engine", "precision", "agreement")  # of a stage's summary: what computed it


def stage(title: str, function: str, need: str, **more: Any) -> Method:
    """A row; need: what it takes of a network, a function of setup.py."""
    return Method("scores", title, "score_explanations.py", f"scores.{function}", "", "", needs=(need,), **more)


SCORES = stage(
    "Scores",
    "scorer:explain",
    "scorer",
    network="forward",
    constants={"infidelity": "squares of the fill", "maps": "shares of the peak", "simple maps": "of both outputs"},
    faces_per_call=(2, 4, 16),
)
STABILITY = stage(
    "Stability",
    "repeats:explain_stability",
    "repeats",
    constants={"background": "drawn again"},
    faces_per_call=(1, 2, 8),
)
SANITY = stage("Sanity check", "repeats:explain_sanity", "stages", faces_per_call=(5, 8, 16))
PERMUTED = stage("Permuted labels", "repeats:explain_sanity", "permuted", faces_per_call=(5, 8, 16))
CLEVER_HANS = stage("Clever Hans test", "clever_hans:explain", "maps", network="forward", faces_per_call=(2, 4, 16))


def describe_engines(summaries: Mapping[str, Mapping[str, Any]]) -> str:
    """What computed the forward passes of each: openvino 2025.3 in int8 (scores), torch 2.9 in float32 (…).

    Empty for files of earlier versions, which do not say it.
    """
    computed: dict[str, list[str]] = {}
    for name, each in summaries.items():
        if each.keys() >= {"engine", "precision"}:
            computed.setdefault(f"{each['engine']} in {each['precision']}", []).append(name)
    listed = ", ".join(f"{engine} ({', '.join(names)})" for engine, names in computed.items())
    return f"forward passes: {listed}" if listed else ""
