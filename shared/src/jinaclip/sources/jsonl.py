"""An object in JSON on each line of a file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from jinaclip.errors import InputError
from jinaclip.sources.lines import Line
from jinaclip.sources.places import Folder, printable
from jinaclip.sources.records import RowMaker
from jinaclip.sources.rows import SourceRow
from jinaclip.sources.streams import open_stream, read_lines


@dataclass(frozen=True, slots=True)
class JsonlReader:
    """Reads files of JSON lines."""

    folder: Folder
    maker: RowMaker

    def read(self, path: str) -> Iterator[SourceRow]:
        """A row for each line that is not blank."""
        with open_stream(self.folder, path) as stream:
            yield from self.maker.make_all(read_records(read_lines(stream), path))


def read_records(lines: Iterable[Line], path: str) -> Iterator[tuple[str, Any]]:
    """The values of lines with their places; an InputError in place of one that is no JSON."""
    name = printable(path)
    for number, value in read_values(lines):
        yield f"line {number} of {name}", value


def read_values(lines: Iterable[Line]) -> Iterator[tuple[int, Any]]:
    """The values of lines that are not blank, with their numbers; an InputError in place of one that is no JSON."""
    for number, line in lines:
        if isinstance(line, InputError):
            yield number, line
        elif line.strip():
            yield number, parse(line)


def parse(line: bytes) -> Any:
    """The value of a line as `json.loads` reads it, but for numbers of over 64 bits; an InputError if it is none."""
    try:
        return orjson.loads(line)
    except ValueError:  # it takes no NaN and no half characters, which are in files all the same
        pass
    try:
        return json.loads(line.decode())
    except (ValueError, RecursionError) as error:
        return InputError(f"is no JSON in UTF-8: {error}")
