"""A page for photos and the webcam, on this computer only: python app.py, then open http://127.0.0.1:7860"""

from __future__ import annotations

import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import tyro
from gradio.data_classes import ImageData
from PIL import Image

from config import EMOTIONS, App
from ferlib.faces.crops import crop_face
from ferlib.faces.detectors import DETECTORS, open_detector
from ferlib.faces.face_model import EXPLAINERS, FaceModel, open_face_model, to_grey
from ferlib.faces.photos import read_photo
from ferlib.runtime.errors import UserError, run_script
from ferlib.webpage import views
from ferlib.webpage.examples import make_examples
from ferlib.webpage.methods import PASSES, SETTINGS, Setting, method_facts
from ferlib.webpage.models import find_models
from ferlib.webpage.server import environment, find_port
from ferlib.webpage.theme import make_theme

LONGEST_SIDE = 3000  # of a photo that is kept in memory
PREDICTED = "the predicted one"
STRENGTH = 80  # percent, as in app.css
FIRST = "gradcam"  # the method that is chosen at first
LOCAL = ("127.0.0.1", "localhost")
EMPTIED = 60  # seconds between two looks for uploads that are too old

open_model = lru_cache(maxsize=3)(open_face_model)  # a choice of another model and back costs nothing
open_detector_once = lru_cache(maxsize=3)(open_detector)


# ── answers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def uploaded_path(payload: ImageData | None) -> str | None:
    """Stands in for the preprocessing of gr.Image, which decodes files of any size and fails without words."""
    return payload.path if payload else None


def read_faces(path: str, model: str, detector: str, flags: App, models: dict[str, Path]) -> views.Reading:
    """Finds the faces of a photo and what the model makes of each; UserError where there is none."""
    photo = shrink(read_photo(path, "this picture", flags.max_pixels).pixels)
    network = open_model(checkpoint=models[model], device=flags.device)
    weights = flags.detector_weights if detector == flags.detector else None
    faces = open_detector_once(detector, weights)(photo)
    if not faces:
        raise UserError(
            "No face was found in this picture. Take one in which a face looks towards the camera, upright and well "
            "lit, or try another detector under “Model and detector”."
        )
    crops = np.stack([crop_face(photo, face, network.crop_size) for face in faces])
    seen = np.repeat(to_grey(crops), 3, axis=3) if network.grey else crops
    return views.Reading(photo, tuple(faces), seen, unseen_margin(network), network.probabilities(crops), network.label)


def shrink(photo: np.ndarray) -> np.ndarray:
    """The photo, at most LONGEST_SIDE pixels a side, as it is kept in memory."""
    picture = Image.fromarray(photo)
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    return np.asarray(picture)


def unseen_margin(network: FaceModel) -> int:
    """Pixels at each border of a crop that the model, which looks at its centre, does not see."""
    spec = network.spec
    return round((spec.scaled_size - spec.image_size) / 2 * network.crop_size / spec.scaled_size)


def answer_example(event: gr.EventData) -> np.ndarray:
    """The picture that was clicked."""
    examples = list(make_examples().values())
    return examples[int(event.number) % len(examples)]


def answer_photo(path: str | None, model: str, detector: str, flags: App, models: dict[str, Path]) -> tuple:
    """reading, chosen face, photo with its faces, probabilities, explanation, the row of explanations."""
    if path is None:
        return None, 0, views.show_welcome(), "", "", gr.Row(visible=False)
    try:
        reading = read_faces(path, model, detector, flags, models)
    except UserError as error:
        gr.Warning(views.as_sentence(str(error)), title="No result")
        return None, 0, views.show_message(str(error)), "", "", gr.Row(visible=False)
    shown = views.show_faces(reading, 0), views.show_probabilities(reading, 0)
    return reading, 0, *shown, gr.skip(), gr.Row(visible=True)


def answer_choice(reading: views.Reading | None, event: gr.EventData) -> tuple:
    """chosen face, photo with its faces, probabilities, of the face that was clicked."""
    if reading is None:
        return gr.skip(), gr.skip(), gr.skip()
    chosen = min(max(int(event.number), 0), len(reading.faces) - 1)
    return chosen, views.show_faces(reading, chosen), views.show_probabilities(reading, chosen)


