"""Sources of data sets as people have them and as they break: tables, archives, folders; and where they are found."""

import gzip
import io
import os
import struct
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import datasets
from ferlib.data import picture_files
from ferlib.data.facts import DATASETS
from ferlib.data.readers import archives, pixel_csv
from ferlib.data.readers.archives import TarTree, ZipTree
from ferlib.data.readers.places import plain_name
from ferlib.runtime.errors import UserError
from test_readers import (
    check_fer,
    fer_rows,
    load,
    write_csv,
    write_fer_folders,
    write_rafdb_with_votes,
    write_votes,
    zip_folder,
)

CHALLENGE = "challenges-in-representation-learning-facial-expression-recognition-challenge"
VOTES = [(10,) + (0,) * 9] * 14


def csv_text(rows=None, header="emotion,pixels,Usage", end="\n"):
    """The CSV of fer_rows."""
    lines = [header]
    for code, pixels, usage in rows or fer_rows():
        lines.append(f"{code},{' '.join(map(str, pixels))},{usage}")
    return end.join(lines) + end


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refused(tmp_path, *parts, dataset="fer2013"):
    """The error of loading, which holds all of `parts` and leaves no images behind."""
    with pytest.raises(UserError) as error:
        load(dataset, tmp_path)
    for part in parts:
        assert part in str(error.value)
    assert not list((tmp_path / "outputs").rglob("*.bin")), "a half-written cache was left"
    return str(error.value)


# ── tables ───────────────────────────────────────────────────────────────────────────────────────────────────────────

