"""predict.py and live.py on files, names, folders, detectors and networks that are not as they should be."""

import csv
import errno
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

import config
import live
import predict
from ferlib.faces import detectors, face_model
from ferlib.faces.detectors import DETECTORS, open_detector
from ferlib.faces.photo_rows import COLUMNS, write_csv
from ferlib.faces.weights import Weights
from ferlib.figures import lettering
from ferlib.figures.annotation import annotate
from ferlib.figures.timeline import headline, plot_timeline
from ferlib.runtime.errors import UserError
from ferlib.runtime.files import host_name
from ferlib.video import recording as recording_module
from ferlib.video.recording import Recorder, recording
from ferlib.video.sources import Folder, open_source
from test_faces import weights_of

pytestmark = pytest.mark.usefixtures("one_model")

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def astronaut():
    return Image.fromarray(skimage.data.astronaut()[:300, 60:400])


@pytest.fixture
def photo(tmp_path, astronaut):
    path = tmp_path / "photo.png"
    astronaut.save(path)
    return path


@pytest.fixture
def broken_model(monkeypatch, one_model):
    """A network one of whose weights is NaN."""
    model = face_model.FaceModel.__new__(face_model.FaceModel)
    model.__dict__.update({**one_model.__dict__, "label": "broken", "converted": None, "cut": None})
    model.fast = lambda views: torch.full((len(views), 7), torch.nan)
    monkeypatch.setattr(face_model, "open_face_model", lambda *_, **__: model)
    return model


def flags_of(tmp_path, *images, **changes):
    given = {"detector": "haar", "outputs_dir": tmp_path / "outputs", "device": "cpu", "figures": False}
    return config.Predict(images=tuple(images), **given | changes)


def live_flags(tmp_path, source, **changes):
    given = {"detector": "haar", "device": "cpu", "outputs_dir": tmp_path / "outputs", "window": False}
    return config.Live(source=str(source), **given | changes)


def folder_of_frames(tmp_path, astronaut):
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(2):
        astronaut.save(folder / f"{number}.png")
    return folder


# ── outputs that cannot be written ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["json", "csv", "figures"])
def test_predict_finds_what_it_cannot_write_before_the_first_photo(tmp_path, photo, monkeypatch, name):
    (tmp_path / "file").write_text("no folder")
    read = []
    monkeypatch.setattr(predict, "read_photo", read.append)
    changes = {name: tmp_path / "file" / "out"} if name != "figures" else {"figures": True}
    changes |= {"outputs_dir": tmp_path / "file"} if name == "figures" else {}
    with pytest.raises(UserError, match=r"file/.* cannot be written: "):
        predict.predict(flags_of(tmp_path, photo, **changes))
    assert read == []


@pytest.mark.parametrize("name", ["output", "csv", "jsonl"])
def test_live_finds_what_it_cannot_write_before_the_first_frame(tmp_path, astronaut, monkeypatch, name):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setattr(face_model, "open_face_model", lambda *_, **__: pytest.fail("the model was loaded first"))
    folder = folder_of_frames(tmp_path, astronaut)
    with pytest.raises(UserError, match=r"file/out.mp4 cannot be written: "):
        live.run(live_flags(tmp_path, folder, **{name: tmp_path / "file" / "out.mp4"}))


def test_the_table_is_written_where_the_json_cannot_be(tmp_path, photo, monkeypatch):
    def fail(path, content):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(predict, "write_json", fail)
    with pytest.raises(OSError, match="full"):
        predict.predict(flags_of(tmp_path, photo, json=tmp_path / "a.json", csv=tmp_path / "a.csv"))
    assert "Happy" in (tmp_path / "a.csv").read_text()


