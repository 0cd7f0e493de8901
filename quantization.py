"""A trained network in whole numbers of 8 bits, for forward passes on a processor that multiplies them fastest.

Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only inference" (2018):
activations affine with one scale per tensor (equation 1), weights symmetric with one scale per output channel (section
3), ranges from a few faces (the post-training way). Convolutions are done so, all else stays in bfloat16.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from inference import compile_or_keep, fold, frozen_copy, replace_module
from utils import UserError

STEPS = 255  # of an activation's range
WEIGHT_STEPS = 127  # on either side of zero
TOLERANCE = 0.2  # of the logits' spread: what 8 bits may change, root mean square
CALIBRATION_BATCH = 8
NUMBERS = itertools.count()
PACKED: WeakValueDictionary[int, PackedConvolution] = WeakValueDictionary()  # for graphs, which cannot hold the weights


def is_available(device: torch.device) -> bool:
    """Whether 8 bits pay: x86 processors with VNNI, which multiply them twice as fast as bfloat16."""
    return device.type == "cpu" and torch.cpu._is_vnni_supported()


@torch.inference_mode(False)
@torch.no_grad()
def quantize(classifier: nn.Module, images: torch.Tensor, batch_size: int) -> nn.Module:
    """A copy in evaluation mode whose convolutions compute in 8 bits; it has no gradients.

    images: faces N×C×H×W in 0..1 like those to come, which say how large the activations get. batch_size: of the passes
    to come, for the layout of the weights. Where a ReLU alone stands between two convolutions, the first one hands its
    output on in 8 bits. UserError if the logits suffer.
    """
    expected = in_batches(frozen_copy(classifier), images)
    model = convert(classifier, images, batch_size)
    if change(model, images, expected) > TOLERANCE:
        raise UserError("the network's answers change too much in 8 bits; leave --int8 out")
    return model


def convert(classifier: nn.Module, images: torch.Tensor, batch_size: int) -> nn.Module:
    model = frozen_copy(classifier)
    fold(model, images[:1])
    chains = find_chains(model, images[:1])
    layers = watch_convolutions(model)
    in_batches(model, images)
    for first, second in chains.items():
        layers[first].hand_on(layers[second])
    for layer in layers.values():
        layer.finish(batch_size)
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.to(torch.bfloat16)
    return model.to(memory_format=torch.channels_last)


def change(model: nn.Module, images: torch.Tensor, expected: torch.Tensor) -> float:
    """Root mean square of what is not as expected, as a share of the expected logits' standard deviation."""
    with torch.autocast("cpu", torch.bfloat16):
        found = in_batches(model, images)
    return ((found - expected).square().mean().sqrt() / expected.std()).item()


def in_batches(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    return torch.cat([model(batch).float() for batch in images.split(CALIBRATION_BATCH)])


class WholeBatches(nn.Module):
    """A model compiled for batches of one size, up to which smaller ones are padded; larger ones are cut."""

    def __init__(self, model: nn.Module, batch: torch.Tensor):
        super().__init__()
        self.size = len(batch)
        with (
            torch.inference_mode()
        ):  # the copy is a tensor of this mode, as those to come: others would compile it again
            self.model = compile_or_keep(model, batch.clone(memory_format=torch.channels_last))

    @torch.inference_mode()
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.complete(part) for part in images.split(self.size)])

    def complete(self, images: torch.Tensor) -> torch.Tensor:
        missing = self.size - len(images)
        whole = torch.cat([images, images[:1].expand(missing, -1, -1, -1)]) if missing else images
        return self.model(whole.contiguous(memory_format=torch.channels_last))[: len(images)]


def half_hidden(images: torch.Tensor, hide_value: float = 0.5, cells: int = 8) -> torch.Tensor:
    """The images N×C×H×W, and as many copies with a random half of a grid's cells in grey."""
    generator = torch.Generator().manual_seed(0)
    shown = (torch.rand(len(images), 1, cells, cells, generator=generator) < 0.5).to(images)
    shown = torch.nn.functional.interpolate(shown, images.shape[2:])
    return torch.cat([images, torch.where(shown > 0, images, hide_value)])


# ── layers ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class Int8Convolution(nn.Module):
    """At first a convolution that remembers the range of its input; once finished, one in 8 bits."""

    def __init__(self, convolution: nn.Conv2d):
        super().__init__()
        self.convolution: nn.Conv2d | None = convolution
        self.low = self.high = 0.0  # zero, which pads, must be one of the steps
        self.shape = torch.Size()
        self.next: Int8Convolution | None = None
        self.number = -1
        self.packed: PackedConvolution | None = None

    def hand_on(self, following: Int8Convolution) -> None:
        """Gives `following` its input in 8 bits, after a ReLU."""
        object.__setattr__(self, "next", following)  # no part of this module

    @property
    def scale(self) -> float:
        return max(self.high - self.low, 1e-6) / STEPS

    @property
    def zero(self) -> int:
        return round(-self.low / self.scale)

    def finish(self, batch_size: int) -> None:
        """From now on in 8 bits; a layer of an auxiliary head, which evaluation does not use, stays as it is."""
        if not self.shape:
            return
        self.number = next(NUMBERS)
        self.packed = PACKED[self.number] = PackedConvolution(self, batch_size)
        self.convolution = None

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        if self.convolution is not None:
            self.low, self.high = min(self.low, features.min().item()), max(self.high, features.max().item())
            self.shape = features.shape
            return self.convolution(features)
        if features.dtype != torch.uint8:
            steps = torch.round(features.float() * (1 / self.scale)) + self.zero
            features = steps.clamp(0, STEPS).to(torch.uint8)
        return torch.ops.faces.int8_convolution(features, self.number)


