"""The checkpoint that a command names: a file, the best one of a run, or the shipped one; imports no torch."""

from __future__ import annotations

from pathlib import Path

from ferlib.data.facts import dataset_facts
from ferlib.runtime.errors import UserError, lookup
from ferlib.runtime.files import require
from ferlib.runtime.runs import SHIPPED, Run, is_shipped, named_checkpoint, shipped_checkpoint
from models import MODELS, TIMM, training_command


def find_checkpoint(
    model: str = "",
    dataset: str = "",
    tag: str = "",
    checkpoint: Path | None = None,
    outputs_dir: Path = Path("outputs"),
) -> tuple[Path, str]:
    """Path and name for people of the given file or shipped network, of the run's best checkpoint, or of the usual one.

    UserError for unknown models and data sets, for half a run's name, and for a file that does not exist.
    """
    if model and not model.startswith(TIMM):
        lookup(MODELS, model, "model")
    if dataset:
        dataset_facts(dataset)
    if checkpoint is None and (model or dataset or tag):
        if not (model and dataset):
            raise UserError("a run has a model and a data set; give both --model and --dataset, or neither")
        run = Run(model, dataset, tag, outputs_dir)
        return require(run.best_checkpoint, training_command(run)), run.name
    path = named_checkpoint(Path(checkpoint)) if checkpoint else shipped_checkpoint()
    if not path.is_file():
        raise UserError(f"{path} does not exist; --checkpoint takes a file, or {' or '.join(SHIPPED)}")
    return path, path.stem.removesuffix("_best") + (" (shipped)" if is_shipped(path) else "")
