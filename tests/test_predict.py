"""predict.py: photos to files and lines; one bad file stops nothing; annotated pictures of any size."""

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

import config
import predict
from config import EMOTIONS
from ferlib.data.decoding import central_square, decode
from ferlib.explanations import photo_predictions
from ferlib.explanations.face_regions import TEN
from ferlib.explanations.methods import METHODS
from ferlib.explanations.photo_predictions import whole_crop
from ferlib.faces.crops import DetectedFace
from ferlib.faces.detection import Detector
from ferlib.faces.detectors import open_detector
from ferlib.faces.face_model import open_face_model
from ferlib.faces.photo_rows import describe_photo, describe_row
from ferlib.faces.photos import Photo, name_photos, read_photo
from ferlib.faces.predictions import FacePrediction
from ferlib.figures import annotation
from ferlib.figures.annotation import annotate
from ferlib.figures.cards import draw_ramp, limits_of
from ferlib.figures.lettering import contrasting, fit_typeface
from ferlib.figures.placement import place_label
from ferlib.runtime.errors import UserError
from predict import predict_single_image

FACE = (170, 62, 106, 106)


@pytest.fixture(scope="module")
def model():
    return open_face_model(device="cpu")


@pytest.fixture(scope="module")
def haar():
    return open_detector("haar")


@pytest.fixture
def astronaut(tmp_path):
    path = tmp_path / "photos" / "astronaut.png"
    path.parent.mkdir()
    Image.fromarray(skimage.data.astronaut()).save(path)
    return path


def flags_of(tmp_path, *images, **changes):
    given = {"detector": "haar", "outputs_dir": tmp_path / "outputs", "device": "cpu"}
    return config.Predict(images=tuple(images), **given | changes)


def random_probabilities(count, seed=0):
    return np.random.default_rng(seed).dirichlet(np.ones(7), count).astype(np.float32)


# ── for programs ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_single_image_of_any_kind(model, haar, astronaut):
    found = [
        predict_single_image(source, model, haar)
        for source in (astronaut, str(astronaut), Image.open(astronaut), skimage.data.astronaut())
    ]
    for faces_found in found:
        (face,) = faces_found
        assert face.label == "Happy"
        assert face.confidence == face.probabilities.max() > 0.5
        assert face.probabilities.sum() == pytest.approx(1, abs=1e-4)
        assert np.abs(np.subtract(face.box, FACE)).max() < 25
        assert face.crop.shape == (48, 48, 3)
        assert face.map is None
        np.testing.assert_array_equal(face.probabilities, found[0][0].probabilities)


def test_by_default_the_shipped_model_and_what_detector_there_is(monkeypatch, haar):
    monkeypatch.setattr(photo_predictions, "usual_detector", lambda: haar)
    (face,) = predict_single_image(skimage.data.astronaut())
    assert face.label == "Happy"


def test_no_face_is_no_error(model, haar):
    assert predict_single_image(np.full((90, 120, 3), 80, np.uint8), model, haar) == []


def test_a_picture_that_is_a_face(model):
    picture = skimage.data.astronaut()[55:175, 165:285]
    (face,) = predict_single_image(picture, model, whole=True, explain="gradcam")
    assert face.label == "Happy"
    assert face.map.shape == (48, 48)


def test_a_map_of_a_chosen_class(model, haar):
    maps = [
        predict_single_image(skimage.data.astronaut(), model, haar, explain="occlusion", target=target)[0].map
        for target in ("", "Happy", "sad")
    ]
    np.testing.assert_array_equal(maps[0], maps[1])
    assert np.abs(maps[0] - maps[2]).max() > 1e-3
    with pytest.raises(UserError, match=r"unknown expression 'Joyful'.*Angry, Disgust"):
        predict_single_image(skimage.data.astronaut(), model, haar, explain="gradcam", target="joyful")


