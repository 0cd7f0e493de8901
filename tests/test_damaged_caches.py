"""The decoded cache: what damages it is found, what is damaged is made anew, and what killed processes left goes."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import datasets
from ferlib.data import cache
from ferlib.data.cache import find_cached, read_cache
from ferlib.runtime import files
from ferlib.runtime.errors import UserError
from ferlib.runtime.files import UnwritableError
from test_readers import check_fer, fer_rows, write_csv, write_votes

ROOT = Path(__file__).parents[1]


@pytest.fixture
def source(tmp_path):
    """A FER2013 CSV with votes."""
    write_csv(tmp_path / "data/fer2013.csv", fer_rows())
    write_votes(tmp_path / "data/fer2013new.csv", [(0, 8, 2) + (0,) * 7] * 14)
    return tmp_path / "data"


@pytest.fixture
def load(source, tmp_path):
    """Loads the source from one outputs folder."""
    return lambda: datasets.load_faces("fer2013", source, tmp_path / "outputs")


def folder_of(tmp_path):
    [folder] = (tmp_path / "outputs/cache").iterdir()
    return folder


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[int(place * (len(content) - 1))] ^= 1
    path.write_bytes(content)


def rewrite(folder, **changes):
    """Columns with others in place of, or beside, their own; those that are None are left out."""
    with np.load(folder / "columns.npz") as archive:
        columns = dict(archive) | changes
    np.savez(folder / "columns.npz", **{name: values for name, values in columns.items() if values is not None})


def change_facts(folder, **changes):
    facts = json.loads((folder / "facts.json").read_text())
    (folder / "facts.json").write_text(json.dumps(facts | changes))


DAMAGES = {
    "first bit": lambda folder: flip(folder / "images.bin", 0),
    "a bit": lambda folder: flip(folder / "images.bin", 0.4),
    "last bit": lambda folder: flip(folder / "images.bin", 1),
    "images cut": lambda folder: os.truncate(folder / "images.bin", 2304 * 13),
    "images empty": lambda folder: os.truncate(folder / "images.bin", 0),
    "images longer": lambda folder: os.truncate(folder / "images.bin", 2304 * 15),
    "images gone": lambda folder: (folder / "images.bin").unlink(),
    "columns cut": lambda folder: os.truncate(folder / "columns.npz", 500),
    "columns empty": lambda folder: os.truncate(folder / "columns.npz", 0),
    "columns gone": lambda folder: (folder / "columns.npz").unlink(),
    "columns no npz": lambda folder: (folder / "columns.npz").write_bytes(b"no archive"),
    "columns an npy": lambda folder: np.save((folder / "columns.npz").open("wb"), np.arange(3)),
    "labels exchanged": lambda folder: rewrite(folder, labels=np.arange(14) % 7),
    "labels out of range": lambda folder: rewrite(folder, labels=np.arange(14)),
    "labels negative": lambda folder: rewrite(folder, labels=np.full(14, -1)),
    "labels of another type": lambda folder: rewrite(folder, labels=np.zeros(14)),
    "labels missing": lambda folder: rewrite(folder, labels=None),
    "splits out of range": lambda folder: rewrite(folder, splits=np.full(14, 3)),
    "rows missing": lambda folder: rewrite(folder, splits=np.zeros(13, int)),
    "names of another type": lambda folder: rewrite(folder, names=np.zeros(14)),
    "other names": lambda folder: rewrite(folder, names=np.array(["row_1"] * 14)),
    "votes NaN": lambda folder: rewrite(folder, votes=np.full((14, 7), np.nan, np.float32)),
    "votes of eight": lambda folder: rewrite(folder, votes=np.zeros((14, 8), np.float32)),
    "votes missing": lambda folder: rewrite(folder, votes=None),
    "other votes": lambda folder: rewrite(folder, votes=np.full((14, 7), 1 / 7, np.float32)),
    "one column more": lambda folder: rewrite(folder, more=np.zeros(14)),
    "facts empty": lambda folder: (folder / "facts.json").write_text(""),
    "facts no JSON": lambda folder: (folder / "facts.json").write_text('{"shape": [14, 48,'),
    "facts a list": lambda folder: (folder / "facts.json").write_text("[]"),
    "facts too deep": lambda folder: (folder / "facts.json").write_text("[" * 100_000),
    "facts gone": lambda folder: (folder / "facts.json").unlink(),
    "fewer images": lambda folder: change_facts(folder, shape=[13, 48, 48, 1]),
    "another shape": lambda folder: change_facts(folder, shape=[14, 1, 48, 48]),
    "no shape": lambda folder: change_facts(folder, shape=None),
    "a shape of text": lambda folder: change_facts(folder, shape="1111"),
    "another fingerprint": lambda folder: change_facts(folder, fingerprint="0" * 32),
    "no fingerprint": lambda folder: change_facts(folder, fingerprint=7),
    "a note in place of notes": lambda folder: change_facts(folder, notes="a note"),
    "notes of numbers": lambda folder: change_facts(folder, notes=[1]),
    "nothing in it": lambda folder: [path.unlink() for path in folder.iterdir()],
    "a file in its place": lambda folder: [shutil.rmtree(folder), folder.write_text("x")],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_is_made_anew(load, tmp_path, damage, capsys):
    whole = load()
    fingerprint, names, votes = whole.fingerprint, whole.names.tolist(), whole.votes.tolist()
    DAMAGES[damage](folder_of(tmp_path))
    assert find_cached("fer2013", tmp_path / "outputs", fingerprint) is None
    capsys.readouterr()
    data = load()
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
    assert len(notes) == 1
    assert re.search(r"the cache .*/fer2013-\w{16} is damaged \(.+\); FER2013 is read again$", notes[0])
    check_fer(data)
    assert (data.fingerprint, data.names.tolist(), data.votes.tolist()) == (fingerprint, names, votes)
    assert find_cached("fer2013", tmp_path / "outputs", fingerprint) is not None


def test_damage_whose_source_is_gone(load, source, tmp_path):
    load()
    DAMAGES["a bit"](folder_of(tmp_path))
    (source / "fer2013.csv").unlink()
    with pytest.raises(UserError, match="no FER2013 in"):
        load()


def test_content_is_compared_once_for_each_state_of_the_files(load, tmp_path, monkeypatch):
    hashed, digest = [], cache.digest_of
    monkeypatch.setattr(
        cache, "digest_of", lambda path, *rest, **size: hashed.append(path) or digest(path, *rest, **size)
    )
    load()
    assert {path.name for path in hashed} == {"images.bin", "columns.npz"}
    hashed.clear()
    load()
    assert not hashed, "the process that writes a cache compares it"
    images = folder_of(tmp_path) / "images.bin"
    facts = images.stat()
    flip(images, 0.5)
    os.utime(images, ns=(facts.st_atime_ns, facts.st_mtime_ns))  # as a copy that keeps the times
    check_fer(load())
    assert hashed
    images.touch()
    hashed.clear()
    load()
    assert hashed, "another time"
    hashed.clear()
    load()
    assert not hashed, "the comparison is kept beside the cache"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"images.bin": 3}'])
def test_a_damaged_stamp_means_another_comparison(load, tmp_path, content, capsys):
    load()
    capsys.readouterr()
    DAMAGES["a bit"](folder_of(tmp_path))
    (folder_of(tmp_path) / "checked.json").write_text(content)
    check_fer(load())
    assert "is damaged" in capsys.readouterr().err


def test_caches_of_earlier_versions_are_compared_too(load, tmp_path, capsys):
    """They have no digest of the columns and no stamp."""
    fingerprint = load().fingerprint
    folder = folder_of(tmp_path)
    facts = json.loads((folder / "facts.json").read_text())
    del facts["columns"]
    (folder / "facts.json").write_text(json.dumps(facts))
    (folder / "checked.json").unlink()
    before = (folder / "images.bin").stat()
    assert load().fingerprint == fingerprint
    assert (folder / "images.bin").stat().st_ino == before.st_ino
    rewrite(folder, votes=np.full((14, 7), np.nan, np.float32))
    assert find_cached("fer2013", tmp_path / "outputs", fingerprint) is None
    check_fer(load())


def test_a_damaged_cache_beside_a_whole_one(load, tmp_path):
    fingerprint = load().fingerprint
    folder = folder_of(tmp_path)
    for name, damage in (("0" * 16, "a bit"), ("1" * 16, "facts empty"), ("2" * 16, "labels missing")):
        shutil.copytree(folder, folder.with_name(f"fer2013-{name}"))
        DAMAGES[damage](folder.with_name(f"fer2013-{name}"))
    check_fer(find_cached("fer2013", tmp_path / "outputs", fingerprint))


# ── processes ────────────────────────────────────────────────────────────────────────────────────────────────────────

SLOW = """
import pathlib, sys, time
import datasets
from ferlib.data.readers import pixel_csv
parse = pixel_csv.parse_pixels
def slow(*arguments):
    time.sleep(0.03)
    return parse(*arguments)
