"""Votes of FER+ in every place and layout: by row, by picture, in the folders that its authors' script writes."""

import io
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import datasets
from config import EMOTIONS
from ferlib.data import joined_votes
from ferlib.data.face_data import FaceData
from ferlib.data.facts import SPLITS
from ferlib.data.joined_votes import with_checked_votes
from ferlib.data.picture_matching import LARGEST, match_pictures
from ferlib.data.readers import vote_sources
from ferlib.data.readers.fer2013 import FER2013_EMOTIONS
from ferlib.data.votes import FER_PLUS_ALL, check_agreement
from ferlib.runtime import notes
from ferlib.runtime.errors import UserError
from test_readers import SPLIT_OF, fer_rows, load, write_csv, zip_folder

WRITTEN = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF")
FOLDER_OF = {"Training": "FER2013Train", "PublicTest": "FER2013Valid", "PrivateTest": "FER2013Test"}


@pytest.fixture(autouse=True)
def every_note():
    """Notes are printed once in a process."""
    notes.print_once.cache_clear()


def votes_of(row):
    """Ten votes in the order of FER_PLUS_ALL, others for each row, with a majority; the last row is no face."""
    counts = np.zeros(len(FER_PLUS_ALL), int)
    if row == len(fer_rows()) - 1:
        counts[9] = 10
    else:
        counts[row % 8] = 7  # contempt among them
        counts[(row + 3) % 7] += 3
    return counts


def table_text(rows, usages=None):
    """fer2013new.csv; a row that is no face has no name, and the numbers of the names skip one at the third row."""
    lines = [f"Usage,Image name,{','.join(WRITTEN)}"]
    for row, (_, _, usage) in enumerate(rows):
        counts = dict(zip(FER_PLUS_ALL, votes_of(row), strict=True))
        name = "" if counts["NF"] == 10 else f"fer{row + (row > 2):07d}.png"
        lines.append(",".join([usages[row] if usages else usage, name, *(str(counts[column]) for column in WRITTEN)]))
    return "\n".join(lines) + "\n"


def write_table(path, **changes):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(table_text(fer_rows(), **changes))


def write_jpegs(root, quality=90):
    """The faces of fer_rows as Kaggle's folders, in another order than the rows'."""
    for row, (code, pixels, usage) in enumerate(fer_rows()):
        folder = root / ("train" if usage == "Training" else "test") / FER2013_EMOTIONS[code].lower()
        folder.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(pixels.reshape(48, 48))
        picture.save(folder / f"{usage}_{997 * (row + 5) % 1000:03d}.jpg", quality=quality)


def write_authors_folders(root, labels=True):
    """What generate_training_data.py of FER+ writes: no picture of a row without a name."""
    lines = {folder: [] for folder in FOLDER_OF.values()}
    for row, (_, pixels, usage) in enumerate(fer_rows()):
        counts = dict(zip(FER_PLUS_ALL, votes_of(row), strict=True))
        if counts["NF"] == 10:
            continue
        folder = root / FOLDER_OF[usage]
        folder.mkdir(parents=True, exist_ok=True)
        name = f"fer{row + (row > 2):07d}.png"
        Image.fromarray(pixels.reshape(48, 48)).save(folder / name)
        lines[folder.name].append(f'{name},"(0, 0, 48, 48)",{",".join(str(counts[c]) for c in WRITTEN)}')
    for folder, rows in lines.items():
        if labels:
            (root / folder / "label.csv").write_text("\n".join(rows) + "\n")


def check_votes(data, unknown=()):
    """Each face has the votes of the row that shows its picture; those of the rows `unknown` have none."""
    assert data.votes is not None
    pixels = np.stack([pixels for _, pixels, _ in fer_rows()]).astype(int)
    for image, votes in zip(data.images, data.votes, strict=True):
        row = np.abs(pixels - image.ravel()).mean(1).argmin()
        counts = votes_of(row)[:7] * (row not in unknown)
        np.testing.assert_allclose(votes, counts / max(counts.sum(), 1), atol=1e-6)


