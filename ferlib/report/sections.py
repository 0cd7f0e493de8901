"""The content of the page on one data set, computed before any template is rendered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferlib.data.facts import DatasetFacts, dataset_facts
from ferlib.evaluation.agreement import describe_agreement
from ferlib.evaluation.saved_runs import (
    CrossTable,
    ModelReport,
    SavedRuns,
    find_highest,
    interval_axis,
    read_models,
    shown_methods,
)
from ferlib.explanations.specs import Method
from ferlib.report.audit import AuditSection, audit_command, audit_pictures, find_audit, make_audit_section
from ferlib.report.caveats import find_caveats
from ferlib.report.charts import Chart, model_charts
from ferlib.report.comparisons import Comparison, read_comparisons
from ferlib.report.faces import (
    Cell,
    FaceStore,
    Shown,
    cell_faces,
    confusion_cells,
    make_sheet,
    read_run_predictions,
    worst_errors,
)
from ferlib.report.gallery import Card, build_gallery, link, used_methods
from ferlib.report.pictures import Picture, Sheet, embed_pictures
from ferlib.report.plots import PLOTS, Plot
from ferlib.report.scores import ScoreTable, ShortcutTest, make_score_table, make_tests, test_pictures
from ferlib.report.words import element_id

PICTURE_BYTES = 5_000_000  # all plots of a page together


@dataclass(frozen=True)
class Details:
    """What the page shows of one run beside its files."""

    cells: list[list[Cell]] | None  # the confusion matrix; None: not evaluated
    errors: list[dict[str, Any]]  # the most confident ones
    charts: dict[str, tuple[Chart, ...]]  # kind of plot → what shows the same
    plots: dict[str, Picture]  # kind → a plot that nothing else on the page shows
    links: dict[str, str]  # kind → address of the plot's file, relative to the page


@dataclass(frozen=True)
class Look:
    """The picture of a run's mean maps."""

    model: ModelReport
    picture: Picture
    address: str | None  # of the file, relative to the page


@dataclass(frozen=True)
class Missing:
    """A stage of a run that has not run, or whose files are gone."""

    model: ModelReport
    script: str
    files: tuple[str, ...]  # in words

    @property
    def command(self) -> str:
        """The command that makes the files."""
        return self.model.command(self.script)


@dataclass(frozen=True)
class DatasetReport:
    """The page, or the part of it, on one data set."""

    dataset: str
    outputs_dir: Path
    models: list[ModelReport]  # by falling accuracy
    details: dict[str, Details]  # name of a run → what is shown of it
    gallery: list[Card]
    sheet: Sheet | None  # thumbnails; None: the decoded faces are not in the cache
    methods: dict[str, Method]  # that the page names
    missing: list[Missing]
    caveats: list[str]
    left_out: list[str]  # a line on each damaged file
    looks: list[Look]  # what the networks look at, of the best first
    comparisons: list[Comparison]
    shortcuts: list[ShortcutTest]  # whether explanations expose one
    audit: AuditSection | None  # of the data

    @property
    def facts(self) -> DatasetFacts:
        """What is known of the data set."""
        return dataset_facts(self.dataset)

    @property
    def id(self) -> str:
        """Of the elements on this data set."""
        return element_id(self.dataset)

    @property
    def audit_command(self) -> str:
        """The command that audits the data."""
        return audit_command(self.outputs_dir, self.dataset)

    def shared_commands(self, cross: CrossTable | None) -> list[str]:
        """The commands behind what the page shows of no single run: audit, comparisons, scores on other data sets."""
        found = [self.audit.content["command"]] if self.audit else []
        found += [comparison.content["command"] for comparison in self.comparisons]
        for run, cells in cross.rows if cross else ():
            others = [name for name in cells if name != run.dataset and self.dataset in (name, run.dataset)]
            found += [cells[name]["command"] for name in others]
        return list(dict.fromkeys(found))

    @property
    def evaluated(self) -> list[ModelReport]:
        """The runs that have results, by falling accuracy."""
        return [model for model in self.models if model.results]

    @property
    def voted(self) -> list[ModelReport]:
        """The models whose results stand beside annotators' votes."""
        return [model for model in self.evaluated if describe_agreement(model.results)]

    @property
    def scored(self) -> list[ScoreTable]:
        """The scores of explanations of the runs that have them."""
        return [make_score_table(model) for model in self.models if model.scores]

    @property
    def has_two_scales(self) -> bool:
        """Whether some map of a face has a scale of its own, as another run's is larger."""
        tiles = [tile for card in self.gallery for answer in card.answers for tile in answer.tiles]
        return any(len(tile.scales) > 1 for tile in tiles)

    @property
    def has_temperatures(self) -> bool:
        """Whether some run has calibrated probabilities beside its own."""
        return any(model.results.get("calibrated") for model in self.models)

    @property
    def best(self) -> ModelReport | None:
        """The evaluated run with the highest accuracy."""
        return next(iter(self.evaluated), None)

    @property
    def axis(self) -> tuple[float, float]:
        """Ends of the axis of accuracies."""
        return interval_axis(self.models)

    @property
    def highest(self) -> dict[str, float | None]:
        """The highest of each headline figure."""
        return find_highest(self.evaluated)

    @property
    def unexplained(self) -> list[str]:
        """Runs that lack a method that is expected of every run, in words."""
        return [
            f"{model.label} ({', '.join(lacking)})"
            for model in self.models
            if not model.is_ensemble and (lacking := lacking_methods(model, self.methods))
        ]

    @property
    def missing_by_model(self) -> dict[str, list[Missing]]:
        """Label of a run → the stages that it lacks."""
        found: dict[str, list[Missing]] = {}
        for stage in self.missing:
            found.setdefault(stage.model.label, []).append(stage)
        return found

    @property
    def used_methods(self) -> dict[str, Method]:
        """The methods that some card shows."""
        return used_methods(self.gallery)


