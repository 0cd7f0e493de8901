"""A trained network, or its gradients, in whole numbers of 8 bits, which some processors multiply fastest.

Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only inference" (2018):
activations affine with one scale per tensor (equation 1), weights symmetric with one scale per output channel (section
3), ranges from a few faces (the post-training way), activations and the sums of residual blocks done with the
convolution before them (section 2.4 and appendix A.2). All else but convolutions stays in bfloat16.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator

import torch
from torch import fx, nn

from config import EMOTIONS
from ferlib.inference.class_gradients import class_gradients
from ferlib.inference.compiled import compile_or_keep
from ferlib.inference.folding import fold, frozen_copy
from ferlib.inference.int8.gradients import NotReversibleError, reverse
from ferlib.inference.int8.graphs import round_weights, trace
from ferlib.inference.int8.rewriting import Rewriter, Watch
from ferlib.inference.int8.units import Unit, find_units
from ferlib.inference.logit_model import LogitModel
from ferlib.runtime.devices import autocast
from ferlib.runtime.errors import UserError

TOLERANCE = 0.2  # of the logits' spread: what 8 bits may change, root mean square
GRADIENT_TOLERANCE = 0.5  # likewise of the gradients, of which many are averaged
MOST_OTHERS = 0.5  # share_of_others beyond which 8 bits do not make gradients faster: measured on models of the zoo
OUTLIERS = 3e-5  # of the gradients at either end, which are cut off so that the others get finer steps
CALIBRATION_BATCH = 8
PASS = 16  # images at once: more, and what the layers hand to one another leaves the processor's cache


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
    return Rewriter(traced, units, watch.ranges, batch_size, compiled=True).rewritten()


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


# ── gradients ────────────────────────────────────────────────────────────────────────────────────────────────────────


class GradientNetwork(nn.Module):
    """A model, and graphs of its gradients.

    model: images → logits. kept: images → logits, then what `backward` needs, as of gradients.reverse, which takes so
    many images in one pass.
    """

    def __init__(self, model: nn.Module, kept: nn.Module, backward: Callable[..., torch.Tensor], images: int):
        super().__init__()
        self.model, self.kept, self.backward, self.images = model, kept, backward, images

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.model(images)

    @torch.no_grad()
    def class_gradients(self, images: torch.Tensor) -> torch.Tensor:
        """Gradients of every logit with respect to the images N×C×H×W: classes×N×C×H×W."""
        with autocast(images.device, torch.bfloat16):
            return torch.cat([part for each in images.split(PASS) for part in self.differentiate(each)], 1)

    def differentiate(self, images: torch.Tensor) -> Iterator[torch.Tensor]:
        logits, *kept = self.kept(images.contiguous(memory_format=torch.channels_last))
        one_hot = torch.eye(logits.shape[1])
        for parts in zip(*(each.split(self.images) for each in (images, *kept)), strict=True):
            gradients = self.backward(one_hot.repeat_interleave(len(parts[0]), 0), *parts[1:])
            yield gradients.view(len(one_hot), *parts[0].shape)


@torch.inference_mode(False)
@torch.no_grad()
def quantize_gradients(model: nn.Module, classifier: nn.Module, images: torch.Tensor) -> GradientNetwork:
    """The model with gradients of the classifier's logits in 8 bits, after forward passes in bfloat16.

    model: computes these logits. images: faces N×C×H×W in 0..1 like those to come, which say how large the gradients
    get. UserError if they suffer, or if 8 bits do not make them faster.
    """
    images, few = images.clone(), images[:4].clone()  # no tensors of inference mode, which cannot be traced
    try:
        network = convert_gradients(model, classifier, images)
    except NotReversibleError as error:
        raise UserError(f"8 bits gain nothing for the gradients of {error}; leave --int8 out") from error
    expected = torch.stack(list(class_gradients(frozen_copy(classifier), few)))
    if (network.class_gradients(few) - expected).square().mean() > GRADIENT_TOLERANCE**2 * expected.square().mean():
        raise UserError("the gradients change too much in 8 bits; leave --int8 out")
    return network


def convert_gradients(model: nn.Module, classifier: nn.Module, images: torch.Tensor) -> GradientNetwork:
    folded = frozen_copy(classifier)
    fold(folded, images[:1])
    kept, backward = reverse(trace(folded, images[:2]), images[:2])
    for node in kept.graph.nodes:
        round_weights(kept, node)
    kept = kept.to(memory_format=torch.channels_last)
    units = find_units(backward.graph)
    if share_of_others(backward, units) > MOST_OTHERS:
        raise NotReversibleError("a network that does so much beside convolutions, ReLUs and sums")
    watch = Watch(backward, units, OUTLIERS)
    GradientNetwork(model, kept, watch.run, CALIBRATION_BATCH).class_gradients(images)
    size = max(1, PASS // len(EMOTIONS))
    rewriter = Rewriter(backward, units, watch.ranges, size * len(EMOTIONS), compiled=False)
    return GradientNetwork(model, kept, rewriter.rewritten(), size)


def share_of_others(backward: fx.GraphModule, units: dict[fx.Node, Unit]) -> float:
    """Gradients that come from autograd's operations, as a share of those that come from convolutions in 8 bits."""
    graph = backward.graph.nodes
    others = (node for node in graph if node.target is operator.getitem and isinstance(node.meta["val"], torch.Tensor))
    by_autograd, by_convolutions = (sum(node.meta["val"].numel() for node in nodes) for nodes in (others, units))
    return by_autograd / max(by_convolutions, 1)


def between(images: torch.Tensor) -> torch.Tensor:
    """On the way from each image N×C×H×W to the one before it, the further the later it comes."""
    shares = torch.linspace(0, 1, len(images)).view(-1, 1, 1, 1)
    return torch.lerp(images, images.roll(1, 0), shares.to(images))


# ── for runs ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def quantized_passes(model: LogitModel, face: torch.Tensor, faces: torch.Tensor, batch_size: int) -> nn.Module:
    """A model for forward passes in 8 bits. face 1×C×H×W: for the shape; faces N×C×H×W: for the ranges."""
    check_available(model, face.device)
    examples, size = half_hidden(faces), min(batch_size, PASS)
    quantized = LogitModel(quantize(model.classifier, examples, size), model.dtype)
    return WholeBatches(quantized, face.repeat(size, 1, 1, 1).contiguous(memory_format=torch.channels_last))


def quantized_gradients(prepared: LogitModel, model: LogitModel, faces: torch.Tensor) -> GradientNetwork:
    """The prepared model with gradients in 8 bits; faces N×C×H×W: for the ranges."""
    check_available(model, faces.device)
    return quantize_gradients(prepared, model.classifier, between(faces))


def check_available(model: LogitModel, device: torch.device) -> None:
    """UserError where 8 bits do not pay."""
    if not is_available(device) or model.dtype != torch.bfloat16:
        raise UserError("--int8 needs an x86 processor with VNNI, and not --no-amp")