def test_half_a_video_is_an_error(tmp_path, monkeypatch):
    """OpenCV's encoders raise nothing where the disk is full; the file that is left is cut short."""
    close = Recorder.close

    def cut(self):
        close(self)
        os.truncate(self.path, self.path.stat().st_size // 2)

    monkeypatch.setattr(Recorder, "close", cut)
    with (
        pytest.raises(UserError, match=r"out.mp4 could not be written whole"),
        recording(tmp_path / "out.mp4", 10) as to,
    ):
        for number in range(10):
            to.add(np.full((48, 64, 3), 20 * number, np.uint8), number / 10)
    assert list(tmp_path.iterdir()) == []
    assert recording_module.count_frames(tmp_path / "none.mp4") == 0


@pytest.mark.process
@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_half_a_video_of_a_killed_process_is_removed_and_that_of_a_running_one_stays(tmp_path):
    code = (
        "import sys, time, numpy as np; from ferlib.video.recording import recording; from pathlib import Path\n"
        "with recording(Path(sys.argv[1]) / 'out.avi', 10) as to:\n"
        "    to.add(np.zeros((48, 64, 3), np.uint8), 0); print('open', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, tmp_path], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "open\n"
    (half,) = tmp_path.iterdir()
    running = tmp_path / f".other.{host_name()}-{os.getppid()}.tmp.avi"
    running.touch()
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert half.exists()
    with recording(tmp_path / "out.avi", 10) as to:
        to.add(np.zeros((48, 64, 3), np.uint8), 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([running.name, "out.avi"])


# ── networks ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("broken_model")
def test_predictions_that_are_no_numbers_are_an_error(tmp_path, photo, capsys):
    with pytest.raises(UserError, match=r"broken predicts no numbers \(NaN\)"):
        predict.predict(flags_of(tmp_path, photo, csv=tmp_path / "a.csv"))
    assert "nan" not in capsys.readouterr().out.lower().replace("nan)", "")
    assert (tmp_path / "a.csv").read_text().splitlines() == [",".join(COLUMNS)]


@pytest.mark.usefixtures("broken_model")
def test_a_video_with_such_predictions_is_an_error(tmp_path, astronaut):
    folder = folder_of_frames(tmp_path, astronaut)
    with pytest.raises(UserError, match="broken predicts no numbers"):
        live.run(live_flags(tmp_path, folder, csv=tmp_path / "a.csv", cam=False))
    assert not (tmp_path / "a.csv").exists()


# ── names ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_of_any_bytes_are_printed_and_written(tmp_path, astronaut, capsys, monkeypatch):
    names = [b"a\xff\x1b[31m.png", "b\u202egnp.png".encode(), "c写真😀.png".encode(), b"d\n.png", b"=e.png"]
    for name in names:
        with open(os.path.join(os.fsencode(tmp_path), name), "wb") as file:  # noqa: PTH118, PTH123 — bytes
            astronaut.save(file, "png")
    (tmp_path / os.fsdecode(b"\xfe.jpg")).write_bytes(b"no picture")
    monkeypatch.chdir(tmp_path)
    paths = [Path(os.fsdecode(name)) for name in (*names, b"\xfe.jpg")]
    rows = predict.predict(flags_of(tmp_path, *paths, csv=tmp_path / "a.csv", json=tmp_path / "a.json", figures=True))
    expected = ["a\\xff\\x1b[31m.png", "b\\u202egnp.png", "c写真😀.png", "d\\n.png", "=e.png", "\\xfe.jpg"]
    assert [row["photo"] for row in rows] == expected
    saved = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert [row["photo"] for row in saved["photos"]] == expected
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as file:
        assert [line["photo"] for line in csv.DictReader(file)] == [*expected[:4], "'=e.png", expected[5]]
    printed = capsys.readouterr().out
    assert printed.isprintable() or all(char.isprintable() or char == "\n" for char in printed)
    assert all(name in printed for name in expected)


@pytest.mark.parametrize("start", list("=+-@"))
def test_no_cell_of_the_table_is_a_formula(tmp_path, start):
    rows = [
        {"photo": f"{start}1.png", "error": f"{start}1.png cannot be read"},
        {"photo": f"a{start}.png", "faces": []},
    ]
    write_csv(tmp_path / "a.csv", rows)
    with (tmp_path / "a.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [lines[0]["photo"], lines[0]["error"]] == [f"'{start}1.png", f"'{start}1.png cannot be read"]
    assert lines[1]["photo"] == f"a{start}.png"


@pytest.mark.filterwarnings("error")
def test_signs_without_a_font_are_drawn_as_one_that_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(lettering, "fallback_fonts", dict)
    assert lettering.drawable("写真 é") == "\ufffd\ufffd é"
    assert headline("写$\\frac$.mp4", 0, 1, 1).endswith(": \ufffd\\$\\frac\\$.mp4")
    plot_timeline(tmp_path / "a.png", {1: [(0.1 * n, np.full(7, 1 / 7)) for n in range(5)]}, "写真\u202e $\\frac$", 0.3)
    assert annotate(np.zeros((480, 640, 3), np.uint8), [], "model: 写真\x07").size[0] >= 480


def test_texts_of_latin_1_need_no_look_into_the_fonts():
    """The signs that are lettered without one are in the font."""
    assert set(map(ord, lettering.LATIN)) <= lettering.signs_of(lettering.plain_file())


def test_a_font_that_has_the_signs_is_taken(monkeypatch):
    other = lettering.plain_file().replace("DejaVuSans", "STIXGeneral")
    sign = chr(min(lettering.signs_of(other) - lettering.signs_of(lettering.plain_file())))
    monkeypatch.setattr(lettering, "fallback_fonts", lambda: {"STIXGeneral": other})
    words, font = lettering.letter(f"model {sign}", 20)
    assert words == f"model {sign}"
    assert font.path == other
    assert lettering.letter("model", 20)[1].path == lettering.plain_file()
    assert lettering.families() == ["DejaVu Sans", "STIXGeneral"]


# ── files and folders ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipes_are_refused_and_not_waited_for(tmp_path, astronaut):
    os.mkfifo(tmp_path / "x.jpg")
    os.mkfifo(tmp_path / "x.mp4")
    with pytest.raises(UserError, match=r"x.jpg is neither a file nor a folder"):
        predict.predict(flags_of(tmp_path, tmp_path / "x.jpg"))
    with pytest.raises(UserError, match="2 of 2 files are left out"):
        predict.predict(flags_of(tmp_path, tmp_path))
    with pytest.raises(UserError, match=r"x.mp4 is neither a file"):
        open_source(str(tmp_path / "x.mp4"))
    (tmp_path / "y.jpg").mkdir()
    astronaut.save(tmp_path / "z.jpg")
    assert [file.name for file in Folder(tmp_path).files] == ["z.jpg"]


def odd_pictures():
    """Names and contents of files that are no photos, or odd ones."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 4000, 3), np.uint8)
    return {
        "empty.jpg": b"",
        "text.jpg": b"a letter to a friend\n" * 100,
        "dot.png": Image.new("RGB", (1, 1)),
        "line.png": Image.new("RGB", (50_000, 1), "white"),
        "mast.png": Image.new("RGB", (1, 50_000)),
        "strip.png": Image.fromarray(noise),
        "clear.png": Image.new("RGBA", (33, 17), (9, 9, 9, 0)),
    }


@pytest.mark.parametrize("whole", [False, True])
def test_odd_photos_are_rows(tmp_path, whole):
    for name, content in odd_pictures().items():
        if isinstance(content, bytes):
            (tmp_path / name).write_bytes(content)
        else:
            content.save(tmp_path / name)
    rows = {
        Path(row["photo"]).name: row for row in predict.predict(flags_of(tmp_path, tmp_path, whole=whole, figures=True))
    }
    assert {name for name, row in rows.items() if "error" in row} == {"empty.jpg", "text.jpg"}
    assert all(len(row["faces"]) == whole for row in rows.values() if "faces" in row)


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "cannot be opened"), (b"text" * 999, "cannot be opened"), (None, "no frame")]
)
def test_videos_without_a_frame(tmp_path, content, message):
    path = tmp_path / "film.avi"
    if content is None:
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 20, (64, 48))
        writer.release()
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match=f"{message}|cannot be opened"):
        live.run(live_flags(tmp_path, path, csv=tmp_path / "a.csv"))
    assert not (tmp_path / "a.csv").exists()


def test_a_video_cut_short_is_read_to_its_end(tmp_path, astronaut, capsys):
    with recording(tmp_path / "film.avi", 20) as to:
        for number in range(20):
            to.add(np.asarray(astronaut), number / 20)
    content = (tmp_path / "film.avi").read_bytes()
    (tmp_path / "film.avi").write_bytes(content[: len(content) // 2])
    loop = live.run(live_flags(tmp_path, tmp_path / "film.avi", csv=tmp_path / "a.csv"))
    assert 5 < loop.frames < 15
    assert capsys.readouterr().err.count("ends after") == 1


# ── weights of detectors ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """No weights in the cache and none to download; the list counts the tries."""
    tries = []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    missing = Weights("file.onnx", "0" * 64, (), source="https://example.org")
    kinds = {**DETECTORS, "yunet": replace(DETECTORS["yunet"], weights=missing)}
    monkeypatch.setattr(detectors, "YUNET", missing)
    monkeypatch.setattr(detectors, "DETECTORS", kinds)
    find = detectors.find_weights
    monkeypatch.setattr(detectors, "find_weights", lambda *given: tries.append(1) or find(*given))
    return missing, tries


def test_a_failed_download_is_said_once_in_a_line_and_tried_again_after_a_day(offline, capsys):
    missing, tries = offline
    assert [open_detector().name for _ in range(3)] == ["haar"] * 3
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert len(said) <= 120
    assert "Haar cascade" in said
    assert len(tries) == 1
    with pytest.raises(UserError, match="could not be downloaded"):
        open_detector("yunet")
    assert len(tries) == 2
    day_ago = missing.failed.stat().st_mtime - 25 * 3600
    os.utime(missing.failed, (day_ago, day_ago))
    assert open_detector().name == "haar"
    assert len(tries) == 3
    assert "Haar cascade" in capsys.readouterr().err


def test_a_cache_that_cannot_be_written_is_no_error(offline, tmp_path):
    (tmp_path / "cache").write_text("no folder")
    assert open_detector().name == "haar"


@pytest.mark.parametrize("name", ["yunet", "retinaface"])
@pytest.mark.parametrize("change", ["empty", "text", "half", "random"])
def test_weights_that_are_none_are_an_error(tmp_path, photo, name, change):
    content = weights_of(name).read_bytes()
    random = np.random.default_rng(0).bytes(5000)
    changed = {"empty": b"", "text": b"hello " * 99, "half": content[: len(content) // 2], "random": random}[change]
    path = tmp_path / f"w{weights_of(name).suffix}"
    path.write_bytes(changed)
    with pytest.raises(UserError, match=r"w\.(onnx|pth) "):
        predict.predict(flags_of(tmp_path, photo, detector=name, detector_weights=path))


# ── mutations ────────────────────────────────────────────────────────────────────────────────────────────────────────


def mutated(content: bytes, generator: np.random.Generator) -> bytes:
    """Content with bytes changed, cut out, doubled, or cut off."""
    data = bytearray(content)
    for _ in range(generator.integers(1, 30)):
        place, length = int(generator.integers(len(data))), int(generator.integers(1, 64))
        match generator.integers(6):
            case 0 | 1 | 2:
                data[place] = generator.integers(256)
            case 3:
                data[place : place + length] = generator.bytes(length)
            case 4:
                del data[place : min(place + length, len(data) - 1)]
            case 5:
                data[place:place] = data[place : place + length]
    return bytes(data[: int(generator.integers(1, len(data)))] if generator.random() < 0.1 else data)


def outcome(flags):
    """What a run of predict ends in: rows, each with faces or an error, or a UserError; others fail the test."""
    try:
        return ["error" if "error" in row else "faces" for row in predict.predict(flags)]
    except UserError:
        return ["refused"]


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "webp", "tif", "bmp"])
def test_mutated_photos_are_read_or_refused(tmp_path, astronaut, suffix):
    generator = np.random.default_rng(len(suffix))
    astronaut.resize((120, 106)).save(tmp_path / f"whole.{suffix}")
    content = (tmp_path / f"whole.{suffix}").read_bytes()
    for number in range(15):
        (tmp_path / f"{number}.{suffix}").write_bytes(mutated(content, generator))
    found = outcome(flags_of(tmp_path, tmp_path, csv=tmp_path / "a.csv", json=tmp_path / "a.json"))
    assert len(found) == 16
    assert found.count("faces") >= 1


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("name", ["yunet", "retinaface"])
def test_mutated_weights_are_used_or_refused(tmp_path, photo, name):
    generator = np.random.default_rng(0)
    content = weights_of(name).read_bytes()
    for number in range(15):
        path = tmp_path / f"{number}{weights_of(name).suffix}"
        path.write_bytes(mutated(content, generator))
        outcome(flags_of(tmp_path, photo, detector=name, detector_weights=path))


# ── two processes ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_two_that_write_one_table_leave_a_whole_one(tmp_path, monkeypatch):
    """Two processes have temporary files of their own; here two threads that pass for processes."""
    numbers = threading.local()
    monkeypatch.setattr(os, "getpid", lambda: numbers.value)
    rows = [{"photo": f"{number}.png", "faces": []} for number in range(2000)]

    def write(number):
        numbers.value = number
        write_csv(tmp_path / "a.csv", rows)

    threads = [threading.Thread(target=write, args=(os.getppid() + number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 2001
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]
