"""The page in a real browser: photos, faces, every method, refused files, and no request to other computers."""

import base64
import io
import os
import re
import signal
import socket
import threading
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

import app
import config
from browsing import accessibility_findings, open_page, overflow
from config import EMOTIONS
from ferlib.explanations.face_regions import TEN
from ferlib.explanations.methods import METHODS
from ferlib.explanations.records import Attribution
from ferlib.faces.crops import DetectedFace, crop_face
from ferlib.faces.detectors import open_detector
from ferlib.faces.face_model import open_face_model
from ferlib.runtime import runs
from ferlib.runtime.errors import UserError
from ferlib.runtime.runs import calibration_beside, shipped_checkpoint
from ferlib.webpage import answers
from ferlib.webpage import page as app_page
from ferlib.webpage import server as app_server
from ferlib.webpage import views as app_views
from ferlib.webpage.models import find_models
from ferlib.webpage.photo_results import PhotoResult, predict_upload, shrink
from ferlib.webpage.pictures import draw_map, encode_crop, encode_photo
from ferlib.webpage.resources import Resources
from ferlib.webpage.results import Results
from ferlib.webpage.settings import SETTINGS, count_faces, how_to_read, list_choices, own_settings

SHIPPED = shipped_checkpoint()
MAX_PIXELS = 2_000_000
PATIENCE = 30_000  # milliseconds


# ── pictures and settings ────────────────────────────────────────────────────────────────────────────────────────────


def test_the_controls_of_the_settings_start_at_valid_defaults():
    for name, settings in SETTINGS.items():
        METHODS[name].check_values(METHODS[name].defaults)
        for setting in settings:
            if choices := list_choices(setting):
                assert setting.default in [value for _, value in choices]
            else:
                low, high, step = setting.slider
                assert low <= setting.default <= high
                assert step > 0


def test_a_method_gets_its_own_settings_only():
    values = tuple(range(sum(map(len, SETTINGS.values()))))
    assert own_settings("shap", values) == {"background_size": 3}
    assert own_settings("gradcam", values) == {}


def test_the_number_of_faces_to_compute_is_a_setting():
    assert count_faces(METHODS["lime"].defaults) == 1000
    assert count_faces(METHODS["integrated_gradients"].defaults) == 50
    assert count_faces({"background_size": 20}) == 100
    assert count_faces(METHODS["occlusion"].defaults) is None


def save(tmp_path, picture, name="photo.png", **options):
    path = tmp_path / name
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(path, **options)
    return path


def test_a_large_photo_is_made_smaller():
    assert shrink(np.zeros((8000, 10, 3), np.uint8)).shape == (3000, 4, 3)
    assert shrink(np.zeros((80, 10, 3), np.uint8)).shape == (80, 10, 3)


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path):
    bomb = save(tmp_path, Image.new("1", (20_000, 20_000)), "bomb.png")
    assert bomb.stat().st_size < 100_000
    with pytest.raises(UserError, match="this picture is too large"):
        predict_upload(str(bomb), "m", "haar", Resources({"m": SHIPPED}, max_pixels=MAX_PIXELS))


def test_what_is_refused_is_said_without_a_path_of_this_computer(tmp_path):
    for content in (b"", b"no picture", b"\x89PNG\r\n\x1a\n" + bytes(50)):
        (tmp_path / "photo.png").write_bytes(content)
        with pytest.raises(UserError, match="this picture cannot be read as a picture") as refusal:
            predict_upload(str(tmp_path / "photo.png"), "m", "haar", Resources({"m": SHIPPED}))
        assert str(tmp_path) not in str(refusal.value)


# ── what is shown ────────────────────────────────────────────────────────────────────────────────────────────────────


def make_result(label="a model", probabilities=None):
    face = DetectedFace((10.0, 5.0, 40.0, 50.0), 0.9, None)
    photo = np.random.default_rng(0).integers(0, 256, (80, 120, 3), dtype=np.uint8)
    shares = np.full((1, 7), 1 / 7, np.float32) if probabilities is None else np.array([probabilities], np.float32)
    return PhotoResult(
        photo=encode_photo(photo),
        size=photo.shape[:2],
        faces=(face,),
        close_ups=(encode_crop(photo, face),),
        crops=crop_face(photo, face, 48)[None],
        margin=2,
        probabilities=shares,
        model=label,
        detector="YuNet",
        found=1,
    )


