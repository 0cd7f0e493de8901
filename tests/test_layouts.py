"""AffectNet, JAFFE, CK+, FER+ and folders of one's own: drawn faces in each layout, whole and broken."""

import zipfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import datasets
from config import EMOTIONS
from ferlib.data.face_data import FaceData
from ferlib.data.facts import DATASETS
from ferlib.data.readers.affectnet import AFFECTNET_EMOTIONS
from ferlib.data.readers.ckplus import CKPLUS_CSV_EMOTIONS, CKPLUS_EMOTIONS
from ferlib.data.readers.face_files import CLASSES, class_named
from ferlib.data.readers.fer2013 import FER2013_EMOTIONS
from ferlib.data.readers.places import candidate_trees
from ferlib.data.readers.recognition import recognised_sets, sets_of_counts
from ferlib.data.readers.trees import Tree
from ferlib.data.votes import FER_PLUS_COLUMNS, FER_PLUS_OTHERS
from ferlib.runtime.errors import UserError


def draw(seed, side=32, mode="L"):
    """A flat picture whose grey tells the seed, so that JPEG and scaling keep it."""
    return Image.new(mode, (side, side), (10 * seed % 256,) * len(mode) if len(mode) > 1 else 10 * seed % 256)


def save(path, seed, form=None, **look):
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(seed, **look).save(path, form)


def load(dataset, tmp_path, fold=0, data="data"):
    return datasets.load_faces(dataset, tmp_path / data, tmp_path / "outputs", fold)


def check_greys(data, expected):
    """`expected`: (class, seed) of every face."""
    found = sorted(
        (CLASSES[label], round(float(image.mean()))) for label, image in zip(data.labels, data.images, strict=True)
    )
    wanted = sorted((name, 10 * seed % 256) for name, seed in expected)
    assert [name for name, _ in found] == [name for name, _ in wanted]
    assert all(abs(grey - other) <= 1 for (_, grey), (_, other) in zip(found, wanted, strict=True))


# ── AffectNet ────────────────────────────────────────────────────────────────────────────────────────────────────────


def write_affectnet(root, name_of, parts):
    """Ten faces per class and part; returns (class, seed) of them."""
    faces = []
    for part in parts:
        for code, name in enumerate(AFFECTNET_EMOTIONS):
            for number in range(10):
                save(root / part / name_of(code, name) / f"{part}{number}.jpg", code, mode="RGB")
                faces.append((name, code))
    return faces


@pytest.mark.parametrize("name_of", [lambda code, _: str(code), lambda _, name: name.lower(), lambda _, name: name])
@pytest.mark.parametrize("parts", [("train", "val"), ("train", "val", "test"), ("train_class", "val_class"), ("",)])
def test_affectnet_folders(tmp_path, name_of, parts):
    faces = write_affectnet(tmp_path / "data/affectnet", name_of, parts)
    seven = load("affectnet", tmp_path)
    check_greys(seven, [face for face in faces if face[0] != "Contempt"])
    assert seven.images.shape[1:] == (112, 112, 3)
    eight = load("affectnet8", tmp_path)
    check_greys(eight, faces)
    assert eight.classes == (*EMOTIONS, "Contempt")
    counts = seven.counts()
    assert all(min(counts[split]) > 0 for split in counts), "a part without a class"
    if len(parts) == 2:
        assert counts["test"] == [10] * 7, "AffectNet's own val is the test part"
        assert counts["val"] == [1] * 7


def test_affectnet_as_its_authors_send_it(tmp_path):
    root = tmp_path / "data/AffectNet"
    for part, count in (("train_set", 88), ("val_set", 16)):
        for number in range(count):
            save(root / part / f"images/{number}.jpg", number % 8, mode="RGB")
            (root / part / "annotations").mkdir(exist_ok=True)
            np.save(root / part / f"annotations/{number}_exp.npy", str(number % 8))
            np.save(root / part / f"annotations/{number}_val.npy", "0.5")
    data = load("affectnet", tmp_path)
    check_greys(data, [(AFFECTNET_EMOTIONS[code], code) for code in range(7) for _ in range(13)])
    assert data.counts()["test"] == [2] * 7


