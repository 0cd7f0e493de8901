"""How far explanations can be trusted: every method scored against exact values, by faithfulness, location, stability.

python score_explanations.py --model fer_resnet --dataset fer2013 --samples 100
"""

from __future__ import annotations

from typing import Any

from config import Score
from ferlib.explanations.baselines import check_baseline
from ferlib.explanations.choice import check_words
from ferlib.explanations.methods import METHODS, find_method
from ferlib.runtime.errors import UserError, run_script
from ferlib.runtime.files import require
from ferlib.runtime.flags import parse_flags
from models import model_spec, training_command


def score(flags: Score) -> dict[str, Any]:
    """Scores the chosen methods; writes outputs/explanations/scores/{run}.json and plots, returns the summary."""
    names = check(flags)
    from ferlib.explanations.scores.flow import score as score_methods
    from ferlib.figures.scores import draw_scores, no_figures

    found = score_methods(flags, names, no_figures())
    if found and flags.figures:
        draw_scores(found, flags)
    return found


def check(flags: Score) -> list[str]:
    """The methods to score, in the order of the table; UserError for flags that make no sense."""
    model_spec(flags.model)
    check_words(flags)
    check_baseline(flags.baseline)
    if flags.image:
        raise UserError("--image: scores are of faces of the test split; leave it out")
    if flags.against:
        raise UserError("--against: scores are of a class, not of a contrast; leave it out")
    if min(flags.stability_faces, flags.sanity_faces) < 0:
        raise UserError("--stability-faces and --sanity-faces are 0 or more")
    require(flags.run.checkpoint_or(flags.checkpoint), training_command(flags.run))
    wanted = {find_method(name).name for name in flags.methods} or set(METHODS)
    return [name for name in METHODS if name in wanted | {"regions"}]


def main() -> dict[str, Any]:
    """Reads the flags, scores, prints the table and returns the summary."""
    flags = parse_flags(Score)
    found = score(flags)
    if found:
        from ferlib.explanations.scores.terminal import describe_scores

        print(describe_scores(found, flags))
    return found


if __name__ == "__main__":
    run_script(main)