def test_the_network_that_predicted_explains(monkeypatch, tmp_path):
    """Not the one that the page has chosen meanwhile, nor one that was trained again."""
    path = tmp_path / "a.pth"
    path.write_bytes(b"weights")
    resources, results, asked = Resources({"a": path, "b": SHIPPED}), Results(60), []
    before = resources.state_of("a")
    calibration_beside(path).write_text("{}")  # as evaluate.py writes it while the page is open
    assert resources.state_of("a") != before
    calibration_beside(path).unlink()
    assert resources.state_of("a") == before
    monkeypatch.setattr(answers, "compute_map", lambda crop, model, *_: asked.append(model))
    monkeypatch.setattr(app_views, "show_explanation", lambda *_: "explained")
    token = results.add(replace(make_result(), chosen="a", state=resources.state_of("a")))
    explain = partial(answers.answer_explain, token, 0, "saliency", answers.PREDICTED, None)
    assert explain(resources=resources, results=results) == "explained"
    assert asked == ["a"]
    path.write_bytes(b"those of a new training")
    assert "was trained again since" in explain(resources=resources, results=results)
    assert asked == ["a"]


def test_a_map_lies_over_the_input_of_the_network():
    values = np.zeros((44, 44), np.float32)
    values[:22, :22] = 1
    pictures, limit = draw_map(make_result(), 0, values, METHODS["occlusion"])
    alone = decode(pictures["alone"])
    assert limit == 1
    assert alone.shape == decode(pictures["face"]).shape == decode(pictures["over"]).shape
    middle = len(alone) // 2
    dark_red, pale = alone[: middle - 8, : middle - 8].mean((0, 1)), alone[middle + 8 :].mean((0, 1))
    assert np.abs(dark_red - (128, 0, 26)).max() < 12
    assert np.ptp(pale) < 6


