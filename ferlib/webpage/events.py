"""What an event of the page may hold: a function of the page, and for each of its inputs a value of its control."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any

import gradio as gr

from ferlib.webpage.refusals import Refusal
from ferlib.webpage.uploads import MISSING, Uploads

SESSION = re.compile(r"[\w-]{1,64}", re.ASCII)
LARGEST_NUMBER = 10_000  # of a face or an example
LONGEST_TEXT = 64  # characters of a value that is typed into a list
UNREADABLE = "This request cannot be read; load the page again."


def check_event(body: bytes, page: gr.Blocks, uploads: Uploads) -> tuple[str, bytes]:
    """The session of an event and its body as the page itself would send it; Refusal for what the page cannot send.

    Gradio checks neither paths without `meta` nor types, numbers of inputs and event data.
    """
    event = read_event(body)
    function = page.fns.get(whole_number(event.get("fn_index")))
    session, values = event.get("session_hash"), event.get("data")
    if function is None or function.fn is None:
        raise Refusal(400, "This page has no such function; load it again.")
    if not isinstance(session, str) or not SESSION.fullmatch(session):
        raise Refusal(400, UNREADABLE)
    if not isinstance(values, list) or len(values) != len(function.inputs):
        raise Refusal(400, UNREADABLE)
    checked = {
        "fn_index": event["fn_index"],
        "session_hash": session,
        "trigger_id": None if event.get("trigger_id") is None else whole_number(event["trigger_id"]),
        "data": [check_value(value, control, uploads) for value, control in zip(values, function.inputs, strict=True)],
        "event_data": check_choice(event.get("event_data")) if function.collects_event_data else None,
    }
    return session, json.dumps(checked, allow_nan=False).encode()


def read_event(body: bytes) -> dict[str, Any]:
    """An event's JSON object."""
    try:
        event = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, UNREADABLE) from error
    if not isinstance(event, dict):
        raise Refusal(400, UNREADABLE)
    return event


def whole_number(value: Any) -> int:
    """A whole number from 0 on."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= LARGEST_NUMBER:
        raise Refusal(400, UNREADABLE)
    return value


def check_choice(data: Any) -> dict[str, int]:
    """The face or the example that was clicked."""
    if not isinstance(data, dict):
        raise Refusal(400, UNREADABLE)
    return {"number": whole_number(data.get("number"))}


# ── values of controls ───────────────────────────────────────────────────────────────────────────────────────────────


def check_value(value: Any, control: Any, uploads: Uploads) -> Any:
    """A value as the control gives it; Refusal for others."""
    if isinstance(control, gr.Image):
        return check_picture(value, uploads)
    return CHECKS[type(control)](value, control)


def check_picture(value: Any, uploads: Uploads) -> dict[str, str] | None:
    """None, or the path of an upload; without `meta`, by which Gradio would copy the file."""
    if value is None:
        return None
    path = uploads.find(value.get("path")) if isinstance(value, dict) else None
    if path is None:
        raise Refusal(400, MISSING)
    return {"path": str(path)}


def check_state(_value: Any, _control: Any) -> None:
    """The value of a state stays on the server."""


def check_listed(value: Any, control: Any) -> str:
    """A choice of a list; where the list takes others, a short text, which the method checks."""
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        raise Refusal(400, f"“{control.label}” has no such choice.")
    if value in [choice for _, choice in control.choices]:
        return str(value)
    if not control.allow_custom_value or len(str(value)) > LONGEST_TEXT or not str(value).isprintable():
        raise Refusal(400, f"“{control.label}” has no such choice.")
    return str(value)


def check_slider(value: Any, control: Any) -> int | float:
    """A number in a slider's range; a whole one where its steps are whole."""
    low, high, step = control.minimum, control.maximum, control.step
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not low <= value <= high:
        raise Refusal(400, f"“{control.label}” is a number from {low:g} to {high:g}.")
    return round(value) if float(step).is_integer() else float(value)


CHECKS: dict[type, Callable[[Any, Any], Any]] = {
    gr.State: check_state,
    gr.Dropdown: check_listed,
    gr.Slider: check_slider,
}
