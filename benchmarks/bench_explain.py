"""Seconds per face of LIME and SHAP: the stock libraries, this project, and the bare passes, side by side in one run.

python benchmarks/bench_explain.py --models resnet50 efficientnet_b0

stock: lime and shap as most projects call them: float32, batches of 32 (LIME) and 50 (SHAP), faces turned into tensors
one by one, a forward and a backward pass per class, the allocator's default settings. ours: explanations.lime (the
model compiled) and explanations.shap, segmentation, sampling and regression included, compiling and drawing not.
limit: as many forward passes (LIME), or forward and seven backward passes (SHAP), of the same prepared model on one
batch that is made once. LIME int8, SHAP int8: the same with --int8. All take turns, so that a change of the machine's
speed affects all of them. The weights are random: they do not change the time.
"""

from __future__ import annotations

import contextlib
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import shap
import torch
import tyro
from lime.lime_image import LimeImageExplainer
from skimage.segmentation import quickshift

sys.path.insert(0, str(Path(__file__).parents[1]))

from config import EMOTIONS
from ferlib.data.synthetic.faces import draw_faces
from ferlib.explanations import lime
from ferlib.explanations.methods import METHODS
from ferlib.explanations.shap import expected_gradients, sample_paths
from ferlib.explanations.superpixels import segmenter
from ferlib.inference.class_gradients import class_gradients
from ferlib.inference.compiled import CompiledIfWorth, compile_or_keep
from ferlib.inference.folding import prepare
from ferlib.inference.int8 import quantization
from ferlib.inference.logit_model import LogitModel
from ferlib.inference.views import center_view
from ferlib.runtime.devices import autocast_dtype, device_name, resolve_device
from ferlib.runtime.errors import UserError
from models import create_model, model_spec
from stock_memory import stock_memory

STOCK_LIME_BATCH, STOCK_SHAP_BATCH = 32, 50
LIME, SHAP = METHODS["lime"], METHODS["shap"]


@dataclass(frozen=True)
class Flags:
    """Flags of the benchmark."""

    models: tuple[str, ...] = ("resnet50", "efficientnet_b0")
    lime_samples: int = LIME.defaults["num_samples"]  # perturbations of a face
    shap_samples: int = 20  # samples of a face; the time of 200 is ten times as long
    bg_samples: int = 20
    batch_size: int = 64
    rounds: int = 2  # turns of each of the three; the median counts
    device: str = "auto"


def stock_lime(model: LogitModel, face: np.ndarray, flags: Flags, device: torch.device) -> None:
    """lime_image with a classifier that turns one picture after the other into a tensor."""

    def classify(pictures: np.ndarray) -> np.ndarray:
        tensors = [torch.from_numpy(picture.transpose(2, 0, 1)).float() for picture in pictures]
        with torch.no_grad():
            return model(torch.stack(tensors).to(device)).softmax(1).cpu().numpy()

    divide = partial(quickshift, **{name: LIME.defaults[name] for name in ("kernel_size", "max_dist", "ratio")})
    LimeImageExplainer(random_state=0).explain_instance(
        face.astype(np.float64), classify, top_labels=len(EMOTIONS), hide_color=0.5, num_samples=flags.lime_samples,
        batch_size=STOCK_LIME_BATCH, segmentation_fn=divide, random_seed=0,
    )  # fmt: skip


def our_lime(model: torch.nn.Module, view: torch.Tensor, flags: Flags) -> None:
    """explanations.lime on one face."""
    target, segments = torch.eye(len(EMOTIONS))[:1], segmenter()
    lime.explain(
        model, view, target, seeds=[0], segments=segments, num_samples=flags.lime_samples, batch_size=flags.batch_size
    )


@torch.inference_mode()
def bare_forward(model: torch.nn.Module, view: torch.Tensor, flags: Flags) -> None:
    """As many forward passes as perturbations."""
    images = constant_batch(view, flags.batch_size)
    for size in batches(flags.lime_samples, flags.batch_size):
        model(images[:size])


def stock_shap(model: LogitModel, view: torch.Tensor, background: torch.Tensor, flags: Flags) -> None:
    """shap.GradientExplainer on one face."""
    explainer = shap.GradientExplainer(model, background, batch_size=STOCK_SHAP_BATCH)
    explainer.shap_values(view, nsamples=flags.shap_samples, rseed=0)


def our_shap(model: torch.nn.Module, view: torch.Tensor, background: torch.Tensor, flags: Flags) -> None:
    """explanations.shap on one face."""
    samples = [sample_paths(flags.shap_samples, len(background), 0)]
    expected_gradients(model, view, background, samples, flags.batch_size)


def bare_backward(model: torch.nn.Module, view: torch.Tensor, flags: Flags) -> None:
    """As many forward passes as samples, each with seven backward passes."""
    images = constant_batch(view, flags.batch_size)
    for size in batches(flags.shap_samples, flags.batch_size):
        for _ in class_gradients(model, images[:size]):
            pass


