"""Joins the predictions of several runs on one data set and writes the result as a run of its own.

python ensemble.py --dataset fer2013 --members resnet50 efficientnet_b0 fer_resnet:seed1 fer_resnet:seed2 --tag best4
python ensemble.py --dataset fer2013 --members all --method greedy
python ensemble.py --dataset fer2013 --members fer_resnet:cyclic@cycle1 fer_resnet:cyclic@cycle2 fer_resnet:cyclic@last

A member is MODEL or MODEL:TAG, as evaluate.py left it on val and test. With @last, or @cycle1 and so on after train.py
--schedule warm_restarts --snapshots, it is that checkpoint of the run, which is predicted here, with the views that the
run was evaluated with. Weights, greedy selection and the choice of the method use val only.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from config import Ensemble
from datasets import load_stage
from ferlib.data.facts import dataset_facts
from ferlib.report.plots import plots_drawn_anew
from ferlib.runtime.errors import UserError, run_script
from ferlib.runtime.files import check_writable
from ferlib.runtime.flags import parse_flags
from ferlib.runtime.locks import sole_process
from ferlib.runtime.runs import Run, check_same_set
from models import MODELS

if TYPE_CHECKING:
    from ferlib.evaluation.scoring import Evaluation
    from ferlib.inference.splits import Predictor


def join(flags: Ensemble) -> dict[str, Any]:
    """Joins the members, writes results, predictions and plots of the chosen method as a run; returns the results."""
    check(flags)
    from ferlib.evaluation.ensembles import join_members, read_members

    def open_checkpoint(run: Run, path: Path) -> Predictor:
        from ferlib.inference.splits import open_predictor

        return open_predictor(run, checkpoint=path, device=flags.device, amp=flags.amp, batch_size=flags.batch_size)

    check_same_set(flags.run.results, "run.dataset", flags.dataset)
    check_writable(flags.run.predictions)
    data = load_stage(flags)
    members = read_members(flags.members, data, flags.outputs_dir, flags.fold, open_checkpoint)
    found = join_members(flags.run, data, members, flags.method)
    with sole_process(flags.run.lock("evaluate"), f"{flags.run.name} is being written"):
        found.write()
    with plots_drawn_anew(flags.run):
        if flags.figures:
            draw(found, flags, f"{len(members)} members on {data.facts.title} test")
    return found.results


def draw(found: Evaluation, flags: Ensemble, subject: str) -> None:
    """The plots of an evaluation, and that of the members."""
    from ferlib.figures.ensemble import plot_members
    from ferlib.figures.evaluation import draw_plots

    draw_plots(flags.run, found.faces, found.predictions.probabilities, found.results, flags.format)
    subject = f"{subject}, {found.results['samples']:,} faces, views: {found.results['views']}"
    plot_members(flags.run.plot("members"), found.results["ensemble"], subject, flags.format)


def check(flags: Ensemble) -> None:
    """UserError for the name of a network and for an unknown data set."""
    if flags.model in MODELS:
        raise UserError(f"--model {flags.model} is a network; an ensemble needs a name of its own")
    dataset_facts(flags.dataset)


def main() -> None:
    flags = parse_flags(Ensemble)
    results = join(flags)
    from ferlib.evaluation.terminal import summarize_members

    print(summarize_members(results["ensemble"]))
    print(f"written: {flags.run.results} and {flags.run.predictions}")


if __name__ == "__main__":
    run_script(main)
