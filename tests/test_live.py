"""live.py from a video to its files, with the shipped model and the detector that is always there."""

import csv
import errno
import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace
from unittest.mock import MagicMock

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut

import live
from config import Live
from ferlib.explanations import crops as crops_module
from ferlib.faces.crops import DetectedFace
from ferlib.runtime.errors import UserError
from ferlib.runtime.flags import parse_flags
from ferlib.video import loop as loop_module
from ferlib.video import recording as recorders
from ferlib.video import sources, stages
from ferlib.video.log import Log, cut_after_last_line
from ferlib.video.loop import Loop, profile_table
from ferlib.video.pipeline import Stopwatch
from ferlib.video.recording import Recorder
from ferlib.video.sources import Frame
from ferlib.video.tracking import Tracker
from test_recording import read_video
from test_sources import FakeCapture
from test_window import FakeWindow

pytestmark = pytest.mark.usefixtures("one_model")

FRAMES = 12


def photo(shift: float = 0.0) -> np.ndarray:
    """The astronaut's head and shoulders, moved to the right: uint8 240×320×3."""
    moved = np.array([[0.8, 0, -10 + shift], [0, 0.8, -10]])
    return cv2.warpAffine(astronaut(), moved, (320, 240), borderMode=cv2.BORDER_REPLICATE)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "astronaut.mp4"
    recorder = Recorder(path, 20)
    for number in range(FRAMES):
        recorder.add(photo(3 * number), number / 20)
    recorder.close()
    return path


@pytest.fixture
def flags(video, tmp_path):
    return Live(source=str(video), detector="haar", device="cpu", outputs_dir=tmp_path, window=False)


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ── whole runs ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_video_from_end_to_end(flags, tmp_path, capsys):
    out = tmp_path / "results"
    files = {"output": out / "out.mp4", "csv": out / "out.csv", "jsonl": out / "out.jsonl"}
    live.run(replace(flags, **files, profile=True))
    assert names(out) == ["out.csv", "out.jsonl", "out.mp4", "out_timeline.png"]

    fps, pictures = read_video(out / "out.mp4")
    assert (fps, len(pictures)) == (pytest.approx(20), FRAMES)
    with (out / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["frame"]) for row in rows] == list(range(FRAMES))
    assert {(row["track"], row["label"]) for row in rows} == {("1", "Happy")}  # she smiles
    assert np.diff([float(row["x"]) + float(row["width"]) / 2 for row in rows]).mean() == pytest.approx(3, abs=0.7)
    records = [json.loads(line) for line in (out / "out.jsonl").read_text().splitlines()]
    assert [record["confidence"] for record in records] == [float(row["confidence"]) for row in rows]
    Image.open(out / "out_timeline.png").verify()

    printed = capsys.readouterr()
    assert f"astronaut.mp4: {FRAMES} frames in" in printed.out
    assert ", faces detected by Haar cascade\n" in printed.out
    assert "#1 Happy" in printed.err
    for step in ("read", "detect", "model", "draw", "write", "a frame"):
        assert f"\n{step} " in printed.out


@pytest.mark.parametrize("name", ["output", "csv"])
def test_outputs_do_not_lie_among_the_frames_that_are_read(flags, tmp_path, name):
    folder = tmp_path / "frames"
    folder.mkdir()
    Image.fromarray(astronaut()).save(folder / "0.png")
    ending, picture = {"output": ("webp", "out.webp"), "csv": ("csv", "out_timeline.png")}[name]
    with pytest.raises(UserError, match=rf"{picture} would be a frame of .*frames the next time; name a file in"):
        live.run(replace(flags, source=str(folder), **{name: folder / f"out.{ending}"}))
    assert names(folder) == ["0.png"]


