"""What a trained model makes of faces: its checkpoint opened, logits of a whole split, several views of each face."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from config import EMOTIONS, Evaluate
from ferlib.inference.views import face_views
from ferlib.runtime.devices import autocast, autocast_dtype, resolve_device
from ferlib.runtime.distributed import gather_rows, is_main, own_part
from ferlib.runtime.errors import UserError
from ferlib.runtime.files import require
from models import Checkpoint, ModelSpec, load_checkpoint, model_spec


@dataclass(frozen=True)
class Predictor:
    """A checkpoint on its device, in its precision."""

    path: Path
    checkpoint: Checkpoint
    device: torch.device
    dtype: torch.dtype
    batch_size: int

    def __call__(self, images: np.ndarray, views: str, progress: str | None = None) -> torch.Tensor:
        """Logits float32 N×7 on the CPU for uint8 faces N×H×W×C."""
        options = {"device": self.device, "dtype": self.dtype, "batch_size": self.batch_size}
        return predict_split(
            self.checkpoint.model, self.checkpoint.spec, images, **options, views=views, progress=progress
        )


def open_predictor(flags: Evaluate) -> Predictor:
    """The checkpoint that the flags name; UserError if it is missing or another model's."""
    model_spec(flags.model)  # an unknown name should be told as such
    device = resolve_device(flags.device)
    path = flags.checkpoint or require(flags.run.best_checkpoint, flags.run.command("train.py"))
    checkpoint = load_checkpoint(path, device)
    check_model(checkpoint.info["model"], flags.model, str(path))
    return Predictor(path, checkpoint, device, autocast_dtype(device, flags.amp), flags.batch_size)


def check_model(found: str, wanted: str, path: str) -> None:
    if found != wanted:
        raise UserError(f"{path} holds a {found}; use --model {found}")


@torch.inference_mode()
def predict_split(
    model: torch.nn.Module,
    spec: ModelSpec,
    images: np.ndarray,
    *,
    device: torch.device,
    dtype: torch.dtype,
    batch_size: int = 256,
    views: str = "single",
    progress: str | None = None,
    classes: int = len(EMOTIONS),
) -> torch.Tensor:
    """Logits float32 N×classes on the CPU for uint8 faces N×H×W×C; `progress` names a bar with faces per second.

    With several views of a face, the logarithm of their mean probabilities. The processes of torchrun share the faces.
    """
    model.eval()
    own = own_part(torch.arange(len(images)))
    logits = [torch.zeros(0, classes)]
    with tqdm(total=len(own), desc=progress, unit=" faces", leave=False, disable=not (progress and is_main())) as bar:
        for rows in own.split(batch_size) if len(own) else ():
            batch = torch.from_numpy(images[rows.numpy()]).to(device)
            with autocast(device, dtype):
                outputs = [model(view).float() for view in face_views(batch, spec, views)]
            logits.append(average_views(outputs).cpu())
            bar.update(len(batch))
    return gather_rows(torch.cat(logits), len(images))


def average_views(outputs: list[torch.Tensor]) -> torch.Tensor:
    """The logits of one view; of several, the logarithm of the mean of their probabilities."""
    if len(outputs) == 1:
        return outputs[0]
    return torch.stack(outputs).log_softmax(2).logsumexp(0) - math.log(len(outputs))
