"""data/decoding.py: one decoder for the readers of data sets, for explain --image and for photos."""

import io
import os
import shutil
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

import datasets
from config import Explain
from ferlib.data.decoding import central_square, decode
from ferlib.data.facts import dataset_facts
from ferlib.explanations import chosen_faces
from ferlib.faces.photos import read_photo
from ferlib.runtime.errors import UserError

SIDE = 112  # of the faces of folder:PATH, so that nothing is scaled


def smooth(channels: int) -> np.ndarray:
    """uint8 SIDE×SIDE×channels that differs in every corner."""
    coarse = np.random.default_rng(0).integers(0, 256, (4, 4, channels), np.uint8)
    return np.kron(coarse, np.ones((SIDE // 4, SIDE // 4, 1), np.uint8))


def write_deep_png(path):
    Image.fromarray(smooth(1)[..., 0].astype(np.uint16) * 257).save(path)
    return np.repeat(smooth(1), 3, 2)


def write_float_tiff(path):
    grey = smooth(1)
    Image.fromarray(grey[..., 0].astype(np.float32) / 255).save(path)
    return np.repeat(grey, 3, 2)


def write_turned_jpeg(path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by 90°
    picture = Image.fromarray(smooth(3))
    picture.save(path, quality=95, exif=exif)
    with Image.open(path) as stored:
        return np.rot90(np.asarray(stored), -1)


def write_transparent_png(path):
    pixels = np.dstack([smooth(3), np.full((SIDE, SIDE), 255, np.uint8)])
    pixels[: SIDE // 2, :, 3] = 0
    Image.fromarray(pixels).save(path)
    expected = smooth(3)
    expected[: SIDE // 2] = 255
    return expected


KINDS = {
    "16 bits.png": write_deep_png,
    "float.tif": write_float_tiff,
    "turned.jpg": write_turned_jpeg,
    "transparent.png": write_transparent_png,
}


@pytest.fixture
def read_for_explanation(monkeypatch):
    """The pixels uint8 H×W×C that explain --image gives to the network."""
    uniform = lambda _subject, images: np.full((len(images), 7), 1 / 7)  # noqa: E731
    monkeypatch.setattr(chosen_faces, "predict_probabilities", uniform)
    return lambda path, dataset: chosen_faces.choose_faces(None, Explain(dataset=dataset, image=(path,))).images[0]


@pytest.mark.parametrize("name", KINDS)
def test_all_entrances_decode_alike(name, tmp_path, read_for_explanation):
    path = tmp_path / "faces" / "test" / "happy" / name
    path.parent.mkdir(parents=True)
    expected = KINDS[name](path)
    dataset = f"folder:{tmp_path / 'faces'}"
    [read] = datasets.load_faces(dataset, tmp_path, tmp_path / "outputs").images
    for pixels in (read, read_for_explanation(path, dataset), read_photo(path).pixels):
        assert np.array_equal(pixels, expected)


@pytest.mark.parametrize("name", KINDS)
def test_grey_data_sets_decode_alike(name, tmp_path, read_for_explanation):
    """JAFFE is grey: Pillow's "L" of what a photo shows in RGB."""
    suffix = name[name.index(".") :]
    path = tmp_path / "jaffe" / f"KA.AN1.39{suffix}"
    path.parent.mkdir()
    KINDS[name](path)
    for subject in ("KL", "KM"):  # every fold needs three subjects
        shutil.copy(path, path.with_name(f"{subject}.AN1.39{suffix}"))
    read = datasets.load_faces("jaffe", tmp_path, tmp_path / "outputs").images[0]
    photo = Image.fromarray(read_photo(path).pixels)
    assert np.array_equal(read, read_for_explanation(path, "jaffe"))
    assert np.array_equal(read, central_square(photo, dataset_facts("jaffe").size, 1))


@pytest.mark.parametrize("mode", ["RGB", "P", "L", "1", "CMYK"])
def test_grey_by_way_of_rgb_and_directly(mode):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    picture = Image.fromarray(noise).convert(mode)
    decoded = decode(picture).image
    assert np.array_equal(decoded.convert("RGB").convert("L"), picture.convert("L"))
    assert np.array_equal(decoded.convert("L"), picture.convert("L"))


def test_the_central_square_is_scaled():
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:, 20:60] = (10, 200, 30)
    face = central_square(Image.fromarray(pixels), 20, 3)
    assert face.shape == (20, 20, 3)
    assert (face[:, 1:-1] == (10, 200, 30)).all()


# ── right values, kind by kind ───────────────────────────────────────────────────────────────────────────────────────


def grey_of(source):
    """The pixels of a picture as a flat list of greys."""
    picture = decode(source).image
    assert picture.mode == "L" or (np.ptp(np.asarray(picture), axis=2) == 0).all()
    return np.asarray(picture.convert("L")).ravel().tolist()


def tiff(values, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, np.asarray(values)[None], **options)
    return io.BytesIO(file.getvalue())


def png(bits, colour_type, row, *chunks):
    """A PNG of one row; `row`: its bytes, `chunks`: further ones before the pixels."""
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour_type]
    header = struct.pack(">IIBBBBB", len(row) * 8 // bits // samples, 1, bits, colour_type, 0, 0, 0)
    every = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b"")]
    packed = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in every
    ]
    return io.BytesIO(b"\x89PNG\r\n\x1a\n" + b"".join(packed))


def shorts(*values):
    return struct.pack(f">{len(values)}H", *values)


@pytest.mark.parametrize(
    ("values", "kind", "expected", "white"),
    [
        ([0, 100, 255], np.uint16, [0, 100, 255], "255"),
        ([0, 100, 255], np.int32, [0, 100, 255], "255"),
        ([0, 100, 255], np.uint32, [0, 100, 255], "255"),
        ([0, 100, 200], np.float32, [0, 100, 200], "255"),
        ([0, 100, 256.5], np.float32, [0, 100, 255], "255"),  # resampling overshoots
        ([0, 0.5, 0.8], np.float32, [0, 128, 204], "1"),
        ([-0.1, 0.5, 1.1], np.float32, [0, 128, 255], "1"),
        ([np.nan, 0.2, np.inf], np.float32, [0, 51, 255], "1"),
        ([0, 2048, 4095], np.uint16, [0, 128, 255], "4,095"),
        ([0, 2048, 4095], np.int32, [0, 128, 255], "4,095"),
        ([0, 257 * 100, 65535], np.uint16, [0, 100, 255], "65,535"),
        ([0, 257 * 100, 65535], np.int32, [0, 100, 255], "65,535"),
        ([0, 257 * 100, 257 * 200], np.float32, [0, 100, 200], "65,535"),
        ([-7, 100, 255], np.int16, [0, 100, 255], "255"),
        ([0, 2**31, 2**32 - 1], np.uint32, [0, 128, 255], ""),
        ([0, 0, 0], np.uint16, [0, 0, 0], "255"),
    ],
)
def test_what_is_white_in_deep_grey(values, kind, expected, white):
    file = tiff(np.array(values, kind))
    [note, *_] = decode(file).notes
    assert note.startswith("grey of more than 8 bits, scaled to 8 with ")
    assert f"with {white}" in note
    assert grey_of(file) == expected
    assert central_square(decode(file).image, 1, 3).tolist() == [[[expected[1]] * 3]]


def write_16_bits_a_colour(path, values):
    """A PNG of uint16 H×W×3, or ×4 with transparency."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    kind = {3: 2, 4: 6}[values.shape[2]]  # colour, with transparency
    parts = ((b"IHDR", struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, kind, 0, 0, 0)),
             (b"IDAT", zlib.compress(rows)), (b"IEND", b""))  # fmt: skip
    chunks = (struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
              for kind, data in parts)  # fmt: skip
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def test_colours_of_16_bits_are_noted_and_those_of_12_refused(tmp_path):
    values = smooth(3).astype(np.uint16)
    write_16_bits_a_colour(tmp_path / "a.png", values * 257)
    picture = decode(tmp_path / "a.png")
    assert np.array_equal(np.asarray(picture.image), smooth(3))
    assert picture.notes == ("colours of 16 bits, of which the upper 8 are taken",)
    write_16_bits_a_colour(tmp_path / "b.png", values * 16)
    with pytest.raises(UserError, match="its 16 bits a colour hold 12 or fewer"):
        decode(tmp_path / "b.png")
    faint = np.concatenate([values * 257, np.full_like(values[..., :1], 4095)], 2)  # transparency of 12 bits
    write_16_bits_a_colour(tmp_path / "c.png", faint)
    with pytest.raises(UserError, match="its 16 bits a colour hold 12 or fewer"):
        decode(tmp_path / "c.png")
    write_16_bits_a_colour(
        tmp_path / "d.png", np.concatenate([values * 16, 65535 - 65535 * (values[..., :1] > 200)], 2)
    )
    with pytest.raises(UserError, match="its 16 bits a colour hold 12 or fewer"):
        decode(tmp_path / "d.png")
    write_16_bits_a_colour(tmp_path / "black.png", values * 0)
    assert np.asarray(decode(tmp_path / "black.png").image).max() == 0


def test_large_deep_pictures_are_scaled_as_small_ones():
    values = np.arange(1 << 17, dtype=np.uint16).reshape(512, 256)
    expected = (values / 257).round().astype(np.uint8)
    assert np.array_equal(decode(Image.fromarray(values)).image, expected)
    assert np.array_equal(decode(Image.fromarray(values[:16])).image, (values[:16] * (255 / 4095)).round())


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_tiffs_in_which_zero_is_white(kind):
    top = np.iinfo(kind).max
    assert grey_of(tiff(np.array([0, top // 5, top], kind), photometric="miniswhite")) == [255, 204, 0]


def test_formats_that_state_their_full_scale():
    assert grey_of(io.BytesIO(b"P5 3 1 1000\n" + shorts(0, 200, 1000))) == [0, 51, 255]
    dark = io.BytesIO(b"P5 3 1 65535\n" + shorts(0, 2570, 100))
    assert grey_of(dark) == [0, 10, 0]


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        (png(1, 0, bytes([0b01010000]), (b"tRNS", shorts(0))), [255] * 8),
        (png(2, 0, bytes([0b00011011]), (b"tRNS", shorts(1))), [0, 255, 170, 255]),
        (png(4, 0, bytes([0x05]), (b"tRNS", shorts(5))), [0, 255]),
        (png(8, 0, bytes([5, 9]), (b"tRNS", shorts(5))), [255, 9]),
        (png(16, 0, shorts(5000, 40000), (b"tRNS", shorts(5000))), [255, 156]),
        (png(8, 2, bytes([5] * 3 + [9] * 3), (b"tRNS", shorts(5, 5, 5))), [255, 9]),
        (png(16, 2, shorts(*[5000] * 3, *[40000] * 3), (b"tRNS", shorts(5000, 5000, 5000))), [255, 156]),
        (png(8, 3, bytes([0, 1]), (b"PLTE", bytes([7] * 3 + [8] * 3)), (b"tRNS", bytes([255, 0]))), [7, 255]),
        (png(8, 4, bytes([7, 255, 8, 0])), [7, 255]),
        (png(16, 4, shorts(5000, 65535, 40000, 0)), [19, 255]),
        (png(16, 6, shorts(*[5000] * 3, 65535, *[40000] * 3, 0)), [19, 255]),
        (png(16, 2, shorts(*[5000] * 3, *[40000] * 3)), [19, 156]),
    ],
)
def test_pngs_of_every_depth_over_white(file, expected):
    assert grey_of(file) == expected


def test_colours_of_sixteen_bits():
    file = tiff(np.array([[0, 257 * 90, 65535]], np.uint16), photometric="rgb")
    assert np.asarray(decode(file).image).tolist() == [[[0, 90, 255]]]
    planes = np.zeros((3, 1, 2), np.uint16)
    file = io.BytesIO()
    tifffile.imwrite(file, planes, photometric="rgb", planarconfig="separate")
    with pytest.raises(UserError, match="separate planes of more than 8 bits"):
        decode(io.BytesIO(file.getvalue()))


@pytest.mark.parametrize("mode", ["LA", "La", "PA", "RGBA", "RGBa"])
def test_pictures_with_an_alpha_channel(mode):
    assert set(grey_of(Image.new(mode, (2, 1)))) == {255}, "transparent everywhere"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["TIFF", "PNG", "WEBP", "JPEG"])
def test_every_orientation(orientation, form):
    blocks = np.kron(np.arange(6, dtype=np.uint8).reshape(2, 3) * 40, np.ones((16, 16), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100}}.get(form, {})
    Image.fromarray(np.dstack([blocks] * 3)).save(file, form, exif=exif, **options)
    upright = {
        1: blocks, 2: np.fliplr(blocks), 3: np.rot90(blocks, 2), 4: np.flipud(blocks), 5: blocks.T,
        6: np.rot90(blocks, -1), 7: np.rot90(blocks, 2).T, 8: np.rot90(blocks),
    }[orientation]  # fmt: skip
    picture = decode(file)
    assert np.abs(np.asarray(picture.image, int)[..., 0] - upright).max() <= 2
    assert len(picture.notes) == (orientation > 1)


def swapped_profile():
    """sRGB with red and blue exchanged."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile.replace(b"rXYZ", b"tmp.").replace(b"bXYZ", b"rXYZ").replace(b"tmp.", b"bXYZ")


def test_colours_are_those_of_the_profile():
    colours = np.array([[(255, 0, 0), (0, 255, 0), (250, 250, 250)]], np.uint8)
    file = io.BytesIO()
    Image.fromarray(colours).save(file, "PNG", icc_profile=swapped_profile())
    picture = decode(file)
    assert np.abs(np.asarray(picture.image, int) - colours[..., ::-1]).max() <= 3
    assert picture.notes == ("colours converted from its ICC profile",)
    transparent = Image.fromarray(np.dstack([colours, [[255, 255, 0]]]).astype(np.uint8))
    transparent.info["icc_profile"] = swapped_profile()
    assert np.abs(np.asarray(decode(transparent).image, int) - [[(0, 0, 255), (0, 255, 0), (255, 255, 255)]]).max() <= 3


@pytest.mark.parametrize("profile", [ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(), b"no profile"])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA"])
def test_profiles_that_change_nothing(profile, mode):
    picture = Image.fromarray(smooth(3)).convert(mode)
    expected = decode(picture)
    picture.info["icc_profile"] = profile
    assert np.array_equal(decode(picture).image, expected.image)
    assert decode(picture).notes == expected.notes


# ── what is refused ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "link.jpg").symlink_to("nowhere.jpg")
    for name, reason in (
        ("pipe", "a pipe or a device"),
        ("folder", "a folder"),
        ("link", "a link to a file that does not"),
    ):
        with pytest.raises(UserError, match=rf"{name}\.jpg .*is {reason}"):
            decode(tmp_path / f"{name}.jpg")
    with pytest.raises(UserError, match="a pipe or a device"):
        decode("/dev/zero")


def test_no_other_program_is_run_for_a_picture(tmp_path):
    """Pillow hands PostScript to Ghostscript, whatever the file is called."""
    (tmp_path / "a.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n%%EOF\n")
    with pytest.raises(UserError, match=r"a\.jpg cannot be read as a picture; take a JPEG"):
        decode(tmp_path / "a.jpg")


def test_all_pictures_that_cannot_be_explained_are_named(tmp_path, read_for_explanation, capsys):
    write_deep_png(tmp_path / "deep.png")
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "bomb.png").write_bytes(
        png(8, 0, b"\0").getvalue().replace(struct.pack(">II", 1, 1), struct.pack(">II", 30_000, 30_000))
    )
    with pytest.raises(UserError) as error:
        chosen_faces.decode_all([tmp_path / "text.jpg", tmp_path / "deep.png", tmp_path / "bomb.png"])
    assert [str(line).split("/")[-1].split()[0] for line in error.value.args] == ["text.jpg", "bomb.png"]
    assert "deep.png: grey of more than 8 bits, scaled to 8 with 65,535 as white" in capsys.readouterr().out


def samples():
    """Small files of the common formats."""
    picture, exif = Image.fromarray(smooth(3)[:32, :32]), Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    deep = Image.fromarray(smooth(1)[:32, :32, 0].astype(np.uint16) * 257)
    frames = {"save_all": True, "append_images": [picture.rotate(90)]}
    kinds = [
        (picture, "JPEG", {"exif": exif, "icc_profile": swapped_profile()}), (picture.convert("CMYK"), "JPEG", {}),
        (picture, "PNG", {"exif": exif}), (picture.quantize(8), "PNG", {"transparency": 1}), (deep, "PNG", {}),
        (picture, "TIFF", {"exif": exif}), (deep, "TIFF", {"compression": "tiff_lzw"}), (picture, "GIF", frames),
        (picture, "WEBP", {"exif": exif}), (picture, "BMP", {}), (picture, "AVIF", {}),
    ]  # fmt: skip
    Image.init()
    for image, form, options in kinds:
        if form in Image.SAVE:
            file = io.BytesIO()
            image.save(file, form, **options)
            yield file.getvalue()


def damage(content, rng):
    """The bytes cut short, or some of them overwritten, mostly near the beginning."""
    damaged = np.frombuffer(content, np.uint8).copy()
    if rng.random() < 0.3:
        return damaged[: rng.integers(len(damaged))].tobytes()
    reach = min(200, len(damaged)) if rng.random() < 0.6 else len(damaged)
    places = rng.integers(0, reach, rng.integers(1, 12))
    damaged[places] = rng.choice([0, 1, 127, 255, rng.integers(256)], len(places))
    return damaged.tobytes()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_damaged_files_are_read_or_refused(tmp_path):
    """Whatever the bytes are: a picture or a UserError, by itself and in a data set."""
    rng, refused = np.random.default_rng(0), []
    root = tmp_path / "faces"
    (root / "happy").mkdir(parents=True)
    for number, content in enumerate(damage(sample, rng) for sample in samples() for _ in range(20)):
        (root / "happy" / f"{number}.jpg").write_bytes(content)
        try:
            assert decode(io.BytesIO(content), "x").image.mode in ("L", "RGB")
        except UserError:
            refused.append(number)
    assert len(refused) > 50
    with pytest.raises(UserError, match=rf"{len(refused)} of \d+ pictures cannot be read"):
        datasets.load_faces(f"folder:{root}", tmp_path, tmp_path / "outputs")
    for number in refused:
        (root / "happy" / f"{number}.jpg").unlink()
    assert len(datasets.load_faces(f"folder:{root}", tmp_path, tmp_path / "outputs")) > 20
