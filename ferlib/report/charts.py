"""The curves of the report as points between 0 and 1, which templates/report/charts.html draws as SVG."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import precision_recall_curve, roc_auc_score, roc_curve

from config import EMOTIONS
from ferlib.evaluation.intervals import bin_interval
from ferlib.evaluation.predictions import SavedPredictions
from ferlib.evaluation.saved_runs import ModelReport
from ferlib.figures.gpus import Record, read_log
from ferlib.report.words import percent
from ferlib.runtime.runs import Run

POINTS = 90  # of a curve at most: finer than a screen shows
FEW = 10  # faces of a bin below which its dot is faint
TRAIN, VAL, BAND, AS_TRAINED = 8, 7, 9, 10  # rows of the palette that are no class
COLORS = (5, 0, 1, 3, 2, 6, 4)  # the same, for lines that are no class


@dataclass(frozen=True)
class Axis:
    """From `low` to `high`, with a line and a label at some values."""

    label: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]  # value, text

    def place(self, value: float) -> float:
        """Where a value lies, 0 to 1."""
        return round((float(value) - self.low) / ((self.high - self.low) or 1), 4)


@dataclass(frozen=True)
class Line:
    """A curve."""

    name: str
    color: int  # a row of the palette, which sets the dashes too
    points: tuple[tuple[float, float], ...]  # values on the axes
    note: str = ""  # beside its name


@dataclass(frozen=True)
class Dot:
    """A measured value with its interval."""

    x: float
    y: float
    low: float
    high: float
    faint: bool
    text: str
    before: bool = False  # of the network without its temperature, where the chart shows both


@dataclass(frozen=True)
class Chart:
    """Lines or dots over two axes."""

    title: str
    description: str
    x: Axis
    y: Axis
    lines: tuple[Line, ...] = ()
    dots: tuple[Dot, ...] = ()
    bars: tuple[tuple[float, float, float], ...] = ()  # from, to, height 0..1; in a strip below
    bars_label: str = ""
    diagonal: bool = False
    mark: tuple[float, str] | None = None  # a value on the x axis, and its name
    both: bool = False  # whether dots are shown without and with the temperature
    square: bool = False


def model_charts(model: ModelReport, predictions: SavedPredictions | None) -> dict[str, tuple[Chart, ...]]:
    """Kind of plot (plots.PLOTS) → the charts that show the same; kinds without numbers are left out."""
    charts: dict[str, tuple[Chart, ...]] = {}
    if model.history and model.history["epochs"]:
        charts["training_curves"] = training_charts(model.history)
    if predictions:
        charts["roc_curves"] = (roc_chart(predictions, model.results["per_class"]),)
        charts["precision_recall"] = (precision_recall_chart(predictions),)
    if model.results:
        calibrated = model.results.get("calibrated")
        charts["reliability"] = (reliability_chart(model.results["calibration"], calibrated),)
        if calibrated:
            charts["confidence"] = (selective_chart(calibrated["selective"]["curve"]),)
    temperature = temperature_chart(read_gpu_logs(model.run))
    if temperature:
        charts["gpu_temperature"] = (temperature,)
    return charts


def shares(label: str) -> Axis:
    """An axis from 0 to 100 %."""
    return Axis(label, 0, 1, tuple((value / 4, f"{25 * value}") for value in range(5)))


def fitting(label: str, values: Iterable[float], whole: bool = False) -> Axis:
    """An axis with round numbers around all values."""
    values = [value for value in values if np.isfinite(value)] or [0, 1]
    ticks = MaxNLocator(5, integer=whole, min_n_ticks=1).tick_values(min(values), max(values))
    if whole:
        ticks = [tick for tick in ticks if min(values) <= tick <= max(values)] or [min(values)]
        return Axis(label, min(values), max(values), tuple((float(tick), f"{tick:g}") for tick in ticks))
    return Axis(label, float(ticks[0]), float(ticks[-1]), tuple((float(tick), f"{tick:g}") for tick in ticks))


def simplify(*columns: np.ndarray) -> tuple[tuple[float, float], ...]:
    """At most POINTS points of a curve, evenly along its length, its ends among them."""
    points = np.stack(columns, axis=1)
    if len(points) > POINTS:
        length = np.concatenate([[0], np.cumsum(np.abs(np.diff(points, axis=0)).sum(1))])
        points = points[np.unique(np.searchsorted(length, np.linspace(0, length[-1], POINTS)))]
    return tuple((round(float(x), 4), round(float(y), 4)) for x, y in points)


# ── training ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def training_charts(history: dict[str, Any]) -> tuple[Chart, ...]:
    """Accuracy and loss of train and val by epoch, the kept epoch marked; on val also the loss as trained, if known."""
    epochs = history["epochs"]
    across = fitting("Epoch", [row["epoch"] for row in epochs], whole=True)
    mark = (history["best_epoch"], "kept")
    charts = []
    for kind, axis in (("accuracy", shares("Accuracy, %")), ("loss", None)):
        named = [("Training split", f"train_{kind}", TRAIN, ""), ("Validation split", f"val_{kind}", VAL, "")]
        if kind == "loss":
            named.append(("Validation split, as trained", "val_objective", AS_TRAINED, "class weights, smoothing"))
        lines = tuple(
            Line(name, color, tuple((row["epoch"], row[key]) for row in epochs), note)
            for name, key, color, note in named
            if all(row.get(key) is not None for row in epochs)
        )
        values = [value for line in lines for _, value in line.points]
        words = f"{kind} after each epoch on the faces of the training and the validation split"
        charts.append(Chart(f"Training: {kind}", words, across, axis or fitting("Loss", values), lines, mark=mark))
    return tuple(charts)


# ── test faces ───────────────────────────────────────────────────────────────────────────────────────────────────────


def roc_chart(predictions: SavedPredictions, per_class: Sequence[dict[str, Any]]) -> Chart:
    """ROC curve of every class that occurs, against the rest; per_class: as in the results, for the intervals."""
    lines = []
    for code, is_class, scores in one_against_rest(predictions):
        false_alarms, found, _ = roc_curve(is_class, scores)
        ends = per_class[code]["intervals"]["auc"]
        area = f"AUC {roc_auc_score(is_class, scores):.3f}" + (f" ({ends[0]:.3f} to {ends[1]:.3f})" if ends else "")
        lines.append(Line(EMOTIONS[code], code, simplify(false_alarms, found), area))
    words = "each class against the rest: the share of its faces that are found (up) by false alarms (right)"
    x, y = shares("False alarms, % of the other faces"), shares("Found, %")
    return Chart("ROC curves", words, x, y, tuple(lines), diagonal=True, square=True)


def precision_recall_chart(predictions: SavedPredictions) -> Chart:
    """Precision-recall curve of every class that occurs, against the rest."""
    lines = []
    for code, is_class, scores in one_against_rest(predictions):
        precision, recall, _ = precision_recall_curve(is_class, scores)
        area = f"AP {-np.sum(np.diff(recall) * precision[:-1]):.3f}"
        lines.append(Line(EMOTIONS[code], code, simplify(recall, precision), area))
    words = (
        "each class against the rest: the share of alarms that are right (up) by the share of its faces found (right)"
    )
    x, y = shares("Found (recall), %"), shares("Right alarms (precision), %")
    return Chart("Precision and recall", words, x, y, tuple(lines), square=True)


def one_against_rest(predictions: SavedPredictions) -> Iterable[tuple[int, np.ndarray, np.ndarray]]:
    """(class, bool N: is it this class, its probabilities N) for every class that is neither absent nor alone."""
    for code in range(len(EMOTIONS)):
        is_class = predictions.labels == code
        if 0 < is_class.sum() < len(is_class):
            yield code, is_class, predictions.probabilities[:, code]


def reliability_chart(calibration: dict[str, Any], calibrated: dict[str, Any] | None = None) -> Chart:
    """Accuracy by confidence, bin by bin, with Wilson's 95 % intervals, above the faces in each bin.

    calibrated: as in the results; where it is given, its bins are shown beside those of the network itself.
    """
    own, last = calibration["bins"], (calibrated["calibration"] if calibrated else calibration)["bins"]
    dots = [reliability_dot(row, before=True) for row in own if row["faces"]] if calibrated else []
    dots += [reliability_dot(row) for row in last if row["faces"]]
    filled = [row for row in last if row["faces"]]
    highest = max((row["faces"] for row in filled), default=1)
    words = "accuracy by confidence, with 95 % intervals; on the dashed line they are equal"
    return Chart(
        "Reliability",
        words,
        shares("Confidence: probability of the answer, %"),
        shares("Accuracy, %"),
        dots=tuple(dots),
        bars=tuple((row["low"], row["high"], round(row["faces"] / highest, 4)) for row in filled),
        bars_label=f"Faces by confidence{', with the temperature' if calibrated else ''}, up to {highest:,} in a bin",
        diagonal=True,
        square=True,
        both=bool(calibrated),
    )


def reliability_dot(row: dict[str, Any], before: bool = False) -> Dot:
    """A bin of the calibration with its interval; before: of the network without its temperature."""
    low, high = bin_interval(row)
    text = f"{row['faces']:,} faces: confidence {percent(row['confidence'])}, accuracy {percent(row['accuracy'])}"
    return Dot(row["confidence"], row["accuracy"], low, high, row["faces"] < FEW, text, before)


def selective_chart(curve: Sequence[dict[str, Any]]) -> Chart:
    """Accuracy on the share of the faces of which the network is surest."""
    points = tuple((row["coverage"], row["accuracy"]) for row in curve)
    ends = [tuple((row["coverage"], row["interval"][end]) for row in curve) for end in (0, 1)]
    lines = (Line("accuracy", VAL, points), *(Line("95 % interval", BAND, each) for each in ends[:1]))
    words = "accuracy on the faces that are kept, the surest first"
    x, y = shares("Faces kept, the surest first, %"), shares("Accuracy on them, %")
    return Chart("Only where it is sure", words, x, y, (*lines, Line("", BAND, ends[1])), square=True)


# ── temperature ──────────────────────────────────────────────────────────────────────────────────────────────────────


def read_gpu_logs(run: Run) -> list[Record]:
    """What the training logged of its GPUs, one record per process."""
    records = (read_log(log) for log in sorted(run.logs.glob("gpu*.csv")))
    return [record for record in records if record is not None]


def temperature_chart(records: Iterable[Record]) -> Chart | None:
    """Temperature of each GPU by minutes since the first reading; None for fewer than two readings."""
    records = [record for record in records if np.isfinite(record.temperatures).sum() > 1]
    if not records:
        return None
    start = min(record.times[0] for record in records)
    lines = []
    for place, record in enumerate(records):
        known = np.isfinite(record.temperatures)
        minutes, degrees = (record.times[known] - start) / 60, record.temperatures[known]
        note = f"at most {degrees.max():g} °C, mean {degrees.mean():.0f} °C"
        points = keep_highest(list(zip(minutes.tolist(), degrees.tolist(), strict=True)))
        lines.append(Line(record.name, COLORS[place % len(COLORS)], points, note))
    across = fitting("Minutes", [x for line in lines for x, _ in line.points])
    up = fitting("Temperature, °C", [y for line in lines for _, y in line.points])
    return Chart("GPU temperature", "temperature of the GPU while the model was trained", across, up, tuple(lines))


def keep_highest(points: Sequence[tuple[float, float]], count: int = 4 * POINTS) -> tuple[tuple[float, float], ...]:
    """About `count` points at most: of each group of neighbours the one with the highest y."""
    step = -(-len(points) // count)
    groups = (points[start : start + step] for start in range(0, len(points), step))
    return tuple((round(x, 3), y) for x, y in (max(group, key=lambda point: point[1]) for group in groups))
