"""The operations of a network as a graph, and what they are called there."""

from __future__ import annotations

import operator
from collections.abc import Iterable

import torch
from torch import fx, nn

CONVOLUTION, LINEAR = torch.ops.aten.conv2d.default, torch.ops.aten.linear.default
SUM, POOL, RELU = torch.ops.aten.add.Tensor, torch.ops.aten.max_pool2d.default, torch.ops.aten.relu.default
RESHAPE = torch.ops.aten.reshape.default
VIEWS = (torch.ops.aten.view.default, torch.ops.aten._unsafe_view.default)


def trace(model: nn.Module, images: torch.Tensor) -> fx.GraphModule:
    """The operations of the model on batches of any size, none of them in place: images → what the model returns."""
    program = torch.export.export(model, (images,), dynamic_shapes=({0: torch.export.Dim.AUTO},))
    traced = program.run_decompositions({}).module(check_guards=False)
    (output,) = traced.graph.find_nodes(op="output")
    output.args = output.args[0]  # no tuple of one
    for view in VIEWS:
        for node in traced.graph.find_nodes(op="call_function", target=view):
            node.target = RESHAPE  # what comes may lie otherwise in memory
    traced.graph.set_codegen(fx.graph.CodeGen())
    traced.recompile()
    return traced


def convolution_arguments(node: fx.Node) -> tuple:
    """Input, weight, bias, stride, padding, dilation and groups."""
    defaults = (None, None, None, [1, 1], [0, 0], [1, 1], 1)
    return (*node.args, *defaults[len(node.args) :])


def is_plain_sum(node: fx.Node) -> bool:
    """Whether a node adds tensors of one shape."""
    same = (isinstance(side, fx.Node) and side.meta["val"].shape == node.meta["val"].shape for side in node.args)
    return node.target is SUM and not node.kwargs and all(same)


def parameters(traced: fx.GraphModule, nodes: Iterable[fx.Node | None]) -> list[torch.Tensor]:
    return [operator.attrgetter(node.target)(traced) for node in nodes if node is not None and node.op == "get_attr"]


def round_weights(traced: fx.GraphModule, node: fx.Node) -> None:
    """Casts those of a convolution or a linear layer to bfloat16."""
    if node.target in (CONVOLUTION, LINEAR):
        for parameter in parameters(traced, node.args[1:3]):
            parameter.data = parameter.data.to(torch.bfloat16)


class Shapes(fx.Interpreter):
    """Runs a graph, and notes the shapes of all tensors where torch.export does: node.meta["val"]."""

    def run_node(self, node: fx.Node):
        result = super().run_node(node)
        if isinstance(result, torch.Tensor):
            node.meta["val"] = result.to("meta")
        return result
