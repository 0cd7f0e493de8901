"""The readers of FER2013, FER+ and RAF-DB on drawn files in each data set's own layouts, whole and broken."""

import io
import shutil
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import datasets
from config import EMOTIONS
from ferlib.data.facts import DATASETS, SPLITS
from ferlib.data.readers.face_files import parse_emotion
from ferlib.data.readers.fer2013 import FER2013_EMOTIONS
from ferlib.data.votes import RAFDB_EMOTIONS
from ferlib.runtime import notes
from ferlib.runtime.errors import UserError

USAGES = ("Training", "PublicTest", "PrivateTest")
SPLIT_OF = dict(zip(USAGES, ("train", "val", "test"), strict=True))


def draw(seed, size=48, mode="L"):
    """A smooth random picture that survives JPEG."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, len(mode)), dtype=np.uint8).squeeze()
    return Image.fromarray(small).resize((size, size), Image.Resampling.BICUBIC)


def fer_rows():
    """(code, pixels, usage) of two faces per class, in all three parts."""
    return [
        (code, np.asarray(draw(10 * code + i)).ravel(), USAGES[(code + i) % 3]) for code in range(7) for i in range(2)
    ]


def write_csv(path, rows, header="emotion,pixels,Usage"):
    """Rows in the order of the header's columns."""
    lines = [header]
    for code, pixels, usage in rows:
        cells = {"emotion": str(code), "pixels": " ".join(map(str, pixels)), "Usage": usage}
        lines.append(",".join(cells[name.strip()] for name in header.split(",")))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def write_fer_folders(root):
    for number, (code, pixels, usage) in enumerate(fer_rows()):
        part = "train" if usage == "Training" else "test"
        folder = root / part / FER2013_EMOTIONS[code].lower()
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.reshape(48, 48)).save(folder / f"{usage}_{number}.png")


def zip_folder(folder, archive):
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(folder.rglob("*")):
            file.write(path, path.relative_to(folder))


def load(dataset, tmp_path, where="data"):
    return datasets.load_faces(dataset, tmp_path / where, tmp_path / "outputs")


def check_fer(data):
    """The rows of fer_rows, whatever order the layout keeps them in."""
    found = {(EMOTIONS[label], image.tobytes()) for label, image in zip(data.labels, data.images, strict=True)}
    assert found == {(FER2013_EMOTIONS[code], pixels.tobytes()) for code, pixels, _ in fer_rows()}
    for usage, split in SPLIT_OF.items():
        expected = sorted(pixels.tobytes() for _, pixels, row_usage in fer_rows() if row_usage == usage)
        assert sorted(image.tobytes() for image in data.split(split).images) == expected


@pytest.mark.parametrize("header", ["emotion,pixels,Usage", "emotion, Usage, pixels"])
@pytest.mark.parametrize("place", ["data/fer2013.csv", "data/fer2013/fer2013.csv", "data/icml_face_data.csv"])
def test_fer2013_csv(tmp_path, header, place):
    write_csv(tmp_path / place, fer_rows(), header)
    check_fer(load("fer2013", tmp_path))


@pytest.mark.parametrize("other", [".ipynb_checkpoints/fer2013-checkpoint.csv", "fer2013-small.csv", "._fer2013.csv"])
def test_a_part_of_the_csv_beside_it_is_not_read_instead(tmp_path, other):
    write_csv(tmp_path / "data/fer2013/fer2013.csv", fer_rows())
    write_csv(tmp_path / "data/fer2013" / other, list(fer_rows())[:3])
    check_fer(load("fer2013", tmp_path))


@pytest.mark.parametrize("place", ["data/fer2013", "data/archive", "data"])
def test_fer2013_folders(tmp_path, place):
    write_fer_folders(tmp_path / place)
    check_fer(load("fer2013", tmp_path))


