"""The page built of Gradio's components, with its events."""

from __future__ import annotations

from functools import partial
from typing import Any

import gradio as gr

from config import EMOTIONS
from ferlib.explanations.methods import METHODS
from ferlib.explanations.specs import Setting
from ferlib.faces.detectors import DETECTORS
from ferlib.webpage import views
from ferlib.webpage.answers import (
    PREDICTED,
    answer_choice,
    answer_example,
    answer_explain,
    answer_photo,
    uploaded_path,
)
from ferlib.webpage.examples import make_examples
from ferlib.webpage.resources import Resources
from ferlib.webpage.results import Results
from ferlib.webpage.settings import SETTINGS, describe_setting, list_choices
from ferlib.webpage.uploads import Uploads

STRENGTH = 100  # percent, as in app.css
FIRST = "hirescam"  # the method that is chosen at first


def make_page(resources: Resources, results: Results, uploads: Uploads) -> gr.Blocks:
    """The page with its events."""
    with gr.Blocks(title="Facial expressions, explained", analytics_enabled=False) as page:
        gr.HTML(views.show_head(uploads.keep_seconds))
        with gr.Tab("Photo"):
            make_photo_tab(resources, results, uploads)
        with gr.Tab("What the maps mean"):
            gr.Markdown(views.show_meaning(), elem_classes="meaning")
    return page


def make_photo_tab(resources: Resources, results: Results, uploads: Uploads) -> None:
    """The tab of a photo: inputs, faces, probabilities, controls and explanation, and how events change them."""
    token, chosen = gr.State(), gr.State(0)  # the token of a result
    with gr.Row():
        with gr.Column(scale=4, min_width=300):
            photo, model, detector = make_inputs(resources)
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

    one_at_a_time = {"concurrency_id": "network", "concurrency_limit": 1, "api_visibility": "private"}
    explained = {
        "fn": partial(answer_explain, resources=resources, results=results),
        "inputs": [token, chosen, method, target, *settings],
        "outputs": explanation,
        **one_at_a_time,
    }
    shown = [token, chosen, faces, probabilities, explanation, below]
    changed = [photo.change, model.input, detector.input]
    predict = partial(answer_photo, resources=resources, results=results, uploads=uploads)
    predicted = gr.on(
        changed, predict, [photo, token, model, detector], shown, show_progress="minimal", **one_at_a_time
    )
    predicted.then(**explained)
    marked = [chosen, faces, probabilities]

    def choose(token: str | None, event: gr.EventData) -> tuple:  # Gradio finds the event by its annotation
        return answer_choice(token, event.number, results)

    faces.select(choose, token, marked, show_progress="hidden", **one_at_a_time).then(**explained)
    method.input(show_settings, method, groups, show_progress="hidden", api_visibility="private").then(**explained)
    target.input(**explained, trigger_mode="always_last")  # a class chosen meanwhile is not lost
    explain.click(**explained)


def make_inputs(resources: Resources) -> tuple[gr.Image, gr.Dropdown, gr.Dropdown]:
    """Photo, model and detector."""
    photo = gr.Image(label="Photo", sources=["upload", "webcam", "clipboard"], height=260, buttons=[])
    photo.preprocess = uploaded_path
    shown = views.show_examples(make_examples())
    examples = gr.HTML(shown, js_on_load=views.read_template("pick.js"), elem_id="examples")
    examples.select(answer_example, None, photo, show_progress="hidden", api_visibility="private")
    with gr.Accordion("Model and detector", open=False):
        model = gr.Dropdown(list(resources.models), value=resources.first_model, label="Model (accuracy on val)")
        detectors = [("automatic", "auto"), *((row.title, name) for name, row in DETECTORS.items())]
        detector = gr.Dropdown(detectors, value=resources.detector, label="Face detector")
    return photo, model, detector


def make_controls() -> tuple[gr.Dropdown, gr.Dropdown, list[gr.Group], list[gr.components.Component], gr.Button]:
    """Method, class to explain, a group of settings per row of SETTINGS, all settings in one list, the button."""
    methods = [(row.title, row.name) for row in METHODS.values()]
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


def make_setting(row: Setting) -> gr.components.Component:
    """A slider, or a list; that of a baseline also takes a number."""
    info = describe_setting(row)
    if choices := list_choices(row):
        other = row.name == "baseline"
        return gr.Dropdown(
            choices, value=row.default, label=row.label, info=info, filterable=other, allow_custom_value=other
        )
    low, high, step = row.slider or (0, 1, 0.1)
    return gr.Slider(low, high, row.default, step=step, label=row.label, info=info, buttons=[])


def show_settings(method: str) -> list[dict[str, Any]]:
    """Only the settings of the chosen method are shown."""
    return [gr.update(visible=owner == method) for owner in SETTINGS]
