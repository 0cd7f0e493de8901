"""The explanation gallery: one face is one card, with every run that explained it and every method side by side."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from config import EMOTIONS
from ferlib.evaluation.saved_runs import ModelReport
from ferlib.explanations.maps import color_limit, locate
from ferlib.explanations.methods import METHODS
from ferlib.explanations.records import Target
from ferlib.explanations.region_words import describe_expected, list_regions
from ferlib.explanations.specs import Method
from ferlib.figures.pool import key_of
from ferlib.report.faces import FaceStore, face_key
from ferlib.report.pictures import Picture, drawn_values, face_picture, map_picture
from ferlib.runtime.arrays import DamagedError, read_npz
from ferlib.runtime.shapes import is_number
from ferlib.runtime.terminal import counted


@dataclass(frozen=True)
class Scale:
    """A map in colours."""

    kind: str  # "shared" by all maps of the method of a face, or "own"
    map_uri: str
    limit: float  # the value of full colour


@dataclass(frozen=True)
class Tile:
    """One method's explanation of a face to one run."""

    method: str  # a row of METHODS
    target: str  # the explained class
    facts: tuple[tuple[str, float], ...]
    scales: tuple[Scale, ...]  # one, or two where other runs' maps are larger; none: maps.npz is gone, or too old
    doubt: str  # why the map cannot be read
    place: str  # where the map is strongest, in words
    words: str  # what the explanation says, of methods that have words
    regions: tuple[tuple[str, str, str], ...]  # of methods with named ones: name, value, expected action units
    expected: str  # what these are
    figure: str | None  # address of the drawn figure, relative to the page


@dataclass(frozen=True)
class Answer:
    """One run's prediction of a face, and its explanations."""

    model: ModelReport
    predicted: str
    correct: bool
    confidence: float  # of the predicted class
    probabilities: list[float]
    zoom: float  # side of the face over that of its central square, which is the model's input
    tiles: tuple[Tile, ...]


@dataclass(frozen=True)
class Card:
    """A face that some run was explained on."""

    id: str
    key: tuple  # of its thumbnail
    index: int
    name: str
    true: str
    face: Picture | None  # None: the decoded data set is not in the cache
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class Explained:
    """A face in a summary, with its map."""

    model: ModelReport
    method: str
    summary: dict[str, Any]
    face: dict[str, Any]
    map: np.ndarray | None
    figure: Path | None  # None also for one of other settings, which a run that was interrupted had drawn


def build_gallery(models: Iterable[ModelReport], faces: FaceStore, page_dir: Path, left_out: list[str]) -> list[Card]:
    """A card for every explained face, in the order of the test split; links are relative to `page_dir`.

    left_out: gets a line on each file of maps that is damaged.
    """
    found: dict[tuple, list[Explained]] = {}
    for model in models:
        for explained in explained_faces(model, left_out):
            key = (*face_key(model, explained.face["index"]), explained.face["name"])
            found.setdefault(key, []).append(explained)
    order = sorted(found, key=lambda key: (key[2], str(key)))
    return [make_card(f"{number}", found[key], faces, page_dir) for number, key in enumerate(order)]


def explained_faces(model: ModelReport, left_out: list[str]) -> Iterator[Explained]:
    """Every face of every summary of a run, with its map where the maps are there."""
    for method, summary in model.explanations.items():
        if not summary:
            continue
        maps = read_maps(model, method, left_out)
        drawn = [figure_path(model, method, face) for face in summary["faces"]]
        wanted = summary.get("settings_digest", "")  # "": of an earlier version
        own = [path and (not wanted or key_of(path).startswith(wanted)) for path in drawn]
        if others := own.count(False):
            what = f"{counted(others, 'figure')} of {METHODS[method].title} of {model.run.name}"
            command = model.command(METHODS[method].script)
            left_out.append(f"{what} left out, as of other settings than the summary; run: {command}")
        figures = [path if fits else None for path, fits in zip(drawn, own, strict=True)]
        for face, figure in zip(summary["faces"], figures, strict=True):
            yield Explained(model, method, summary, face, maps.get((face["index"], face["target"])), figure)