def read_reports(outputs_dir: Path, datasets: Sequence[str], page_dir: Path) -> list[DatasetReport]:
    """The content of the report on each data set; links are relative to `page_dir`."""
    runs = {dataset: read_models(outputs_dir, dataset) for dataset in datasets}
    faces_each = cell_faces(model for found in runs.values() for model in found.models if model.results)
    plot_bytes = PICTURE_BYTES // len(runs)
    return [
        make_report(outputs_dir, dataset, found, page_dir, faces_each, plot_bytes) for dataset, found in runs.items()
    ]


def make_report(
    outputs_dir: Path, dataset: str, found: SavedRuns, page_dir: Path, faces_each: int, plot_bytes: int
) -> DatasetReport:
    """The content of the page on one data set; `faces_each`: thumbnails of a cell of the confusion matrix at most."""
    store, models, left_out = FaceStore(outputs_dir, dataset), found.models, [*found.left_out]
    predictions = {model.run.name: read_run_predictions(model, left_out) for model in models}
    gallery = build_gallery(models, store, page_dir, left_out)
    evaluated = [model for model in models if model.results]
    cells = {model.run.name: confusion_cells(model, predictions[model.run.name], faces_each) for model in evaluated}
    errors = {model.run.name: worst_errors(model) for model in evaluated}
    sheet = make_sheet(store, wanted_faces(evaluated, cells, errors, gallery))
    charts = {model.run.name: model_charts(model, predictions[model.run.name]) for model in models}
    left = {model.run.name: plots_to_embed(model, charts[model.run.name], sheet) for model in models}
    looks = {model.run.name: mean_maps(model) for model in models if model.scores}
    plots = [path for paths in left.values() for path in paths.values()]
    tests = [path for model in models for kind in model.clever_hans for path in test_pictures(model, kind)]
    audited, sheets = find_audit(outputs_dir, dataset, left_out), audit_pictures(outputs_dir, dataset)
    shown_sheets = sheets.values() if audited else ()
    pictures = embed_pictures([*plots, *looks.values(), *tests, *shown_sheets], plot_bytes, left_out)
    audit = make_audit_section(audited, sheets, pictures, models, page_dir)
    methods = shown_methods(models)
    comparisons = read_comparisons(outputs_dir, dataset, models, page_dir, left_out)
    return DatasetReport(
        dataset=dataset,
        outputs_dir=outputs_dir,
        models=models,
        details={
            model.run.name: Details(
                cells=cells.get(model.run.name),
                errors=errors.get(model.run.name, []),
                charts=charts[model.run.name],
                plots={kind: pictures[path] for kind, path in left[model.run.name].items() if path in pictures},
                links=plot_links(model, page_dir),
            )
            for model in models
        },
        gallery=gallery,
        sheet=sheet,
        methods=methods,
        missing=find_missing(models, methods),
        caveats=[*find_caveats(models, dataset), *data_caveats(audit)] if evaluated else [],
        left_out=left_out,
        looks=[
            Look(model, pictures[path], link(path, page_dir))
            for model in models
            if (path := looks.get(model.run.name)) in pictures
        ],
        comparisons=comparisons,
        shortcuts=[test for model in models for test in make_tests(model, pictures)],
        audit=audit,
    )


