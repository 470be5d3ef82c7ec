"""CSV files with a header, as RFC 4180 has them.

The module `csv` of Python parses: it reads what spreadsheets write, newlines in cells included, and goes on with the
next line after a record that is wrong. pyarrow's reader stops there, and at a record that does not fit its block. What
`csv` refuses is a cell of more than 128 KiB, a picture say. To raise that limit would raise it for the whole process,
so such a record is split here.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import TextIOWrapper
from itertools import chain
from typing import BinaryIO

from jinaclip.errors import ConfigError, InputError
from jinaclip.sources.places import Folder, printable
from jinaclip.sources.records import RowMaker, failed_row
from jinaclip.sources.rows import SourceRow
from jinaclip.sources.streams import LONGEST_LINE, open_stream

QUOTED = re.compile(r'(?:[^"]|"")*+')
"""What stands within the quotes of a cell."""
PLAIN = re.compile(r"[^,\r\n]*")
TOO_LONG = "field larger than field limit"
Cells = list[str]


@dataclass(frozen=True, slots=True)
class CsvReader:
    """Reads CSV files that have the columns of the first one."""

    folder: Folder
    maker: RowMaker

    def read(self, path: str) -> Iterator[SourceRow]:
        """A row for each record behind the header."""
        name, columns = printable(path), self.maker.columns
        with open_stream(self.folder, path) as stream:
            records = Records(stream)
            header = records.header(name)
            missing = {columns.id, columns.text, columns.image} - {*header, None}
            if missing:
                raise InputError(f"{name} has no column {', '.join(map(repr, missing))}, which the first file has")
            for number, cells in records.read():
                yield self._make(header, cells, f"line {number} of {name}")

    def _make(self, header: Cells, cells: Cells | InputError, where: str) -> SourceRow:
        if isinstance(cells, InputError):
            return failed_row(where, str(cells))
        record = dict(zip(header, cells, strict=False))  # cells that are missing at the end are empty
        problem = find_problem(header, cells)
        return self.maker.make(record, where) if problem is None else self.maker.fail(record, where, problem)


def find_problem(header: Cells, cells: Cells) -> str | None:
    """What is wrong with the cells of a record, if anything is."""
    if len(cells) > len(header):
        return f"has {len(cells)} cells, and the header {len(header)}: a cell with a comma in it needs quotes around it"
    if any("\udc80" <= letter <= "\udcff" for cell in cells if not cell.isascii() for letter in cell):
        return "is no text in UTF-8"
    return None


def read_header(folder: Folder, path: str) -> Cells:
    """Names of the columns of a file.

    Raises:
        ConfigError: it has no header.
        InputError: it cannot be read.
    """
    with open_stream(folder, path) as stream:
        return Records(stream).header(printable(path))


class Records:
    """The records of a stream. The memory that it takes is that of the longest of them."""

    def __init__(self, stream: BinaryIO) -> None:
        # a byte that is no UTF-8 is the trouble of its row alone
        self._text = TextIOWrapper(stream, "utf-8-sig", errors="surrogateescape", newline="")
        self._number = 0
        self._taken: list[str] = []
        self._lines = self._read_lines()
        self._reader = csv.reader(self._lines, strict=True)

    def header(self, name: str) -> Cells:
        """The first record. Raises ConfigError if there is none."""
        first = next(self.read(), None)
        if first is None or isinstance(first[1], InputError):
            raise ConfigError(f"{name} has no header: its first line {'is missing' if first is None else first[1]}")
        return first[1]

    def read(self) -> Iterator[tuple[int, Cells | InputError]]:
        """The records with the numbers of their first lines; an error in place of one that is wrong."""
        while True:
            self._taken.clear()
            first = self._number + 1
            try:
                cells: Cells | InputError = next(self._reader)
            except StopIteration:
                return
            except csv.Error as error:
                cells = self._split() if str(error).startswith(TOO_LONG) else self._problem(str(error))
            if cells:  # a blank line is no record
                yield first, cells

    def _read_lines(self) -> Iterator[str]:
        """Lines with their ends; keeps those of the record that is being read."""
        while line := self._text.readline(LONGEST_LINE):
            self._number += 1
            self._taken.append(line)
            yield line

    def _problem(self, reason: str) -> InputError:
        return InputError(f"is no record of a CSV file, up to line {self._number}: {reason}")

    def _split(self) -> Cells | InputError:
        """The cells of a record with a long one, of which `csv` has read the first lines."""
        lines = chain([*self._taken], self._lines)
        line, at, cells = next(lines), 0, []
        while True:
            if line.startswith('"', at):
                pieces, line, at = read_quoted(line, at + 1, lines)
                cells.append("".join(pieces).replace('""', '"'))
            else:
                end = PLAIN.match(line, at).end()  # type: ignore[union-attr]  # it may be empty
                cells.append(line[at:end])
                at = end
            if not line:
                return self._problem("its last quote is never closed, or it is too long")
            if line[at:].rstrip("\r\n") == "":
                return cells
            if line[at] != ",":
                return self._problem("a closing quote must stand before a comma, or be written twice")
            at += 1


def read_quoted(line: str, at: int, lines: Iterator[str]) -> tuple[list[str], str, int]:
    """What stands within quotes, in pieces; the line on which they close, "" if they do not, and the place behind them.

    Args:
        line: on which they open.
        at: the place behind the opening one.
        lines: those that follow.
    """
    pieces, size = [], 0
    while line and size < LONGEST_LINE:
        end = QUOTED.match(line, at).end()  # type: ignore[union-attr]  # it may be empty
        pieces.append(line[at:end])
        size += end - at
        if end < len(line):
            return pieces, line, end + 1
        line, at = next(lines, ""), 0
    return [], "", 0
