"""Results as text for the terminal: of a run, of its folds, on other data sets, of an ensemble."""

from __future__ import annotations

from operator import itemgetter
from typing import Any

from ferlib.evaluation.agreement import CLAIMS, parts_of
from ferlib.evaluation.error_analysis import describe_pair, describe_test
from ferlib.evaluation.temperature import describe_direction
from ferlib.runtime.terminal import counted

HEADLINES = {  # figure → name and format
    "accuracy": ("accuracy", ".2%"),
    "macro_f1": ("macro F1", ".2%"),
    "weighted_f1": ("weighted F1", ".2%"),
    "balanced_accuracy": ("balanced", ".2%"),
    "top2_accuracy": ("top-2", ".2%"),
    "kappa": ("kappa", ".3f"),
    "mcc": ("MCC", ".3f"),
    "mean_auc": ("mean AUC", ".3f"),
    "ece": ("ECE", ".2%"),
    "ece_debiased": ("  less noise", ".2%"),
    "nll": ("log loss", ".3f"),
    "brier": ("Brier score", ".3f"),
}
PLAIN = ("ece",)  # shown without an interval, which is that of the figure below it
COLUMNS = {"precision": ".1%", "recall": ".1%", "f1": ".1%", "auc": ".3f", "average_precision": ".3f"}


def summarize(results: dict[str, Any]) -> str:
    """Headline figures with their 95 % intervals, other views, the classes, the main confusions."""
    parts = (
        headline_lines, seen_lines, leak_lines, contempt_lines, vote_lines, val_lines, calibrated_lines, view_lines,
        class_lines, error_lines,
    )  # fmt: skip
    return "\n".join(line for lines in parts for line in lines(results))


def headline_lines(results: dict[str, Any]) -> list[str]:
    """A line for each figure: on all faces and, where there are any, on those without a copy in train."""
    clean = results["without_training_copies"]
    columns = {f"{results['samples']:,} faces (95 % interval)": results}
    if clean and clean["samples"] and not results.get("exclude_leaks"):
        columns[f"{clean['samples']:,} faces without a copy in train"] = clean
    lines = [f"{'':<13}" + "".join(f"{title:<36}" for title in columns)]
    for name, (title, form) in HEADLINES.items():
        ends = [None if name in PLAIN else column["intervals"].get(name) for column in columns.values()]
        cells = [with_interval(column[name], end, form) for column, end in zip(columns.values(), ends, strict=True)]
        lines.append(f"{title:<13}" + "".join(f"{cell:<36}" for cell in cells))
    return [line.rstrip() for line in lines]


def seen_lines(results: dict[str, Any]) -> list[str]:
    """Of a network that was trained on another version or fold of the data set, that the figures may be too high."""
    if not results.get("may_have_seen"):
        return []
    return [
        f"{'caution':<13}trained on another version or fold of this set: faces of val or test may be training faces"
    ]


def leak_lines(results: dict[str, Any]) -> list[str]:
    """Of a training without leaks, that no figure comes from copies."""
    if not results.get("exclude_leaks"):
        return []
    return [f"{'copies':<13}none of these faces has a copy or near copy in train: --exclude-leaks left those out"]


def with_interval(value: float | None, ends: list[float] | None, form: str) -> str:
    """A figure, with its interval in brackets where there is one."""
    return shown(value, form) + (f" ({ends[0]:{form}} to {ends[1]:{form}})" if ends else "")


def shown(value: float | None, form: str) -> str:
    """A figure in a format of Python's, n/a where it is not defined."""
    return "n/a" if value is None else f"{value:{form}}"


def contempt_lines(results: dict[str, Any]) -> list[str]:
    """Of a set of eight classes, the accuracy with those of contempt, which this model cannot name."""
    found = results.get("with_contempt")
    if not found:
        return []
    return [
        f"{'8 classes':<13}{found['accuracy']:.2%} of {found['samples']:,} faces; the {found['contempt']} of contempt "
        "count as errors"
    ]