def constant_batch(view: torch.Tensor, count: int) -> torch.Tensor:
    """The same face `count` times."""
    return view.repeat(count, 1, 1, 1).contiguous(memory_format=torch.channels_last)


def batches(total: int, size: int) -> list[int]:
    """Sizes of the batches of `total` images."""
    return [min(size, total - start) for start in range(0, total, size)]


@torch.inference_mode()
def compile_for(model: LogitModel, view: torch.Tensor, flags: Flags) -> torch.nn.Module:
    """What explain_lime.py does in a long run; a last batch with fewer perturbations takes the model as it is."""
    whole = CompiledIfWorth(model, constant_batch(view, flags.batch_size).shape, passes=0)
    whole.chosen = compile_or_keep(model, constant_batch(view, flags.batch_size))
    return whole


def quantize_for(classifier: torch.nn.Module, views: torch.Tensor, flags: Flags) -> torch.nn.Module:
    """What explain_lime.py --int8 does."""
    size = min(flags.batch_size, quantization.PASS)
    quantized = quantization.quantize(classifier, quantization.half_hidden(views), size)
    batch = constant_batch(views[:1], size)
    return quantization.WholeBatches(LogitModel(quantized, torch.bfloat16), batch)


# ── timing ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def time_turns(contestants: dict[str, Callable[[], None]], rounds: int, device: torch.device) -> dict[str, float]:
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


def compare(name: str, flags: Flags, device: torch.device) -> dict[str, dict[str, float]]:
    """Seconds per face of the three contestants, for LIME and for SHAP."""
    torch.manual_seed(0)
    classifier, spec = create_model(name).to(device), model_spec(name)
    faces = torch.from_numpy(draw_faces(1 + flags.bg_samples, 48, subjects=1).images).to(device)
    views = center_view(faces, spec)
    dtype = autocast_dtype(device)
    plain, fast = LogitModel(classifier), LogitModel(prepare(classifier, views[:1], dtype), dtype)
    view, background = views[:1], views[1:]
    compiled = compile_for(fast, view, flags)
    pixels = view[0].permute(1, 2, 0).cpu().numpy()
    contestants = {
        LIME.title: {
            "stock": lambda: stock_lime(plain, pixels, flags, device),
            "ours": lambda: our_lime(compiled, view, flags),
            "limit": lambda: bare_forward(compiled, view, flags),
        },
        SHAP.title: {
            "stock": lambda: stock_shap(plain, view, background, flags),
            "ours": lambda: our_shap(fast, view, background, flags),
            "limit": lambda: bare_backward(fast, view, flags),
        },
    }
    if quantization.is_available(device):
        whole = quantize_for(classifier, views, flags)
        contestants[LIME.title] |= {
            "ours, int8": lambda: our_lime(whole, view, flags),
            "limit, int8": lambda: bare_forward(whole, view, flags),
        }
        with contextlib.suppress(UserError):  # not for every network
            whole_gradients = quantization.quantize_gradients(fast, classifier, quantization.between(views))
            contestants[SHAP.title] |= {
                "ours, int8": lambda: our_shap(whole_gradients, view, background, flags),
                "limit, int8": lambda: bare_backward(whole_gradients, view, flags),
            }
    for model in (plain, fast):  # the first pass chooses kernels
        bare_backward(model, view, Flags(shap_samples=4))
    rows = {}
    for method, each in contestants.items():
        seconds = time_turns(each, flags.rounds, device)
        rows[method] = {kind: seconds[kind] for kind in ("stock", "ours", "limit")}
        if "ours, int8" in seconds:
            rows[f"{method} int8"] = dict(
                zip(rows[method], (seconds[kind] for kind in ("stock", "ours, int8", "limit, int8")), strict=True)
            )
    return rows


def main() -> None:
    """Prints a line a model and method."""
    flags = tyro.cli(Flags)
    device = resolve_device(flags.device)
    print(
        f"{device_name(device)}, ours in {str(autocast_dtype(device)).removeprefix('torch.')}, batches of "
        f"{flags.batch_size}; LIME: {flags.lime_samples} perturbations, SHAP: {flags.shap_samples} samples"
    )
    print(f"{'model':<18}{'method':<11}{'stock':>9}{'ours':>9}{'limit':>9}  s/face   stock/ours  ours/limit")
    for name in flags.models:
        for method, seconds in compare(name, flags, device).items():
            row = "".join(f"{value:>9.2f}" for value in seconds.values())
            stock, limit = seconds["stock"] / seconds["ours"], seconds["ours"] / seconds["limit"]
            print(f"{name:<18}{method:<11}{row}          {stock:>10.1f}× {limit:>10.2f}×", flush=True)
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB")


if __name__ == "__main__":
    main()
