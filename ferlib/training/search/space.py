"""The search space: choices and ranges of settings, read from words such as lr=1e-3..1e-1:log."""

from __future__ import annotations

import itertools
import math
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

import config
from ferlib.runtime.errors import UserError, lookup
from recipes import SETTINGS

if TYPE_CHECKING:  # words are checked before Optuna is imported, which takes a second
    from optuna.distributions import BaseDistribution

Space = dict[str, "BaseDistribution"]  # what is searched, by setting
RUN_TYPES = {
    name: get_type_hints(config.Train)[name] for name in (*config.RUN_SETTINGS, "seed") if name != "teacher"
}  # values of a search are single words, teachers a list
SEARCHABLE = SETTINGS | RUN_TYPES  # type of each setting that can be searched
CONVERTERS: dict[type, Any] = {
    int: int,
    float: float,
    str: str,
    bool: {"true": True, "false": False}.__getitem__,
}


def parse_search(words: tuple[str, ...]) -> Space:
    """What is searched by setting: `optimizer=sgd,adam` a choice, `lr=1e-4..1e-1:log` a range, of ints for an int.

    UserError that lists the valid names for a setting or a value that does not exist.
    """
    if not words:
        raise UserError("nothing to search; give --preset vgg_paper or --search optimizer=sgd,adam …")
    values: dict[str, str] = {}
    for word in words:
        name, _, text = word.partition("=")
        lookup(SEARCHABLE, name, "setting to search")
        if not text or name in values:
            raise UserError(f"--search {word}: give each setting once, with values: lr=0.1,0.01 or lr=1e-3..1e-1:log")
        values[name] = text
    parsed = {
        name: parse_range(name, text) if is_range(name, text) else choices(name, text) for name, text in values.items()
    }
    return {name: make_distribution(name, values[name], parts) for name, parts in parsed.items()}


def is_range(name: str, text: str) -> bool:
    """Whether the text is low..high; a path such as ../weights.pth is none."""
    return ".." in text and value_kinds(SEARCHABLE[name])[0] in (int, float)


def choices(name: str, text: str) -> tuple[Any, ...]:
    """The values of a choice, each once."""
    return tuple(dict.fromkeys(parse_value(name, value) for value in text.split(",")))


def parse_range(name: str, text: str) -> dict[str, Any]:
    """The ends and the scale of a range."""
    bounds, _, scale = text.partition(":")
    low, high = (parse_value(name, value) for value in bounds.split("..", 1))
    if scale not in ("", "log"):
        raise UserError(f"--search {name}={text}: after the range only :log may stand")
    return {"low": low, "high": high, "log": scale == "log"}


def make_distribution(name: str, text: str, parts: tuple[Any, ...] | dict[str, Any]) -> BaseDistribution:
    """Optuna's distribution of a choice or of a range; UserError for a range that makes no sense."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(parts, tuple):
        return CategoricalDistribution(parts)
    kind = IntDistribution if value_kinds(SEARCHABLE[name])[0] is int else FloatDistribution
    try:
        return kind(**parts)
    except (TypeError, ValueError) as error:
        raise UserError(f"--search {name}={text}: {error}") from error


def value_kinds(hint: Any) -> tuple[Any, ...]:
    """(int,) for int, (int, NoneType) for int | None, (str,) for a Literal."""
    return (str,) if get_origin(hint) is Literal else get_args(hint) or (hint,)


def parse_value(name: str, text: str) -> Any:
    """`text` as a value of the setting's type; "none" where the setting may have none."""
    hint = SEARCHABLE[name]
    if get_origin(hint) is Literal:
        return lookup({choice: choice for choice in get_args(hint)}, text, f"value of {name}")
    kind, *others = value_kinds(hint)
    if NoneType in others and text == "none":
        return None
    try:
        value = CONVERTERS[kind](text)
    except (KeyError, ValueError):
        value = math.nan
    if kind is not str and not math.isfinite(value):
        valid = {bool: "true or false", int: "a whole number", float: "a number"}[kind]
        raise UserError(f"'{text}' is no value of {name}: it is {valid}{' or none' if NoneType in others else ''}")
    return value


def grid(space: Space) -> list[dict[str, Any]]:
    """Every combination of the choices, the last setting changing fastest; UserError for a range."""
    values: dict[str, tuple[Any, ...]] = {}
    for name, distribution in space.items():
        if not hasattr(distribution, "choices"):
            raise UserError(f"a grid needs values, not a range: {name}=…,…; or use --sampler tpe")
        values[name] = distribution.choices
    return [dict(zip(values, point, strict=True)) for point in itertools.product(*values.values())]
