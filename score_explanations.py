"""How far explanations can be trusted: every method scored against exact values, by faithfulness, location, stability.

python score_explanations.py --model fer_resnet --dataset fer2013 --samples 100
python score_explanations.py --clever-hans    trains a network that cheats, and tests which methods show it
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import train
from config import Score
from ferlib.data.synthetic.variants import ORIGINAL, PERMUTED, variant_name
from ferlib.explanations.baselines import check_baseline
from ferlib.explanations.choice import check_words
from ferlib.explanations.methods import METHODS, find_method
from ferlib.runtime.errors import UserError, run_script
from ferlib.runtime.files import require
from ferlib.runtime.flags import parse_flags
from models import model_spec, training_command

BY_HEART_AT_LEAST = 0.95  # accuracy in training of the network of permuted labels (Adebayo et al., 2018, section 3)


def score(flags: Score) -> dict[str, Any]:
    """Scores the chosen methods; writes outputs/explanations/scores/{run}.json and plots, returns the summary."""
    names = check(flags)
    from ferlib.explanations.scores.flow import score as score_methods
    from ferlib.figures.scores import draw_scores, no_figures, remove_figures
    from ferlib.runtime.distributed import processes
    from ferlib.training.twins import BY_HEART

    with processes():
        if flags.permuted_labels:
            check_learned(train_twin(flags, PERMUTED, BY_HEART))
        found = score_methods(flags, names, no_figures())
    if found:
        remove_figures(flags.run.explanations("scores"))
        if flags.figures:
            draw_scores(found, flags)
    return found


def expose(flags: Score) -> dict[str, Any]:
    """Trains what is missing of the honest and the cheating network, tests the methods; writes JSON and pictures."""
    names = check(flags)
    from ferlib.explanations.scores.clever_hans import test_methods
    from ferlib.figures.clever_hans import draw_clever_hans
    from ferlib.figures.scores import no_figures, remove_figures
    from ferlib.runtime.distributed import processes

    with processes():
        train_twin(flags, flags.shortcut)
        found = test_methods(flags, names, no_figures())
    if found:
        remove_figures(flags.run.with_shortcut(flags.shortcut))
        if flags.figures:
            draw_clever_hans(found, flags)
    return found


def train_twin(flags: Score, kind: str, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Trains the run of the flags, and its twin on the drawn faces with a flaw, where they are not there.

    Returns the history of the twin.
    """
    from ferlib.training.trained import train_if_missing
    from ferlib.training.twins import original_flags, twin_flags

    original = original_flags(flags)
    train_if_missing(original, train.fit, extended=True)
    return train_if_missing(twin_flags(original, variant_name(kind), settings), train.fit)[0]


def check_learned(history: Mapping[str, Any]) -> None:
    """UserError for a twin that has not learned its permuted labels, whose maps would show nothing."""
    learned = history["epochs"][-1]["train_accuracy"]
    if learned < BY_HEART_AT_LEAST:
        raise UserError(
            f"the network of permuted labels knows only {100 * learned:.0f} % of them by heart, of which "
            f"{100 * BY_HEART_AT_LEAST:.0f} % are needed; take a larger --model"
        )


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
    if flags.permuted_labels and not flags.sanity_faces:
        raise UserError("--permuted-labels is a check of --sanity-faces, of which 0 are asked for")
    if flags.permuted_labels or flags.clever_hans:
        check_drawn(flags)
    else:
        require(flags.run.checkpoint_or(flags.checkpoint), training_command(flags.run))
    wanted = {find_method(name).name for name in flags.methods} or set(METHODS)
    return [name for name in METHODS if name in wanted | {"regions"}]


def check_drawn(flags: Score) -> None:
    """UserError for a pair of runs that cannot be trained."""
    name = "--clever-hans" if flags.clever_hans else "--permuted-labels"
    if flags.dataset != ORIGINAL:
        raise UserError(f"{name} is of drawn faces, into which flaws can be planted: use --dataset {ORIGINAL}")
    if flags.checkpoint:
        raise UserError(f"{name} compares two runs: leave --checkpoint out")
    if flags.clever_hans and (flags.only or flags.indices or flags.target != "predicted"):
        raise UserError("--clever-hans chooses faces and class itself: leave --only, --indices and --target out")


def main() -> dict[str, Any]:
    """Reads the flags, scores, prints the table and returns the summary."""
    flags = parse_flags(Score)
    found = expose(flags) if flags.clever_hans else score(flags)
    if found:
        from ferlib.explanations.scores import terminal

        describe = terminal.describe_test if flags.clever_hans else terminal.describe_scores
        print(describe(found, flags))
    return found


if __name__ == "__main__":
    run_script(main)
