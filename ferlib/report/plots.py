"""PLOTS: the pictures that the stages draw of a run, as the report names them; those of a comparison of runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ferlib.runtime.runs import Run


@dataclass(frozen=True)
class Plot:
    """A picture of one run, which a stage draws as Run.plot(kind)."""

    title: str
    script: str
    description: str  # what it shows, for the caption and for readers who cannot see it
    expected: bool = True  # of every run; one that is not is shown where it is there


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
        "what the misclassified faces of each class were taken for, as shares of the class’s faces, and by how much "
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
        "accuracy by confidence, before and after the temperature; on the dashed line they are equal",
    ),
    "confidence": Plot(
        "confidence and sets",
        "evaluate.py",
        "accuracy on the faces of which the network is surest; how often the prediction sets of each class hold its "
        "label",
        expected=False,
    ),
    "confident_errors": Plot(
        "most confident errors",
        "evaluate.py",
        "the misclassified faces whose predicted class is the most probable, with the probability of every class; "
        "some of them are errors of the label",
    ),
    "votes": Plot(
        "people’s votes",
        "evaluate.py",
        "how often annotators and the network give the label of each class; accuracy by the share of the annotators "
        "who give it; confidence beside the share of them who say the same; entropy of both",
        expected=False,
    ),
    "vote_errors": Plot(
        "errors by people’s votes",
        "evaluate.py",
        "errors that most annotators would make too, and errors that none would, with the votes for every class",
        expected=False,
    ),
    "gpu_temperature": Plot(
        "GPU temperature", "train.py", "temperature of the GPU while the model was trained", expected=False
    ),
    "members": Plot(
        "members and methods",
        "ensemble.py",
        "accuracy of every member and of every way to join them; the share of faces on which just one of two is right",
        expected=False,
    ),
}


OF_COMPARISONS = {  # kind of picture → what it shows
    "matrix": "matrix",
    "roc_curves": "ROC curves",
    "learning_curves": "learning curves",
    "slices": "slices",
    "faces": "faces on which the first two differ",
}


@contextmanager
def plots_drawn_anew(run: Run) -> Iterator[None]:
    """The plots of an earlier evaluation of the run are removed; the block draws new ones, or none."""
    with drawn_anew([run.plot(kind) for kind, plot in PLOTS.items() if plot.script != "train.py"]):
        yield


@contextmanager
def drawn_anew(paths: Sequence[Path]) -> Iterator[None]:
    """Pictures of something earlier are removed; the block draws new ones, or some of them, or none.

    Of a picture that it does not draw, the versions in other formats go too.
    """
    for path in paths:
        path.unlink(missing_ok=True)
    yield
    for path in paths:
        if not path.exists():
            remove_formats(path)


def remove_training_plots(run: Run) -> None:
    """Removes the plots that train.py drew of the run."""
    for kind, plot in PLOTS.items():
        if plot.script == "train.py":
            run.plot(kind).unlink(missing_ok=True)
            remove_formats(run.plot(kind))


def remove_formats(path: Path) -> None:
    """Removes the versions of a picture in other formats."""
    for kind in ("pdf", "svg"):
        path.with_suffix(f".{kind}").unlink(missing_ok=True)
