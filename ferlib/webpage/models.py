"""The models that the page offers: the shipped ones and every trained run whose checkpoint can be read."""

from __future__ import annotations

import sys
from pathlib import Path

from config import EMOTIONS
from ferlib.networks.checkpoints import read_tensors
from ferlib.runtime.errors import UserError
from ferlib.runtime.runs import SHIPPED, is_shipped, named_checkpoint, shipped_checkpoint
from models import model_spec


def find_models(checkpoint: Path | None, outputs_dir: Path) -> dict[str, Path]:
    """Name for people → checkpoint; `checkpoint`, or else the usual one, comes first.

    A run that cannot be read is left out, with a note; UserError if `checkpoint` cannot be read.
    """
    checkpoint = checkpoint and named_checkpoint(checkpoint)
    found = {describe_checkpoint(checkpoint): checkpoint} if checkpoint else {}
    runs = sorted((Path(outputs_dir) / "checkpoints").glob("*_best.pth"))
    for path in [*map(shipped_checkpoint, SHIPPED), *runs]:
        try:
            found.setdefault(describe_checkpoint(path), path)
        except UserError as error:
            print(f"note: a model is left out: {error}", file=sys.stderr)
    if not found:
        raise UserError("there is no model; train one: python train.py --model fer_resnet --dataset fer2013")
    return found


def describe_checkpoint(path: Path) -> str:
    """A checkpoint's run, whether it was shipped, and its accuracy on val; UserError if it is not one."""
    content = read_tensors(path)
    if content.get("classes") != list(EMOTIONS) or "state" not in content:
        raise UserError(f"{path} is not a checkpoint of a model of the seven expressions")
    model_spec(content["model"])
    name = f"{path.stem}, shipped" if is_shipped(path) else path.stem.removesuffix("_best")
    accuracy = content.get("metrics", {}).get("val_accuracy")
    return name if accuracy is None else f"{name} · {100 * accuracy:.0f} %"
