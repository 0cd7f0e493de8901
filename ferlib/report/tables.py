"""The report's tables as data frames, and as Markdown, CSV and LaTeX for a thesis."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from ferlib.evaluation.saved_runs import CrossTable, ModelReport
from ferlib.evaluation.terminal import HEADLINES
from ferlib.explanations.methods import METHODS
from ferlib.explanations.specs import ERRORS
from ferlib.runtime.files import atomic_path


def models_table(models: Iterable[ModelReport]) -> pd.DataFrame:
    """A row for every evaluated run: headline figures as fractions, with the ends of their 95 % intervals."""
    rows = []
    for model in (model for model in models if model.results):
        results = model.results
        row: dict[str, Any] = {"model": model.label, "test_faces": results["samples"]}
        for name in HEADLINES:
            low, high = results["intervals"].get(name) or (None, None)
            row |= {name: results.get(name), f"{name}_low": low, f"{name}_high": high}
        clean = {} if model.exclude_leaks else results["without_training_copies"] or {}
        row |= {"clean_faces": clean.get("samples"), "clean_accuracy": clean.get("accuracy")}
        row |= {"exclude_leaks": model.exclude_leaks}
        row |= {"views": results["views"], "parameters": results["parameters"]}
        row |= {"images_per_second": results["images_per_second"]}
        rows.append(row)
    return pd.DataFrame(rows)


def classes_table(models: Iterable[ModelReport]) -> pd.DataFrame:
    """A row for every evaluated run and class: scores as fractions, with the ends of F1's 95 % interval."""
    rows = []
    for model in (model for model in models if model.results):
        for scores in model.results["per_class"]:
            low, high = scores["intervals"]["f1"] or (None, None)
            shown = {name: scores[name] for name in ("precision", "recall", "f1", "auc", "average_precision")}
            row = {"model": model.label, "class": scores["emotion"], "test_faces": scores["support"], **shown}
            rows.append(row | {"f1_low": low, "f1_high": high})
    return pd.DataFrame(rows)


def confusion_table(models: Iterable[ModelReport]) -> pd.DataFrame:
    """A row for every evaluated run, true and predicted class: how many faces, and their share of the true class."""
    rows = []
    for model in (model for model in models if model.results):
        names = [scores["emotion"] for scores in model.results["per_class"]]
        for true, counts in zip(names, model.results["confusion_matrix"], strict=True):
            for predicted, faces in zip(names, counts, strict=True):
                share = faces / sum(counts) if sum(counts) else None
                rows.append(
                    {"model": model.label, "true": true, "predicted": predicted, "faces": faces, "share": share}
                )
    return pd.DataFrame(rows)


def explanations_table(models: Iterable[ModelReport]) -> pd.DataFrame:
    """A row for every run and method: number of faces, seconds for each, and the means of the method's facts."""
    rows = []
    for model in models:
        for name, summary in model.explanations.items():
            if summary:
                row = {"model": model.label, "method": name, "faces": len(summary["faces"]), "seed": summary["seed"]}
                rows.append(row | {"seconds_per_face": summary["seconds_per_face"]} | mean_facts(name, summary))
    return pd.DataFrame(rows)


def mean_facts(method: str, summary: dict[str, Any]) -> dict[str, float]:
    """The means over the faces of the method's facts, such as R², those of errors without their signs."""
    facts = pd.DataFrame(summary["faces"]).select_dtypes("number")
    means = {}
    for name in METHODS[method].facts:
        if name in ERRORS & set(facts):
            means[f"mean_abs_{name}"] = float(facts[name].abs().mean())
        elif name in facts:
            means[f"mean_{name}"] = float(facts[name].mean())
    return means


def scores_table(models: Iterable[ModelReport]) -> pd.DataFrame:
    """A row for every run, method and score of its explanations: the mean over faces, its 95 % interval, its rank."""
    rows = []
    for model in models:
        for name, cells in model.scores.get("table", {}).items():
            for column, cell in cells.items():
                row = {"model": model.label, "method": name, "score": column, "faces": cell["faces"]}
                rows.append(row | {key: cell[key] for key in ("mean", "low", "high", "rank", "beats_simple")})
    return pd.DataFrame(rows)


