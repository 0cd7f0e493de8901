"""Seconds per face of LIME, KernelSHAP and SHAP: stock and strong contestants, this project, and the bare passes.

python benchmarks/bench_explain.py --models resnet50 efficientnet_b0

stock: lime and shap as most projects call them: float32, batches of 32 (LIME) and 50 (SHAP), faces turned into tensors
one by one, a forward and a backward pass per class, the allocator's default settings. strong: the same libraries as a
good user calls them: batches of --batch-size, whole batches turned into tensors at once, the network in evaluation mode
without gradients of its weights, channels last, compiled and in the fastest dtype. captum: its Lime, KernelShap and
GradientShap, with the network and the batches of strong. ours: explanations.lime, kernel_shap and shap with each
engine, segmentation, sampling and regression included, converting, compiling and drawing not. limit: as many passes of
the same network on one batch that is made once. equal: ours with so many perturbations or samples as err like the stock
library's (benchmarks/bench_passes.py), where --lime-equal or --shap-equal gives the number. All take turns, so that a
change of the machine's speed affects all of them. The weights are random: they do not change the time.
"""

from __future__ import annotations

import contextlib
import json
import resource
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import shap
import torch
import tyro
from captum.attr import GradientShap, KernelShap, Lime
from lime.lime_image import LimeImageExplainer
from skimage.segmentation import quickshift
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))

from config import EMOTIONS
from ferlib.data.synthetic.faces import draw_faces
from ferlib.explanations import lime
from ferlib.explanations.kernel_shap import kernel_shap
from ferlib.explanations.methods import METHODS
from ferlib.explanations.shap import expected_gradients, sample_paths
from ferlib.explanations.superpixels import segmenter
from ferlib.inference import openvino_network, quantization
from ferlib.inference.class_gradients import class_gradients
from ferlib.inference.compiled import CompiledIfWorth, compile_or_keep
from ferlib.inference.engine import is_usable
from ferlib.inference.folding import prepare
from ferlib.inference.logit_model import LogitModel
from ferlib.inference.views import center_view
from ferlib.runtime.devices import autocast_dtype, device_name, resolve_device
from ferlib.runtime.processor import describe_processor
from models import create_model, model_spec
from stock_memory import stock_memory

STOCK_LIME_BATCH, STOCK_SHAP_BATCH = 32, 50
OTHERS = ("stock", "strong", "captum")
LIME, SHAP = METHODS["lime"], METHODS["shap"]
Work = Callable[[], Any]


@dataclass(frozen=True)
class Flags:
    """Flags of the benchmark."""

    models: tuple[str, ...] = ("resnet50", "efficientnet_b0")
    methods: tuple[str, ...] = ("lime", "kernel_shap", "shap")
    lime_samples: int = LIME.defaults["num_samples"]  # perturbations of a face
    lime_equal: int = 0  # perturbations of ours that err as those of stock; 0: left out
    shap_samples: int = 20  # samples of a face; the time of 200 is ten times as long
    shap_equal: int = 0  # samples of ours that err as those of stock; 0: left out
    bg_samples: int = 20
    batch_size: int = 64
    rounds: int = 2  # turns of each contestant; the median counts
    device: str = "auto"
    json: Path | None = None  # write all seconds to this file


@dataclass(frozen=True)
class Networks:
    """A network in the states that the contestants take it."""

    plain: nn.Module  # float32, as it is loaded
    strong: nn.Module  # frozen, channels last, compiled, in the fastest dtype
    strong_gradients: nn.Module  # the same, not compiled: for passes with gradients
    engines: dict[str, nn.Module]  # forward passes: engine and precision → network
    gradients: dict[str, nn.Module]  # passes with gradients


# ── stock and strong ─────────────────────────────────────────────────────────────────────────────────────────────────


def one_by_one(model: nn.Module, pictures: np.ndarray) -> np.ndarray:
    """Probabilities of pictures N×H×W×C, turned into tensors one by one."""
    tensors = [torch.from_numpy(picture.transpose(2, 0, 1)).float() for picture in pictures]
    with torch.no_grad():
        return model(torch.stack(tensors)).softmax(1).cpu().numpy()


