"""A row of the table of methods made a function of images alone: its settings and what it needs of a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import nn

from ferlib.explanations.records import Attribution
from ferlib.explanations.specs import Method
from ferlib.networks.specs import ModelSpec
from ferlib.runtime.errors import lookup

AVERAGED = 100  # faces whose mean is the fill "background"
Explain = Callable[[torch.Tensor, torch.Tensor, Sequence[int]], list[Attribution]]  # images, target weights, seeds


class Network(Protocol):
    """What methods need: a checkpoint of a run (subject.Subject), or one ready for crops (crops.CropNetwork)."""

    @property
    def spec(self) -> ModelSpec:
        """Its specification."""

    @property
    def batch_size(self) -> int:
        """Images in a pass."""

    def plain(self) -> nn.Module:
        """Images → logits, as it was trained."""

    def forward(self, passes: int) -> nn.Module:
        """The same, prepared for so many forward passes of single images a face."""

    def gradients(self) -> nn.Module:
        """The same, prepared for many passes with gradients."""

    @property
    def has_faces(self) -> bool:
        """Whether there are background faces."""

    def background(self, count: int) -> torch.Tensor:
        """Background faces M×C×H×W in 0..1; UserError where there are none."""

    def faces_of(self, label: int, count: int) -> tuple[torch.Tensor, list[str]] | None:
        """At most so many real faces of a class M×C×H×W and their names; None where there is no train split."""


def bind(method: Method, values: Mapping[str, Any], network: Network) -> Explain:
    """(images N×C×H×W in 0..1, target weights N×7, seeds N) → an attribution per face.

    values: all settings of the method.
    """
    if method.network == "forward":
        model = network.forward(method.count_passes(network.spec.image_size, values))
    else:
        model = network.gradients() if method.network == "gradients" else network.plain()
    options = {**method.fixed, **values}
    for need in method.needs:
        options |= PROVIDERS[need](options, network, model)
    function = method.load()

    def explain(images: torch.Tensor, targets: torch.Tensor, seeds: Sequence[int]) -> list[Attribution]:
        return function(model, images, targets, seeds=seeds, batch_size=network.batch_size, **options)

    return explain


def provide_segments(options: dict[str, Any], network: Network, _model: nn.Module) -> dict[str, Any]:
    """The keyword `segments`, from the settings of a segmentation."""
    from ferlib.explanations.superpixels import segmenter  # skimage is loaded for it

    names = ("segmentation", "regions", "kernel_size", "max_dist", "ratio", "segmentation_side")
    share = network.spec.image_size / network.spec.scaled_size
    return {"segments": segmenter(**{name: options.pop(name) for name in names}, share=share)}


def provide_background(options: dict[str, Any], network: Network, model: nn.Module) -> dict[str, Any]:
    """The keyword `background`, of `background_size` faces."""
    from ferlib.explanations.shap import make_background

    images = network.background(options.pop("background_size"))
    return {"background": make_background(model, images, network.batch_size)}


def provide_cells(options: dict[str, Any], network: Network, model: nn.Module) -> dict[str, Any]:
    """The keyword `cells`, of the module at `layer`; UserError that lists the valid ones."""
    from ferlib.explanations.cam import Cells

    classifier = getattr(model, "classifier", model)
    layers = {path: module for path, module in classifier.named_modules() if path}
    name = options.pop("layer") or network.spec.cam_layer
    return {"cells": Cells(lookup(layers, name, "layer"), network.spec.to_grid, name)}


def provide_passes(_options: dict[str, Any], network: Network, _model: nn.Module) -> dict[str, Any]:
    """The keyword `passes`: the network for many forward passes."""
    return {"passes": network.forward(0)}


def provide_face_regions(options: dict[str, Any], network: Network, model: nn.Module) -> dict[str, Any]:
    """The keywords `place`, `fills` and `find_donor` of the regions of faces."""
    from ferlib.explanations.landmark_detector import open_landmarks
    from ferlib.explanations.region_fills import make_fills, placer
    from ferlib.explanations.transplants import donor_finder

    averaged = network.has_faces or options["baseline"] == "background"
    place = placer(open_landmarks(), network.spec.image_size / network.spec.scaled_size, options["partition"])
    return {
        "place": place,
        "fills": make_fills(options["baseline"], place, (lambda: network.background(AVERAGED)) if averaged else None),
        "find_donor": donor_finder(model, place, network.faces_of, network.batch_size),
    }


def provide_scoring(name: str) -> Callable[[dict[str, Any], Network, nn.Module], dict[str, Any]]:
    """A keyword of a stage of scoring, by the function provide_… of scores/setup.py, which imports this module."""

    def provide(options: dict[str, Any], network: Network, model: nn.Module) -> dict[str, Any]:
        from ferlib.explanations.scores import setup

        return getattr(setup, f"provide_{name}")(options, network, model)

    return provide


PROVIDERS: dict[str, Callable[[dict[str, Any], Network, nn.Module], dict[str, Any]]] = {
    "segments": provide_segments,
    "background": provide_background,
    "cells": provide_cells,
    "passes": provide_passes,
    "face_regions": provide_face_regions,
    **{name: provide_scoring(name) for name in ("scorer", "repeats", "stages", "permuted", "maps")},
}