def test_the_map_is_drawn_in_the_box_and_nowhere_else(flags, tmp_path):
    for cam in (True, False):
        live.run(replace(flags, output=tmp_path / f"{cam}.avi", seconds=0.04, cam=cam, csv=tmp_path / "out.csv"))
    with (tmp_path / "out.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    left, top, width, height = (round(float(row[side])) for side in ("x", "y", "width", "height"))
    (with_map,), (without,) = (read_video(tmp_path / f"{cam}.avi")[1] for cam in (True, False))
    changed = np.abs(with_map.astype(int) - without).max(-1) > 40
    changed[:40, :160] = False  # the corner says Grad-CAM, or does not
    inside = changed[top : top + height, left : left + width]
    assert inside.sum() > 0.02 * width * height
    assert changed.sum() - inside.sum() < 0.1 * inside.sum()


def test_a_gif_and_a_folder(flags, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(3):
        Image.fromarray(photo(10 * number)).save(folder / f"{number}.png")
    live.run(replace(flags, source=str(folder), output=tmp_path / "out.gif"))
    with Image.open(tmp_path / "out.gif") as gif:
        assert gif.n_frames == 2  # of three frames at 25 a second, at 12.5
        assert gif.size == (320, 240)


def test_pictures_without_a_face_are_no_error(flags, tmp_path, capsys):
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.fromarray(np.full((240, 320, 3), 90, np.uint8)).save(folder / "wall.png")
    loop = live.run(replace(flags, source=str(folder), output=tmp_path / "out.mp4"))
    assert loop.frames == 1
    assert "no face was found" in capsys.readouterr().out
    assert names(tmp_path) == ["out.mp4", "pictures"]


def test_the_first_seconds_alone(flags, tmp_path):
    assert live.run(replace(flags, csv=tmp_path / "out.csv", seconds=0.2)).frames == 4


# ── regions on demand ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def explained(monkeypatch):
    """Regions are explained at once; the classes that are explained are kept."""
    codes = []

    def explain(crops, targets):
        codes.extend(targets)
        return [{"mouth": 0.31, "brows": -0.08, "nose": 0.02} for _ in crops]

    monkeypatch.setattr(crops_module, "region_explainer", lambda _: explain)
    return codes


def test_regions_are_named_every_so_many_seconds(flags, tmp_path, explained):
    plain = {"output": tmp_path / "plain.avi"}
    live.run(replace(flags, **plain))
    assert explained == []
    files = {"output": tmp_path / "out.avi", "csv": tmp_path / "out.csv", "jsonl": tmp_path / "out.jsonl"}
    live.run(replace(flags, **files, regions=0.3))
    assert explained == [3, 3]  # Happy, in frames 0 and 6 of 20 a second
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        words = [row["regions"] for row in csv.DictReader(file)]
    records = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [record["frame"] for record in records if "regions" in record] == [0, 6]
    assert records[6]["regions"] == {"mouth": 0.31, "brows": -0.08, "nose": 0.02}
    assert [(number, text) for number, text in enumerate(words) if text] == [
        (0, "mouth +0.31, brows −0.08"),
        (6, "mouth +0.31, brows −0.08"),
    ]
    for drawn, bare, record in zip(
        *(read_video(tmp_path / f"{name}.avi")[1] for name in ("out", "plain")), records, strict=True
    ):
        left, top, width, height = map(round, record["box"])
        changed = np.abs(drawn.astype(int) - bare).max(-1) > 80
        changed[:20] = False  # the rate
        assert changed.sum() > 100
        assert not changed[top : top + height, left : left + width].any()


def test_r_in_the_window_names_the_regions_once(flags, tmp_path, monkeypatch, explained):
    fake = FakeWindow(monkeypatch, keys="xr")
    live.run(replace(flags, window=True, jsonl=tmp_path / "out.jsonl"))
    assert len([picture for picture in fake.shown if not isinstance(picture, str)]) == FRAMES
    assert explained == [3]
    records = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    (named,) = [record for record in records if "regions" in record]
    assert 1 < named["frame"] < FRAMES
    assert "r names regions, q ends" in live.TITLE


# ── how it ends ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_ctrl_c_keeps_what_there_is(flags, tmp_path, monkeypatch, capsys):
    drawn = []

    def interrupted(*arguments):
        drawn.append(1)
        if len(drawn) == 4:
            raise KeyboardInterrupt
        return arguments[0]

    monkeypatch.setattr(loop_module, "draw_faces", interrupted)
    live.run(replace(flags, output=tmp_path / "out.mp4", jsonl=tmp_path / "out.jsonl"))
    assert len(read_video(tmp_path / "out.mp4")[1]) == 3
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 4
    assert "stopped" in capsys.readouterr().err
    assert names(tmp_path) == ["out.jsonl", "out.mp4", "out_timeline.png"]


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="needs POSIX signals")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_an_ended_process_keeps_what_there_is(flags, tmp_path, monkeypatch, signals, name):
    drawn = []

    def ended(*_):
        drawn.append(1)
        if len(drawn) == 4:
            os.kill(os.getpid(), getattr(signal, name))

    monkeypatch.setattr(loop_module, "draw_faces", ended)
    monkeypatch.setattr(live, "parse_flags", lambda _: replace(flags, output=tmp_path / "out.mp4"))
    signal.signal(getattr(signal, name), lambda *_: pytest.fail("the process would have died"))
    live.main()
    assert len(read_video(tmp_path / "out.mp4")[1]) == 3
    assert names(tmp_path) == ["out.mp4", "out_timeline.png"]


def test_what_there_is_is_kept_when_nobody_reads_the_output_any_more(flags, tmp_path, monkeypatch):
    drawn = []

    def ended(*_):
        drawn.append(1)
        if len(drawn) == 4:
            raise BrokenPipeError

    monkeypatch.setattr(loop_module, "draw_faces", ended)
    live.run(replace(flags, output=tmp_path / "out.mp4"))
    assert names(tmp_path) == ["out.mp4", "out_timeline.png"]


def test_a_video_that_cannot_be_written_is_said_as_it_is(flags, tmp_path, monkeypatch):
    closed = SimpleNamespace(isOpened=lambda: False, release=lambda: None)
    monkeypatch.setattr(cv2, "VideoWriter", MagicMock(return_value=closed))
    with pytest.raises(UserError, match=r"OpenCV cannot write \.mp4 files of 320×240 pixels and 20 frames per second"):
        live.run(replace(flags, output=tmp_path / "out.mp4", csv=tmp_path / "out.csv"))
    assert names(tmp_path) == []


def test_a_film_that_is_not_whole_takes_no_table_with_it(flags, tmp_path, monkeypatch):
    monkeypatch.setattr(recorders, "count_frames", lambda _: 0)
    with pytest.raises(UserError, match="could not be written whole"):
        live.run(replace(flags, output=tmp_path / "out.mp4", csv=tmp_path / "out.csv"))
    assert names(tmp_path) == ["out.csv"]
    assert len((tmp_path / "out.csv").read_text().splitlines()) == FRAMES + 1


def test_a_full_disk_keeps_what_there_is(flags, tmp_path, monkeypatch):
    add, added = Log.add, []

    def fill(log, frame, faces):
        added.append(frame)
        if len(added) == 5:
            log.lines.write('{"frame": 4, "ti')  # what fits on the disk
            raise OSError(errno.ENOSPC, "No space left on device", "out.csv")
        add(log, frame, faces)

    monkeypatch.setattr(Log, "add", fill)
    with pytest.raises(UserError, match=r"out\.csv cannot be written: No space left on device"):
        files = {name: tmp_path / f"out.{name}" for name in ("csv", "jsonl")}
        live.run(replace(flags, output=tmp_path / "out.mp4", **files))
    assert {"out.csv", "out.jsonl", "out.mp4"} <= set(names(tmp_path))
    assert len(read_video(tmp_path / "out.mp4")[1]) == 4
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 5
    assert [json.loads(line)["frame"] for line in (tmp_path / "out.jsonl").read_text().splitlines()] == [0, 1, 2, 3]


def test_a_disk_that_is_full_at_the_end_keeps_whole_lines_and_the_film(flags, tmp_path):
    script = (
        "import resource, sys, live; resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000)); "
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); failed = []\n"
        "from ferlib.video.log import whole_lines; from pathlib import Path\n"
        "with whole_lines(Path(sys.argv[1]), failed) as file:\n"
        "    [file.write(f'line {number:04d}' + chr(10)) for number in range(500)]\n"
        "print(failed)"
    )
    path = tmp_path / "out.csv"
    printed = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True).stdout
    assert "ends early, as it cannot be written" in printed
    assert path.read_text() == "".join(f"line {number:04d}\n" for number in range(300))