def at_once(model: nn.Module, size: int, pictures: np.ndarray) -> np.ndarray:
    """The same, turned at once and filled up to whole batches, as a compiled network needs them."""
    batch = torch.from_numpy(np.asarray(pictures, np.float32)).permute(0, 3, 1, 2)
    missing = size - len(batch)
    batch = torch.cat([batch, batch[:1].expand(missing, -1, -1, -1)]) if missing else batch
    with torch.inference_mode():
        outputs = model(batch.contiguous(memory_format=torch.channels_last))
    return outputs[: len(pictures)].softmax(1).cpu().numpy()


def lime_package(classify: Callable[[np.ndarray], np.ndarray], face: np.ndarray, batch_size: int, samples: int) -> None:
    """lime_image on one face."""
    divide = partial(quickshift, **{name: LIME.defaults[name] for name in ("kernel_size", "max_dist", "ratio")})
    LimeImageExplainer(random_state=0).explain_instance(
        face.astype(np.float64), classify, top_labels=len(EMOTIONS), hide_color=0.5, num_samples=samples,
        batch_size=batch_size, segmentation_fn=divide, random_seed=0,
    )  # fmt: skip


def shap_package(model: nn.Module, view: torch.Tensor, background: torch.Tensor, batch_size: int, samples: int) -> None:
    """shap.GradientExplainer on one face."""
    explainer = shap.GradientExplainer(model, background, batch_size=batch_size)
    explainer.shap_values(view, nsamples=samples, rseed=0)


def probability(model: nn.Module, size: int, images: torch.Tensor) -> torch.Tensor:
    """Of the first class, for captum; images are filled up to whole batches."""
    missing = size - len(images)
    batch = torch.cat([images, images[:1].expand(missing, -1, -1, -1)]) if missing > 0 else images
    with torch.inference_mode():
        return model(batch.contiguous(memory_format=torch.channels_last)).softmax(1)[: len(images), 0]


def captum_regions(kind: Any, model: nn.Module, view: torch.Tensor, flags: Flags) -> None:
    """captum's Lime or KernelShap on one face, of one class, with the regions of ours."""
    regions = torch.from_numpy(segmenter("quickshift")(view[0].permute(1, 2, 0).numpy(), 0).astype(np.int64))
    explainer = kind(partial(probability, model, flags.batch_size))
    explainer.attribute(
        view, baselines=0.5, feature_mask=regions, n_samples=flags.lime_samples, perturbations_per_eval=flags.batch_size
    )


def captum_gradients(model: nn.Module, view: torch.Tensor, background: torch.Tensor, flags: Flags) -> None:
    """captum's GradientShap on one face, of every class."""
    for label in range(len(EMOTIONS)):
        GradientShap(model).attribute(view, background, target=label, n_samples=flags.shap_samples)


# ── ours and the limit ───────────────────────────────────────────────────────────────────────────────────────────────


def our_lime(model: nn.Module, view: torch.Tensor, samples: int, batch_size: int) -> None:
    """explanations.lime on one face."""
    target = torch.eye(len(EMOTIONS))[:1]
    lime.explain(
        model, view, target, seeds=[0], segments=segmenter("quickshift"), num_samples=samples, batch_size=batch_size
    )


def our_kernel_shap(model: nn.Module, view: torch.Tensor, samples: int, batch_size: int) -> None:
    """explanations.kernel_shap on one face."""
    kernel_shap(
        model, view, torch.tensor([0]), segments=segmenter("quickshift"), num_samples=samples, batch_size=batch_size
    )


def our_shap(model: nn.Module, view: torch.Tensor, background: torch.Tensor, samples: int, batch_size: int) -> None:
    """explanations.shap on one face."""
    expected_gradients(model, view, background, [sample_paths(samples, len(background), 0)], batch_size)