# ── by row ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("place", ["data/votes/fer2013new.csv", "data/fer+/fer2013new.csv", "data/FERPlus-master.zip"])
@pytest.mark.parametrize("packed", [False, True])
def test_votes_by_row_from_another_folder_or_archive(tmp_path, capsys, place, packed):
    write_csv(tmp_path / "source/fer2013.csv", fer_rows())
    (tmp_path / "data/fer2013").mkdir(parents=True)
    if packed:
        zip_folder(tmp_path / "source", tmp_path / "data/fer2013/download.zip")
    else:
        (tmp_path / "source/fer2013.csv").rename(tmp_path / "data/fer2013/fer2013.csv")
    if place.endswith("zip"):
        with zipfile.ZipFile(tmp_path / place, "w") as file:
            file.writestr("FERPlus-master/fer2013new.csv", table_text(fer_rows()))
    else:
        write_table(tmp_path / place)
    data = load("fer2013", tmp_path)
    check_votes(data)
    assert "votes of 14 of 14 faces, joined by row" in capsys.readouterr().out
    names = load("ferplus", tmp_path).names.tolist()
    rows = [row for row in range(13) if row % 8 < 7]
    assert sorted(names) == sorted(f"row_{row + 2}" for row in rows), "contempt and no face are left out"


def test_votes_that_are_not_used_are_named_as_long_as_they_are_there(tmp_path, capsys):
    write_csv(tmp_path / "data/fer2013.csv", fer_rows())
    wrong = tmp_path / "data/a/fer2013new.csv"
    wrong.parent.mkdir()
    wrong.write_text(table_text(fer_rows()[:-1]))
    write_table(tmp_path / "data/b/fer2013new.csv")

    def printed(dataset):
        notes.print_once.cache_clear()  # as in another process
        load(dataset, tmp_path)
        return capsys.readouterr().out

    for dataset in ("fer2013", "fer2013", "ferplus", "ferplus"):
        assert "these votes are not used" in (found := printed(dataset)), dataset
        assert "votes of 14 of 14 faces, joined by row" in found, dataset
    wrong.unlink()
    for dataset in ("ferplus", "fer2013"):
        assert "these votes are not used" not in (found := printed(dataset)), dataset
        assert "votes of 14 of 14 faces, joined by row" in found, dataset


def test_the_table_of_another_csv_is_not_used(tmp_path, capsys):
    write_csv(tmp_path / "data/fer2013.csv", fer_rows())
    usages = [usage for _, _, usage in fer_rows()]
    write_table(tmp_path / "data/other/fer2013new.csv", usages=usages[1:] + usages[:1])
    assert load("fer2013", tmp_path).votes is None
    assert "these votes are not used" in (printed := capsys.readouterr().out)
    assert "Usage differs from the CSV's in" in printed
    with pytest.raises(UserError, match=r"fer2013new\.csv is missing beside the CSV"):
        load("ferplus", tmp_path)
    (tmp_path / "data/other/fer2013new.csv").write_text(table_text(fer_rows()[:-1]))
    assert load("fer2013", tmp_path).votes is None
    assert "has 13 rows and the CSV 14" in capsys.readouterr().out