@pytest.mark.parametrize(("content", "kept"), [("", ""), ("half", ""), ("a\nhalf", "a\n"), ("a\nb\n", "a\nb\n")])
def test_what_follows_the_last_line_is_cut(tmp_path, monkeypatch, content, kept):
    monkeypatch.setattr("ferlib.video.log.PART", 3)
    (tmp_path / "a.csv").write_text(content)
    cut_after_last_line(tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text() == kept


def test_q_in_the_window_ends_it(flags, tmp_path, monkeypatch):
    fake = FakeWindow(monkeypatch, keys="xxq")
    live.run(replace(flags, window=True, output=tmp_path / "out.mp4"))
    assert len(read_video(tmp_path / "out.mp4")[1]) == 3
    assert fake.shown[-1] == "closed"
    assert fake.shown[0].shape == (240, 320, 3)


def test_a_camera_that_is_lost_is_said_and_what_came_is_kept(flags, tmp_path, monkeypatch, capsys):
    FakeCapture.scripts, FakeCapture.opened, FakeCapture.delay = [[photo()[..., ::-1]] * 8], [], 0.1
    monkeypatch.setattr(sources.cv2, "VideoCapture", FakeCapture)
    monkeypatch.setattr(sources, "open_source", lambda text: sources.Camera(int(text), pauses=(0.01,)))
    with pytest.raises(UserError, match="camera 0 is lost"):
        live.run(replace(flags, source="0", csv=tmp_path / "out.csv"))
    assert 1 < len((tmp_path / "out.csv").read_text().splitlines()) <= 9
    assert " dropped" in capsys.readouterr().out
    assert names(tmp_path) == ["out.csv", "out_timeline.png"]


# ── what is refused ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"smoothing": -1.0, "csv": "out.csv"}, "--smoothing -1 is not a number of seconds from 0 up"),
        ({"smoothing": math.nan, "csv": "out.csv"}, "--smoothing nan"),
        ({"regions": -1.0, "csv": "out.csv"}, "--regions -1 is not a number of seconds from 0 up"),
        ({"regions": math.nan, "csv": "out.csv"}, "--regions nan"),
        ({"regions": math.inf, "csv": "out.csv"}, "--regions inf"),
        ({"seconds": 0.0, "csv": "out.csv"}, "--seconds 0"),
        ({"detection_side": 5, "csv": "out.csv"}, "--detection-side 5 is too small"),
        ({}, "--no-window needs a file to write"),
        ({"output": "out.wmv"}, "unknown kind of --output '.wmv'"),
        ({"source": "missing.mp4", "csv": "out.csv"}, "missing.mp4 does not exist"),
    ],
)
def test_what_makes_no_sense_is_refused(flags, tmp_path, changes, message):
    paths = {name: tmp_path / value for name, value in changes.items() if name in ("csv", "output")}
    with pytest.raises(UserError, match=message):
        live.run(replace(flags, **changes | paths))
    assert names(tmp_path) == []