def vote_lines(results: dict[str, Any]) -> list[str]:
    """Where annotators' votes are known, how far the predictions agree with them, and the labels for comparison."""
    found = results.get("against_votes")
    if not found:
        return []
    cells = [
        f"{found['predictions'][name]:.2%} of {title} (the labels: {found['labels'][name]:.2%})"
        for name, title in (("one_annotator", "one annotator"), ("most_annotators", "most annotators"))
    ]
    lines = [f"{'agrees with':<13}{', '.join(cells)}; {found['faces']:,} faces with votes"]
    if "errors" not in found:  # results of an earlier version
        return lines
    errors, entropy = found["errors"], found["entropy"]
    parts = [
        f"{with_interval(part['accuracy'], part['interval'], '.1%')} {where} ({counted(part['faces'], 'face')})"
        for part, where in parts_of(found)
    ]
    kinds = [f"{errors[name] / max(1, errors['count']):.1%} {claim}" for name, claim in CLAIMS.items()]
    blank = f"{errors['label_without_votes'] / max(1, errors['count']):.1%}"
    after = (results.get("calibrated") or {}).get("against_votes")
    ece = f"ECE {found['calibration']['ece']:.1%}" + (f", then {after['calibration']['ece']:.1%}" if after else "")
    return [
        *lines,
        f"{'':<13}accuracy {', '.join(parts)}",
        f"{'':<13}of {counted(errors['count'], 'error')}: {', '.join(kinds)}; the label of {blank} has no vote",
        f"{'':<13}against the shares of the votes: {ece}; entropy {entropy['network']:.2f} nats, of people "
        f"{entropy['people']:.2f}, rank correlation {shown(entropy['rank_correlation'], '.2f')}",
    ]


def describe_ece(results: dict[str, Any]) -> str:
    """The expected calibration error of results: ECE 10.5%; less the part that noise adds 10.4% (9.2% to 11.8%)."""
    measured, debiased = results["ece"], results.get("ece_debiased")
    if debiased is None:  # of an earlier version, or of one subject
        return f"ECE {measured:.1%}"
    ends = results["intervals"].get("ece")
    return f"ECE {measured:.1%}; less the part that noise adds {with_interval(debiased, ends, '.1%')}"


def val_lines(results: dict[str, Any]) -> list[str]:
    """The accuracy on val, of the same views."""
    found = results.get("on_val")
    if not found:
        return []
    clean = ""
    if found["clean_accuracy"] is not None and found["clean_samples"] < found["samples"]:
        cell = with_interval(found["clean_accuracy"], found["clean_interval"], ".2%")
        clean = f"; {cell} of its {found['clean_samples']:,} faces without a copy in train"
    cell = with_interval(found["accuracy"], found["interval"], ".2%")
    return [f"{'on val':<13}{cell}, {found['samples']:,} faces, views: {found['views']}{clean}"]


def calibrated_lines(results: dict[str, Any]) -> list[str]:
    """What the temperature changes, and the prediction sets."""
    found = results.get("calibrated")
    if not found:
        return []
    before, after = results["calibration"], found["calibration"]
    sets, worst = (
        found["sets"],
        min(found["sets"]["per_class"], key=lambda row: 1 if row["coverage"] is None else row["coverage"]),
    )
    half = min(found["selective"]["curve"], key=lambda row: abs(row["coverage"] - 0.5))
    gaps = f"{describe_gap(results, before)}; with it {describe_gap(results, after)}"
    classwise = f"class-wise ECE {before['classwise_ece']:.1%}, then {after['classwise_ece']:.1%}"
    log_loss = f"log loss {results['nll']:.3f}, then {found['nll']:.3f}"
    brier = f"Brier score {results['brier']:.3f}, then {found['brier']:.3f}"
    covered = with_interval(sets["coverage"], sets["interval"], ".1%")
    least = f"{worst['emotion']} least, {shown(worst['coverage'], '.1%')}"
    sizes = f"{sets['mean_size']:.2f} classes on average, one in {sets['sizes'][0] / results['samples']:.0%}"
    to = "" if found["fitted_to"] == "labels" else "’s votes, whose shares its probabilities stand for"
    accurate = with_interval(half["accuracy"], half["interval"], ".1%")
    return [
        f"{'calibrated':<13}temperature {found['temperature']:.2f}, fitted on val{to}: without it {gaps}",
        f"{'':<13}{describe_ece(found)}; {classwise}",
        f"{'':<13}{log_loss}; {brier}",
        f"{'':<13}sets of {sets['level']:.0%} hold the label of {covered} ({least}); {sizes}",
        f"{'':<13}the surer half of the faces is right in {accurate}",
    ]


