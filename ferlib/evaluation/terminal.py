"""The results of a run in the form that a person reads at the terminal."""

from __future__ import annotations

from typing import Any

from ferlib.evaluation.error_analysis import in_words, test_in_words

HEADLINES = {  # figure → name and format
    "accuracy": ("accuracy", ".2%"),
    "macro_f1": ("macro F1", ".2%"),
    "weighted_f1": ("weighted F1", ".2%"),
    "mean_auc": ("mean AUC", ".3f"),
    "ece": ("ECE", ".2%"),
    "nll": ("log loss", ".3f"),
    "brier": ("Brier score", ".3f"),
}
COLUMNS = {"precision": ".1%", "recall": ".1%", "f1": ".1%", "auc": ".3f", "average_precision": ".3f"}


def summarize(results: dict[str, Any]) -> str:
    """Headline figures with their 95 % intervals, other views, the classes, the main confusions."""
    return "\n".join([*headline_lines(results), *view_lines(results), *class_lines(results), *error_lines(results)])


def headline_lines(results: dict[str, Any]) -> list[str]:
    """A line for each figure: on all faces and, where there are any, on those without a copy in train."""
    clean = results["without_training_copies"]
    columns = {f"{results['samples']:,} faces (95 % interval)": results}
    if clean and clean["samples"]:
        columns[f"{clean['samples']:,} faces without a copy in train"] = clean
    lines = [f"{'':<13}" + "".join(f"{title:<36}" for title in columns)]
    for name, (title, form) in HEADLINES.items():
        cells = [with_interval(column[name], column["intervals"].get(name), form) for column in columns.values()]
        lines.append(f"{title:<13}" + "".join(f"{cell:<36}" for cell in cells))
    return [line.rstrip() for line in lines]


def with_interval(value: float | None, ends: list[float] | None, form: str) -> str:
    return shown(value, form) + (f" ({ends[0]:{form}} to {ends[1]:{form}})" if ends else "")


def shown(value: float | None, form: str) -> str:
    return "n/a" if value is None else f"{value:{form}}"


def view_lines(results: dict[str, Any]) -> list[str]:
    return [
        f"{views:<13}{with_interval(other['accuracy'], other['interval'], '.2%')}"
        for views, other in results["other_views"].items()
    ]


def class_lines(results: dict[str, Any]) -> list[str]:
    """A table of the classes and their averages, as scikit-learn's classification report."""
    averages = [{"emotion": f"{kind} mean", **scores} for kind, scores in results["averages"].items()]
    lines = [f"{'':<15}{'precision':>10}{'recall':>10}{'F1':>10}{'AUC':>10}{'AP':>10}{'faces':>8}"]
    for row in [*results["per_class"], *averages]:
        cells = "".join(f"{shown(row[key], form) if key in row else '':>10}" for key, form in COLUMNS.items())
        lines.append(f"{row['emotion']:<15}{cells}{row.get('support', results['samples']):>8,}")
    return lines


def error_lines(results: dict[str, Any]) -> list[str]:
    """The main confusions as shares of the true class, the test of their pattern, the surest error."""
    confusions, surest = results["main_confusions"][:5], results["confident_errors"][:1]
    if not confusions:
        return ["no errors"]
    return [
        f"confused       {', '.join(map(in_words, confusions))}",
        f"pattern        {test_in_words(results['confusion_test']['errors'])}",
        *(
            f"surest error   face {error['index']} ({error['name']}): {error['true']} → {error['predicted']} "
            f"{error['probability']:.0%}"
            for error in surest
        ),
    ]
