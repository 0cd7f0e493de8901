"""monitor.py and gpus.py against a fake NVML: what they log, show and warn of, and how they end."""

import csv
import io
import re
import subprocess
import sys
from pathlib import Path

import pytest

import monitor
from config import Monitor
from fake_nvml import fail, fake_nvml, use
from ferlib.runtime import gpu_screen, gpus
from ferlib.runtime.errors import UserError


@pytest.fixture
def settings(tmp_path):
    return {"interval": 0.001, "log": tmp_path / "logs" / "gpu.csv", "readings": 1}


def read_log(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# ── the log ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_log_holds_one_row_per_gpu_and_round(monkeypatch, settings):
    use(monkeypatch, fake_nvml([60, 70], reasons=0x44))
    monitor.monitor_gpus(Monitor(**settings | {"readings": 3}))
    rows = read_log(settings["log"])
    assert [row["gpu"] for row in rows] == ["0", "1"] * 3
    assert "T" in rows[1].pop("time")
    assert rows[1] == {
        "gpu": "1",
        "name": "NVIDIA Test",
        "temperature_c": "70",
        "load_percent": "97",
        "memory_used_mib": str(3 * 1024),
        "memory_total_mib": str(16 * 1024),
        "power_w": "210",
        "power_limit_w": "250",
        "sm_clock_mhz": "1500",
        "memory_clock_mhz": "3000",
        "throttle_reasons": "power limit; too hot (hardware)",
    }


def test_second_start_appends_under_the_same_header(monkeypatch, settings):
    use(monkeypatch, fake_nvml([60]))
    for _ in range(2):
        monitor.monitor_gpus(Monitor(**settings))
    lines = settings["log"].read_text().splitlines()
    assert len(lines) == 3
    assert lines[0] == ",".join(gpus.HEADER)


def test_a_log_of_other_columns_is_moved_aside_and_kept(monkeypatch, settings, capsys):
    use(monkeypatch, fake_nvml([60]))
    settings["log"].parent.mkdir()
    for number in (1, 2):
        old = f"time,gpu,name,temperature_c\n2026-01-01T00:00:00,0,NVIDIA Test,{number}\n"
        settings["log"].write_text(old)
        monitor.monitor_gpus(Monitor(**settings))
        aside = settings["log"].with_name(f"gpu_old{number}.csv")
        assert aside.read_text() == old
        assert str(aside) in capsys.readouterr().err
        assert len(read_log(settings["log"])) == 1


def test_a_file_of_another_kind_is_left_alone(monkeypatch, settings):
    use(monkeypatch, fake_nvml([60]))
    settings["log"].parent.mkdir()
    settings["log"].write_text("thesis,chapter\n")
    with pytest.raises(UserError, match="--log"):
        monitor.monitor_gpus(Monitor(**settings))
    assert settings["log"].read_text() == "thesis,chapter\n"


def test_value_that_a_gpu_does_not_report_stays_empty(monkeypatch, settings, capsys):
    use(monkeypatch, fake_nvml([60], load=None))
    monitor.monitor_gpus(Monitor(**settings))
    [row] = read_log(settings["log"])
    assert (row["load_percent"], row["power_w"], row["power_limit_w"]) == ("", "", "250")
    printed = capsys.readouterr().out
    assert "load   ? %" in printed
    assert "power ? of 250 W" in printed


def test_load_of_zero_is_a_number(monkeypatch):
    use(monkeypatch, fake_nvml([60], load=0))
    assert gpus.read_gpu(0).load == 0


@pytest.mark.parametrize(
    ("mask", "words"),
    [(None, None), (0, "none"), (0x1, "idle"), (0x24, "power limit; too hot (driver)"), (0x8000, "reason 0x8000")],
)
def test_throttle_reasons_in_words(mask, words):
    assert gpus.describe_throttles(mask) == words


def test_every_throttle_reason_of_nvml_has_words():
    import pynvml

    names = [name for name in dir(pynvml) if re.match(r"nvmlClocks(Throttle|Event)Reason(?!All|None)", name)]
    masks = {getattr(pynvml, name) for name in names if isinstance(getattr(pynvml, name), int)}
    assert masks
    assert masks <= set(gpus.THROTTLES)


# ── lines and table ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_warning_only_above_max_temp(monkeypatch, settings, capsys):
    use(monkeypatch, fake_nvml([83, 84]))
    monitor.monitor_gpus(Monitor(**settings, max_temp=83))
    printed = capsys.readouterr()
    assert "84 °C  load  97 %  memory 3,072 of 16,384 MiB  power 210 of 250 W" in printed.out
    assert "clocks 1,500 and 3,000 MHz  slowed by: power limit" in printed.out
    assert "\x1b" not in printed.out, "no escape codes where there is no terminal"
    assert printed.err == "warning: GPU 1 NVIDIA Test is at 84 °C, above 83 °C\n"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def show(text: str) -> list[str]:
    """The lines that a terminal shows after the escape codes that monitor.py writes."""
    lines, row = [""], 0
    for code, up, plain in re.findall(r"(\x1b\[(\d*)[A-Za-z]|\x1b\[1;31m)|([^\x1b]+)", text):
        if code.endswith("F"):
            row -= int(up)
        elif code.endswith("2K"):
            lines[row] = ""
        elif code.endswith("J"):
            del lines[row + 1 :]
        for number, part in enumerate(plain.split("\n")):
            row += number > 0
            lines += [""] * (row + 1 - len(lines))
            lines[row] += part
    return lines


def open_terminal(monkeypatch) -> Terminal:
    """A terminal of 120 × 24 on stdout and stderr; opened within a test, as pytest changes both before it."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("LINES", "24")
    monkeypatch.delenv("NO_COLOR", raising=False)
    screen = Terminal()
    monkeypatch.setattr("sys.stdout", screen)
    monkeypatch.setattr("sys.stderr", screen)
    return screen


def test_table_is_drawn_in_its_place(monkeypatch, settings):
    terminal = open_terminal(monkeypatch)
    temperatures = [60, 84]
    use(monkeypatch, fake_nvml(temperatures))
    monkeypatch.setattr(monitor.time, "sleep", lambda _seconds: temperatures.__setitem__(1, 71))
    monitor.monitor_gpus(Monitor(**settings | {"readings": 1}, max_temp=83))
    first = show(terminal.getvalue())
    assert len(first) == 6
    assert re.match(r"GPU +°C +load +memory in MiB +power in W +SM MHz +memory MHz +slowed by", first[0])
    assert re.match(r"0 NVIDIA Test +60 +97 % +3,072 of 16,384 +210 of 250 +1,500 +3,000 +power limit", first[1])
    assert "above 83 °C" in first[3]
    assert f"{gpu_screen.RED}1 NVIDIA Test" in terminal.getvalue()
    terminal.seek(0)
    terminal.truncate()
    temperatures[1] = 84
    monitor.monitor_gpus(Monitor(**settings | {"readings": 3}, max_temp=83))
    last = show(terminal.getvalue())
    assert len(last) == 5, "three rounds take the place of one, and the warning is gone"
    assert "71" in last[2]


def test_table_fits_a_small_terminal(monkeypatch, settings):
    terminal = open_terminal(monkeypatch)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("LINES", "4")
    use(monkeypatch, fake_nvml([90] * 8))
    monitor.monitor_gpus(Monitor(**settings | {"readings": 2}))
    lines = show(terminal.getvalue())
    assert len(lines) == 4
    assert max(map(len, lines)) == 39


def test_warnings_reach_a_file_on_stderr(monkeypatch, settings):
    open_terminal(monkeypatch)
    errors = io.StringIO()
    monkeypatch.setattr("sys.stderr", errors)
    use(monkeypatch, fake_nvml([90]))
    monitor.monitor_gpus(Monitor(**settings))
    assert "at 90 °C" in errors.getvalue()


def test_no_colour_on_request(monkeypatch, settings):
    terminal = open_terminal(monkeypatch)
    monkeypatch.setenv("NO_COLOR", "1")
    use(monkeypatch, fake_nvml([90]))
    monitor.monitor_gpus(Monitor(**settings))
    assert "warning" in terminal.getvalue()
    assert gpu_screen.RED not in terminal.getvalue()


# ── the end ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_ctrl_c_ends_cleanly(monkeypatch, settings):
    def press_ctrl_c(_seconds: float) -> None:
        raise KeyboardInterrupt

    use(monkeypatch, fake_nvml([60]))
    monkeypatch.setattr(monitor.time, "sleep", press_ctrl_c)
    monitor.monitor_gpus(Monitor(**settings | {"readings": None}))
    assert len(read_log(settings["log"])) == 1


def test_no_driver_and_no_gpu_are_user_errors(monkeypatch, settings):
    without_driver = fake_nvml([60])
    without_driver.nvmlInit = fail
    for nvml in (without_driver, fake_nvml([])):
        use(monkeypatch, nvml)
        with pytest.raises(UserError, match="no NVIDIA GPU"):
            monitor.monitor_gpus(Monitor(**settings))
    assert not settings["log"].exists()


def test_gpu_lost_on_the_way_is_a_user_error(monkeypatch, settings):
    lost = fake_nvml([60])
    lost.nvmlDeviceGetTemperature = fail
    use(monkeypatch, lost)
    with pytest.raises(UserError, match="stopped answering"):
        monitor.monitor_gpus(Monitor(**settings))


@pytest.mark.parametrize("interval", [0, -1, float("nan"), float("inf")])
def test_bad_interval(settings, interval):
    with pytest.raises(UserError, match="--interval"):
        monitor.monitor_gpus(Monitor(**settings | {"interval": interval}))


def test_bad_number_of_readings(settings):
    with pytest.raises(UserError, match="--readings"):
        monitor.monitor_gpus(Monitor(**settings | {"readings": 0}))


def test_script_exits_with_1_and_one_line_for_a_bad_setting():
    script = Path(monitor.__file__)
    command = [sys.executable, script.name, "--interval", "0"]
    ended = subprocess.run(command, cwd=script.parent, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr == "error: --interval 0 is not a number of seconds above 0\n"