def test_affectnet_of_its_authors_with_a_test_part_and_faces_without_annotation(tmp_path, capsys):
    root = tmp_path / "data/AffectNet"
    for seed, part in enumerate(("train_set", "val_set", "test_set")):
        for number in range(8):
            save(root / part / f"images/{number}.jpg", seed, mode="RGB")
            (root / part / "annotations").mkdir(exist_ok=True)
            np.save(root / part / f"annotations/{number}_exp.npy", str(number))
    save(root / "train_set/images/99.jpg", 0, mode="RGB")
    data = load("affectnet", tmp_path)
    assert [greys(data, split) for split in ("train", "val", "test")] == [{0}, {1}, {2}]
    assert "1 of 25 files are left out, as they have no annotation: train_set/images/99.jpg" in capsys.readouterr().out


def test_a_broken_label_of_affectnet(tmp_path):
    root = tmp_path / "data/AffectNet/train_set"
    save(root / "images/1.jpg", 1, mode="RGB")
    (root / "annotations").mkdir()
    for content in (b"", b"no array"):
        (root / "annotations/1_exp.npy").write_bytes(content)
        with pytest.raises(UserError, match=r"1_exp\.npy does not hold the code of an expression"):
            load("affectnet", tmp_path)


def test_the_folders_of_fer2013_are_not_affectnet(tmp_path):
    save(tmp_path / "data/train/angry/Training_1.jpg", 1)
    with pytest.raises(UserError, match="no AffectNet"):
        load("affectnet", tmp_path)


# ── sets in shared places ────────────────────────────────────────────────────────────────────────────────────────────


CLASS_WORDS = tuple(name.lower() for name in EMOTIONS)


def write_classes(root, words=CLASS_WORDS, name="{number}.png", count=4):
    """Pictures in folders below train and test; a face's grey is 10 times the number of its folder."""
    for part in ("train", "test"):
        for seed, word in enumerate(words):
            for number in range(count):
                save(root / part / word / name.format(part=part, number=number), seed, mode="RGB")


def write_pixel_csv(path, rows, codes=7):
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{row % codes},{'0 ' * 48**2},Training" for row in range(rows)]
    path.write_text("\n".join(["emotion,pixels,Usage", *lines]))


OTHERS = {  # what writes a set into a folder → the set whose title the error has
    "RAF-DB by codes": (lambda root: write_classes(root / "DATASET", "1234567"), "RAF-DB"),
    "RAF-DB by names": (lambda root: write_classes(root, name="{part}_0000{number}_aligned.jpg"), "RAF-DB"),
    "CK+": (lambda root: write_classes(root / "CK+48", name="S010_004_0000000{number}.png"), r"CK\+"),
    "CK+ by codes": (lambda root: write_classes(root, "01234567", name="S010_004_0000000{number}.png"), r"CK\+"),
    "JAFFE": (lambda root: write_classes(root, name="KA.AN1.{number}.png"), "JAFFE"),
    "FER+": (lambda root: write_classes(root, name="fer000000{number}.png"), r"FER\+"),
    "FER2013": (lambda root: write_classes(root, name="Training_{number}.png"), "FER2013"),
    "FER2013's CSV": (lambda root: write_pixel_csv(root / "icml_face_data.csv", 7), "FER2013"),
    "CK+'s CSV": (lambda root: write_pixel_csv(root / "ckextended.csv", 7), r"CK\+"),
    "AffectNet by codes": (lambda root: write_classes(root, "01234567"), "AffectNet"),
}
READ_AS = [
    ("RAF-DB by codes", "affectnet"), ("RAF-DB by codes", "affectnet8"), ("RAF-DB by names", "affectnet"),
    ("CK+", "affectnet"), ("CK+ by codes", "affectnet"), ("CK+ by codes", "rafdb"), ("CK+", "fer2013"),
    ("JAFFE", "affectnet"), ("JAFFE", "ckplus"), ("FER+", "affectnet"), ("FER+", "rafdb"), ("FER2013", "affectnet"),
    ("FER2013's CSV", "ckplus"), ("CK+'s CSV", "fer2013"), ("CK+'s CSV", "ferplus"), ("AffectNet by codes", "rafdb"),
    ("AffectNet by codes", "fer2013"),
]  # fmt: skip


@pytest.mark.parametrize(("other", "dataset"), READ_AS)
def test_a_set_in_a_shared_place_is_not_read_as_another(tmp_path, other, dataset):
    write, title = OTHERS[other]
    write(tmp_path / "data/archive")
    with pytest.raises(UserError, match=rf"no .*; .*archive has the names, codes or numbers of faces of {title}"):
        load(dataset, tmp_path)


