"""A trained model ready for faces cropped from photos and frames."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from config import EMOTIONS, EngineFlags
from ferlib.data.facts import dataset_facts
from ferlib.faces.model_files import find_checkpoint
from ferlib.inference.confidence import UNCALIBRATED, Calibration, read_calibration
from ferlib.inference.engine import ENDLESS, Engine, Source, choose_engine, is_kept, is_usable, open_engine
from ferlib.inference.folding import prepare
from ferlib.inference.logit_model import LogitModel
from ferlib.inference.splits import check_model
from ferlib.inference.views import center_view
from ferlib.runtime.devices import resolve_device
from ferlib.runtime.errors import UserError
from ferlib.runtime.runs import Run, check_dataset
from models import Checkpoint, load_checkpoint

if TYPE_CHECKING:
    from ferlib.inference.cut_network import CutNetwork

LUMA = np.array((19595, 38470, 7471), np.float32)  # of ITU-R BT.601, in 1/65536
BATCH = 64  # faces per forward pass


class FaceModel:
    """A checkpoint for crops uint8 N×S×S×3 RGB, as crops.crop_face(picture, face, model.crop_size) makes them.

    Crops are preprocessed as the training data: grey where the data set is, scaled to the data set's side and then to
    the model's own. Probabilities are calibrated; explanations are of the network itself, whose logits have no
    temperature.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        label: str,
        device: torch.device,
        engine: Engine | None = None,
        calibration: Calibration = UNCALIBRATED,
    ):
        self.calibration = calibration
        self.spec, self.label, self.device = checkpoint.spec, label, device
        self.engine = engine or choose_engine(EngineFlags(engine="torch"), device)
        self.dtype = self.engine.dtype
        self.name: str = checkpoint.info["model"]
        self.dataset: str = checkpoint.info.get("dataset", "")
        facts = dataset_facts(self.dataset) if self.dataset else None
        self.crop_size = facts.size if facts else self.spec.scaled_size
        self.grey = facts.channels == 1 if facts else self.spec.channels == 1
        self.plain = LogitModel(checkpoint.model, self.dtype)  # as it was trained
        self.converted: nn.Module | None = None  # the network of another engine than torch
        self.cut: CutNetwork | None = None  # likewise, cut at the CAM layer
        self.lock = RLock()  # explanations register hooks on the layers; the web page calls from several threads

    @cached_property
    def fast(self) -> LogitModel:
        """The same function with batch norms folded and weights cast (inference.folding.prepare)."""
        with torch.inference_mode(False):  # gradients will pass through it, whoever calls first
            return LogitModel(prepare(self.plain.classifier, self.blank(), self.dtype), self.dtype)

    @property
    def passes(self) -> nn.Module:
        """The same for forward passes alone, by the engine."""
        return self.fast if self.converted is None else self.converted

    def use_engine(self, flags: EngineFlags, digest: str, passes: float = 0.0, *, cut: bool = False) -> None:
        """Takes the engine for so many passes, or any number where the converted network is kept from before.

        digest: of the checkpoint. cut: the passes are for class activation maps. UserError for what the flags ask for
        and cannot be.
        """
        if cut and flags.precision == "int8":
            raise UserError(
                "class activation maps are not computed in 8 bits; add --no-cam, or leave --precision int8 out"
            )
        source = Source(self.plain.classifier, self.spec, self.blank(), digest, self.dataset)
        if flags.engine == "auto" and is_usable(self.device) and is_kept(source):
            passes = ENDLESS
        self.engine, self.converted = open_engine(flags, source, passes=passes)
        self.dtype = self.engine.dtype
        if cut and self.converted is not None:
            self.cut = cut_or_none(source, self.engine.precision)

    def blank(self) -> torch.Tensor:
        """A black face as the model is given it."""
        return self.views(np.zeros((1, self.crop_size, self.crop_size, 3), np.uint8))

    def views(self, crops: np.ndarray) -> torch.Tensor:
        """Crops uint8 N×S×S×3 as the model is given them: float32 N×C×size×size in 0..1, on the device."""
        check_crops(crops)
        faces = to_grey(crops) if self.grey else crops
        return center_view(torch.from_numpy(np.ascontiguousarray(faces)).to(self.device), self.spec)

    def probabilities(self, crops: np.ndarray) -> np.ndarray:
        """float32 N×7 of crops uint8 N×S×S×3 RGB, in the order of EMOTIONS; calibrated where the checkpoint is."""
        found = [np.zeros((0, len(EMOTIONS)), np.float32)]
        with self.lock, torch.inference_mode():
            for start in range(0, len(crops), BATCH):
                found.append(self.calibrate(self.passes(self.views(crops[start : start + BATCH]))))
        return self.check_finite(np.concatenate(found))

    def calibrate(self, logits: torch.Tensor) -> np.ndarray:
        """Logits N×7 as the probabilities that people read: softmax of them over the temperature, float32 N×7."""
        return (logits.float() / self.calibration.temperature).softmax(1).cpu().numpy()

    def check_finite(self, probabilities: np.ndarray) -> np.ndarray:
        """The probabilities; UserError where they are not numbers, as those of a network whose weights are damaged."""
        if not np.isfinite(probabilities).all():
            raise UserError(
                f"{self.label} predicts no numbers (NaN): its weights are damaged; name another --checkpoint"
            )
        return probabilities

    def to_crops(self, maps: np.ndarray, side: int, *, summed: bool = False) -> np.ndarray:
        """Maps of the model's views as maps of the crops they were cut from: N×size×size → float32 N×side×side.

        What lies outside of the view is 0. summed: the values of pixels add up to an output, and still do after it.
        """
        room = self.spec.scaled_size - self.spec.image_size
        before, after = room // 2, room - room // 2
        whole = F.pad(torch.from_numpy(maps).float(), (before, after, before, after))
        if whole.shape[-1] != side:
            pixels = (whole.shape[-1] / side) ** 2  # of the view in one of the crop
            whole = F.interpolate(whole[:, None], (side, side), mode="bilinear", antialias=True)[:, 0]
            whole *= pixels if summed else 1
        return whole.numpy()


