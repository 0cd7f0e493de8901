"""What models cost: parameters, multiply-adds of a face, faces a second on this machine."""

from __future__ import annotations

import time
from collections.abc import Mapping

import torch
from torch.utils.flop_counter import FlopCounterMode

from ferlib.networks.classifier import FaceClassifier, count_parameters
from ferlib.networks.specs import ModelSpec
from ferlib.runtime.devices import autocast, autocast_dtype, device_name, resolve_device

LINE = "{:36} {:>10} {:>13} {:>9}  {:30} {:10} {:>8}"


def print_costs(specs: Mapping[str, ModelSpec], device_kind: str, batch_size: int, with_speed: bool) -> None:
    """Prints a line a model: parameters with the head, multiply-adds of a face, input, CAM layer, weights, speed."""
    device = resolve_device(device_kind)
    dtype = autocast_dtype(device)
    print(LINE.format("model", "parameters", "multiply-adds", "input", "CAM layer", "ImageNet", "faces/s"))
    for name, spec in specs.items():
        speed = f"{measure_speed(spec, device, dtype, batch_size):.0f}" if with_speed else ""
        print(LINE.format(name, *describe(spec), speed), flush=True)
    print("parameters in millions, multiply-adds of one face in billions; ImageNet: weights to start from,")
    print("partly: all but the new attention")
    if with_speed:
        precision = str(dtype).removeprefix("torch.")
        print(f"faces/s: in evaluation, {batch_size} at a time, {device_name(device)}, {precision}")


def describe(spec: ModelSpec) -> list[str]:
    """Parameters, multiply-adds, input, CAM layer and ImageNet weights of a model, as they are printed."""
    with torch.device("meta"):
        model = FaceClassifier(spec).eval()
    weights = ("partly" if spec.new_parts else "yes") if spec.imagenet else "no"
    cost = count_multiply_adds(model, spec) / 1e9
    size = f"{spec.image_size} {'grey' if spec.channels == 1 else 'RGB'}"
    layer = spec.cam_layer.removeprefix("backbone.")
    return [f"{count_parameters(model) / 1e6:.2f}", f"{cost:.2f}", size, layer, weights]


def count_multiply_adds(model: FaceClassifier, spec: ModelSpec) -> int:
    """Of the convolutions and matrix products of one face; `model` is on the meta device, where nothing is computed."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, spec.channels, spec.image_size, spec.image_size, device="meta"))
    return counter.get_total_flops() // 2


@torch.inference_mode()
def measure_speed(
    spec: ModelSpec, device: torch.device, dtype: torch.dtype, batch_size: int, seconds: float = 1.0
) -> float:
    """Faces per second, from whole batches for at least so many seconds after two that choose kernels."""
    model = FaceClassifier(spec).eval().to(device).to(memory_format=torch.channels_last)
    faces = torch.zeros(batch_size, spec.channels, spec.image_size, spec.image_size, device=device)
    faces = faces.contiguous(memory_format=torch.channels_last)
    with autocast(device, dtype):
        for _ in range(2):
            model(faces)[0, 0].item()
        started, done = time.perf_counter(), 0
        while time.perf_counter() - started < seconds:
            model(faces)[0, 0].item()  # waits for the device
            done += batch_size
    return done / (time.perf_counter() - started)
