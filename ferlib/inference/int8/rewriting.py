"""A network's graph written anew, with its convolutions in 8 bits."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from ferlib.inference.int8.graphs import convolution_arguments, parameters, round_weights
from ferlib.inference.int8.operations import (
    MOVES,
    OPAQUE,
    PackedConvolution,
    Steps,
    convolve,
    convolve_and_add,
    to_real,
    to_whole,
)
from ferlib.inference.int8.units import Unit, before_moves, is_fast

SAMPLE = 2**20  # values of a tensor that are looked at to find the outliers


class Watch(fx.Interpreter):
    """Runs a graph, and keeps the ends of the values of every tensor that may be needed in 8 bits.

    outliers: the share of the values beyond either end, which will be cut off.
    """

    def __init__(self, traced: fx.GraphModule, units: dict[fx.Node, Unit], outliers: float = 0.0):
        super().__init__(traced)
        self.outliers = outliers
        self.ranges = {before_moves(unit.convolution.args[0]): (0.0, 0.0) for unit in units.values()}
        self.ranges |= dict.fromkeys(units, (0.0, 0.0))  # zero, which pads, must be one of the steps

    def run_node(self, node: fx.Node) -> Any:
        result = super().run_node(node)
        if node in self.ranges:
            self.widen(node, result)
        return result

    def widen(self, node: fx.Node, values: torch.Tensor) -> None:
        low, high = self.ranges[node]
        if self.outliers:
            sample = values.flatten()[:: -(-values.numel() // SAMPLE)].float()
            beyond = max(1, round(self.outliers * len(sample)))
            smallest, largest = -(-sample).topk(beyond).values[-1], sample.topk(beyond).values[-1]
        else:
            smallest, largest = values.aminmax()
        self.ranges[node] = min(low, smallest.item()), max(high, largest.item())


class Rewriter:
    """Writes the graph of a network anew, with its convolutions in 8 bits; `compiled`: it will be."""

    def __init__(
        self,
        traced: fx.GraphModule,
        units: dict[fx.Node, Unit],
        ranges: dict[fx.Node, tuple[float, float]],
        batch_size: int,
        compiled: bool,
    ):
        self.traced, self.units, self.batch_size, self.compiled = traced, units, batch_size, compiled
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
            elif node.target in MOVES and node.args[0] in self.whole:
                self.write_move(node)
            elif node.op == "output":
                self.graph.output(fx.map_arg(node.args[0], self.as_real))
            elif node not in inside:
                self.real[node] = self.graph.node_copy(node, self.as_real)
                round_weights(self.traced, node)
        self.graph.eliminate_dead_code()  # the weights
        model = fx.GraphModule(self.traced, self.graph)
        model.packed = self.packed  # keeps them
        return model.to(memory_format=torch.channels_last)

    def write_unit(self, unit: Unit) -> None:
        entry = unit.convolution.args[0]
        in_steps = unit.added is not None or self.is_read_whole(unit.output)
        _, weight, bias, *geometry = convolution_arguments(unit.convolution)
        packed = PackedConvolution(
            *parameters(self.traced, [weight]),
            next(iter(parameters(self.traced, [bias])), None),
            geometry,
            [self.batch_size, *entry.meta["val"].shape[1:]],
            unit.activation,
            self.steps_of(entry),
            self.steps_of(unit.output) if in_steps else None,
            self.steps_of(unit.added) if unit.added else None,
        )
        self.packed.append(packed)
        if unit.added:
            self.run(convolve_and_add, self.as_whole(entry), self.as_whole(unit.added), packed.number)
            self.whole[unit.output] = self.whole[unit.added]
        else:
            output = self.run(convolve, self.as_whole(entry), packed.number)
            (self.whole if in_steps else self.real)[unit.output] = output

    def write_move(self, node: fx.Node) -> None:
        source, *arguments = node.args
        arguments = fx.map_arg(arguments, self.as_real)  # masks
        whole = self.whole[source] if len(source.users) == 1 else self.call(torch.clone, self.whole[source])
        zero = {"zero": self.steps_of(node).zero}
        self.whole[node] = self.graph.call_function(MOVES[node.target], (whole, *arguments), zero)

    def is_read_whole(self, node: fx.Node) -> bool:
        moved = (reader for reader in node.users if reader.target in MOVES)
        return node in self.added or any(map(is_fast, node.users)) or any(map(self.is_read_whole, moved))

    def steps_of(self, node: fx.Node) -> Steps:
        return self.steps[before_moves(node)]

    def as_whole(self, node: fx.Node) -> fx.Node:
        if node not in self.whole:
            self.whole[node] = self.call(to_whole, self.as_real(node), *self.steps_of(node))
        return self.whole[node]

    def as_real(self, node: fx.Node) -> fx.Node:
        if node not in self.real:
            self.real[node] = self.call(to_real, self.whole[node], *self.steps_of(node))
        return self.real[node]

    def run(self, function: Any, *arguments: Any) -> fx.Node:
        return self.call(OPAQUE[function]._opoverload if self.compiled else function, *arguments)

    def call(self, function: Any, *arguments: Any) -> fx.Node:
        return self.graph.call_function(function, arguments)
