"""A converted network in 8 bits: ranges from training faces, results compared with the exact ones on others.

Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only inference" (2018),
section 3: weights symmetric with one scale per output channel, activations with one scale per tensor, both found after
training; by NNCF, with its correction of biases.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import nn
from tqdm import tqdm

from ferlib.data.face_data import FaceData
from ferlib.inference.engine import Source
from ferlib.inference.openvino_network import Key, OpenVinoNetwork, find_or_convert
from ferlib.runtime.devices import autocast_dtype
from ferlib.runtime.distributed import is_main
from ferlib.runtime.errors import UserError
from ferlib.runtime.openvino import core

RANGE_FACES, TEST_FACES, RANK_FACES = 300, 1000, 8  # for the ranges; for changed classes; for ranks of regions
GRID, MASKS, HIDDEN = 6, 128, 0.5  # regions in a row, sets of them that are hidden, and the grey that hides them
MIN_RANK = 0.99  # Spearman's correlation, median over faces, of the regions' effects in 8 bits and exact
BATCH = 32
FACTS = "agreement"  # where the comparison is kept in the model


@dataclass(frozen=True)
class Ranges:
    """Faces for 8 bits: float32 N×C×H×W in 0..1."""

    training: torch.Tensor  # for the ranges
    others: torch.Tensor  # on which results are compared, of the val split


def draw_ranges(data: FaceData, views: Callable[[np.ndarray], torch.Tensor]) -> Ranges:
    """RANGE_FACES of the train split and TEST_FACES of val, drawn at random; views: as the network is given faces."""
    rng = np.random.default_rng(0)
    pairs = ((data.split("train").images, RANGE_FACES), (data.split("val").images, TEST_FACES))
    rows = [np.sort(rng.permutation(len(faces))[:count]) for faces, count in pairs]
    return Ranges(*(views(faces[chosen]) for (faces, _), chosen in zip(pairs, rows, strict=True)))


@dataclass(frozen=True)
class Agreement:
    """How far results in 8 bits agree with exact ones."""

    flips: float  # share of the faces whose predicted class changes
    faces: int
    rank: float  # Spearman's correlation of the regions' effects, median over RANK_FACES faces


def open_quantized(
    exact: Any, source: Source, max_flips: float, ranges: Callable[[], Ranges] | None
) -> OpenVinoNetwork:
    """The network in 8 bits, from the cache or made of the exact OpenVINO model.

    UserError where classes or ranks change too much, or where faces are needed and there are none.
    """
    key = Key.of(source, f"int8 {source.dataset}")

    def make() -> Any:
        if ranges is None:
            raise UserError(
                "--precision int8 needs training faces once, for the ranges of 8 bits, which are then kept: "
                "run evaluate.py with --precision int8 on this checkpoint first"
            )
        found = quantize_and_compare(exact, ranges())
        found.set_rt_info(source.fingerprint, [FACTS, "fingerprint"])
        return found

    found = find_or_convert(key, make)
    agreement = read_agreement(found)
    if agreement is None or (source.fingerprint and read_fingerprint(found) != source.fingerprint):
        # a file of another kind in its place, or made with other faces of a data set of that name
        key.path.unlink()
        found = find_or_convert(key, make)
        agreement = read_agreement(found)
    assert agreement is not None
    check(agreement, max_flips)
    if is_main():
        print(
            f"8 bits: the predicted class of {agreement.flips:.1%} of {agreement.faces:,} val faces changes, rank "
            f"correlation of regions' effects {agreement.rank:.3f}"
        )
    network = network_of(found, quantized=True)
    network.agreement = vars(agreement)
    return network


def network_of(model: Any, quantized: bool = False) -> OpenVinoNetwork:
    """The network of a model for this process's threads: in float32, or in 8 bits with all else in the fastest type."""
    rest = autocast_dtype(torch.device("cpu")) if quantized else torch.float32
    return OpenVinoNetwork(model, str(rest).removeprefix("torch."), torch.get_num_threads())


