"""A trained run, ready to be explained."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from config import EngineFlags, Explain
from datasets import load_stage
from ferlib.data.face_data import FaceData
from ferlib.data.facts import dataset_facts
from ferlib.data.readers.places import MissingError
from ferlib.explanations.choice import pick_faces
from ferlib.explanations.flags import engine_flags
from ferlib.inference.compiled import CompiledIfWorth
from ferlib.inference.engine import TORCH, Engine, Source, choose_engine, name_of, open_engine
from ferlib.inference.folding import prepare
from ferlib.inference.logit_model import LogitModel
from ferlib.inference.splits import check_model, note_dataset
from ferlib.inference.views import center_view
from ferlib.networks.specs import ModelSpec
from ferlib.runtime.devices import resolve_device
from ferlib.runtime.distributed import is_main, world_size
from ferlib.runtime.errors import UserError
from ferlib.runtime.files import require
from ferlib.runtime.locks import is_held
from ferlib.runtime.runs import Run, check_dataset
from models import load_checkpoint, model_spec, training_command

if TYPE_CHECKING:
    from ferlib.inference.quantization import Ranges


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
    face_count: int = 1  # faces to be explained, for the worth of compiling
    engine: Engine = TORCH  # of forward passes
    converted: nn.Module | None = None  # the network of another engine
    exclude_leaks: bool = False  # whether its training left out the faces that stand in val or test

    def plain(self) -> nn.Module:
        """Images → logits, as it was trained."""
        return self.model

    def forward(self, passes: int) -> nn.Module:
        """The same, prepared for so many forward passes of single images a face."""
        if self.converted is not None:
            return self.converted
        face = self.face()
        shape = torch.Size([self.batch_size, *face.shape[1:]])
        return CompiledIfWorth(self._prepared(face), shape, passes * self.face_count // world_size())

    def gradients(self) -> nn.Module:
        """The same, prepared for many passes with gradients."""
        return self._prepared(self.face())

    def with_engine(self, flags: EngineFlags, amp: bool, passes: int) -> Subject:
        """The same with the engine for so many forward passes in all."""
        faces = self.run.dataset, self.data.fingerprint
        source = Source(self.model.classifier, self.spec, self.face(), self.checkpoint_digest, *faces)
        engine, converted = open_engine(flags, source, amp=amp, passes=passes, ranges=self.ranges)
        return replace(self, engine=engine, converted=converted)

    def with_torch(self) -> Subject:
        """The same for passes that torch computes whatever engine the flags name: those with gradients, and few."""
        dtype = self.model.dtype
        return replace(self, engine=Engine("torch", name_of(dtype), dtype), converted=None)

    def ranges(self) -> Ranges:
        """Faces for 8 bits."""
        from ferlib.inference.quantization import draw_ranges

        return draw_ranges(self.data, self.views)

    @property
    def has_faces(self) -> bool:
        """Whether its data set is there."""
        return bool(self.data.fingerprint)

    def face(self) -> torch.Tensor:
        """The first face of the test split, or noise without one."""
        if self.has_faces:
            return self.views(self.data.split("test").images[:1])
        shape = 1, *self.data.images.shape[1:]
        return self.views(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))

    def _prepared(self, face: torch.Tensor) -> LogitModel:
        return LogitModel(prepare(self.model.classifier, face, self.model.dtype), self.model.dtype)

    def background(self, count: int) -> torch.Tensor:
        """`count` faces of the train split, balanced over the classes, as the model is given them.

        UserError without a data set.
        """
        if not self.has_faces:
            raise UserError(
                f"SHAP and --baseline background compare with faces of {self.data.facts.title}'s train split, which is "
                "not there: name its folder with --data-dir, or run predict.py --explain, which takes drawn ones"
            )
        train = self.data.split("train")
        return self.views(train.images[pick_faces(train.labels, count, self.seed)])

    def faces_of(self, label: int, count: int) -> tuple[torch.Tensor, list[str]] | None:
        """At most so many faces of a class from the train split, as the model is given them, and their names; None
        without a data set."""
        if not self.has_faces:
            return None
        train = self.data.split("train")
        rows = np.flatnonzero(train.labels == label)
        rows = np.sort(np.random.default_rng(self.seed).permutation(rows)[:count])
        return self.views(train.images[rows]), list(map(str, train.names[rows]))

    def views(self, images: np.ndarray) -> torch.Tensor:
        """uint8 N×H×W×C faces as the model is given them: float32 N×C×size×size in 0..1, on the device."""
        return center_view(torch.from_numpy(np.array(images)).to(self.device), self.spec)


def load_data(flags: Explain) -> FaceData:
    """The data set; one without faces where it is not there and pictures are explained, which need none of it."""
    try:
        return load_stage(flags)
    except MissingError:
        if not flags.image:
            raise
    facts, none = dataset_facts(flags.dataset), np.zeros(0, np.int64)
    images = np.zeros((0, facts.size, facts.size, facts.channels), np.uint8)
    return FaceData(flags.dataset, images, none, none.astype(str), none, fingerprint="")


def open_subject(flags: Explain) -> Subject:
    """Loads the checkpoint and the faces that the flags name; UserError if one is missing or another model's."""
    model_spec(flags.model)
    dataset_facts(flags.dataset)
    device = resolve_device(flags.device)
    engine = choose_engine(engine_flags(flags), device, amp=flags.amp)  # errors in the flags before anything is loaded
    path = require(flags.run.checkpoint_or(flags.checkpoint), training_command(flags.run))
    checkpoint = load_checkpoint(path, device)
    check_model(checkpoint.info["model"], flags.model, str(path), str(checkpoint.info.get("dataset") or ""))
    if flags.checkpoint is not None:
        note_dataset(checkpoint, path, flags.dataset)
    else:
        check_dataset(str(checkpoint.info.get("dataset") or flags.dataset), flags.run)
    if flags.checkpoint is None and is_main() and is_held(flags.run.lock("train")):
        print(f"note: {flags.run.name} is being trained; this is its best epoch so far, {checkpoint.info.get('epoch')}")
    data = load_data(flags)
    return Subject(
        run=flags.run,
        checkpoint=path,
        checkpoint_digest=checkpoint.digest,
        model=LogitModel(checkpoint.model, engine.dtype),
        spec=checkpoint.spec,
        data=data,
        device=device,
        batch_size=flags.batch_size,
        seed=flags.seed,
        engine=engine,
        exclude_leaks=checkpoint.excludes_leaks(data.fingerprint),
    )