@pytest.mark.parametrize("other", ["RAF-DB by codes", "CK+", "FER2013", "FER2013's CSV"])
def test_the_next_place_is_read_where_one_holds_another_set(tmp_path, other):
    OTHERS[other][0](tmp_path / "data/archive")
    (tmp_path / "affectnet").mkdir()
    faces = write_affectnet(tmp_path / "affectnet", lambda code, _: str(code), ("train", "val"))
    with zipfile.ZipFile(tmp_path / "data/archive (1).zip", "w") as archive:
        for path in (tmp_path / "affectnet").rglob("*.jpg"):
            archive.write(path, path.relative_to(tmp_path / "affectnet"))
    check_greys(load("affectnet", tmp_path), [face for face in faces if face[0] != "Contempt"])


def test_sets_are_known_by_their_published_numbers_of_faces(tmp_path, monkeypatch):
    counts = {"train": (5, 2, 3, 6, 4, 7, 9), "val": (1,) * 7, "test": (1, 1, 2, 2, 3, 3, 4)}
    for words in (CLASS_WORDS, "1234567"):
        for word, *numbers in zip(words, *counts.values(), strict=True):
            for number in range(sum(numbers)):
                part = "train" if number < numbers[0] else "test"
                save(tmp_path / words[0] / part / word / f"im{number}.png", 1)
        official = replace(DATASETS["fer2013"], official_counts=counts)
        assert recognised_sets(Tree(tmp_path / words[0])) <= {"rafdb"}
        with monkeypatch.context() as patch:
            patch.setitem(DATASETS, "fer2013", official)
            assert recognised_sets(Tree(tmp_path / words[0])) == {"fer2013"}
            assert recognised_sets(Tree(tmp_path / words[0] / "train")) == {"fer2013"}
            with pytest.raises(UserError, match=r"no AffectNet.*of FER2013"):
                load("affectnet", tmp_path, data=words[0])


@pytest.mark.parametrize("name", ["fer2013", "rafdb", "ferplus", "ferplus8"])
def test_published_numbers_of_each_set(name):
    totals = [sum(counts) for counts in zip(*DATASETS[name].official_counts.values(), strict=True)]
    for counts in (totals, DATASETS[name].official_counts["train"]):
        paths = [
            f"{word}/{number}.png" for word, count in zip(CLASSES, counts, strict=False) for number in range(count)
        ]
        assert sets_of_counts(paths) == {name.removesuffix("8")}
        assert sets_of_counts(paths[1:]) == set()


@pytest.mark.parametrize(
    ("rows", "own", "other"), [(920, "ckplus", "fer2013"), (9200, "fer2013", "ckplus"), (50, "ckplus", None)]
)
def test_a_csv_is_known_by_its_rows(tmp_path, rows, own, other):
    write_pixel_csv(tmp_path / "data/archive/faces.csv", rows)
    [tree] = [tree for tree in candidate_trees(DATASETS["ckplus"], tmp_path / "data") if tree.paths]
    assert next(datasets.faces_in(own, DATASETS[own], tree)).label == 0
    if other:
        assert datasets.faces_in(other, DATASETS[other], tree) is None


def test_the_csv_of_each_set_is_taken_where_both_lie_together(tmp_path):
    write_pixel_csv(tmp_path / "data/archive/ckextended.csv", 8, codes=8)
    write_pixel_csv(tmp_path / "data/archive/fer2013.csv", 14)
    assert len(load("fer2013", tmp_path)) == 14
    assert len(load("ckplus", tmp_path)) == 7


def test_where_nothing_shows_the_set_its_place_is_printed(tmp_path, capsys):
    write_classes(tmp_path / "data/archive", count=10)
    load("affectnet", tmp_path)
    assert "archive: its 140 pictures are read as AffectNet; folders of other sets" in capsys.readouterr().out
    (tmp_path / "data/archive").rename(tmp_path / "data/AffectNet")
    load("affectnet", tmp_path)
    assert "are read as AffectNet" not in capsys.readouterr().out


def test_the_authors_affectnet_beside_folders_of_fer2013(tmp_path):
    write_classes(tmp_path / "data", name="Training_{number}.png")
    for part in ("train_set", "val_set"):
        for number in range(70):
            save(tmp_path / "data" / part / f"images/{number}.jpg", number % 7, mode="RGB")
            (tmp_path / "data" / part / "annotations").mkdir(exist_ok=True)
            np.save(tmp_path / "data" / part / f"annotations/{number}_exp.npy", str(number % 7))
    check_greys(load("affectnet", tmp_path), [(AFFECTNET_EMOTIONS[code], code) for code in range(7)] * 20)


