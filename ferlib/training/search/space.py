"""What a study searches: choices and ranges of a recipe's fields, read from words such as lr=1e-3..1e-1:log."""

from __future__ import annotations

import itertools
import math
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from ferlib.runtime.errors import UserError, lookup
from recipes import Recipe

Space = dict[str, BaseDistribution]  # what is searched, by field
FIELDS = get_type_hints(Recipe) | {"seed": int}  # what can be searched
CONVERTERS = {int: int, float: float, str: str, bool: {"true": True, "false": False}.__getitem__}


def parse_search(words: tuple[str, ...]) -> Space:
    """What is searched by field: `optimizer=sgd,adam` a choice, `lr=1e-4..1e-1:log` a range, of ints in an int field.

    UserError that lists the valid names for a field or a value that does not exist.
    """
    if not words:
        raise UserError("nothing to search; give --preset vgg_paper or --search optimizer=sgd,adam …")
    space: Space = {}
    for word in words:
        name, _, values = word.partition("=")
        kinds = value_kinds(lookup(FIELDS, name, "setting to search"))
        if not values or name in space:
            raise UserError(f"--search {word}: give each setting once, with values: lr=0.1,0.01 or lr=1e-3..1e-1:log")
        is_range = ".." in values and kinds[0] in (int, float)
        space[name] = parse_range(name, values) if is_range else parse_choice(name, values)
    return space


def value_kinds(hint: Any) -> tuple[Any, ...]:
    """(int,) for int, (int, NoneType) for int | None, (str,) for a Literal."""
    return (str,) if get_origin(hint) is Literal else get_args(hint) or (hint,)


def parse_choice(name: str, values: str) -> CategoricalDistribution:
    return CategoricalDistribution(tuple(dict.fromkeys(parse_value(name, text) for text in values.split(","))))


def parse_range(name: str, values: str) -> IntDistribution | FloatDistribution:
    bounds, _, scale = values.partition(":")
    low, high = (parse_value(name, text) for text in bounds.split("..", 1))
    kind = IntDistribution if value_kinds(FIELDS[name])[0] is int else FloatDistribution
    if scale not in ("", "log"):
        raise UserError(f"--search {name}={values}: after the range only :log may stand")
    try:
        return kind(low, high, log=scale == "log")
    except (TypeError, ValueError) as error:
        raise UserError(f"--search {name}={values}: {error}") from error


def parse_value(name: str, text: str) -> Any:
    """`text` as a value of the field's type; "none" where the field may have none."""
    if get_origin(FIELDS[name]) is Literal:
        choices = {choice: choice for choice in get_args(FIELDS[name])}
        return lookup(choices, text, f"value of {name}")
    kind, *others = value_kinds(FIELDS[name])
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
    """Every combination of the choices, the last field changing fastest."""
    for name, distribution in space.items():
        if not isinstance(distribution, CategoricalDistribution):
            raise UserError(f"a grid needs values, not a range: {name}=…,…; or use --sampler tpe")
    choices = (distribution.choices for distribution in space.values())
    return [dict(zip(space, values, strict=True)) for values in itertools.product(*choices)]
