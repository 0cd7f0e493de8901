"""The gradient of a network's outputs with respect to its image as an OpenVINO graph that only looks forward.

Reverse-mode differentiation of the graph (Baydin et al., "Automatic differentiation in machine learning: a survey",
2018, section 3.2): the gradient of a convolution is a convolution with the same weights, flipped (Dumoulin and Visin,
"A guide to convolution arithmetic for deep learning", 2016, chapter 4); where a tensor is read several times, the
gradients are added. The forward tensors are those of one image, 1×C×H×W, and the gradients those of all k outputs,
k×C×H×W: one batch, to which masks and factors of the forward pass broadcast.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset15 as op

SIDES = (2, 3)  # axes of height and width


class NotReversibleError(ValueError):
    """The gradients cannot be had in this way; the message names the operation."""


def gradient_model(network: ov.Model) -> ov.Model:
    """From a network 1×C×H×W → logits 1×k with fixed shapes: image, identity k×k → gradients of all logits k×C×H×W.

    The identity, from which the gradients start, is an input because OpenVINO 2026.4 overwrites what it computes from
    constants alone: as a constant, it gave right gradients for the first image only.
    NotReversibleError for operations without a rule, those of transformers among them.
    """
    image = network.inputs[0].get_node()
    logits = network.outputs[0].get_node().input_value(0)
    depending = find_depending(network)
    identity = op.parameter([logits.get_shape()[1]] * 2, np.float32)
    parts = {key(logits): [identity]}  # gradients whose sum is that of a tensor
    for node in reversed(network.get_ordered_ops()):
        found = [parts.pop(key(output)) for output in node.outputs() if key(output) in parts]
        if not found:
            continue
        gradients = add_up(found[0])
        if node.get_name() == image.get_name():
            return ov.Model([gradients], [image, identity], "gradients")
        for number, source in enumerate(node.input_values()):
            if key(source) in depending:
                parts.setdefault(key(source), []).append(differentiate(node, number, gradients))
    raise NotReversibleError("a network whose logits do not depend on its image")


def find_depending(network: ov.Model) -> set[tuple[str, int]]:
    """Keys of the tensors that depend on the image."""
    depending = {key(output) for output in network.inputs[0].get_node().outputs()}
    for node in network.get_ordered_ops():
        if any(key(source) in depending for source in node.input_values()):
            depending.update(map(key, node.outputs()))
    return depending


def differentiate(node: Any, number: int, gradients: Any) -> Any:
    """The gradients of a node's input, given those of its output."""
    rule = RULES.get(node.get_type_name())
    if rule is None:
        raise NotReversibleError(f"no rule for {node.get_type_name()}")
    return rule(node, number, gradients)


def key(output: Any) -> tuple[str, int]:
    """What tells one tensor of a graph from others."""
    return output.get_node().get_name(), output.get_index()


def add_up(terms: Sequence[Any]) -> Any:
    total, *others = terms
    for other in others:
        total = op.add(total, other)
    return total


def constant(values: Any) -> Any:
    return op.constant(np.array(values, np.float32, order="C"))


def integers(*values: int) -> Any:
    return op.constant(np.array(values, np.int64))


def shape_of(tensor: Any) -> tuple[int, ...]:
    """The shape of a node's only output, or of one output."""
    output = tensor if isinstance(tensor, ov.Output) else tensor.output(0)
    return tuple(output.get_shape())


def require(condition: Any, what: str) -> None:
    if not condition:
        raise NotReversibleError(what)


def value_of(source: Any) -> np.ndarray:
    """A constant of the graph."""
    node = source.get_node()
    require(node.get_type_name() == "Constant", "weights that are computed")
    return node.data


# ── elementwise operations ───────────────────────────────────────────────────────────────────────────────────────────


