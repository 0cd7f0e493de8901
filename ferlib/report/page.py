"""The report as one self-contained HTML page, and its tables as Markdown, CSV and LaTeX; imports no torch."""

from __future__ import annotations

import base64
import hashlib
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path

import jinja2
import pandas as pd
from markupsafe import Markup

from config import EMOTIONS
from ferlib.data.facts import dataset_facts
from ferlib.evaluation.agreement import describe_agreement
from ferlib.evaluation.error_analysis import describe_test, main_confusions
from ferlib.evaluation.saved_runs import CrossTable, find_datasets, find_only_explained, majority, read_cross
from ferlib.evaluation.temperature import describe_direction
from ferlib.evaluation.terminal import describe_ece
from ferlib.report.plots import PLOTS
from ferlib.report.sections import DatasetReport, read_reports
from ferlib.report.tables import READABLE, TABLES, all_tables, readable, to_latex, write_csv
from ferlib.report.words import duration, element_id, number, percent, training_settings
from ferlib.runtime.errors import UserError
from ferlib.runtime.files import write_text
from ferlib.runtime.runs import Run, report_path, slug
from ferlib.runtime.terminal import printable

TEMPLATES = Path(__file__).parent / "templates"
ALL = "all"  # the name of the report on all data sets


# ── page ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def on_axis(value: float, axis: tuple[float, float]) -> float:
    """Where `value` lies between the ends of `axis`, 0 to 1."""
    low, high = axis
    return round((value - low) / (high - low), 4)


def sentence(text: str) -> str:
    """`text` with a capital first letter, the others as they are."""
    return text[:1].upper() + text[1:]


def dataset_title(name: str) -> str:
    """The title of a data set by its name."""
    return dataset_facts(name).title


def escape_markdown(text: object) -> str:
    """Names from outside as Markdown prints them."""
    return re.sub(r"([\\`*_{}\[\]<>#|])", r"\\\1", str(text)).replace("\n", " ")


FILTERS = {
    "dataset_title": dataset_title,
    "percent": percent,
    "number": number,
    "duration": duration,
    "on": on_axis,
    "sentence": sentence,
    "slug": element_id,
    "training_settings": training_settings,
    "confusions": main_confusions,
    "majority": majority,
    "in_words": describe_test,
    "ece_in_words": describe_ece,
    "direction": describe_direction,
    "agreement": describe_agreement,
    "md": escape_markdown,
}


