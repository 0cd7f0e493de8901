"""Random damage to sources and caches: an error in words or the right faces, and nothing else."""

import contextlib
import shutil

import numpy as np
import pytest

import datasets
from ferlib.runtime.errors import UserError
from test_damaged_sources import csv_tar, csv_zip
from test_readers import fer_rows, write_csv, write_votes

MUTATIONS = 60  # of each file
VOTES = [(0, 8, 2) + (0,) * 7] * 14


def mutate(content: bytes, rng: np.random.Generator) -> bytes:
    """One of: a bit flipped, bytes overwritten, cut out, repeated or put in, the end cut off, a line exchanged."""
    place, length = int(rng.integers(len(content))), int(rng.integers(1, 40))
    noise = rng.integers(0, 256, length, dtype=np.uint8).tobytes()
    match rng.integers(7):
        case 0:
            return content[:place] + bytes([content[place] ^ (1 << int(rng.integers(8)))]) + content[place + 1 :]
        case 1:
            return content[:place] + noise + content[place + length :]
        case 2:
            return content[:place] + content[place + length :]
        case 3:
            return content[: place + length] + content[place:]
        case 4:
            return content[:place] + noise + content[place:]
        case 5:
            return content[:place]
    return content.replace(b"\n", bytes(rng.choice([b"\r", b"\r\n", b"\0", b"\n\n"])), int(rng.integers(1, 5)))


def write_sources(root):
    """Each kind of source in a data folder of its own."""
    write_csv(root / "csv/fer2013.csv", fer_rows())
    write_votes(root / "csv/fer2013new.csv", VOTES)
    csv_zip(root / "zip/fer2013.zip")
    csv_tar(root / "tar/fer2013.tar")
    csv_tar(root / "gz/fer2013.tar.gz")


SOURCES = ["csv/fer2013.csv", "csv/fer2013new.csv", "zip/fer2013.zip", "tar/fer2013.tar", "gz/fer2013.tar.gz"]
CHECKED = ("zip/fer2013.zip", "gz/fer2013.tar.gz")  # the formats that hold a check sum of their content


def contents(data):
    """All that a stage reads of a data set, but the pixels' order in memory."""
    votes = None if data.votes is None else data.votes.tolist()
    return data.images.tobytes(), data.labels.tolist(), data.splits.tolist(), data.names.tolist(), votes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dataset", "name"), [*(("fer2013", name) for name in SOURCES), *(("ferplus", name) for name in SOURCES[:2])]
)
def test_mutated_sources(tmp_path, name, dataset):
    write_sources(tmp_path)
    path = tmp_path / name
    whole = path.read_bytes()
    expected = contents(datasets.load_faces(dataset, path.parent, tmp_path / "outputs"))
    rng = np.random.default_rng(SOURCES.index(name))
    loaded = 0
    for number in range(MUTATIONS):
        path.write_bytes(mutate(whole, rng))
        with contextlib.suppress(UserError):
            data = datasets.load_faces(dataset, path.parent, tmp_path / f"outputs{number}")
            loaded += 1
            assert set(data.labels.tolist()) <= set(range(7))
            if name in CHECKED:
                assert contents(data)[:4] == expected[:4]
    assert loaded < MUTATIONS


@pytest.mark.slow
@pytest.mark.parametrize("name", ["images.bin", "columns.npz", "facts.json", "checked.json"])
def test_mutated_caches_give_the_faces_of_the_source(tmp_path, name):
    write_sources(tmp_path)
    expected = contents(datasets.load_faces("fer2013", tmp_path / "csv", tmp_path / "outputs"))
    [cache] = (tmp_path / "outputs/cache").iterdir()
    whole = {path.name: path.read_bytes() for path in cache.iterdir()}
    rng = np.random.default_rng(len(name))
    for _ in range(MUTATIONS):
        (cache / name).write_bytes(mutate(whole[name], rng))
        data = datasets.load_faces("fer2013", tmp_path / "csv", tmp_path / "outputs")
        assert contents(data) == expected
        if rng.integers(10) == 0:  # a copy of the folder has other time stamps
            shutil.copytree(cache, tmp_path / "copy")
            shutil.rmtree(cache)
            (tmp_path / "copy").rename(cache)
