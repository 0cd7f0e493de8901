"""A trained network in whole numbers of 8 bits, for forward passes on a processor that multiplies them fastest.

Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only inference" (2018):
activations affine with one scale per tensor (equation 1), weights symmetric with one scale per output channel (section
3), ranges from a few faces (the post-training way), activations and the sums of residual blocks done with the
convolution before them (section 2.4 and appendix A.2). All else but convolutions stays in bfloat16.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import torch
from torch import fx, nn

from inference import compile_or_keep, fold, frozen_copy
from utils import UserError

STEPS = 255  # of an activation's range
WEIGHT_STEPS = 127  # on either side of zero
TOLERANCE = 0.2  # of the logits' spread: what 8 bits may change, root mean square
CALIBRATION_BATCH = 8
PASS = 16  # images at once: more, and what the layers hand to one another leaves the processor's cache
CONVOLUTION, LINEAR = torch.ops.aten.conv2d.default, torch.ops.aten.linear.default
SUM, POOL = torch.ops.aten.add.Tensor, torch.ops.aten.max_pool2d.default
ACTIVATIONS = {  # done with the convolution before them, by oneDNN's names
    torch.ops.aten.relu.default: "relu",
    torch.ops.aten.silu.default: "swish",
    torch.ops.aten.hardswish.default: "hardswish",
}
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
    to come, for the layout of the weights. From convolution to convolution the numbers stay in 8 bits where nothing but
    an activation, the sum of a residual block or a max pooling stands between. UserError if the logits suffer.
    """
    expected = in_batches(frozen_copy(classifier), images)
    model = convert(classifier, images, batch_size)
    if change(model, images, expected) > TOLERANCE:
        raise UserError("the network's answers change too much in 8 bits; leave --int8 out")
    return model


def convert(classifier: nn.Module, images: torch.Tensor, batch_size: int) -> nn.Module:
    model, images = frozen_copy(classifier), images.clone()  # no tensor of inference mode, which cannot be traced
    fold(model, images[:1])
    traced = trace(model, images[:CALIBRATION_BATCH])
    units = find_units(traced.graph)
    watch = Watch(traced, units)
    for batch in images.split(CALIBRATION_BATCH):
        watch.run(batch)
    return Rewriter(traced, units, watch.ranges, batch_size).rewritten()


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


# ── the network's graph ──────────────────────────────────────────────────────────────────────────────────────────────


def trace(model: nn.Module, images: torch.Tensor) -> fx.GraphModule:
    """The operations of the model on batches of any size, none of them in place."""
    program = torch.export.export(model, (images,), dynamic_shapes=({0: torch.export.Dim.AUTO},))
    return program.run_decompositions({}).module(check_guards=False)


def is_fast(node: fx.Node) -> bool:
    """Whether this is a convolution, dense or depthwise, that 8 bits make faster."""
    if node.target is not CONVOLUTION or node.args[1].op != "get_attr":
        return False
    *_, padding, _, groups = convolution_arguments(node)
    channels = node.args[0].meta["val"].shape[1], node.meta["val"].shape[1]
    return (groups == 1 or channels == (groups, groups)) and not isinstance(padding, str)


def convolution_arguments(node: fx.Node) -> tuple:
    """Input, weight, bias, stride, padding, dilation and groups."""
    defaults = (None, None, None, [1, 1], [0, 0], [1, 1], 1)
    return (*node.args, *defaults[len(node.args) :])


@dataclass
class Unit:
    """A convolution, and what is done in one go with it."""

    convolution: fx.Node
    output: fx.Node  # what the others read
    place: fx.Node  # in the order of the graph
    added: fx.Node | None = None  # numbers of 8 bits, overwritten by the sum
    activation: str = "none"  # of what oneDNN knows


def find_units(graph: fx.Graph) -> dict[fx.Node, Unit]:
    """All convolutions that 8 bits make faster, by their output."""
    order = {node: number for number, node in enumerate(graph.nodes)}
    units: dict[fx.Node, Unit] = {}
    overwritten: set[fx.Node] = set()

    def can_take(total: fx.Node, own: fx.Node, added: fx.Node) -> bool:
        unit = units.get(own)
        return (
            unit is not None
            and unit.added is None
            and unit.activation == "none"
            and set(own.users) == {total}
            and before_pools(added) in units
            and own.meta["val"].shape == added.meta["val"].shape
            and unit.convolution.args[0] not in overwritten | {added}  # the convolution is computed here now
            and all(order[reader] <= order[total] for reader in added.users)
        )

    def can_activate(node: fx.Node) -> bool:
        unit = units.get(node.args[0])
        known = unit is not None and (unit.added is None or ACTIVATIONS[node.target] == "relu")
        return known and unit.activation == "none" and len(node.args[0].users) == 1

    for node in graph.nodes:
        if is_fast(node):
            units[node] = Unit(node, node, node)
        elif node.target in ACTIVATIONS and can_activate(node):
            units[node] = unit = units.pop(node.args[0])
            unit.output, unit.activation = node, ACTIVATIONS[node.target]
        elif node.target is SUM and not node.kwargs and all(isinstance(side, fx.Node) for side in node.args):
            for own, added in (node.args, node.args[::-1]):
                if can_take(node, own, added):
                    units[node] = unit = units.pop(own)
                    unit.output = unit.place = node
                    unit.added = added
                    overwritten.add(added)
                    break
    return units