QUOTED = csv_text().replace("emotion,pixels,Usage", '"emotion", "pixels", "Usage"')
VARIANTS = {
    "UTF-8 with mark": csv_text().encode("utf-8-sig"),
    "UTF-16": csv_text().encode("utf-16"),
    "UTF-16, other byte order": b"\xfe\xff" + csv_text().encode("utf-16-be"),
    "UTF-16 without mark": csv_text().encode("utf-16-le"),
    "UTF-32": csv_text().encode("utf-32"),
    "quoted header": QUOTED,
    "quoted cells": "\n".join(",".join(f'"{cell}"' for cell in line.split(",")) for line in csv_text().splitlines()),
    "semicolons": csv_text().replace(",", ";"),
    "tabs": csv_text().replace(",", "\t"),
    "capitals": csv_text(header="Emotion,Pixels,usage").replace("Training", "training"),
    "spaces": csv_text(header=" emotion , pixels , Usage ").replace(",P", ", P"),
    "CRLF": csv_text(end="\r\n"),
    "CR": csv_text(end="\r"),
    "blank lines": "\n \n" + csv_text(end="\n\n \n"),
    "no last line end": csv_text().rstrip(),
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("packed", [False, True])
def test_csv_variants(tmp_path, variant, packed):
    path = put(tmp_path / ("source" if packed else "data") / "fer2013.csv", VARIANTS[variant])
    if packed:
        (tmp_path / "data").mkdir()
        zip_folder(path.parent, tmp_path / "data/fer2013.zip")
    data = load("fer2013", tmp_path)
    check_fer(data)
    assert data.names.tolist() == [f"row_{number}" for number in range(2, 16)]


@pytest.mark.parametrize("name", ["fer2013.csv", "fer2013/fer2013.csv", "FER2013.CSV"])
def test_all_bad_rows_are_listed_with_their_file(tmp_path, name):
    bad = {
        3: (0, np.zeros(2304, int), "Nowhere"),
        5: (0, [1.5] * 2304, "Training"),
        6: (0, ["x"] * 2304, "Training"),
        7: (9, np.zeros(2304, int), "Training"),
        8: (0, [10**30] * 2304, "Training"),
        9: (0, np.zeros(47 * 48, int), "Training"),
        11: (0, ["1\0"] * 2304, "Training"),
    }
    rows = [bad.get(line, row) for line, row in enumerate(fer_rows(), start=2)]
    write_csv(tmp_path / "data" / name, rows)
    where = tmp_path / "data" / name
    text = refused(tmp_path, f"{where}: 7 of 14 rows are damaged:")
    for line, reason in {
        3: "unknown Usage 'Nowhere'",
        5: "not whole numbers",
        6: "not whole numbers",
        7: "unknown emotion '9'",
        8: "are outside 0..255",
        9: "2256 pixels instead of 48×48",
        11: "not whole numbers",
    }.items():
        assert f"\n{where}, row {line}: " in text
        assert reason in next(part for part in text.splitlines() if f"row {line}: " in part)


def test_many_bad_rows_are_counted(tmp_path):
    put(tmp_path / "data/fer2013.csv", csv_text() + "1,2\n" * 500)
    text = refused(tmp_path, "500 of 514 rows are damaged", "… and 490 more")
    assert len(text.splitlines()) == 12


def test_pixels_followed_by_other_text(tmp_path):
    put(tmp_path / "data/fer2013.csv", csv_text().replace(",Training", " 7x,Training", 1))
    refused(tmp_path, "row 2: the pixels are not whole numbers")


def test_a_stray_quote_and_other_bytes_spoil_one_row_only(tmp_path):
    lines = csv_text().encode().split(b"\n")
    lines[2] = b'0,"' + lines[2][2:]
    lines[4] = lines[4].replace(b" ", b"\xe9", 1)
    put(tmp_path / "data/fer2013.csv", b"\n".join(lines))
    text = refused(tmp_path, "2 of 14 rows", "row 3: 2 columns instead of 3", "row 5: the pixels are not whole")
    assert text.isprintable() or "\n" in text


def test_latin_1_in_a_column_that_is_not_needed(tmp_path):
    lines = csv_text().encode().splitlines()
    put(tmp_path / "data/fer2013.csv", b"\n".join([lines[0] + b",note", *(line + b",caf\xe9" for line in lines[1:])]))
    check_fer(load("fer2013", tmp_path))


def test_an_endless_row_is_refused_in_little_memory(tmp_path):
    with (tmp_path / "fer2013.csv").open("w") as file:
        file.write("emotion,pixels,Usage\n0,")
        for _ in range(100):
            file.write("1 " * 500_000)
    code = (
        "import resource, sys, pathlib, datasets\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: datasets.load_faces('fer2013', pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[1]))\n"
        "except Exception as error: print(error)\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)\n"
    )
    run = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(run, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    error, mebibytes = done.stdout.splitlines()
    assert "fer2013.csv, row 2: more than 131,072 characters" in error
    assert int(mebibytes) < 30


@pytest.mark.parametrize("name", ["", "fer2013"])
def test_without_usage(tmp_path, name):
    put(tmp_path / "data" / name / "train.csv", csv_text().replace(",Usage", "").replace(",Training", ""))
    put(tmp_path / "data" / name / "train.csv", "\n".join(line.rpartition(",")[0] for line in csv_text().splitlines()))
    put(tmp_path / "data" / name / "test.csv", "pixels\n" + "1 " * 2304)
    text = refused(tmp_path, "train.csv has no column Usage", "test.csv has no column emotion and none Usage")
    assert "icml_face_data.csv" in text


def test_without_usage_in_the_official_order(tmp_path, monkeypatch, capsys):
    counts = {"train": (2, 0, 1, 0, 0, 0, 0), "val": (0, 0, 0, 1, 0, 0, 0), "test": (0, 0, 0, 0, 2, 0, 0)}
    monkeypatch.setattr(pixel_csv, "official_counts", lambda: counts)
    pixels = " ".join(["7"] * 2304)
    codes = [0, 2, 0, 3, 6, 6]  # Angry, Fear, Angry, Happy, Neutral, Neutral
    put(tmp_path / "data/fer2013.csv", "\n".join(["emotion,pixels", *(f"{code},{pixels}" for code in codes)]))
    data = load("fer2013", tmp_path)
    assert data.counts() == {split: list(found) for split, found in counts.items()}
    assert "fer2013.csv has no column Usage; its labels are those of FER2013 in the official" in capsys.readouterr().out
    codes[2:4] = [3, 0]  # another order
    put(tmp_path / "data/fer2013.csv", "\n".join(["emotion,pixels", *(f"{code},{pixels}" for code in codes)]))
    with pytest.raises(UserError, match=r"fer2013\.csv has no column Usage"):
        load("fer2013", tmp_path)


def test_official_parts():
    ends = [0, 28708, 28709, 32297, 32298, 35886]
    assert [pixel_csv.official_split(number) for number in ends] == ["train", "train", "val", "val", "test", "test"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_fer_plus_variants(tmp_path, encoding):
    write_csv(tmp_path / "data/fer2013.csv", fer_rows())
    path = tmp_path / "data/fer2013new.csv"
    write_votes(path, VOTES)
    path.write_bytes(path.read_text().replace(",", ";").replace("\n", "\r\n\r\n").upper().encode(encoding))
    assert load("fer2013", tmp_path).votes[:, 4].tolist() == [1] * 14


@pytest.mark.parametrize(
    ("damage", "messages"),
    [
        (lambda text: text[:-40], ["fer2013new.csv, row 14: ", "columns instead of 12"]),
        (lambda text: text.replace("10,0,0", "-1,0,0", 2), ["2 of 14 rows", "fer2013new.csv, row 2 needs whole num"]),
        (lambda text: text.replace("10,0,0", "nan,0,0", 1), ["fer2013new.csv, row 2 needs whole numbers"]),
        (lambda text: text.replace("10,0,0", "1.5,0,0", 1), ["fer2013new.csv, row 2 needs whole numbers"]),
        (lambda text: text.replace("anger", "rage"), ["it has no anger"]),
        (lambda text: text.splitlines()[0], ["fer2013new.csv holds no votes"]),
        (lambda text: "", ["it has no anger"]),
        (lambda text: text + text.splitlines()[1] + "\n", ["has 15 rows and the CSV beside it 14"]),
        (lambda text: "".join(text.splitlines(True)[:-2]), ["fer2013new.csv has only 12 rows"]),
    ],
)
@pytest.mark.parametrize("dataset", ["fer2013", "ferplus"])
def test_damaged_fer_plus(tmp_path, damage, messages, dataset):
    write_csv(tmp_path / "data/fer2013.csv", fer_rows())
    path = tmp_path / "data/fer2013new.csv"
    write_votes(path, VOTES)
    path.write_text(damage(path.read_text()))
    refused(tmp_path, *messages, dataset=dataset)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_rafdb_votes_of_other_encodings(tmp_path, encoding):
    write_rafdb_with_votes(tmp_path / "data/rafdb", {1: [1, 0, 0, 0, 0, 0, 0]}, " ")
    path = tmp_path / "data/rafdb/EmoLabel/distribution_basic.txt"
    path.write_bytes(path.read_text().replace("\n", "\r").encode(encoding))
    assert load("rafdb", tmp_path).votes.tolist() == [[0, 0, 0, 0, 0, 0, 1]]


# ── archives ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def csv_zip(path, method=zipfile.ZIP_DEFLATED, **members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in (members or {"fer2013.csv": csv_text()}).items():
            archive.writestr(name, content)
    return path


def patch_zip(path, offset_local, offset_central, value):
    """Overwrites two bytes of the first member's headers."""
    content = bytearray(path.read_bytes())
    content[offset_local : offset_local + 2] = struct.pack("<H", value)
    central = content.index(b"PK\x01\x02")
    content[central + offset_central : central + offset_central + 2] = struct.pack("<H", value)
    path.write_bytes(content)


def test_encrypted_zip(tmp_path):
    patch_zip(csv_zip(tmp_path / "data/fer2013.zip"), 6, 8, 1)
    refused(tmp_path, "fer2013.zip (fer2013.csv) is encrypted; unpack the archive with its password")


def test_zip_of_an_unknown_method(tmp_path):
    patch_zip(csv_zip(tmp_path / "data/fer2013.zip"), 8, 10, 9)
    refused(tmp_path, "fer2013.zip (fer2013.csv) is packed by a method that Python cannot unpack (number 9)")


@pytest.mark.parametrize("size", [1, 1200])  # small members are unpacked at once, large ones bit by bit
def test_zip_with_a_damaged_member(tmp_path, size, monkeypatch):
    monkeypatch.setattr(archives, "SMALL", 1000 * size)
    path = csv_zip(tmp_path / "data/fer2013.zip", zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    place = content.index(b"Training")
    content[place - 2] ^= 1  # a pixel
    path.write_bytes(content)
    refused(tmp_path, "fer2013.zip (fer2013.csv) is missing or broken (Bad CRC-32")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
@pytest.mark.parametrize("name", ["fer2013.zip", "fer2013.tar.gz", "fer2013.tar"])
def test_archives_cut_short(tmp_path, name, share):
    path = csv_zip(tmp_path / "data" / name) if name.endswith("zip") else csv_tar(tmp_path / "data" / name)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content.rstrip(b"\0")))])
    refused(tmp_path, name, "is not a whole")


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path):
    path = csv_zip(tmp_path / "data/fer2013.zip")
    content = bytearray(path.read_bytes())
    central = content.index(b"PK\x01\x02")
    content[central + 24 : central + 28] = struct.pack("<I", 4_000_000_000)
    path.write_bytes(content)
    refused(tmp_path, "fer2013.zip would unpack from 0.0 MB to 4,000 MB or more")


