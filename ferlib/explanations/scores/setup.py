"""What the stages of scoring need of a network: the methods bound to it, in several forms."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ferlib.explanations.binding import Explain, Network, bind
from ferlib.explanations.face_regions import TEN
from ferlib.explanations.landmark_detector import open_landmarks
from ferlib.explanations.methods import METHODS
from ferlib.explanations.region_fills import placer
from ferlib.explanations.scores.repeats import Repeats, randomised
from ferlib.explanations.scores.scorer import EXACT, Scored, Scorer, count_passes
from ferlib.explanations.subject import Subject
from ferlib.explanations.transplants import donor_finder
from ferlib.inference.engine import TORCH
from ferlib.inference.logit_model import LogitModel
from ferlib.runtime.seeds import combine_seeds
from models import load_checkpoint

RANDOM = ("lime", "shap", "smoothgrad")  # methods whose maps depend on the seed
OTHER_FILL, OTHER_SEGMENTATION = "blur", {"segmentation": "slic", "regions": 32}


class Shared:
    """A network whose forms are prepared once for all methods, so that their passes can be counted."""

    def __init__(self, network: Network, passes: int = 0) -> None:
        self.network = network
        self.spec, self.batch_size = network.spec, network.batch_size
        self.has_faces, self.faces_of = network.has_faces, network.faces_of
        self.background: Callable[[int], torch.Tensor] = network.background
        self._plain, self._forward, self._gradients = network.plain(), network.forward(passes), network.gradients()

    def plain(self) -> nn.Module:
        """Images → logits, as it was trained."""
        return self._plain

    def forward(self, passes: int) -> nn.Module:  # noqa: ARG002 — the same for all methods
        """The same, prepared for many forward passes."""
        return self._forward

    def gradients(self) -> nn.Module:
        """The same, prepared for many passes with gradients."""
        return self._gradients

    def with_background(self, background: Callable[[int], torch.Tensor]) -> Shared:
        """The same with other background faces."""
        other = copy(self)
        other.background = background
        return other

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """All forms, each once."""
        return tuple({id(each): each for each in (self._plain, self._forward, self._gradients)}.values())


def bind_method(name: str, network: Network, **changes: Any) -> Explain:
    """A method of METHODS with its defaults and some changes of them."""
    row = METHODS[name]
    given = {key: value for key, value in changes.items() if key in row.defaults}
    extra = {"counterfactual": "none"} if name == EXACT else {}
    return bind(row, row.complete(extra | given), network)


def provide_scorer(options: dict[str, Any], network: Network, _model: nn.Module) -> dict[str, Any]:
    """The keyword `scorer`: of the methods that `methods` names, with the fill `baseline`."""
    names, baseline = options.pop("methods"), options.pop("baseline")
    shared = Shared(network, count_passes(network.spec.image_size))
    methods = {name: Scored(bind_method(name, shared, baseline=baseline), METHODS[name].output) for name in names}
    place = placer(open_landmarks(), network.spec.image_size / network.spec.scaled_size, "ten")
    finder = donor_finder(shared.forward(0), place, network.faces_of, network.batch_size)
    scorer = Scorer(methods, shared.forward(0), shared.modules, len(TEN), finder, network.batch_size, baseline)
    return {"scorer": scorer}


def provide_repeats(options: dict[str, Any], network: Network, _model: nn.Module) -> dict[str, Any]:
    """The keyword `repeats`."""
    names, baseline = options.pop("methods"), options.pop("baseline")
    assert isinstance(network, Subject), "only the background faces of a run can be drawn again"
    redrawn = replace(network, seed=combine_seeds(network.seed, 32)).background
    shared, found = Shared(network), {}
    for name in names:
        settings = METHODS[name].defaults
        other = OTHER_FILL if baseline != OTHER_FILL else "mean"
        found[name] = Repeats(
            bind_method(name, shared, baseline=baseline),
            bind_method(name, shared, baseline=other) if "baseline" in settings else None,
            bind_method(name, shared, baseline=baseline, **OTHER_SEGMENTATION) if "segmentation" in settings else None,
            name in RANDOM,
            bind_method(name, shared.with_background(redrawn), baseline=baseline) if is_compared(name) else None,
        )
    return {"repeats": found}


def is_compared(name: str) -> bool:
    """Whether a method compares a face with background faces, which follow --seed as its own random numbers do."""
    return "background" in METHODS[name].needs


def provide_stages(options: dict[str, Any], network: Network, _model: nn.Module) -> dict[str, Any]:
    """The keyword `stages`: the methods of the network, then of copies whose layers are randomised."""
    names, baseline = options.pop("methods"), options.pop("baseline")
    assert isinstance(network, Subject), "only the network of a run can be randomised"
    seed = combine_seeds(network.seed, 31)
    networks = [network, *(with_classifier(network, made) for made in randomised(network.model.classifier, seed))]
    return {"stages": [{name: bind_method(name, each, baseline=baseline) for name in names} for each in networks]}


def provide_permuted(options: dict[str, Any], network: Network, _model: nn.Module) -> dict[str, Any]:
    """The keyword `stages`: the methods of the network, then of the one in the file `permuted`."""
    names, baseline = options.pop("methods"), options.pop("baseline")
    assert isinstance(network, Subject), "two runs are compared"
    other = with_classifier(network, load_checkpoint(Path(options.pop("permuted")), network.device).model)
    return {
        "stages": [{name: bind_method(name, each, baseline=baseline) for name in names} for each in (network, other)]
    }


def provide_maps(options: dict[str, Any], network: Network, _model: nn.Module) -> dict[str, Any]:
    """The keyword `maps`: the methods."""
    names, baseline = options.pop("methods"), options.pop("baseline")
    shared = Shared(network, count_passes(network.spec.image_size))
    return {"maps": {name: bind_method(name, shared, baseline=baseline) for name in names}}


def with_classifier(subject: Subject, classifier: nn.Module) -> Subject:
    """The same run with another network, computed by torch."""
    return replace(subject, model=LogitModel(classifier, subject.model.dtype), engine=TORCH, converted=None)
