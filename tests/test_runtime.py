"""ferlib/runtime: errors that help, files that are whole or absent, seeds, devices, interrupts."""

import errno
import hashlib
import json
import multiprocessing
import os
import select
import signal
import stat
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from damage import limited_file_size
from ferlib.runtime import cores, files
from ferlib.runtime.devices import autocast, autocast_dtype, resolve_device, seed_everything
from ferlib.runtime.errors import UserError, lookup, run_script
from ferlib.runtime.files import (
    UnwritableError,
    atomic_path,
    check_distinct,
    check_writable,
    host_name,
    is_temporary,
    read_json,
    require,
    write_json,
)
from ferlib.runtime.interrupts import interrupts_held, is_broken_pipe, on_end
from ferlib.runtime.locks import sole_process
from ferlib.runtime.seeds import combine_seeds
from ferlib.runtime.terminal import counted, printable


def test_lookup_lists_and_suggests():
    with pytest.raises(UserError, match=r"unknown model 'resnet5'; did you mean resnet50\?.*resnet50, fer_vgg"):
        lookup({"resnet50": 1, "fer_vgg": 2}, "resnet5", "model")
    assert lookup({"a": 1}, "a", "letter") == 1


def test_atomic_path_leaves_nothing_half_written(tmp_path):
    target = tmp_path / "new" / "file.txt"
    with pytest.raises(ZeroDivisionError), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert not list((tmp_path / "new").iterdir())
    with atomic_path(target) as temporary:
        temporary.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file.txt"]


def test_atomic_path_keeps_the_old_file_when_writing_fails(tmp_path):
    target = tmp_path / "file.txt"
    target.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_path(target) as temporary:
        temporary.write_text("new")
        raise KeyboardInterrupt
    assert target.read_text() == "old"


def test_json_round_trip_and_its_errors(tmp_path):
    path = tmp_path / "results.json"
    with pytest.raises(UserError, match=r"does not exist; run: python evaluate\.py"):
        read_json(path, "python evaluate.py")
    write_json(path, {"accuracy": 0.5})
    assert read_json(path, "")["accuracy"] == 0.5
    path.write_text('{"accuracy": 0.5}')
    with pytest.raises(UserError, match=r"has shape None, this version reads 2; run again: python evaluate\.py"):
        read_json(path, "python evaluate.py")
    path.write_text(json.dumps({"schema": 2})[:-2])
    with pytest.raises(UserError, match="not valid JSON"):
        read_json(path, "")


def test_json_refuses_nan_and_keeps_the_old_file(tmp_path):
    write_json(tmp_path / "a.json", {"loss": 1.0})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert read_json(tmp_path / "a.json", "")["loss"] == 1.0


def test_require_names_the_command(tmp_path):
    with pytest.raises(UserError, match="run: make it"):
        require(tmp_path / "missing", "make it")


def test_run_script_prints_one_line(capsys):
    def fail():
        raise UserError("no such face")

    with pytest.raises(SystemExit) as exit_info:
        run_script(fail)
    assert str(exit_info.value) == "error: no such face"


def test_run_script_ends_quietly_on_interrupt():
    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as exit_info:
        run_script(interrupt)
    assert exit_info.value.code == 130


def test_seeds_differ_and_repeat():
    assert combine_seeds(0, 1) == combine_seeds(0, 1)
    assert len({combine_seeds(a, b) for a in range(10) for b in range(10)}) == 100
    seed_everything(3, 1)
    first = torch.rand(3), np.random.rand()  # noqa: NPY002 - the legacy generator is what is tested
    seed_everything(3, 1)
    assert torch.equal(torch.rand(3), first[0])
    assert np.random.rand() == first[1]  # noqa: NPY002


def test_precision_follows_the_flag():
    cpu = resolve_device("cpu")
    assert autocast_dtype(cpu, amp=False) == torch.float32
    product = torch.ones(2, 2)
    with autocast(cpu, torch.float32):
        assert (product @ product).dtype == torch.float32
    with autocast(cpu, torch.bfloat16):
        assert (product @ product).dtype == torch.bfloat16


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_missing_device_is_an_error():
    with pytest.raises(UserError, match="--device cuda is not available"):
        resolve_device("cuda")
    assert resolve_device("auto").type in ("cpu", "mps")