@pytest.mark.parametrize("place", ["data/fer2013.zip", "data/fer2013/download.zip"])
@pytest.mark.parametrize("layout", ["csv", "folders"])
def test_fer2013_zip(tmp_path, place, layout):
    if layout == "csv":
        write_csv(tmp_path / "source/fer2013/fer2013.csv", fer_rows())
    else:
        write_fer_folders(tmp_path / "source")
    (tmp_path / place).parent.mkdir(parents=True)
    zip_folder(tmp_path / "source", tmp_path / place)
    check_fer(load("fer2013", tmp_path))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((0, np.zeros(2303, int), "Training"), "row 3: 2303 pixels instead of 48×48 = 2304"),
        ((0, np.full(2304, 256), "Training"), r"row 3: pixel values 256\.\.256 are outside 0\.\.255"),
        ((0, np.full(2304, -1), "Training"), r"row 3: pixel values -1\.\.-1 are outside"),
        ((0, ["x"] * 2304, "Training"), "row 3: "),
        ((7, np.zeros(2304, int), "Training"), "row 3: unknown emotion '7'; known are 0 Angry"),
        ((0, np.zeros(2304, int), "Testing"), "row 3: unknown Usage 'Testing'; known are Training, PublicTest"),
    ],
)
def test_broken_csv_row_is_named(tmp_path, row, message):
    write_csv(tmp_path / "data/fer2013.csv", [fer_rows()[0], row])
    with pytest.raises(UserError, match=message) as error:
        load("fer2013", tmp_path)
    assert "fer2013.csv" in str(error.value)
    assert not list((tmp_path / "outputs").rglob("*.bin")), "a half-written cache was left"


@pytest.mark.parametrize(
    ("content", "message"),
    [("", r"fer2013\.csv does not begin with the columns"), ("emotion,pixels,Usage\n", r"fer2013\.csv holds no faces")],
)
def test_csv_without_faces(tmp_path, content, message):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/fer2013.csv").write_text(content)
    with pytest.raises(UserError, match=message):
        load("fer2013", tmp_path)
    assert not list((tmp_path / "outputs").rglob("*.bin"))


def test_csv_cut_short(tmp_path):
    write_csv(tmp_path / "data/fer2013.csv", fer_rows())
    path = tmp_path / "data/fer2013.csv"
    path.write_text(path.read_text()[:-300])
    with pytest.raises(UserError, match=r"row 15: 2 columns instead of 3; the file may be cut short"):
        load("fer2013", tmp_path)


def test_broken_picture_is_named(tmp_path):
    write_fer_folders(tmp_path / "data/fer2013")
    broken = sorted((tmp_path / "data/fer2013").rglob("*.png"))[3]
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(UserError, match=f"{broken.name} cannot be read as a picture"):
        load("fer2013", tmp_path)


def test_unknown_folder_and_prefix(tmp_path):
    write_fer_folders(tmp_path / "data/fer2013")
    (tmp_path / "data/fer2013/train/angry").rename(tmp_path / "data/fer2013/train/bored")
    with pytest.raises(UserError, match=r"train/bored.*unknown emotion 'bored'; known are Angry"):
        load("fer2013", tmp_path)


def write_fer_parts(root, **parts):
    """A face a class and part; part → beginning of its files' names."""
    for value, (part, prefix) in enumerate(parts.items()):
        for name in FER2013_EMOTIONS:
            folder = root / part / name.lower()
            folder.mkdir(parents=True)
            Image.new("L", (48, 48), 10 * value).save(folder / f"{prefix}0.png")


