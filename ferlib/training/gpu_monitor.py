"""The temperature of a training's GPU: logged, and kept below a limit by pauses between two steps.

A thread reads the GPU every few seconds and leaves the reading in a variable, which is all that a step looks at. The
readings go to the run's own log (Run.gpu_log), from which figures/gpus.py draws the temperature. With train.py
--max-gpu-temp, training pauses between two steps while the GPU is hotter, and goes on when it is COOLER degrees below.
Under torchrun each process reads its own GPU; every few steps the processes exchange on the host whether one is too
hot, and then all pause at the same step: a process left in a collective of the GPUs ends the run after ten minutes.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pynvml
import torch
from tqdm import tqdm

from ferlib.runtime.distributed import HostGroup, is_main, world_size
from ferlib.runtime.errors import UserError
from ferlib.runtime.gpus import HEADER, Reading, append_rows, gpu_at, log_row, nvml, open_log, read_gpu

LOG_HEADER = (*HEADER, "paused")  # 1 where the training waited at that moment, else 0
INTERVAL = 2.0  # seconds between two readings
COOLER = 3.0  # degrees Celsius below the limit at which the training goes on
EXCHANGE_EVERY = 10  # steps between two exchanges of several processes
FAILURES = 15  # failed readings in a row after which the temperature counts as unknown
LIMITS = (30, 110)  # degrees Celsius that make sense as a limit


class NoMonitor:
    """In place of a GpuMonitor where no GPU is monitored; never pauses."""

    def pause_while_hot(self, step: int, bar: tqdm) -> float:  # noqa: ARG002 - the signature of GpuMonitor
        """0, the seconds of the pause."""
        return 0.0


class GpuMonitor:
    """Reads a GPU in a thread and logs it; `pause_while_hot` waits while it, or another process's, is too hot.

    read: a reading of the GPU, or an error of NVML. limit: degrees Celsius, None for a log alone.
    """

    def __init__(self, read: Callable[[], Reading], log: Path, limit: float | None):
        self._read, self._log, self._limit = read, log, limit
        self._processes = HostGroup() if limit is not None else None
        self._failures, self._stopped = 0, threading.Event()
        self.reading, self.hot, self.paused = read(), False, False
        if limit is not None and self.reading.temperature is None:
            raise UserError(f"--max-gpu-temp: GPU {self.reading.index} does not report its temperature")
        self._record(self.reading)
        self._thread = threading.Thread(target=self._read_regularly, name="gpu monitor", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread."""
        self._stopped.set()
        self._thread.join()

    # ── the thread ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _read_regularly(self) -> None:
        while not self._stopped.wait(INTERVAL):
            try:
                self._record(self._read())
            except pynvml.NVMLError:
                self._failures += 1  # the last reading holds until the next one

    def _record(self, reading: Reading) -> None:
        """Logs a reading and decides by it: too hot above the limit, cool again COOLER degrees below it."""
        self.reading = reading
        self._failures = 0 if reading.temperature is not None else self._failures + 1
        if self._limit is not None and reading.temperature is not None:
            self.hot = reading.temperature > self._limit - (COOLER if self.hot else 0)
        with contextlib.suppress(OSError):  # a full disk must not end the protection
            append_rows(self._log, [(*log_row(datetime.now().astimezone(), reading), int(self.paused))])

    # ── the training ─────────────────────────────────────────────────────────────────────────────────────────────────

    def pause_while_hot(self, step: int, bar: tqdm) -> float:
        """Waits before a step while a GPU is too hot; returns the seconds, which the bar's rate does not count.

        UserError where the temperature is no longer known.
        """
        if self._limit is None or (world_size() > 1 and step % EXCHANGE_EVERY) or not self._any_hot():
            return 0.0
        started, self.paused = time.perf_counter(), True
        while self._any_hot():
            bar.set_postfix_str(self._reason(time.perf_counter() - started, self._limit))
            time.sleep(INTERVAL / 4)
        self.paused, seconds = False, time.perf_counter() - started
        if not bar.disable:
            bar.start_t += seconds
        bar.set_postfix_str(f"waited {seconds:.0f} s for the GPU")
        return seconds

    def _any_hot(self) -> bool:
        if self._failures >= FAILURES or not self._thread.is_alive():
            raise UserError(
                "--max-gpu-temp: the GPU no longer reports its temperature (see nvidia-smi); "
                "every finished epoch is kept, go on with --resume"
            )
        return self._processes.any(self.hot) if self._processes else self.hot

    def _reason(self, seconds: float, limit: float) -> str:
        where = f"at {self.reading.temperature} °C" if self.hot else "for another process's GPU"
        return f"paused {seconds:.0f} s: {where}, goes on at {limit - COOLER:g} °C"


@contextlib.contextmanager
def monitor_gpu(device: torch.device, log: Path, limit: float | None = None) -> Iterator[NoMonitor | GpuMonitor]:
    """The monitor of a training's device for the block; an existing log is continued.

    UserError if `limit` is given and cannot be kept. Without a limit, a GPU that NVML does not know (one of AMD, say)
    is not monitored, which is printed; nor is a device of another kind, silently.
    """
    check_limit(device, limit)
    if device.type != "cuda":
        yield NoMonitor()
        return
    monitor: NoMonitor | GpuMonitor = NoMonitor()
    with contextlib.ExitStack() as stack:
        try:
            monitor = start_monitor(stack, device, log, limit)
        except UserError as error:
            if limit is not None:
                raise
            if is_main():
                print(f"the GPU's temperature is not logged: {error}", file=sys.stderr)
        yield monitor


def check_limit(device: torch.device, limit: float | None) -> None:
    """UserError for a limit out of range, or for a device that is no GPU."""
    if limit is None:
        return
    if not LIMITS[0] <= limit <= LIMITS[1]:
        raise UserError(f"--max-gpu-temp {limit:g} is not between {LIMITS[0]} and {LIMITS[1]} °C")
    if device.type != "cuda":
        raise UserError(f"--max-gpu-temp needs an NVIDIA GPU; this training runs on {device.type}")


def start_monitor(stack: contextlib.ExitStack, device: torch.device, log: Path, limit: float | None) -> GpuMonitor:
    """Opens NVML and the log; both end with the stack. UserError where the GPU cannot be monitored."""
    stack.enter_context(nvml())
    try:
        handle = gpu_at(pci_address(device))
        open_log(log, LOG_HEADER)
        monitor = GpuMonitor(lambda: read_gpu(handle), log, limit)
    except pynvml.NVMLError as error:
        raise UserError(f"NVML does not answer for this GPU ({error}); see nvidia-smi") from error
    stack.callback(monitor.stop)
    return monitor


def pci_address(device: torch.device) -> str:
    """PCI address of a CUDA device, whose number in CUDA is not that in NVML."""
    facts: Any = torch.cuda.get_device_properties(device)
    return f"{facts.pci_domain_id:08x}:{facts.pci_bus_id:02x}:{facts.pci_device_id:02x}.0"
