"""One self-contained page on all runs of a data set, and its tables: python report_generator.py --dataset fer2013"""

from __future__ import annotations

from pathlib import Path

from config import Report
from ferlib.data.facts import dataset_facts
from ferlib.runtime.errors import UserError, run_script
from ferlib.runtime.flags import parse_flags


def build_report(outputs_dir: Path, dataset: str) -> Path:
    """Writes the page on a data set from the files below `outputs_dir`; returns its path."""
    from ferlib.report.page import write_reports

    return write_reports(outputs_dir, [dataset], dataset, ("html",))[0]


def write_report(flags: Report) -> list[Path]:
    """Writes the report that the flags name, in every format of theirs; returns the paths."""
    dataset_facts(flags.dataset)
    from ferlib.report.page import ALL, write_reports

    name = ALL if flags.all else flags.dataset
    return write_reports(flags.outputs_dir, chosen_datasets(flags), name, flags.format)


def chosen_datasets(flags: Report) -> list[str]:
    """The data set that the flags name, or all that have runs; UserError where --all finds none."""
    from ferlib.evaluation.saved_runs import find_datasets, find_only_explained

    if not flags.all:
        return [flags.dataset]
    found = find_datasets(flags.outputs_dir)
    if not found:
        explained = list(find_only_explained(flags.outputs_dir).values())
        nothing = f"{flags.outputs_dir} holds no run; run: python train.py --model mini_resnet"
        raise UserError(*(explained or [nothing]))
    return found


def main() -> None:
    for path in write_report(parse_flags(Report)):
        print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    run_script(main)