def test_regions_with_the_action_units_that_emfacs_expects(model):
    picture = skimage.data.astronaut()[55:175, 165:285]
    (face,) = predict_single_image(picture, model, whole=True, explain="regions", target="Surprise")
    row = describe_photo("p.png", Photo(picture), [face])
    (found,) = row["faces"]
    assert face.words.startswith(f"Surprise ({100 * face.probabilities[6]:.0f} %)"), "the probability beside it"
    assert list(found["values"]) == list(TEN)
    assert found["values"]["mouth"] == pytest.approx(face.map[36, 24], abs=1e-3)
    raisers = {"1": "inner brow raiser", "2": "outer brow raiser"}
    assert found["expected_units"] == {
        "forehead": raisers, "brows": raisers, "left eye": {"5": "upper lid raiser"},
        "right eye": {"5": "upper lid raiser"}, "mouth": {"26": "jaw drop"}, "chin and jaw": {"26": "jaw drop"},
    }  # fmt: skip
    assert describe_row(row).splitlines()[-1] == (
        "    Action units that EMFACS expects of this emotion, not measured: forehead AU 1, 2; brows AU 1, 2; "
        "left eye AU 5; right eye AU 5; mouth AU 26; chin and jaw AU 26."
    )
    assert "EMFACS" not in describe_row(describe_photo("p.png", Photo(picture), [replace(face, regions={})]))


def test_settings_and_choices_of_the_command_line(model, haar):
    photo = Photo(skimage.data.astronaut())
    by_name, by_choice = (
        photo_predictions.predict_photo(photo, model, haar, name)[0].map for name in ("gradcam_plus_plus", "gradcam++")
    )
    np.testing.assert_array_equal(by_name, by_choice)
    fine, coarse = (
        photo_predictions.predict_photo(photo, model, haar, "occlusion", window=side)[0].map for side in (0.2, 0.5)
    )
    assert np.abs(fine - coarse).max() > 1e-3
    with pytest.raises(UserError, match="unknown setting of Occlusion 'steps'"):
        photo_predictions.predict_photo(photo, model, haar, "occlusion", steps=3)


# ── the command ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_files_and_lines(tmp_path, astronaut, capsys):
    flags = flags_of(tmp_path, astronaut, json=tmp_path / "a.json", csv=tmp_path / "a.csv", explain="gradcam")
    (row,) = predict.predict(flags)
    saved = json.loads((tmp_path / "a.json").read_text())
    assert saved["photos"] == [row]
    assert (saved["model"], saved["detector"], saved["explanation"]) == (
        "fer_resnet_wide_fer2013_seed2 (shipped)", "Haar cascade", "gradcam",
    )  # fmt: skip
    (face,) = row["faces"]
    assert face["label"] == max(face["probabilities"], key=face["probabilities"].get) == "Happy"
    assert list(face["probabilities"]) == list(EMOTIONS)
    assert (row["width"], row["height"]) == (512, 512)
    with (tmp_path / "a.csv").open(newline="") as file:
        (line,) = csv.DictReader(file)
    assert line["label"] == "Happy"
    assert float(line["Happy"]) == face["probabilities"]["Happy"]
    assert [float(line[name]) for name in ("x", "y", "width", "height")] == face["box"]
    printed = capsys.readouterr().out
    assert "Happy" in printed
    assert row["figure"] in printed
    with Image.open(row["figure"]) as figure:
        assert figure.width > 512
    assert [path.name for path in (tmp_path / "outputs" / "predictions").iterdir()] == ["astronaut_gradcam.jpg"]


