"""Pictures of a comparison of runs: the matrix of pairs, common ROC and learning curves, faces on which two differ."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter
from sklearn.metrics import roc_curve

from config import EMOTIONS
from ferlib.data.face_data import FaceData
from ferlib.data.facts import dataset_facts
from ferlib.evaluation.comparison import make_contestants, matching_set, read_test
from ferlib.evaluation.paired import Contestant, describe_verdict, in_both_orders, in_points
from ferlib.evaluation.saved_runs import ModelReport
from ferlib.figures.lettering import wrap
from ferlib.figures.palette import DARK, MIDDLE, QUIET, RUNS
from ferlib.figures.style import LINES, PNG, WIDTH, Titles, entitle, saved_figure
from ferlib.runtime.runs import picture_beside

MOST_LINES = 7  # contestants in a picture of curves: as many as there are colours
FACES = 10  # of each kind in the picture of faces on which two differ


def draw_comparison(
    found: dict[str, Any],
    reports: Sequence[ModelReport],
    data: FaceData | None,
    beside: Path,
    formats: Sequence[str] = PNG,
) -> None:
    """Every picture of what comparison.compare_runs found on `reports`, beside the file of it.

    Faces only where `data` is at hand; of more than MOST_LINES contestants, curves are those of the first.
    """
    saved = [read_test(report) for report in reports]
    contestants, data = make_contestants(reports, saved), matching_set(data, saved[0])
    views = ", ".join(dict.fromkeys(row["views"] for row in found["contestants"]))
    subject = f"{dataset_facts(found['dataset']).title} test, {found['samples']:,} faces, views: {views}"

    def path(kind: str) -> Path:
        return picture_beside(beside, kind)

    plot_matrix(path("matrix"), found, (of_pairs(found["pairs"]), subject), formats)
    curves = f"{subject}{first_of(contestants)}"
    plot_common_roc(path("roc_curves"), contestants[:MOST_LINES], ("ROC curves of each class", curves), formats)
    plot_slices(path("slices"), found, (of_slices(found), subject), formats)
    trained = [row for row in found["runs"] if row["val_accuracy"]]
    if trained:
        learning = f"{dataset_facts(found['dataset']).title} val, views: single{first_of(trained)}"
        titles = ("Accuracy on val after each epoch", learning)
        plot_learning(path("learning_curves"), trained[:MOST_LINES], titles, formats)
    if data is not None and not found["left_out"]:
        row = found["pairs"][0]
        titles = (f"Faces that only one of {row['first']} and {row['second']} names correctly", subject)
        plot_differing(path("faces"), row, data.split("test").images, titles, formats)


def first_of(rows: Sequence[Any]) -> str:
    """The words that say that curves are those of the first rows alone; "" where all are shown."""
    return f"; the first {MOST_LINES} of {len(rows)}" if len(rows) > MOST_LINES else ""


# ── pairs ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def of_pairs(pairs: Sequence[dict[str, Any]]) -> str:
    """How many pairs differ, in one sentence."""
    told = sum(row["verdict"] in ("better", "worse") for row in pairs)
    equal = sum(row["verdict"] == "equal" for row in pairs)
    if len(pairs) == 1:
        return describe_verdict(pairs[0])
    rest = f", {equal} practically equal" if equal else ""
    return f"{told} of {len(pairs)} pairs differ{rest}; of the others the data cannot tell"


def plot_matrix(path: Path, found: dict[str, Any], titles: Titles, formats: Sequence[str] = PNG) -> None:
    """By how many points the contestant of a row is above that of a column, with the 95 % interval.

    Bold where Holm's p is below 0.05; "=" where the two are practically equal.
    """
    names = [row["name"] for row in found["contestants"]]
    gains, words, bold = np.full((len(names), len(names)), np.nan), {}, {}
    for row in in_both_orders(found["pairs"]):
        place = names.index(row["first"]), names.index(row["second"])
        gains[place], (low, high) = row["gain"], row["interval"]
        sign = "= " if row["verdict"] == "equal" else ""
        words[place] = f"{sign}{in_points(row['gain'])}\n{in_points(low)} to {in_points(high)}"
        bold[place] = row["verdict"] in ("better", "worse")
    widest = max(0.05, float(np.nanmax(np.abs(gains))))
    size = min(WIDTH, max(5, 2.4 + 0.95 * len(names)))
    with saved_figure(path, formats, figsize=(size, 2.1 + 0.5 * len(names))) as figure:
        axis = figure.subplots()
        image = axis.imshow(
            np.ma.masked_invalid(gains), cmap="PuOr_r", norm=TwoSlopeNorm(0, -widest, widest), aspect="auto"
        )
        axis.set_facecolor("#ededed")
        for place, text in words.items():
            brightness = np.dot(image.to_rgba(gains[place])[:3], (0.3, 0.59, 0.11))
            look: dict[str, Any] = {"color": "white" if brightness < 0.5 else "black", "fontsize": 8}
            axis.text(
                *place[::-1], text, ha="center", va="center", fontweight="bold" if bold[place] else "normal", **look
            )
        shown = [f"{number}  {name}" for number, name in enumerate(names, start=1)]
        axis.set_yticks(range(len(names)), shown)
        axis.set_xticks(range(len(names)), [str(number) for number in range(1, len(names) + 1)])
        axis.xaxis.tick_top()
        key = "Points of accuracy of the row above the column, and their 95 % interval; bold: Holm’s p below 0.05"
        figure.supxlabel(wrap(key, size - 0.4, 8), fontsize=8)
        axis.grid(False)
        axis.spines[:].set_visible(False)
        axis.tick_params(length=0)
        entitle(figure, *titles)


# ── curves ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def look_of(place: int) -> dict[str, Any]:
    """Colour and dashes of a contestant's lines."""
    return {"color": RUNS[place], "linestyle": LINES[place]}


