"""Where and how exactly torch computes: device, precision, random state."""

from __future__ import annotations

import contextlib
import ctypes
import random

import numpy as np
import torch

from ferlib.runtime.cores import share_cores
from ferlib.runtime.errors import UserError
from ferlib.runtime.seeds import combine_seeds
from ferlib.runtime.terminal import counted

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h


def resolve_device(name: str) -> torch.device:
    """The device called `name`; "auto" takes cuda, then mps, then cpu."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    keep_freed_memory()
    share_cores()
    if name == "auto":
        return torch.device(next(kind for kind, there in available.items() if there))
    if not available[name]:
        raise UserError(f"--device {name} is not available on this machine; use --device auto")
    return torch.device(name)


def keep_freed_memory() -> None:
    """Lets glibc reuse large blocks instead of giving each back to the kernel, which then clears it page by page.

    A training step on the CPU frees and takes hundreds of megabytes; without page faults it is 10 to 40 % faster.
    """
    with contextlib.suppress(OSError, TypeError, AttributeError):  # no glibc: macOS, musl, Windows
        glibc = ctypes.CDLL("libc.so.6")
        glibc.mallopt(M_MMAP_THRESHOLD, 2**30)
        glibc.mallopt(M_TRIM_THRESHOLD, -1)  # never


def autocast_dtype(device: torch.device, amp: bool = True) -> torch.dtype:
    """The fastest dtype that the device's matrix units take: bfloat16, float16, or float32 (always with amp=False)."""
    if not amp:
        return torch.float32
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if device.type == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return torch.bfloat16
    return torch.float32


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """Mixed precision in `dtype`; does nothing for float32."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)


def seed_everything(*seeds: int) -> None:
    """Seeds Python, NumPy and torch with one number made of `seeds`, so that an epoch repeats without saved states."""
    seed = combine_seeds(*seeds)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - lime and shap draw from the legacy generator
    torch.manual_seed(seed)


def device_name(device: torch.device) -> str:
    """What a reader of the results wants to know of the hardware of one process."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return counted(torch.get_num_threads(), "CPU thread") if device.type == "cpu" else device.type
