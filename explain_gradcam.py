"""Class activation maps: the cells of a layer that raise an expression's logit; HiResCAM, Grad-CAM and four others.

python explain_gradcam.py --model resnet50 --dataset fer2013 --samples 20
"""

from __future__ import annotations

from typing import Any

from config import Explain
from ferlib.explanations.flags import explain_flags
from ferlib.figures.explain_script import explain_by, run
from ferlib.runtime.errors import run_script

# The flags: those of config.Explain and one for every setting in the table of methods.
SCRIPT = "explain_gradcam.py"
ExplainGradcam = explain_flags(SCRIPT)


def explain(flags: Explain) -> dict[str, Any]:
    """Explains the chosen faces; writes maps, figures and summary below outputs/explanations, returns the summary."""
    return explain_by(SCRIPT, flags)


def main() -> dict[str, Any]:
    """Reads the flags, explains, prints what was done, and returns the summary."""
    return run(SCRIPT, ExplainGradcam)


if __name__ == "__main__":
    run_script(main)
