"""The models that the page offers: the shipped one and every trained run whose checkpoint can be read."""

from __future__ import annotations

import sys
from pathlib import Path

from config import EMOTIONS, App
from ferlib.faces.face_model import SHIPPED
from ferlib.networks.checkpoints import read_tensors
from ferlib.runtime.errors import UserError
from models import model_spec


def find_models(flags: App) -> dict[str, Path]:
    """What is shown → checkpoint; the one that the flags name, or else the shipped one, comes first.

    A run that cannot be read is left out and named at the terminal; UserError if the flags name such a one.
    """
    found = {describe(flags.checkpoint): flags.checkpoint} if flags.checkpoint else {}
    runs = sorted((Path(flags.outputs_dir) / "checkpoints").glob("*_best.pth"))
    for path in [SHIPPED, *runs]:
        try:
            found.setdefault(describe(path), path)
        except UserError as error:
            print(f"not offered: {error}", file=sys.stderr)
    if not found:
        raise UserError("there is no model; train one: python train.py --model fer_resnet --dataset fer2013")
    return found


def describe(path: Path) -> str:
    """A checkpoint for people: its run, whether it was shipped, its accuracy on val; UserError if it is not one."""
    content = read_tensors(path)
    if content.get("classes") != list(EMOTIONS) or "state" not in content:
        raise UserError(f"{path} is not a checkpoint of a model of the seven expressions")
    model_spec(content["model"])
    name = f"{path.stem}, shipped" if path == SHIPPED else path.stem.removesuffix("_best")
    accuracy = content.get("metrics", {}).get("val_accuracy")
    return name if accuracy is None else f"{name} · {100 * accuracy:.0f} %"
