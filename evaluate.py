"""Scores a trained model on the test split: results, predictions, plots.

python evaluate.py --model resnet50 --dataset fer2013
python evaluate.py --dataset fer2013 --compare resnet50 fer_resnet fer_resnet:seed1
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from config import Evaluate
from datasets import in_folds, load_faces, load_groups, load_stage
from ferlib.data.face_data import FaceData
from ferlib.data.facts import dataset_facts
from ferlib.data.readers.places import MissingError
from ferlib.report.plots import OF_COMPARISONS, drawn_anew, plots_drawn_anew
from ferlib.runtime.errors import UserError, run_script
from ferlib.runtime.files import read_json, write_json
from ferlib.runtime.flags import parse_flags
from ferlib.runtime.notes import print_note
from ferlib.runtime.runs import ALL_FOLDS, calibration_beside, check_same_set, comparison_path, picture_beside
from models import model_spec

if TYPE_CHECKING:
    from ferlib.evaluation.scoring import Evaluation
    from ferlib.inference.splits import Predictor


def evaluate(flags: Evaluate) -> dict[str, Any]:
    """Scores a checkpoint on a split; for test, writes results, predictions and plots. Returns the results."""
    return evaluate_split(flags).results


def evaluate_split(flags: Evaluate) -> Evaluation:
    from ferlib.evaluation.scoring import evaluate_run

    data = load_stage(flags)
    if flags.calibrate and flags.precision == "int8":
        raise UserError("--calibrate is for the precision that others run a checkpoint in; leave --precision int8 out")
    if flags.calibrate and (flags.split != "test" or not any(data.counts()["val"])):
        raise UserError("--calibrate fits on val when test is scored; this needs a val split, and no --split")
    predict = open_checkpoint(flags, data)
    found = evaluate_run(
        flags.run, predict, data, split=flags.split, views=flags.views, compare_views=flags.compare_views
    )
    if flags.split == "test":
        draw(found, flags)
    if flags.calibrate:
        keep_calibration(flags)
    return found


def keep_calibration(flags: Evaluate) -> None:
    """Copies the run's temperature and prediction sets beside the checkpoint that was scored."""
    from ferlib.inference.confidence import SHAPE
    from ferlib.runtime.distributed import is_main

    path = calibration_beside(flags.run.checkpoint_or(flags.checkpoint))
    if is_main() and path != flags.run.calibration:
        write_json(path, read_json(flags.run.calibration, flags.run.command("evaluate.py"), SHAPE))


def evaluate_folds(flags: Evaluate) -> dict[str, Any]:
    """Scores the run of every fold on its own test split; writes and returns the results of all folds together."""
    from ferlib.evaluation.scoring import join_folds
    from ferlib.runtime.distributed import is_main

    if flags.checkpoint or flags.split != "test":
        raise UserError(
            "--all-folds scores the test part of every fold by that fold's own run; leave out --checkpoint and --split"
        )
    folds = [evaluate_split(fold) for fold in in_folds(flags)]
    tag = "_".join(filter(None, (flags.tag, ALL_FOLDS)))
    found = join_folds(replace(flags.run, tag=tag, fold=0), folds)
    if is_main():
        found.write()
    draw(found, flags)
    return found.results


def evaluate_on_others(flags: Evaluate) -> list[dict[str, Any]]:
    """Scores the run on the test faces of the data sets of --on; writes and returns the results."""
    from ferlib.evaluation.cross_data import evaluate_elsewhere

    if flags.calibrate:
        raise UserError("--calibrate fits on the run's own set; leave --on out")
    if flags.split != "test" or flags.all_folds or flags.compare_views:
        raise UserError(
            "--on scores the run on the test faces of other sets; leave out --split, --all-folds and --compare-views"
        )
    if flags.engine == "openvino" or flags.precision == "int8":
        raise UserError("--on is computed by torch; leave --engine openvino and --precision int8 out")
    own = load_own(flags)
    predict = open_checkpoint(flags)
    others = (load_faces(name, flags.data_dir, flags.outputs_dir) for name in flags.on)
    return evaluate_elsewhere(flags.run, predict, own, others, flags.views)