def test_reading_data_needs_no_torch():
    code = "import datasets, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def blocked_signals(queue):
    queue.put(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="needs signal masks")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_started_while_interrupts_are_held_never_see_one(method):
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    process = context.Process(target=blocked_signals, args=(queue,))
    with interrupts_held():
        process.start()
    assert queue.get(timeout=60)
    process.join()
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


@pytest.mark.parametrize("threads", [0, 3])
def test_a_held_interrupt_arrives_at_the_end(ctrl_c, threads):
    reached, leave = False, threading.Event()
    others = [threading.Thread(target=leave.wait, daemon=True) for _ in range(threads)]
    for other in others:
        other.start()
    try:
        with pytest.raises(KeyboardInterrupt), interrupts_held():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
            reached = True
    finally:
        leave.set()
    assert reached
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_interrupts_are_held_in_a_thread_too():
    held = []

    def hold():
        with interrupts_held():
            held.append(True)

    thread = threading.Thread(target=hold)
    thread.start()
    thread.join()
    assert held


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="needs POSIX signals")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_an_end_is_taken_once(signals, name):
    ends = []
    on_end(lambda number, _: ends.append(number))
    for number in (getattr(signal, name), signal.SIGHUP, signal.SIGTERM):
        os.kill(os.getpid(), number)
    assert ends == [getattr(signal, name)]


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="needs POSIX signals")
def test_an_end_is_ignored_by_a_process_that_ends_by_itself(signals):
    settle = on_end(lambda *_: pytest.fail("it was ending"))
    settle()
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.skipif(not hasattr(select, "poll"), reason="needs poll")
def test_a_pipe_that_nobody_reads_is_broken():
    reader, writer = os.pipe()
    assert not is_broken_pipe(writer)
    os.close(reader)
    assert is_broken_pipe(writer)
    os.close(writer)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="needs POSIX signals")
def test_nohup_is_respected(signals):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    on_end(lambda *_: pytest.fail("it was to go on"))
    os.kill(os.getpid(), signal.SIGHUP)


@pytest.mark.process
@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs terminals")
def test_what_is_saved_after_a_terminal_was_closed_is_saved(tmp_path):
    code = (
        "import signal, sys, time; from pathlib import Path; from ferlib.runtime.interrupts import on_end\n"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
        "on_end(signal.default_int_handler); Path(sys.argv[1], 'ready').touch()\n"
        "try: time.sleep(60)\n"
        "except KeyboardInterrupt: print('saved', flush=True); Path(sys.argv[1], 'saved').touch()"
    )
    ours, its = os.openpty()
    command = [sys.executable, "-c", code, tmp_path]
    with subprocess.Popen(command, stdin=its, stdout=its, stderr=its, start_new_session=True) as process:
        os.close(its)
        while not (tmp_path / "ready").exists():
            assert process.poll() is None
            time.sleep(0.01)
        os.close(ours)
        process.send_signal(signal.SIGHUP)
    assert process.returncode == 0
    assert (tmp_path / "saved").exists()


def test_negative_seeds_are_refused_in_one_line():
    with pytest.raises(UserError, match="--seed -1 is negative"):
        combine_seeds(-1, 3)


def test_an_output_that_would_replace_an_input_or_another_output_is_refused(tmp_path):
    photo, folder = tmp_path / "a.jpg", tmp_path / "b"
    folder.mkdir()
    check_distinct([tmp_path / "c.csv", None, tmp_path / "d.json"], [photo])
    with pytest.raises(UserError, match=r"a\.jpg would be replaced by what is written"):
        check_distinct([folder / ".." / "a.jpg"], [photo])
    with pytest.raises(UserError, match=r"c\.csv is named for two outputs"):
        check_distinct([tmp_path / "c.csv", tmp_path / "c.csv"], [photo])


# ── what cannot be written, and what was left ────────────────────────────────────────────────────────────────────────