def test_a_tar_bomb_is_refused_while_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "BOMB_SIZE", 1 << 20)
    put(tmp_path / "data/fer2013.tar.gz", gzip.compress(bytes(50 << 20)))
    refused(tmp_path, "fer2013.tar.gz would unpack from 0.1 MB to")


def test_names_of_members_do_not_matter(tmp_path):
    """Nothing is unpacked to the disk; names of other encodings, of Windows and of macOS are those of members."""
    path = tmp_path / "data/fer2013.zip"
    csv_zip(path, **{"../../fer2013.csv": csv_text(), "__MACOSX/._fer2013.csv": "x", "/etc/x.csv": "a,b\n", "é": ""})
    check_fer(load("fer2013", tmp_path))
    assert not (tmp_path.parent / "fer2013.csv").exists()


def test_backslashes_of_windows(tmp_path):
    write_fer_folders(tmp_path / "source")
    files = {str(p.relative_to(tmp_path / "source")): p.read_bytes() for p in (tmp_path / "source").rglob("*.png")}
    csv_zip(tmp_path / "data/fer2013.zip", **{name.replace("/", "\\"): body for name, body in files.items()})
    check_fer(load("fer2013", tmp_path))


def test_zip_with_a_name_that_is_not_utf_8(tmp_path):
    path = csv_zip(tmp_path / "data/fer2013.zip", **{"fer2013-é.csv": csv_text()})
    path.write_bytes(path.read_bytes().replace("é".encode(), b"\xe9\xe9"))
    refused(tmp_path, "fer2013.zip is not a whole zip archive (the name of a file in it is not UTF-8)")


