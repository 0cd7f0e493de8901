"""A run, and the path of every file that the stages write."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ferlib.runtime.errors import UserError

SHIPPED = {  # names of the networks that come with the project, as --checkpoint takes them
    "fer2013": "fer_resnet_wide_fer2013_seed2",
    "ferplus": "fer_resnet_wide_ferplus",
    "small": "fer_resnet_small_fer2013_s1",
}


ALL_FOLDS = "all-folds"  # last part of the tag of the joined folds
OF_FOLDS = re.compile(rf"(^|_)(fold\d+|{ALL_FOLDS})$")  # tags with which a run would have the name of a fold
WITHOUT_DATA = ("report_generator.py", "monitor.py")  # scripts that read no data set


def data_dir_of(command: str) -> Path:
    """The folder of data sets that a recorded command names; data where it names none."""
    try:
        parts = shlex.split(command)
    except ValueError:
        parts = []
    for place, part in enumerate(parts):
        if part == "--data-dir" and place + 1 < len(parts):
            return Path(parts[place + 1])
        if part.startswith("--data-dir="):
            return Path(part.partition("=")[2])
    return Path("data")


def user_cache() -> Path:
    """The folder of files that every folder of outputs shares: the weights of face detectors."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "explainable-expressions"


def shipped_checkpoint(name: str = "fer2013") -> Path:
    """A network that comes with the project; `name`: a row of SHIPPED."""
    return Path(__file__).parents[2] / "pretrained" / f"{SHIPPED[name]}.pth"


def named_checkpoint(given: Path) -> Path:
    """The shipped network or exported run of that name, unless a file is called so; any other path as it is."""
    if given.is_file():
        return given
    if str(given) in SHIPPED:
        return shipped_checkpoint(str(given))
    if given.name != str(given):
        return given
    exported = shipped_checkpoint().with_name(f"{given}.pth")
    return exported if exported.is_file() else given


def checkpoint_name(path: Path) -> str:
    """A checkpoint as --checkpoint takes it: the name of a shipped network, else the path."""
    return next((name for name in SHIPPED if path == shipped_checkpoint(name)), str(path))


def is_shipped(path: Path) -> bool:
    """Whether a file is one of the shipped networks."""
    return path in map(shipped_checkpoint, SHIPPED)


def calibration_beside(checkpoint: Path) -> Path:
    """Temperature and prediction sets of a checkpoint, in its folder."""
    return checkpoint.with_name(f"{checkpoint.stem.removesuffix('_best')}_calibration.json")


def cache_dir(outputs_dir: Path) -> Path:
    """The folder of decoded data sets."""
    return Path(outputs_dir) / "cache"


def report_path(outputs_dir: Path, name: str, ending: str = "html") -> Path:
    """The report on a data set, or a table of it; `name` is the data set's, or "all"."""
    return Path(outputs_dir) / "reports" / f"{slug(name)}.{ending}"


def comparison_path(outputs_dir: Path, dataset: str, tag: str = "", fold: int = 0) -> Path:
    """What evaluate.py --compare finds on the runs of a data set, or of a fold of it."""
    parts = (dataset, tag, f"fold{fold}" if fold else "")
    return Path(outputs_dir) / "comparisons" / f"{'_'.join(slug(part) for part in parts if part)}.json"


def picture_beside(path: Path, kind: str) -> Path:
    """A picture of what a JSON file holds: of a comparison, such as matrix, or of an audit, such as near_copies."""
    return path.with_name(f"{path.stem}_{kind}.png")


def audit_path(outputs_dir: Path, dataset: str, fold: int = 0) -> Path:
    """The audit of a data set, and of the fold where it is split by subject."""
    return Path(outputs_dir) / "audits" / f"{slug(dataset)}{f'_fold{fold}' if fold else ''}.json"


def audit_picture(outputs_dir: Path, dataset: str, kind: str, fold: int = 0) -> Path:
    """A picture of the audit, such as near_copies."""
    return picture_beside(audit_path(outputs_dir, dataset, fold), kind)


def timeline_path(outputs_dir: Path, beside: Path | None) -> Path:
    """The picture of the emotions over time, beside a file that live.py writes, or below outputs."""
    return beside.with_name(f"{beside.stem}_timeline.png") if beside else Path(outputs_dir) / "live" / "timeline.png"


def annotated_photo(outputs_dir: Path, name: str, method: str = "") -> Path:
    """The picture that predict.py draws of a photo, with the maps of a method where one is named."""
    return Path(outputs_dir) / "predictions" / f"{name}{f'_{method}' if method else ''}.jpg"


def slug(name: str) -> str:
    """A name as a part of a file's name: whatever is not a letter, digit, '.', '+', '-' or '_' becomes a '-'."""
    return re.sub(r"[^\w.+-]+", "-", name)


def check_same_set(path: Path, key: str, name: str) -> None:
    """UserError if a JSON file, which would be replaced, is of another data set whose name has the same slug.

    key: of the entry with the set's name; "run.dataset": of the entry dataset in the entry run.
    """
    with contextlib.suppress(OSError, ValueError, RecursionError, AttributeError):
        found = json.loads(path.read_text(encoding="utf-8"))
        for part in key.split("."):
            found = found.get(part)
        if isinstance(found, str) and found != name:
            raise UserError(f"{path} is of {found} already; use another --outputs-dir for {name}")


def check_dataset(found: str, run: Run) -> None:
    """UserError if the files of a run are of another data set, such as folder:a/b beside folder:a-b."""
    if found != run.dataset:
        raise UserError(
            f"{run.name} is already the name of a run on {found}; use another --outputs-dir for {run.dataset}"
        )