def test_a_disk_that_is_full_is_a_line_and_keeps_the_old_file(tmp_path):
    target = tmp_path / "a.json"
    write_json(target, {"loss": 1})
    with limited_file_size(1000), pytest.raises(UnwritableError, match=r"a\.json cannot be written: File too large"):
        write_json(target, {"loss": [2] * 10_000})
    assert read_json(target, "")["loss"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.ENOSPC, r"No space left on device \([\d,.]+ MB are free\); free some space, then run the command again"),
        (errno.EROFS, "Read-only file system; name another folder or file, or change its permissions"),
        (errno.EACCES, "Permission denied; name another folder"),
        (errno.ENAMETOOLONG, "File name too long; take a shorter --tag or folder"),
    ],
)
def test_the_reason_and_what_to_do_are_said(tmp_path, monkeypatch, code, advice):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(files.os, "fsync", refuse)
    for write in (lambda path: write_json(path, {}), check_writable):
        with pytest.raises(UnwritableError, match=rf"a\.json cannot be written: {advice}"):
            write(tmp_path / "a.json")
    assert not list(tmp_path.iterdir())


def test_paths_that_cannot_be_files_are_found_at_the_start(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(UnwritableError, match="cannot be written: Not a directory"):
        check_writable(tmp_path / "file" / "a.json")
    with pytest.raises(UnwritableError, match="cannot be written: Is a directory"):
        check_writable(tmp_path)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: SimpleNamespace(free=3e6))
    with pytest.raises(UnwritableError, match="needs about 5 MB and its disk has 3 MB free"):
        check_writable(tmp_path / "a.json", size=5_000_000)
    check_writable(tmp_path / "a.json", size=2_000_000)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_devices_and_pipes_are_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "null.csv").symlink_to(os.devnull)
    for path in (tmp_path / "pipe.csv", tmp_path / "null.csv"):
        for write in (lambda path: write_json(path, {}), check_writable):
            with pytest.raises(UnwritableError, match="is a device, a pipe or a socket; name a file"):
                write(path)
    assert stat.S_ISFIFO((tmp_path / "pipe.csv").stat().st_mode)
    assert (tmp_path / "null.csv").is_char_device()


@pytest.mark.skipif(os.name == "nt", reason="links need a right of their own")
@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_and_its_file_is_written(tmp_path, there):
    (tmp_path / "disk").mkdir()
    link, real = tmp_path / "out.json", tmp_path / "disk" / "real.json"
    link.symlink_to(Path("disk") / "real.json")
    if there:
        real.write_text("old")
    check_writable(link)
    with atomic_path(link) as temporary:
        assert temporary.parent == real.parent  # a file is moved within its own disk
        temporary.write_text("new")
    assert link.is_symlink()
    assert real.read_text() == "new"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["disk", "out.json", "real.json"]


def test_errors_of_other_files_are_not_taken_for_the_written_one_s(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a.txt"):
        (tmp_path.parent / "elsewhere" / "b.txt").read_text()


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    killed = "import os, sys; from ferlib.runtime.files import atomic_path\nfrom pathlib import Path\n"
    killed += "with atomic_path(Path(sys.argv[1])) as path: path.write_text('half'); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", killed, tmp_path / "a.txt"], check=False)
    (left,) = tmp_path.iterdir()
    assert is_temporary(left)
    folder, mine = tmp_path / f".cache.{host_name()}-99999999.tmp", files.temporary_path(tmp_path / "b.txt")
    folder.mkdir()
    mine.write_text("in the making")
    earlier = tmp_path / ".RUN_results.4321.tmp.json"  # as earlier versions named it
    earlier.write_text("{")
    os.utime(earlier, (0, 0))
    assert is_temporary(earlier)
    elsewhere = [tmp_path / f".{name}.another-1.tmp.txt" for name in ("new", "old")]
    for path in elsewhere:
        path.write_text("")
    os.utime(elsewhere[1], (0, 0))
    (tmp_path / ".hidden.tmp").write_text("not ours")
    files.remove_leftovers.cache_clear()
    write_json(tmp_path / "c.json", {})
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [".hidden.tmp", "c.json", mine.name, elsewhere[0].name]
    )