def read_maps(model: ModelReport, method: str, left_out: list[str]) -> dict[tuple[int, str], np.ndarray]:
    """Index of a face and what is explained → its map H×W; empty where the file is gone or damaged, with a line in
    `left_out`.
    """
    path = model.run.explanation_maps(method)
    try:
        arrays = read_npz(path, ("indices", "targets", "against", "maps"))
        numbers = [arrays[name] for name in ("indices", "targets", "against")]
        if (
            arrays["maps"].ndim != 3
            or arrays["maps"].dtype.kind != "f"
            or any(each.dtype.kind != "i" for each in numbers)
        ):
            raise DamagedError(f"{path} does not hold maps N×H×W")
        if not all(len(each) == len(arrays["maps"]) and each.max(initial=0) < len(EMOTIONS) for each in numbers[1:]):
            raise DamagedError(f"{path} does not hold a class for each map")
        wanted = model.explanations[method].get("settings_digest")
        if wanted and str(arrays.get("settings", wanted)) != wanted:
            raise DamagedError(f"{path} is of other settings than the summary beside it")
    except FileNotFoundError:
        return {}
    except DamagedError as error:
        command = model.command(METHODS[method].script)
        left_out.append(f"maps are left out: {error}; run: {command}")
        return {}
    rows = zip(*(each.tolist() for each in numbers), arrays["maps"], strict=True)
    return {
        (index, Target(label, None if against < 0 else against).name): values for index, label, against, values in rows
    }


# ── cards ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def make_card(number: str, found: list[Explained], faces: FaceStore, page_dir: Path) -> Card:
    """The card of one face from all explanations of it."""
    first = found[0]
    index, name = first.face["index"], first.face["name"]
    pixels = faces.pixels(first.model, index, name)
    shared = shared_limits(found)
    by_model: dict[str, list[Explained]] = {}
    for explained in found:
        by_model.setdefault(explained.model.run.name, []).append(explained)
    return Card(
        id=number,
        key=face_key(first.model, index),
        index=index,
        name=name,
        true=first.face["true"] or "unknown",
        face=None if pixels is None else face_picture(pixels),
        answers=tuple(make_answer(group, page_dir, shared) for group in by_model.values()),
    )


def shared_limits(found: list[Explained]) -> dict[str, float]:
    """Method → the value of full colour of all its maps of a face."""
    limits: dict[str, float] = {}
    for each in found:
        if each.map is not None:
            method = METHODS[each.method]
            limit = color_limit(drawn_values(each.map, method.summed), method.quantile)
            limits[each.method] = max(limit, limits.get(each.method, 0))
    return limits


def make_answer(found: list[Explained], page_dir: Path, shared: dict[str, float]) -> Answer:
    """What the page shows of one run's explanations of a face."""
    face = found[0].face
    return Answer(
        model=found[0].model,
        predicted=face["predicted"],
        correct=face["true"] == face["predicted"],
        confidence=max(face["probabilities"]),
        probabilities=face["probabilities"],
        zoom=round(found[0].summary["scaled_size"] / found[0].summary["image_size"], 4),
        tiles=tuple(make_tile(explained, page_dir, shared) for explained in found),
    )


def make_tile(explained: Explained, page_dir: Path, shared: dict[str, float]) -> Tile:
    """What the page shows of one method."""
    method, face, values = METHODS[explained.method], explained.face, explained.map
    units = face.get("expected_units")  # missing: other methods, and summaries of earlier versions
    return Tile(
        method=explained.method,
        target=face["target"],
        facts=tuple((name, face[key]) for key, name in method.facts.items() if is_number(face.get(key))),
        scales=() if values is None else make_scales(values, method, shared[explained.method]),
        doubt=find_doubt(method, face),
        place="" if values is None else locate(values),
        words=str(face.get("words", "")),
        regions=() if units is None else list_regions(face.get("values", {}), units),
        expected="" if units is None else describe_expected(face["target"], units),
        figure=link(explained.figure, page_dir),
    )


def make_scales(values: np.ndarray, method: Method, shared: float) -> tuple[Scale, ...]:
    """The map in the scale of all maps of the method, and in its own where that differs."""
    drawn = drawn_values(values, method.summed)
    limits = {"shared": shared, "own": color_limit(drawn, method.quantile)}
    if limits["own"] == shared:
        del limits["own"]
    return tuple(Scale(kind, map_picture(drawn, method.signed, limit), limit) for kind, limit in limits.items())


def find_doubt(method: Method, face: dict[str, Any]) -> str:
    """Why a map cannot be read; "" for summaries of earlier versions, which lack the facts, and damaged ones."""
    try:
        return method.doubts(face)
    except (KeyError, TypeError, ValueError):
        return ""


def figure_path(model: ModelReport, method: str, face: dict[str, Any]) -> Path | None:
    """Where the drawn figure lies; None where there is none, as with --no-figures."""
    path = model.run.explanations(method) / Path(face["figure"]).name if face["figure"] else None
    return path if path and path.exists() else None


def link(path: Path | None, page_dir: Path) -> str | None:
    """The address of a file relative to the page's folder; None where there is no such file."""
    return quote(Path(os.path.relpath(path, page_dir)).as_posix()) if path and path.exists() else None


def used_methods(cards: Iterable[Card]) -> dict[str, Method]:
    """The methods of which there is a map or a figure, in the order of METHODS."""
    used = {tile.method for card in cards for answer in card.answers for tile in answer.tiles}
    return {name: method for name, method in METHODS.items() if name in used}
