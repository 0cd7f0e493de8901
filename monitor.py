"""Watches temperature, load and memory of the NVIDIA GPUs: python monitor.py --interval 2 --max-temp 83"""

from __future__ import annotations

import contextlib
import csv
import itertools
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pynvml
import tyro

from config import Monitor
from utils import UserError, run_script

HEADER = ("time", "gpu", "name", "temperature_c", "load_percent", "memory_used_mib", "memory_total_mib")
MIB = 2**20


@dataclass(frozen=True)
class Reading:
    """One look at one GPU; None where the GPU does not report a value (the load of a MIG instance, for one)."""

    index: int
    name: str
    temperature: int | None  # degrees Celsius
    load: int | None  # percent of the last sampling period with a kernel running
    memory_used: int | None  # MiB
    memory_total: int | None  # MiB


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def nvml() -> Iterator[None]:
    """NVML open for the block; UserError where the library or the driver is missing or a GPU stops answering."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise UserError(f"no NVIDIA GPU to watch: NVML does not start ({error}); try nvidia-smi") from error
    try:
        yield
    except pynvml.NVMLError as error:
        raise UserError(f"a GPU stopped answering through NVML ({error}); see nvidia-smi") from error
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def read_gpus() -> list[Reading]:
    """One reading per GPU, in NVML's order (by PCI bus, which CUDA_VISIBLE_DEVICES does not change)."""
    return [read_gpu(index) for index in range(pynvml.nvmlDeviceGetCount())]


def read_gpu(index: int) -> Reading:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    temperature = if_supported(pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU)
    utilization = if_supported(pynvml.nvmlDeviceGetUtilizationRates, handle)
    memory = if_supported(pynvml.nvmlDeviceGetMemoryInfo, handle)
    return Reading(
        index=index,
        name=pynvml.nvmlDeviceGetName(handle),
        temperature=temperature,
        load=utilization and utilization.gpu,
        memory_used=memory and memory.used // MIB,
        memory_total=memory and memory.total // MIB,
    )


def if_supported(query: Callable[..., Any], *arguments: Any) -> Any:
    """The answer of an NVML query, None where this GPU or driver does not support it."""
    try:
        return query(*arguments)
    except (pynvml.NVMLError_NotSupported, pynvml.NVMLError_FunctionNotFound):
        return None


# ── log and terminal ─────────────────────────────────────────────────────────────────────────────────────────────────


def open_log(path: Path) -> None:
    """Makes the CSV file with its header; one that is there already is kept and must have the same header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.stat().st_size == 0:
        append_rows(path, [HEADER])
        return
    with path.open(newline="") as file:
        if tuple(next(csv.reader(file), ())) != HEADER:
            raise UserError(f"{path} exists and is no log of monitor.py; name another file with --log")


def append_rows(path: Path, rows: list[tuple]) -> None:
    with path.open("a", newline="") as file:
        csv.writer(file).writerows(rows)


def describe(reading: Reading) -> str:
    """The live line of one GPU."""
    temperature = "?" if reading.temperature is None else reading.temperature
    load = "?" if reading.load is None else reading.load
    used, total = ("?" if mib is None else f"{mib:,}" for mib in (reading.memory_used, reading.memory_total))
    return f"GPU {reading.index} {reading.name}  {temperature:>3} °C  load {load:>3} %  memory {used} of {total} MiB"


def warning(reading: Reading, max_temp: float) -> str | None:
    """What to say of a GPU hotter than `max_temp` degrees Celsius, None for a cooler one."""
    if reading.temperature is None or reading.temperature <= max_temp:
        return None
    return f"warning: GPU {reading.index} {reading.name} is at {reading.temperature} °C, above {max_temp:g} °C"


def record(readings: list[Reading], log: Path, max_temp: float) -> None:
    """Logs and prints one round of readings; warnings go to stderr."""
    now = datetime.now().astimezone()
    append_rows(log, [(now.isoformat(timespec="seconds"), *astuple(reading)) for reading in readings])
    for reading in readings:
        print(f"{now:%H:%M:%S}  {describe(reading)}", flush=True)
        if message := warning(reading, max_temp):
            print(message, file=sys.stderr, flush=True)


# ── loop ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def check(config: Monitor) -> None:
    if not (math.isfinite(config.interval) and config.interval > 0):
        raise UserError(f"--interval {config.interval:g} is not a number of seconds above 0")
    if config.readings is not None and config.readings < 1:
        raise UserError(f"--readings {config.readings} is not a number of readings from 1 up")


def watch(config: Monitor) -> None:
    """Reads, logs and prints every `interval` seconds until `readings` rounds are done or ctrl-C.

    Raises UserError for a bad setting, without an NVIDIA GPU, and when NVML fails on the way.
    """
    check(config)
    with nvml(), contextlib.suppress(KeyboardInterrupt):
        if not read_gpus():
            raise UserError("no NVIDIA GPU to watch: the driver is there, but it lists no GPU")
        open_log(config.log)
        for done in itertools.count(1):
            record(read_gpus(), config.log, config.max_temp)
            if done == config.readings:
                return
            time.sleep(config.interval)


def main() -> None:
    watch(tyro.cli(Monitor))


if __name__ == "__main__":
    run_script(main)