@torch.inference_mode()
def bare_forward(model: nn.Module, view: torch.Tensor, samples: int, batch_size: int) -> None:
    """As many forward passes as perturbations."""
    images = constant_batch(view, batch_size)
    for size in batches(samples, batch_size):
        model(images[:size])


def bare_backward(model: nn.Module, view: torch.Tensor, samples: int, batch_size: int) -> None:
    """As many forward passes as samples, each with seven backward passes."""
    images = constant_batch(view, batch_size)
    for size in batches(samples, batch_size):
        for _ in class_gradients(model, images[:size]):
            pass


def constant_batch(view: torch.Tensor, count: int) -> torch.Tensor:
    """The same face `count` times."""
    return view.repeat(count, 1, 1, 1).contiguous(memory_format=torch.channels_last)


def batches(total: int, size: int) -> list[int]:
    """Sizes of the batches of `total` images."""
    return [min(size, total - start) for start in range(0, total, size)]


# ── networks ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def make_networks(name: str, views: torch.Tensor, flags: Flags, device: torch.device) -> Networks:
    """The network in all states; the first pass of each chooses kernels."""
    torch.manual_seed(0)
    classifier, dtype = create_model(name).to(device), autocast_dtype(device)
    batch = constant_batch(views[:1], flags.batch_size)
    fast = LogitModel(prepare(classifier, views[:1], dtype), dtype)
    frozen = LogitModel(create_model(name).to(device).to(memory_format=torch.channels_last), dtype)
    with torch.inference_mode():
        strong = compile_or_keep(frozen, batch.clone(memory_format=torch.channels_last))
        ours = CompiledIfWorth(fast, batch.shape, passes=0)
        ours.chosen = compile_or_keep(fast, batch.clone(memory_format=torch.channels_last))
    precision = str(dtype).removeprefix("torch.")
    engines: dict[str, nn.Module] = {f"torch {precision}": ours}
    if is_usable(device):
        exact = openvino_network.convert(classifier, views[:1])
        engines[f"OpenVINO {precision}"] = openvino_network.OpenVinoNetwork(exact, precision, torch.get_num_threads())
        engines["OpenVINO int8"] = quantization.network_of(quantization.quantize(exact, views), quantized=True)
    return Networks(LogitModel(classifier), strong, frozen, engines, {f"torch {precision}": fast})