def before_pools(node: fx.Node) -> fx.Node:
    """Where the numbers come from that max pooling hands on as they are."""
    while node.target is POOL:
        node = node.args[0]
    return node


class Watch(fx.Interpreter):
    """Runs a graph, and keeps the smallest and the largest value of every tensor that may be needed in 8 bits."""

    def __init__(self, traced: fx.GraphModule, units: dict[fx.Node, Unit]):
        super().__init__(traced)
        self.ranges = {before_pools(unit.convolution.args[0]): (0.0, 0.0) for unit in units.values()}
        self.ranges |= dict.fromkeys(units, (0.0, 0.0))  # zero, which pads, must be one of the steps

    def run_node(self, node: fx.Node) -> Any:
        result = super().run_node(node)
        if node in self.ranges:
            low, high = self.ranges[node]
            self.ranges[node] = min(low, result.min().item()), max(high, result.max().item())
        return result


class Steps(NamedTuple):
    """What the 256 numbers of 8 bits stand for: scale · (number − zero)."""

    scale: float
    zero: int

    @classmethod
    def of(cls, low: float, high: float) -> Steps:
        scale = max(high - low, 1e-6) / STEPS
        return cls(scale, round(-low / scale))


class Rewriter:
    """Writes the graph of a network anew, with its convolutions in 8 bits."""

    def __init__(
        self,
        traced: fx.GraphModule,
        units: dict[fx.Node, Unit],
        ranges: dict[fx.Node, tuple[float, float]],
        batch_size: int,
    ):
        self.traced, self.units, self.batch_size = traced, units, batch_size
        self.added = {unit.added for unit in units.values()}
        self.steps = {node: Steps.of(*ends) for node, ends in ranges.items()}
        self.graph = fx.Graph()
        self.packed: list[PackedConvolution] = []
        self.real: dict[fx.Node, fx.Node] = {}  # of the old graph: the same in the new one, in floating point
        self.whole: dict[fx.Node, fx.Node] = {}  # and in 8 bits

    def rewritten(self) -> fx.GraphModule:
        places = {unit.place: unit for unit in self.units.values()}
        inside = {unit.convolution for unit in self.units.values()} | set(self.units)
        for node in self.traced.graph.nodes:
            if node in places:
                self.write_unit(places[node])
            elif node.target is POOL and self.is_read_whole(node) and before_pools(node) in self.units:
                defaults = (None, None, node.args[1], [0, 0], [1, 1], False)
                arguments = (*node.args, *defaults[len(node.args) :])[1:]
                self.whole[node] = self.call(torch.ops.quantized.max_pool2d, self.as_whole(node.args[0]), *arguments)
            elif node.op == "output":
                self.graph.output(self.as_real(node.args[0][0]))
            elif node not in inside:
                self.real[node] = self.graph.node_copy(node, self.as_real)
                self.round_weights(node)
        self.graph.eliminate_dead_code()  # the weights
        model = fx.GraphModule(self.traced, self.graph)
        model.packed = self.packed  # keeps them
        return model.to(memory_format=torch.channels_last)

    def write_unit(self, unit: Unit) -> None:
        entry = unit.convolution.args[0]
        in_steps = unit.added is not None or self.is_read_whole(unit.output)
        packed = PackedConvolution(
            self.traced,
            unit,
            self.steps_of(entry),
            self.steps_of(unit.output) if in_steps else None,
            self.steps_of(unit.added) if unit.added else None,
            self.batch_size,
        )
        self.packed.append(packed)
        if unit.added:
            self.call(torch.ops.faces.int8_sum, self.as_whole(entry), self.as_whole(unit.added), packed.number)
            self.whole[unit.output] = self.whole[unit.added]
        else:
            output = self.call(torch.ops.faces.int8_convolution, self.as_whole(entry), packed.number)
            (self.whole if in_steps else self.real)[unit.output] = output

    def is_read_whole(self, node: fx.Node) -> bool:
        pooled = (reader for reader in node.users if reader.target is POOL)
        return node in self.added or any(map(is_fast, node.users)) or any(map(self.is_read_whole, pooled))

    def steps_of(self, node: fx.Node) -> Steps:
        return self.steps[before_pools(node)]

    def as_whole(self, node: fx.Node) -> fx.Node:
        if node not in self.whole:
            self.whole[node] = self.call(to_whole, self.as_real(node), *self.steps_of(node))
        return self.whole[node]

    def as_real(self, node: fx.Node) -> fx.Node:
        if node not in self.real:
            self.real[node] = self.call(to_real, self.whole[node], *self.steps_of(node))
        return self.real[node]

    def call(self, function: Any, *arguments: Any) -> fx.Node:
        return self.graph.call_function(function, arguments)

    def round_weights(self, node: fx.Node) -> None:
        if node.target in (CONVOLUTION, LINEAR):
            for parameter in parameters(self.traced, node.args[1:3]):
                parameter.data = parameter.data.to(torch.bfloat16)