def test_bad_files_stop_nothing(tmp_path, astronaut, monkeypatch, capsys):
    (astronaut.parent / "broken.jpg").write_bytes(b"no picture")
    Image.new("RGB", (80, 60)).save(astronaut.parent / "zz.png")
    flags = [
        "predict.py",
        str(astronaut.parent),
        "--detector",
        "haar",
        "--device",
        "cpu",
        "--csv",
        str(tmp_path / "a.csv"),
    ]
    monkeypatch.setattr(sys, "argv", [*flags, "--outputs-dir", str(tmp_path / "outputs")])
    with pytest.raises(UserError, match=r"1 of 3 files could not be read: .*broken.jpg"):
        predict.main()
    printed = capsys.readouterr().out
    assert "error: " in printed
    assert "no face found" in printed
    with (tmp_path / "a.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["label"] for line in lines] == ["Happy", "", ""]
    assert "cannot be read" in lines[1]["error"]
    assert lines[2]["error"] == "no face found"
    assert {path.name for path in (tmp_path / "outputs" / "predictions").iterdir()} == {"astronaut.jpg", "zz.jpg"}


def test_an_interruption_loses_nothing_that_was_done(tmp_path, astronaut, monkeypatch):
    Image.new("RGB", (80, 60)).save(astronaut.parent / "later.png")
    read = predict.read_photo

    def stop(path):
        if path.name == "later.png":
            raise KeyboardInterrupt
        return read(path)

    monkeypatch.setattr(predict, "read_photo", stop)
    with pytest.raises(KeyboardInterrupt):
        predict.predict(flags_of(tmp_path, astronaut.parent, csv=tmp_path / "a.csv", json=tmp_path / "a.json"))
    assert len(json.loads((tmp_path / "a.json").read_text())["photos"]) == 1
    assert "Happy" in (tmp_path / "a.csv").read_text()


def test_a_turned_photo_is_named_the_same(tmp_path, astronaut):
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = astronaut.parent / "turned.png"
    Image.open(astronaut).rotate(90, expand=True).save(turned, exif=exif)
    upright, other = predict.predict(flags_of(tmp_path, astronaut, turned, figures=False))
    assert other["notes"] == ["turned upright by its EXIF orientation"]
    assert other["faces"] == upright["faces"]
    assert "figure" not in other


def test_a_grey_photo(tmp_path, astronaut):
    Image.open(astronaut).convert("L").save(astronaut.parent / "grey.png")
    colour, grey = predict.predict(flags_of(tmp_path, astronaut, astronaut.parent / "grey.png", figures=False))
    assert grey["notes"] == ["grey"]
    assert grey["faces"][0]["label"] == "Happy"
    difference = np.subtract(*(list(row["faces"][0]["probabilities"].values()) for row in (colour, grey)))
    assert np.abs(difference).max() < 0.05  # grey is all that the shipped model sees


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"explain": "gradcamm"}, "did you mean gradcam"),
        ({"target": "joy"}, "unknown expression"),
        ({"min_score": 2.0}, "--min-score"),
        ({"model": "resnet50"}, "give both"),
        ({"model": "resnet51", "dataset": "fer2013"}, "did you mean resnet50"),
        ({"model": "resnet50", "dataset": "fer2014"}, "did you mean fer2013"),
        ({"model": "resnet50", "dataset": "fer2013"}, "does not exist; run: python train.py --model resnet50"),
        ({"checkpoint": Path("none.pth")}, "none.pth does not exist"),
    ],
)
def test_wrong_flags_are_named(tmp_path, astronaut, changes, message):
    with pytest.raises(UserError, match=message):
        predict.predict(flags_of(tmp_path, astronaut, **changes))
    with pytest.raises(UserError, match="name a photo or a folder"):
        predict.predict(flags_of(tmp_path))


def test_pictures_of_one_name_do_not_overwrite_each_other(tmp_path):
    paths = [tmp_path / name for name in ("a/x.png", "b/x.png", "b/x.jpg", "c d/x y.png")]
    assert list(name_photos(paths)) == ["x", "b-x", "x-2", "x-y"]
    assert list(name_photos(paths).values()) == paths


def test_small_faces_are_said(model):
    small = Detector("haar", lambda picture: [DetectedFace((10, 10, 12, 12), 0.9)], 0.5)
    (item,) = predict_single_image(np.zeros((640, 640, 3), np.uint8), model, small)
    line = describe_row(describe_photo("p.png", Photo(np.zeros((640, 640, 3), np.uint8)), [item]))
    assert "narrower than 24 px" in line


# ── the annotated picture ────────────────────────────────────────────────────────────────────────────────────────────


def items_of(*boxes, map=None):
    shares = random_probabilities(len(boxes))
    crop = np.full((48, 48, 3), 90, np.uint8)
    return [FacePrediction(DetectedFace(box, 1.0), row, crop, map) for box, row in zip(boxes, shares, strict=True)]


@pytest.mark.parametrize("size", [(1, 1), (30, 40), (48, 48), (20, 900), (900, 20), (480, 640), (3000, 4000)])
@pytest.mark.parametrize("count", [0, 1, 7])
def test_pictures_of_any_size_can_be_drawn(size, count):
    height, width = size
    boxes = [(width * part / 8, height * part / 9, width / 4, height / 4) for part in range(count)]
    items = items_of(*boxes, map=np.ones((48, 48), np.float32))
    method = METHODS[("lime", "shap", "gradcam")[count % 3]]
    sheet = annotate(np.zeros((height, width, 3), np.uint8), items, "a caption that is long " * 5, method)
    assert sheet.width > 200
    assert sheet.height > 40
    assert max(sheet.size) < 4000


def test_labels_stay_in_the_picture_and_off_each_other():
    rng = np.random.default_rng(1)
    size = (640, 480)
    for _ in range(200):
        taken, others = [], []
        for _ in range(4):
            corner = rng.uniform((-40, -40), size)
            face = (*corner.tolist(), *(corner + rng.uniform(30, 150, 2)).tolist())
            place = place_label(face, (120, 20), size, taken, others)
            assert 0 <= place[0] < place[2] <= size[0]
            assert 0 <= place[1] < place[3] <= size[1]
            taken.append(place)
            others.append(face)
    alone = place_label((100, 100, 200, 200), (120, 20), size, [], [])
    assert alone == (100, 78, 220, 98)  # above the face
    below = place_label((100, 5, 200, 105), (120, 20), size, [], [])
    assert below == (100, 107, 220, 127)