# ── timing ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def time_turns(contestants: dict[str, Work], rounds: int, device: torch.device) -> dict[str, float]:
    """Median seconds of each, the turns interleaved."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, work in contestants.items():
            with stock_memory() if name == "stock" else contextlib.nullcontext():
                started = time.perf_counter()
                work()
                if device.type == "cuda":
                    torch.cuda.synchronize()
                seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def lime_contestants(
    networks: Networks, view: torch.Tensor, _background: torch.Tensor, flags: Flags
) -> dict[str, Work]:
    """LIME: contestant → work on one face."""
    pixels, size, samples = view[0].permute(1, 2, 0).cpu().numpy(), flags.batch_size, flags.lime_samples
    found: dict[str, Work] = {
        "stock": lambda: lime_package(partial(one_by_one, networks.plain), pixels, STOCK_LIME_BATCH, samples),
        "strong": lambda: lime_package(partial(at_once, networks.strong, size), pixels, size, samples),
        "captum": lambda: captum_regions(Lime, networks.strong, view, flags),
    }
    return found | ours_and_limits(our_lime, networks.engines, view, flags)


def kernel_shap_contestants(
    networks: Networks, view: torch.Tensor, _background: torch.Tensor, flags: Flags
) -> dict[str, Work]:
    """KernelSHAP of regions: contestant → work on one face; shap has no fast one for regions of pictures."""
    found: dict[str, Work] = {"captum": lambda: captum_regions(KernelShap, networks.strong, view, flags)}
    return found | ours_and_limits(our_kernel_shap, networks.engines, view, flags)


def ours_and_limits(
    method: Callable[..., None], engines: dict[str, nn.Module], view: torch.Tensor, flags: Flags
) -> dict[str, Work]:
    """A method of regions by each engine, and the bare passes."""
    samples, size, found = flags.lime_samples, flags.batch_size, {}
    for name, network in engines.items():
        found[f"ours, {name}"] = partial(method, network, view, samples, size)
        found[f"limit, {name}"] = partial(bare_forward, network, view, samples, size)
        if flags.lime_equal and method is our_lime:
            found[f"equal, {name}"] = partial(method, network, view, flags.lime_equal, size)
    return found


def shap_contestants(networks: Networks, view: torch.Tensor, background: torch.Tensor, flags: Flags) -> dict[str, Work]:
    """SHAP by expected gradients of all classes: contestant → work on one face."""
    samples, size = flags.shap_samples, flags.batch_size
    found: dict[str, Work] = {
        "stock": lambda: shap_package(networks.plain, view, background, STOCK_SHAP_BATCH, samples),
        "strong": lambda: shap_package(networks.strong_gradients, view, background, size, samples),
        "captum": lambda: captum_gradients(networks.strong_gradients, view, background, flags),
    }
    for name, network in networks.gradients.items():
        found[f"ours, {name}"] = partial(our_shap, network, view, background, samples, size)
        found[f"limit, {name}"] = partial(bare_backward, network, view, samples, size)
        if flags.shap_equal:
            found[f"equal, {name}"] = partial(our_shap, network, view, background, flags.shap_equal, size)
    return found


CONTESTANTS = {"lime": lime_contestants, "kernel_shap": kernel_shap_contestants, "shap": shap_contestants}


def compare(name: str, flags: Flags, device: torch.device) -> dict[str, dict[str, float]]:
    """Method → contestant → seconds per face."""
    faces = torch.from_numpy(draw_faces(1 + flags.bg_samples, 48, subjects=1).images).to(device)
    views = center_view(faces, model_spec(name))
    networks = make_networks(name, views, flags, device)
    found = {}
    for method in flags.methods:
        contestants = CONTESTANTS[method](networks, views[:1], views[1:], flags)
        for kind in [kind for kind in contestants if kind.startswith("limit")]:
            contestants[kind]()  # the first pass chooses kernels
        found[method] = time_turns(contestants, flags.rounds, device)
    return found


def print_rows(name: str, method: str, seconds: dict[str, float]) -> None:
    """A line a contestant: seconds, how many times as fast as stock and strong, and beside the limit of its engine."""
    for kind, value in seconds.items():
        others = (seconds.get(other) for other in OTHERS)
        ratios = [f"{other / value:8.2f}×" if other else " " * 9 for other in others]
        limit = seconds.get(kind.replace("ours", "limit")) if kind.startswith("ours") else None
        share = f"{value / limit:8.2f}×" if limit else ""
        print(f"{name:<18}{method:<13}{kind:<26}{value:>9.2f}" + "".join(ratios) + share, flush=True)


def main() -> None:
    """Prints a line a model, method and contestant."""
    warnings.filterwarnings("ignore", module="captum")
    flags = tyro.cli(Flags)
    device = resolve_device(flags.device)
    print(
        f"{describe_processor()}; {device_name(device)}; torch computes in "
        f"{str(autocast_dtype(device)).removeprefix('torch.')}, batches of {flags.batch_size}; LIME, KernelSHAP: "
        f"{flags.lime_samples} perturbations, SHAP: {flags.shap_samples} samples"
    )
    header = "".join(f"{f'/ {name}':>9}" for name in OTHERS)
    print(f"{'model':<18}{'method':<13}{'contestant':<26}{'s/face':>9}{header}{'/ limit':>9}")
    everything = {}
    for name in flags.models:
        everything[name] = compare(name, flags, device)
        for method, seconds in everything[name].items():
            print_rows(name, method, seconds)
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB")
    if flags.json:
        flags.json.write_text(json.dumps({"processor": describe_processor(), "seconds": everything}, indent=1))


if __name__ == "__main__":
    main()
