"""Predictions of a whole split: a checkpoint opened on its device, logits of all faces, several views of each."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from config import EMOTIONS, EngineFlags
from ferlib.data.face_data import FaceData
from ferlib.inference.engine import Engine, Source, choose_engine, open_engine
from ferlib.inference.views import center_view, face_views
from ferlib.runtime.channel import Channel
from ferlib.runtime.devices import autocast, device_name, resolve_device
from ferlib.runtime.distributed import check_equal, gather_rows, is_main, own_part, world_size
from ferlib.runtime.errors import UserError
from ferlib.runtime.files import require
from ferlib.runtime.locks import is_held
from ferlib.runtime.notes import print_note
from ferlib.runtime.progress import FaceBar
from ferlib.runtime.runs import Run, check_dataset
from models import Checkpoint, ModelSpec, load_checkpoint, model_spec, training_command

if TYPE_CHECKING:
    from ferlib.inference.quantization import Ranges


@dataclass(frozen=True)
class Predictor:
    """A checkpoint on its device, in its precision."""

    path: Path
    checkpoint: Checkpoint
    device: torch.device
    engine: Engine
    batch_size: int
    converted: nn.Module | None = None  # the network of another engine than torch

    def __call__(self, images: np.ndarray, views: str = "single", progress: str | None = None) -> torch.Tensor:
        """Logits float32 N×7 on the CPU for uint8 faces N×H×W×C; UserError if they are not finite."""
        self.check_processes(images, views)
        logits = predict_split(
            self.converted or self.checkpoint.model,
            self.checkpoint.spec,
            images,
            device=self.device,
            dtype=self.engine.dtype,
            batch_size=self.batch_size,
            views=views,
            progress=progress,
        )
        if not logits.isfinite().all():
            raise UserError(f"the logits of {self.path} are not finite; try --no-amp, or train the model again")
        return logits

    def check_processes(self, images: np.ndarray, views: str) -> None:
        """UserError unless the processes of torchrun, which may run on several machines, predict the same."""
        if world_size() > 1:
            check_equal(
                {
                    "the checkpoint": self.checkpoint_digest,
                    "the engine": [self.engine.title, self.engine.precision],
                    "the kind of views": views,
                    "a face": hashlib.sha256(np.ascontiguousarray(images).data).hexdigest(),
                }
            )

    @property
    def checkpoint_digest(self) -> str:
        """SHA-256 of the checkpoint's file, as it was read."""
        return self.checkpoint.digest

    @property
    def hardware(self) -> dict[str, str]:
        """Device, engine and precision, as the results name them."""
        return {"device": device_name(self.device), **self.engine.describe()}


def open_predictor(
    run: Run,
    *,
    checkpoint: Path | None = None,
    device: str = "auto",
    amp: bool = True,
    batch_size: int = 256,
    flags: EngineFlags = EngineFlags(engine="torch"),  # noqa: B008 — frozen
    data: FaceData | None = None,
    passes: int = 0,
) -> Predictor:
    """The best checkpoint of a run, or another file; UserError if it is missing, another model's or data set's.

    flags, passes: the engine, and for how many passes of single faces. data: the faces, whose train split gives the
    ranges of 8 bits.
    """
    model_spec(run.model)  # an unknown name is an error of its own
    if batch_size < 1:
        raise UserError(f"--batch-size {batch_size} is not a number of faces from 1 up")
    place = resolve_device(device)
    engine = choose_engine(flags, place, amp=amp)
    path = run.checkpoint_or(checkpoint)
    if not checkpoint:
        require(path, training_command(run))
    loaded = load_checkpoint(path, place)
    check_model(loaded.info["model"], run.model, str(path), str(loaded.info.get("dataset") or ""))
    if checkpoint is None and is_main() and is_held(run.lock("train")):
        print(f"note: {run.name} is being trained; this is its best epoch so far, {loaded.info.get('epoch')}")
    if checkpoint:
        note_dataset(loaded, path, run.dataset)
    else:
        check_dataset(str(loaded.info.get("dataset") or run.dataset), run)
    predict = Predictor(path, loaded, place, engine, batch_size)
    return predict if data is None else with_engine(predict, flags, amp, data, passes)


def with_engine(predict: Predictor, flags: EngineFlags, amp: bool, data: FaceData, passes: int) -> Predictor:
    """The same with the engine for so many passes."""
    spec = predict.checkpoint.spec

    def views(images: np.ndarray) -> torch.Tensor:
        return center_view(torch.from_numpy(np.array(images)).to(predict.device), spec)

    def ranges() -> Ranges:
        from ferlib.inference.quantization import draw_ranges

        return draw_ranges(data, views)

    face = views(data.images[:1])
    source = Source(predict.checkpoint.model, spec, face, predict.checkpoint_digest, data.dataset, data.fingerprint)
    engine, converted = open_engine(flags, source, amp=amp, passes=passes, ranges=ranges)
    return replace(predict, engine=engine, converted=converted)


def check_model(found: str, wanted: str, path: str, dataset: str = "") -> None:
    """UserError if the model of a checkpoint is not the one that is wanted; dataset: that of its training, if known."""
    if found != wanted:
        raise UserError(f"{path} holds a {found}; use --model {found}{dataset and f' --dataset {dataset}'}")


def note_dataset(checkpoint: Checkpoint, path: Path, dataset: str) -> None:
    """Prints that a checkpoint was trained on another data set than the one it is used with."""
    trained = checkpoint.info.get("dataset")
    if trained and trained != dataset:
        print_note(f"{path.name} was trained on {trained}, and --dataset is {dataset}")


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

    With several views of a face, the logarithm of their mean probabilities. Each process of torchrun predicts a part of
    the faces, and all get the logits of all.
    """
    model.eval()
    own = own_part(torch.arange(len(images)))
    logits = [torch.zeros(0, classes)]
    channel, shown = Channel(), bool(progress) and is_main()
    with FaceBar(total=len(images), desc=progress, leave=False, disable=not shown) as bar:
        for rows in own.split(batch_size) if len(own) else ():
            batch = torch.from_numpy(images[rows.numpy()]).to(device)
            with autocast(device, dtype):
                outputs = [model(view).float() for view in face_views(batch, spec, views)]
            logits.append(average_views(outputs).cpu())
            bar.show(channel.add("predicted", len(batch)))  # of all processes
    return gather_rows(torch.cat(logits), len(images))


def average_views(outputs: list[torch.Tensor]) -> torch.Tensor:
    """The logits of one view; of several, the logarithm of the mean of their probabilities."""
    if len(outputs) == 1:
        return outputs[0]
    return torch.stack(outputs).log_softmax(2).logsumexp(0) - math.log(len(outputs))
