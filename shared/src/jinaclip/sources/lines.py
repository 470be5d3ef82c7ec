"""A text on each line of a file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from jinaclip.errors import InputError
from jinaclip.sources.places import Folder, printable
from jinaclip.sources.records import failed_row
from jinaclip.sources.rows import SourceRow
from jinaclip.sources.streams import open_stream, read_lines

Line = tuple[int, bytes | InputError]


@dataclass(frozen=True, slots=True)
class LineReader:
    """Reads files of lines, in UTF-8. Ids are numbers of lines, of several files as in "sub/a.txt#line=3"."""

    folder: Folder
    several: bool

    def read(self, path: str) -> Iterator[SourceRow]:
        """A row for each line that is not blank."""
        name = printable(path)
        with open_stream(self.folder, path) as stream:
            yield from rows_of_lines(read_lines(stream), name, f"{name}#line=" if self.several else "")


def rows_of_lines(lines: Iterable[Line], name: str, prefix: str = "") -> Iterator[SourceRow]:
    """A row for each line that is not blank, without the blanks around its text.

    Args:
        lines: with their numbers.
        name: of the file, for messages.
        prefix: of ids, before the number.
    """
    for number, text in read_texts(lines):
        where = f"line {number} of {name}"
        if isinstance(text, InputError):
            yield failed_row(where, str(text), f"{prefix}{number}")
        else:
            yield SourceRow(f"{prefix}{number}", text, None, where)


def read_texts(lines: Iterable[Line]) -> Iterator[tuple[int, str | InputError]]:
    """The texts of lines that are not blank, with their numbers; an error in place of one that is no UTF-8."""
    for number, line in lines:
        if isinstance(line, InputError):
            yield number, line
            continue
        try:
            text = line.decode().strip()
        except UnicodeDecodeError:
            yield number, InputError("is no text in UTF-8")
            continue
        if text:
            yield number, text
