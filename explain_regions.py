"""Facial regions: the exact Shapley value of each, in a picture and in words, and what would change the prediction.

python explain_regions.py --model resnet50 --dataset fer2013 --samples 20 --baseline blur
"""

from __future__ import annotations

from typing import Any

from config import Explain
from ferlib.explanations.flags import explain_flags, prepare_flags
from ferlib.explanations.terminal import describe_summary
from ferlib.runtime.errors import run_script
from ferlib.runtime.flags import parse_flags

# The flags: those of config.Explain and one for every setting in the table of methods.
SCRIPT = "explain_regions.py"
ExplainRegions = explain_flags(SCRIPT)


def explain(flags: Explain) -> dict[str, Any]:
    """Explains the chosen faces; writes maps, figures and summary below outputs/explanations, returns the summary."""
    flags, method, values = prepare_flags(flags, SCRIPT)  # names and ranges, before anything heavy is imported
    from ferlib.figures.explanations import explain_and_draw

    return explain_and_draw(flags, method, values)


def main() -> dict[str, Any]:
    """Reads the flags, explains, prints what was done, and returns the summary."""
    flags = parse_flags(ExplainRegions)
    summary = explain(flags)
    if summary:  # of torchrun's processes the first one has it
        print(describe_summary(summary, flags))
    return summary


if __name__ == "__main__":
    run_script(main)