pixel_csv.parse_pixels = slow
print("started", flush=True)
data = datasets.load_faces("fer2013", pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
print(len(data), int(data.images.sum()), data.fingerprint, flush=True)
"""


def start(source, tmp_path):
    command = [sys.executable, "-c", SLOW, str(source), str(tmp_path / "outputs")]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.process
def test_what_a_killed_decoding_left_is_removed(source, load, tmp_path):
    process = start(source, tmp_path)
    wait_for(lambda: list((tmp_path / "outputs").glob("cache/.*.tmp/images.bin")))
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.communicate()
    assert list((tmp_path / "outputs/cache").glob(".*.tmp")), "nothing was left that could be removed"
    files.remove_leftovers.cache_clear()
    check_fer(load())
    assert [path.name[:8] for path in (tmp_path / "outputs/cache").iterdir()] == ["fer2013-"]


@pytest.mark.process
def test_two_processes_that_read_the_same_set(source, load, tmp_path):
    both = [start(source, tmp_path), start(source, tmp_path)]
    results = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], results
    assert len({out for out, _ in results}) == 1
    assert sum("reading FER2013: 14 faces" in err for _, err in results) == 1, "both have decoded"
    check_fer(load())
    assert [path.name[:8] for path in (tmp_path / "outputs/cache").iterdir()] == ["fer2013-"]


# ── disks ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_too_little_space_is_found_before_decoding(load, monkeypatch):
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: usage._replace(free=10_000))
    monkeypatch.setattr(cache, "write_images", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(UnwritableError, match="needs about 0 MB and its disk has 0 MB free"):
        load()


@pytest.mark.parametrize("code", [28, 30, 122])  # ENOSPC, EROFS, EDQUOT
def test_a_disk_that_fills_while_decoding(load, tmp_path, monkeypatch, code):
    def fail(*_, **__):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(cache.np, "savez", fail)
    with pytest.raises(UnwritableError, match=r"cache/fer2013-\w{16} cannot be written: "):
        load()
    assert not list((tmp_path / "outputs/cache").iterdir())


def test_outputs_that_are_no_folder(load, tmp_path):
    (tmp_path / "outputs").write_text("a file")
    with pytest.raises(UnwritableError, match="cannot be written"):
        load()


def test_a_whole_cache_needs_no_writing(load, tmp_path, monkeypatch):
    load()
    (folder_of(tmp_path) / "checked.json").unlink()

    def refuse(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(cache, "write_stamp", refuse)
    check_fer(load())


def test_a_cache_that_may_not_be_read_is_not_removed(load, tmp_path, monkeypatch):
    load()
    refusal = PermissionError(13, "Permission denied", str(folder_of(tmp_path) / "images.bin"))
    monkeypatch.setattr(cache.np, "memmap", lambda *_, **__: (_ for _ in ()).throw(refusal))
    with pytest.raises(UserError, match=r"images\.bin cannot be read: Permission denied"):
        load()
    monkeypatch.undo()
    check_fer(read_cache(folder_of(tmp_path), "fer2013"))
