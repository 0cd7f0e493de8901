"""The one look of all pictures, from plots.mplstyle, their colours, and how a figure is written: PNG, PDF, SVG."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib.style
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from ferlib.figures.lettering import families, wrap
from ferlib.runtime.files import atomic_path

STYLE = Path(__file__).with_name("plots.mplstyle")
WIDTH = 16 / 2.54  # inches: of the text of a thesis; no figure is wider, so that it is printed as large as it is drawn

LINES = ("-", "--", "-.", ":", "-", "--", "-.")  # of config.EMOTIONS, for print without colour

Titles = Sequence[str]  # of entitle: what the picture shows in one sentence, and of what
PNG = ("png",)
UNDATED = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}  # vector formats, and what makes them reproducible
LOCK = threading.RLock()  # the style is a setting of the whole process


@contextmanager
def in_style() -> Iterator[None]:
    """The common look for the block; also a decorator of functions that make figures."""
    with LOCK, matplotlib.style.context(["default", str(STYLE), {"font.family": families()}]):
        yield


@contextmanager
def saved_figure(path: Path, formats: Sequence[str] = PNG, **options: Any) -> Iterator[Figure]:
    """A figure in the common look that is written to `path` when the block ends well; see save_figure."""
    with in_style():
        figure = Figure(**options)
        yield figure
        save_figure(figure, path, formats)


def save_figure(figure: Figure, path: Path, formats: Sequence[str] = PNG, **text: str) -> None:
    """Writes a figure to the PNG `path`, which other stages read, and beside it in the vector `formats`.

    A vector version that is there already is written again too, so that it does not differ from the PNG. `text` is kept
    in the PNG, which comes last: where it is whole, the others are.
    """
    no_layout: Any = {"figure.constrained_layout.use": False}  # or the second file lays out a figure that wants none
    with in_style(), matplotlib.rc_context(no_layout), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a name in a script that no font here has
        for kind, metadata in UNDATED.items():
            beside = path.with_suffix(f".{kind}")
            if kind in formats or beside.exists():
                with atomic_path(beside) as temporary:
                    figure.savefig(temporary, metadata=metadata)
        with atomic_path(path) as temporary:
            figure.savefig(temporary, metadata=text)


def all_drawn(path: Path, formats: Sequence[str]) -> bool:
    """Whether the PNG and each of its vector versions are there."""
    return all(path.with_suffix(f".{kind}").exists() for kind in ("png", *formats))


def entitle(figure: Figure, finding: str, subject: str = "") -> None:
    """The title: what the picture shows in one sentence, then of what; broken into lines where it is too long."""
    width = figure.get_figwidth() - 0.2
    below = "\n".join(wrap(line, width, 9) for line in subject.split("\n")) if subject else ""
    room = "\n" * (below.count("\n") + 1) if below else ""  # empty lines of the one text that the layout heeds
    title = figure.suptitle(wrap(finding, width, 10.5) + room)
    figure.add_artist(Annotation(below, (0.5, 0), xycoords=title, ha="center", va="bottom", fontsize=9))
