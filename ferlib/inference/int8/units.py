"""What of a network's graph is done in one go in 8 bits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import fx

from ferlib.inference.int8.graphs import CONVOLUTION, convolution_arguments, is_plain_sum
from ferlib.inference.int8.operations import MOVES

MIN_CHANNELS = 16  # of an output, for fewer leave the processor's vectors empty
ACTIVATIONS = {  # done with the convolution before them, by oneDNN's names
    torch.ops.aten.relu.default: "relu",
    torch.ops.aten.silu.default: "swish",
    torch.ops.aten.hardswish.default: "hardswish",
}


def is_fast(node: fx.Node) -> bool:
    """Whether this is a convolution, dense or depthwise, that 8 bits make faster."""
    if node.target is not CONVOLUTION or node.args[1].op != "get_attr":
        return False
    *_, padding, _, groups = convolution_arguments(node)
    channels = node.args[0].meta["val"].shape[1], node.meta["val"].shape[1]
    dense = groups == 1 and channels[1] >= MIN_CHANNELS
    return (dense or channels == (groups, groups)) and not isinstance(padding, str)


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
            and (before_moves(added) in units or any(map(is_fast, added.users)))
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
        elif is_plain_sum(node):
            for own, added in (node.args, node.args[::-1]):
                if can_take(node, own, added):
                    units[node] = unit = units.pop(own)
                    unit.output = unit.place = node
                    unit.added = added
                    overwritten.add(added)
                    break
    return units


def before_moves(node: fx.Node) -> fx.Node:
    """Where the numbers come from that are handed on as they are."""
    while node.target in MOVES:
        node = node.args[0]
    return node