def values_of(data):
    """split → the greys of its faces."""
    return {split: set(data.images[data.splits == code].ravel() // 10) for code, split in enumerate(SPLITS)}


def test_a_folder_val_of_fer2013(tmp_path, capsys):
    write_fer_parts(tmp_path / "data/fer2013", train="Training_", val="PublicTest_", test="PrivateTest_")
    assert values_of(load("fer2013", tmp_path)) == {"train": {0}, "val": {1}, "test": {2}}
    assert "note" not in capsys.readouterr().out
    for path in (tmp_path / "data/fer2013/val").rglob("*.png"):
        path.rename(path.with_name("Training_1.png"))
    assert values_of(load("fer2013", tmp_path)) == {"train": {0}, "val": {1}, "test": {2}}
    assert "7 Training faces in a folder val count as val" in capsys.readouterr().out


def test_faces_of_fer2013_in_other_folders_are_counted(tmp_path, capsys):
    write_fer_parts(tmp_path / "data/fer2013", train="Training_", extra="Training_", test="PrivateTest_")
    (tmp_path / "data/fer2013/train/angry/Training_5.heiX").touch()
    assert len(load("fer2013", tmp_path)) == 14
    printed = capsys.readouterr().out
    assert "7 of 21 files are left out, as they lie in no folder train, val or test: extra/angry/" in printed
    assert "1 of 15 files are left out, as they are no pictures: train/angry/Training_5.heiX" in printed
    notes.print_once.cache_clear()  # as in another process
    assert len(load("fer2013", tmp_path)) == 14
    assert capsys.readouterr().out == printed, "the cache says it again"


def test_the_folders_of_affectnet_beside_fer2013s(tmp_path):
    write_fer_folders(tmp_path / "data")
    (tmp_path / "data/train_set/images").mkdir(parents=True)
    draw(1).save(tmp_path / "data/train_set/images/1.jpg")
    check_fer(load("fer2013", tmp_path))


def as_small_as(monkeypatch, **counts):
    """FER2013 as a set of so many faces of each class."""
    official = {split: (count,) * 7 for split, count in counts.items()}
    monkeypatch.setitem(DATASETS, "fer2013", replace(DATASETS["fer2013"], official_counts=official))


def write_without_usage(root, **parts):
    """`count` faces a class and part, named as in im0.png."""
    for value, (part, count) in enumerate(parts.items()):
        for name in FER2013_EMOTIONS:
            (root / part / name.lower()).mkdir(parents=True)
            for number in range(count):
                Image.new("L", (48, 48), 10 * value).save(root / part / name.lower() / f"im{number}.png")


def test_fer2013_without_usage_in_its_names(tmp_path, capsys, monkeypatch):
    as_small_as(monkeypatch, train=20, val=3, test=2)
    write_without_usage(tmp_path / "data/fer2013", train=20, test=5)
    data = load("fer2013", tmp_path)
    assert data.counts() == {"train": [18] * 7, "val": [2] * 7, "test": [5] * 7}
    assert values_of(data) == {"train": {0}, "val": {0}, "test": {1}}
    printed = capsys.readouterr().out
    assert "PublicTest and PrivateTest mixed (35 faces); val is 10 % of train, stratified. Figures are not" in printed


@pytest.mark.parametrize(("parts", "says_mixed"), [({"train": 20, "val": 3, "test": 2}, False),
                                                   ({"train": 17, "validation": 3, "test": 5}, True)])  # fmt: skip
def test_fer2013_without_usage_and_with_a_part_for_validation(tmp_path, capsys, monkeypatch, parts, says_mixed):
    as_small_as(monkeypatch, train=20, val=3, test=2)
    write_without_usage(tmp_path / "data/fer2013", **parts)
    data = load("fer2013", tmp_path)
    assert [counts[0] for counts in data.counts().values()] == list(parts.values())
    assert values_of(data) == {"train": {0}, "val": {1}, "test": {2}}
    assert ("mixed" in capsys.readouterr().out) == says_mixed


def test_what_may_not_be_fer2013_is_a_set_of_ones_own(tmp_path):
    write_without_usage(tmp_path / "data/fer2013", train=4, test=2)
    with pytest.raises(UserError, match=r"train 28, val 0, test 14.*not FER2013's.*--dataset folder:(.*)") as error:
        load("fer2013", tmp_path)
    advice = str(error.value).partition("--dataset ")[2]
    assert load(advice, tmp_path).counts()["test"] == [2] * 7
    zip_folder(tmp_path / "data/fer2013", tmp_path / "data/fer-2013.zip")
    shutil.rmtree(tmp_path / "data/fer2013")
    with pytest.raises(UserError, match="--dataset folder:") as error:
        load("fer2013", tmp_path)
    assert load(str(error.value).partition("--dataset ")[2], tmp_path).counts()["test"] == [2] * 7


def test_broken_zip(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/fer2013.zip").write_bytes(b"PK\x03\x04 half a download")
    with pytest.raises(UserError, match=r"fer2013\.zip is not a whole zip archive"):
        load("fer2013", tmp_path)


def test_missing_data(tmp_path):
    with pytest.raises(UserError, match=r"no FER2013 in .*nowhere.*data/README\.md"):
        load("fer2013", tmp_path, "nowhere")


def test_picture_of_another_size_is_resized(tmp_path):
    folder = tmp_path / "data/fer2013/train/happy"
    folder.mkdir(parents=True)
    Image.new("RGB", (96, 96), (100, 100, 100)).save(folder / "Training_1.png")
    data = load("fer2013", tmp_path)
    assert data.images.shape == (1, 48, 48, 1)
    assert (data.images == 100).all()


def rafdb_files():
    """(split, code, number): 20 train and 2 test faces per class."""
    return [(s, code, i) for s, n in (("train", 20), ("test", 2)) for code in range(1, 8) for i in range(n)]


def check_rafdb(data):
    counts = data.counts()
    assert counts["train"] == [18] * 7
    assert counts["val"] == [2] * 7
    assert counts["test"] == [2] * 7
    for label, image in zip(data.labels, data.images, strict=True):
        code = RAFDB_EMOTIONS.index(EMOTIONS[label]) + 1
        assert abs(int(image[..., 0].mean()) - 30 * code) <= 2, "label and picture do not belong together"
        assert image[..., 1].mean() < 5, "the colour order changed"


def rafdb_picture(code):
    """A reddish picture that tells its class."""
    return Image.new("RGB", (100, 100), (30 * code, 0, 0))


@pytest.mark.parametrize("place", ["data/rafdb/DATASET", "data/DATASET", "data"])
def test_rafdb_folders(tmp_path, place):
    for split, code, number in rafdb_files():
        folder = tmp_path / place / split / str(code)
        folder.mkdir(parents=True, exist_ok=True)
        rafdb_picture(code).save(folder / f"{split}_{code}{number:04d}_aligned.jpg", quality=95)
    check_rafdb(load("rafdb", tmp_path))


@pytest.mark.parametrize(("train", "val"), [("train", "val"), ("Train", "valid"), ("train_set", "validation")])
def test_rafdb_with_a_part_for_validation(tmp_path, capsys, train, val):
    for number, part in enumerate((train, val, "test", "more")):
        for code in range(1, 8):
            folder = tmp_path / "data/rafdb" / part / str(code)
            folder.mkdir(parents=True)
            Image.new("RGB", (100, 100), (10 * number,) * 3).save(folder / "a.png")
    assert values_of(load("rafdb", tmp_path)) == {"train": {0}, "val": {1}, "test": {2}}
    assert "7 of 28 files are left out, as they lie in no folder 1 to 7 of train" in capsys.readouterr().out


def test_rafdb_pictures_that_are_not_listed_are_counted(tmp_path, capsys):
    write_rafdb_with_votes(tmp_path / "data/rafdb", {1: [1, 0, 0, 0, 0, 0, 0], 2: [1, 0, 0, 0, 0, 0, 0]}, " ")
    rafdb_picture(3).save(tmp_path / "data/rafdb/Image/aligned/train_00009_aligned.jpg")
    assert len(load("rafdb", tmp_path)) == 2
    assert "1 of 3 files are left out, as EmoLabel/list_patition_label.txt does not" in capsys.readouterr().out


@pytest.mark.parametrize("place", ["data/rafdb", "data/basic", "data"])
def test_rafdb_official(tmp_path, place):
    lines = []
    (tmp_path / place / "Image/aligned").mkdir(parents=True)
    (tmp_path / place / "EmoLabel").mkdir()
    for split, code, number in rafdb_files():
        name = f"{split}_{code}{number:04d}"
        lines.append(f"{name}.jpg {code}\n")
        rafdb_picture(code).save(tmp_path / place / f"Image/aligned/{name}_aligned.jpg", quality=95)
    (tmp_path / place / "EmoLabel/list_patition_label.txt").write_text("".join(lines))
    check_rafdb(load("rafdb", tmp_path))


def write_rafdb_with_votes(root, shares, separator):
    """Two faces, called 1 (Surprise) and 2 (Fear), in the official layout; `shares` for each, in the order of codes."""
    (root / "Image/aligned").mkdir(parents=True)
    (root / "EmoLabel").mkdir()
    labels, votes = "", ""
    for number, values in shares.items():
        rafdb_picture(number).save(root / f"Image/aligned/test_{number:05d}_aligned.jpg")
        labels += f"test_{number:05d}.jpg {number}\n"
        if values:
            votes += separator.join([f"test_{number:05d}.jpg", *map(str, values)]) + "\n"
    (root / "EmoLabel/list_patition_label.txt").write_text(labels)
    (root / "EmoLabel/distribution_basic.txt").write_text(votes)


@pytest.mark.parametrize("separator", [" ", ",", ", "])
def test_rafdb_votes(tmp_path, separator):
    shares = {1: [0.5, 0, 0, 0.25, 0, 0.25, 0], 2: [0, 30, 10, 0, 0, 0, 0]}
    write_rafdb_with_votes(tmp_path / "data/rafdb", shares, separator)
    data = load("rafdb", tmp_path)
    order = [EMOTIONS[label] for label in data.labels]
    surprise, fear = data.votes[order.index("Surprise")], data.votes[order.index("Fear")]
    named = dict(zip(EMOTIONS, surprise.tolist(), strict=True))
    assert (named["Surprise"], named["Happy"], named["Angry"]) == (0.5, 0.25, 0.25)
    assert fear[EMOTIONS.index("Fear")] == 0.75
    assert np.allclose(data.votes.sum(1), 1)


@pytest.mark.parametrize("values", [None, [1, 2], [0] * 7, [-1, 2, 0, 0, 0, 0, 0], ["x"] * 7])
def test_broken_rafdb_votes_are_named(tmp_path, values):
    write_rafdb_with_votes(tmp_path / "data/rafdb", {1: [1, 0, 0, 0, 0, 0, 0], 2: values}, " ")
    with pytest.raises(UserError, match=r"distribution_basic\.txt, test_00002: "):
        load("rafdb", tmp_path)


def test_rafdb_list_errors(tmp_path):
    folder = tmp_path / "data/rafdb/EmoLabel"
    folder.mkdir(parents=True)
    (folder / "list_patition_label.txt").write_text("train_00001.jpg 5\ntrain_00002.jpg\n")
    with pytest.raises(UserError, match=r"list_patition_label\.txt, row 2: 'train_00002\.jpg' is not"):
        load("rafdb", tmp_path)
    (folder / "list_patition_label.txt").write_text("train_00001.jpg 8\n")
    with pytest.raises(UserError, match="row 1: unknown emotion '8'; known are 1 Surprise"):
        load("rafdb", tmp_path)
    (folder / "list_patition_label.txt").write_text("train_00001.jpg 5\n")
    with pytest.raises(UserError, match=r"train_00001_aligned\.jpg is missing"):
        load("rafdb", tmp_path)


@pytest.mark.parametrize(("word", "emotion"), [("happiness", "Happy"), ("ANGER", "Angry"), ("sad", "Sad")])
def test_wording_of_labels(word, emotion):
    assert EMOTIONS[parse_emotion(word, "")] == emotion


def test_colour_jpegs_keep_their_colour_order(tmp_path):
    buffer = io.BytesIO()
    Image.new("RGB", (100, 100), (200, 100, 0)).save(buffer, "JPEG", quality=95)
    folder = tmp_path / "data/rafdb/train/4"
    folder.mkdir(parents=True)
    (folder / "a.jpg").write_bytes(buffer.getvalue())
    image = load("rafdb", tmp_path).images[0]
    assert np.abs(image.mean((0, 1)) - (200, 100, 0)).max() < 3


def write_votes(path, rows, columns="neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"):
    lines = [f"Usage,Image name,{columns}"]
    usages = [usage for *_, usage in fer_rows()]
    lines += [f"{usages[number % 14]},{number},{','.join(map(str, row))}" for number, row in enumerate(rows)]
    path.write_text("\n".join(lines) + "\n")


def test_votes_of_another_csv_are_not_taken_for_labels(tmp_path):
    write_csv(tmp_path / "data/fer2013.csv", fer_rows()[::-1])
    write_votes(tmp_path / "data/fer2013new.csv", [(0, 8, 2) + (0,) * 7] * 14)
    with pytest.raises(UserError, match=r"row \d+: fer2013new\.csv says \w+ and the CSV beside it \w+; they must"):
        load("ferplus", tmp_path)


def test_fer_plus_votes_are_aligned_by_row(tmp_path):
    rows = fer_rows()[:3]
    write_csv(tmp_path / "data/fer2013.csv", rows)
    write_votes(
        tmp_path / "data/fer2013new.csv", [(4, 0, 0, 1, 0, 0, 0, 5, 0, 0), (0,) * 9 + (10,), (0, 8, 2) + (0,) * 7]
    )
    data = load("fer2013", tmp_path)
    by_name = {str(name): vote for name, vote in zip(data.names, data.votes, strict=True)}
    assert by_name["row_2"].tolist() == pytest.approx([0, 0, 0, 0, 0.8, 0.2, 0])
    assert by_name["row_3"].argmax() == EMOTIONS.index(FER2013_EMOTIONS[rows[1][0]]), "nobody voted: the label stays"
    assert by_name["row_4"].tolist() == pytest.approx([0, 0, 0, 0.8, 0, 0, 0.2])


def test_fer_plus_of_another_csv(tmp_path):
    write_csv(tmp_path / "data/fer2013.csv", fer_rows())
    write_votes(tmp_path / "data/fer2013new.csv", [(10,) + (0,) * 9])
    with pytest.raises(UserError, match=r"row 3: fer2013new\.csv has only 1 rows; it must belong to the same CSV"):
        load("fer2013", tmp_path)
    write_votes(tmp_path / "data/fer2013new.csv", [(10,) + (0,) * 9], columns="a,b,c,d,e,f,g,h,i,j")
    with pytest.raises(UserError, match=r"needs whole numbers in the columns anger, disgust"):
        load("fer2013", tmp_path)