def shares_table(models: Iterable[ModelReport]) -> pd.DataFrame:
    """A row for every run, method, group of faces and region: its mean share of the evidence, with the interval."""
    rows = []
    for model in models:
        for name, groups in model.scores.get("region_shares", {}).items():
            for group, shares in groups.items():
                emotion, _, outcome = group.rpartition("_")
                row = {"model": model.label, "method": name, "explained": emotion, "outcome": outcome}
                row |= {"faces": shares["faces"]}
                cells = {region: cell for region, cell in shares.items() if region != "faces"}
                rows += [
                    row
                    | {"region": region, "share": cell["mean"], "share_low": cell["low"], "share_high": cell["high"]}
                    for region, cell in cells.items()
                ]
    return pd.DataFrame(rows)


def strongest_regions(table: pd.DataFrame) -> pd.DataFrame:
    """Of the shares by exact values (or the first method) of faces predicted right: the three largest of each class."""
    right = table[table["outcome"] == "right"]
    methods = right["method"].unique()
    chosen = right[right["method"] == ("regions" if "regions" in methods else methods[0])] if len(methods) else right
    largest = chosen.sort_values("share", ascending=False).groupby(["model", "explained"], sort=False).head(3)
    return largest.sort_values(["model", "explained", "share"], ascending=[True, True, False])


def cross_table(cross: CrossTable | None) -> pd.DataFrame:
    """A row for every run and data set that it was scored on: accuracy, with the ends of its 95 % interval."""
    rows = []
    for run, cells in cross.rows if cross else ():
        for dataset, results in cells.items():
            low, high = results["intervals"]["accuracy"]
            row = {"run": run.name, "trained_on": run.dataset, "tested_on": dataset, "views": results["views"]}
            row |= {"test_faces": results["samples"]}
            rows.append(row | {"accuracy": results["accuracy"], "accuracy_low": low, "accuracy_high": high})
    return pd.DataFrame(rows)


OF_MODELS: dict[str, Callable[[list[ModelReport]], pd.DataFrame]] = {
    "models": models_table,
    "classes": classes_table,
    "confusion": confusion_table,
    "explanations": explanations_table,
    "explanation_scores": scores_table,
    "region_shares": shares_table,
}
TABLES = (*OF_MODELS, "other_data_sets")


def all_tables(models: list[ModelReport], cross: CrossTable | None) -> dict[str, pd.DataFrame]:
    """Every table that has rows, by its name in TABLES."""
    tables = {name: make(models) for name, make in OF_MODELS.items()} | {"other_data_sets": cross_table(cross)}
    return {name: table for name, table in tables.items() if len(table)}


# ── for people ───────────────────────────────────────────────────────────────────────────────────────────────────────


def percent_with_interval(row: pd.Series, name: str) -> str:
    """70.1 (68.6 to 71.6), in percent."""
    if pd.isna(row[name]):
        return "–"
    shown = f"{100 * row[name]:.1f}"
    low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
    return shown if pd.isna(low) else f"{shown} ({100 * low:.1f} to {100 * high:.1f})"


def plain_percent(name: str) -> Callable[[pd.Series], str]:
    """A cell of a column of fractions: 70.1."""
    return lambda row: "–" if pd.isna(row[name]) else f"{100 * row[name]:.1f}"


def interval(name: str) -> Callable[[pd.Series], str]:
    """A cell of a column of fractions with their intervals."""
    return lambda row: percent_with_interval(row, name)


def decimals(name: str, digits: int) -> Callable[[pd.Series], str]:
    """A cell of a column of numbers with so many decimals."""
    return lambda row: "–" if pd.isna(row[name]) else f"{row[name]:,.{digits}f}"


def rank(row: pd.Series) -> str:
    """The cell of a rank: 2, or 1.5 where two share ranks."""
    return "–" if pd.isna(row["rank"]) else f"{row['rank']:g}"


def with_ends(name: str, low: str, high: str) -> Callable[[pd.Series], str]:
    """A cell of a column of numbers with their intervals: 0.41 (0.35 to 0.47)."""

    def show(row: pd.Series) -> str:
        ends = "" if pd.isna(row[low]) else f" ({row[low]:.2f} to {row[high]:.2f})"
        return f"{row[name]:.2f}{ends}"

    return show


def clean_percent(row: pd.Series) -> str:
    """The accuracy on the faces without a copy in train, where some may have one."""
    return "none in training" if row["exclude_leaks"] else plain_percent("clean_accuracy")(row)