# ── folders of one's own ─────────────────────────────────────────────────────────────────────────────────────────────


def test_any_folder_of_folders_named_by_class(tmp_path):
    root = tmp_path / "my faces"
    for label, word in enumerate(("anger", "Disgusted", "FEAR", "happiness", "neutral", "sad", "Surprise")):
        for number in range(20):
            save(root / word / f"{number}.png", label, side=40 + number)
    data = load(f"folder:{root}", tmp_path)
    check_greys(data, [(name, label) for label, name in enumerate(EMOTIONS) for _ in range(20)])
    assert data.counts() == {"train": [14] * 7, "val": [3] * 7, "test": [3] * 7}
    assert data.facts.title == "my faces"
    assert all(path.name.count(":") == 0 for path in (tmp_path / "outputs/cache").iterdir())


def test_a_misspelt_class_is_not_lost(tmp_path):
    for word in ("anger", "hapiness"):
        save(tmp_path / "faces" / word / "a.png", 1)
    with pytest.raises(UserError, match="name no class: hapiness; known are Angry"):
        load(f"folder:{tmp_path / 'faces'}", tmp_path)
    with pytest.raises(UserError, match="holds no folders named by class, such as Angry or happiness; "):
        load(f"folder:{tmp_path / 'nowhere'}", tmp_path)


def write_parts(root, *parts, count=4):
    """`count` faces of two classes in each part; a face's grey is 10 times the part's number."""
    for seed, part in enumerate(parts):
        for word in ("anger", "happiness"):
            for number in range(count):
                save(root / part / word / f"{number}.png", seed)


