"""The gradient of a network's outputs with respect to its images as a network of its own.

Where a network convolves, its gradient does too, with the same weights, flipped (Dumoulin and Visin, "A guide to
convolution arithmetic for deep learning", 2016, chapter 4); a ReLU lets through what it let through on the way there,
and where a tensor went to several places their gradients add up. So what makes networks fast makes gradients fast. Of
one forward pass of n images come the gradients of k outputs at once: tensors (k · n)×C×H×W, output by output.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from ferlib.inference.fast_gradients import phases_as_channels
from ferlib.inference.int8.graphs import (
    CONVOLUTION,
    POOL,
    RELU,
    RESHAPE,
    SUM,
    Shapes,
    convolution_arguments,
    is_plain_sum,
    parameters,
)

SAME_VALUES = {RESHAPE, torch.ops.aten.clone.default, torch.ops.aten.alias.default}
BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes
DETACH = torch.ops.aten.detach.default


class NotReversibleError(ValueError):
    """The gradients cannot be had in this way, or not faster; the message says of what kind of network."""


class GradientGraphs(NamedTuple):
    """forward: n images → logits, then all that backward needs. backward: weights of the logits (k · n)×classes, then
    what forward kept → the gradients of the so weighted logits (k · n)×C×H×W."""

    forward: fx.GraphModule
    backward: fx.GraphModule


@torch.no_grad()
def reverse(traced: fx.GraphModule, images: torch.Tensor) -> GradientGraphs:
    """The graphs of a traced network and of its gradients; `images`: a few, for the shapes of the gradients.

    NotReversibleError for networks that split a tensor in several, as transformers do.
    """
    reverser = Reverser(traced)
    graphs = GradientGraphs(reverser.forward(), reverser.backward())
    logits, *kept = graphs.forward(images)
    Shapes(graphs.backward).run(torch.ones_like(logits), *kept)
    return graphs


class Reverser:
    """Walks a graph from its output to its images, and writes the graph of the gradients."""

    def __init__(self, traced: fx.GraphModule):
        self.traced = traced
        self.nodes = list(traced.graph.nodes)
        self.images = next(node for node in self.nodes if node.op == "placeholder")
        self.depending = {self.images}  # of floating-point tensors, those that depend on the images
        for node in self.nodes:
            if is_tensor(node) and node.target is not DETACH and self.depending & set(node.all_input_nodes):
                self.depending.add(node)
        self.graph, self.root = fx.Graph(), nn.Module()
        self.parts: dict[fx.Node, list[fx.Node]] = {}  # gradients whose sum is that of a node
        self.kept: dict[tuple[fx.Node, Callable], fx.Node] = {}  # placeholders, by node and what is kept of it
        self.write()

    def forward(self) -> fx.GraphModule:
        graph, copies, kept = fx.Graph(), {}, {}
        for node in self.nodes[:-1]:
            copies[node] = graph.node_copy(node, copies.__getitem__)
            for what in (unchanged, shown):
                if (node, what) in self.kept:
                    kept[node, what] = graph.call_function(what, (copies[node],))
        graph.output((copies[self.nodes[-1].args[0]], *(kept[each] for each in self.kept)))
        return fx.GraphModule(self.traced, graph)

    def backward(self) -> fx.GraphModule:
        return fx.GraphModule(self.root, self.graph)

    def write(self) -> None:
        output, gate = self.nodes[-1].args[0], self.find_gate()
        self.parts[output] = [self.graph.placeholder("weights")]
        for node in reversed(self.nodes):
            if node in self.parts:
                gradients, *others = self.parts.pop(node)
                for other in others:
                    gradients = self.call(SUM, gradients, other)
                if node is gate:
                    sizes = self.call(sizes_of, gradients)
                    gradients = self.call(divide, gradients, sizes)
                if node is self.images:
                    self.graph.output(self.call(torch.mul, gradients, sizes))
                else:
                    self.hand_on(node, gradients)

    def find_gate(self) -> fx.Node:
        """The last node that all gradients go through before they come to a convolution.

        Some are a hundred times as large as others, which would get no steps of their own. Divided by their sizes here,
        and multiplied in the end, they are much alike.
        """
        gate = output = self.nodes[-1].args[0]
        open_ends = {output}
        for node in reversed(self.nodes):
            if node in open_ends:
                open_ends.remove(node)
                gate = gate if open_ends else node
                if is_convolution(node):
                    break
                open_ends |= self.depending & set(node.all_input_nodes)
        return gate

    def hand_on(self, node: fx.Node, gradients: fx.Node) -> None:
        """Gives the inputs of a node their parts of its gradients."""
        source = node.args[0]
        if node.target is RELU:
            self.give(source, self.call(let_through, gradients, self.keep(node, shown)))
        elif node.target is POOL and source.target is RELU and len(source.users) == 1:
            # what the pooling chose was let through where it is not zero: looked up among fewer numbers
            chosen = self.call(let_through, gradients, self.keep(node, shown))
            [(_, given)] = self.differentiate(node, chosen)
            self.give(source.args[0], given)
        elif is_plain_sum(node):
            for side in node.args:
                self.give(side, gradients)
        elif node.target in SAME_VALUES:
            self.give(source, self.call(torch.reshape, gradients, (-1, *source.meta["val"].shape[1:])))
        elif node.target is operator.getitem:
            if node.args[1] != 0:  # of what a batch norm returns only the first counts
                raise NotReversibleError(f"a network that uses several results of {source.target}")
            self.give(source, gradients)
        elif is_convolution(node):
            self.give(source, self.convolve(node, gradients))
        else:
            for each, given in self.differentiate(node, gradients):
                self.give(each, given)

    def give(self, node: fx.Node, gradients: fx.Node) -> None:
        if node in self.depending:
            self.parts.setdefault(node, []).append(gradients)

    def convolve(self, node: fx.Node, gradients: fx.Node) -> fx.Node:
        images, weight, _, stride, padding, *_ = convolution_arguments(node)
        (weights,) = parameters(self.traced, [weight])
        size, taps = tuple(images.meta["val"].shape[2:]), weights.shape[2:]
        if set(stride) == {1}:
            margins = [tap - 1 - pad for tap, pad in zip(taps, padding, strict=True)]
            flipped = weights.flip(2, 3).transpose(0, 1).contiguous()
            return self.call(CONVOLUTION, gradients, self.constant(flipped), None, [1, 1], margins)
        if set(taps) == {1}:
            pixels = self.call(CONVOLUTION, gradients, self.constant(weights.transpose(0, 1).contiguous()))
            return self.call(spread, pixels, tuple(stride), size)
        cells = node.meta["val"].shape[2:]
        phases, margins = phases_as_channels(weights, size, stride[0], padding, cells)
        padded = self.call(pad, gradients, margins)
        pixels = self.call(shuffle, self.call(CONVOLUTION, padded, self.constant(phases)), stride[0])
        return self.call(crop, pixels, size) if any(side % stride[0] for side in size) else pixels

    def differentiate(self, node: fx.Node, gradients: fx.Node) -> list[tuple[fx.Node, fx.Node]]:
        """The inputs of any other operation with their parts of its gradients, by autograd."""
        leaves = tree_flatten((node.args, node.kwargs))[0]
        wanted = [number for number, leaf in enumerate(leaves) if leaf in self.depending]
        arguments = fx.map_arg((node.args, node.kwargs), self.value)
        found = self.call(gradients_of, gradients, node.target, *arguments, wanted)
        return [(leaves[number], self.call(operator.getitem, found, i)) for i, number in enumerate(wanted)]

    def value(self, node: fx.Node) -> fx.Node:
        """A node of the network in the graph of the gradients."""
        if node in self.depending:
            return self.keep(node, unchanged)
        if node.op == "get_attr":
            return self.constant(parameters(self.traced, [node])[0])
        return self.graph.node_copy(node, self.value)

    def keep(self, node: fx.Node, what: Callable[[torch.Tensor], torch.Tensor]) -> fx.Node:
        if (node, what) not in self.kept:
            self.kept[node, what] = self.graph.placeholder(f"{what.__name__}_{node.name}")
        return self.kept[node, what]

    def constant(self, tensor: torch.Tensor) -> fx.Node:
        name = f"constant{len(self.root._buffers)}"
        self.root.register_buffer(name, tensor)
        return self.graph.get_attr(name)

    def call(self, function: Callable, *arguments: Any) -> fx.Node:
        return self.graph.call_function(function, arguments)


def is_tensor(node: fx.Node) -> bool:
    """Whether a node is a tensor, or several of which the first one counts."""
    value = node.meta.get("val")
    first = value[0] if isinstance(value, tuple | list) else value
    return node.op == "call_function" and isinstance(first, torch.Tensor)


def is_convolution(node: fx.Node) -> bool:
    """Whether a node is a convolution whose gradient is one without a stride."""
    if node.target is not CONVOLUTION or node.args[1].op != "get_attr":
        return False
    _, weight, _, stride, padding, dilation, groups = convolution_arguments(node)
    if groups != 1 or isinstance(padding, str) or set(dilation) != {1} or len(set(stride)) > 1:
        return False
    return all(pad < tap for pad, tap in zip(padding, weight.meta["val"].shape[2:], strict=True))


# ── what is kept of the forward pass ─────────────────────────────────────────────────────────────────────────────────


def unchanged(features: torch.Tensor) -> torch.Tensor:
    return features


def shown(features: torch.Tensor) -> torch.Tensor:
    """uint8: 255 where what a ReLU returned is not zero, and 0 elsewhere."""
    numbers = features.view(torch.int16) if features.dtype == torch.bfloat16 else features  # as bits, compared faster
    return (numbers > 0).view(torch.uint8).neg_()


# ── operations ───────────────────────────────────────────────────────────────────────────────────────────────────────
# The first five take gradients in floating point, or in 8 bits; `zero` is the number that stands for zero there.


def let_through(gradients: torch.Tensor, mask: torch.Tensor, zero: int = 0) -> torch.Tensor:
    """Gradients (k · n)×C×H×W where the mask, uint8 n×C×H×W, is 255, and zero where it is 0; in 8 bits in place."""
    bits = gradients.view(BITS[gradients.element_size()]).view(-1, *mask.shape)
    if bits.dtype == torch.uint8:
        bits.bitwise_and_(mask).bitwise_or_((~mask).bitwise_and_(zero))
        return gradients
    bits = bits.bitwise_and(mask.view(torch.int8))  # whose sign bit fills the upper ones
    return bits.view(gradients.dtype).view(gradients.shape)


def spread(gradients: torch.Tensor, stride: tuple[int, int], size: tuple[int, int], zero: int = 0) -> torch.Tensor:
    """Every so many pixels of N×C×`size` from N×C×H×W."""
    shape = (*gradients.shape[:2], *size)
    pixels = torch.empty(
        shape, dtype=gradients.dtype, device=gradients.device, memory_format=torch.channels_last
    ).fill_(zero)
    pixels[:, :, :: stride[0], :: stride[1]] = gradients
    return pixels


def pad(gradients: torch.Tensor, margins: tuple[int, ...], zero: int = 0) -> torch.Tensor:
    return F.pad(gradients, margins, value=zero)


def shuffle(gradients: torch.Tensor, step: int, zero: int = 0) -> torch.Tensor:
    return F.pixel_shuffle(gradients, step)


def crop(gradients: torch.Tensor, size: tuple[int, int], zero: int = 0) -> torch.Tensor:
    return gradients[..., : size[0], : size[1]].contiguous(memory_format=torch.channels_last)


def sizes_of(gradients: torch.Tensor) -> torch.Tensor:
    """Root mean square of each of N×…, float32 N×1×1×1."""
    return gradients.float().flatten(1).square().mean(1).sqrt().clamp(min=1e-20).view(-1, 1, 1, 1)


def divide(gradients: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
    return gradients / sizes.view(-1, *(1 for _ in gradients.shape[1:]))


def gradients_of(
    gradients: torch.Tensor, function: Callable, arguments: tuple, named: dict[str, Any], wanted: list[int]
) -> tuple[torch.Tensor, ...]:
    """Gradients of the wanted ones among all arguments of any function, given those of what it returns."""
    leaves, structure = tree_flatten((arguments, named))
    with torch.enable_grad():
        inputs = [leaves[number].detach().requires_grad_() for number in wanted]
        for number, leaf in zip(wanted, inputs, strict=True):
            leaves[number] = leaf
        arguments, named = tree_unflatten(leaves, structure)
        outputs = function(*arguments, **named)
    first = outputs[0] if isinstance(outputs, tuple) else outputs
    parts = (
        torch.autograd.grad(first, inputs, part.to(first.dtype), retain_graph=True)
        for part in gradients.split(len(first))
    )
    return tuple(torch.cat(each) for each in zip(*parts, strict=True))


MOVES = {let_through, spread, pad, shuffle, crop}  # numbers go elsewhere, or become zero
