"""The answers to the page's events: a photo, a face that is chosen, an explanation."""

from __future__ import annotations

import html
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import gradio as gr
import numpy as np
import torch
from gradio.data_classes import ImageData

from config import EMOTIONS
from ferlib.explanations.crops import explain_faces
from ferlib.explanations.methods import find_method
from ferlib.explanations.records import Attribution
from ferlib.faces.face_model import FaceModel
from ferlib.runtime.errors import UserError
from ferlib.runtime.terminal import printable
from ferlib.webpage import views
from ferlib.webpage.computations import TOO_LONG
from ferlib.webpage.examples import make_examples
from ferlib.webpage.photo_results import predict_upload
from ferlib.webpage.resources import Resources
from ferlib.webpage.results import Results
from ferlib.webpage.settings import count_faces, own_settings
from ferlib.webpage.uploads import MISSING, Uploads

PREDICTED = "the predicted one"  # the choice of class that stands for the predicted one


def uploaded_path(payload: ImageData | None) -> str | None:
    """Replaces the preprocessing of gr.Image, which decodes files of any size and fails without a message."""
    return payload.path if payload else None


def answer_example(event: gr.EventData) -> np.ndarray:
    """The example that was clicked."""
    examples = list(make_examples().values())
    return examples[int(event.number) % len(examples)]


def answer_photo(
    path: str | None,
    token: str | None,
    model: str,
    detector: str,
    *,
    resources: Resources,
    results: Results,
    uploads: Uploads,
) -> tuple:
    """Token of the result, chosen face, photo with its faces, probabilities, explanation, the row of explanations."""
    results.forget(token)
    if path is None:
        return None, 0, views.show_welcome(), "", "", gr.Row(visible=False)
    upload = uploads.find(path)  # once more: it may have been deleted while the event waited
    try:
        if upload is None:
            raise UserError(MISSING)
        with explained_faults():
            result = resources.computations.run(lambda: predict_upload(str(upload), model, detector, resources))
    except UserError as error:
        gr.Warning(html.escape(views.as_sentence(str(error)), quote=False), title="No result")
        return None, 0, views.show_message(str(error)), "", "", gr.Row(visible=False)
    shown = views.show_faces(result, 0), views.show_probabilities(result, 0)
    return results.add(result), 0, *shown, gr.skip(), gr.Row(visible=True)


def answer_choice(token: str | None, number: int, results: Results) -> tuple:
    """Chosen face, photo with its faces, probabilities, of the face that was clicked."""
    result = results.find(token)
    if result is None:
        return gr.skip(), gr.skip(), gr.skip()
    chosen = min(number, len(result.faces) - 1)
    return chosen, views.show_faces(result, chosen), views.show_probabilities(result, chosen)


def answer_explain(
    token: str | None,
    chosen: int,
    method: str,
    target: str,
    progress: gr.Progress = gr.Progress(),  # noqa: B008 — Gradio looks for such a default
    *values: Any,
    resources: Resources,
    results: Results,
) -> str:
    """The explanation of the chosen face by the network that predicted it.

    `values` are those of all methods' settings, in the order of SETTINGS.
    """
    result = results.find(token)
    if result is None:
        return views.show_message("The photo was deleted after some time without use. Upload it again.")
    if resources.state_of(result.chosen) != result.state:
        return views.show_message("The model was trained again since. Choose the photo again.")
    chosen = min(chosen, len(result.faces) - 1)
    code = result.code(chosen) if target == PREDICTED else EMOTIONS.index(target)
    start = time.perf_counter()
    try:
        with explained_faults():
            compute = partial(
                compute_map, result.crops[[chosen]], result.chosen, method, code, values, progress, resources
            )
            found = resources.computations.run(compute)
    except UserError as error:
        gr.Warning(html.escape(views.as_sentence(str(error)), quote=False), title="No explanation")
        return views.show_message(str(error))
    return views.show_explanation(result, chosen, found, method, code, time.perf_counter() - start)


def compute_map(
    crop: np.ndarray,
    model: str,
    method: str,
    code: int,
    values: Sequence[Any],
    progress: gr.Progress,
    resources: Resources,
) -> Attribution:
    """The attribution of a crop uint8 1×S×S×3, with a map float32 S×S; UserError where it is not finite."""
    settings = own_settings(method, values)
    network = resources.open_model(model)
    with progress_shown(network, method, count_faces(settings), progress, resources.computations.seconds):
        (found,) = explain_faces(network, crop, method, [code], **settings)
    if not np.isfinite(found.map).all():
        raise UserError("This explanation has no numbers: choose other settings, another method or another model.")
    return found


@contextmanager
def explained_faults() -> Iterator[None]:
    """Turns what this computer cannot do in the block into a UserError."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise UserError(
            "This computer has too little memory for it. Take a smaller picture or fewer samples."
        ) from error
    except OSError as error:
        print(printable(f"note: {error}"), file=sys.stderr)
        raise UserError("A file of the page cannot be read or written; the terminal says which.") from error


@contextmanager
def progress_shown(
    network: FaceModel, method: str, total: int | None, progress: gr.Progress, seconds: float
) -> Iterator[None]:
    """Shows how many faces the network has computed during the block, and of how many where that is known.

    UserError where the block takes longer than `seconds`.
    """
    done, end = 0, time.monotonic() + seconds

    def count(_module: Any, inputs: tuple) -> None:
        nonlocal done
        if time.monotonic() > end:
            raise UserError(TOO_LONG.format(seconds=seconds))
        progress((min(done, total or done), total), desc=find_method(method).title, unit="faces")
        done += len(inputs[0])

    handles = [part.register_forward_pre_hook(count) for part in {network.fast, network.plain, network.passes}]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
