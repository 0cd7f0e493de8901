"""Errors for the person at the terminal, and registries whose unknown names are such errors."""

from __future__ import annotations

import difflib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from typing import TypeVar

Row = TypeVar("Row")


class UserError(Exception):
    """What is wrong and what to do, in words for the person at the terminal."""


def run_script(main: Callable[[], object]) -> None:
    """Runs a script's main; prints a UserError, a missing package or ctrl-C as one line instead of a traceback.

    Exit codes: 1, 1 and 130.
    """
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if importlib.util.find_spec(package or "sys"):  # a module of an installed package, or of this project
            raise
        sys.exit(f"error: the package {package} is not installed; run: pip install -r requirements.txt")
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        sys.exit(130)


def lookup(table: Mapping[str, Row], name: str, kind: str) -> Row:
    """The row `name` of a registry; UserError that lists the valid names otherwise."""
    if name in table:
        return table[name]
    close = difflib.get_close_matches(name, table, n=1)
    hint = f"; did you mean {close[0]}?" if close else "."
    raise UserError(f"unknown {kind} '{name}'{hint} Valid names: {', '.join(table)}")
