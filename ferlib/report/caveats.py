"""Caveats: limits of the figures of a report, found in the files of its runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ferlib.data.facts import dataset_facts
from ferlib.evaluation.saved_runs import ModelReport, is_useful, majority
from ferlib.evaluation.scored_checkpoints import outside_checkpoint
from ferlib.report.words import percent
from ferlib.runtime.terminal import counted


def find_caveats(models: list[ModelReport], dataset: str) -> list[str]:
    """Reasons to read the figures with care, in plain sentences; `models` by falling accuracy, the best evaluated."""
    evaluated = [model for model in models if model.results]
    best = evaluated[0]
    found = [
        drawn_faces(dataset),
        chance_level(best),
        few_faces(best.results),
        close_race(best, evaluated[1:]),
        different_faces(evaluated),
        *(other_checkpoint(model) for model in evaluated),
        *(seen_faces(model) for model in evaluated),
        training_copies(best),
        averaged_views(evaluated),
        rare_classes(best.results),
        *(unfinished(model) for model in evaluated),
        *(bounded(model) for model in evaluated),
        extra_labels(evaluated),
        taught(evaluated),
        overfitted(evaluated),
    ]
    return [sentence for sentence in found if sentence]


def drawn_faces(dataset: str) -> str | None:
    """The synthetic data set."""
    if dataset_facts(dataset).places:
        return None
    return "The faces are drawn, not photographed: the figures show that the stages work, and nothing about real faces."


def averaged_views(evaluated: list[ModelReport]) -> str | None:
    """A figure of several views of each face is not one of the model's plain use."""
    averaged = [model for model in evaluated if model.results["views"] != "single"]
    if not averaged:
        return None
    return f"Scored on the mean of several views of each face: {'; '.join(map(name_views, averaged))}."


def name_views(model: ModelReport) -> str:
    """A run, its views and, where it is known, its accuracy with one view."""
    single = model.results["other_views"].get("single")
    alone = f" (one view reaches {percent(single['accuracy'])})" if single else ""
    return f"{model.label} with {model.results['views']}{alone}"


def chance_level(best: ModelReport) -> str | None:
    """An interval that reaches down to the share of the most frequent class."""
    constant = majority(best.results)
    if is_useful(best.results):
        return None
    return f"{best.label} is not significantly better than always predicting {constant['emotion']}."


def few_faces(results: dict[str, Any]) -> str | None:
    """Fewer than 1000 test faces: the 95 % interval is then wider than about 5 points."""
    if results["samples"] >= 1000:
        return None
    low, high = results["intervals"]["accuracy"]
    return (
        f"Only {results['samples']} test faces: the 95\u202f% interval of the accuracy is "
        f"{100 * (high - low):.1f} points wide; smaller differences may be chance."
    )


def close_race(best: ModelReport, others: list[ModelReport]) -> str | None:
    """Other runs whose accuracy lies within the interval of the best one."""
    low = best.results["intervals"]["accuracy"][0]
    close = [other.label for other in others if other.accuracy >= low]
    if not close:
        return None
    return f"Within the 95\u202f% interval of {best.label}: {', '.join(close)}. Their order may be chance."


def different_faces(evaluated: list[ModelReport]) -> str | None:
    """Test splits of different sizes, or training on different readings of the data set."""
    samples = {model.results["samples"] for model in evaluated}
    trained = {model.history["data"]["fingerprint"] for model in evaluated if model.history}
    scored = {model.results["fingerprint"] for model in evaluated}
    if max(map(len, (samples, trained, scored))) <= 1:
        return None
    return "Not all models used the same version of the data set: their figures are not comparable."


def other_checkpoint(model: ModelReport) -> str | None:
    """Figures of a file that is not the best checkpoint of the training beside them."""
    name = outside_checkpoint(model.run, model.results)
    if not model.history or not name:
        return None
    return f"{model.label} was scored from {name}, not from the best checkpoint of the training that is shown."


def seen_faces(model: ModelReport) -> str | None:
    """A network that was trained on another version or fold of the data set than it was scored on."""
    if not model.results.get("may_have_seen"):
        return None
    return (
        f"{model.label} was trained on another version or fold of the data set: faces of val or test may have been "
        "training faces, and its figures too high."
    )


