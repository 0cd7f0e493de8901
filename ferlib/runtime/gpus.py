"""Readings of the NVIDIA GPUs through NVML, and the CSV log of them; imports no torch."""

from __future__ import annotations

import contextlib
import csv
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pynvml

from ferlib.runtime.errors import UserError

HEADER = (
    "time", "gpu", "name", "temperature_c", "load_percent", "memory_used_mib", "memory_total_mib", "power_w",
    "power_limit_w", "sm_clock_mhz", "memory_clock_mhz", "throttle_reasons",
)  # fmt: skip
MIB = 2**20
NONE = "none"
THROTTLES = {  # bits of nvmlClocksThrottleReason… in nvml.h: why the clocks are below their highest
    0x1: "idle",
    0x2: "clocks set by the user",
    0x4: "power limit",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "too hot (driver)",
    0x40: "too hot (hardware)",
    0x80: "power brake",
    0x100: "display clocks",
    0x200: "board limit",
    0x400: "reliability",
}


@dataclass(frozen=True)
class Reading:
    """One reading of one GPU; None where the GPU does not report a value (the load of a MIG instance, for one)."""

    index: int
    name: str
    temperature: int | None  # degrees Celsius
    load: int | None  # percent of the last sampling period with a kernel running
    memory_used: int | None  # MiB
    memory_total: int | None  # MiB
    power: int | None  # watts
    power_limit: int | None  # watts
    sm_clock: int | None  # MHz
    memory_clock: int | None  # MHz
    throttles: str | None  # values of THROTTLES, or "none"


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def nvml() -> Iterator[None]:
    """NVML open for the block; UserError where the library or the driver is missing or a GPU stops answering."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise UserError(f"no NVIDIA GPU to monitor: NVML does not start ({error}); try nvidia-smi") from error
    try:
        yield
    except pynvml.NVMLError as error:
        raise UserError(f"a GPU stopped answering through NVML ({error}); see nvidia-smi") from error
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def read_gpus() -> list[Reading]:
    """One reading per GPU, in NVML's order (by PCI bus, which CUDA_VISIBLE_DEVICES does not change)."""
    return [read_gpu(pynvml.nvmlDeviceGetHandleByIndex(index)) for index in range(pynvml.nvmlDeviceGetCount())]


def gpu_at(pci_address: str) -> Any:
    """The handle of the GPU at a PCI address such as 00000000:17:00.0; NVMLError where there is none."""
    return pynvml.nvmlDeviceGetHandleByPciBusId_v2(pci_address)


def read_gpu(handle: Any) -> Reading:
    """A reading of the GPU behind a handle of NVML."""
    utilization = if_supported(pynvml.nvmlDeviceGetUtilizationRates, handle)
    memory = if_supported(pynvml.nvmlDeviceGetMemoryInfo, handle)
    return Reading(
        index=pynvml.nvmlDeviceGetIndex(handle),
        name=pynvml.nvmlDeviceGetName(handle),
        temperature=if_supported(pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU),
        load=utilization and utilization.gpu,
        memory_used=memory and memory.used // MIB,
        memory_total=memory and memory.total // MIB,
        power=in_watts(if_supported(pynvml.nvmlDeviceGetPowerUsage, handle)),
        power_limit=in_watts(if_supported(pynvml.nvmlDeviceGetEnforcedPowerLimit, handle)),
        sm_clock=if_supported(pynvml.nvmlDeviceGetClockInfo, handle, pynvml.NVML_CLOCK_SM),
        memory_clock=if_supported(pynvml.nvmlDeviceGetClockInfo, handle, pynvml.NVML_CLOCK_MEM),
        throttles=describe_throttles(if_supported(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons, handle)),
    )


def if_supported(query: Callable[..., Any], *arguments: Any) -> Any:
    """The answer of an NVML query, None where this GPU or driver does not support it or keeps it from this user."""
    try:
        return query(*arguments)
    except (pynvml.NVMLError_NotSupported, pynvml.NVMLError_FunctionNotFound, pynvml.NVMLError_NoPermission):
        return None


def in_watts(milliwatts: int | None) -> int | None:
    """Milliwatts in whole watts."""
    return None if milliwatts is None else round(milliwatts / 1000)


def describe_throttles(reasons: int | None) -> str | None:
    """The reasons in a bit mask of NVML, a bit that is not known by its number."""
    if reasons is None:
        return None
    bits = [1 << place for place in range(reasons.bit_length()) if reasons >> place & 1]
    return "; ".join(THROTTLES.get(bit, f"reason {bit:#x}") for bit in bits) or NONE


# ── log ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def open_log(path: Path, header: tuple[str, ...] = HEADER) -> None:
    """Makes the CSV file with its header, or continues one that has the same.

    A log of other columns is moved aside, which is printed. UserError for a file that is no log.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size:
        with path.open(newline="") as file:
            found = tuple(next(csv.reader(file), ()))
        if found == header:
            return
        if found[:2] != HEADER[:2]:
            raise UserError(f"{path} exists and is no log of GPU readings; move it, or give monitor.py another --log")
        aside = free_name(path)
        path.rename(aside)
        print(f"{path} had other columns; it is kept as {aside}", file=sys.stderr)
    append_rows(path, [header])


def free_name(path: Path) -> Path:
    """A name beside `path` that no file has: gpu_old1.csv, gpu_old2.csv, …"""
    number = 1
    while (aside := path.with_name(f"{path.stem}_old{number}{path.suffix}")).exists():
        number += 1
    return aside


def log_row(now: datetime, reading: Reading) -> tuple:
    """The values of HEADER."""
    return (now.isoformat(timespec="seconds"), *astuple(reading))


def append_rows(path: Path, rows: Iterable[tuple]) -> None:
    """Adds rows to the end of a CSV file."""
    with path.open("a", newline="") as file:
        csv.writer(file).writerows(rows)


# ── as text ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def warning(reading: Reading, max_temp: float) -> str | None:
    """A warning for a GPU hotter than `max_temp` degrees Celsius, None for a cooler one."""
    if reading.temperature is None or reading.temperature <= max_temp:
        return None
    return f"warning: GPU {reading.index} {reading.name} is at {reading.temperature} °C, above {max_temp:g} °C"


def format_value(value: int | None, unit: str = "") -> str:
    """A value for people, "?" where the GPU does not report it."""
    return ("?" if value is None else f"{value:,}") + unit


def format_of_limit(value: int | None, limit: int | None) -> str:
    """A value and its limit for people."""
    return f"{format_value(value)} of {format_value(limit)}"
