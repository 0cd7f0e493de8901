"""gpu_monitor.py: training pauses while its GPU is too hot, alone and in step with others, and records it."""

import csv
import json
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from tqdm import tqdm

import train
from fake_nvml import fail, fake_nvml, use
from ferlib.runtime import gpus
from ferlib.runtime.errors import UserError
from ferlib.training import fitting, gpu_monitor
from ferlib.training.gpu_monitor import GpuMonitor, NoMonitor, check_limit, monitor_gpu

ROOT = Path(__file__).parents[1]
CUDA = torch.device("cuda", 0)


def reading(temperature: int | None) -> gpus.Reading:
    return gpus.Reading(0, "NVIDIA Test", temperature, 99, 1, 2, 3, 4, 5, 6, "none")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(gpu_monitor, "INTERVAL", 0.02)


@pytest.fixture
def log(tmp_path):
    return tmp_path / "gpu.csv"


def rows_of(log: Path) -> list[dict[str, str]]:
    with log.open(newline="") as file:
        return list(csv.DictReader(file))


@contextmanager
def monitoring(log, temperatures, limit):
    """A monitor of a GPU with one temperature after the other, the last one for ever; a callable may fail."""
    left = list(temperatures)

    def read():
        temperature = left.pop(0) if len(left) > 1 else left[0]
        return temperature() if callable(temperature) else reading(temperature)

    gpus.open_log(log, gpu_monitor.LOG_HEADER)
    monitor = GpuMonitor(read, log, limit)
    try:
        yield monitor
    finally:
        monitor.stop()


def wait_until(condition, seconds=5.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_it_waits_until_it_is_three_degrees_cooler(log):
    temperatures = [83, 84, 82, 81, 81, 80]
    with (
        monitoring(log, temperatures, 83) as monitor,
        Path(os.devnull).open("w") as silent,
        tqdm(total=1, file=silent) as bar,
    ):
        assert monitor.pause_while_hot(0, bar) == 0, "83 is not above 83"
        wait_until(lambda: monitor.hot)
        start = bar.start_t
        seconds = monitor.pause_while_hot(1, bar)
        assert seconds > 0
        assert monitor.reading.temperature == 80, "81 is not yet three below"
        assert bar.start_t == pytest.approx(start + seconds), "the rate leaves the pause out"
        assert "for the GPU" in bar.postfix
        assert monitor.pause_while_hot(2, bar) == 0
    paused = {row["temperature_c"]: row["paused"] for row in rows_of(log)}
    assert paused["83"] == "0"
    assert paused["82"] == paused["81"] == "1"


def test_the_bar_says_why_nothing_moves(log):
    shown = []

    class Bar(tqdm):
        def set_postfix_str(self, text="", refresh=True):
            shown.append(text)

    with monitoring(log, [90] * 10 + [60], 75) as monitor, Bar(disable=True) as bar:
        monitor.pause_while_hot(0, bar)
    assert shown[0] == "paused 0 s: at 90 °C, goes on at 72 °C"


def test_a_step_asks_the_gpu_nothing(log):
    asked = []

    def read():
        asked.append(threading.current_thread().name)
        return reading(60)

    gpus.open_log(log, gpu_monitor.LOG_HEADER)
    monitor = GpuMonitor(read, log, 83)
    with tqdm(disable=True) as bar:
        started = time.perf_counter()
        for step in range(20_000):
            monitor.pause_while_hot(step, bar)
        each = (time.perf_counter() - started) / 20_000
    monitor.stop()
    assert asked[0] == threading.current_thread().name, "one reading before the first step"
    assert set(asked[1:]) <= {"gpu monitor"}
    assert each < 1e-4


def test_without_a_limit_it_only_logs(log):
    with monitoring(log, [120], None) as monitor, tqdm(disable=True) as bar:
        assert monitor.pause_while_hot(0, bar) == 0
        wait_until(lambda: len(rows_of(log)) > 2)
    assert {row["paused"] for row in rows_of(log)} == {"0"}


def test_readings_that_fail_for_a_moment_are_borne(log, monkeypatch):
    use(monkeypatch, fake_nvml([60]))
    with monitoring(log, [60, fail, fail, 90, fail, 70], 83) as monitor, tqdm(disable=True) as bar:
        wait_until(lambda: monitor.hot)
        assert monitor.pause_while_hot(0, bar) > 0


@pytest.mark.parametrize("broken", [fail, lambda: reading(None), lambda: 1 / 0])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_protection_that_is_lost_is_an_error(log, monkeypatch, broken):
    use(monkeypatch, fake_nvml([60]))
    monkeypatch.setattr(gpu_monitor, "FAILURES", 3)

    def train_on(monitor, bar):
        while True:
            monitor.pause_while_hot(0, bar)
            time.sleep(0.005)

    with (
        monitoring(log, [60, broken], 83) as monitor,
        tqdm(disable=True) as bar,
        pytest.raises(UserError, match=r"no longer reports its temperature.*--resume"),
    ):
        train_on(monitor, bar)


# ── opening ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("limit", [0, 29, 111, float("nan"), -5])
def test_a_limit_that_makes_no_sense(limit):
    with pytest.raises(UserError, match="is not between 30 and 110"):
        check_limit(CUDA, limit)


def test_protection_of_a_processor_is_refused_before_anything_is_done(train_flags, monkeypatch):
    monkeypatch.setattr(fitting, "load_shared", lambda _flags: pytest.fail("the faces were decoded"))
    with pytest.raises(UserError, match="needs an NVIDIA GPU; this training runs on cpu"):
        train.fit(train_flags("protected", max_gpu_temp=83.0))


@pytest.fixture
def one_gpu(monkeypatch):
    """A CUDA device in PCI slot 1, which is NVML's second GPU."""
    facts = type("Facts", (), {"pci_domain_id": 0, "pci_bus_id": 1, "pci_device_id": 0})
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _device: facts)
    use(monkeypatch, fake_nvml([50, 70]))