def plot_common_roc(
    path: Path, contestants: Sequence[Contestant], titles: Titles, formats: Sequence[str] = PNG
) -> None:
    """A panel for each class, in which every contestant has a ROC curve; of several seeds, of their mean."""
    with saved_figure(path, formats, figsize=(WIDTH, 4.2)) as figure:
        panels = figure.subplots(2, 4, sharex=True, sharey=True).ravel()
        for code, panel in enumerate(panels[: len(EMOTIONS)]):
            panel.plot([0, 1], [0, 1], color=QUIET, linewidth=0.8, linestyle=":")
            for place, contestant in enumerate(contestants):
                positive = contestant.labels == code
                if 0 < positive.sum() < len(positive):
                    alarms, hits, _ = roc_curve(positive, contestant.probabilities.mean(0)[:, code])
                    panel.plot(alarms, hits, linewidth=1.2, **look_of(place))
            panel.set_title(EMOTIONS[code])
            panel.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
            for each in (panel.xaxis, panel.yaxis):
                each.set_major_formatter(PercentFormatter(1, decimals=0, symbol=""))
                each.set_ticks([0, 0.5, 1])
        panels[-1].set_axis_off()
        names = [wrap(contestant.name, 1.1, 8) for contestant in contestants]
        handles = [Line2D([], [], linewidth=1.2, **look_of(place)) for place in range(len(contestants))]
        panels[-1].legend(handles, names, loc="upper left", bbox_to_anchor=(-0.2, 1), borderaxespad=0)
        panels[3].xaxis.set_tick_params(labelbottom=True)
        figure.supxlabel("False alarms: share of the faces of other classes, %", fontsize=9)
        figure.supylabel("Found: share of the class’s faces, %", fontsize=9)
        entitle(figure, *titles)


def plot_learning(path: Path, runs: Sequence[dict[str, Any]], titles: Titles, formats: Sequence[str] = PNG) -> None:
    """Accuracy on val by epoch of every run, its highest marked; runs as in what compare_runs found."""
    with saved_figure(path, formats, figsize=(WIDTH, 3.3)) as figure:
        axis = figure.subplots()
        for place, row in enumerate(runs):
            epochs = np.arange(1, len(row["val_accuracy"]) + 1)
            best = int(np.argmax(row["val_accuracy"]))
            marker = "." if len(epochs) < 2 else ""
            axis.plot(epochs, row["val_accuracy"], marker=marker, label=row["name"], **look_of(place))
            axis.plot(best + 1, row["val_accuracy"][best], "o", color=look_of(place)["color"], markersize=4)
        axis.set(xlabel="Epoch", ylabel="Accuracy on val")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        figure.legend(loc="outside lower center", ncols=min(3, len(runs)))
        entitle(figure, *titles)


