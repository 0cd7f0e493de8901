"""The curves of the report as points between 0 and 1, which templates/report/charts.html draws as SVG."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator
from scipy.stats import binomtest
from sklearn.metrics import precision_recall_curve, roc_auc_score, roc_curve

from config import EMOTIONS
from ferlib.evaluation.saved_runs import ModelReport
from ferlib.report.faces import Predictions
from ferlib.report.words import percent
from ferlib.runtime.errors import UserError
from ferlib.runtime.runs import monitor_log

POINTS = 90  # of a curve at most: finer than a screen shows
FEW = 10  # faces of a bin that say little
TRAIN, VAL = 5, 0  # rows of the palette
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
    color: int  # a row of the palette, which also says how it is dashed
    points: tuple[tuple[float, float], ...]  # values on the axes
    note: str = ""  # beside its name


@dataclass(frozen=True)
class Dot:
    """A measured value with its interval; `diagonal`: how far it is from what it should be is drawn too."""

    x: float
    y: float
    low: float
    high: float
    faint: bool
    text: str


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
    mark: tuple[float, str] | None = None  # a value on the x axis, and what it is
    square: bool = False


def model_charts(model: ModelReport, predictions: Predictions | None) -> dict[str, tuple[Chart, ...]]:
    """Kind of plot (report.data.PLOTS) → the charts that show the same; kinds whose numbers are gone are left out."""
    charts = {}
    if model.history and model.history["epochs"]:
        charts["training_curves"] = training_charts(model.history)
    if predictions:
        charts["roc_curves"] = (roc_chart(predictions),)
        charts["precision_recall"] = (precision_recall_chart(predictions),)
    if model.results and model.results.get("calibration"):
        charts["reliability"] = (reliability_chart(model.results["calibration"]),)
    temperature = temperature_chart(training_readings(model))
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


def thin(*columns: np.ndarray) -> tuple[tuple[float, float], ...]:
    """At most POINTS points of a curve, evenly along its length, its ends among them."""
    points = np.stack(columns, axis=1)
    if len(points) > POINTS:
        length = np.concatenate([[0], np.cumsum(np.abs(np.diff(points, axis=0)).sum(1))])
        points = points[np.unique(np.searchsorted(length, np.linspace(0, length[-1], POINTS)))]
    return tuple((round(float(x), 4), round(float(y), 4)) for x, y in points)


# ── training ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def training_charts(history: dict[str, Any]) -> tuple[Chart, ...]:
    """Accuracy and loss of train and val by epoch, the kept epoch marked."""
    epochs = history["epochs"]
    across = fitting("Epoch", [row["epoch"] for row in epochs], whole=True)
    mark = (history["best_epoch"], "kept")
    charts = []
    for kind, axis in (("accuracy", shares("Accuracy, %")), ("loss", None)):
        named = (("Training split", "train", TRAIN), ("Validation split", "val", VAL))
        lines = tuple(
            Line(name, color, tuple((row["epoch"], row[f"{split}_{kind}"]) for row in epochs))
            for name, split, color in named
            if all(row.get(f"{split}_{kind}") is not None for row in epochs)
        )
        values = [value for line in lines for _, value in line.points]
        words = f"{kind} after each epoch on the faces of the training and the validation split"
        charts.append(Chart(f"Training: {kind}", words, across, axis or fitting("Loss", values), lines, mark=mark))
    return tuple(charts)


# ── test faces ───────────────────────────────────────────────────────────────────────────────────────────────────────


def roc_chart(predictions: Predictions) -> Chart:
    """ROC curve of every class that occurs, against the rest."""
    lines = []
    for code, is_class, scores in one_against_rest(predictions):
        false_alarms, found, _ = roc_curve(is_class, scores)
        area = f"AUC {roc_auc_score(is_class, scores):.3f}"
        lines.append(Line(EMOTIONS[code], code, thin(false_alarms, found), area))
    words = "each class against the rest: the share of its faces that are found (up) by false alarms (right)"
    x, y = shares("False alarms, % of the other faces"), shares("Found, %")
    return Chart("ROC curves", words, x, y, tuple(lines), diagonal=True, square=True)


def precision_recall_chart(predictions: Predictions) -> Chart:
    """Precision-recall curve of every class that occurs, against the rest."""
    lines = []
    for code, is_class, scores in one_against_rest(predictions):
        precision, recall, _ = precision_recall_curve(is_class, scores)
        area = f"AP {-np.sum(np.diff(recall) * precision[:-1]):.3f}"
        lines.append(Line(EMOTIONS[code], code, thin(recall, precision), area))
    words = (
        "each class against the rest: the share of alarms that are right (up) by the share of its faces found (right)"
    )
    x, y = shares("Found (recall), %"), shares("Right alarms (precision), %")
    return Chart("Precision and recall", words, x, y, tuple(lines), square=True)


def one_against_rest(predictions: Predictions) -> Iterable[tuple[int, np.ndarray, np.ndarray]]:
    """(class, bool N: is it this class, its probabilities N) for every class that is neither absent nor alone."""
    for code in range(len(EMOTIONS)):
        is_class = predictions.labels == code
        if 0 < is_class.sum() < len(is_class):
            yield code, is_class, predictions.probabilities[:, code]


def reliability_chart(calibration: dict[str, Any]) -> Chart:
    """Accuracy by confidence, bin by bin, with Wilson's 95 % intervals, above the faces in each bin."""
    bins = [row for row in calibration["bins"] if row["faces"]]
    highest = max((row["faces"] for row in bins), default=1)
    words = "accuracy by confidence, with 95 % intervals; on the dashed line the probabilities are true to their word"
    return Chart(
        "Reliability",
        words,
        shares("Confidence: probability of the answer, %"),
        shares("Accuracy, %"),
        dots=tuple(map(reliability_dot, bins)),
        bars=tuple((row["low"], row["high"], round(row["faces"] / highest, 4)) for row in bins),
        bars_label=f"Faces by confidence, up to {highest:,} in a bin",
        diagonal=True,
        square=True,
    )