def test_the_gpu_of_the_training_is_found_by_its_slot(one_gpu, log):
    with monitor_gpu(CUDA, log, 83) as monitor:
        assert (monitor.reading.index, monitor.reading.temperature) == (1, 70)
    rows = rows_of(log)
    assert rows[0]["gpu"] == "1"
    assert tuple(rows[0]) == gpu_monitor.LOG_HEADER
    assert not [thread for thread in threading.enumerate() if thread.name == "gpu monitor"]


def test_without_nvml_a_training_goes_on_unwatched_unless_it_is_to_be_protected(one_gpu, monkeypatch, log, capsys):
    broken = fake_nvml([50, 70])
    broken.nvmlInit = fail
    use(monkeypatch, broken)
    with monitor_gpu(CUDA, log, None) as monitor:
        assert isinstance(monitor, NoMonitor)
    assert "is not logged: no NVIDIA GPU" in capsys.readouterr().err
    with pytest.raises(UserError, match="no NVIDIA GPU"), monitor_gpu(CUDA, log, 83):
        pass


def test_a_gpu_that_nvml_does_not_know_or_that_has_no_sensor(one_gpu, monkeypatch, log):
    unknown = fake_nvml([50, 70])
    unknown.nvmlDeviceGetHandleByPciBusId_v2 = fail
    blind = fake_nvml([50, None])
    for nvml, words in ((unknown, "does not answer for this GPU"), (blind, "does not report its temperature")):
        use(monkeypatch, nvml)
        with pytest.raises(UserError, match=words), monitor_gpu(CUDA, log, 83):
            pass


# ── in a training ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def hot_at_first(monkeypatch):
    """Trainings whose GPU cools from 90 °C after a few readings."""

    @contextmanager
    def monitor_fake(_device, log, limit):
        with monitoring(log, [90] * 12 + [60], limit) as monitor:
            yield monitor

    monkeypatch.setattr(fitting, "monitor_gpu", monitor_fake)
    monkeypatch.setattr(fitting, "check_limit", lambda *_: None)


def test_pauses_are_recorded_and_do_not_count_as_training(train_flags, hot_at_first, capsys):
    flags = train_flags("hot", max_gpu_temp=83.0)
    flags.run.gpu_log().parent.mkdir(parents=True, exist_ok=True)
    for process in (0, 1):
        flags.run.gpu_log(process).write_text("an older run's\n")
    train.fit(flags)
    assert not flags.run.gpu_log(1).exists(), "a log of a process that there is no more"
    history = json.loads(flags.run.history.read_text())
    first, second = history["epochs"]
    assert first["paused_seconds"] > 0.15
    assert second["paused_seconds"] == 0
    wall = sum(epoch["seconds"] + epoch["paused_seconds"] for epoch in history["epochs"])
    assert history["minutes"] * 60 == pytest.approx(wall - first["paused_seconds"])
    assert history["paused_minutes"] * 60 == pytest.approx(first["paused_seconds"])
    assert history["max_gpu_temp"] == 83
    assert history["began"] == first["began"] <= second["began"] <= history["ended"]
    assert "of waiting for the GPU to cool" in capsys.readouterr().out
    rows = rows_of(flags.run.gpu_log())
    assert rows[0]["temperature_c"] == "90", "the log of a run that is begun anew begins anew"
    assert "1" in {row["paused"] for row in rows}


def test_ctrl_c_ends_a_pause(train_flags, hot_at_first, monkeypatch):
    def press_ctrl_c(_seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(gpu_monitor.time, "sleep", press_ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        train.fit(train_flags("stopped", max_gpu_temp=83.0))
    assert not [thread for thread in threading.enumerate() if thread.name == "gpu monitor"]


TOGETHER = """
import sys, time
from pathlib import Path
from tqdm import tqdm
from ferlib.runtime.distributed import processes, rank
from ferlib.runtime.gpus import Reading, open_log
from ferlib.training import gpu_monitor

gpu_monitor.INTERVAL = 0.05
began = time.monotonic()
with processes():
    def read():
        hot = rank() == 0 and time.monotonic() - began < 1.5
        return Reading(rank(), "NVIDIA Test", 90 if hot else 60, 1, 1, 1, 1, 1, 1, 1, "none")
    log = Path(sys.argv[1]) / f"{rank()}.csv"
    open_log(log, gpu_monitor.LOG_HEADER)
    began = time.monotonic()
    monitor = gpu_monitor.GpuMonitor(read, log, 83)
    waits = [monitor.pause_while_hot(step, tqdm(disable=True)) for step in range(25)]
    monitor.stop()
(Path(sys.argv[1]) / f"{monitor.reading.index}.txt").write_text(" ".join(map(str, waits)))
"""


@pytest.mark.process
def test_all_processes_wait_for_the_hot_one(tmp_path):
    script = tmp_path / "together.py"
    script.write_text(TOGETHER)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([*launcher, script, tmp_path], env=environment, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    for process in (0, 1):
        waits = [float(word) for word in (tmp_path / f"{process}.txt").read_text().split()]
        assert waits[0] > 1
        assert not any(waits[1:])
    assert "1" in {row["paused"] for row in rows_of(tmp_path / "1.csv")}, "the cool one waited too"
