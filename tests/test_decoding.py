"""data/decoding.py: one decoder for the readers of data sets, for explain --image and for photos."""

import shutil

import numpy as np
import pytest
from PIL import Image

import datasets
from config import Explain
from ferlib.data.decoding import central_square, decode
from ferlib.data.facts import dataset_facts
from ferlib.explanations import driver
from ferlib.faces.photos import read_photo

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
    grey[0, 0] = 255  # the largest value becomes white
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
    monkeypatch.setattr(driver, "predict_probabilities", uniform)
    return lambda path, dataset: driver.choose_faces(None, Explain(dataset=dataset, image=(path,))).images[0]


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