def test_a_map_colours_the_face_alone():
    picture = np.full((480, 640, 3), 120, np.uint8)
    item = items_of((200, 100, 120, 120), map=np.ones((48, 48), np.float32))[0]
    drawn = picture.copy()
    annotation.draw_map(drawn, item, METHODS["lime"], limit=1.0)
    changed = (drawn != picture).any(axis=2)
    left, top, right, bottom = annotation.bounds(item.face)
    rows, columns = np.nonzero(changed)
    assert abs(columns.min() - left) <= 2
    assert abs(columns.max() - right) <= 3
    assert abs(rows.min() - top) <= 2
    assert abs(rows.max() - bottom) <= 3
    red, _, blue = drawn[int(top + bottom) // 2, int(left + right) // 2].astype(int)
    assert red > blue + 50  # dark red: for the class
    for outside in (DetectedFace((700, 500, 80, 80), 1.0), DetectedFace((-300, -300, 80, 80), 1.0)):
        before = drawn.copy()
        elsewhere = FacePrediction(outside, item.probabilities, item.crop, item.map)
        annotation.draw_map(drawn, elsewhere, METHODS["lime"], limit=1.0)
        assert np.array_equal(drawn, before)


def test_all_faces_of_a_picture_have_one_scale_unless_each_is_asked_for():
    method, boxes = METHODS["lime"], [(10, 10, 40, 40), (80, 10, 40, 40)]
    weak, strong = (np.full((48, 48), value, np.float32) for value in (0.1, 0.4))
    items = [replace(item, map=values) for item, values in zip(items_of(*boxes), (weak, strong), strict=True)]
    assert limits_of(items, method, own=False) == pytest.approx([0.4, 0.4])
    assert limits_of(items, method, own=True) == pytest.approx([0.1, 0.4])
    assert limits_of(items_of(*boxes), None, own=False) == [1.0, 1.0]
    ramps = [np.asarray(draw_ramp(method, limit, 12)).astype(int) for limit in (0.4, None)]
    for ramp in ramps:
        assert (np.abs(ramp - (128, 0, 26)).max(-1) < 12).any()
        assert (np.abs(ramp - (158, 255, 237)).max(-1) < 12).any()


def test_letters_can_be_read_on_their_ground():
    assert contrasting("#000000") == "#ffffff"
    assert contrasting("#E69F00") == "#000000"
    assert fit_typeface("Surprise 100 %", 40, 90).getlength("Surprise 100 %") < 90


@pytest.mark.parametrize("method", METHODS)
def test_the_caption_says_what_the_colours_mean(model, method, tmp_path):
    text = predict.caption(model, None, flags_of(tmp_path, explain=method, target="fear"))
    row = METHODS[method]
    assert f"{row.title} of Fear, {row.meaning}" in text
    assert ("dark red" if row.signed else "bright") in text


def test_only_the_largest_of_a_crowd_have_cards():
    boxes = [(20 * number, 30, 18, 18) for number in range(30)]
    few = annotate(np.zeros((480, 640, 3), np.uint8), items_of(*boxes[:24]), "caption")
    many = annotate(np.zeros((480, 640, 3), np.uint8), items_of(*boxes), "caption")
    assert many.height < few.height + 60


def test_a_whole_picture_is_read_as_by_the_explain_scripts(tmp_path, shipped):
    face = np.random.default_rng(0).integers(0, 256, (90, 130), np.uint8)
    plain, deep, turned = (tmp_path / name for name in ("plain.png", "deep.png", "turned.png"))
    Image.fromarray(face).save(plain)
    Image.fromarray(face.astype(np.uint16) * 257).save(deep)
    sideways = Image.fromarray(np.rot90(face, 1))
    exif = sideways.getexif()
    exif[0x0112] = 6  # shown turned by 90° clockwise
    sideways.save(turned, exif=exif)
    expected = central_square(decode(plain).image, shipped.crop_size, 1)
    for path in (plain, deep, turned):
        crop = whole_crop(read_photo(path), shipped)[0]
        assert np.array_equal(crop, np.repeat(expected, 3, 2))
