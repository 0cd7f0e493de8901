"""A trained run, ready to be explained."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

import datasets
import models
from config import Explain
from ferlib.data.facts import dataset_facts
from ferlib.inference.compiled import CompiledIfWorth
from ferlib.inference.folding import prepare
from ferlib.inference.int8 import quantization
from ferlib.inference.views import center_view
from ferlib.runtime.devices import autocast, autocast_dtype, resolve_device
from ferlib.runtime.distributed import world_size
from ferlib.runtime.errors import UserError
from ferlib.runtime.files import require
from ferlib.runtime.runs import Run

if TYPE_CHECKING:
    pass


class LogitModel(nn.Module):
    """A classifier in evaluation mode and mixed precision: images N×C×H×W in 0..1 → float32 logits N×7.

    Its parameters are frozen: explanations need gradients of the pixels only.
    """

    def __init__(self, classifier: nn.Module, dtype: torch.dtype = torch.float32):
        super().__init__()
        self.classifier = classifier.eval().requires_grad_(False)
        self.dtype = dtype

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        with autocast(images.device, self.dtype):
            return self.classifier(images).float()


@dataclass(frozen=True)
class Subject:
    """A trained run, ready to be explained."""

    config: Explain
    checkpoint_digest: str
    model: LogitModel
    spec: models.ModelSpec
    data: datasets.FaceData
    device: torch.device

    @property
    def run(self) -> Run:
        return self.config.run

    def prepared(self, passes: int = 0, int8: bool = False) -> nn.Module:
        """The same model, made ready for many passes; `passes`: so many forward passes of single images per face.

        int8: convolutions in whole numbers of 8 bits, for forward passes only; UserError where they do not pay.
        """
        face = self.views(self.data.split("test").images[:1])
        if int8:
            return self.quantized(face)
        model = LogitModel(prepare(self.model.classifier, face, self.model.dtype), self.model.dtype)
        if not passes:
            return model
        shape = torch.Size([self.config.batch_size, *face.shape[1:]])
        return CompiledIfWorth(model, shape, passes * self.face_count // world_size())

    def prepared_gradients(self, int8: bool = False) -> nn.Module:
        """The same model, made ready for many passes with gradients; `int8`: these in 8 bits."""
        model = self.prepared()
        if not int8:
            return model
        return quantization.quantize_gradients(model, self.model.classifier, quantization.between(self.examples()))

    def examples(self) -> torch.Tensor:
        """Some faces as the model sees them, to find ranges for 8 bits; UserError where these do not pay."""
        if not quantization.is_available(self.device) or self.model.dtype != torch.bfloat16:
            raise UserError("--int8 needs an x86 processor with VNNI, and not --no-amp")
        test = self.data.split("test").images
        return self.views(test[:: max(len(test) // 16, 1)][:16])

    def quantized(self, face: torch.Tensor) -> nn.Module:
        examples, size = quantization.half_hidden(self.examples()), min(self.config.batch_size, quantization.PASS)
        model = LogitModel(quantization.quantize(self.model.classifier, examples, size), self.model.dtype)
        batch = face.repeat(size, 1, 1, 1).contiguous(memory_format=torch.channels_last)
        return quantization.WholeBatches(model, batch)

    @property
    def face_count(self) -> int:
        """At most so many faces are to be explained."""
        config, test = self.config, len(self.data.split("test").images)
        named = len(config.image) or len(config.indices)
        return named or (test if config.samples == "all" else min(config.samples, test))

    def views(self, images: np.ndarray) -> torch.Tensor:
        """uint8 N×H×W×C faces as the model sees them: float32 N×C×size×size in 0..1, on the device."""
        return center_view(torch.from_numpy(np.array(images)).to(self.device), self.spec)


def open_run(config: Explain) -> Subject:
    """Loads the checkpoint and the faces that `config` names; UserError if one is missing or another model's."""
    models.model_spec(config.model)
    dataset_facts(config.dataset)
    device = resolve_device(config.device)
    path = require(config.checkpoint or config.run.best_checkpoint, config.run.command("train.py"))
    checkpoint = models.load_checkpoint(path, device)
    if checkpoint.info["model"] != config.model:
        raise UserError(f"{path} holds a {checkpoint.info['model']}; use --model {checkpoint.info['model']}")
    data = datasets.load_stage(config)
    model = LogitModel(checkpoint.model, autocast_dtype(device, config.amp))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Subject(config, digest, model, checkpoint.spec, data, device)
