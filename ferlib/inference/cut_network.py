"""A network cut at a layer: what comes before by OpenVINO, what follows by torch, with gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from ferlib.inference.engine import Source
from ferlib.inference.openvino_network import (
    TOLERANCE,
    Key,
    NotConvertibleError,
    OpenVinoNetwork,
    convert,
    find_or_convert,
)

Head = Callable[[torch.Tensor], torch.Tensor]  # a layer's output of one face → logits 1×K


@dataclass(frozen=True)
class CutNetwork:
    """A network up to a layer, and what follows."""

    body: nn.Module  # images N×C×H×W → the layer's output
    head: Head

    def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The layer's output in float32, a leaf of the graph, and the logits N×K computed from it."""
        output = self.body(images).requires_grad_()
        return output, torch.cat([self.head(each) for each in output.split(1)])


class Body(nn.Module):
    """A network whose output is that of one of its layers."""

    def __init__(self, classifier: nn.Module, layer: str):
        super().__init__()
        self.classifier, self.layer = classifier, layer

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The layer's output of images N×C×H×W."""
        found = []
        hook = self.classifier.get_submodule(self.layer).register_forward_hook(lambda *call: found.append(call[-1]))
        self.classifier(images)
        hook.remove()
        return found[-1]


def cut_network(source: Source, layer: str, precision: str) -> CutNetwork:
    """The network cut after `layer`, its body in float32 or bfloat16.

    NotConvertibleError where the body cannot be converted, or where what follows needs more than the layer's output.
    """
    head = trace_head(source.classifier, layer, source.face)
    key = Key.of(source, f"output of {layer}")
    body = find_or_convert(key, lambda: convert(Body(source.classifier, layer), source.face))
    return CutNetwork(OpenVinoNetwork(body, precision, torch.get_num_threads()), head)


@torch.inference_mode(False)
def trace_head(classifier: nn.Module, layer: str, face: torch.Tensor) -> Head:
    """What follows a layer as a function of its output for one face; NotConvertibleError where it needs more."""
    from torch.fx.experimental.proxy_tensor import make_fx

    body = Body(classifier, layer)
    faces = [face.clone(), face.flip(-1) * 0.5 + 0.25]
    with torch.no_grad():
        outputs = [body(each).clone() for each in faces]
        head = make_fx(lambda output: run_from(classifier, layer, faces[0], output))(outputs[0])
        head.graph.eliminate_dead_code(lambda node: node.op in ("placeholder", "output"))  # what precedes the layer
        head.recompile()
        expected, found = (torch.cat(list(rows)) for rows in (map(classifier, faces), map(head, outputs)))
    if not (found - expected).abs().max() <= TOLERANCE * expected.abs().max():
        raise NotConvertibleError(f"what follows {layer} needs more than its output")
    return head


def run_from(classifier: nn.Module, layer: str, face: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    """The logits of a face whose output of the layer is replaced."""
    hook = classifier.get_submodule(layer).register_forward_hook(lambda *_: output.clone())
    try:
        return classifier(face)
    finally:
        hook.remove()