def describe_gap(results: dict[str, Any], calibration: dict[str, Any]) -> str:
    """Whether the mean confidence of a calibration is above or below the accuracy: too unsure by 10.0 points."""
    return describe_direction(calibration["mean_confidence"], results["accuracy"])


def view_lines(results: dict[str, Any]) -> list[str]:
    """A line for each other kind of views."""
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
        f"confused       {', '.join(map(describe_pair, confusions))}",
        f"pattern        {describe_test(results['confusion_test']['errors'])}",
        *(
            f"surest error   face {error['index']} ({error['name']}): {error['true']} → {error['predicted']} "
            f"{error['probability']:.0%}"
            for error in surest
        ),
    ]


def summarize_folds(results: dict[str, Any]) -> str:
    """The results of all folds together, and the accuracy of each."""
    folds = ", ".join(f"{fold['accuracy']:.1%}" for fold in results["folds"])
    mean, sd = results["mean"]["accuracy"], results["sd"]["accuracy"]
    return f"{summarize(results)}\nby fold: {folds}; mean {mean:.2%} ± {sd:.2%} (standard deviation over folds)"


def summarize_elsewhere(results: dict[str, Any]) -> str:
    """The results of a run on another data set."""
    low, high = results["intervals"]["accuracy"]
    lines = [
        f"{results['run']['model']} trained on {results['run']['dataset']}, on {results['on']}: accuracy "
        f"{results['accuracy']:.2%} ({results['samples']:,} faces, 95 % interval {low:.2%} to {high:.2%}), macro F1 "
        f"{results['macro_f1']:.2%}"
    ]
    clean = results["without_training_copies"]
    if clean is None:
        lines.append("  whether faces of the run's own training set are among them is not known")
    if clean and clean["samples"] < results["samples"]:
        copies = results["samples"] - clean["samples"]
        accuracy = shown(clean["accuracy"], ".2%")
        lines.append(
            f"  {copies:,} of these faces are in the run's own training set; accuracy without them: {accuracy}"
        )
    if results["left_out"]:
        lines.append(f"  the set has no {', '.join(results['left_out'])}: the model chose among the other classes")
    return "\n".join(lines)


# ── ensembles ────────────────────────────────────────────────────────────────────────────────────────────────────────


def summarize_members(comparison: dict[str, Any]) -> str:
    """Members and methods of an ensemble (ensembles.compare), the best members first."""
    best = comparison["best_member"]
    width = 2 + max(len(row.get("title", row["name"])) for row in comparison["members"] + comparison["methods"])
    lines = [f"{'member':<{width}}{'val':>8}{'test':>8}   95 % interval"]
    for row in sorted(comparison["members"], key=itemgetter("val_accuracy"), reverse=True):
        lines.append(f"{row['name']:<{width}}{accuracy_cells(row)}" + ("   best on val" if row["name"] == best else ""))
    lines.append(f"\n{'method':<{width}}{'val':>8}{'test':>8}   95 % interval    points against {best}")
    for row in comparison["methods"]:
        low, high = (100 * end for end in row["gain"]["interval"])
        gain = f"{100 * row['gain']['gain']:+.2f} ({low:+.2f} to {high:+.2f}), p {row['gain']['p']:.2g}"
        chosen = "   chosen" if row["name"] == comparison["chosen"] else ""
        lines.append(f"{row['title']:<{width}}{accuracy_cells(row)}   {gain}{chosen}")
    weights = ", ".join(f"{name} {weight:.2f}" for name, weight in comparison["weights"].items() if weight >= 0.005)
    lines.append(f"\nweights: {weights}\nat least one member is right: {comparison['any_right']:.2%} of the test faces")
    return "\n".join(lines)


def accuracy_cells(row: dict[str, Any]) -> str:
    """Accuracy on val and test, and the interval on test."""
    low, high = row["interval"]
    return f"{row['val_accuracy']:>8.2%}{row['accuracy']:>8.2%}   {low:.1%} to {high:.1%}"