def training_copies(best: ModelReport) -> str | None:
    """Copies that change the accuracy by half a point or more, or copies that were not searched."""
    if best.exclude_leaks:
        return without_leaks(best)
    if best.results.get("without_training_copies") and best.clean_accuracy is None:
        return "Every test face has a copy in the training split: the figures say nothing about new faces."
    if best.clean_accuracy is None:
        return (
            "The accuracy on test faces without a copy in the training split is not known; copies raise the accuracy."
        )
    gap = best.accuracy - best.clean_accuracy
    if gap < 0.005:
        return None
    samples = best.results["samples"]
    copies = samples - best.results["without_training_copies"]["samples"]
    return (
        f"{copies:,} of {samples:,} test faces have a copy in the training split; without them the accuracy "
        f"is {100 * gap:.1f} points lower, which is the less biased estimate."
    )


def without_leaks(best: ModelReport) -> str:
    """A training without the faces that stand in val or test: no part of the accuracy comes from copies."""
    leaks = best.history.get("leaks")
    if leaks and not leaks["faces"]:
        return f"{best.label} was trained with --exclude-leaks, and no training face stands in val or test."
    left_out = f"the {counted(leaks['faces'], 'training face')}" if leaks else "the training faces"
    return (
        f"{best.label} was trained without {left_out} that stand in the validation or test split: copies do not raise "
        "its figures, which are of all test faces. Figures without copies of other models are of fewer faces."
    )


def rare_classes(results: dict[str, Any]) -> str | None:
    """Classes of fewer than 100 test faces, where one face changes the recall by more than a point."""
    rare = [f"{row['emotion']} ({row['support']})" for row in results["per_class"] if row["support"] < 100]
    if not rare:
        return None
    if len(rare) == len(results["per_class"]):
        return "Every class has fewer than 100 test faces: one face moves its recall by a point or more."
    return f"Classes of few test faces: {', '.join(rare)}. One face moves their recall by a point or more."


def unfinished(model: ModelReport) -> str | None:
    """A training that was interrupted."""
    if not model.history or model.history["finished"]:
        return None
    return f"The training of {model.label} did not finish; the figures are those of its best epoch so far."


def bounded(model: ModelReport) -> str | None:
    """Training on a part of each epoch's faces, which --max-steps is for."""
    steps = model.history["max_steps"] if model.history else None
    if not steps:
        return None
    epochs = len(model.history["epochs"])
    faces = steps * model.history["recipe"]["batch_size"] * epochs
    return f"{model.label} was trained on {counted(faces, 'face')} at most (--max-steps {steps}, epochs: {epochs})."


def extra_labels(evaluated: list[ModelReport]) -> str | None:
    """Training on more labels than the data set's own, beside which other figures are not of equal means."""
    names = [
        model.label for model in evaluated if model.history and learns_extra_labels(model.history, model.run.dataset)
    ]
    if not names:
        return None
    return f"Trained on the annotators' votes too, which are extra labels: {', '.join(names)}."


def learns_extra_labels(history: dict[str, Any], dataset: str) -> bool:
    """Whether a run learned votes beside the labels, or in place of labels that are not those of FER+."""
    in_place = history.get("loss") == "votes" and not dataset.startswith("ferplus")
    return in_place or bool(history["recipe"].get("votes_weight"))


def taught(evaluated: list[ModelReport]) -> str | None:
    """Training on the probabilities of other networks, whose training is a part of the cost."""
    found = [(model.label, model.history.get("teacher")) for model in evaluated if model.history]
    names = [f"{label} by {', '.join(Path(name).name for name in teachers)}" for label, teachers in found if teachers]
    return f"Taught by other networks, whose training counts towards its cost: {'; '.join(names)}." if names else None


def overfitted(evaluated: list[ModelReport]) -> str | None:
    """Models with more than 15 points between training and validation accuracy at the chosen epoch."""
    epochs = [(model.label, model.best_epoch) for model in evaluated if model.best_epoch]
    gaps = [
        f"{label} ({percent(epoch['train_accuracy'], 0)} against {percent(epoch['val_accuracy'], 0)})"
        for label, epoch in epochs
        if epoch["train_accuracy"] - epoch["val_accuracy"] > 0.15
    ]
    if not gaps:
        return None
    return f"Accuracy on the training split exceeds that on the validation split by far: {', '.join(gaps)}."