def reduce_to(source: Any, gradients: Any) -> Any:
    """Sums over the axes, all but the batch, along which the forward pass broadcast."""
    wanted, given = source.get_shape(), shape_of(gradients)
    require(len(wanted) == len(given), "a sum or product of tensors of different ranks")
    axes = [axis for axis in range(1, len(given)) if wanted[axis] != given[axis]]
    return op.reduce_sum(gradients, integers(*axes), True) if axes else gradients


def add(node: Any, number: int, gradients: Any) -> Any:
    return reduce_to(node.input_value(number), gradients)


def subtract(node: Any, number: int, gradients: Any) -> Any:
    return reduce_to(node.input_value(number), op.negative(gradients) if number else gradients)


def multiply(node: Any, number: int, gradients: Any) -> Any:
    return reduce_to(node.input_value(number), op.multiply(gradients, node.input_value(1 - number)))


def divide(node: Any, number: int, gradients: Any) -> Any:
    require(number == 0, "a quotient whose divisor depends on the image")
    return reduce_to(node.input_value(0), op.divide(gradients, node.input_value(1)))


def relu(node: Any, _number: int, gradients: Any) -> Any:
    return op.multiply(gradients, as_factor(op.greater(node.output(0), constant(0))))


def sigmoid(node: Any, _number: int, gradients: Any) -> Any:
    value = node.output(0)
    return op.multiply(gradients, op.multiply(value, op.subtract(constant(1), value)))


def swish(node: Any, _number: int, gradients: Any) -> Any:
    require(node.get_input_size() == 1, "Swish with a factor")
    gate, value = op.sigmoid(node.input_value(0)), node.output(0)
    slope = op.add(gate, op.multiply(value, op.subtract(constant(1), gate)))
    return op.multiply(gradients, slope)


def as_factor(mask: Any) -> Any:
    return op.convert(mask, "f32")


# ── shapes, linear layers, averages ──────────────────────────────────────────────────────────────────────────────────


def reshape(node: Any, _number: int, gradients: Any) -> Any:
    shape = shape_of(gradients)[0], *node.input_value(0).get_shape()[1:]
    return op.reshape(gradients, integers(*shape), False)


def matmul(node: Any, number: int, gradients: Any) -> Any:
    flags = node.get_attributes()
    require(number == 0 and not flags["transpose_a"], "a product of two tensors that depend on the image")
    return op.matmul(gradients, node.input_value(1), False, not flags["transpose_b"])


def concat(node: Any, number: int, gradients: Any) -> Any:
    axis = node.get_attributes()["axis"]
    sizes = [source.get_shape()[axis] for source in node.input_values()]
    return op.variadic_split(gradients, op.constant(np.int64(axis)), integers(*sizes)).output(number)


def reduce_mean(node: Any, _number: int, gradients: Any) -> Any:
    source = node.input_value(0)
    axes = sorted(int(axis) % len(source.get_shape()) for axis in value_of(node.input_value(1)).ravel())
    require(axes == [*SIDES], f"a mean over the axes {axes}")
    return spread_mean(source, gradients)


