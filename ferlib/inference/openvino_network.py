"""A network converted to OpenVINO: images to logits on the CPU, kept in the user's cache by its checkpoint's digest."""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from filelock import FileLock
from torch import nn

from ferlib.runtime.arrays import DamagedError, read_npz
from ferlib.runtime.digests import digest
from ferlib.runtime.errors import UserError
from ferlib.runtime.files import atomic_path, make_folder
from ferlib.runtime.openvino import NotConvertibleError, core, import_openvino
from ferlib.runtime.runs import user_cache

if TYPE_CHECKING:
    from ferlib.inference.engine import Source
    from ferlib.inference.quantization import Ranges

HINTS = {"float32": "f32", "bfloat16": "bf16"}  # precision → OpenVINO's name of it
SMALL = 100e6  # multiply-adds a face below which a network takes a single face on one thread
KEPT = 12  # converted networks in the cache; beyond, those that were not used for longest are removed
TOLERANCE = 1e-3  # of the logits' largest, which a conversion may change
TRIED = (2, 3)  # sizes of the batches that a network is traced with, and compared with


# ── computing ────────────────────────────────────────────────────────────────────────────────────────────────────────


def open_network(
    source: Source, precision: str, max_flips: float, ranges: Callable[[], Ranges] | None = None
) -> OpenVinoNetwork:
    """The network in float32, bfloat16 or int8, converted or from the cache; `ranges` as in engine.open_engine.

    NotConvertibleError; UserError for int8 that changes too much, and where faces are needed and there are none.
    """
    threads = torch.get_num_threads()
    exact = find_or_convert(Key.of(source), lambda: convert(source.classifier, source.face))
    if precision != "int8":
        return OpenVinoNetwork(exact, precision, threads)
    from ferlib.inference.quantization import open_quantized

    return open_quantized(exact, source, max_flips, ranges)


class OpenVinoNetwork(nn.Module):
    """A converted network: images float32 N×C×H×W in 0..1 on the CPU → float32 N×…, without gradients.

    One thread at a time may call it. agreement: of one in 8 bits with the exact one.
    """

    agreement: dict[str, float] | None = None

    def __init__(self, model: Any, precision: str, threads: int):
        super().__init__()
        self.model, self.precision, self.threads = model, precision, threads
        self.wrap = import_openvino().Tensor
        self.request = self.compile(model, threads)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits N×7."""
        if len(images) == 1:
            request, inputs, outputs = self.of_one
            np.copyto(inputs, images.detach().numpy())
            request.infer()
            return torch.from_numpy(outputs.copy())
        array = np.ascontiguousarray(images.detach().numpy(), np.float32)
        self.request.infer({0: self.wrap(array, shared_memory=True)}, share_outputs=True)
        return torch.from_numpy(self.request.get_output_tensor(0).data.copy())

    @cached_property
    def of_one(self) -> tuple[Any, np.ndarray, np.ndarray]:
        """The request for a single face, its input and its output: of a fixed shape, with memory of its own, and on one
        thread where the network is small, whose layers take less time than it takes to wake a second one."""
        model = self.model.clone()
        model.reshape([1, *(dimension.get_length() for dimension in list(model.inputs[0].partial_shape)[1:])])
        request = self.compile(model, 1 if multiply_adds(model) < SMALL else self.threads)
        return request, request.get_input_tensor(0).data, request.get_output_tensor(0).data

    def compile(self, model: Any, threads: int) -> Any:
        """A request of the model on so many threads."""
        settings = {
            "INFERENCE_PRECISION_HINT": HINTS[self.precision],
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",  # all threads work on one batch
            "ENABLE_CPU_PINNING": False,  # a thread bound to a core that another program keeps busy holds all up
        }
        return core().compile_model(model, "CPU", settings).create_infer_request()


def multiply_adds(model: Any) -> int:
    """Of the convolutions and linear layers of an OpenVINO model with fixed shapes."""
    total = 0
    for layer in model.get_ops():
        if layer.get_type_name() in ("Convolution", "MatMul"):
            outputs, weights = layer.output(0).get_shape(), layer.input(1).get_shape()
            total += int(np.prod(outputs) * np.prod(weights) // outputs[1])
    return total


# ── converting ───────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Key:
    """What a converted network is kept under: the digest of its checkpoint, its input, and what was made of it."""

    checkpoint: str
    shape: tuple[int, ...]  # C,H,W
    kind: str = "logits"  # what it computes, or the data set of its 8-bit ranges

    @classmethod
    def of(cls, source: Source, kind: str = "logits") -> Key:
        """That of a network."""
        return cls(source.digest, tuple(source.face.shape[1:]), kind)

    @property
    def path(self) -> Path:
        """Its file in the user's cache; another version of OpenVINO has another one."""
        return user_cache() / "openvino" / f"{digest(self, metadata.version('openvino'))}.npz"


