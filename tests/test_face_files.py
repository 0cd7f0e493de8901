"""readers/face_files.py: class names in any wording, parts held out class by class."""

import os
import sys
import zipfile

import pytest
from PIL import Image

import datasets
from config import EMOTIONS
from ferlib.data.facts import DATASETS
from ferlib.data.readers import face_files
from ferlib.data.readers.face_files import CLASSES, FaceFile, class_named, hold_out, of_known_class, parse_emotion
from ferlib.runtime.errors import UserError


@pytest.mark.parametrize(
    ("text", "name"),
    [("happiness", "Happy"), ("Happy", "Happy"), ("HA", "Happy"), ("ANGER", "Angry"), ("angry", "Angry"),
     ("AN", "Angry"), (" sadness ", "Sad"), ("Surprised", "Surprise"), ("contempt", "Contempt"), ("neutral", "Neutral"),
     ("hungry", None), ("", None)],
)  # fmt: skip
def test_classes_are_found_whatever_the_wording(text, name):
    assert class_named(text) == name


def test_a_class_that_the_set_does_not_have_is_an_error():
    assert parse_emotion("Contempt", "here", DATASETS["affectnet8"].classes) == 7
    with pytest.raises(UserError, match="here: unknown emotion 'Contempt'; known are Angry, Disgust"):
        parse_emotion("Contempt", "here")


def test_the_seven_emotions_come_first():
    assert CLASSES[:7] == EMOTIONS


def test_each_class_gives_its_share():
    files = [FaceFile(f"{number}", number % 2) for number in range(40)]
    moved = hold_out(files, 0.25, "train", "val")
    assert [file._replace(split="train") for file in moved] == files
    for label in range(2):
        assert sum(file.split == "val" for file in moved if file.label == label) == 5
    assert moved == hold_out(files, 0.25, "train", "val"), "not the same at every call"


def test_contempt_is_left_out_of_the_seven():
    files = [FaceFile("a", 0), FaceFile("b", 7)]
    assert of_known_class(files, DATASETS["affectnet"]) == files[:1]
    assert of_known_class(files, DATASETS["affectnet8"]) == files


# ── files that cannot be read, and odd names ─────────────────────────────────────────────────────────────────────────


@pytest.fixture
def faces(tmp_path):
    """A folder with a class folder of 20 faces."""
    folder = tmp_path / "faces" / "happy"
    folder.mkdir(parents=True)
    for number in range(20):
        Image.new("L", (8, 8), 10 * number).save(folder / f"{number:02}.png")
    return folder


def load(folder, tmp_path):
    return datasets.load_faces(f"folder:{folder.parent}", tmp_path, tmp_path / "outputs")


def test_all_unreadable_pictures_are_named_at_once(faces, tmp_path):
    whole = (faces / "00.png").read_bytes()
    (faces / "03.png").write_bytes(b"")
    (faces / "07.png").write_bytes(whole[:40])
    (faces / "11.png").write_text("text")
    (faces / "14.png").unlink()
    os.mkfifo(faces / "14.png")
    large = bytearray(whole)
    large[16:24] = (30_000).to_bytes(4) * 2
    (faces / "19.png").write_bytes(large)
    with pytest.raises(UserError, match="5 of 20 pictures cannot be read; replace the files, or remove them:") as error:
        load(faces, tmp_path)
    named = [line.strip().removeprefix(f"{faces}/")[:6] for line in error.value.args[1:]]
    assert named == ["03.png", "07.png", "11.png", "14.png", "19.png"]
    assert not list((tmp_path / "outputs").rglob("*.bin"))
    for name in named:
        (faces / name).unlink()
    assert len(load(faces, tmp_path)) == 15


def test_the_first_ten_of_many_unreadable_pictures(faces, tmp_path):
    for path in faces.iterdir():
        path.write_bytes(b"")
    with pytest.raises(UserError, match="20 of 20 pictures") as error:
        load(faces, tmp_path)
    assert len(error.value.args) == 12
    assert error.value.args[-1] == "  and 10 more"


def test_one_unreadable_picture(faces, tmp_path):
    (faces / "03.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"03\.png cannot be read as a picture; .*; replace the file, or remove it"):
        load(faces, tmp_path)


def test_files_that_unpack_to_far_more_are_refused(faces, tmp_path, monkeypatch):
    monkeypatch.setattr(face_files, "MAX_BYTES", 5_000_000)
    archive = tmp_path / "zipped.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.write(faces / "00.png", "happy/00.png")
        file.writestr("happy/01.png", bytes(20_000_000))
    assert archive.stat().st_size < 100_000
    with pytest.raises(UserError, match=r"happy/01\.png is too large; more than 5 MB are refused"):
        datasets.load_faces(f"folder:{archive.with_suffix('')}", tmp_path, tmp_path / "outputs")


def test_grey_of_more_than_8_bits_is_counted_by_what_was_taken_as_white(faces, tmp_path, capsys):
    for number, top in enumerate((255, 4095, 4095)):
        Image.new("I;16", (8, 8), top).save(faces / f"{number:02}.png")
    assert load(faces, tmp_path).images.reshape(20, -1).max(1).tolist().count(255) == 3
    printed = capsys.readouterr().out
    assert "2 of 20 pictures are grey of more than 8 bits, scaled to 8 with 4,095 as white" in printed
    assert "1 of 20 pictures are grey of more than 8 bits, scaled to 8 with 255 as white" in printed


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_that_are_no_utf8_or_hold_control_characters(faces, tmp_path):
    names = [b"caf\xe9.png", b"red\x1b[31m.png", "gpj.\u202eexe.png".encode(), "ü é.png".encode()]
    for name in names:
        (faces / "00.png").rename(faces / os.fsdecode(name))
        Image.new("L", (8, 8)).save(faces / "00.png")
    read = load(faces, tmp_path).names.tolist()
    assert {"caf\\xe9.png", "red\\x1b[31m.png", "gpj.\\u202eexe.png", "ü é.png"} < set(read)
    assert all(name.isprintable() and name.encode() for name in read)
    (faces / os.fsdecode(names[0])).write_bytes(b"")
    with pytest.raises(UserError, match="cannot be read as a picture"):
        load(faces, tmp_path)
