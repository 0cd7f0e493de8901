"""The answers to the page's events: a photo, a face that is chosen, an explanation."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr
import numpy as np
from gradio.data_classes import ImageData

from config import EMOTIONS
from ferlib.explanations.crops import explain_crops
from ferlib.explanations.methods import find_method
from ferlib.faces.face_model import FaceModel
from ferlib.runtime.errors import UserError
from ferlib.webpage import views
from ferlib.webpage.examples import make_examples
from ferlib.webpage.photo_results import PhotoResult, predict_upload
from ferlib.webpage.resources import Resources
from ferlib.webpage.settings import count_faces, own_settings

PREDICTED = "the predicted one"  # the choice of class that stands for the predicted one


def uploaded_path(payload: ImageData | None) -> str | None:
    """Replaces the preprocessing of gr.Image, which decodes files of any size and fails without a message."""
    return payload.path if payload else None


def answer_example(event: gr.EventData) -> np.ndarray:
    """The example that was clicked."""
    examples = list(make_examples().values())
    return examples[int(event.number) % len(examples)]


def answer_photo(path: str | None, model: str, detector: str, resources: Resources) -> tuple:
    """Result, chosen face, photo with its faces, probabilities, explanation, the row of explanations."""
    if path is None:
        return None, 0, views.show_welcome(), "", "", gr.Row(visible=False)
    try:
        result = predict_upload(path, model, detector, resources)
    except UserError as error:
        gr.Warning(views.as_sentence(str(error)), title="No result")
        return None, 0, views.show_message(str(error)), "", "", gr.Row(visible=False)
    shown = views.show_faces(result, 0), views.show_probabilities(result, 0)
    return result, 0, *shown, gr.skip(), gr.Row(visible=True)


def answer_choice(result: PhotoResult | None, event: gr.EventData) -> tuple:
    """Chosen face, photo with its faces, probabilities, of the face that was clicked."""
    if result is None:
        return gr.skip(), gr.skip(), gr.skip()
    chosen = min(max(int(event.number), 0), len(result.faces) - 1)
    return chosen, views.show_faces(result, chosen), views.show_probabilities(result, chosen)


def answer_explain(
    result: PhotoResult | None,
    chosen: int,
    model: str,
    method: str,
    target: str,
    progress: gr.Progress = gr.Progress(),  # noqa: B008 — Gradio looks for such a default
    *values: Any,
    resources: Resources,
) -> str:
    """The explanation of the chosen face; `values` are those of all methods' settings, in the order of SETTINGS."""
    if result is None:
        return views.show_message("The photo was deleted after some time without use. Upload it again.")
    code = result.code(chosen) if target == PREDICTED else EMOTIONS.index(target)
    settings = own_settings(method, values)
    start = time.perf_counter()
    try:
        network = resources.open_model(model)
        with progress_shown(network, method, count_faces(settings), progress):
            maps = explain_crops(network, result.crops[[chosen]], method, [code], **settings)
    except UserError as error:
        gr.Warning(views.as_sentence(str(error)), title="No explanation")
        return views.show_message(str(error))
    return views.show_explanation(result, chosen, maps[0], method, code, time.perf_counter() - start)


@contextmanager
def progress_shown(network: FaceModel, method: str, total: int | None, progress: gr.Progress) -> Iterator[None]:
    """Shows how many faces the network has computed during the block, and of how many where that is known."""
    done = 0

    def count(_module: Any, inputs: tuple) -> None:
        nonlocal done
        progress((min(done, total or done), total), desc=find_method(method).title, unit="faces")
        done += len(inputs[0])

    handles = [part.register_forward_pre_hook(count) for part in (network.fast, network.plain)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