def greys(data, split):
    return {round(float(image.mean())) // 10 for image in data.split(split).images}


@pytest.mark.parametrize(
    "names",
    [
        ("train_set", "dev", "test-set"),
        ("Training", "PublicTest", "PrivateTest"),
        ("images/training", "images/validation", "images/testing"),
        ("train", "val", "eval"),
    ],
)
def test_parts_keep_their_faces(tmp_path, names):
    write_parts(tmp_path / "faces", *names)
    data = load(f"folder:{tmp_path / 'faces'}", tmp_path)
    assert [greys(data, split) for split in ("train", "val", "test")] == [{0}, {1}, {2}]
    assert [sum(counts) for counts in data.counts().values()] == [8, 8, 8]


@pytest.mark.parametrize("part", ["dev", "eval", "val", "PublicTest", "PrivateTest", "test_set"])
def test_the_only_part_beside_train_is_never_trained_on(tmp_path, capsys, part):
    write_parts(tmp_path / "faces", "train", part, count=20)
    data = load(f"folder:{tmp_path / 'faces'}", tmp_path)
    assert [greys(data, split) for split in ("train", "val", "test")] == [{0}, {0}, {1}]
    assert data.counts()["val"][0] == 3
    says_so = "its only part beside train is the test split" in capsys.readouterr().out
    assert says_so == (part not in ("PrivateTest", "test_set"))


def test_parts_that_cannot_be_understood_are_refused(tmp_path):
    write_parts(tmp_path / "faces", "train", "golden")
    with pytest.raises(UserError, match="faces in golden are for training or testing; rename the folders"):
        load(f"folder:{tmp_path / 'faces'}", tmp_path)
    write_parts(tmp_path / "data/affectnet", "train", "golden")
    with pytest.raises(UserError, match="faces in golden are for training or testing"):
        load("affectnet", tmp_path)


def test_hidden_files_of_a_mac_in_a_zip(tmp_path):
    write_parts(tmp_path / "faces", "train", "test")
    with zipfile.ZipFile(tmp_path / "zipped.zip", "w") as archive:
        for path in sorted((tmp_path / "faces").rglob("*")):
            name = path.relative_to(tmp_path / "faces")
            archive.write(path, name)
            archive.writestr(f"__MACOSX/{name.parent}/._{name.name}", b"no picture")
    assert len(load(f"folder:{tmp_path / 'zipped'}", tmp_path)) == 16


# ── JAFFE ────────────────────────────────────────────────────────────────────────────────────────────────────────────

PEOPLE = ("KA", "KL", "KM", "KR", "MK", "NA", "NM", "TM", "UY", "YM")
JAFFE_CODES = {"AN": "Angry", "DI": "Disgust", "FE": "Fear", "HA": "Happy", "NE": "Neutral", "SA": "Sad",
               "SU": "Surprise"}  # fmt: skip


def write_jaffe(root):
    faces = []
    for person in PEOPLE:
        for number, (code, name) in enumerate(JAFFE_CODES.items()):
            for take in (1, 2, 3):
                save(root / f"{person}.{code}{take}.{number}.tiff", number, side=256)
                faces.append((name, number))
    return faces


def test_jaffe(tmp_path):
    faces = write_jaffe(tmp_path / "data/jaffe")
    data = load("jaffe", tmp_path)
    check_greys(data, faces)
    assert len(np.unique(data.subjects)) == 10
    check_subjects(data)


def test_pictures_whose_names_say_nothing_are_counted(tmp_path, capsys):
    write_jaffe(tmp_path / "data/jaffe")
    save(tmp_path / "data/jaffe/me.png", 1)
    (tmp_path / "data/jaffe/KA.AN1.40.xyz").touch()
    (tmp_path / "data/jaffe/README").touch()
    assert len(load("jaffe", tmp_path)) == 210
    assert "2 of 212 files are left out, as they are no pictures named by" in capsys.readouterr().out


def check_subjects(data):
    """No subject is in two parts, and no part is empty."""
    parts = [set(data.subjects[data.splits == code]) for code in range(3)]
    assert all(parts)
    assert sum(map(len, parts)) == len(set(data.subjects))


def test_every_subject_is_tested_once(tmp_path):
    write_jaffe(tmp_path / "data/jaffe")
    folds = [load("jaffe", tmp_path, fold) for fold in range(1, 11)]
    tested = [subject for data in folds for subject in np.unique(data.split("test").subjects)]
    assert sorted(tested) == list(range(10))
    for data in folds:
        check_subjects(data)
    assert len({data.fingerprint for data in folds}) == 10
    assert load("jaffe", tmp_path).fingerprint == folds[0].fingerprint
    with pytest.raises(UserError, match="--fold 11: JAFFE has the folds 1 to 10"):
        load("jaffe", tmp_path, 11)


def test_sets_that_are_not_split_by_subject_have_no_folds(tmp_path):
    with pytest.raises(UserError, match="Synthetic faces is not split by subject"):
        FaceData("synthetic", *[np.zeros((1, 1, 1, 1))] * 4, "").in_fold(2)


# ── CK+ ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def write_ckplus(root):
    """Six subjects, two sequences of five frames each; the second has a label for all but the last subject."""
    faces = []
    for subject in range(6):
        for take in (1, 2):
            name = f"S{subject:03d}/{take:03d}"
            for frame in range(1, 6):
                path = root / "cohn-kanade-images" / name / f"S{subject:03d}_{take:03d}_{frame:08d}.png"
                save(path, 2 * subject + (frame > 2), side=64)
            code = 1 + (subject + take) % 7
            if (subject, take) != (5, 2):
                label = root / "Emotion" / name / f"S{subject:03d}_{take:03d}_00000005_emotion.txt"
                label.parent.mkdir(parents=True)
                label.write_text(f"   {code}.0000000e+00\n")
                faces.append(("Neutral", 2 * subject))
                faces += [(CKPLUS_EMOTIONS[code], 2 * subject + 1)] * 3
    return [face for face in faces if face[0] != "Contempt"]


def test_ckplus_as_its_authors_send_it(tmp_path):
    faces = write_ckplus(tmp_path / "data/CK+")
    data = load("ckplus", tmp_path)
    check_greys(data, faces)
    check_subjects(data)
    assert len({load("ckplus", tmp_path, fold).fingerprint for fold in range(1, 7)}) == 6


def test_a_sequence_without_frames(tmp_path):
    write_ckplus(tmp_path / "data/CK+")
    for path in (tmp_path / "data/CK+/cohn-kanade-images/S001/001").glob("*.png"):
        path.unlink()
    with pytest.raises(UserError, match="has a label, but the 0 frames of S001/001 are too few"):
        load("ckplus", tmp_path)


def test_ckplus_in_folders_of_48_px_in_a_zip(tmp_path):
    faces, root = [], tmp_path / "CK+48"
    for subject in range(5):
        for seed, word in enumerate(("anger", "contempt", "disgust", "fear", "happy", "sadness", "surprise")):
            save(root / word / f"S{subject:03d}_001_{seed:08d}.png", seed, side=48)
            faces.append((class_named(word), seed))
    (tmp_path / "data").mkdir()
    with zipfile.ZipFile(tmp_path / "data/archive.zip", "w") as archive:
        for path in root.rglob("*.png"):
            archive.write(path, path.relative_to(tmp_path))
    data = load("ckplus", tmp_path)
    check_greys(data, [face for face in faces if face[0] != "Contempt"])
    check_subjects(data)


@pytest.mark.parametrize("text", ["inf", "nan", "x", "\xff", ""])
def test_a_broken_label_of_ckplus(tmp_path, text):
    write_ckplus(tmp_path / "data/CK+")
    [label, *_] = sorted((tmp_path / "data/CK+/Emotion").rglob("*.txt"))
    label.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=rf"{label.name}: '.*' is not the number of an expression"):
        load("ckplus", tmp_path)


