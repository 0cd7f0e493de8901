"""NVML as the tests want it: GPUs of given temperatures, with values that some do not report."""

import types

from ferlib.runtime import gpus
from ferlib.training import gpu_monitor

GIB = 2**30


class NVMLError(Exception):
    pass


class NotSupported(NVMLError):
    pass


class FunctionNotFound(NVMLError):
    pass


class NoPermission(NVMLError):
    pass


def fail(*_arguments) -> None:
    raise NVMLError("NVML Shared Library Not Found")


def unsupported(*_arguments) -> None:
    raise NotSupported("Not Supported")


def fake_nvml(temperatures: list[int], load: int | None = 97, reasons: int = 0x4) -> types.SimpleNamespace:
    """NVML with one GPU per temperature; a GPU whose `load` is None reports neither load nor power."""
    report = unsupported if load is None else lambda _index: types.SimpleNamespace(gpu=load)
    return types.SimpleNamespace(
        NVMLError=NVMLError,
        NVMLError_NotSupported=NotSupported,
        NVMLError_FunctionNotFound=FunctionNotFound,
        NVMLError_NoPermission=NoPermission,
        NVML_TEMPERATURE_GPU=0,
        NVML_CLOCK_SM=1,
        NVML_CLOCK_MEM=2,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetCount=lambda: len(temperatures),
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetHandleByPciBusId_v2=lambda address: int(address.split(":")[1], 16),
        nvmlDeviceGetIndex=lambda index: index,
        nvmlDeviceGetName=lambda _index: "NVIDIA Test",
        nvmlDeviceGetTemperature=lambda index, _sensor: temperatures[index],
        nvmlDeviceGetUtilizationRates=report,
        nvmlDeviceGetMemoryInfo=lambda _index: types.SimpleNamespace(used=3 * GIB, total=16 * GIB),
        nvmlDeviceGetPowerUsage=unsupported if load is None else lambda _index: 209_600,
        nvmlDeviceGetEnforcedPowerLimit=lambda _index: 250_000,
        nvmlDeviceGetClockInfo=lambda _index, clock: 1500 * clock,
        nvmlDeviceGetCurrentClocksThrottleReasons=lambda _index: reasons,
    )


def use(monkeypatch, nvml: types.SimpleNamespace) -> None:
    for module in (gpus, gpu_monitor):
        monkeypatch.setattr(module, "pynvml", nvml)
