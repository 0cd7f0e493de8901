"""The shape of a JSON value, told by an example: what its reader may look up without a check of its own.

A shape is a type or a function that says whether a value fits; a dict of shapes, whose keys may end in "?" where they
may be absent; a list of one shape, of any length, or of several, one for each item; a frozenset of the values allowed;
or a tuple of shapes of which one must fit, with None for null.
"""

from __future__ import annotations

from typing import Any

LARGEST = 1e15  # of a number
SHOWN = 40  # characters of a value in an error


def is_number(value: Any) -> bool:
    """A finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST


def is_share(value: Any) -> bool:
    """A number in 0..1."""
    return is_number(value) and 0 <= value <= 1


def is_count(value: Any) -> bool:
    """A whole number from 0 up."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def is_positive(value: Any) -> bool:
    """A whole number from 1 up."""
    return is_count(value) and value > 0


def misfit(value: Any, shape: Any, place: str = "") -> str | None:
    """Where a value does not have a shape, for an error, such as "per_class[3].recall is 'high'"; None where it has."""
    if isinstance(shape, tuple):
        found = [misfit(value, each, place) for each in shape]
        of_dicts = [words for words, each in zip(found, shape, strict=True) if isinstance(each, dict)]
        return (
            None if None in found else (of_dicts and isinstance(value, dict) and of_dicts[0]) or describe(value, place)
        )
    if isinstance(shape, frozenset):
        return None if isinstance(value, str) and value in shape else describe(value, place)
    if isinstance(shape, dict):
        return misfit_of_dict(value, shape, place)
    if isinstance(shape, list):
        return misfit_of_list(value, shape, place)
    fits = value is None if shape is None else isinstance(value, shape) if isinstance(shape, type) else shape(value)
    return None if fits else describe(value, place)


def misfit_of_dict(value: Any, shape: dict[str, Any], place: str) -> str | None:
    """The same for an object."""
    if not isinstance(value, dict):
        return describe(value, place)
    for key, inner in shape.items():
        name = key.removesuffix("?")
        path = f"{place}.{name}" if place else name
        if name not in value:
            if key == name:
                return f"{path} is missing"
        elif found := misfit(value[name], inner, path):
            return found
    return None


def misfit_of_list(value: Any, shape: list[Any], place: str) -> str | None:
    """The same for a list."""
    if not isinstance(value, list) or (len(shape) > 1 and len(value) != len(shape)):
        return describe(value, place)
    shapes = shape if len(shape) > 1 else shape * len(value)
    pairs = enumerate(zip(value, shapes, strict=True))
    return next((found for at, (item, inner) in pairs if (found := misfit(item, inner, f"{place}[{at}]"))), None)


def describe(value: Any, place: str) -> str:
    """Which part is which value."""
    text = repr(value)
    return f"{place or 'the whole'} is {text if len(text) <= SHOWN else text[:SHOWN] + '…'}"