def check(agreement: Agreement, max_flips: float) -> None:
    """UserError for more changed classes, or less equal ranks, than allowed."""
    if not agreement.flips <= max_flips:
        raise UserError(
            f"8 bits change the predicted class of {agreement.flips:.1%} of {agreement.faces:,} faces of the val "
            f"split, more than --max-flips {max_flips:g}; leave --precision int8 out, or allow it with --max-flips "
            f"{np.ceil(1000 * agreement.flips) / 1000:g}"
        )
    if not agreement.rank >= MIN_RANK:  # nan where a region has no effect at all
        raise UserError(
            f"8 bits change the order of the regions' effects (rank correlation {agreement.rank:.3f}, at least "
            f"{MIN_RANK} is asked for); leave --precision int8 out"
        )


# ── making ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def quantize_and_compare(exact: Any, ranges: Ranges) -> Any:
    """The OpenVINO model in 8 bits, which holds how far it agrees with the exact one."""
    training, others = len(ranges.training), len(ranges.others)
    print(f"8 bits, once for this checkpoint: ranges of {training:,} training faces, compared on {others:,} of val")
    found = quantize(exact, ranges.training)
    agreement = compare(network_of(exact), network_of(found, quantized=True), ranges.others)
    for name, value in vars(agreement).items():
        found.set_rt_info(str(value), [FACTS, name])
    return found


def read_agreement(model: Any) -> Agreement | None:
    """The comparison that a quantised model holds; None for another model."""
    if not model.has_rt_info([FACTS]):
        return None
    values = {name: float(model.get_rt_info([FACTS, name]).astype(str)) for name in ("flips", "faces", "rank")}
    return Agreement(values["flips"], int(values["faces"]), values["rank"])


def read_fingerprint(model: Any) -> str:
    """That of the faces that a quantised model was made with; "" where it is not known."""
    place = [FACTS, "fingerprint"]
    return model.get_rt_info(place).astype(str) if model.has_rt_info(place) else ""


def quantize(exact: Any, images: torch.Tensor) -> Any:
    """The OpenVINO model in 8 bits with the ranges of images N×C×H×W."""
    core()  # before nncf, which would import openvino in its own way
    import nncf

    for name in ("nncf", "torch.utils.cpp_extension"):
        logging.getLogger(name).setLevel(logging.ERROR)
    faces = nncf.Dataset([image[None].numpy() for image in images])
    with contextlib.redirect_stdout(io.StringIO()):  # bars of its own
        return nncf.quantize(exact, faces, subset_size=len(images))


# ── comparing ────────────────────────────────────────────────────────────────────────────────────────────────────────


@torch.inference_mode()
def compare(exact: nn.Module, quantized: nn.Module, images: torch.Tensor) -> Agreement:
    """The agreement of two networks on faces N×C×H×W, of which the first ones are explained."""
    hidden = min(RANK_FACES, len(images))
    with tqdm(total=2 * (len(images) + hidden * MASKS), unit=" faces", leave=False) as bar:
        classes = [predict(network, images, bar).argmax(1) for network in (exact, quantized)]
        effects = [measure_effects(network, images[:hidden], classes[0], bar) for network in (exact, quantized)]
    ranks = [spearmanr(*pair).statistic for pair in zip(*effects, strict=True)]
    flips = (classes[0] != classes[1]).double().mean().item()
    return Agreement(flips, len(images), float(np.median(ranks)))


def predict(network: nn.Module, images: torch.Tensor, bar: tqdm) -> torch.Tensor:
    """Logits N×K."""
    parts = []
    for batch in images.split(BATCH):
        parts.append(network(batch))
        bar.update(len(batch))
    return torch.cat(parts)


def measure_effects(network: nn.Module, images: torch.Tensor, classes: torch.Tensor, bar: tqdm) -> np.ndarray:
    """Faces × regions: what showing a region of a grid adds to the probability of the face's class, on average."""
    generator = torch.Generator().manual_seed(0)
    shown = torch.rand(MASKS // 2, GRID, GRID, generator=generator) < 0.5
    shown = torch.cat([shown, ~shown])
    masks = nn.functional.interpolate(shown[:, None].float(), images.shape[2:])
    effects = []
    for image, label in zip(images, classes, strict=False):
        probabilities = predict(network, torch.lerp(torch.full_like(image, HIDDEN), image, masks), bar)
        effects.append(shown.flatten(1).double().sub(0.5).T @ probabilities.double().softmax(1)[:, label])
    return torch.stack(effects).numpy()