def test_a_lock_is_held_by_one_process_and_free_after_its_death(tmp_path):
    hold = "import sys, time; from ferlib.runtime.locks import sole_process\nfrom pathlib import Path\n"
    hold += "with sole_process(Path(sys.argv[1]), ''): print('held', flush=True); time.sleep(60)"
    command = [sys.executable, "-c", hold, tmp_path / "a.lock"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        held = pytest.raises(UserError, match="a is being trained by another process; wait")
        with held, sole_process(tmp_path / "a.lock", "a is being trained"):
            pass
        holder.kill()
    with sole_process(tmp_path / "a.lock", ""):
        pass


# ── at the terminal ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("face é 顔 😀.jpg", "face é 顔 😀.jpg"),
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("\u202egpj.exe", r"\u202egpj.exe"),
        (os.fsdecode(b"f\xe9.jpg"), r"f\xe9.jpg"),
        ("two\nlines\ttab", r"two\nlines\ttab"),
    ],
)
def test_names_are_printed_without_what_a_terminal_would_obey(name, shown, capsys):
    assert printable(name) == shown
    with pytest.raises(SystemExit) as left:
        run_script(lambda: fail_with(UserError(f"{name} is broken")))
    assert left.value.code == f"error: {shown} is broken"


def fail_with(error):
    raise error


def test_errors_of_the_system_are_a_line_and_faults_of_the_program_a_traceback():
    for error, line in (
        (PermissionError(errno.EACCES, "", "data/a.csv"), "error: data/a.csv: Permission denied"),
        (OSError(errno.EIO, ""), "error: Input/output error"),
        (MemoryError(), "error: there is too little memory; take a smaller batch or data set"),
        (UserError("a", "b\x07"), "error: a\nb\\x07"),
    ):
        with pytest.raises(SystemExit) as left:
            run_script(partial(fail_with, error))
        assert left.value.code == line
    for fault in (OSError("of no number"), KeyError("a"), ZeroDivisionError()):
        with pytest.raises(type(fault)):
            run_script(partial(fail_with, fault))


@pytest.mark.process
def test_output_that_nobody_reads_to_its_end_ends_a_script_quietly():
    script = "from ferlib.runtime.errors import run_script\nrun_script(lambda: print('line\\n' * 100_000))"
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "line\n"
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait() == 141


# ── cores ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("busy", "threads"), [(0, 4), (1, 3), (3, 1), (30, 1)])
def test_as_many_threads_are_taken_as_cores_are_free(monkeypatch, capsys, busy, threads):
    taken = []
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(cores.os, "cpu_count", lambda: 4)
    monkeypatch.setattr(cores, "available_cores", lambda: 4)
    monkeypatch.setattr(cores, "busy_processes", lambda: busy)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(torch, "set_num_threads", taken.append)
    cores.share_cores.__wrapped__()
    assert taken == ([] if threads == 4 else [threads])
    assert ("other programs keep the cores busy" in capsys.readouterr().err) == (threads < 4)
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    cores.share_cores.__wrapped__()
    assert len(taken) <= 1


@pytest.mark.skipif(not Path("/proc/loadavg").exists(), reason="needs Linux")
def test_a_process_s_own_threads_are_no_other_programs():
    ended = threading.Event()
    spinning = [threading.Thread(target=lambda: hashlib.sha256(bytes(10**8)) and ended.wait(0)) for _ in range(3)]
    for thread in spinning:  # hashing needs no lock of Python's: they run at the same time
        thread.start()
    own = max(cores.own_running_threads() for _ in range(20))
    for thread in spinning:
        thread.join()
    assert own >= 2
    assert cores.running_processes() < 40


def test_an_epoch_that_other_programs_slow_down_is_told(monkeypatch):
    monkeypatch.setattr(cores, "busy_processes", lambda: 2)
    assert "this epoch ran at 20% of the fastest one's speed" in cores.describe_slow_epoch([80, 100, 20])
    assert cores.describe_slow_epoch([80, 100, 60]) == cores.describe_slow_epoch([100]) == ""
    monkeypatch.setattr(cores, "busy_processes", lambda: 0)
    assert cores.describe_slow_epoch([100, 20]) == ""


def test_a_script_runs_without_output(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    done = []
    run_script(lambda: done.append(print("unseen")))
    assert done == [None]


def test_numbers_with_their_nouns():
    assert [counted(number, "epoch") for number in (0, 1, 2000)] == ["0 epochs", "1 epoch", "2,000 epochs"]
    assert counted(1, "picture is", "pictures are") == "1 picture is"
    assert counted(2, "picture is", "pictures are") == "2 pictures are"