def test_ckplus_faces_without_a_subject_are_counted(tmp_path, capsys):
    for subject in range(3):
        save(tmp_path / f"data/CK+48/anger/S{subject:03d}_001_00000001.jfif", subject, form="JPEG")
    save(tmp_path / "data/CK+48/anger/me.png", 1)
    assert len(load("ckplus", tmp_path)) == 3
    assert "1 of 4 files are left out, as their names do not begin with a subject: " in capsys.readouterr().out


def test_ckplus_as_a_csv_has_its_own_parts(tmp_path):
    lines = ["emotion,pixels,Usage"]
    for code in range(8):
        for usage in ("Training", "PublicTest", "PrivateTest"):
            lines.append(f"{code},{' '.join([str(10 * code)] * 48**2)},{usage}")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/ckextended.csv").write_text("\n".join(lines))
    data = load("ckplus", tmp_path)
    check_greys(data, [(name, code) for code, name in enumerate(CKPLUS_CSV_EMOTIONS[:7]) for _ in range(3)])
    assert data.counts() == {split: [1] * 7 for split in ("train", "val", "test")}
    with pytest.raises(UserError, match="has no subjects; leave --fold out"):
        load("ckplus", tmp_path, 1)


# ── FER+ ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def write_ferplus(root, votes):
    """A face per row of votes, in the order anger … surprise, contempt, unknown, NF; all labelled Happy in FER2013."""
    happy = FER2013_EMOTIONS.index("Happy")
    lines = [f"{happy},{' '.join([str(10 * row)] * 48**2)},Training" for row in range(len(votes))]
    root.mkdir(parents=True)
    (root / "fer2013.csv").write_text("\n".join(["emotion,pixels,Usage", *lines]))
    names = (*FER_PLUS_COLUMNS, *FER_PLUS_OTHERS)
    rows = [",".join(["Training", "fer.png", *map(str, row)]) for row in votes]
    (root / "fer2013new.csv").write_text("\n".join([",".join(["Usage", "Image name", *names]), *rows]))


def test_ferplus_takes_the_majority_and_leaves_out_what_is_no_face(tmp_path):
    votes = [
        (6, 4, 0, 0, 0, 0, 0, 0, 0, 0),  # Angry
        (0, 0, 0, 0, 0, 9, 0, 1, 0, 0),  # Sad, nine of nine among the seven
        (0, 1, 1, 0, 4, 0, 2, 0, 1, 1),  # Neutral: 4 of 6, as classes that one person named count for nothing
        (1, 1, 1, 1, 1, 1, 1, 1, 1, 1),  # nothing is left
        (5, 5, 0, 0, 0, 0, 0, 0, 0, 0),  # no majority
        (0, 0, 0, 0, 0, 0, 0, 8, 2, 0),  # contempt
        (0, 0, 0, 0, 1, 0, 0, 0, 9, 0),  # unknown
        (0, 0, 0, 0, 0, 0, 0, 0, 0, 10),  # not a face
    ]
    write_ferplus(tmp_path / "data/fer2013", votes)
    data = load("ferplus", tmp_path)
    check_greys(data, [("Angry", 0), ("Sad", 1), ("Neutral", 2)])
    np.testing.assert_allclose(data.votes[:, [0, 1, 4, 5]], [[0.6, 0.4, 0, 0], [0, 0, 0, 1], [0, 0, 4 / 6, 0]])
    assert len(load("fer2013", tmp_path)) == 8, "FER2013 itself keeps all its faces"


def test_ferplus_without_its_votes(tmp_path):
    write_ferplus(tmp_path / "data/fer2013", [(10,) + (0,) * 9])
    (tmp_path / "data/fer2013/fer2013new.csv").unlink()
    with pytest.raises(UserError, match=r"fer2013new\.csv is missing beside the CSV"):
        load("ferplus", tmp_path)