READABLE = {  # table → its caption and the columns that people read
    "models": (
        "Models on the test split, in percent with 95 % intervals",
        {
            "Model": lambda row: row["model"],
            "Accuracy": interval("accuracy"),
            "Without training copies": clean_percent,
            "Macro F1": interval("macro_f1"),
            "Mean AUC": decimals("mean_auc", 3),
            "ECE": plain_percent("ece"),
            "Parameters (millions)": lambda row: f"{row['parameters'] / 1e6:.2f}",
        },
    ),
    "classes": (
        "Scores by class, in percent",
        {
            "Model": lambda row: row["model"],
            "Class": lambda row: row["class"],
            "Precision": plain_percent("precision"),
            "Recall": plain_percent("recall"),
            "F1": interval("f1"),
            "AUC": decimals("auc", 3),
            "Faces": decimals("test_faces", 0),
        },
    ),
    "explanations": (
        "Explanations",
        {
            "Model": lambda row: row["model"],
            "Method": lambda row: row["method"],
            "Faces": decimals("faces", 0),
            "Seconds per face": decimals("seconds_per_face", 2),
        },
    ),
    "explanation_scores": (
        "Scores of explanations: means over faces with 95 % intervals, and ranks",
        {
            "Model": lambda row: row["model"],
            "Method": lambda row: row["method"],
            "Score": lambda row: row["score"],
            "Mean": with_ends("mean", "low", "high"),
            "Rank": rank,
            "Faces": decimals("faces", 0),
        },
    ),
    "region_shares": (
        "Where the evidence lies in faces predicted right: the three largest regions, in percent with 95 % intervals",
        {
            "Model": lambda row: row["model"],
            "Explained": lambda row: row["explained"],
            "Region": lambda row: row["region"],
            "Share": interval("share"),
            "Faces": decimals("faces", 0),
        },
    ),
    "other_data_sets": (
        "Accuracy on other data sets, in percent with 95 % intervals",
        {
            "Run": lambda row: row["run"],
            "Trained on": lambda row: row["trained_on"],
            "Tested on": lambda row: row["tested_on"],
            "Views": lambda row: row["views"],
            "Accuracy": interval("accuracy"),
            "Faces": decimals("test_faces", 0),
        },
    ),
}


def readable(name: str, table: pd.DataFrame) -> pd.DataFrame:
    """A table as people read it, every cell a string."""
    _, columns = READABLE[name]
    if name == "region_shares":
        table = strongest_regions(table)
    return pd.DataFrame({title: [cell(row) for _, row in table.iterrows()] for title, cell in columns.items()})


def confusion_matrix(model: ModelReport) -> pd.DataFrame:
    """Counts 7×7 of one run, true classes in rows."""
    names = [scores["emotion"] for scores in model.results["per_class"]]
    return pd.DataFrame(model.results["confusion_matrix"], index=names, columns=names)


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Writes a table whole or not at all."""
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False)


def to_latex(tables: dict[str, pd.DataFrame], best: ModelReport | None, name: str) -> str:
    """The readable tables for LaTeX, with the rules of booktabs, each with a caption and a label."""
    parts = ["% \\usepackage{booktabs}"]
    for key in (key for key in READABLE if key in tables):
        shown = readable(key, tables[key])
        words = sum(shown[column].str.fullmatch(r"[\d.,]+( \(.*\))?|–").mean() < 0.5 for column in shown)
        layout = "l" * words + "r" * (len(shown.columns) - words)
        parts.append(latex_table(shown, layout, READABLE[key][0], f"tab:{label(name)}-{label(key)}", index=False))
    if best:
        matrix = confusion_matrix(best)
        caption = f"Confusion matrix of {best.label}: faces of the test split, true classes in rows"
        parts.append(latex_table(matrix, "l" + "r" * len(matrix), caption, f"tab:{label(name)}-confusion", index=True))
    return "\n".join(parts)


def latex_table(table: pd.DataFrame, layout: str, caption: str, name: str, index: bool) -> str:
    """A table environment; layout: its columns, such as lrr; name: its label."""
    escaped = escape_latex(caption)
    return table.to_latex(index=index, escape=True, column_format=layout, caption=escaped, label=name, position="htbp")


def escape_latex(text: str) -> str:
    """Names from outside as LaTeX prints them."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return re.sub(r"[\\~^&%$#_{}]", lambda found: special.get(found[0], "\\" + found[0]), text)


def label(name: str) -> str:
    """A name fit for a LaTeX label."""
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")
