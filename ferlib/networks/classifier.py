"""FaceClassifier: images in 0..1 to logits, with colour conversion and normalisation inside."""

from __future__ import annotations

import torch
from torch import nn
from torch.func import functional_call

from config import EMOTIONS
from ferlib.networks.specs import ModelSpec
from ferlib.runtime.errors import UserError

GREY_WEIGHTS = (0.299, 0.587, 0.114)  # ITU-R BT.601 luma, as Pillow's convert("L")
LARGEST_COMPUTED = 320  # pixels: side of a face up to which the width of features is computed


class FaceClassifier(nn.Module):
    """Faces in 0..1, grey or RGB → logits: colour conversion and normalisation belong to the model.

    So a checkpoint is complete, and attributions belong to the pixels of the picture.
    """

    mean: torch.Tensor  # C,1,1
    std: torch.Tensor  # C,1,1
    grey_weights: torch.Tensor  # 3,1,1

    def __init__(self, spec: ModelSpec, num_classes: int = len(EMOTIONS), votes: bool = False):
        super().__init__()
        self.channels = spec.channels
        self.register_buffer("mean", torch.tensor(spec.mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).view(-1, 1, 1), persistent=False)
        self.register_buffer("grey_weights", torch.tensor(GREY_WEIGHTS).view(-1, 1, 1), persistent=False)
        self.backbone = spec.backbone()
        features = count_features(self.backbone, spec)
        self.head = make_head(features, spec.hidden, num_classes)
        self.votes_head = make_head(features, spec.hidden, num_classes) if votes else None
        self.auxiliary_heads = nn.ModuleList(nn.Linear(width, num_classes) for width in spec.auxiliary)
        self.auxiliary_weight = spec.auxiliary_weight

    @property
    def heads(self) -> nn.Module:
        """All heads: their parameters are new where the backbone is pre-trained."""
        return nn.ModuleList(head for head in (self.head, self.auxiliary_heads, self.votes_head) if head is not None)

    def forward(self, images: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """images: float N×C×H×W in 0..1 with C = 1 or 3; returns logits N×classes.

        In training, a model with auxiliary heads returns their logits beside its own: its own first, then those of the
        branches, last those of the annotators' votes.
        """
        if self.channels == 1 and images.shape[1] == 3:
            images = (images * self.grey_weights).sum(1, keepdim=True)
        features = self.backbone((images - self.mean) / self.std)  # a grey face broadcasts to three channels
        features, *branches = (features,) if isinstance(features, torch.Tensor) else features
        auxiliary = [head(branch) for head, branch in zip(self.auxiliary_heads, branches, strict=bool(branches))]
        if self.training and self.votes_head is not None:
            auxiliary.append(self.votes_head(features))
        return (self.head(features), *auxiliary) if auxiliary else self.head(features)


def count_features(backbone: nn.Module, spec: ModelSpec) -> int:
    """Width of the backbone's output for one blank face; UserError where the face is too small for it.

    Large faces go through a copy on the meta device, where nothing is computed. Its shape functions import the compiler
    and sympy, 2 to 3 s of CPU, so small faces are computed, which takes 10 to 500 ms.
    """
    state = {} if spec.image_size <= LARGEST_COMPUTED else meta_tensors(backbone)
    device = next((tensor.device for tensor in (*state.values(), *backbone.parameters())), torch.device("cpu"))
    face = torch.zeros(1, spec.channels, spec.image_size, spec.image_size, device=device)
    try:
        with torch.no_grad():
            return functional_call(backbone.eval(), state, face).shape[1]
    except RuntimeError as error:  # a side below what the strides of the network leave something of
        raise UserError(f"this model cannot take faces of {spec.image_size} px ({error}); use a larger one") from error


def meta_tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and buffers of a module by name, on the meta device."""
    tensors = {**module.state_dict(keep_vars=True), **dict(module.named_buffers())}
    return {name: tensor.to("meta") for name, tensor in tensors.items()}


def make_head(features: int, hidden: int | None, num_classes: int) -> nn.Sequential:
    """Features to logits: dropout and a linear layer, with a hidden layer where `hidden` gives its width."""
    if hidden is None:
        return nn.Sequential(nn.Dropout(), nn.Linear(features, num_classes))
    return nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Dropout(), nn.Linear(hidden, num_classes))


def set_dropout(model: nn.Module, probability: float) -> None:
    """Of all layers that drop anything; timm's backbones are full of such that do not."""
    for module in model.modules():
        if isinstance(module, nn.Dropout) and module.p > 0:
            module.p = probability


def count_parameters(model: nn.Module) -> int:
    """All parameters of a model, head included."""
    return sum(parameter.numel() for parameter in model.parameters())