def data_caveats(audit: AuditSection | None) -> list[str]:
    """Sentences on what the audit says invalidates results, where it is of the data that the runs used."""
    return [f"The data: {text}." for text in audit.errors] if audit and audit.is_current else []


def mean_maps(model: ModelReport) -> Path:
    """The picture that score_explanations.py draws of the faces predicted right."""
    return model.run.explanations("scores") / "mean_maps.png"


def wanted_faces(
    models: Iterable[ModelReport],
    cells: dict[str, list[list[Cell]]],
    errors: dict[str, list[dict[str, Any]]],
    gallery: Iterable[Card],
) -> Iterator[tuple[ModelReport, int, str]]:
    """Every face of which the page shows a thumbnail, some of them twice."""
    for card in gallery:
        yield card.answers[0].model, card.index, card.name
    for model in models:
        shown: list[Shown] = [face for row in cells[model.run.name] for cell in row for face in cell.faces]
        yield from ((model, face.index, face.name) for face in shown)
        yield from ((model, error["index"], error["name"]) for error in errors[model.run.name])


# ── plots ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def plots_to_embed(model: ModelReport, charts: dict[str, tuple[Chart, ...]], sheet: Sheet | None) -> dict[str, Path]:
    """Kind → file of the plots that nothing else on the page shows."""
    shown = set(charts)
    if model.results:
        shown |= {"confusion_matrix", "class_scores"}
    if sheet:
        shown.add("confident_errors")
    return {kind: path for kind, path in find_plots(model).items() if kind not in shown}


def plot_links(model: ModelReport, page_dir: Path) -> dict[str, str]:
    """Kind → address of the plots that are there."""
    found = {kind: link(path, page_dir) for kind, path in find_plots(model).items()}
    return {kind: address for kind, address in found.items() if address}


def find_plots(model: ModelReport) -> dict[str, Path]:
    """Kind → file of the plots that are there and of the results, or the training, on the page.

    Pictures name no checkpoint: where the figures that they show are left out, or are gone, so are they.
    """
    paths = {kind: model.run.plot(kind) for kind, plot in PLOTS.items() if drawn_from(model, plot)}
    return {kind: path for kind, path in paths.items() if path.exists()}


def drawn_from(model: ModelReport, plot: Plot) -> dict[str, Any]:
    """The content of the file that a plot shows; empty where that is missing or left out."""
    return model.history if plot.script == "train.py" else model.results


# ── what is missing ──────────────────────────────────────────────────────────────────────────────────────────────────


def find_missing(models: Iterable[ModelReport], methods: dict[str, Method]) -> list[Missing]:
    """The stages of each run that are missing, one row per command."""
    return [
        Missing(model, script, tuple(files))
        for model in models
        for script, files in missing_files(model, methods).items()
    ]


def lacking_methods(model: ModelReport, methods: dict[str, Method]) -> list[str]:
    """Titles of the methods that are expected of every run and that this one was not explained with."""
    return [method.title for name, method in methods.items() if method.expected and not model.explanations[name]]


def missing_files(model: ModelReport, methods: dict[str, Method]) -> dict[str, list[str]]:
    """script → the files of this run that it has not written; an ensemble is written whole, and a checkpoint from
    elsewhere was not trained here.
    """
    if model.is_ensemble:
        return {}
    plots, there = {kind: plot for kind, plot in PLOTS.items() if plot.expected}, find_plots(model)
    expected = [
        ("train.py", "history", model.history),
        ("evaluate.py", "results", model.results),
        *((plot.script, plot.title, kind in there) for kind, plot in plots.items()),
        *((method.script, f"{method.title} explanations", model.explanations[key]) for key, method in methods.items()),
    ]
    missing: dict[str, list[str]] = {}
    for script, what, found in expected:
        if not found and not (script == "train.py" and model.outside_checkpoint):
            missing.setdefault(script, []).append(what)
    return missing
