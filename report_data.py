"""What the stages left of every run on a data set, and the figures that the report draws from it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from config import Run
from utils import UserError, read_json

HEADLINES = ("accuracy", "macro_f1", "weighted_f1", "mean_auc")


@dataclass(frozen=True)
class Plot:
    """A picture of one run: what a stage draws as Run.plot(kind)."""

    title: str
    script: str
    description: str  # what it shows, for the caption and for readers who cannot see it
    expected: bool = True  # of every run; one that is not is shown where it is there


@dataclass(frozen=True)
class Method:
    """An explanation method: a row here is all that its gallery needs."""

    title: str
    script: str  # with the flags that choose the method, if there are any
    how_to_read: str
    facts: dict[str, str] = field(default_factory=dict)  # of each face in the summary: key → name on the card
    expected: bool = False  # of every run; a method that is not is left out where no run has it


PLOTS = {
    "training_curves": Plot(
        "training curves", "train.py", "loss and accuracy after each epoch, on the training and the validation split"
    ),
    "class_scores": Plot(
        "scores by class",
        "evaluate.py",
        "precision, recall and F1 of each class on the test split, with 95 % intervals",
    ),
    "confusion_matrix": Plot(
        "confusion matrix", "evaluate.py", "true classes in rows, predicted classes in columns, on the test split"
    ),
    "misclassifications": Plot(
        "errors",
        "evaluate.py",
        "what the misclassified faces of each class were taken for, as shares of the class’s errors, and by how much "
        "that is more or less often than chance, in standard units",
    ),
    "roc_curves": Plot(
        "ROC curves", "evaluate.py", "each class against the rest, faces found (up) by false alarms (right)"
    ),
    "precision_recall": Plot(
        "precision-recall curves",
        "evaluate.py",
        "each class against the rest, right alarms (up) by faces found (right)",
    ),
    "reliability": Plot(
        "reliability",
        "evaluate.py",
        "accuracy by confidence; on the dashed line the probabilities are true to their word",
    ),
    "confident_errors": Plot(
        "most confident errors",
        "evaluate.py",
        "the misclassified faces whose predicted class is the most probable, with the probability of every class; "
        "some of them are errors of the label",
    ),
    "members": Plot(
        "members and methods",
        "ensemble.py",
        "accuracy of every member and of every way to join them; the share of faces on which just one of two is right",
        expected=False,
    ),
}

METHODS = {
    "lime": Method(
        "LIME",
        "explain_lime.py",
        "Hides random sets of regions and fits a linear model to what that does to the probability of the class: "
        "vermilion regions speak for the class, blue ones against it. "
        "R² says how well the linear model follows the network; where it is low, trust the regions little.",
        facts={"r2": "R²"},
        expected=True,
    ),
    "shap": Method(
        "SHAP",
        "explain_shap.py",
        "Shares out, among the pixels, by how much the logit of the class exceeds its mean over background faces: "
        "vermilion pixels raise it, blue ones lower it. "
        "The completeness gap is what their sum misses; where it is large, draw more samples.",
        facts={"logit_above_background": "logit above background", "completeness_gap": "completeness gap"},
        expected=True,
    ),
    "gradcam": Method(
        "Grad-CAM",
        "explain_gradcam.py --method gradcam",
        "Yellow cells of the last layer speak for the class, dark ones do not; nothing is said of evidence against it. "
        "It is coarse, a cell may draw on a larger part of the face than it covers, and the averaging of gradients can "
        "light up cells that the network did not use.",
    ),
    "gradcam_plus_plus": Method(
        "Grad-CAM++",
        "explain_gradcam.py --method gradcam++",
        "As Grad-CAM, but cells that raise the class count more than those that lower it, so that several small places "
        "stand out beside one large one.",
    ),
    "hirescam": Method(
        "HiResCAM",
        "explain_gradcam.py --method hirescam",
        "As Grad-CAM without the averaging: a yellow cell is one whose own activation raises the class. "
        "Exact where the layer feeds a linear one.",
    ),
    "layercam": Method(
        "LayerCAM",
        "explain_gradcam.py --method layercam",
        "As HiResCAM, but what lowers the class is left out before the channels are added up; "
        "it is of use in earlier, finer layers too.",
    ),
    "eigencam": Method(
        "Eigen-CAM",
        "explain_gradcam.py --method eigencam",
        "Where the cells of the last layer differ most from one another. It is the same for every class: it shows what "
        "the network notices, not why it decides.",
    ),
    "scorecam": Method(
        "Score-CAM",
        "explain_gradcam.py --method scorecam",
        "Hides the face behind each channel of the last layer and weighs the channels by the logit of the class, "
        "without any gradient. What is hidden turns black, which no training face looks like.",
    ),
    "saliency": Method(
        "Saliency",
        "explain_saliency.py --method saliency",
        "Yellow pixels are those where a slight change moves the logit most, whichever way. "
        "That is sensitivity, not evidence, and it is noisy.",
    ),
    "loss_gradient": Method(
        "Loss gradient",
        "explain_saliency.py --method loss_gradient",
        "As saliency, for the training loss, which all classes share in; each face is scaled to its own peak.",
    ),
    "smoothgrad": Method(
        "SmoothGrad",
        "explain_saliency.py --method smoothgrad",
        "Saliency averaged over copies of the face with noise: what remains matters nearby too. "
        "Where few copies keep the class, the noise asks the network about other faces; take less of it.",
        facts={"class_kept": "copies that keep the class"},
    ),
    "input_x_gradient": Method(
        "Input × gradient",
        "explain_saliency.py --method input_x_gradient",
        "Vermilion pixels raise the logit beside black ones, blue ones lower it, were the network linear. "
        "Dark pixels get little by construction.",
    ),
    "integrated_gradients": Method(
        "Integrated gradients",
        "explain_saliency.py --method integrated_gradients",
        "Shares out, among the pixels, by how much the logit exceeds that of a plain face: vermilion pixels raise it, "
        "blue ones lower it. Pixels as grey as that face get nothing. "
        "The completeness gap is what the sum misses; where it is large, take more steps.",
        facts={"logit_above_baseline": "logit above baseline", "completeness_gap": "completeness gap"},
    ),
    "guided_backprop": Method(
        "Guided backpropagation",
        "explain_saliency.py --method guided_backprop",
        "Saliency in which only what is positive passes back through each ReLU: sharp, but close to an edge detector "
        "that would look much the same for another class.",
    ),
    "occlusion": Method(
        "Occlusion",
        "explain_occlusion.py",
        "How far the probability of the class falls where a grey square hides the face: hiding vermilion parts lowers "
        "it, hiding blue ones raises it. Evidence that stands in two places at once hides itself.",
        facts={"largest_fall": "largest fall"},
    ),
}


@dataclass(frozen=True)
class ModelReport:
    """What the stages left of one run; None where a stage has not run."""

    run: Run
    history: dict[str, Any] | None
    results: dict[str, Any] | None
    explanations: dict[str, dict[str, Any] | None]  # method → its summary

    @property
    def label(self) -> str:
        notes = ", ".join(filter(None, (self.run.tag, self.run.fold and f"fold {self.run.fold}")))
        return f"{self.run.model} ({notes})" if notes else self.run.model

    @property
    def is_ensemble(self) -> bool:
        """Whether ensemble.py wrote it: then it has no checkpoint, no history and no explanations of its own."""
        return bool(self.results and "ensemble" in self.results)

    @property
    def accuracy(self) -> float:
        return self.results["accuracy"] if self.results else -1.0

    @property
    def clean_accuracy(self) -> float | None:
        """Accuracy on the test faces without a copy in the training split; None where no one looked."""
        without = self.results and self.results["without_training_copies"]
        return without["accuracy"] if without else None

    @property
    def best_epoch(self) -> dict[str, Any] | None:
        epochs = self.history["epochs"] if self.history else []
        return next((row for row in epochs if row["epoch"] == self.history["best_epoch"]), None)


@dataclass(frozen=True)
class CrossTable:
    """Runs by the data sets on whose test faces they were scored."""

    datasets: list[str]
    rows: list[tuple[Run, dict[str, dict[str, Any]]]]  # a run and its results by data set, its own included


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def read_models(outputs_dir: Path, dataset: str) -> list[ModelReport]:
    """All runs on `dataset`: the evaluated ones by falling accuracy, then the others; UserError where there is none."""
    runs = find_runs(outputs_dir, dataset)
    if not runs:
        command = Run("mini_resnet", dataset, outputs_dir=outputs_dir).command("train.py")
        raise UserError(f"{outputs_dir} holds no run on {dataset}; run: {command}")
    return sorted((read_model(run) for run in runs), key=lambda model: -model.accuracy)


def find_runs(outputs_dir: Path, dataset: str) -> list[Run]:
    """The runs on `dataset` that left a history or results file, sorted by name; UserError if one is broken."""
    runs = set()
    for path in (Path(outputs_dir) / "checkpoints").glob("*.json"):
        run = read_json(path, "the stage that writes it")["run"]
        if run["dataset"] == dataset:
            runs.add(Run(**run, outputs_dir=Path(outputs_dir)))
    return sorted(runs, key=lambda run: run.name)


def read_model(run: Run) -> ModelReport:
    return ModelReport(
        run=run,
        history=read_if_there(run.history, run.command("train.py")),
        results=read_if_there(run.results, run.command("evaluate.py")),
        explanations={
            name: read_if_there(run.explanation_summary(name), run.command(method.script))
            for name, method in METHODS.items()
        },
    )


def read_cross(outputs_dir: Path) -> CrossTable | None:
    """The runs that were scored on other data sets than their own, on whatever they were trained; None: no run was."""
    found: dict[Run, dict[str, dict[str, Any]]] = {}
    for path in sorted((Path(outputs_dir) / "elsewhere").glob("*.json")):
        results = read_json(path, "evaluate.py --on")
        found.setdefault(Run(**results["run"], outputs_dir=Path(outputs_dir)), {})[results["on"]] = results
    if not found:
        return None
    for run, cells in found.items():
        own = read_if_there(run.results, run.command("evaluate.py"))
        cells |= {run.dataset: own} if own else {}
    columns = sorted({dataset for cells in found.values() for dataset in cells})
    return CrossTable(columns, sorted(found.items(), key=lambda row: (row[0].dataset, row[0].name)))


def shown_methods(models: Iterable[ModelReport]) -> dict[str, Method]:
    """The methods that the page names: those expected of every run, and those that some run was explained with."""
    done = {name for model in models for name, summary in model.explanations.items() if summary}
    return {name: method for name, method in METHODS.items() if method.expected or name in done}


def read_if_there(path: Path, command: str) -> dict[str, Any] | None:
    return read_json(path, command) if path.exists() else None


# ── figures for the tables ───────────────────────────────────────────────────────────────────────────────────────────


def majority(results: dict[str, Any]) -> dict[str, Any]:
    """The most frequent class and its share: the accuracy of always naming it."""
    row = max(results["per_class"], key=lambda row: row["support"])
    return {"emotion": row["emotion"], "share": row["support"] / results["samples"]}


def find_highest(evaluated: Iterable[ModelReport]) -> dict[str, float | None]:
    """The highest of each headline figure; None for one on which all models agree."""
    columns = {name: [model.results[name] for model in evaluated] for name in HEADLINES}
    columns["clean_accuracy"] = [model.clean_accuracy for model in evaluated]
    known = {name: {value for value in values if value is not None} for name, values in columns.items()}
    return {name: max(values) if len(values) > 1 else None for name, values in known.items()}


def interval_axis(models: Iterable[ModelReport]) -> tuple[float, float]:
    """Ends of the axis on which the accuracies are drawn: multiples of 5 % around all intervals."""
    ends = [end for model in models if model.results for end in model.results["intervals"]["accuracy"]]
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    return max(0.0, int(low * 20) / 20), min(1.0, -int(-high * 20 // 1) / 20)


# ── numbers in words ─────────────────────────────────────────────────────────────────────────────────────────────────


def percent(fraction: float | None, digits: int = 1) -> str:
    return "\u2013" if fraction is None else f"{100 * fraction:.{digits}f}\u202f%"


def number(value: float | None, digits: int = 0) -> str:
    return "\u2013" if value is None else f"{value:,.{digits}f}"