def parameters(traced: fx.GraphModule, nodes: Iterable[fx.Node | None]) -> list[torch.Tensor]:
    return [operator.attrgetter(node.target)(traced) for node in nodes if node is not None and node.op == "get_attr"]


# ── operations ───────────────────────────────────────────────────────────────────────────────────────────────────────


def to_whole(features: torch.Tensor, scale: float, zero: int) -> torch.Tensor:
    return (torch.round(features.float() * (1 / scale)) + zero).clamp(0, STEPS).to(torch.uint8)


def to_real(features: torch.Tensor, scale: float, zero: int) -> torch.Tensor:
    return ((features.float() - zero) * scale).to(torch.bfloat16)


class PackedConvolution:
    """The weights of a convolution as oneDNN wants them, and how its output is handed on.

    entry, exit, added: what the numbers of 8 bits of its input, its output and its summand stand for; without `exit`
    its output is in bfloat16.
    """

    def __init__(
        self, traced: fx.GraphModule, unit: Unit, entry: Steps, exit: Steps | None, added: Steps | None, batch_size: int
    ):
        images, weight, bias, *geometry = convolution_arguments(unit.convolution)
        (weight, *biases) = parameters(traced, (weight, bias))
        self.geometry = geometry
        self.scales = weight.abs().amax((1, 2, 3)).clamp(min=1e-8) / WEIGHT_STEPS
        whole = torch.round(weight / self.scales.view(-1, 1, 1, 1)).clamp(-WEIGHT_STEPS, WEIGHT_STEPS).to(torch.int8)
        self.channels, _, *self.kernel = weight.shape
        self.zeros = torch.zeros(self.channels, dtype=torch.int32)
        self.bias = biases[0].float() if biases else None
        self.input, self.output, self.added = entry, exit or Steps(1.0, 0), added
        self.dtype = torch.bfloat16 if exit is None else torch.uint8
        self.after = unit.activation
        batch = [batch_size, *images.meta["val"].shape[1:]]
        self.is_product = added is not None and [*self.kernel, *geometry[0], *geometry[1]] == [1, 1, 1, 1, 0, 0]
        if self.is_product:  # oneDNN's product adds in place, where its convolution makes a copy
            self.weight = torch.ops.onednn.qlinear_prepack(whole.flatten(1), None)
        else:
            self.weight = torch.ops.onednn.qconv_prepack(whole, self.scales, *self.input, *self.geometry, batch)
        self.number = next(NUMBERS)
        PACKED[self.number] = self

    def __call__(self, features: torch.Tensor) -> torch.Tensor:
        return torch.ops.onednn.qconv2d_pointwise(
            features, *self.input, self.weight, self.scales, self.zeros, self.bias, *self.geometry, *self.output,
            self.dtype, self.after, [], "",
        )  # fmt: skip

    def add(self, features: torch.Tensor, added: torch.Tensor) -> None:
        """Adds what a call returns, but for its activation, to `added` in place, and takes that of the sum."""
        after = (*self.output, self.dtype, *self.added, "sum", 1.0, self.after, [], "")
        if self.is_product:
            cells, total = (tensor.permute(0, 2, 3, 1) for tensor in (features, added))
            torch.ops.onednn.qlinear_pointwise.binary(
                cells.flatten(0, 2), *self.input, self.weight, self.scales, self.zeros,
                total.view(-1, self.channels), self.bias, *after,
            )  # fmt: skip
        else:
            torch.ops.onednn.qconv2d_pointwise.binary(
                features, *self.input, self.weight, self.scales, self.zeros, added, self.bias, *self.geometry, *after
            )

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


@torch.library.custom_op("faces::int8_sum", mutates_args=("added",))
def int8_sum(features: torch.Tensor, added: torch.Tensor, number: int) -> None:
    """Adds convolution `number` of uint8 features N×C×H×W to `added`, uint8 too."""
    PACKED[number].add(features, added)
