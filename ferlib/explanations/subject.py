"""A trained run, ready to be explained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from config import Explain
from datasets import load_stage
from ferlib.data.face_data import FaceData
from ferlib.data.facts import dataset_facts
from ferlib.explanations.choice import pick_faces
from ferlib.inference.compiled import CompiledIfWorth
from ferlib.inference.folding import prepare
from ferlib.inference.logit_model import LogitModel
from ferlib.inference.splits import check_model
from ferlib.inference.views import center_view
from ferlib.networks.specs import ModelSpec
from ferlib.runtime.devices import autocast_dtype, resolve_device
from ferlib.runtime.digests import digest_file
from ferlib.runtime.distributed import is_main, world_size
from ferlib.runtime.files import require
from ferlib.runtime.locks import is_held
from ferlib.runtime.runs import Run
from models import load_checkpoint, model_spec, training_command


@dataclass(frozen=True)
class Subject:
    """A checkpoint with its faces: the `binding.Network` of the explain_* scripts."""

    run: Run
    checkpoint: Path
    checkpoint_digest: str
    model: LogitModel
    spec: ModelSpec
    data: FaceData
    device: torch.device
    batch_size: int = 64
    seed: int = 0  # of the choice of background faces
    int8: bool = False
    face_count: int = 1  # faces to be explained, for the worth of compiling

    def plain(self) -> nn.Module:
        """Images → logits, as it was trained."""
        return self.model

    def forward(self, passes: int) -> nn.Module:
        """The same, prepared for so many forward passes of single images a face, with --int8 in 8 bits."""
        face = self.views(self.data.split("test").images[:1])
        if self.int8:
            from ferlib.inference.int8.quantization import quantized_passes

            return quantized_passes(self.model, face, self.sample_faces(), self.batch_size)
        shape = torch.Size([self.batch_size, *face.shape[1:]])
        return CompiledIfWorth(self._prepared(face), shape, passes * self.face_count // world_size())

    def gradients(self) -> nn.Module:
        """The same, prepared for many passes with gradients, with --int8 in 8 bits."""
        model = self._prepared(self.views(self.data.split("test").images[:1]))
        if not self.int8:
            return model
        from ferlib.inference.int8.quantization import quantized_gradients

        return quantized_gradients(model, self.model, self.sample_faces())

    def _prepared(self, face: torch.Tensor) -> LogitModel:
        return LogitModel(prepare(self.model.classifier, face, self.model.dtype), self.model.dtype)

    def sample_faces(self) -> torch.Tensor:
        """Sixteen faces, from which 8-bit ranges are estimated."""
        test = self.data.split("test").images
        return self.views(test[:: max(len(test) // 16, 1)][:16])

    def background(self, count: int) -> torch.Tensor:
        """`count` faces of the train split, balanced over the classes, as the model is given them."""
        train = self.data.split("train")
        return self.views(train.images[pick_faces(train.labels, count, self.seed)])

    def views(self, images: np.ndarray) -> torch.Tensor:
        """uint8 N×H×W×C faces as the model is given them: float32 N×C×size×size in 0..1, on the device."""
        return center_view(torch.from_numpy(np.array(images)).to(self.device), self.spec)


def open_subject(flags: Explain) -> Subject:
    """Loads the checkpoint and the faces that the flags name; UserError if one is missing or another model's."""
    model_spec(flags.model)
    dataset_facts(flags.dataset)
    device = resolve_device(flags.device)
    path = require(flags.checkpoint or flags.run.best_checkpoint, training_command(flags.run))
    checkpoint = load_checkpoint(path, device)
    check_model(checkpoint.info["model"], flags.model, str(path))
    if flags.checkpoint is None and is_main() and is_held(flags.run.lock("train")):
        print(f"note: {flags.run.name} is being trained; this is its best epoch so far, {checkpoint.info.get('epoch')}")
    return Subject(
        run=flags.run,
        checkpoint=path,
        checkpoint_digest=digest_file(path),
        model=LogitModel(checkpoint.model, autocast_dtype(device, flags.amp)),
        spec=checkpoint.spec,
        data=load_stage(flags),
        device=device,
        batch_size=flags.batch_size,
        seed=flags.seed,
        int8=getattr(flags, "int8", False),
    )