def test_votes_of_other_faces_are_known_by_the_labels():
    """The names of FER+'s pictures are no row numbers: joined by them, 18 % of the labels agree."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 7, 2000)
    data = FaceData("fer2013", np.zeros((2000, 1, 1, 1), np.uint8), labels, labels.astype(str), labels * 0, "")
    counts = np.zeros((2000, 10), int)
    counts[np.arange(2000), labels] = 10
    check_agreement(labels, data.splits, counts)
    with pytest.raises(UserError, match=r"only 1\d% of the labels of train have the most votes, of FER2013 it is 64 %"):
        check_agreement(labels, data.splits, np.roll(counts, 1, axis=0))
    parts = np.arange(2000) // 1000  # one of two splits
    with pytest.raises(UserError, match="of the labels of val"):
        check_agreement(labels, parts, np.concatenate([counts[:1000], np.roll(counts[1000:], 1, axis=0)]))
    assert with_checked_votes(replace(data, votes=counts / 10)).votes is not None
    assert with_checked_votes(replace(data, votes=np.roll(counts, 1, axis=0) / 10)).votes is None


@pytest.mark.parametrize("dataset", ["ferplus", "ferplus8"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_csv_shuffled_within_its_parts_beside_votes_is_refused(tmp_path, monkeypatch, dataset, packed):
    monkeypatch.setattr("ferlib.data.votes.ENOUGH", 50)
    rng = np.random.default_rng(0)
    codes, usages = rng.integers(0, 7, 180), np.repeat(list(SPLIT_OF), 60)
    names = [FER2013_EMOTIONS[code] for code in codes]
    words = dict(zip(EMOTIONS, FER_PLUS_ALL, strict=False))
    votes_of_rows = [",".join(str(9 * (words[name] == word)) for word in WRITTEN) for name in names]
    header = f"Usage,Image name,{','.join(WRITTEN)}"
    table = [header, *(f"{usage},fer.png,{row}" for usage, row in zip(usages, votes_of_rows, strict=True))]

    def write(order):
        rows = [(codes[row], np.full(48**2, 30 * codes[row]), usages[row]) for row in order]
        write_csv(tmp_path / "source/fer2013.csv", rows)
        (tmp_path / "source/fer2013new.csv").write_text("\n".join(table))
        (tmp_path / "data").mkdir(exist_ok=True)
        if packed:
            zip_folder(tmp_path / "source", tmp_path / "data/fer2013.zip")
        else:
            shutil.copytree(tmp_path / "source", tmp_path / "data/fer2013", dirs_exist_ok=True)

    write(np.concatenate([60 * part + rng.permutation(60) for part in range(3)]))
    with pytest.raises(UserError, match=r"only \d+% of the labels of train have the most.*must belong to the CSV"):
        load(dataset, tmp_path)
    assert not list((tmp_path / "outputs").rglob("*.bin")), "a cache of wrong labels was left"
    write(np.arange(180))
    data = load(dataset, tmp_path)
    found = [FER2013_EMOTIONS[round(float(image.mean())) // 30] for image in data.images]
    assert [EMOTIONS[label] for label in data.labels] == found


# ── by picture ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("known", ["csv", "authors"])
def test_votes_by_picture(tmp_path, capsys, known):
    write_jpegs(tmp_path / "data/fer2013")
    if known == "csv":
        write_csv(tmp_path / "data/kaggle/fer2013.csv", fer_rows())
        write_table(tmp_path / "data/kaggle/fer2013new.csv")
    else:
        write_authors_folders(tmp_path / "data/FERPlus/data")
    data = load("fer2013", tmp_path)
    assert str(data.names[0]).endswith(".jpg")
    check_votes(data)
    found = 14 if known == "csv" else 13
    assert f"votes of {found} of 14 faces, joined by picture" in capsys.readouterr().out


def test_ferplus_from_folders_is_that_of_the_csv(tmp_path):
    write_jpegs(tmp_path / "data/fer2013")
    write_csv(tmp_path / "data/kaggle/fer2013.csv", fer_rows())
    write_table(tmp_path / "data/kaggle/fer2013new.csv")
    write_authors_folders(tmp_path / "authors")
    for name, contempt in (("ferplus", 0), ("ferplus8", 1)):
        ours = load(name, tmp_path)
        for where in ("data/kaggle", "authors"):
            other = load(name, tmp_path, where)
            assert ours.counts() == other.counts()
            assert sorted(map(tuple, ours.votes.tolist())) == sorted(map(tuple, other.votes.tolist()))
        assert (ours.labels == 7).sum() == contempt
        assert ours.votes.shape == (12 + contempt, 7 + contempt)


def test_joined_votes_are_remembered_until_their_files_change(tmp_path, monkeypatch, capsys):
    write_jpegs(tmp_path / "data/fer2013")
    write_csv(tmp_path / "data/kaggle/fer2013.csv", fer_rows())
    write_table(tmp_path / "data/kaggle/fer2013new.csv")
    first = load("fer2013", tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(joined_votes, "find_pictures", lambda *_: pytest.fail("votes are searched again"))
        capsys.readouterr()
        notes.print_once.cache_clear()  # as in another process
        np.testing.assert_array_equal(load("fer2013", tmp_path).votes, first.votes)
        assert "votes of 14 of 14 faces, joined by picture" in capsys.readouterr().out
    table = tmp_path / "data/kaggle/fer2013new.csv"
    table.write_text(
        table.read_text().replace("Training,fer0000000.png,0,3,0,0,7", "Training,fer0000000.png,0,9,0,0,11")
    )
    assert not np.array_equal(load("fer2013", tmp_path).votes, first.votes)
    [kept] = (tmp_path / "outputs/cache").glob("votes-*.npz")
    kept.write_bytes(kept.read_bytes()[:100])
    assert load("fer2013", tmp_path).votes is not None, "a damaged table is made anew"
    table.unlink()
    notes.print_once.cache_clear()
    assert load("fer2013", tmp_path).votes is None, "votes whose file is gone are not known"


def test_other_pictures_are_refused(tmp_path, capsys):
    write_jpegs(tmp_path / "data/fer2013")
    strangers = [(code, np.roll(pixels, 1000), usage) for code, pixels, usage in fer_rows()]
    write_csv(tmp_path / "data/kaggle/fer2013.csv", strangers)
    write_table(tmp_path / "data/kaggle/fer2013new.csv")
    assert load("fer2013", tmp_path).votes is None
    assert "14 of 14 faces are not among their pictures" in capsys.readouterr().out


def test_the_fingerprint_does_not_depend_on_votes(tmp_path):
    write_jpegs(tmp_path / "data/fer2013")
    without = load("fer2013", tmp_path)
    write_csv(tmp_path / "data/kaggle/fer2013.csv", fer_rows())
    write_table(tmp_path / "data/kaggle/fer2013new.csv")
    having = load("fer2013", tmp_path)
    assert without.votes is None
    assert having.votes is not None
    assert without.fingerprint == having.fingerprint
    assert len(list((tmp_path / "outputs/cache").glob("fer2013-*"))) == 1, "the faces are decoded once"


# ── matching ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def pictures(count, seed=0):
    """uint8 count×48×48×1, smooth and random."""
    small = np.random.default_rng(seed).integers(20, 236, (count, 6, 6), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(face).resize((48, 48))) for face in small])[..., None]


def test_recoded_pictures_find_themselves():
    known = pictures(300)

    def recode(image, quality):
        Image.fromarray(image[..., 0]).save(buffer := io.BytesIO(), "JPEG", quality=quality)
        return np.asarray(Image.open(buffer))[..., None]

    order = np.random.default_rng(1).permutation(300)
    match = match_pictures(np.stack([recode(image, 75) for image in known[order]]), known)
    np.testing.assert_array_equal(match.rows, order)
    assert 0 < match.distances.max() < LARGEST
    assert not match.refused.any()


def test_doubtful_pictures_are_refused():
    known = pictures(50)
    twin = known[7].astype(int)
    twin[:24] += 6  # differs by 6 / √2 grey levels
    known = np.concatenate([known, twin[None].astype(np.uint8)])
    between = known[7] + (twin - known[7]) // 2
    asked = np.stack([known[3], between.astype(np.uint8), known[7], pictures(1, seed=9)[0]])
    match = match_pictures(asked, known)
    assert match.refused.tolist() == [False, True, False, True], "between two pictures, and a stranger"
    assert match.rows[[0, 2]].tolist() == [3, 7]
    with pytest.raises(ValueError, match="are not matched with"):
        match_pictures(asked, known[:, :24])


def test_copies_share_out_their_rows_by_split_and_label():
    known = pictures(4)[[0, 1, 1, 1, 2]]
    known[3, 0, 0] ^= 16  # a copy that was coded again
    splits, labels = np.array([0, 0, 2, 0, 0]), np.array([5, 6, 1, 3, 5])
    asked = pictures(4)[[1, 1, 1, 1, 0]]
    own_splits, own_labels = np.array([0, 2, 0, 1, 0]), np.array([6, 1, 3, 2, 5])
    match = match_pictures(asked, known, (own_splits, splits), (own_labels, labels))
    assert match.rows[[0, 1, 2, 4]].tolist() == [1, 2, 3, 0]
    assert match.rows[3] in (1, 2, 3), "one more copy than rows: it has the votes of one of them"


# ── the authors' folders ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("labels", [True, False])
def test_the_authors_folders(tmp_path, labels):
    write_authors_folders(tmp_path / "data", labels)
    with pytest.raises(UserError, match=r"no FER2013 in"):
        load("fer2013", tmp_path)
    if not labels:
        with pytest.raises(UserError, match=r"neither label\.csv in their folders nor fer2013new\.csv"):
            load("ferplus", tmp_path)
        write_table(tmp_path / "data/FER2013Train/fer2013new.csv")
    data = load("ferplus", tmp_path)
    rows = [row for row in range(13) if row % 8 < 7]
    assert sorted(data.labels.tolist()) == sorted(row % 8 for row in rows)
    check_votes(data)
    for usage, folder in FOLDER_OF.items():
        expected = [row for row in rows if fer_rows()[row][2] == usage]
        assert (data.splits == SPLITS.index(SPLIT_OF[usage])).sum() == len(expected), folder


def write_part(root, part, word, names=("fer0000000.png",)):
    """Flat pictures of one part, all with nine votes for `word`; their grey is 10 times the place of the part."""
    (root / part).mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("L", (48, 48), 10 * list(FOLDER_OF.values()).index(part)).save(root / part / name)
    cells = ",".join("9" if word == column else "0" for column in WRITTEN)
    (root / part / "label.csv").write_text("\n".join(f'{name},"(0, 0, 48, 48)",{cells}' for name in names))


def test_names_that_repeat_in_the_parts_keep_their_own_votes(tmp_path):
    for part, word in zip(FOLDER_OF.values(), ("happiness", "sadness", "fear"), strict=True):
        write_part(tmp_path / "data/fer2013", part, word, ("fer0000000.png", "fer0000001.png"))
    data = load("ferplus", tmp_path)
    assert {split: sum(counts) for split, counts in data.counts().items()} == dict.fromkeys(SPLITS, 2)
    for code, name in enumerate(("Happy", "Sad", "Fear")):
        rows = data.splits == code
        assert set(data.labels[rows]) == {EMOTIONS.index(name)}
        assert (data.images[rows] == 10 * code).all()


def test_two_rows_of_one_picture_with_different_votes_are_refused(tmp_path):
    root = tmp_path / "data/fer2013"
    write_part(root, "FER2013Train", "happiness")
    label = root / "FER2013Train/label.csv"
    first = label.read_text()
    label.write_text(f"{first}\n{first}\n")
    assert len(load("ferplus", tmp_path)) == 1
    write_part(root, "FER2013Train", "fear")
    label.write_text(f"{first}\n{label.read_text()}\n")
    with pytest.raises(UserError, match=r"fer0000000\.png of train has two rows of different votes"):
        load("ferplus", tmp_path)


def test_damaged_labels_are_named(tmp_path):
    write_authors_folders(tmp_path / "data")
    path = tmp_path / "data/FER2013Train/label.csv"
    whole = path.read_text()
    path.write_text(whole[:-6])
    with pytest.raises(UserError, match=r"label\.csv, row \d+ needs a name, a box and 10 numbers of votes"):
        load("ferplus", tmp_path)
    path.write_text("\n".join(whole.splitlines()[1:]))
    with pytest.raises(UserError, match=r"1 of 13 pictures have no votes, such as FER2013Train/fer0000000\.png"):
        load("ferplus", tmp_path)


# ── the real set ─────────────────────────────────────────────────────────────────────────────────────────────────────


REAL = Path(__file__).parents[2] / "shared" / "data"
needs_real = pytest.mark.skipif(not (REAL / "kaggle_csv/fer2013.zip").exists(), reason="the real FER2013 is not here")


@needs_real
@pytest.mark.slow
def test_the_real_image_folders_have_the_votes_of_the_csv(tmp_path):
    faces = datasets.load_faces("fer2013", REAL, tmp_path)
    assert faces.votes is not None
    with_votes = faces.votes.any(1)
    assert (~with_votes).sum() == 178, "those of the CSV whose votes are all for contempt, unknown or no face"
    row_of = {"Training": 0, "PublicTest": 1, "PrivateTest": 2}
    assert [row_of[str(name).split("_")[0]] for name in faces.names] == faces.splits.tolist()
    rows = np.flatnonzero(with_votes & (faces.splits == 2))
    votes, labels = faces.votes[rows], faces.labels[rows]
    assert votes[np.arange(len(rows)), labels].mean() == pytest.approx(0.589, abs=0.002), "one random annotator"
    assert (votes[np.arange(len(rows)), labels] == 0).mean() == pytest.approx(0.159, abs=0.002)
    happy = faces.votes[with_votes & (faces.labels == EMOTIONS.index("Happy"))]
    assert happy.mean(0)[EMOTIONS.index("Happy")] == pytest.approx(0.88, abs=0.01)
    plus = datasets.load_faces("ferplus", REAL, tmp_path)
    found = [sum(counts) for counts in plus.counts().values()]
    assert found == [24941, 3186, 3137], "as by row of the CSV"


@needs_real
def test_the_names_of_ferplus_are_no_row_numbers():
    """In the real table the numbers of the names run away from the rows."""
    [table] = [table for table in vote_sources.find_tables(REAL / "kaggle_csv") if "kaggle_csv" in table.where]
    with table.tree.open(table.path) as file:
        lines = file.read().decode().splitlines()[1:]
    names = [line.split(",")[1] for line in lines]
    numbered = [(row, int(name[3:10])) for row, name in enumerate(names) if name]
    assert len(numbered) == 35_714
    assert sum(row == number for row, number in numbered) == 57