def adaptive_avg_pool(node: Any, _number: int, gradients: Any) -> Any:
    source = node.input_value(0)
    sides, cells = source.get_shape()[2:], shape_of(node)[2:]
    if set(cells) == {1}:
        return spread_mean(source, gradients)
    require(all(side % count == 0 for side, count in zip(sides, cells, strict=True)), "AdaptiveAvgPool, uneven cells")
    kernel = [side // count for side, count in zip(sides, cells, strict=True)]
    return enlarge(op.multiply(gradients, constant(1 / math.prod(kernel))), kernel)


def avg_pool(node: Any, _number: int, gradients: Any) -> Any:
    flags, sides = node.get_attributes(), node.input_value(0).get_shape()[2:]
    kernel = list(flags["kernel"])
    require(kernel == list(flags["strides"]) and not any(flags["pads_begin"]), "AvgPool whose windows overlap")
    rows, columns = (
        [min(side, start + step) - start for start in range(0, side, step)][:count]
        for side, step, count in zip(sides, kernel, shape_of(node)[2:], strict=True)
    )  # of the last window, where it goes beyond the edge, only the pixels within count
    shares = constant(1 / np.outer(rows, columns)[None, None])
    return fit(enlarge(op.multiply(gradients, shares), kernel), sides)


def spread_mean(source: Any, gradients: Any) -> Any:
    """Every pixel gets an equal share of a gradient of the mean."""
    count, (_, channels, *sides) = shape_of(gradients)[0], source.get_shape()
    shares = op.multiply(op.reshape(gradients, integers(count, channels, 1, 1), False), constant(1 / math.prod(sides)))
    return op.broadcast(shares, integers(count, channels, *sides))


def enlarge(tensor: Any, factors: Sequence[int]) -> Any:
    """Every cell of …×h×w repeated."""
    return op.interpolate(
        tensor,
        constant(factors),
        "nearest",
        "scales",
        axes=integers(*SIDES),
        nearest_mode="floor",
        coordinate_transformation_mode="asymmetric",
    )


def fit(tensor: Any, sides: Sequence[int], starts: Sequence[int] = (0, 0)) -> Any:
    """The part of `sides` from `starts` on, with zeros beyond the edge."""
    missing = [
        max(start + side - have, 0) for start, side, have in zip(starts, sides, shape_of(tensor)[2:], strict=True)
    ]
    if any(missing):
        tensor = op.pad(tensor, integers(0, 0, 0, 0), integers(0, 0, *missing), "constant", constant(0))
    if shape_of(tensor)[2:] == tuple(sides):
        return tensor
    ends = [start + side for start, side in zip(starts, sides, strict=True)]
    return op.slice(tensor, integers(*starts), integers(*ends), integers(1, 1), integers(*SIDES))


# ── max pooling ──────────────────────────────────────────────────────────────────────────────────────────────────────


def max_pool(node: Any, _number: int, gradients: Any) -> Any:
    """Of every window the first largest pixel gets the gradient, as in PyTorch."""
    flags, source = node.get_attributes(), node.input_value(0)
    steps, kernel, padding = (list(flags[name]) for name in ("strides", "kernel", "pads_begin"))
    require(steps[0] == steps[1] and set(flags.get("dilations", [1])) == {1}, "MaxPool, unequal strides or dilated")
    step, sides, cells = steps[0], source.get_shape()[2:], shape_of(node)[2:]
    blocks = [-(-(side + pad) // step) for side, pad in zip(sides, padding, strict=True)]
    blocks = [
        max(block, cell + (tap - 1) // step) for block, cell, tap in zip(blocks, cells, kernel, strict=True)
    ]  # blocks of step × step pixels, padding included, that the windows reach
    lowest = constant(np.finfo(np.float32).min)
    after = [block * step - side - pad for block, side, pad in zip(blocks, sides, padding, strict=True)]
    padded = op.pad(source, integers(0, 0, *padding), integers(0, 0, *after), "constant", lowest)
    free: Any = None
    phases: dict[tuple[int, ...], list[Any]] = {phase: [] for phase in product(range(step), repeat=2)}
    for row, column in product(*map(range, kernel)):
        ends = [offset + (cell - 1) * step + 1 for offset, cell in zip((row, column), cells, strict=True)]
        pixels = op.slice(padded, integers(row, column), integers(*ends), integers(step, step), integers(*SIDES))
        largest = as_factor(op.equal(pixels, node.output(0)))
        chosen = largest if free is None else op.multiply(largest, free)
        free = op.subtract(constant(1) if free is None else free, chosen)
        before = row // step, column // step
        behind = [block - cell - shift for block, cell, shift in zip(blocks, cells, before, strict=True)]
        given = op.multiply(gradients, chosen)
        if any((*before, *behind)):
            given = op.pad(given, integers(0, 0, *before), integers(0, 0, *behind), "constant", constant(0))
        phases[row % step, column % step].append(given)
    nothing = constant(np.zeros((shape_of(gradients)[0], source.get_shape()[1], *blocks)))
    pixels = merge_phases([add_up(terms or [nothing]) for terms in phases.values()], step)
    return fit(pixels, sides, padding)


def merge_phases(phases: Sequence[Any], step: int) -> Any:
    """The pixels whose coordinates are i·step + a, j·step + b come from the tensor number a·step + b."""
    return phases[0] if step == 1 else op.depth_to_space(op.concat(list(phases), 1), "blocks_first", step)


# ── convolutions ─────────────────────────────────────────────────────────────────────────────────────────────────────


def convolution(node: Any, number: int, gradients: Any) -> Any:
    require(number == 0, "a convolution whose weights depend on the image")
    flags, weight = node.get_attributes(), value_of(node.input_value(1))
    if is_plain(flags, weight.shape[2:]):
        flipped = weight[..., ::-1, ::-1].swapaxes(0, 1)
        return op.convolution(gradients, constant(flipped), [1, 1], *margins(flags, weight.shape[2:]), [1, 1])
    return op.convolution_backprop_data(gradients, node.input_value(1), *transposed(node, flags))


def group_convolution(node: Any, number: int, gradients: Any) -> Any:
    require(number == 0, "a convolution whose weights depend on the image")
    flags, weight = node.get_attributes(), value_of(node.input_value(1))  # weight: groups, outputs, inputs, h, w
    taps, step = weight.shape[3:], flags["strides"][0]
    require(is_plain({**flags, "strides": [1]}, taps) and set(flags["strides"]) == {step}, "dilated groups")
    if step > 1:  # not by GroupConvolutionBackpropData: OpenVINO 2026.4 errs there
        (_, channels, *cells), sides = shape_of(gradients), node.input_value(0).get_shape()[2:]
        nothing = constant(np.zeros((shape_of(gradients)[0], channels, *cells)))
        gradients = merge_phases([gradients, *[nothing] * (step**2 - 1)], step)
        pads = map(sum, zip(flags["pads_begin"], flags["pads_end"], strict=True))
        gradients = fit(gradients, [side + pad - tap + 1 for side, pad, tap in zip(sides, pads, taps, strict=True)])
    flipped = weight[..., ::-1, ::-1].swapaxes(1, 2)
    return op.group_convolution(gradients, constant(flipped), [1, 1], *margins(flags, taps), [1, 1])


def is_plain(flags: dict[str, Any], taps: Sequence[int]) -> bool:
    """Whether the gradient is a convolution without a stride: this one has none, and pads less than its taps."""
    pads = zip((*flags["pads_begin"], *flags["pads_end"]), (*taps, *taps), strict=True)
    return {*flags["strides"], *flags["dilations"]} == {1} and all(pad < tap for pad, tap in pads)


def margins(flags: dict[str, Any], taps: Sequence[int]) -> list[list[int]]:
    return [[tap - 1 - pad for tap, pad in zip(taps, flags[end], strict=True)] for end in ("pads_begin", "pads_end")]


def transposed(node: Any, flags: dict[str, Any]) -> tuple:
    """Arguments of the transposed convolution after the weights."""
    sides = integers(*node.input_value(0).get_shape()[2:])
    return list(flags["strides"]), sides, list(flags["pads_begin"]), list(flags["pads_end"]), list(flags["dilations"])


Rule = Callable[[Any, int, Any], Any]  # node, number of the input, gradients of the output → gradients of the input
RULES: dict[str, Rule] = {
    "Add": add,
    "Subtract": subtract,
    "Multiply": multiply,
    "Divide": divide,
    "Relu": relu,
    "Sigmoid": sigmoid,
    "Swish": swish,
    "Reshape": reshape,
    "Squeeze": reshape,
    "Unsqueeze": reshape,
    "MatMul": matmul,
    "Concat": concat,
    "ReduceMean": reduce_mean,
    "AdaptiveAvgPool": adaptive_avg_pool,
    "AvgPool": avg_pool,
    "MaxPool": max_pool,
    "Convolution": convolution,
    "GroupConvolution": group_convolution,
}