# ── parts ────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Alternating:
    """A model whose prediction differs at every fourth call; it records the class that each map explains."""

    crop_size = 48

    def __init__(self):
        self.calls, self.explained = 0, []

    def cam(self, crops, targets):
        self.calls += 1
        rows = np.full((len(crops), 7), 0.05)
        rows[:, 3 if self.calls % 4 else 5] = 0.7  # Happy, and every fourth time Sad
        self.explained.append(list(targets(rows)))
        return rows, np.zeros((len(crops), 48, 48), np.float32)


def test_a_map_explains_the_label_that_is_shown(monkeypatch):
    model, tracker = Alternating(), Tracker()
    monkeypatch.setattr(stages, "cam_of_crops", Alternating.cam)
    face = DetectedFace((50, 50, 60, 80), 0.9)
    shown = []
    for number in range(8):
        frame = Frame(number, number / 25, np.zeros((240, 320, 3), np.uint8))
        (tracked,) = stages.classify_faces(frame, [face], model, tracker, cam=True, smoothing=0.3)
        shown.append([tracked.code])
    assert shown == model.explained == [[3]] * 8  # smoothed, Happy stays
    assert tracked.track == 1
    assert tracked.probabilities.sum() == pytest.approx(1)


def test_the_profile_adds_up():
    stopwatch = Stopwatch()
    for step, seconds in (("detect", 3.0), ("model", 1.0)):
        stopwatch.add(step, seconds)
    loop = Loop(None, stopwatch=stopwatch, frames=200, seconds=2.0)
    table = profile_table(loop).splitlines()
    assert [line.split() for line in table[1:3]] == [["detect", "15.00", "ms", "75%"], ["model", "5.00", "ms", "25%"]]
    assert table[3].split()[:4] == ["a", "frame", "10.00", "ms"]
    assert "a frame" in profile_table(Loop(None))  # stopped before the first frame


def test_the_flags_are_those_of_the_manual():
    line = ["--source", "film.mp4", "--output", "out.gif", "--smoothing", "0.5", "--no-cam", "--profile", "--no-window"]
    flags = parse_flags(Live, line)
    assert (flags.source, flags.smoothing, flags.cam, flags.profile, flags.window) == (
        "film.mp4",
        0.5,
        False,
        True,
        False,
    )
