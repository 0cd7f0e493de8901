"""Tables of text as people have them: any usual encoding, separator and line end, in the memory of one row."""

from __future__ import annotations

import codecs
import contextlib
import csv
import io
from collections.abc import Callable, Iterator
from typing import IO, NamedTuple, TypeVar

from ferlib.data.readers.trees import Tree
from ferlib.runtime.errors import UserError

SEPARATORS = (",", ";", "\t", "|")
LONGEST_ROW = 1 << 17  # characters, of which a FER2013 row has 9,000; csv's own limit for a cell
SHOWN = 10  # bad rows that an error lists
ENCODINGS = {  # by byte order mark; UTF-32's begins with that of UTF-16
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
Parsed = TypeVar("Parsed")


@contextlib.contextmanager
def open_text(tree: Tree, path: str) -> Iterator[IO[str]]:
    """A file as text of the encoding that its first bytes show.

    Bytes that the encoding does not have become U+FFFD, which is in no number or name; line ends stay as they are.
    """
    with tree.open(path) as file:
        start = file.read(4)
    encoding = next((name for mark, name in ENCODINGS.items() if start.startswith(mark)), "utf-8")
    if encoding == "utf-8" and start.count(0) == 2:  # UTF-16 without its mark
        encoding = "utf-16-be" if start[0] == 0 else "utf-16-le"
    with io.TextIOWrapper(tree.open(path), encoding, errors="replace", newline="") as text:
        yield text


def lines_of(file: IO[str]) -> Iterator[str]:
    """The lines of a text, each cut off after LONGEST_ROW characters."""
    while line := file.readline(LONGEST_ROW):
        rest = line
        while len(rest) == LONGEST_ROW and not rest.endswith(("\n", "\r")):
            rest = file.readline(LONGEST_ROW)
        yield line


class Row(NamedTuple):
    """A row of a table below its header."""

    where: str  # file and line, as errors call it
    number: int  # among the rows that are not blank, from 0
    cells: dict[str, str]  # by column


class Table:
    """A table in `tree`; its columns are known by their names in lower case without spaces and quotes."""

    def __init__(self, tree: Tree, path: str):
        self.tree, self.path = tree, path
        self.name = tree.locate(path)
        with open_text(tree, path) as file:
            lines = enumerate(lines_of(file), start=1)
            self.header, header = next(((line, text) for line, text in lines if text.strip()), (1, ""))
        self.separator = max(SEPARATORS, key=header.count)
        self.columns: list[str] = []
        with contextlib.suppress(csv.Error):  # a line without end: no table
            self.columns = [column.strip().lower() for column in self._split(header)]

    def rows(self, parse: Callable[[Row], Parsed]) -> Iterator[Parsed]:
        """What `parse` makes of each row that is not blank.

        UserError at the end that lists the rows of which `parse` raises one, or that have another number of cells than
        the header; from the first of them on, nothing is given.
        """
        bad: list[str] = []
        faults = number = 0
        with open_text(self.tree, self.path) as file:
            for line, text in enumerate(lines_of(file), start=1):
                if line <= self.header or not text.strip():
                    continue
                try:
                    parsed = parse(self._row(f"{self.name}, row {line}", number, text))
                except UserError as error:
                    faults += 1
                    bad += [str(error)][: SHOWN - len(bad)]
                else:
                    if not faults:
                        yield parsed
                number += 1
        if faults > 1:
            more = [f"… and {faults - SHOWN:,} more"] if faults > SHOWN else []
            raise UserError(f"{self.name}: {faults:,} of {number:,} rows are damaged:", *bad, *more)
        if faults:
            raise UserError(*bad)

    def _row(self, where: str, number: int, text: str) -> Row:
        """A line as a row; UserError for one that is too long, or has another number of cells than the header."""
        try:
            if len(text) == LONGEST_ROW:
                raise csv.Error(f"more than {LONGEST_ROW:,} characters")
            cells = self._split(text)
        except csv.Error as error:
            raise UserError(f"{where}: {error}") from error
        if len(cells) != len(self.columns):
            raise UserError(f"{where}: {len(cells)} columns instead of {len(self.columns)}; the file may be cut short")
        return Row(where, number, dict(zip(self.columns, cells, strict=True)))

    def _split(self, line: str) -> list[str]:
        """The cells of a line; each line by itself, so that a stray quote does not swallow the next ones."""
        line = line.rstrip("\r\n")
        if '"' not in line:  # an eighth of csv's time
            return line.split(self.separator)
        return next(csv.reader([line], delimiter=self.separator, skipinitialspace=True), [])
