"""Whether networks that a training begins or learns from may have been trained on faces that are held out from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from config import TrainingStage
from ferlib.data.face_data import FaceData
from ferlib.data.facts import dataset_facts
from ferlib.data.held_out import is_other_version, may_have_seen
from ferlib.networks.checkpoints import read_checkpoint
from ferlib.networks.tensor_files import read_tensors
from ferlib.runtime.distributed import is_main
from ferlib.runtime.errors import UserError
from ferlib.runtime.notes import print_note
from ferlib.runtime.runs import Run
from ferlib.training.teachers import Teachers


def check_held_out(flags: TrainingStage, data: FaceData, teachers: Teachers, *, resumed: bool = False) -> None:
    """UserError for a teacher, or for initial weights, of the same data set in another split.

    Of another version or fold of it, test faces may have been training faces. Of a published split, which is the same
    in every copy, it is noted only. resumed: the weights are those of the last checkpoint.
    """
    sources = {f"--teacher {name}": read_checkpoint(path) for name, (_, path) in teachers.items()}
    if not resumed:
        sources |= initial_checkpoint(flags)
    for source, content in sources.items():
        check_source(source, content, data)


def initial_checkpoint(flags: TrainingStage) -> dict[str, dict[str, Any]]:
    """By its flag, the content of the checkpoint that training begins from; empty for other weights."""
    weights = flags.settings.training.weights
    if flags.init_from:
        path = Run(flags.init_from, "", outputs_dir=flags.outputs_dir).best_checkpoint
        return {f"--init-from {flags.init_from}": read_checkpoint(path)}
    if weights in ("none", "imagenet") or "state" not in (content := read_tensors(Path(weights))):
        return {}
    return {f"--weights {weights}": content}


def check_source(source: str, content: dict[str, Any], data: FaceData) -> None:
    """UserError, or a note, where a checkpoint was trained on another version or fold of the data set of `data`."""
    if may_have_seen(content, data):
        raise UserError(
            f"{source} was trained on another version or fold of the faces of {data.dataset}, where val or test faces "
            "of this one may be training faces; train it on this one, or choose another"
        )
    if is_other_version(content, data) and is_main():
        same = content["dataset"] == data.dataset
        trained = f"another copy of {data.facts.title}" if same else dataset_facts(content["dataset"]).title
        print_note(f"{source} was trained on {trained}, whose published split is the same")
