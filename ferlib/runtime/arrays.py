"""npz files of the stages, read whole and checked."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ferlib.runtime.damage import NUMPY_DAMAGE
from ferlib.runtime.errors import UserError


class DamagedError(UserError):
    """An npz file that cannot be used, and why."""


def read_npz(path: Path, columns: Iterable[str] = ()) -> dict[str, np.ndarray]:
    """All arrays of a file; DamagedError for one that is damaged, holds objects, or values that are not finite.

    columns: arrays that must be there, of equally many rows. FileNotFoundError where there is no file.
    """
    columns = list(columns)
    try:
        with np.load(path, allow_pickle=False) as saved:
            arrays = {name: saved[name] for name in saved.files}
    except FileNotFoundError:
        raise
    except NUMPY_DAMAGE as error:
        raise DamagedError(f"{path} {describe_damage(error)}") from error
    if other := [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]:  # numpy gives bytes
        raise DamagedError(f"{path} is damaged: {other[0]} is no array")
    if missing := [name for name in columns if name not in arrays]:
        raise DamagedError(f"{path} lacks {', '.join(missing)}")
    if len({len(arrays[name]) if arrays[name].ndim else -1 for name in columns}) > 1:
        raise DamagedError(f"{path} is damaged: {', '.join(columns)} differ in their number of rows")
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise DamagedError(f"{path} holds values that are not finite, in {name}")
    return arrays


def describe_damage(error: Exception) -> str:
    """What is wrong with a file; numpy's own message would advise to run the code in it."""
    if "allow_pickle" in str(error):
        return "holds code or text, not arrays, and is not opened"
    return f"is damaged ({str(error).splitlines()[0] if str(error) else 'it ends too early'})"
