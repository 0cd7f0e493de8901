"""A trained model ready for faces cropped from photos and frames: probabilities, a fast Grad-CAM, every explanation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache, cached_property
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

import config
import explain_gradcam
import explain_lime
import explain_occlusion
import explain_saliency
import explain_shap
from config import EMOTIONS, Explain
from ferlib.data.facts import dataset_facts
from ferlib.data.synthetic.faces import draw_faces
from ferlib.explanations.subject import LogitModel
from ferlib.inference.folding import prepare
from ferlib.inference.splits import check_model
from ferlib.inference.views import center_view
from ferlib.runtime.devices import autocast_dtype, resolve_device
from ferlib.runtime.errors import UserError, lookup
from ferlib.runtime.files import require
from ferlib.runtime.runs import Run
from models import Checkpoint, load_checkpoint

SHIPPED = Path(__file__).parents[2] / "pretrained" / "fer_resnet_wide_fer2013_seed2.pth"
BATCH = 64  # faces per forward pass


class FaceModel:
    """A checkpoint that takes crops uint8 N×S×S×3 RGB, as faces.crop_face(picture, face, model.crop_size) makes them.

    Crops become what the model was trained on: grey where its data set is, and of that data set's side before they are
    scaled to the model's own.
    """

    def __init__(self, checkpoint: Checkpoint, label: str, device: torch.device):
        self.spec, self.label, self.device = checkpoint.spec, label, device
        self.dtype = autocast_dtype(device)
        self.name: str = checkpoint.info["model"]
        self.dataset: str = checkpoint.info.get("dataset", "")
        facts = dataset_facts(self.dataset) if self.dataset else None
        self.crop_size = facts.size if facts else self.spec.scaled_size
        self.grey = facts.channels == 1 if facts else self.spec.channels == 1
        self.plain = LogitModel(checkpoint.model, self.dtype)  # as it was trained
        self.lock = RLock()  # explanations hook into the layers; pages ask from several threads

    @cached_property
    def fast(self) -> LogitModel:
        """The same function with batch norms folded and weights cast (inference.prepare)."""
        with torch.inference_mode(False):  # gradients will pass through it, whoever asks for it first
            blank = np.zeros((1, self.crop_size, self.crop_size, 3), np.uint8)
            return LogitModel(prepare(self.plain.classifier, self.views(blank), self.dtype), self.dtype)

    @cached_property
    def cells(self) -> explain_gradcam.Cells:
        """The cells that Grad-CAM reads, of the fast model."""
        return explain_gradcam.Cells(self.fast.classifier.get_submodule(self.spec.cam_layer), self.spec.to_grid)

    def views(self, crops: np.ndarray) -> torch.Tensor:
        """Crops uint8 N×S×S×3 as the model sees them in evaluation: float32 N×C×size×size in 0..1, on the device."""
        check_crops(crops)
        faces = to_grey(crops) if self.grey else crops
        return center_view(torch.from_numpy(np.ascontiguousarray(faces)).to(self.device), self.spec)

    def probabilities(self, crops: np.ndarray) -> np.ndarray:
        """float32 N×7 of crops uint8 N×S×S×3 RGB, in the order of EMOTIONS."""
        found = [np.zeros((0, len(EMOTIONS)), np.float32)]
        with self.lock, torch.inference_mode():
            for start in range(0, len(crops), BATCH):
                found.append(self.fast(self.views(crops[start : start + BATCH])).softmax(1).cpu().numpy())
        return np.concatenate(found)

    def cam(
        self, crops: np.ndarray, targets: Sequence[int] | Callable[[np.ndarray], Sequence[int]] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities float32 N×7 and Grad-CAM maps float32 N×S×S in 0..1 of the predicted class or of `targets`.

        `targets` may be a function that chooses them by the probabilities. One forward pass; the backward pass goes
        through what follows the CAM layer only. A map's 1 is its face's peak.
        """
        if not len(crops):
            return np.zeros((0, len(EMOTIONS)), np.float32), np.zeros((0, *crops.shape[1:3]), np.float32)
        with self.lock, torch.inference_mode(False), torch.enable_grad():
            images = self.views(crops)
            output, logits = explain_gradcam.watch(self.fast, self.cells.layer, images)
            probabilities = logits.detach().softmax(1).cpu().numpy()
            chosen = targets(probabilities) if callable(targets) else targets
            labels = logits.argmax(1) if chosen is None else torch.as_tensor(chosen, device=logits.device)
            (gradients,) = torch.autograd.grad(logits.gather(1, labels[:, None]).sum(), output)
        grids = explain_gradcam.gradcam(self.cells.grid(output.detach()), self.cells.grid(gradients)).relu()
        maps = F.interpolate(grids[:, None], images.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
        return probabilities, self.place(explain_gradcam.to_unit(maps), crops.shape[1])

    def explain(
        self, crops: np.ndarray, method: str, targets: Sequence[int] | None = None, **settings: Any
    ) -> np.ndarray:
        """Maps float32 N×S×S of a method of EXPLAINERS, signed where it is, by the functions of the explain_* scripts.

        targets: the class to explain of each face, by default the predicted one. settings: fields of the method's flags
        in config.py. What the model does not see of a crop is 0. UserError for unknown methods, settings and values.
        """
        row = lookup(EXPLAINERS, method, "method")
        flags = row.flags(settings)
        if not len(crops):
            return np.zeros((0, *crops.shape[1:3]), np.float32)
        labels = self.probabilities(crops).argmax(1) if targets is None else np.asarray(targets)
        with self.lock, torch.inference_mode(False):
            weights = torch.eye(len(EMOTIONS))[labels].to(self.device)
            return self.place(row.attribute(self, self.views(crops), weights, flags), crops.shape[1])

    def place(self, maps: np.ndarray, side: int) -> np.ndarray:
        """Maps of the model's views as maps of the crops they were cut out of: N×size×size → float32 N×side×side."""
        room = self.spec.scaled_size - self.spec.image_size
        before, after = room // 2, room - room // 2
        whole = F.pad(torch.from_numpy(maps).float(), (before, after, before, after))
        if whole.shape[-1] != side:
            whole = F.interpolate(whole[:, None], (side, side), mode="bilinear", antialias=True)[:, 0]
        return whole.numpy()


def check_crops(crops: np.ndarray) -> None:
    if crops.dtype != np.uint8 or crops.ndim != 4 or crops.shape[3] != 3:
        raise ValueError(f"crops are uint8 N×S×S×3, not {crops.dtype} {crops.shape}")


def to_grey(crops: np.ndarray) -> np.ndarray:
    """uint8 …×3 RGB → uint8 …×1, to the bit as Pillow's convert("L"), with which grey data sets are read."""
    weighted = crops.astype(np.uint32) @ np.array((19595, 38470, 7471), np.uint32)  # ITU-R BT.601 luma, in 1/65536
    return ((weighted + 0x8000) >> 16).astype(np.uint8)[..., None]


# ── the methods ──────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Explainer:
    """A row of EXPLAINERS."""

    title: str
    attribute: Callable[[FaceModel, torch.Tensor, torch.Tensor, Any], np.ndarray]  # faces, weights, flags → N×H×W
    make: type[Explain]  # the flags of its script
    signed: bool  # whether below 0 speaks against the class; else maps begin at 0
    settings: tuple[str, ...] = ()  # the flags that change its maps
    fixed: Mapping[str, Any] = field(default_factory=dict)  # flags that name the method itself
    check: Callable[[Any], None] = lambda flags: None  # UserError for values that make no sense
    meaning: str = "vermilion speaks for it, blue against it"  # of the colours
    summed: bool = False  # whether a map's values add up to something: signs that change from pixel to pixel
    note: str = ""  # what differs from the script's own maps

    def flags(self, settings: Mapping[str, Any]) -> Any:
        """The script's flags with these settings; UserError for one that the method does not have."""
        known = dict.fromkeys((*self.settings, "batch_size", "seed"))
        for name in settings:
            lookup(known, name, f"setting of {self.title}")
        flags = self.make(**{**self.fixed, **settings})
        self.check(flags)
        return flags

    @property
    def defaults(self) -> dict[str, Any]:
        """Of its settings."""
        return {item.name: item.default for item in fields(self.make) if item.name in self.settings}


def by_lime(model: FaceModel, images: torch.Tensor, targets: torch.Tensor, flags: config.ExplainLime) -> np.ndarray:
    return explain_lime.attribute(model.fast, images, targets, flags)


def by_shap(model: FaceModel, images: torch.Tensor, targets: torch.Tensor, flags: config.ExplainShap) -> np.ndarray:
    """With drawn faces of all seven expressions as the background: a photo comes without a train split."""
    drawn = model.views(draw_background(flags.bg_samples, model.crop_size))
    background = explain_shap.make_background(model.fast, drawn, flags.batch_size)
    return explain_shap.attribute(model.fast, images, targets, flags, background)


@cache
def draw_background(count: int, size: int) -> np.ndarray:
    """Faces of as many people and of all expressions in turn: uint8 count×size×size×3."""
    smallest = 48  # of faces worth drawing
    images = draw_faces(count, max(size, smallest), subjects=count, workers=1).images
    if size >= smallest:
        return images
    faces = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    small = F.interpolate(faces, (size, size), mode="bilinear", antialias=True)
    return small.round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()


def by_cam(model: FaceModel, images: torch.Tensor, targets: torch.Tensor, flags: config.ExplainGradcam) -> np.ndarray:
    layers = dict(model.plain.classifier.named_modules())
    cells = explain_gradcam.Cells(lookup(layers, flags.layer or model.spec.cam_layer, "layer"), model.spec.to_grid)
    return explain_gradcam.attribute(model.plain, images, targets, flags, cells)


def by_gradients(
    model: FaceModel, images: torch.Tensor, targets: torch.Tensor, flags: config.ExplainSaliency
) -> np.ndarray:
    return explain_saliency.attribute(model.plain, images, targets, flags)


def by_occlusion(
    model: FaceModel, images: torch.Tensor, targets: torch.Tensor, flags: config.ExplainOcclusion
) -> np.ndarray:
    return explain_occlusion.attribute(model.fast, images, targets, flags)


def check_counts(flags: Any) -> None:
    """UserError for fewer draws than a method can do with."""
    for name, least in (("lime_samples", 2), ("bg_samples", 1), ("shap_samples", 1), ("regions", 1)):
        value = getattr(flags, name, least)
        if value != "auto" and value < least:
            raise UserError(f"{name} must be {least} or more")


LIME_SETTINGS = ("lime_samples", "segmentation", "regions", "hide_value")
EXPLAINERS: dict[str, Explainer] = {
    "lime": Explainer("LIME", by_lime, config.ExplainLime, True, LIME_SETTINGS, check=check_counts),
    "shap": Explainer(
        "SHAP", by_shap, config.ExplainShap, True, ("shap_samples", "bg_samples"), check=check_counts,
        summed=True, note="compared with drawn faces",
    ),
    **{
        name: Explainer(
            cam.title, by_cam, config.ExplainGradcam, False, ("layer",), {"method": name}, meaning=cam.meaning
        )
        for name, cam in explain_gradcam.CAMS.items()
    },
    **{
        name: Explainer(
            row.title, by_gradients, config.ExplainSaliency, row.signed, row.flags, {"method": name},
            explain_saliency.check, Explainer.meaning if row.signed else "bright: a change here changes most",
            summed=row.signed,
        )
        for name, row in explain_saliency.METHODS.items()
    },
    "occlusion": Explainer(
        "Occlusion", by_occlusion, config.ExplainOcclusion, True, ("window", "stride", "hide_value"),
        check=explain_occlusion.check,
    ),
}  # fmt: skip


# ── opening ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def open_face_model(
    model: str = "",
    dataset: str = "",
    tag: str = "",
    checkpoint: Path | None = None,
    outputs_dir: Path = Path("outputs"),
    device: str = "auto",
) -> FaceModel:
    """The checkpoint file given, or the best one of a run, or the shipped one; UserError if there is none such."""
    if checkpoint is None and (model or dataset or tag):
        if not (model and dataset):
            raise UserError("a run has a model and a data set; give both --model and --dataset, or neither")
        run = Run(model, dataset, tag, outputs_dir)
        path, label = require(run.best_checkpoint, run.command("train.py")), run.name
    else:
        path = Path(checkpoint or SHIPPED)
        label = path.stem.removesuffix("_best") + (" (shipped)" if path == SHIPPED else "")
    where = resolve_device(device)
    found = load_checkpoint(path, where)
    if model:
        check_model(found.info["model"], model, str(path))
    return FaceModel(found, label, where)
