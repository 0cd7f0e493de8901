"""datasets.py and ferlib/data: the cache, the splits, the synthetic set, the counts."""

import time
from pathlib import Path

import numpy as np
import pytest

import datasets
from config import EMOTIONS
from ferlib.data.audit.counts import describe
from ferlib.data.cache import read_cache, write_cache
from ferlib.data.copies import training_copies
from ferlib.data.face_data import FaceData
from ferlib.data.facts import DATASETS, SPLITS
from ferlib.data.readers.archives import ZipTree
from ferlib.data.readers.face_files import Face
from ferlib.data.readers.places import candidate_trees
from ferlib.runtime.errors import UserError


def face(value, label=0, split="train", name="face"):
    return Face(np.full((48, 48, 1), value, np.uint8), label, split, name)


def write(tmp_path, faces):
    folder = tmp_path / "cache" / "fer2013-test"
    write_cache(folder, faces, DATASETS["fer2013"])
    return read_cache(folder, "fer2013")


def test_unknown_data_set():
    with pytest.raises(UserError, match=r"unknown data set 'fer2031'; did you mean fer2013\?.*rafdb"):
        datasets.load_faces("fer2031", "data", "outputs")


def test_cache_keeps_every_face(tmp_path):
    faces = [face(10, 0, "train", "a"), face(20, 3, "test", "b"), face(30, 6, "val", "c"), face(40, 3, "train", "d")]
    data = write(tmp_path, faces)
    assert data.images[:, 0, 0, 0].tolist() == [10, 20, 30, 40]
    assert data.names.tolist() == ["a", "b", "c", "d"]
    assert data.split("train").labels.tolist() == [0, 3]
    assert data.split("train").images[:, 0, 0, 0].tolist() == [10, 40]
    assert data.split("val").names.tolist() == ["c"]
    assert data.counts()["test"] == [0, 0, 0, 1, 0, 0, 0]
    assert isinstance(data.images, np.memmap)


def test_interrupted_reading_leaves_no_cache(tmp_path):
    def interrupted():
        yield face(1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, interrupted())
    assert not list((tmp_path / "cache").iterdir())


def test_empty_data_set_and_split(tmp_path):
    with pytest.raises(UserError, match=r"fer2013\.csv holds no faces"):
        write(tmp_path, datasets.at_least_one([], Path("fer2013.csv")))
    with pytest.raises(UserError, match="FER2013 has no faces in its val split"):
        write(tmp_path, [face(1)]).split("val")


def test_fingerprint_tells_contents_apart(tmp_path):
    prints = [write(tmp_path / str(i), [face(1), face(v)]).fingerprint for i, v in enumerate((2, 2, 3))]
    assert prints[0] == prints[1] != prints[2]


def test_source_is_read_once_and_again_when_it_changes(tmp_path):
    def write_source(value):
        pixels = " ".join([str(value)] * 2304)
        rows = [f"3,{pixels},{usage}\n" for usage in ("Training", "PublicTest", "PrivateTest")]
        (tmp_path / "fer2013.csv").write_text("emotion,pixels,Usage\n" + "".join(rows))

    write_source(1)
    datasets.load_faces("fer2013", tmp_path, tmp_path)
    [cache] = (tmp_path / "cache").iterdir()
    before = (cache / "images.bin").stat().st_mtime_ns
    datasets.load_faces("fer2013", tmp_path, tmp_path)
    assert (cache / "images.bin").stat().st_mtime_ns == before
    time.sleep(0.02)
    write_source(2)
    assert (datasets.load_faces("fer2013", tmp_path, tmp_path).images == 2).all()


def test_training_copies(tmp_path):
    rows = [face(1), face(2), face(3, 0, "val"), face(2, 1, "test"), face(3, 0, "test"), face(4, 0, "test")]
    assert training_copies(write(tmp_path, rows)).tolist() == [True, False, False]


def test_description_sets_the_published_counts_below_the_found_ones(tmp_path):
    text = describe(write(tmp_path, [face(1), face(2, 3, "val"), face(3, 6, "test")]))
    rows = {line[:16].strip(): line[16:].split() for line in text.splitlines()}
    assert rows["train"] == ["1", "0", "0", "0", "0", "0", "0", "1"]
    expected = ["3,995", "436", "4,097", "7,215", "4,965", "4,830", "3,171", "28,709", "≠"]
    assert rows["published train"][:9] == expected


def test_description_counts_our_validation_part_of_rafdb_as_train(tmp_path):
    published = DATASETS["rafdb"].official_counts
    splits = {"train": [n - 1 for n in published["train"]], "val": [1] * 7, "test": published["test"]}
    rows = [(label, split) for split, counts in splits.items() for label in range(7) for _ in range(counts[label])]
    labels, codes = np.array([label for label, _ in rows]), np.array([SPLITS.index(s) for _, s in rows])
    images = np.zeros((len(rows), 1, 1, 3), np.uint8)
    text = describe(FaceData("rafdb", images, labels, labels.astype(str), codes, ""))
    assert text.count("✓ the same") == 2


def test_synthetic_faces(synthetic):
    assert synthetic.images.shape == (210, 48, 48, 3)
    assert synthetic.evidence.shape == (210, 48, 48)
    assert sum(map(sum, synthetic.counts().values())) == 210
    parts = {split: set(synthetic.split(split).subjects.tolist()) for split in SPLITS}
    assert len(set.union(*parts.values())) == sum(map(len, parts.values())), "a subject is in two splits"
    assert all(count > 0 for counts in synthetic.counts().values() for count in counts)
    neutral = synthetic.labels == EMOTIONS.index("Neutral")
    assert not synthetic.evidence[neutral].any()
    assert (synthetic.evidence[~neutral].reshape(-1, 48 * 48).max(1) > 0).all()


def test_only_the_data_sets_own_files_are_looked_at(tmp_path):
    (tmp_path / "other/train/1").mkdir(parents=True)
    (tmp_path / "other/train/1/face.jpg").touch()
    (tmp_path / "train/happy").mkdir(parents=True)
    (tmp_path / "train/happy/Training_1.jpg").touch()
    trees = list(candidate_trees(DATASETS["fer2013"], tmp_path))
    assert [tree.paths for tree in trees] == [["train/happy/Training_1.jpg"]]


def test_doctor(capsys, shared_outputs, monkeypatch):
    monkeypatch.setattr("sys.argv", ["datasets.py", "--outputs-dir", str(shared_outputs)])
    datasets.main()
    printed = capsys.readouterr().out
    assert "Synthetic faces: 210 faces of 48×48×3" in printed
    assert "✓ leaks: no face of val or test, nor a near copy, stands in train" in printed
    assert "✓ subjects: each of 30 people is in one split only" in printed


REAL = Path(__file__).parents[2] / "shared" / "data"


@pytest.mark.skipif(not (REAL / "fer2013.zip").exists(), reason="the real FER2013 is not here")
def test_real_fer2013_is_recognised():
    tree = next(iter(candidate_trees(DATASETS["fer2013"], REAL)))
    assert isinstance(tree, ZipTree)
    assert len(tree.paths) == 35887
    source = datasets.find_source("fer2013", DATASETS["fer2013"], REAL)
    assert len(source.key) == 16
    assert source.size <= 35887 * 48**2


def test_outputs_in_a_folder_of_faces_are_refused(tmp_path):
    folder = tmp_path / "faces"
    (folder / "Happy").mkdir(parents=True)
    with pytest.raises(UserError, match=r"lies in .*faces, a folder of faces; name one outside"):
        datasets.load_faces(f"folder:{folder}", tmp_path, folder / "outputs")
    assert not (folder / "outputs").exists()