def find_or_convert(key: Key, convert: Callable[[], Any]) -> Any:
    """The OpenVINO model under a key, from the cache or made by `convert` and kept there.

    Of several processes one converts, and the others wait for it.
    """
    found = read_cached(key)
    if found is not None:
        return found
    with locked(key.path):
        found = read_cached(key)
        if found is None:
            made = convert()
            write_cached(key, made)
            found = read_cached(key)  # so that the first run computes what the others do, to the last bit
    return made if found is None else found


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """The block runs in one process at a time; in all at once where the folder cannot be written."""
    with ExitStack() as stack:
        with suppress(OSError, UserError):
            make_folder(path.parent)
            stack.enter_context(FileLock(path.with_suffix(".lock")))
        yield


def is_cached(key: Key) -> bool:
    """Whether the model under a key is in the cache."""
    return key.path.exists()


def read_cached(key: Key) -> Any | None:
    """The model in the cache, whose checksum zip verifies; None where it is missing or damaged."""
    try:
        arrays = read_npz(key.path)
        key.path.touch()
    except (DamagedError, OSError):
        return None
    openvino = import_openvino()
    with suppress(RuntimeError, KeyError):  # a whole archive of something else
        return core().read_model(arrays["graph"].tobytes(), openvino.Tensor(arrays["weights"]))
    return None


def write_cached(key: Key, model: Any) -> None:
    """Keeps a model; where the cache cannot be written, it is converted again the next time."""
    openvino = import_openvino()
    with suppress(OSError, UserError, RuntimeError), tempfile.TemporaryDirectory() as folder:
        graph = Path(folder) / "model.xml"
        openvino.save_model(model, graph, compress_to_fp16=False)
        parts = {"graph": graph, "weights": graph.with_suffix(".bin")}
        with atomic_path(key.path) as temporary:
            arrays: dict[str, Any] = {name: np.fromfile(path, np.uint8) for name, path in parts.items()}
            np.savez(temporary, **arrays)
        remove_oldest(key.path.parent)


def remove_oldest(folder: Path) -> None:
    """Leaves the KEPT files that were used last."""
    files = sorted(folder.glob("*.npz"), key=lambda path: path.stat().st_mtime)
    for path in files[:-KEPT]:
        path.unlink(missing_ok=True)
        path.with_suffix(".lock").unlink(missing_ok=True)


@torch.inference_mode(False)
@torch.no_grad()
def convert(model: nn.Module, images: torch.Tensor) -> Any:
    """The OpenVINO model of a network in evaluation mode, for batches of any size.

    images: at least one face N×C×H×W in 0..1, for the shape; outputs are compared on noise. NotConvertibleError where
    an operation is unknown or the outputs differ.
    """
    openvino = import_openvino()
    network = copy.deepcopy(model).eval().requires_grad_(False).to(memory_format=torch.contiguous_format)
    traced_batch = images[:1].clone().repeat(TRIED[0], 1, 1, 1).contiguous()
    noise = torch.Generator().manual_seed(0)  # the face may be a black one, on which much of a network has no effect
    other_batch = torch.rand(TRIED[1], *images.shape[1:], generator=noise)
    expected = network(other_batch).float()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tracing
            found = openvino.convert_model(network, example_input=traced_batch, input=[-1, *images.shape[1:]])
        outputs = OpenVinoNetwork(found, "float32", torch.get_num_threads())(other_batch)
    except (RuntimeError, TypeError, ValueError, AttributeError, openvino.frontend.OpConversionFailure) as error:
        reason = str(error).strip().splitlines()
        raise NotConvertibleError(
            f"OpenVINO cannot convert this network ({reason[-1] if reason else 'unknown'})"
        ) from error
    if outputs.shape != expected.shape or not (outputs - expected).abs().max() <= TOLERANCE * expected.abs().max():
        raise NotConvertibleError("OpenVINO computes other outputs than torch for this network")
    return found