def test_an_archive_in_an_archive(tmp_path):
    inner = csv_zip(tmp_path / "inner.zip").read_bytes()
    csv_zip(tmp_path / "data/archive.zip", **{"fer2013.zip": inner})
    refused(tmp_path, "no FER2013", "archive.zip (fer2013.zip, …, archives in an archive: unpack it)")


def csv_tar(path, mode=None, **members):
    """A tar as Kaggle hands it out, with the CSV between other files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    members = members or {"fer2013/README": "x", "fer2013/fer2013.csv": csv_text(), "fer2013/fer2013.bib": "y"}
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content if isinstance(content, bytes) else content.encode()))
    return path


@pytest.mark.parametrize("name", ["fer2013.tar.gz", "fer2013.tgz", "fer2013.tar", "fer2013/fer2013.tar.gz"])
@pytest.mark.parametrize("small", [100, 1 << 30])
def test_tar(tmp_path, name, small, monkeypatch):
    monkeypatch.setattr(archives, "SMALL", small)
    csv_tar(tmp_path / "data" / name)
    check_fer(load("fer2013", tmp_path))


def test_links_of_a_tar_are_the_files_that_they_lead_to(tmp_path):
    write_fer_folders(tmp_path / "source")
    paths = sorted(str(path.relative_to(tmp_path / "source")) for path in (tmp_path / "source").rglob("*.png"))
    (tmp_path / "data").mkdir()
    with tarfile.open(tmp_path / "data/fer2013.tar", "w") as archive:
        for number, path in enumerate(paths):
            archive.add(tmp_path / "source" / path, f"./kept/{number}.bin")
            link = tarfile.TarInfo(path)
            link.type = (tarfile.LNKTYPE, tarfile.SYMTYPE)[number % 2]
            up = "../" * path.count("/")
            link.linkname = f"{up if number % 2 else './'}kept/{number}.bin"
            archive.addfile(link)
    check_fer(load("fer2013", tmp_path))


def test_links_of_a_tar_are_followed_and_the_last_of_a_name_counts(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, content in {
            "old.png": b"old", "a.png": "old.png", "c1.png": "./c2.png", "c2.png": "old.png", "out.png": "../passwd",
            "x.png": "y.png", "y.png": "x.png", "gone.png": b"was", "to/b.png": "../old.png",
        }.items():  # fmt: skip
            entry = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
            else:
                entry.type, entry.linkname = tarfile.SYMTYPE, content
                archive.addfile(entry)
        for name, content in {"a.png": b"new", "gone.png": None}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content or b"")
            entry.type, entry.linkname = (tarfile.REGTYPE, "") if content else (tarfile.SYMTYPE, "nowhere.png")
            archive.addfile(entry, io.BytesIO(content or b""))
    tree = TarTree(tmp_path / "a.tar")
    found = {path: tree.open(path).read() for path in tree.paths}
    assert found == {"old.png": b"old", "a.png": b"new", "c1.png": b"old", "c2.png": b"old", "to/b.png": b"old"}


def test_an_archive_is_read_anew_when_more_of_its_pictures_can_be_read(tmp_path, monkeypatch):
    plain, packed = csv_tar(tmp_path / "a.tar", **{"a.heic": b""}), csv_tar(tmp_path / "a.tar.gz")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("a.heic", b"")
    trees = {plain: TarTree, packed: TarTree, tmp_path / "a.zip": ZipTree}
    found = []
    for endings in ({".png", ".jpg"}, {".png", ".jpg", ".heic"}):
        monkeypatch.setattr(picture_files, "picture_endings", lambda known=endings: known)
        monkeypatch.setattr(archives, "picture_endings", lambda known=endings: known)
        found.append([tree(path).signature() for path, tree in trees.items()])
    assert all(before != after for before, after in zip(*found, strict=True))


def test_a_compressed_tar_is_unzipped_once(tmp_path, monkeypatch):
    write_fer_folders(tmp_path / "source")
    files = {str(p.relative_to(tmp_path / "source")): p.read_bytes() for p in (tmp_path / "source").rglob("*.png")}
    csv_tar(tmp_path / "data/fer2013.tar.gz", **files)
    opened, unzip = [], gzip.open
    monkeypatch.setattr(archives.gzip, "open", lambda path: opened.append(path) or unzip(path))
    check_fer(load("fer2013", tmp_path))
    assert len(opened) == 1
    check_fer(load("fer2013", tmp_path))
    assert len(opened) == 1, "a cached data set needs no look into its archive"


def test_a_damaged_header_is_not_the_end_of_a_tar(tmp_path):
    path = csv_tar(tmp_path / "data/fer2013.tar", **{"a.csv": csv_text(fer_rows()[:3]), "fer2013.csv": csv_text()})
    content = path.read_bytes()
    path.write_bytes(content.replace(b"fer2013.csv", b"fer2014.csv"))
    refused(tmp_path, "fer2013.tar is not a whole tar archive (its list of files breaks off)")


# ── places ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "name", ["fer-2013", "FER2013", "FER-2013.zip", "fer_2013.zip", "fer2013 (1).zip", "Archive.zip", "archive (2).zip"]
)
def test_other_spellings(tmp_path, name):
    put(tmp_path / "source/fer2013.csv", csv_text())
    (tmp_path / "data").mkdir()
    if name.endswith(".zip"):
        zip_folder(tmp_path / "source", tmp_path / "data" / name)
    else:
        (tmp_path / "source").rename(tmp_path / "data" / name)
    check_fer(load("fer2013", tmp_path))


def test_plain_names():
    for facts in DATASETS.values():
        assert all(
            plain_name(place) == plain_name(f"{place.upper()}.zip") for place in facts.places if place != "jaffe.zip"
        )
    assert plain_name("fer2013 (3).csv") == "fer2013.csv"
    assert plain_name(f"{CHALLENGE}.zip") == plain_name("FER2013") != plain_name("fer2014")


CHALLENGE_FILES = {
    "example_submission.csv": "id,emotion\n1,0\n",
    "test.csv": "pixels\n1 1\n",
    "train.csv": "emotion,pixels\n0,1 1\n",
}


@pytest.mark.parametrize(
    ("packed", "whole"), [(True, "icml_face_data.csv"), (False, "icml_face_data.csv"), (False, "fer2013.tar.gz")]
)
def test_the_download_of_the_kaggle_challenge(tmp_path, packed, whole):
    folder = tmp_path / ("source" if packed else "data") / CHALLENGE
    for name, content in CHALLENGE_FILES.items():
        put(folder / name, content)
    if whole.endswith("csv"):
        write_csv(folder / whole, fer_rows(), "emotion, Usage, pixels")
    else:
        csv_tar(folder / whole)
    if packed:
        (tmp_path / "data").mkdir()
        zip_folder(folder, tmp_path / f"data/{CHALLENGE}.zip")
    check_fer(load("fer2013", tmp_path))


@pytest.mark.parametrize("name", ["fer2013.tar.gz", "fer2013.zip"])
def test_fer_plus_beside_an_archive(tmp_path, name):
    csv_tar(tmp_path / "data" / name) if name.endswith("gz") else csv_zip(tmp_path / "data" / name)
    refused(tmp_path, "fer2013new.csv is missing beside the CSV in", name, dataset="ferplus")
    write_votes(tmp_path / "data/fer2013new.csv", VOTES)
    assert load("ferplus", tmp_path).votes[:, 4].tolist() == [1] * 14


def test_what_the_data_folder_holds_instead(tmp_path):
    Image.new("L", (48, 48)).save(put(tmp_path / "source/train/angry/a.png", b""))
    (tmp_path / "data").mkdir()
    refused(tmp_path, "it is empty")
    put(tmp_path / "data/README.md", "Where data sets are to be had")
    refused(tmp_path, "it holds README.md only")
    zip_folder(tmp_path / "source", tmp_path / "data/faces.zip")
    put(tmp_path / "data/fer2013.rar", "Rar!")
    (tmp_path / "data/empty").mkdir()
    text = refused(tmp_path, "it holds empty/ (empty), faces.zip (train/angry/a.png, …)")
    assert "fer2013.rar (an archive that is not read; unpack it)" in text
    with pytest.raises(UserError, match="there is no such folder"):
        load("fer2013", tmp_path, "nowhere")


def test_a_folder_with_the_name_of_a_csv(tmp_path):
    (tmp_path / "data/fer2013.csv").mkdir(parents=True)
    refused(tmp_path, "no FER2013", "fer2013.csv/ (empty)")
    put(tmp_path / "data/fer2013.csv/fer2013.csv", csv_text())
    check_fer(load("fer2013", tmp_path))


# ── folders ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["fer2013.csv", "fer2013.zip", "fer2013"])
def test_named_pipes_are_not_waited_for(tmp_path, name):
    (tmp_path / "data").mkdir()
    os.mkfifo(tmp_path / "data" / name)
    refused(tmp_path, "no FER2013", f"it holds {name} (neither a file nor a folder)")
    (tmp_path / "data/archive").symlink_to("gone")
    put(tmp_path / "data/FER-2013.csv", csv_text())
    check_fer(load("fer2013", tmp_path))


def test_a_named_pipe_with_the_name_of_a_csv(tmp_path):
    (tmp_path / "data/fer2013").mkdir(parents=True)
    os.mkfifo(tmp_path / "data/fer2013/fer2013.csv")
    refused(tmp_path, "fer2013/fer2013.csv is no regular file")


def test_a_named_pipe_among_pictures(tmp_path):
    write_fer_folders(tmp_path / "data/fer2013")
    os.mkfifo(tmp_path / "data/fer2013/train/angry/Training_9.png")
    refused(tmp_path, "train/angry/Training_9.png is no regular file")


def test_links_that_run_in_circles(tmp_path):
    root = tmp_path / "data/fer2013"
    write_fer_folders(root)
    (root / "train/again").symlink_to(root)
    (root / "train/self").symlink_to("self")
    (root / "nothing").symlink_to("gone")
    check_fer(load("fer2013", tmp_path))


def test_a_link_to_nothing_is_named_where_a_face_should_be(tmp_path):
    write_fer_folders(tmp_path / "data/fer2013")
    (tmp_path / "data/fer2013/train/angry/Training_9.png").symlink_to("gone.png")
    refused(tmp_path, "train/angry/Training_9.png is missing or broken: No such file")


def test_a_file_that_vanishes_after_it_was_listed(tmp_path, monkeypatch):
    write_fer_folders(tmp_path / "data/fer2013")
    listed = datasets.candidate_trees

    def then_gone(*arguments):
        for tree in listed(*arguments):
            (tree.folder / tree.paths[0]).unlink()
            yield tree

    monkeypatch.setattr(datasets, "candidate_trees", then_gone)
    refused(tmp_path, ".png is missing or broken: No such file")


def test_a_folder_that_may_not_be_read(tmp_path, monkeypatch):
    write_fer_folders(tmp_path / "data/fer2013")
    scandir = os.scandir

    def closed(folder):
        if Path(folder).name == "happy":
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", closed)
    refused(tmp_path, "/happy cannot be read: Permission denied; change its permissions")


def test_names_that_are_not_utf_8(tmp_path):
    write_fer_folders(tmp_path / "data/fer2013")
    first = sorted((tmp_path / "data/fer2013/train").rglob("*.png"))[0]
    first.rename(first.with_name(os.fsdecode(b"Training_\xe9.png")))
    data = load("fer2013", tmp_path)
    check_fer(data)
    assert [name for name in data.names.tolist() if "\\" in name] == [r"Training_\xe9.png"]
    assert load("fer2013", tmp_path).names.tolist() == data.names.tolist()


# ── the labels of AffectNet ──────────────────────────────────────────────────────────────────────────────────────────


def npy(value):
    file = io.BytesIO()
    np.save(file, value, allow_pickle=True)
    return file.getvalue()


FORGED = npy(np.int64(3)).replace(b"'shape': ()", b"'shape': (999999999999999,)").replace(b" " * 18, b"", 1)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (npy(np.array({"a": 1})), "a pickled object, which may run any program and is not loaded"),
        (b"\x80\x04K\x03.", "a pickled object"),
        (npy(-1), "not a whole number from 0 to 10"),
        (npy(11), "not a whole number from 0 to 10"),
        (npy(2.5), "not a whole number from 0 to 10"),
        (npy(np.nan), "not a whole number from 0 to 10"),
        (npy([1, 2]), "not a whole number from 0 to 10"),
        (npy("happy"), "could not convert"),
        (npy(3)[:-4], ""),
        (FORGED, ""),
        (b"PK\x03\x04", ""),
    ],
)
def test_damaged_labels_of_affectnet(tmp_path, content, reason):
    root = tmp_path / "data/AffectNet/train_set"
    Image.new("RGB", (8, 8)).save(put(root / "images/1.jpg", b""))
    put(root / "annotations/1_exp.npy", content)
    refused(tmp_path, "1_exp.npy does not hold the code of an expression", reason, dataset="affectnet")
