"""What the pictures of a run show, each in one sentence that serves as its title, worked out from the results."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ferlib.data.facts import dataset_facts
from ferlib.evaluation.temperature import describe_direction
from ferlib.runtime.runs import Run


def subject(run: Run, samples: int, views: str, split: str = "test", clean: int | None = None) -> str:
    """What a picture is about: fer_resnet (seed1) on FER2013 test, 3,589 faces (288 copied in train), views: flip.

    clean: how many of the faces have no copy in train; None where that is not known.
    """
    copies = f" ({samples - clean:,} copied in train)" if clean is not None and clean < samples else ""
    return f"{run_on(run)} {split}, {samples:,} faces{copies}, views: {views}"


def run_on(run: Run) -> str:
    """Model, tag, fold and data set: fer_resnet (seed1) on FER2013."""
    parts = [run.tag, run.fold and f"fold {run.fold}"]
    more = ", ".join(part for part in parts if part)
    return f"{run.model}{f' ({more})' if more else ''} on {dataset_facts(run.dataset).title}"


def extremes(per_class: list[dict[str, Any]], score: str) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """The classes with the highest and the lowest score among those that have faces; None if they are level."""
    known = [row for row in per_class if row["support"] and row.get(score) is not None]
    if not known:
        return None
    best, worst = (choose(known, key=lambda row: row[score]) for choose in (max, min))
    return (best, worst) if best[score] > worst[score] else None


SCORES = {  # score of a class → the sentence on the best and the worst class, and what is said where all are equal
    "recall": (
        "{best} is recognised most often ({high:.0%}), {worst} least ({low:.0%})",
        "True and predicted classes",
    ),
    "f1": ("F1 is highest for {best} ({high:.0%}), lowest for {worst} ({low:.0%})", "Scores class by class"),
    "auc": (
        "{best} is separated best from the rest (AUC {high:.2f}), {worst} worst ({low:.2f})",
        "Each class against the rest",
    ),
    "average_precision": (
        "{best} is found most precisely (AP {high:.2f}), {worst} least ({low:.2f})",
        "Each class against the rest",
    ),
}


def of_classes(per_class: list[dict[str, Any]], score: str) -> str:
    """The classes with the highest and the lowest of a score of SCORES, and its values."""
    sentence, level = SCORES[score]
    ends = extremes(per_class, score)
    if ends is None:
        return level
    best, worst = ends
    return sentence.format(best=best["emotion"], worst=worst["emotion"], high=best[score], low=worst[score])


def of_confusions(pairs: list[dict[str, Any]]) -> str:
    """The largest of `pairs` (error_analysis.main_confusions)."""
    if not pairs:
        return "No face is misclassified"
    worst = pairs[0]
    share = f"{worst['share']:.0%} ({worst['faces']:,} faces)"
    return f"The largest confusion: {share} of {worst['true']} are taken for {worst['predicted']}"


def of_calibration(calibration: dict[str, Any], after: dict[str, Any] | None = None) -> str:
    """By how many points the mean confidence misses the accuracy, and `after` the temperature; as in the results."""
    confidence, accuracy = mean_of(calibration, "confidence"), mean_of(calibration, "accuracy")
    words = describe_direction(confidence, accuracy)
    if after is None:
        return f"The network is {words}: confidence {confidence:.1%}, accuracy {accuracy:.1%}"
    scaled = mean_of(after, "confidence")
    return f"The network is {words}; after temperature scaling, {describe_direction(scaled, accuracy)}"


def mean_of(calibration: dict[str, Any], key: str) -> float:
    """The mean over the faces of a column of the bins."""
    rows = [row for row in calibration["bins"] if row["faces"]]
    return float(sum(row[key] * row["faces"] for row in rows) / sum(row["faces"] for row in rows))


def of_confidence(calibrated: dict[str, Any]) -> str:
    """The accuracy on the surer half, and how often sets hold the label; `calibrated` as in the results."""
    half = min(calibrated["selective"]["curve"], key=lambda row: abs(row["coverage"] - 0.5))
    sets = calibrated["sets"]
    return (
        f"The surer half is right in {half['accuracy']:.0%}; sets of {sets['mean_size']:.1f} classes hold the label of "
        f"{sets['coverage']:.0%}"
    )


def of_errors(errors: list[dict[str, Any]]) -> str:
    """The class that most of `errors` (error_analysis.confident_errors) are taken for."""
    if not errors:
        return "Every face is recognised"
    [(name, count)] = Counter(error["predicted"] for error in errors).most_common(1)
    return f"Most confident errors: {count} of {len(errors)} are taken for {name}"


def of_training(epochs: list[dict[str, Any]], best_epoch: int) -> str:
    """The accuracy of the best epoch; `epochs` as in the history."""
    accuracy = epochs[best_epoch - 1]["val_accuracy"]
    return f"{accuracy:.1%} on val in the best epoch, {best_epoch} of {len(epochs)}"


def of_votes(found: dict[str, Any], run: Run) -> str:
    """How often one annotator and the network give the label, and how often both say the same."""
    title = dataset_facts(run.dataset).title
    network = sum(row["recall"] * row["faces"] for row in found["per_class"] if row["faces"]) / found["faces"]
    return (
        f"One annotator gives the label of {found['labels']['one_annotator']:.0%} of {title}’s faces, the network of "
        f"{network:.0%}"
    )


def of_vote_errors(errors: dict[str, Any]) -> str:
    """How many of the errors people would make too."""
    agreed, alone = (errors[name] / errors["count"] for name in ("most", "none"))
    return f"Of {errors['count']:,} errors, most annotators agree with {agreed:.0%}, none with {alone:.0%}"
