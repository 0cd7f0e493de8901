"""Long runs: work handed out to processes, what they finish gathered by the first, estimates, memory, restarts."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch.distributed as dist

from ferlib.explanations import chosen_faces, driver, gathering
from ferlib.explanations.archive import Archive
from ferlib.explanations.driver import until_finished
from ferlib.explanations.estimate import Estimate
from ferlib.explanations.gathering import Gathering, send
from ferlib.explanations.records import Attribution, Entry, ExplainedFace, Target
from ferlib.runtime import channel, distributed
from ferlib.runtime.channel import PART, Channel
from ferlib.runtime.errors import UserError
from ferlib.runtime.progress import FaceBar, describe_duration, describe_rate
from test_explanations import SIDE, explain, make_method, make_subject
from test_interruption import seconds_of_faces

ROOT = Path(__file__).parents[1]
RUN = "mini_resnet_fer2013"


@pytest.fixture
def channels(monkeypatch):
    """The channels of two processes over one store."""
    store = dist.HashStore()
    monkeypatch.setattr(channel, "shared_store", lambda: store)
    monkeypatch.setattr(channel, "world_size", lambda: 2)
    monkeypatch.setattr(gathering, "world_size", lambda: 2)
    monkeypatch.setattr(channel, "rank", lambda: int(threading.current_thread() is not threading.main_thread()))
    return Channel(), Channel()


def in_another_process(function):
    """Calls the function as process 1."""
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


def make_face(index):
    return ExplainedFace(index, f"{index}.png", 0, np.eye(7)[0], Target(0), seed=index, source=str(index))


def make_entry(index, side=SIDE):
    facts = {"r2": index / 10}
    return Entry(Attribution(np.full((side, side), index, np.float16), {"a": np.arange(3) + index}, facts), index + 0.5)


# ── processes ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_each_piece_of_work_is_handed_out_once_to_who_is_free(channels):
    first, second = (each.shares(range(100, 110), 3, first=1) for each in channels)
    assert [next(first), next(first), next(second), next(first)] == [
        range(100, 101),
        range(101, 104),
        range(104, 105),
        range(105, 108),
    ]
    assert [*first, *second] == [range(108, 110)]


def test_messages_of_any_size_arrive_once_and_in_order(channels):
    first, second = channels
    large = os.urandom(2 * PART + 5)
    in_another_process(lambda: [second.send(data) for data in (b"", b"\xff\x00", large)])
    assert list(first.receive()) == [b"", b"\xff\x00", large]
    assert not list(first.receive())
    in_another_process(lambda: second.send(b"later"))
    assert list(first.receive()) == [b"later"]


def test_a_process_that_outlives_the_first_one_says_what_to_do(channels, monkeypatch):
    class Gone:
        def add(self, *_):
            raise dist.DistNetworkError("Connection reset by peer")

        set = add

    monkeypatch.setattr(channels[1], "_store", Gone())
    for call in (lambda: next(channels[1].shares([1], 1)), lambda: channels[1].send(b"face")):
        with pytest.raises(UserError, match="run the same command again on every machine"):
            call()


def test_the_first_process_keeps_the_faces_of_all_on_its_own_disk(channels, tmp_path):
    faces, archive = [make_face(index) for index in range(3)], Archive(tmp_path / "maps.npz", "settings")
    with Gathering(faces, [None] * 3, archive, channels[0], "lime") as gathered:
        gathered.keep(1, make_entry(1))
        in_another_process(lambda: [send(channels[1], position, make_entry(position)) for position in (2, 0)])
        gathered.wait(10)
        while gathered.unfinished():
            gathered.wait(10)
        assert sorted(gathered.take_fresh()) == [0, 1, 2]
        assert gathered.bar.n == 3
    assert [outcome.seconds for outcome in gathered.outcomes] == [0.5, 1.5, 2.5]
    assert [outcome.facts for outcome in gathered.outcomes] == [{"r2": 0.0}, {"r2": 0.1}, {"r2": 0.2}]
    assert [archive.find(face).attribution.map[0, 0] for face in faces] == [0, 1, 2]


def test_an_error_while_others_faces_are_kept_ends_the_run(channels, tmp_path):
    (tmp_path / "faces").write_text("no folder")
    archive = Archive(tmp_path / "maps.npz", "settings")
    gathered = Gathering([make_face(0)], [None], archive, channels[0], "lime")
    with pytest.raises(UserError, match="cannot be written"), gathered:
        in_another_process(lambda: send(channels[1], 0, make_entry(0)))
        gathered.wait(10)


def test_faces_in_the_hands_of_a_lost_machine_are_explained_by_the_first(channels, tmp_path, monkeypatch):
    monkeypatch.setattr(driver, "PATIENCE_AT_LEAST", 0.0)
    faces, explained = [make_face(index) for index in range(5)], []
    shares = channels[0].shares(range(5), 2)
    assert next(channels[1].shares(range(5), 2)) == range(2), "the other takes two and is never heard of again"
    archive = Archive(tmp_path / "maps.npz", "settings")
    with Gathering(faces, [None] * 5, archive, channels[0], "lime") as gathered:
        for positions in until_finished(shares, gathered):
            explained += positions
            for position in positions:
                gathered.keep(position, make_entry(position))
    assert explained == [2, 3, 4, 1, 0]


def test_processes_of_different_settings_are_refused(monkeypatch):
    monkeypatch.setattr(distributed, "world_size", lambda: 2)

    def gather(found, own):
        found[:] = [own, own | {"the checkpoint": "b"}]

    monkeypatch.setattr(dist, "all_gather_object", gather)
    distributed.check_equal({"the data set": 1})
    with pytest.raises(UserError, match="the checkpoint in process 1 differs from that in process 0"):
        distributed.check_equal({"the data set": 1, "the checkpoint": "a"})


def test_the_first_process_decides_whether_saved_predictions_are_used(tmp_path, monkeypatch):
    """Another one, with a folder of its own, would else wait for it to predict all faces."""
    subject, classes = make_subject(tmp_path), np.arange(30) % 7
    monkeypatch.setattr(chosen_faces, "is_main", lambda: False)
    monkeypatch.setattr(chosen_faces, "from_first", lambda own: classes if own is None else pytest.fail("own ones"))
    assert np.array_equal(chosen_faces.predict_classes(subject, subject.data.images), classes)
    assert subject.model.classifier.count == 0


def test_processes_that_are_started_again_see_nothing_of_the_dead_ones():
    """torchrun keeps its store from one attempt to the next."""
    store = dist.HashStore()
    for attempt in ("first", "second"):
        with ThreadPoolExecutor() as pool:
            first, second, third = pool.map(lambda own: distributed.fresh_part(store, own, 3), range(3))
        assert not first.check(["address"]), attempt
        first.set("address", attempt)
        assert second.get("address") == third.get("address") == attempt.encode()


# ── estimates ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_rates_and_durations_are_readable():
    assert [describe_rate(rate) for rate in (0, 1 / 7, 2.04, 1500)] == [
        "? faces/s", "7.0 s a face", "2.0 faces/s", "1,500.0 faces/s"
    ]  # fmt: skip
    assert [describe_duration(seconds) for seconds in (42, 89, 420, 25_123)] == ["42 s", "89 s", "7 min", "6 h 59 min"]
    bar = FaceBar(total=3589, initial=10, desc="lime", disable=False, file=io.StringIO())
    bar.start_t -= 70
    bar.show(20)
    assert str(bar).startswith("lime:   1%")
    assert "20/3589 faces" in str(bar)
    assert "7.0 s a face" in str(bar)


def test_an_estimate_counts_processes_drawing_and_both_files_of_a_face():
    plain = Estimate(faces=3589, seconds=7.0, processes=2, face_size=20_000, figure_size=None)
    assert plain.duration == 3589 * 3.5
    assert plain.size == 3589 * 40_000
    assert str(plain) == (
        "3,589 faces left, 7.0 s a face on each of 2 processes: about 3 h 29 min, 144 MB without figures; "
        "ctrl-C stops it, and the same command goes on"
    )
    drawn = Estimate(faces=1000, seconds=0.5, processes=1, face_size=0, figure_size=2e6, figure_seconds=1.5)
    assert drawn.duration == 1500
    assert "2.0 faces/s on each of 1 process: about 25 min, held up by drawing" in str(drawn)
    assert "2.0 GB figures included" in str(drawn)


def test_a_long_run_is_announced_after_its_first_faces(tmp_path, monkeypatch, capsys):
    explain(tmp_path / "short", samples=30, figures=False)
    assert "ctrl-C" not in capsys.readouterr().out
    monkeypatch.setattr(driver, "LONG", 0.0)
    explain(tmp_path / "long", make_method(calls := []), samples=30, figures=False)
    assert capsys.readouterr().out.count("25 faces left, ") == 1, "after one face and then four"
    assert len(calls) == 30


def test_a_disk_too_small_for_the_run_is_noticed_early(tmp_path, monkeypatch):
    usage = driver.check_writable.__globals__["shutil"].disk_usage
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(path)._replace(free=3000))
    with pytest.raises(UserError, match=r"needs about .* MB and its disk has 0 MB free"):
        explain(tmp_path, make_method(calls := []), samples=30, figures=False)
    assert len(calls) == 5, "those that were timed"
    monkeypatch.undo()
    explain(tmp_path, make_method(calls), samples=30, figures=False)
    assert len(calls) == len(set(calls)) == 30


# ── memory ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_one_file_of_a_run_is_written_face_by_face(tmp_path):
    side, count = 200, 60  # 80 kB a map
    faces, archive = [make_face(index) for index in range(count)], Archive(tmp_path / "maps.npz", "settings")
    for face in faces:
        archive.add(face, make_entry(face.index, side))
    tracemalloc.start()
    archive.finish(faces)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1e6, "the maps alone would take 4.8 MB"
    with np.load(archive.maps) as saved:
        assert set(saved.files) == {"maps", "indices", "targets", "against", "settings", "a"}
        assert saved["maps"].dtype == np.float16
        assert np.array_equal(saved["maps"], np.stack([make_entry(index, side).attribution.map for index in range(60)]))
        assert np.array_equal(saved["a"], np.arange(3) + np.arange(count)[:, None])
        assert saved["indices"].tolist() == list(range(count))


# ── whole runs ───────────────────────────────────────────────────────────────────────────────────────────────────────


def start(launch, script, few_real, outputs, *flags):
    where = ["--dataset=fer2013", f"--data-dir={few_real}", f"--outputs-dir={outputs}", "--device=cpu", "--no-amp"]
    return subprocess.Popen(
        [sys.executable, *launch, script, "--model=mini_resnet", *where, *flags],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(*processes):
    for process in processes:
        output, _ = process.communicate(timeout=400)
        assert process.returncode == 0, output[-3000:]


def children(process):
    """The processes that a torchrun has started, by rank."""
    listed = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    return [int(number) for number in listed]


POOL = """
import os, signal, sys, time
from pathlib import Path
from ferlib.figures.pool import FigurePool
if __name__ == "__main__":
    with FigurePool(print) as pool:
        pool.draw(Path(sys.argv[1]), "key")
        print(*pool._pool._processes, flush=True)
        time.sleep(2)
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="needs SIGKILL and /proc")
def test_drawing_processes_end_with_the_one_that_was_killed(tmp_path):
    (tmp_path / "pool.py").write_text(POOL)
    command = [sys.executable, str(tmp_path / "pool.py"), str(tmp_path / "figure.png")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    killed = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    drawing = Path("/proc") / killed.stdout.readline().strip()
    assert (drawing / "stat").exists()
    killed.wait(60)
    deadline = time.monotonic() + 60
    while drawing.exists() and (drawing / "stat").read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    killed.stdout.close()


@pytest.fixture(scope="module")
def trained(few_real, tmp_path_factory):
    outputs = tmp_path_factory.mktemp("outputs")
    finish(start([], "train.py", few_real, outputs, "--epochs=1", "--max-steps=1"))
    return outputs


@pytest.mark.slow
@pytest.mark.process
def test_machines_without_a_common_disk(few_real, trained, tmp_path):
    """Two torchruns with folders of their own stand for two machines."""
    checkpoint = f"--checkpoint={trained}/checkpoints/{RUN}_best.pth"
    place = f"--nnodes=2 --nproc-per-node=1 --master-addr=localhost --master-port={20_000 + os.getpid() % 10_000}"
    launch = ["-m", "torch.distributed.run", *place.split()]
    flags = (checkpoint, "--samples=7", "--lime-samples=60")
    hosts = [tmp_path / name for name in ("one", "two")]
    runs = enumerate(hosts)
    finish(*[start([*launch, f"--node-rank={rank}"], "explain_lime.py", few_real, host, *flags) for rank, host in runs])
    folder = hosts[0] / "explanations" / "lime" / RUN
    assert len(list(folder.glob("*.png"))) == len(list(folder.glob("faces/*.npz"))) == 7
    assert not list(hosts[1].rglob("*/faces/*")), "the others write nothing"
    finish(start([], "explain_lime.py", few_real, tmp_path / "alone", *flags))
    alone = tmp_path / "alone" / "explanations" / "lime" / RUN
    with np.load(folder / "maps.npz") as two, np.load(alone / "maps.npz") as one:
        assert np.array_equal(one["indices"], two["indices"])
        np.testing.assert_allclose(one["maps"], two["maps"], atol=2e-3)


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="needs SIGKILL and pgrep")
@pytest.mark.parametrize("restarts", [0, 1])
def test_after_one_process_is_killed_no_finished_face_is_lost(few_real, trained, restarts):
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", f"--max-restarts={restarts}"]
    flags = ("--samples=14", f"--lime-samples={800 + restarts}", "--no-figures")
    folder = trained / "explanations" / "lime" / RUN
    for path in folder.glob("faces/*"):
        path.unlink()
    run = start(launch, "explain_lime.py", few_real, trained, *flags)
    deadline = time.monotonic() + 200
    while len(kept := seconds_of_faces(folder)) < 3:
        assert run.poll() is None, run.communicate()[0][-2000:]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(children(run)[-1], signal.SIGKILL)
    output, _ = run.communicate(timeout=400)
    assert (run.returncode == 0) == bool(restarts), output[-2000:]
    if not restarts:
        finish(start(launch, "explain_lime.py", few_real, trained, *flags))
    after = seconds_of_faces(folder)
    assert len(after) == 14
    assert kept.items() <= after.items(), "a finished face was explained again"
    assert len(json.loads((folder / "lime_summary.json").read_text())["faces"]) == 14