@dataclass(frozen=True)
class Run:
    """One model trained on one data set; the only place that builds the paths of its files."""

    model: str
    dataset: str
    tag: str = ""
    outputs_dir: Path = Path("outputs")
    fold: int = 0
    data_dir: Path = field(default=Path("data"), compare=False)  # that commands name; no part of what the run is

    @property
    def name(self) -> str:
        """MODEL_DATASET, with tag and fold where there are any."""
        fold = f"fold{self.fold}" if self.fold else ""
        return "_".join(slug(part) for part in (self.model, self.dataset, self.tag, fold) if part)

    @property
    def best_checkpoint(self) -> Path:
        """The weights of the epoch that was best on val."""
        return self.checkpoint("best")

    def checkpoint_or(self, given: Path | None) -> Path:
        """The file or shipped network that a flag names, else the best checkpoint."""
        return named_checkpoint(given) if given else self.best_checkpoint

    @property
    def last_checkpoint(self) -> Path:
        """The state after the last epoch, from which a training resumes."""
        return self.checkpoint("last")

    def checkpoint(self, which: str) -> Path:
        """The weights of the `best` or `last` epoch, or of the end of a cycle: `cycle1`, `cycle2`, …"""
        return self._checkpoints / f"{self.name}_{which}.pth"

    @property
    def history(self) -> Path:
        """What train.py records of every epoch."""
        return self._checkpoints / f"{self.name}_history.json"

    @property
    def results(self) -> Path:
        """The figures of evaluate.py or ensemble.py on the test split."""
        return self._checkpoints / f"{self.name}_results.json"

    @property
    def calibration(self) -> Path:
        """Temperature and prediction sets of the best checkpoint."""
        return calibration_beside(self.best_checkpoint)

    @property
    def predictions(self) -> Path:
        """Logits and probabilities of the test split."""
        return self._checkpoints / f"{self.name}_predictions.npz"

    @property
    def val_predictions(self) -> Path:
        """Logits and probabilities of the val split."""
        return self._checkpoints / f"{self.name}_val_predictions.npz"

    @property
    def _checkpoints(self) -> Path:
        return Path(self.outputs_dir) / "checkpoints"

    def elsewhere(self, dataset: str) -> Path:
        """The results of this run on the faces of another data set."""
        return Path(self.outputs_dir) / "elsewhere" / f"{self.name}_on_{slug(dataset)}.json"

    @property
    def logs(self) -> Path:
        """The folder of TensorBoard events and GPU logs."""
        return Path(self.outputs_dir) / "logs" / self.name

    def gpu_log(self, process: int = 0) -> Path:
        """The readings of the GPU on which a process of the training ran."""
        return self.logs / (f"gpu_{process}.csv" if process else "gpu.csv")

    def lock(self, stage: str) -> Path:
        """Held by the process that writes what `stage` makes of this run."""
        return Path(self.outputs_dir) / "locks" / f"{self.name}.{slug(stage)}.lock"

    def plot(self, kind: str) -> Path:
        """A picture of the run, such as confusion_matrix."""
        return Path(self.outputs_dir) / "plots" / f"{self.name}_{kind}.png"

    def explanations(self, method: str) -> Path:
        """The folder of a method's figures, maps and summary."""
        return Path(self.outputs_dir) / "explanations" / method / self.name

    def explanation_summary(self, method: str) -> Path:
        """Settings and faces of a method."""
        return self.explanations(method) / f"{method}_summary.json"

    def explanation_maps(self, method: str) -> Path:
        """Attribution maps of a method."""
        return self.explanations(method) / "maps.npz"

    @property
    def scores(self) -> Path:
        """Scores of its explanations."""
        folder = self.explanations("scores")
        return folder.with_name(f"{folder.name}.json")

    def with_shortcut(self, shortcut: str) -> Path:
        """The folder of maps and pictures of test faces with a shortcut."""
        return self.explanations("scores") / f"with_{shortcut}"

    def clever_hans(self, shortcut: str) -> Path:
        """What explanations show of a twin that was trained with a shortcut."""
        return self.with_shortcut(shortcut) / "clever_hans.json"

    def explanation_figure(self, method: str, index: int, true: str, predicted: str) -> Path:
        """The figure of one face."""
        return self.explanations(method) / f"{index:03d}_{true}_pred{predicted}.png"

    def identity(self) -> dict[str, Any]:
        """The entry `run` of the JSON files: model, data set, tag and, where there is one, fold."""
        fold = {"fold": self.fold} if self.fold else {}
        return {"model": self.model, "dataset": self.dataset, "tag": self.tag, **fold}

    def command(self, script: str, checkpoint: str = "") -> str:
        """The command that makes what `script`, with its own flags, writes for this run, for errors and the report.

        checkpoint: as --checkpoint takes it, where it is not the run's best one.
        """
        of_folds = script in ("train.py", "evaluate.py") and re.search(rf"(^|_){ALL_FOLDS}$", self.tag) is not None
        tag = self.tag.removesuffix(ALL_FOLDS).removesuffix("_") if of_folds else self.tag
        flags = {"model": self.model, "dataset": self.dataset, "tag": tag, "fold": self.fold and str(self.fold)}
        flags["checkpoint"] = checkpoint
        if Path(self.data_dir) != Path("data") and not script.startswith(WITHOUT_DATA):
            flags["data-dir"] = str(self.data_dir)
        if Path(self.outputs_dir) != Path("outputs"):
            flags["outputs-dir"] = str(self.outputs_dir)
        given = [part for flag, value in flags.items() if value for part in (f"--{flag}", value)]
        return shlex.join(["python", *script.split(), *given, *(["--all-folds"] if of_folds else [])])