def make_environment() -> jinja2.Environment:
    """Templates that escape every value (for HTML, by the name of the file) and fail on a misspelt one."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=jinja2.select_autoescape(("html",), default=False),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS)
    return environment


def read_script() -> tuple[Markup, str]:
    """The page's own script, and the only source of scripts that its content security policy allows."""
    script = "\n" + (TEMPLATES / "report.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return Markup(script), f"'sha256-{digest}'"


def render_page(reports: Sequence[DatasetReport], name: str, cross: CrossTable | None) -> str:
    """The HTML of a page on one data set, or on several."""
    script, script_source = read_script()
    template = make_environment().get_template("report.html")
    return template.render(
        reports=reports,
        single=name != ALL,
        title="All data sets" if name == ALL else reports[0].facts.title,
        made=datetime.now().astimezone(),
        command=report_command(reports[0].outputs_dir, name),
        cross=cross,
        emotions=EMOTIONS,
        plots=PLOTS,
        script=script,
        script_source=script_source,
    )


def report_command(outputs_dir: Path, name: str) -> str:
    """The command that makes the page again."""
    script = "report_generator.py"
    if name == ALL:
        return Run("", "", outputs_dir=outputs_dir).command(f"{script} --all")
    return Run("", name, outputs_dir=outputs_dir).command(script)


# ── formats ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def write_html(reports: Sequence[DatasetReport], name: str, cross: CrossTable | None) -> list[Path]:
    """The page."""
    return [write_text(report_path(reports[0].outputs_dir, name), render_page(reports, name, cross))]


def write_markdown(reports: Sequence[DatasetReport], name: str, cross: CrossTable | None) -> list[Path]:
    """The summary, its caveats and the readable tables."""
    path = report_path(reports[0].outputs_dir, name, "md")
    tables = {report.dataset: shown_tables(report) for report in reports}
    others = all_tables([], cross)
    elsewhere = {READABLE[key][0]: readable(key, table) for key, table in others.items()}
    template = make_environment().get_template("report.md")
    made = datetime.now().astimezone()
    return [write_text(path, template.render(reports=reports, tables=tables, elsewhere=elsewhere, made=made))]


def shown_tables(report: DatasetReport) -> dict[str, pd.DataFrame]:
    """Caption → readable table."""
    tables = all_tables(report.models, None)
    return {READABLE[key][0]: readable(key, table) for key, table in tables.items() if key in READABLE}


def write_csvs(reports: Sequence[DatasetReport], _name: str, cross: CrossTable | None) -> list[Path]:
    """A file per table and data set, with the figures as they are in the results; removes those of other tables."""
    written = []
    for report in reports:
        tables = all_tables(report.models, cross)
        for key, path in csv_paths(report.outputs_dir, report.dataset).items():
            if key in tables:
                write_csv(path, tables[key])
                written.append(path)
            else:
                path.unlink(missing_ok=True)  # of an earlier call, whose figures are left out or gone now
    return written


def csv_paths(outputs_dir: Path, dataset: str) -> dict[str, Path]:
    """Table → its CSV file."""
    return {key: report_path(outputs_dir, f"{dataset}_{key}", "csv") for key in TABLES}


def write_latex(reports: Sequence[DatasetReport], _name: str, cross: CrossTable | None) -> list[Path]:
    """A file per data set."""
    written = []
    for report in reports:
        tables = all_tables(report.models, cross)
        path = report_path(report.outputs_dir, report.dataset, "tex")
        written.append(write_text(path, to_latex(tables, report.best, report.dataset)))
    return written


Writer = Callable[[Sequence[DatasetReport], str, CrossTable | None], list[Path]]
FORMATS: dict[str, Writer] = {"html": write_html, "md": write_markdown, "csv": write_csvs, "latex": write_latex}


def build_report(outputs_dir: Path, dataset: str) -> Path:
    """Writes the page on a data set and returns its path."""
    return write_reports(outputs_dir, [dataset], dataset, ("html",))[0]


def earlier_formats(outputs_dir: Path, datasets: Iterable[str], name: str) -> set[str]:
    """The formats in which an earlier call wrote the report."""
    paths = {
        "html": [report_path(outputs_dir, name)],
        "md": [report_path(outputs_dir, name, "md")],
        "csv": [path for dataset in datasets for path in csv_paths(outputs_dir, dataset).values()],
        "latex": [report_path(outputs_dir, dataset, "tex") for dataset in datasets],
    }
    return {kind for kind, files in paths.items() if any(path.exists() for path in files)}


def check_names(datasets: Iterable[str], known: Iterable[str]) -> None:
    """UserError for a data set whose report would have the file of another one, such as folder:a/b and folder:a-b."""
    for dataset in datasets:
        if others := [name for name in known if name != dataset and slug(name) == slug(dataset)]:
            raise UserError(f"the reports on {dataset} and {others[0]} have one file; use an --outputs-dir for each")


def write_reports(outputs_dir: Path, datasets: Sequence[str], name: str, formats: Iterable[str]) -> list[Path]:
    """Writes the report `name` on some data sets from what the stages left below `outputs_dir`, in several formats.

    A format that is there already is written again too, so that all files of a report have the same figures. Returns
    the paths of what was written. What cannot be read is left out, which the page and stderr say. UserError for an
    unknown data set, and when no run is there.
    """
    for dataset in datasets:
        dataset_facts(dataset)
    again = earlier_formats(outputs_dir, datasets, name)
    wanted = dict.fromkeys((*formats, *(each for each in FORMATS if each in again)))
    if name != ALL or {"csv", "latex"} & set(wanted):  # a page on all sets has a name of its own
        check_names(datasets, find_datasets(Path(outputs_dir)))
    reports = read_reports(Path(outputs_dir), datasets, report_path(outputs_dir, name).parent)
    cross, damaged = read_cross(outputs_dir)
    reports[0].left_out.extend(damaged)
    if name == ALL:
        explained = find_only_explained(outputs_dir)
        reports[0].left_out.extend(line for run, line in explained.items() if run.dataset not in datasets)
    for line in dict.fromkeys(line for report in reports for line in report.left_out):
        print(f"note: {printable(line)}", file=sys.stderr)
    return [path for each in wanted for path in FORMATS[each](reports, name, cross)]
