"""What a row of the table of explanation methods holds; imports no torch."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from ferlib.explanations.baselines import check_baseline
from ferlib.runtime.errors import UserError, lookup

PLACING = {"face_regions", "scorer", "repeats", "stages", "permuted", "maps"}  # needs that place regions by landmarks
ERRORS = {"completeness_gap"}  # facts of faces whose signs cancel in a mean and say nothing: their sizes are averaged


@dataclass(frozen=True)
class Setting:
    """A keyword of a method's function, a flag of its script and, with a label, a control on the web page."""

    name: str  # of the keyword
    default: Any
    help: str
    flag: str = ""  # of the script, with underscores; default: the name
    kind: Any = None  # type of the flag; default: that of the default
    minimum: float | None = None  # the valid range, ends included
    maximum: float | None = None
    choices: Mapping[str, str] = field(default_factory=dict)  # valid value → its name for people
    label: str = ""  # on the page
    slider: tuple[float, float, float] | None = None  # low, high and step on the page

    @property
    def field(self) -> str:
        """Name of the flag's field."""
        return self.flag or self.name

    @property
    def type(self) -> Any:
        """Type of the flag's field."""
        return self.kind or (Literal[tuple(self.choices)] if self.choices else type(self.default))

    def check(self, value: Any) -> None:
        """UserError for a value outside the range or the choices, and for words instead of numbers."""
        flag = f"--{self.field.replace('_', '-')}"
        if self.name == "baseline":
            check_baseline(value, flag, also=tuple(self.choices))
        elif self.choices:
            lookup(self.choices, value, f"value of {flag}")
        elif isinstance(value, str):
            words = [word for part in get_args(self.type) for word in get_args(part)]  # beside numbers: auto
            if self.type is not str and value not in words:
                raise UserError(f"{flag} {value} is not a number{''.join(f' or {word}' for word in words)}")
        else:
            low, high = self.minimum, self.maximum
            if (low is not None and not value >= low) or (high is not None and not value <= high):
                limits = f"{low:g} to {high:g}" if low is not None and high is not None else f"{low:g} or more"
                raise UserError(f"{flag} {value} is not in its range, {limits}")


def find_function(name: str) -> Callable[..., Any]:
    """MODULE:NAME of ferlib.explanations."""
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(f"ferlib.explanations.{module}"), function)


def accept(_values: Mapping[str, Any]) -> None:
    """No settings of the method depend on one another."""


