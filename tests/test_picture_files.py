"""data/picture_files.py: endings from the installed Pillow; files that are left out are counted and named."""

import importlib.util

import numpy as np
import pytest
from PIL import Image, features

import datasets
from ferlib.data import picture_files
from ferlib.data.picture_files import is_picture, left_out, picture_endings, picture_formats
from ferlib.faces.photos import find_photos, read_photo
from ferlib.runtime.errors import UserError
from ferlib.runtime.notes import print_note

RED = (200, 30, 40)


@pytest.fixture
def without_heif(monkeypatch):
    """As where pillow-heif is not installed."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pillow_heif" else find(name))
    kept = {name: getattr(Image, name).copy() for name in ("OPEN", "EXTENSION", "ID")}
    picture_formats()
    for ending in picture_files.HEIF_ENDINGS:
        Image.EXTENSION.pop(ending, None)
    Image.OPEN.pop("HEIF", None)
    Image.ID[:] = [name for name in Image.ID if name != "HEIF"]
    picture_files.load_formats.cache_clear()
    picture_files.picture_endings.cache_clear()
    yield
    for name, value in kept.items():
        table = getattr(Image, name)
        table.clear()
        table.update(value) if isinstance(value, dict) else table.extend(value)
    picture_files.load_formats.cache_clear()
    picture_files.picture_endings.cache_clear()


def faces_in(folder, tmp_path):
    return datasets.load_faces(f"folder:{folder}", tmp_path, tmp_path / "outputs")


def test_endings_are_those_of_formats_that_can_be_decoded():
    assert {".jpg", ".jpeg", ".jfif", ".png", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".ppm"} <= picture_endings()
    assert not {".pdf", ".eps", ".ps", ".mpg", ".h5", ".txt", ".csv", ""} & picture_endings()
    assert is_picture("a/b.JFIF")
    assert not is_picture("a.jpg/b")
    assert picture_formats()[:2] == ("JPEG", "PNG"), "the most frequent ones are tried first"


@pytest.mark.parametrize(
    ("name", "form"),
    [("a.jfif", "JPEG"), ("a.JPE", "JPEG"), ("a.jp2", "JPEG2000"), ("a.avif", "AVIF"), ("a.ppm", "PPM"),
     ("a.tga", "TGA"), ("a.gif", "GIF"), ("a.HEIC", "HEIF"), ("a.heif", "HEIF")],
)  # fmt: skip
def test_pictures_of_many_endings_are_faces_and_photos(tmp_path, name, form):
    if form == "HEIF":
        pytest.importorskip("pillow_heif")
    if form == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    picture_formats()
    path = tmp_path / "faces" / "happy" / name
    path.parent.mkdir(parents=True)
    Image.new("RGB", (64, 64), RED).save(path, form)
    assert find_photos([tmp_path / "faces"]) == [path]
    for pixels in (read_photo(path).pixels, faces_in(tmp_path / "faces", tmp_path).images[0]):
        assert np.abs(pixels.astype(int) - RED).max() <= 3


def test_files_that_are_left_out_are_counted_and_named(tmp_path, capsys):
    folder = tmp_path / "faces" / "happy"
    folder.mkdir(parents=True)
    for number in range(4):
        Image.new("RGB", (8, 8), RED).save(folder / f"{number}.png")
    for name in ("notes.doc", "no_ending", ".hidden", "Thumbs.db"):
        (folder / name).touch()
    assert len(faces_in(tmp_path / "faces", tmp_path)) == 4
    line = "2 of 6 files are left out, as they are no pictures: happy/no_ending, happy/notes.doc\n"
    assert capsys.readouterr().out.endswith(line)
    find_photos([tmp_path / "faces"])
    assert "files are left out, as they are no pictures" in capsys.readouterr().out


def test_what_can_be_read_later_is_part_of_what_a_cache_is_known_by(tmp_path, monkeypatch):
    for number, name in enumerate(("a.png", "b.webp")):
        for part in ("train", "test"):
            folder = tmp_path / f"faces/{part}/happy"
            folder.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (99, number, 9)).save(folder / name)
    facts = datasets.dataset_facts(f"folder:{tmp_path / 'faces'}")
    keys = [datasets.find_source(f"folder:{tmp_path / 'faces'}", facts, tmp_path).key]
    endings = picture_files.picture_endings() - {".webp"}
    monkeypatch.setattr(picture_files, "picture_endings", lambda: endings)
    keys.append(datasets.find_source(f"folder:{tmp_path / 'faces'}", facts, tmp_path).key)
    assert keys[0] != keys[1]
    assert picture_files.optional_endings(["a/b.JPG", "c.png", "votes.csv"]) == []


def test_heic_without_its_package_is_not_lost(tmp_path, capsys, without_heif):
    folder = tmp_path / "faces" / "happy"
    folder.mkdir(parents=True)
    Image.new("RGB", (8, 8), RED).save(folder / "a.png")
    for number in range(9):
        (folder / f"IMG_{number}.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    assert len(faces_in(tmp_path / "faces", tmp_path)) == 1
    printed = capsys.readouterr().out
    assert "9 of 10 files are left out" in printed
    assert "IMG_4.HEIC, …; HEIC is read after: pip install pillow-heif" in printed
    with pytest.raises(UserError, match=r"IMG_0\.HEIC cannot be read as a picture; HEIC is read after: pip install"):
        read_photo(folder / "IMG_0.HEIC")
    (folder / "a.png").unlink()
    for find in (lambda: faces_in(tmp_path / "faces", tmp_path), lambda: find_photos([tmp_path / "faces"])):
        with pytest.raises(UserError, match=r"9 of 9 files are left out.*pip install pillow-heif"):
            find()


def test_broken_links_and_folders_named_as_pictures_are_no_photos(tmp_path, capsys):
    Image.new("RGB", (8, 8), RED).save(tmp_path / "a.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "link.jpg").symlink_to("nowhere.jpg")
    assert find_photos([tmp_path]) == [tmp_path / "a.jpg"]
    assert "1 of 2 files are left out, as they are no pictures: link.jpg" in capsys.readouterr().out


def test_a_note_is_printed_once_and_by_one_process(capsys, monkeypatch):
    print_note("a note of this test: \x1b")
    print_note("a note of this test: \x1b")
    print_note("")
    monkeypatch.setenv("RANK", "1")
    print_note("a note of another process")
    assert capsys.readouterr().out == "note: a note of this test: \\x1b\n"
    assert left_out("here", [], 3) == ""


def test_pillow_heif_is_optional():
    assert (".heic" in picture_endings()) == (importlib.util.find_spec("pillow_heif") is not None)
