"""monitor.py against a fake NVML: what it logs, prints and warns of, and how it ends."""

import csv
import subprocess
import sys
import types
from pathlib import Path

import pytest

import monitor
from config import Monitor
from utils import UserError

GIB = 2**30


class NVMLError(Exception):
    pass


class NotSupported(NVMLError):
    pass


class FunctionNotFound(NVMLError):
    pass


def fake_nvml(temperatures: list[int], load: int | None = 97) -> types.SimpleNamespace:
    """NVML with one GPU per temperature; a GPU whose `load` is None does not report it."""

    def utilization(_index: int) -> types.SimpleNamespace:
        if load is None:
            raise NotSupported("Not Supported")
        return types.SimpleNamespace(gpu=load)

    return types.SimpleNamespace(
        NVMLError=NVMLError,
        NVMLError_NotSupported=NotSupported,
        NVMLError_FunctionNotFound=FunctionNotFound,
        NVML_TEMPERATURE_GPU=0,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetCount=lambda: len(temperatures),
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetName=lambda _index: "NVIDIA Test",
        nvmlDeviceGetTemperature=lambda index, _sensor: temperatures[index],
        nvmlDeviceGetUtilizationRates=utilization,
        nvmlDeviceGetMemoryInfo=lambda _index: types.SimpleNamespace(used=3 * GIB, total=16 * GIB),
    )


@pytest.fixture
def settings(tmp_path):
    return {"interval": 0.001, "log": tmp_path / "logs" / "gpu.csv", "readings": 1}


def use(monkeypatch, nvml: types.SimpleNamespace) -> None:
    monkeypatch.setattr(monitor, "pynvml", nvml)


def read_log(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_log_holds_one_row_per_gpu_and_round(monkeypatch, settings):
    use(monkeypatch, fake_nvml([60, 70]))
    monitor.watch(Monitor(**settings | {"readings": 3}))
    rows = read_log(settings["log"])
    assert [row["gpu"] for row in rows] == ["0", "1"] * 3
    assert rows[1]["temperature_c"] == "70"
    assert rows[1]["load_percent"] == "97"
    assert rows[1]["memory_used_mib"] == str(3 * 1024)
    assert rows[1]["memory_total_mib"] == str(16 * 1024)
    assert "T" in rows[0]["time"]


def test_second_start_appends_under_the_same_header(monkeypatch, settings):
    use(monkeypatch, fake_nvml([60]))
    for _ in range(2):
        monitor.watch(Monitor(**settings))
    lines = settings["log"].read_text().splitlines()
    assert len(lines) == 3
    assert lines[0] == ",".join(monitor.HEADER)


def test_a_file_of_another_kind_is_left_alone(monkeypatch, settings):
    use(monkeypatch, fake_nvml([60]))
    settings["log"].parent.mkdir()
    settings["log"].write_text("thesis,chapter\n")
    with pytest.raises(UserError, match="--log"):
        monitor.watch(Monitor(**settings))
    assert settings["log"].read_text() == "thesis,chapter\n"


def test_warning_only_above_max_temp(monkeypatch, settings, capsys):
    use(monkeypatch, fake_nvml([83, 84]))
    monitor.watch(Monitor(**settings, max_temp=83))
    printed = capsys.readouterr()
    assert "84 °C  load  97 %  memory 3,072 of 16,384 MiB" in printed.out
    assert printed.err == "warning: GPU 1 NVIDIA Test is at 84 °C, above 83 °C\n"


def test_value_that_a_gpu_does_not_report_stays_empty(monkeypatch, settings, capsys):
    use(monkeypatch, fake_nvml([60], load=None))
    monitor.watch(Monitor(**settings))
    assert read_log(settings["log"])[0]["load_percent"] == ""
    assert "load   ? %" in capsys.readouterr().out


def test_load_of_zero_is_a_number(monkeypatch):
    use(monkeypatch, fake_nvml([60], load=0))
    assert monitor.read_gpu(0).load == 0


def test_ctrl_c_ends_cleanly(monkeypatch, settings):
    def press_ctrl_c(_seconds: float) -> None:
        raise KeyboardInterrupt

    use(monkeypatch, fake_nvml([60]))
    monkeypatch.setattr(monitor.time, "sleep", press_ctrl_c)
    monitor.watch(Monitor(**settings | {"readings": None}))
    assert len(read_log(settings["log"])) == 1


def fail(*_arguments) -> None:
    raise NVMLError("NVML Shared Library Not Found")


def test_no_driver_and_no_gpu_are_user_errors(monkeypatch, settings):
    without_driver = fake_nvml([60])
    without_driver.nvmlInit = fail
    for nvml in (without_driver, fake_nvml([])):
        use(monkeypatch, nvml)
        with pytest.raises(UserError, match="no NVIDIA GPU"):
            monitor.watch(Monitor(**settings))
    assert not settings["log"].exists()


def test_gpu_lost_on_the_way_is_a_user_error(monkeypatch, settings):
    lost = fake_nvml([60])
    lost.nvmlDeviceGetTemperature = fail
    use(monkeypatch, lost)
    with pytest.raises(UserError, match="stopped answering"):
        monitor.watch(Monitor(**settings))


@pytest.mark.parametrize("interval", [0, -1, float("nan"), float("inf")])
def test_bad_interval(settings, interval):
    with pytest.raises(UserError, match="--interval"):
        monitor.watch(Monitor(**settings | {"interval": interval}))


def test_bad_number_of_readings(settings):
    with pytest.raises(UserError, match="--readings"):
        monitor.watch(Monitor(**settings | {"readings": 0}))


def test_script_exits_with_1_and_one_line_for_a_bad_setting():
    script = Path(monitor.__file__)
    command = [sys.executable, script.name, "--interval", "0"]
    ended = subprocess.run(command, cwd=script.parent, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr == "error: --interval 0 is not a number of seconds above 0\n"
