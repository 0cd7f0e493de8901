"""What computes the forward passes of a run, torch or OpenVINO, and in which precision."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import metadata
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from config import EngineFlags
from ferlib.networks.specs import ModelSpec
from ferlib.runtime.devices import autocast_dtype
from ferlib.runtime.errors import UserError
from ferlib.runtime.openvino import PACKAGES, NotConvertibleError, is_installed

if TYPE_CHECKING:
    from ferlib.inference.openvino_network import OpenVinoNetwork
    from ferlib.inference.quantization import Ranges

WORTH = 1e12  # multiply-adds from which converting a network, 2 to 6 s, pays: some 10 s of them on two cores
ENDLESS = float("inf")  # passes of what runs until it is stopped: a camera, a web page


@dataclass(frozen=True)
class Engine:
    """What computes forward passes: `name` torch or openvino; `precision` float32, float16, bfloat16 or int8."""

    name: str
    precision: str
    dtype: torch.dtype  # of what torch computes: all with torch; gradients, and single passes, with OpenVINO
    agreement: dict[str, float] | None = None  # of 8 bits with the exact network, as quantization.Agreement

    @property
    def title(self) -> str:
        """Its name and version, as results hold it."""
        return f"{self.name} {metadata.version(self.name)}"

    def describe(self) -> dict[str, Any]:
        """Engine, precision and, of 8 bits, how far they agree, as results hold them."""
        facts = {"engine": self.title, "precision": self.precision}
        return facts if self.agreement is None else {**facts, "agreement": self.agreement}


TORCH = Engine("torch", "float32", torch.float32)


@dataclass(frozen=True)
class Source:
    """A network whose passes are computed: the classifier of a checkpoint on its device."""

    classifier: nn.Module
    spec: ModelSpec
    face: torch.Tensor  # 1×C×H×W in 0..1 on the device
    digest: str  # of the checkpoint
    dataset: str = ""  # whose training faces give the ranges of 8 bits
    fingerprint: str = ""  # of these faces; "": they are not at hand


def open_engine(
    flags: EngineFlags,
    source: Source,
    *,
    amp: bool = True,
    passes: float = 0.0,
    ranges: Callable[[], Ranges] | None = None,
) -> tuple[Engine, OpenVinoNetwork | None]:
    """The engine for so many passes of single faces, and the converted network; None for torch.

    ranges: faces for --precision int8, unless its network is kept already. Where --engine auto meets a network that
    OpenVINO cannot compute, torch computes it, which is printed. UserError for what the flags ask for and cannot be.
    """
    device = source.face.device
    engine = choose_engine(
        flags, device, amp=amp, pays=lambda: bool(passes) and passes * multiply_adds(source) >= WORTH
    )
    if engine.name == "torch":
        return engine, None
    try:
        from ferlib.inference.openvino_network import open_network

        network = open_network(source, engine.precision, flags.max_flips, ranges)
        return replace(engine, agreement=network.agreement), network
    except NotConvertibleError as error:
        if flags.engine == "openvino" or engine.precision == "int8":
            raise
        print(f"note: {error}; torch computes it", file=sys.stderr)
        return replace(engine, name="torch"), None


def choose_engine(
    flags: EngineFlags, device: torch.device, *, amp: bool = True, pays: Callable[[], bool] = lambda: False
) -> Engine:
    """The engine for a device; UserError for what cannot be.

    --engine auto: OpenVINO on CPUs, where it is installed and the run is long enough to pay for the conversion
    (`pays`). --precision auto: the fastest that the device has but int8, which changes results and is only taken where
    it is asked for. amp=False: float32.
    """
    if not 0 <= flags.max_flips <= 1:
        raise UserError(f"--max-flips {flags.max_flips:g} is not a share of faces in 0..1")
    check_packages(flags.engine, flags.precision, device)
    dtype = choose_dtype(flags.precision, device, amp)
    if flags.precision == "int8":
        return Engine("openvino", "int8", dtype)
    converted = flags.engine == "openvino" or (flags.engine == "auto" and is_usable(device) and pays())
    return Engine("openvino" if converted else "torch", name_of(dtype), dtype)


def is_usable(device: torch.device) -> bool:
    """Whether OpenVINO can compute on the device."""
    return device.type == "cpu" and is_installed()


def is_kept(source: Source) -> bool:
    """Whether the converted network is in the user's cache."""
    from ferlib.inference.openvino_network import Key, is_cached

    return is_cached(Key.of(source))


@torch.no_grad()
def multiply_adds(source: Source) -> int:
    """Of convolutions and linear layers for one face; counted in a pass, as torch's own counter takes 3 s to load."""
    counts: list[int] = []

    def count(layer: nn.Module, _inputs: tuple, output: torch.Tensor) -> None:
        weight = layer.get_parameter("weight")  # outputs, inputs of a group, …
        counts.append(output.numel() * weight[0].numel())

    layers = [layer for layer in source.classifier.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    source.classifier(source.face)
    for hook in hooks:
        hook.remove()
    return sum(counts)


def check_packages(name: str, precision: str, device: torch.device) -> None:
    """UserError for an engine or a precision that this device does not have, or whose packages are missing."""
    wanted = "--precision int8" if precision == "int8" else f"--engine {name}"
    if name == "torch" and precision == "int8":
        raise UserError("--precision int8 is computed by OpenVINO; leave --engine torch out")
    if precision != "int8" and name != "openvino":
        return
    if device.type != "cpu":
        raise UserError(f"{wanted} is computed on CPUs, not on {device.type}; add --device cpu, or leave it out")
    if not is_installed():
        raise UserError(f"{wanted} needs packages that are not all installed; run: pip install {' '.join(PACKAGES)}")


def choose_dtype(precision: str, device: torch.device, amp: bool) -> torch.dtype:
    """The dtype in which torch computes; UserError for two flags that exclude each other and for missing bfloat16."""
    if not amp and precision not in ("auto", "float32"):
        raise UserError(f"--no-amp computes in float32, not in {precision}; leave --no-amp or --precision out")
    dtype = autocast_dtype(device, amp and precision != "float32")
    if precision == "bfloat16" and dtype != torch.bfloat16:
        raise UserError(f"this {device.type} has no bfloat16; leave --precision bfloat16 out")
    return dtype


def name_of(dtype: torch.dtype) -> str:
    """Name of a dtype, such as float32."""
    return str(dtype).removeprefix("torch.")
