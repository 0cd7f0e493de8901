"""Facial regions: the exact Shapley value of each, in a picture and in words, and what would change the prediction.

python explain_regions.py --model resnet50 --dataset fer2013 --samples 20 --baseline blur
"""

from __future__ import annotations

from typing import Any

from config import Explain
from ferlib.explanations.flags import explain_flags
from ferlib.figures.explain_script import explain_by, run
from ferlib.runtime.errors import run_script

# The flags: those of config.Explain and one for every setting in the table of methods.
SCRIPT = "explain_regions.py"
ExplainRegions = explain_flags(SCRIPT)


def explain(flags: Explain) -> dict[str, Any]:
    """Explains the chosen faces; writes maps, figures and summary below outputs/explanations, returns the summary."""
    return explain_by(SCRIPT, flags)


def main() -> dict[str, Any]:
    """Reads the flags, explains, prints what was done, and returns the summary."""
    return run(SCRIPT, ExplainRegions)


if __name__ == "__main__":
    run_script(main)