def answer_explain(
    reading: views.Reading | None,
    chosen: int,
    model: str,
    method: str,
    target: str,
    progress: gr.Progress = gr.Progress(),  # noqa: B008 — Gradio looks for such a default
    *values: Any,
    flags: App,
    models: dict[str, Path],
) -> str:
    """The explanation of the chosen face; `values` are those of all methods' settings, in the order of SETTINGS."""
    if reading is None:
        return views.show_message("There is no photo any more: it was forgotten. Give it again.")
    label = reading.top(chosen) if target == PREDICTED else EMOTIONS.index(target)
    settings = own_settings(method, values)
    start = time.perf_counter()
    try:
        network = open_model(checkpoint=models[model], device=flags.device)
        with counted(network, method, settings, progress):
            maps = network.explain(reading.crops[[chosen]], method, [label], **settings)
    except UserError as error:
        gr.Warning(views.as_sentence(str(error)), title="No explanation")
        return views.show_message(str(error))
    return views.show_explanation(reading, chosen, maps[0], method, label, time.perf_counter() - start)


@contextmanager
def counted(network: FaceModel, method: str, settings: dict[str, Any], progress: gr.Progress) -> Iterator[None]:
    """Shows how many faces the network has been asked about, and of how many where that is known."""
    total, done = settings.get(PASSES.get(method, "")), 0

    def count(_module: Any, inputs: tuple) -> None:
        nonlocal done
        progress((min(done, total or done), total), desc=method_facts(method).title, unit="faces")
        done += len(inputs[0])

    handles = [part.register_forward_pre_hook(count) for part in (network.fast, network.plain)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def own_settings(method: str, values: tuple[Any, ...]) -> dict[str, Any]:
    """flag → value of the settings that belong to the method."""
    flat = [(owner, setting.flag) for owner, settings in SETTINGS.items() for setting in settings]
    return {flag: value for (owner, flag), value in zip(flat, values, strict=True) if owner == method}


# ── the page ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def make_page(flags: App, models: dict[str, Path]) -> gr.Blocks:
    """The page with its events; `models` as find_models gives them."""
    delete_cache = (EMPTIED, flags.keep_seconds)
    with gr.Blocks(title="Facial expressions, explained", analytics_enabled=False, delete_cache=delete_cache) as page:
        gr.HTML(views.read_template("head.html"))
        with gr.Tab("Photo"):
            make_photo_tab(flags, models)
        with gr.Tab("What the maps mean"):
            gr.Markdown(views.read_template("meaning.md"), elem_classes="meaning")
    return page


def make_photo_tab(flags: App, models: dict[str, Path]) -> None:
    reading, chosen = gr.State(time_to_live=flags.keep_seconds), gr.State(0)
    with gr.Row():
        with gr.Column(scale=4, min_width=300):
            photo, model, detector = make_inputs(flags, models)
        with gr.Column(scale=9, min_width=300), gr.Row():
            pick = views.read_template("pick.js")
            with gr.Column(scale=5, min_width=300):
                faces = gr.HTML(views.show_welcome(), js_on_load=pick, elem_id="faces")
            with gr.Column(scale=4, min_width=300):
                probabilities = gr.HTML(elem_id="probabilities")
    with gr.Row(visible=False) as below:
        with gr.Column(scale=4, min_width=300):
            method, target, groups, settings, explain = make_controls()
        with gr.Column(scale=9, min_width=300):
            explanation = gr.HTML(elem_id="explanation")

    bound = {"flags": flags, "models": models}
    one_at_a_time = {"concurrency_id": "network", "concurrency_limit": 1, "api_visibility": "private"}
    explained = {
        "fn": partial(answer_explain, **bound),
        "inputs": [reading, chosen, model, method, target, *settings],
        "outputs": explanation,
        **one_at_a_time,
    }
    results = [reading, chosen, faces, probabilities, explanation, below]
    asked = [photo.change, model.input, detector.input]
    look = partial(answer_photo, **bound)
    gr.on(asked, look, [photo, model, detector], results, show_progress="minimal", **one_at_a_time).then(**explained)
    marked = [chosen, faces, probabilities]
    faces.select(answer_choice, reading, marked, show_progress="hidden", **one_at_a_time).then(**explained)
    method.input(show_settings, method, groups, show_progress="hidden", api_visibility="private").then(**explained)
    target.input(**explained)
    explain.click(**explained)


def make_inputs(flags: App, models: dict[str, Path]) -> tuple[gr.Image, gr.Dropdown, gr.Dropdown]:
    """Photo, model and detector."""
    photo = gr.Image(label="Photo", sources=["upload", "webcam", "clipboard"], height=260, buttons=[])
    photo.preprocess = uploaded_path
    shown = views.show_examples(make_examples())
    examples = gr.HTML(shown, js_on_load=views.read_template("pick.js"), elem_id="examples")
    examples.select(answer_example, None, photo, show_progress="hidden", api_visibility="private")
    with gr.Accordion("Model and detector", open=False):
        model = gr.Dropdown(list(models), value=next(iter(models)), label="Model (accuracy on val)")
        detectors = [("automatic", "auto"), *((row.title, name) for name, row in DETECTORS.items())]
        detector = gr.Dropdown(detectors, value=flags.detector, label="Face detector")
    return photo, model, detector


def make_controls() -> tuple[gr.Dropdown, gr.Dropdown, list[gr.Group], list[gr.Component], gr.Button]:
    """Method, class to explain, a group of settings per row of SETTINGS, all settings in one list, the button."""
    methods = [(method_facts(name).title, name) for name in EXPLAINERS]
    method = gr.Dropdown(methods, value=FIRST, label="Explained by", filterable=False)
    target = gr.Dropdown([PREDICTED, *EMOTIONS], value=PREDICTED, label="Class to explain", filterable=False)
    groups, settings = [], []
    for owner, rows in SETTINGS.items():
        with gr.Group(visible=owner == FIRST) as group:
            settings += [make_setting(row) for row in rows]
        groups.append(group)
    explain = gr.Button("Explain again", variant="primary")
    strength = gr.Slider(0, 100, STRENGTH, step=5, label="Strength of the map over the face", buttons=[])
    strength.input(None, strength, js=views.read_template("strength.js"), api_visibility="private")
    return method, target, groups, settings, explain


def make_setting(row: Setting) -> gr.Component:
    if row.choices:
        return gr.Dropdown(list(row.choices), value=row.value, label=row.label, info=row.info, filterable=False)
    return gr.Slider(row.low, row.high, row.value, step=row.step, label=row.label, info=row.info, buttons=[])


def show_settings(method: str) -> list[dict[str, Any]]:
    """Only the settings of the chosen method are shown."""
    return [gr.update(visible=owner == method) for owner in SETTINGS]


# ── serving ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def running(flags: App) -> Iterator[str]:
    """The address of the page while it is served; its folder of uploads is gone afterwards."""
    port, models = find_port(flags.host, flags.port), find_models(flags)
    open_detector_once(flags.detector, flags.detector_weights)  # what is missing is said now, not beside a photo
    open_model(checkpoint=next(iter(models.values())), device=flags.device)
    with tempfile.TemporaryDirectory(prefix="expressions-") as folder, environment(folder, flags.host):
        page = make_page(flags, models)
        _, address, _ = page.launch(
            server_name=flags.host,
            server_port=port,
            max_file_size=round(flags.max_upload_mb * 2**20),
            theme=make_theme(),
            css_paths=[views.TEMPLATES / "app.css"],
            share=False,
            inbrowser=flags.open,
            footer_links=[],
            run_history=False,
            enable_monitoring=False,
            ssr_mode=False,
            quiet=True,
            prevent_thread_lock=True,
        )
        try:
            yield address
        finally:
            page.close(verbose=False)


def serve(flags: App) -> None:
    """Serves the page until ctrl-C or the end of the process."""
    if min(flags.max_upload_mb, flags.max_pixels, flags.keep_seconds) <= 0:
        raise UserError("--max-upload-mb, --max-pixels and --keep-seconds must be above 0")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that the folder of uploads is removed then, too
    with running(flags) as address:
        print(f"open {address} in a browser; ctrl-C ends it")
        if flags.host not in LOCAL:
            print("whoever can reach this computer over the network can use the page; browsers give it no camera there")
        with suppress(KeyboardInterrupt):
            threading.Event().wait()
    print("\nended; no photo was kept")


def main() -> None:
    serve(tyro.cli(App))


if __name__ == "__main__":
    run_script(main)