def reliability_dot(row: dict[str, Any]) -> Dot:
    interval = binomtest(round(row["accuracy"] * row["faces"]), row["faces"]).proportion_ci(method="wilson")
    text = f"{row['faces']:,} faces: {percent(row['confidence'])} sure, {percent(row['accuracy'])} right"
    low, high = float(interval.low), float(interval.high)
    return Dot(row["confidence"], row["accuracy"], low, high, row["faces"] < FEW, text)


# ── temperature ──────────────────────────────────────────────────────────────────────────────────────────────────────


def read_temperatures(log: Path) -> dict[str, list[tuple[datetime, float]]]:
    """GPU → (time, degrees Celsius) of a log of monitor.py; empty where there is none. UserError for another file."""
    if not log.exists():
        return {}
    readings: dict[str, list[tuple[datetime, float]]] = {}
    with log.open(newline="", encoding="utf-8", errors="replace") as file:
        rows = csv.DictReader(file)
        if not {"time", "gpu", "temperature_c"} <= set(rows.fieldnames or ()):
            raise UserError(f"{log} is no log of monitor.py; move it elsewhere")
        for row in rows:
            reading = parse_reading(row)
            if reading:
                readings.setdefault(f"GPU {row['gpu']}", []).append(reading)
    return readings


def parse_reading(row: dict[str, str]) -> tuple[datetime, float] | None:
    """A row's time and temperature; None for a row without one, such as the last one of a log that is being written."""
    try:
        time = datetime.fromisoformat(row["time"])
        return (time if time.tzinfo else time.astimezone()), float(row["temperature_c"])
    except (TypeError, ValueError):
        return None


def training_readings(model: ModelReport) -> dict[str, list[tuple[datetime, float]]]:
    """What the training logged of its GPUs; where it logged nothing, what monitor.py did meanwhile."""
    logs = sorted(model.run.logs.glob("gpu*.csv"))
    if logs:
        found: dict[str, list[tuple[datetime, float]]] = {}
        for log in logs:
            for name, rows in read_temperatures(log).items():
                found.setdefault(name, []).extend(rows)
        return found
    if not model.history or not model.run.history.exists():
        return {}
    ended = datetime.fromtimestamp(model.run.history.stat().st_mtime).astimezone()  # written after every epoch
    started = ended - timedelta(minutes=model.history["minutes"])
    everything = read_temperatures(monitor_log(model.run.outputs_dir))
    return {name: [row for row in rows if started <= row[0] <= ended] for name, rows in everything.items()}


def temperature_chart(readings: dict[str, list[tuple[datetime, float]]]) -> Chart | None:
    """Temperature of each GPU by minutes since the first reading; None for fewer than two readings."""
    readings = {name: rows for name, rows in readings.items() if len(rows) > 1}
    if not readings:
        return None
    start = min(rows[0][0] for rows in readings.values())
    lines = []
    for number, (name, rows) in enumerate(sorted(readings.items())):
        points = [((time - start).total_seconds() / 60, degrees) for time, degrees in rows]
        degrees = [value for _, value in points]
        note = f"at most {max(degrees):g} °C, mean {np.mean(degrees):.0f} °C"
        lines.append(Line(name, COLORS[number % len(COLORS)], every(points), note))
    across = fitting("Minutes", [x for line in lines for x, _ in line.points])
    up = fitting("Temperature, °C", [y for line in lines for _, y in line.points])
    return Chart("GPU temperature", "temperature of the GPU while the model was trained", across, up, tuple(lines))


def every(points: Sequence[tuple[float, float]], count: int = 4 * POINTS) -> tuple[tuple[float, float], ...]:
    """At most about `count` points; of each group that falls away the hottest one stays."""
    step = -(-len(points) // count)
    groups = (points[start : start + step] for start in range(0, len(points), step))
    return tuple((round(x, 3), y) for x, y in (max(group, key=lambda point: point[1]) for group in groups))