# ── slices ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def of_slices(found: dict[str, Any]) -> str:
    """The slice in which the first contestant is worst."""
    if not found["slices"]:
        return "Accuracy of each contestant"
    worst = min(found["slices"], key=lambda each: each["contestants"][0]["inside"]["accuracy"])
    row = worst["contestants"][0]
    inside, outside = row["inside"]["accuracy"], row["outside"]["accuracy"]
    return f"{row['name']} is right in {inside:.0%} of the faces “{worst['name']}”, in {outside:.0%} of the others"


def plot_slices(path: Path, found: dict[str, Any], titles: Titles, formats: Sequence[str] = PNG) -> None:
    """Accuracy of every contestant, published results and people, and below in each slice, with 95 % intervals."""
    rows: list[tuple[str, float, Sequence[float] | None, str]] = []
    for row in found["contestants"]:
        ends = row["intervals"].get("accuracy") or [
            row["accuracy"] - row["sd"]["accuracy"],
            row["accuracy"] + row["sd"]["accuracy"],
        ]
        rows.append((f"{row['name']}" + (" ± sd" if row["sd"] else ""), row["accuracy"], ends, DARK))
    rows += [(row["system"], row["accuracy"], row["interval"], QUIET) for row in found["published"]]
    if found["people"]:
        shares = found["people"]["labels"]
        rows += [("one annotator, of the labels", shares["one_annotator"], None, QUIET)]
        rows += [("most annotators, of the labels", shares["most_annotators"], None, QUIET)]
    groups = [("All faces", rows)]
    for each in found["slices"]:
        inside = [
            (row["name"], row["inside"]["accuracy"], row["inside"]["interval"], DARK) for row in each["contestants"]
        ]
        groups.append((f"{each['name']}, {each['faces']:,} faces", inside))
    lines = sum(len(group) + 1.3 for _, group in groups)
    with saved_figure(path, formats, figsize=(WIDTH, 1.3 + 0.19 * lines)) as figure:
        axis = figure.subplots()
        draw_groups(axis, groups)
        axis.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axis.set(xlabel="Accuracy on the test faces, 95 % interval")
        axis.margins(x=0.08, y=0.01)
        entitle(figure, *titles)


def draw_groups(axis: Axes, groups: Sequence[tuple[str, list[tuple[str, float, Sequence[float] | None, str]]]]) -> None:
    """Rows of (name, value, ends, colour) below the title of each group."""
    height, ticks, names = 0.0, [], []
    for title, rows in groups:
        axis.text(
            0,
            height,
            title,
            transform=axis.get_yaxis_transform(),
            va="center",
            fontsize=8,
            fontweight="bold",
            color=MIDDLE,
        )
        height += 1
        for name, value, ends, color in rows:
            if ends is not None:
                axis.plot(ends, [height, height], color=color, linewidth=1.3)
            axis.plot(value, height, "o" if color == DARK else "s", color=color, markersize=4)
            ticks.append(height)
            names.append(wrap(name, 3.0, 8).split("\n")[0] if len(name) > 46 else name)
            height += 1
        height += 0.3
    axis.set_yticks(ticks, names)
    axis.set_ylim(height, -1)
    axis.grid(False, axis="y")


# ── faces ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def plot_differing(
    path: Path, row: dict[str, Any], images: np.ndarray, titles: Titles, formats: Sequence[str] = PNG
) -> None:
    """The faces that only the first, and those that only the second of a pair names correctly, both sure of theirs.

    row: of comparison.compare_runs; images uint8 N×H×W×C.
    """
    kinds = (("only_first", row["first"], 1), ("only_second", row["second"], 0))
    with saved_figure(path, formats, figsize=(WIDTH, 6.4)) as figure:
        parts: Any = figure.subfigures(2, 1)
        for part, (key, name, wrong) in zip(parts, kinds, strict=True):
            shown = row["faces"][key]
            part.suptitle(f"Only {name}: {shown['count']:,} faces", fontsize=9, fontweight="normal")
            panels = part.subplots(2, FACES // 2).ravel()
            for panel in panels:
                panel.set_axis_off()
            for panel, face in zip(panels, shown["faces"], strict=False):
                panel.imshow(images[face["index"]].squeeze(), cmap="gray", vmin=0, vmax=255)
                shares = face["probability"][1 - wrong], face["probability"][wrong]
                label, other = EMOTIONS[face["true"]], EMOTIONS[face["predicted"][wrong]]
                panel.set_title(f"{label} {shares[0]:.0%}\nnot {other} {shares[1]:.0%}", fontsize=8)
        entitle(figure, *titles)