class PackedConvolution:
    """The weights of a convolution as oneDNN wants them, and how its output is handed on."""

    def __init__(self, layer: Int8Convolution, batch_size: int):
        convolution, following = layer.convolution, layer.next
        weight = convolution.weight
        self.scales = weight.abs().amax((1, 2, 3)).clamp(min=1e-8) / WEIGHT_STEPS
        whole = torch.round(weight / self.scales.view(-1, 1, 1, 1)).clamp(-WEIGHT_STEPS, WEIGHT_STEPS).to(torch.int8)
        self.geometry = [list(convolution.stride), list(convolution.padding), list(convolution.dilation), 1]
        self.kernel, self.channels = convolution.kernel_size, convolution.out_channels
        self.input = layer.scale, layer.zero
        shape = [batch_size, *layer.shape[1:]]
        self.weight = torch.ops.onednn.qconv_prepack(whole, self.scales, *self.input, *self.geometry, shape)
        self.zeros = torch.zeros(self.channels, dtype=torch.int32)
        self.bias = None if convolution.bias is None else convolution.bias.float()
        self.dtype = torch.bfloat16 if following is None else torch.uint8
        self.output = (1.0, 0) if following is None else (following.scale, following.zero)
        self.after = "none" if following is None else "relu"

    def __call__(self, features: torch.Tensor) -> torch.Tensor:
        return torch.ops.onednn.qconv2d_pointwise(
            features, *self.input, self.weight, self.scales, self.zeros, self.bias, *self.geometry, *self.output,
            self.dtype, self.after, [], "",
        )  # fmt: skip

    def blank(self, features: torch.Tensor) -> torch.Tensor:
        """What a call returns, but for its values."""
        stride, padding, dilation, _ = self.geometry
        sides = [
            (side + 2 * pad - gap * (taps - 1) - 1) // step + 1
            for side, pad, gap, taps, step in zip(
                features.shape[2:], padding, dilation, self.kernel, stride, strict=True
            )
        ]
        shape = (features.shape[0], self.channels, *sides)
        return torch.empty(shape, dtype=self.dtype, device=features.device, memory_format=torch.channels_last)


@torch.library.custom_op("faces::int8_convolution", mutates_args=())
def int8_convolution(features: torch.Tensor, number: int) -> torch.Tensor:
    """Convolution `number` of uint8 features N×C×H×W."""
    return PACKED[number](features)


@int8_convolution.register_fake
def _(features: torch.Tensor, number: int) -> torch.Tensor:
    return PACKED[number].blank(features)


# ── the network ──────────────────────────────────────────────────────────────────────────────────────────────────────


def watch_convolutions(model: nn.Module) -> dict[str, Int8Convolution]:
    """Puts a watching layer in the place of every convolution that 8 bits make faster."""
    layers = {name: Int8Convolution(module) for name, module in model.named_modules() if is_dense(module)}
    for name, layer in layers.items():
        replace_module(model, name, layer)
    return layers


def is_dense(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and module.groups == 1 and not isinstance(module.padding, str)


class Reads(TorchDispatchMode):
    """Which operations read each tensor, and what they make of it; all tensors are kept, so that none shares an id."""

    def __init__(self):
        super().__init__()
        self.by_tensor: dict[int, list[tuple[Any, int]]] = defaultdict(list)
        self.keep: list[Any] = []

    def __torch_dispatch__(self, operation: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        output = operation(*args, **(kwargs or {}))
        self.keep += [args, output]
        for tensor in tree_leaves((args, kwargs)):
            if isinstance(tensor, torch.Tensor):
                self.by_tensor[id(tensor)].append((operation, id(output)))
        return output


def find_chains(model: nn.Module, image: torch.Tensor) -> dict[str, str]:
    """Names of the convolutions whose output a ReLU alone reads, and that convolutions alone; and of one of these."""
    made, read = {}, defaultdict(list)

    def before(name: str):
        return lambda _, inputs: read[id(inputs[0])].append(name)

    def after(name: str):
        return lambda _, __, output: made.update({id(output): name})

    dense = {name: module for name, module in model.named_modules() if is_dense(module)}
    handles = [module.register_forward_pre_hook(before(name)) for name, module in dense.items()]
    handles += [module.register_forward_hook(after(name)) for name, module in dense.items()]
    with Reads() as reads:
        model(image)
    for handle in handles:
        handle.remove()
    chains = {}
    for tensor, name in made.items():
        (first, rectified), *later = reads.by_tensor[tensor] or [(None, tensor)]
        if first is torch.ops.aten.relu.default and not later:
            later = reads.by_tensor[rectified]
        elif first is not torch.ops.aten.relu_.default:
            continue
        if later and len(later) == len(read[rectified]):
            chains[name] = read[rectified][0]
    return chains
