"""Gradients of the pixels: saliency, SmoothGrad, input × gradient, integrated gradients and others.

python explain_saliency.py --model resnet50 --dataset fer2013 --samples 20 --method saliency
"""

from __future__ import annotations

from typing import Any

from config import Explain
from ferlib.explanations.flags import explain_flags
from ferlib.figures.explain_script import explain_by, run
from ferlib.runtime.errors import run_script

# The flags: those of config.Explain and one for every setting in the table of methods.
SCRIPT = "explain_saliency.py"
ExplainSaliency = explain_flags(SCRIPT)


def explain(flags: Explain) -> dict[str, Any]:
    """Explains the chosen faces; writes maps, figures and summary below outputs/explanations, returns the summary."""
    return explain_by(SCRIPT, flags)


def main() -> dict[str, Any]:
    """Reads the flags, explains, prints what was done, and returns the summary."""
    return run(SCRIPT, ExplainSaliency)


if __name__ == "__main__":
    run_script(main)
