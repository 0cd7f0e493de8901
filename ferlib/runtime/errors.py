"""Errors for the person at the terminal, and registries whose unknown names are such errors."""

from __future__ import annotations

import difflib
import importlib.util
import io
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn, TypeVar

from ferlib.runtime.terminal import printable

Row = TypeVar("Row")


class UserError(Exception):
    """What is wrong and what to do, in words for the person at the terminal: a line, or several arguments."""

    def __str__(self) -> str:
        return "\n".join(map(str, self.args))


def run_script(main: Callable[[], object]) -> None:
    """Runs a script's main; prints what a person can mend as one line instead of a traceback.

    That is a UserError, a file that cannot be read or written, too little memory, a missing package, ctrl-C. Exit
    codes: 1; 130 for ctrl-C; 141 where what reads the output ends first, as in `--help | head`.
    """
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115 (None where it is closed, as in `>&-`)
    sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that is no UTF-8 must not end a script
    try:
        main()
        sys.stdout.flush()
    except UserError as error:
        fail(*map(str, error.args))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes at its end
        sys.exit(141)
    except OSError as error:
        if error.errno is None:  # not of the system: a fault of the program
            raise
        name = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        fail(f"{name}{os.strerror(error.errno)}")
    except MemoryError as error:
        fail(f"there is too little memory{f' ({error})' if str(error) else ''}; take a smaller batch or data set")
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if importlib.util.find_spec(package or "sys"):  # a module of an installed package, or of this project
            raise
        sys.exit(f"error: the package {package} is not installed; run: pip install -r requirements.txt")
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        sys.exit(130)


def fail(*reasons: str) -> NoReturn:
    """Ends the script with a line on each thing that is wrong."""
    sys.exit("error: " + "\n".join(map(printable, reasons)))


def lookup(table: Mapping[str, Row], name: str, kind: str) -> Row:
    """The row `name` of a registry; UserError that lists the valid names otherwise."""
    if name in table:
        return table[name]
    close = difflib.get_close_matches(name, table, n=1)
    hint = f"; did you mean {close[0]}?" if close else "."
    raise UserError(f"unknown {kind} '{name}'{hint} Valid names: {', '.join(table)}")