def cut_or_none(source: Source, precision: str) -> CutNetwork | None:
    """The network cut at its CAM layer; None where it cannot be."""
    from ferlib.inference.cut_network import cut_network
    from ferlib.inference.openvino_network import NotConvertibleError

    try:
        return cut_network(source, source.spec.cam_layer, precision)
    except NotConvertibleError:
        return None


def check_crops(crops: np.ndarray) -> None:
    """ValueError unless crops are uint8 N×S×S×3."""
    if crops.dtype != np.uint8 or crops.ndim != 4 or crops.shape[3] != 3:
        raise ValueError(f"crops are uint8 N×S×S×3, not {crops.dtype} {crops.shape}")


def to_grey(crops: np.ndarray) -> np.ndarray:
    """uint8 …×3 RGB → uint8 …×1, equal to Pillow's convert("L"), with which grey data sets are read."""
    weighted = crops.astype(np.float32) @ LUMA  # below 2²⁴, hence exact
    return ((weighted + 0x8000) * 2.0**-16).astype(np.uint8)[..., None]


def open_face_model(
    model: str = "",
    dataset: str = "",
    tag: str = "",
    checkpoint: Path | None = None,
    outputs_dir: Path = Path("outputs"),
    device: str = "auto",
    flags: EngineFlags = EngineFlags(),  # noqa: B008 — frozen
    passes: float = 0.0,
    *,
    cut: bool = False,
) -> FaceModel:
    """The checkpoint file given, or the best one of a run, or the shipped one; UserError if there is none such.

    flags, passes, cut: as in FaceModel.use_engine.
    """
    path, label = find_checkpoint(model, dataset, tag, checkpoint, outputs_dir)
    where = resolve_device(device)
    engine = choose_engine(flags, where)  # errors in the flags before anything is loaded
    found = load_checkpoint(path, where)
    if model:
        check_model(found.info["model"], model, str(path))
    if model and checkpoint is None:
        check_dataset(str(found.info.get("dataset") or dataset), Run(model, dataset, tag, outputs_dir))
    face_model = FaceModel(found, label, where, engine, read_calibration(path, found.digest))
    face_model.use_engine(flags, found.digest, passes, cut=cut)
    return face_model