def compare(flags: Evaluate) -> str:
    """Compares evaluated runs on their test faces; writes what is found and its pictures, and returns the text."""
    from ferlib.evaluation.comparison import choose_runs, compare_runs
    from ferlib.evaluation.comparison_text import summarize_comparison

    if flags.checkpoint or flags.split != "test" or flags.all_folds or flags.on:
        raise UserError("--compare reads saved predictions; leave out --checkpoint, --split, --all-folds and --on")
    path = comparison_path(flags.outputs_dir, flags.dataset, flags.run.tag, flags.fold)
    check_same_set(path, "dataset", flags.dataset)
    reports = choose_runs(flags.compare, flags.dataset, flags.outputs_dir, flags.fold)
    data = load_own(flags)
    names = [str(name) for name in data.split("test").names] if data else []
    groups = load_groups(flags.dataset, flags.data_dir, flags.outputs_dir, names) if data else {}
    found = compare_runs(reports, flags.dataset, data, groups)
    pictures = [picture_beside(path, kind) for kind in OF_COMPARISONS]
    with drawn_anew(pictures):
        write_json(path, found)
        if flags.figures:
            from ferlib.figures.comparison import draw_comparison

            draw_comparison(found, reports, data, path, flags.format)
    return f"{summarize_comparison(found)}\nwritten: {path}"


def load_own(flags: Evaluate) -> FaceData | None:
    """The set that the run was trained on; None if it is not at hand, as beside a model from elsewhere."""
    try:
        return load_stage(flags)
    except MissingError:
        return None
    except UserError as error:
        print_note(f"{flags.dataset} is not used: {'; '.join(map(str, error.args))}")
        return None


def open_checkpoint(flags: Evaluate, data: FaceData | None = None) -> Predictor:
    """The checkpoint, with the engine for as many passes as the data set's split takes; torch without a data set."""
    from ferlib.inference.splits import open_predictor
    from ferlib.inference.views import count_views

    passes = len(data.split(flags.split)) * count_views(flags.views) if data else 0
    return open_predictor(
        flags.run,
        checkpoint=flags.checkpoint,
        device=flags.device,
        amp=flags.amp,
        batch_size=flags.batch_size,
        flags=flags if data else replace(flags, engine="torch"),
        data=data,
        passes=passes,
    )


def draw(found: Evaluation, flags: Evaluate) -> None:
    """The plots of an evaluation, in the first process alone; those of an earlier one go, drawn anew or not."""
    from ferlib.runtime.distributed import is_main

    if not is_main():
        return
    with plots_drawn_anew(found.run):
        if flags.figures:
            from ferlib.figures.evaluation import draw_plots

            draw_plots(found.run, found.faces, found.predictions.probabilities, found.results, flags.format)


def summarize(flags: Evaluate) -> str:
    """Scores what the flags name; returns the text for the terminal."""
    from ferlib.evaluation import terminal

    if flags.compare:
        return compare(flags)
    if flags.on:
        return "\n".join(map(terminal.summarize_elsewhere, evaluate_on_others(flags)))
    if flags.all_folds:
        return terminal.summarize_folds(evaluate_folds(flags))
    written = f"\nwritten: {flags.run.results} and {flags.run.predictions}" if flags.split == "test" else ""
    return terminal.summarize(evaluate(flags)) + written


def main() -> None:
    flags = parse_flags(Evaluate)
    model_spec(flags.model)
    for name in (flags.dataset, *flags.on):
        dataset_facts(name)
    from ferlib.runtime.distributed import is_main, processes

    with processes():
        text = summarize(flags)
        if is_main():
            print(text)


if __name__ == "__main__":
    run_script(main)
