"""Photos: pictures of every kind become the same RGB pixels; files that are no pictures, or too large, are refused."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from ferlib.faces import photos
from ferlib.faces.photos import find_photos, read_photo
from ferlib.runtime.errors import UserError

COLOURS = np.array([[(255, 0, 0), (0, 255, 0)], [(0, 0, 255), (255, 255, 0)], [(9, 9, 9), (250, 250, 250)]], np.uint8)
PIXELS = COLOURS.repeat(8, 0).repeat(8, 1)  # 24 rows, 16 columns


@pytest.fixture
def picture():
    return Image.fromarray(PIXELS)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "webp"])
def test_files_arrays_and_pillow_pictures_are_the_same(picture, tmp_path, suffix):
    path = tmp_path / f"photo.{suffix}"
    picture.save(path, **({"lossless": True} if suffix == "webp" else {}))
    for source in (path, str(path), picture, PIXELS):
        photo = read_photo(source)
        assert np.array_equal(photo.pixels, PIXELS)
        assert photo.pixels.dtype == np.uint8
        assert photo.notes == ()


@pytest.mark.parametrize(("orientation", "quarters"), [(3, 2), (6, -1), (8, 1)])
def test_a_turned_camera(picture, tmp_path, orientation, quarters):
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture.save(tmp_path / "turned.png", exif=exif)
    photo = read_photo(tmp_path / "turned.png")
    assert np.array_equal(photo.pixels, np.rot90(PIXELS, quarters))
    assert photo.notes == ("turned upright by its EXIF orientation",)


def test_grey_and_black_and_white(picture):
    grey = picture.convert("L")
    photo = read_photo(grey)
    assert photo.notes == ("grey",)
    assert np.array_equal(photo.pixels, np.repeat(np.array(grey)[..., None], 3, 2))
    assert np.array_equal(read_photo(np.array(grey)).pixels, photo.pixels)
    assert np.array_equal(read_photo(np.array(grey)[..., None]).pixels, photo.pixels)
    assert set(np.unique(read_photo(picture.convert("1")).pixels)) == {0, 255}


def test_what_is_transparent_is_white(picture):
    picture.putalpha(Image.fromarray(np.repeat([[255], [0], [128]], 16, 1).repeat(8, 0).astype(np.uint8)))
    photo = read_photo(picture)
    assert np.array_equal(photo.pixels[:8], PIXELS[:8])
    assert (photo.pixels[8:16] == 255).all()
    np.testing.assert_allclose(photo.pixels[16:, :8], (9 + 255) / 2, atol=2)
    assert photo.notes == ("transparent parts shown on white",)
    assert np.array_equal(read_photo(np.array(picture)).pixels, photo.pixels)


def test_a_palette_with_and_without_transparency(picture, tmp_path):
    palette = picture.quantize(8)
    assert np.abs(read_photo(palette).pixels.astype(int) - PIXELS).max() < 8
    palette.save(tmp_path / "p.png", transparency=int(np.array(palette)[0, 0]))
    photo = read_photo(tmp_path / "p.png")
    assert (photo.pixels[:8, :8] == 255).all()
    assert photo.notes == ("transparent parts shown on white",)


def test_sixteen_and_twelve_bits_and_floating_point(tmp_path):
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    expected = np.repeat((ramp / 257).round().astype(np.uint8)[..., None], 3, 2)
    for values, name in (
        (ramp, "16.png"),
        (ramp, "16.tif"),
        (ramp // 16, "12.tif"),
        (ramp.astype(np.float32), "f.tif"),
    ):
        Image.fromarray(values).save(tmp_path / name)
        photo = read_photo(tmp_path / name)
        assert np.abs(photo.pixels.astype(int) - expected).max() <= 1, name
        assert photo.notes[0].startswith("grey of more than 8 bits")
    assert not read_photo(Image.fromarray(np.zeros((4, 4), np.uint16))).pixels.any()
    nothing = np.array([[np.nan, np.inf], [-1, 5]], np.float32)
    assert read_photo(Image.fromarray(nothing)).pixels.shape == (2, 2, 3)


def test_the_first_frame_of_several(picture, tmp_path):
    picture.save(tmp_path / "a.gif", save_all=True, append_images=[picture.rotate(180)])
    photo = read_photo(tmp_path / "a.gif")
    assert photo.notes[0] == "the first of 2 frames"
    assert np.abs(photo.pixels.astype(int) - PIXELS).max() < 8


def test_printers_colours(picture, tmp_path):
    picture.convert("CMYK").save(tmp_path / "cmyk.tif")
    assert np.array_equal(read_photo(tmp_path / "cmyk.tif").pixels, PIXELS)


@pytest.mark.parametrize("content", [b"", b"no picture at all", b"\x89PNG\r\n\x1a\n", b"GIF89a"])
def test_files_that_are_no_pictures(tmp_path, content):
    (tmp_path / "broken.png").write_bytes(content)
    with pytest.raises(UserError, match=r"broken\.png cannot be read as a picture"):
        read_photo(tmp_path / "broken.png")


def test_a_file_cut_short(picture, tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (99, 99, 3), np.uint8)).save(tmp_path / "cut.jpg")
    whole = (tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="cannot be read as a picture"):
        read_photo(tmp_path / "cut.jpg")


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_photo(tmp_path / "none.jpg")
    with pytest.raises(UserError, match="cannot be read"):
        read_photo(tmp_path)


def png_that_claims(width, height):
    """A PNG of a few bytes whose header promises a large picture."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [9001, 12_000, 60_000])  # above our limit, with a warning of Pillow, with an error
@pytest.mark.filterwarnings("error")
def test_bombs_are_refused_before_they_unpack(tmp_path, side):
    (tmp_path / "bomb.png").write_bytes(png_that_claims(side, side))
    with pytest.raises(UserError, match=r"bomb\.png (has|is too large)"):
        read_photo(tmp_path / "bomb.png")


@pytest.mark.parametrize(
    "array", [np.zeros((4, 4, 3)), np.zeros((4, 4, 2), np.uint8), np.zeros((0, 4, 3), np.uint8), np.zeros(4, np.uint8)]
)
def test_other_arrays(array):
    with pytest.raises(ValueError, match="a picture is uint8"):
        read_photo(array)


# ── files and folders ────────────────────────────────────────────────────────────────────────────────────────────────


def test_folders_are_searched_in_order(tmp_path):
    for name in ("b.JPG", "a.png", "sub/c.webp", "notes.txt", ".hidden.png", "__MACOSX/d.png", "sub/._c.webp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = find_photos([tmp_path, tmp_path / "a.png"])
    assert [str(path.relative_to(tmp_path)) for path in found] == ["a.png", "b.JPG", "sub/c.webp"]
    assert find_photos([tmp_path / "notes.txt"]) == [tmp_path / "notes.txt"]  # whoever names a file means it


def test_folders_without_pictures_and_missing_paths(tmp_path):
    with pytest.raises(UserError, match="holds no picture"):
        find_photos([tmp_path])
    with pytest.raises(UserError, match="does not exist"):
        find_photos([tmp_path / "none"])
    assert photos.MAX_PIXELS < Image.MAX_IMAGE_PIXELS