def decode(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB")).astype(float)


def test_regions_have_their_values_and_what_emfacs_expects():
    facts = {
        "values": dict.fromkeys(TEN, 0.0) | {"mouth": 0.22, "cheeks": -0.1},
        "outcome": 0.41,
        "without": None,
        "pair": {"regions": ["mouth", "cheeks"], "value": 0.0},
        "fills": {"mean": 1.0},
    }
    found = Attribution(np.full((44, 44), 0.22, np.float32), facts=facts)
    html = app_views.show_explanation(make_result(), 0, found, "regions", EMOTIONS.index("Fear"), 1.0)
    assert "Why Fear, 14 %?" in html
    assert "Fear (14 %): the mouth" in html  # as beside the face, calibrated, not the outcome of 41 %
    rows = re.findall(r"<li><span>(.*)</span> <span>(.*)</span> <span>(.*)</span></li>", html)
    assert rows[0] == ("mouth", "+0.22", "AU 20 lip stretcher, AU 25 lips part, AU 26 jaw drop")
    assert rows[-1] == ("cheeks", "−0.10", "")
    assert len(rows) == len(TEN)
    assert "EMFACS expects of Fear in the region; they are measured neither" in html
    neutral = app_views.show_explanation(make_result(), 0, found, "regions", EMOTIONS.index("Neutral"), 1.0)
    assert "AU " not in neutral
    assert "EMFACS expects no action units of Neutral." in neutral
    assert "EMFACS" not in app_views.show_explanation(make_result(), 0, found, "occlusion", 0, 1.0)


def test_names_from_outside_are_escaped():
    page = app_views.show_probabilities(make_result("<script>alert(1)</script>"), 0)
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert app_views.show_message("<b>") == '<p class="notice" role="status">&lt;b&gt;.</p>'


def test_the_set_of_an_unsure_prediction_is_named():
    unsure = replace(make_result(), candidates=(("Fear", "Sad"),))
    assert "One of Fear, Sad with 90 %." in app_views.show_probabilities(unsure, 0)
    sure = replace(make_result(), candidates=(("Fear",),))
    assert "with 90 %" not in app_views.show_probabilities(sure, 0)
    assert "with 90 %" not in app_views.show_probabilities(make_result(), 0)


def test_an_uncertain_prediction_and_a_doubtful_face_are_named():
    assert "Uncertain" in app_views.show_probabilities(make_result(), 0)
    sure = make_result(probabilities=(0.94, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01))
    assert "Uncertain" not in app_views.show_probabilities(sure, 0)
    small = DetectedFace((0.0, 0.0, 20.0, 25.0), 0.55, None)
    assert app_views.note_on(small) == " · only 20 pixels wide, so it has little detail · this may not be a face"
    assert app_views.note_on(sure.faces[0]) == ""
    turned = DetectedFace((0.0, 0.0, 200.0, 250.0), 0.95, None, 180)
    assert app_views.note_on(turned) == " · the photo was turned by 180° for it"


def test_a_large_photo_says_what_size_of_face_is_missed():
    result = make_result()
    assert "narrower than about 70 pixels are not searched for" in app_views.show_faces(replace(result, smallest=70), 0)
    assert "narrower" not in app_views.show_faces(result, 0)


# ── models and ports ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_shipped_model_and_all_runs_that_load_are_offered(tmp_path, tiny_run, capsys):
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    (folder / "mini_resnet_synthetic_best.pth").write_bytes(tiny_run.best_checkpoint.read_bytes())
    (folder / "broken_best.pth").write_bytes(b"nothing")
    found = find_models(None, tmp_path)
    assert list(found.values()) == [*map(shipped_checkpoint, runs.SHIPPED), folder / "mini_resnet_synthetic_best.pth"]
    assert "broken_best.pth" in capsys.readouterr().err
    chosen = find_models(tiny_run.best_checkpoint, tmp_path)
    assert next(iter(chosen.values())) == tiny_run.best_checkpoint
    with pytest.raises(UserError, match="is not a file of weights"):
        find_models(folder / "broken_best.pth", tmp_path)


def test_a_port_in_use_is_passed_over_and_said(capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = app_server.find_port("127.0.0.1", port)
        assert found > port
        assert f"port {port} is in use; taking {found}" in capsys.readouterr().out


def test_hosts_and_ports_that_cannot_be_are_refused():
    with pytest.raises(UserError, match="--host"):
        app_server.find_port("203.0.113.7", 7860)  # an address of nobody (RFC 5737)
    with pytest.raises(UserError, match="--port 70000"):
        app_server.find_port("127.0.0.1", 70000)


def test_the_page_says_how_long_it_keeps_a_photo_and_what_its_probabilities_mean():
    assert "deleted 10 minutes after its last use" in " ".join(app_views.show_head(600).split())
    assert "deleted 1.5 minutes after its last use" in " ".join(app_views.show_head(90).split())
    result = replace(make_result(), calibration="probabilities calibrated as shares of annotators on 9 faces")
    assert "calibrated as shares of annotators on 9 faces</p>" in app_views.show_probabilities(result, 0)


def test_what_is_missing_is_said_before_the_page_opens(tmp_path):
    flags = config.App(outputs_dir=tmp_path, detector="yunet", detector_weights=tmp_path / "none.onnx", port=8690)
    with pytest.raises(UserError, match=r"none\.onnx does not exist"), app.running(flags):
        pass
    with pytest.raises(UserError, match="--keep-seconds"), app.running(config.App(keep_seconds=0)):
        pass


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="needs POSIX signals")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_an_ended_process_closes_the_page(monkeypatch, signals, name):
    closed = []

    @contextmanager
    def running(_flags):
        try:
            yield "http://127.0.0.1:7860/"
        finally:
            closed.append(True)

    monkeypatch.setattr(app, "running", running)
    signal.signal(getattr(signal, name), lambda *_: pytest.fail("the process would have died"))
    threading.Timer(0.2, os.kill, (os.getpid(), getattr(signal, name))).start()
    with pytest.raises(SystemExit) as end:
        app.serve(config.App())
    assert end.value.code == 0
    assert closed == [True]


def test_gradio_is_told_where_uploads_go_and_then_all_is_as_before(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "example.org")
    monkeypatch.delenv("GRADIO_TEMP_DIR", raising=False)
    with app_server.environment(str(tmp_path), "127.0.0.1"):
        assert os.environ["GRADIO_TEMP_DIR"] == str(tmp_path)
        assert os.environ["NO_PROXY"].startswith("example.org,127.0.0.1")
    assert "GRADIO_TEMP_DIR" not in os.environ
    assert os.environ["NO_PROXY"] == "example.org"


# ── the page ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def site(shared_outputs, tiny_run):
    """The page, served with a small trained run beside the shipped model; its methods draw few samples."""
    few = {"lime_samples": 100, "bg_samples": 10, "smooth_samples": 5, "steps": 5}
    settings = {
        name: tuple(replace(row, default=few.get(row.field, row.default)) for row in rows)
        for name, rows in SETTINGS.items()
    }
    flags = config.App(
        port=8700, detector="haar", outputs_dir=shared_outputs, max_upload_mb=1, max_pixels=MAX_PIXELS, device="cpu"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app_page, "SETTINGS", settings)
        with app.running(flags) as address:
            uploads = Path(os.environ["GRADIO_TEMP_DIR"])
            yield address
    assert not uploads.exists()


@pytest.fixture(scope="module")
def window(site, browser):
    """One window for all tests, which then load the page from its cache."""
    with open_page(browser, site) as visit:
        visit.page.set_default_timeout(PATIENCE)
        yield visit


@pytest.fixture
def visit(site, window):
    """The page as it is at first; at the end it must have said nothing wrong and asked nobody else."""
    window.page.goto(site)
    window.page.locator(".examples").wait_for()
    window.errors.clear()
    yield window
    assert window.errors == []
    assert window.requests
    assert [address for address in window.requests if not address.startswith(site)] == []


def upload(page, path):
    page.locator("input[type=file]").first.set_input_files(path)


def explained(page, title="HiResCAM", question=""):
    """Waits for an explanation by a method, and gives what it says."""
    page.locator(f".explanation[aria-label^='{title}: {question}']").wait_for()
    return page.locator("#explanation").inner_text()


def at_rest(page):
    """Waits until nothing lies over the explanation or fades."""
    covered = "#explanation :is([data-testid=status-tracker]:not(.hide), .pending)"
    page.wait_for_function("covered => !document.querySelector(covered)", arg=covered)
    page.wait_for_function("document.getAnimations().every(each => !(each instanceof CSSTransition))")


def choose(page, label, option):
    page.get_by_label(label, exact=True).click()
    page.get_by_role("option", name=option, exact=True).click()


def test_a_photo_gets_the_probabilities_that_the_model_gives_its_face(visit, tmp_path):
    upload(visit.page, save(tmp_path, data.astronaut()))
    explained(visit.page)
    network, photo = open_face_model(device="cpu"), data.astronaut()
    (face,) = open_detector("haar")(photo)
    shares = network.probabilities(crop_face(photo, face, network.crop_size)[None])[0]
    assert EMOTIONS[shares.argmax()] == "Happy"
    shown = [float(text.removesuffix(" %")) for text in visit.page.locator(".probabilities .percent").all_inner_texts()]
    assert shown == pytest.approx(100 * shares, abs=1)  # whatever the engine, and rounded
    box, picture = (visit.page.locator(place).bounding_box() for place in (".photo .box", ".photo > img"))
    found = [(box["x"] - picture["x"]) / picture["width"], (box["y"] - picture["y"]) / picture["height"]]
    assert found == pytest.approx([face.box[0] / 512, face.box[1] / 512], abs=0.01)
    assert visit.page.get_by_alt_text("The map of HiResCAM over the face; it is strongest").count() == 1


def test_every_method_explains_and_every_class_can_be_asked_for(visit):
    page = visit.page
    page.get_by_role("button", name="Example: Surprise, drawn").click()
    explained(page)
    for name, method in METHODS.items():
        choose(page, "Explained by", method.title)
        assert how_to_read(method)[:40] in explained(page, method.title)
        for row in SETTINGS.get(name, ()):
            label = row.label if list_choices(row) else f"number input for {row.label}"
            assert page.get_by_label(label, exact=True).locator("visible=true").count() == 1
    choose(page, "Class to explain", "Disgust")
    assert "against Disgust" in explained(page, "Occlusion", "Why Disgust")
    at_rest(page)
    assert accessibility_findings(page) == []


def test_settings_are_taken_when_asked_again(visit):
    page = visit.page
    page.get_by_role("button", name="Example: Sad, drawn").click()
    explained(page)
    choose(page, "Explained by", "Occlusion")
    explained(page, "Occlusion")
    before = page.locator(".blend .over").get_attribute("src")
    page.get_by_label("number input for Side of the square").fill("0.5")
    page.get_by_role("button", name="Explain again").click()
    page.wait_for_function("before => document.querySelector('.blend .over')?.src !== before", arg=before)
    page.get_by_label("number input for Step of the square").fill("0.45")
    page.get_by_label("number input for Side of the square").fill("0.2")
    page.get_by_role("button", name="Explain again").click()
    page.locator("#explanation .notice", has_text="the stride not the larger.").wait_for()


def test_the_slider_blends_map_and_face(visit):
    page = visit.page
    page.get_by_role("button", name="Example: Happy, drawn").click()
    explained(page)
    assert page.locator(".blend .over").evaluate("part => getComputedStyle(part).opacity") == "1"
    page.get_by_label("number input for Strength of the map over the face").fill("25")
    page.wait_for_function("getComputedStyle(document.querySelector('.blend .over')).opacity === '0.25'")


def test_of_several_faces_one_is_chosen_with_the_keyboard(visit):
    page = visit.page
    page.get_by_role("button", name="Example: four drawn faces").focus()
    page.keyboard.press("Enter")
    explained(page)
    faces = page.locator(".thumb")
    assert faces.count() == 4
    names = faces.all_inner_texts()
    assert len(set(names)) == 4
    faces.nth(2).focus()
    page.keyboard.press("Space")
    page.locator(".thumb[aria-pressed=true]", has_text="3 ·").wait_for()
    label = names[2].split(" · ")[1].split()[0]
    explained(page, question=f"Why {label}")
    assert page.locator(".probabilities .verdict strong").inner_text() == label
    assert page.locator(".photo .box.chosen").get_attribute("data-number") == "2"


def test_another_model_answers_when_it_is_chosen(visit, tiny_run):
    page = visit.page
    page.get_by_role("button", name="Example: Angry, drawn").click()
    explained(page)
    assert SHIPPED.stem in page.locator(".probabilities .small").inner_text()
    page.get_by_role("button", name="Model and detector").click()
    page.get_by_label("Model (accuracy on val)").click()
    page.get_by_role("option", name=tiny_run.name).click()
    page.locator(".probabilities .small", has_text=tiny_run.name).wait_for()
    explained(page)


def test_a_picture_without_a_face_is_said_to_have_none(visit, tmp_path):
    page = visit.page
    grey = np.tile(np.linspace(0, 255, 300, dtype=np.uint8)[:, None, None], (1, 300, 3))
    upload(page, save(tmp_path, grey))
    page.locator("#faces .notice", has_text="No face was found").wait_for()
    assert not page.locator("#explanation").is_visible()
    assert page.locator(".probabilities").count() == 0


def test_a_picture_of_too_many_pixels_is_refused_in_words(visit, tmp_path):
    upload(visit.page, save(tmp_path, Image.new("L", (2000, 1500))))
    visit.page.locator("#faces .notice", has_text="2000×1500 pixels; more than 2 million").wait_for()


def test_too_large_a_file_is_refused_in_words(visit, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (800, 800, 3), dtype=np.uint8)
    upload(visit.page, save(tmp_path, noise))  # 1.9 MB
    visit.page.get_by_text("The file is too large: more than 1 MiB are refused").first.wait_for()
    visit.errors[:] = [text for text in visit.errors if "413" not in text]  # the answer that refuses it


def test_a_file_that_is_no_picture_is_refused_in_words(visit, tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(b"no picture")
    upload(visit.page, path)
    visit.page.locator("#faces .notice", has_text="cannot be read as a picture").wait_for()


def test_the_maps_are_explained_on_a_page_of_their_own(visit):
    visit.page.get_by_role("tab", name="What the maps mean").click()
    text = visit.page.get_by_role("tabpanel").filter(has_text="Their limits").inner_text()
    for method in METHODS.values():
        assert method.title in text
        assert method.caution in text
    assert accessibility_findings(visit.page) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone_in_light_and_dark(site, browser, scheme):
    with open_page(browser, site, width=390, height=844, color_scheme=scheme) as visit:
        visit.page.get_by_role("button", name="Example: four drawn faces").click()
        explained(visit.page)
        at_rest(visit.page)
        assert overflow(visit.page) <= 0
        paper = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert paper == {"light": "rgb(251, 250, 248)", "dark": "rgb(20, 23, 28)"}[scheme]
        assert accessibility_findings(visit.page) == []
        assert visit.errors == []