@dataclass(frozen=True)
class Method:
    """An explanation method, a row of METHODS."""

    name: str  # of its folder and in JSON
    title: str
    script: str  # with the flag that chooses the method, where there is one
    function: str  # MODULE:NAME in ferlib.explanations: (model, images, targets, *, seeds, …) → attributions
    how_to_read: str
    caution: str  # what to look out for
    settings: tuple[Setting, ...] = ()
    fixed: Mapping[str, Any] = field(default_factory=dict)  # keywords that name the method itself
    constants: Mapping[str, Any] = field(default_factory=dict)  # of its module, recorded beside the settings
    needs: tuple[str, ...] = ()  # rows of binding.PROVIDERS: keywords made of the network and of settings
    network: Literal["plain", "forward", "gradients"] = "plain"  # prepared for many passes of a kind, or as trained
    signed: bool = False  # positive values are evidence for the target, negative ones against it; else from 0 up
    summed: bool = False  # attributions of pixels add up; they are drawn as sums over blocks of pixels
    output: Literal["probability", "logit", "loss"] = "logit"  # what is explained
    unit: str = "share of the peak"  # of a map's values
    meaning: str = "dark red: evidence for the class, turquoise: against it"  # of the colours
    question: str = "explained: why {target}?"
    note: str = ""  # settings in the figure's footnote, names of settings in braces
    facts: Mapping[str, str] = field(default_factory=dict)  # of each face in the summary: key → its name on a card
    words: str = ""  # MODULE:NAME in ferlib.explanations: (the target's name, facts of a face) → sentences
    named_regions: str = ""  # MODULE:NAME likewise: (the explained class, facts) → values and expected action units
    doubt: str = ""  # MODULE:NAME likewise: facts of a face → why its map cannot be read, "" where it can
    table: str = ""  # MODULE:NAME likewise: faces of a summary → what the summary says of all of them, or None
    expected: bool = False  # of every run: the report names it where it is missing
    step: str = ""  # of a script of several steps, which its lines on the progress name
    faces_per_call: tuple[int, int, int] = (64, 64, 64)  # on cpu, mps and cuda: lost at most by an interruption
    check: Callable[[Mapping[str, Any]], None] = accept  # UserError for values that do not go together

    @property
    def forward_only(self) -> bool:
        """Whether nearly all of its passes are forward ones, which any engine can compute."""
        return self.network == "forward" or "passes" in self.needs

    @property
    def quantile(self) -> float:
        """Of a map's sizes, the one of full colour: 1 for maps made of cells and regions, which have no single pixels
        that stand out by chance."""
        return 1.0 if {"cells", "segments", "face_regions"} & set(self.needs) else 0.995

    def uses_landmarks(self, values: Mapping[str, Any]) -> bool:
        """Whether its maps depend on where a face's landmarks are found; values: its settings, none of them "auto"."""
        return bool(PLACING & set(self.needs)) or values.get("segmentation") == "facial"

    def count_passes(self, image_size: int, values: Mapping[str, Any]) -> int:
        """Forward passes of single images that a face takes, where nearly all are such; else 0."""
        return self.load("count_passes")(image_size, **values) if self.forward_only else 0

    @property
    def progress(self) -> str:
        """What a line on the progress is about."""
        return self.step or self.name

    @property
    def command(self) -> str:
        """File name of the script."""
        return self.script.split()[0]

    @property
    def choice(self) -> str:
        """What --method is called with; the name where the script has one method only."""
        return self.script.split()[-1] if "--method" in self.script else self.name

    @property
    def defaults(self) -> dict[str, Any]:
        """Setting → default."""
        return {setting.name: setting.default for setting in self.settings}

    def subject(self, target: str, label: str) -> str:
        """What the values of a map are of: the target, which may be a contrast, its class, or "" for no class."""
        return target if "{target}" in self.question else label if "{label}" in self.question else ""

    def describe(self, target: str, facts: Mapping[str, Any]) -> str:
        """Sentences: why the map of a face cannot be read, and what it shows; "" where there are none."""
        words = find_function(self.words)(target, facts) if self.words else ""
        return " ".join(filter(None, (self.doubts(facts), words)))

    def name_regions(self, label: str, facts: Mapping[str, Any]) -> dict[str, Any]:
        """The values of a face's named regions, and the action units expected of a class there, for JSON; empty for
        methods without such regions."""
        return find_function(self.named_regions)(label, facts) if self.named_regions else {}

    def doubts(self, facts: Mapping[str, Any]) -> str:
        """Why the map of a face cannot be read; "" where it can, and where its facts are not known."""
        return find_function(self.doubt)(facts) if self.doubt and facts else ""

    def tabulate(self, faces: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """What the summary says of all its faces, as its key "table"; empty for methods without one."""
        found = find_function(self.table)(faces) if self.table else None
        return {} if found is None else {"table": found}

    def load(self, name: str = "") -> Callable[..., Any]:
        """The function of this method, or another one of its module."""
        module, _, own = self.function.partition(":")
        return find_function(f"{module}:{name or own}")

    def check_values(self, values: Mapping[str, Any]) -> None:
        """UserError for values of the settings that are out of range or do not go together."""
        for setting in self.settings:
            setting.check(values[setting.name])
        self.check(values)

    def complete(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """All settings: the given ones, by name or by flag, the others at their default; UserError for unknown ones."""
        names = {key: setting.name for setting in self.settings for key in (setting.name, setting.field)}
        values = self.defaults | {lookup(names, key, f"setting of {self.title}"): value for key, value in given.items()}
        self.check_values(values)
        return values
