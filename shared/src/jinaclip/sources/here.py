"""Sources that only this process can read, once: stdin, and rows from Python."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sized
from itertools import chain
from typing import Any

from jinaclip.config import ImagePolicy
from jinaclip.errors import ConfigError, InputError
from jinaclip.sources.jsonl import read_records
from jinaclip.sources.lines import Line, rows_of_lines
from jinaclip.sources.records import RowMaker, check_columns
from jinaclip.sources.rows import Columns, Source, SourceRow
from jinaclip.sources.streams import PEEKED, peek, read_lines


def rows_of_records(
    records: Iterable[tuple[str, Any]], columns: Columns, policy: ImagePolicy, name: str
) -> Iterator[SourceRow]:
    """The rows of records with their places, once the first have shown that they have the columns.

    Raises:
        ConfigError: they have not.
    """
    first, records = peek(records, PEEKED)
    chosen = check_columns(columns, (record for _, record in first), name)
    yield from RowMaker(chosen, None, policy).make_all(records)


class RowsSource(Source):
    """Rows from Python.

    Args:
        rows: mappings by name; images in any form that `JinaClip.embed_images` takes, or base64.
        columns: their names.
        policy: of images.
    """

    name = "the rows given"

    def __init__(self, rows: Iterable[Mapping[str, Any]], columns: Columns, policy: ImagePolicy) -> None:
        self._rows, self._columns, self._policy = rows, columns, policy
        self._once = isinstance(rows, Iterator)
        self._used = False

    def count(self) -> int | None:
        """How many there are, of a list say."""
        return len(self._rows) if isinstance(self._rows, Sized) else None

    def rows(self) -> Iterator[SourceRow]:
        """See `Source.rows`. Raises ConfigError if they come from a generator that was read already."""
        if self._once and self._used:
            raise ConfigError("the rows come from an iterator, which was read already; pass a list, or a new iterator")
        self._used = True
        records = ((f"row {number}", record) for number, record in enumerate(self._rows))
        yield from rows_of_records(records, self._columns, self._policy, self.name)


def open_stdin() -> Any:
    """Stdin as a file of our own, or None: at its end Python aborts if a thread still waits for the one of `sys`."""
    try:
        return os.fdopen(os.dup(sys.stdin.fileno()), "rb")
    except (AttributeError, OSError, ValueError):  # somebody put another object there
        return getattr(sys.stdin, "buffer", None)


class StdinSource(Source):
    """What comes by stdin: JSON lines if the first character is "{", else a text on each line."""

    name = "stdin"

    def __init__(self, columns: Columns, policy: ImagePolicy) -> None:
        self._columns, self._policy = columns, policy
        self._used = False

    def rows(self) -> Iterator[SourceRow]:
        """See `Source.rows`. Raises ConfigError if it was read already."""
        if self._used:
            raise ConfigError("stdin was read already; write it to a file and name that")
        self._used = True
        stream = open_stdin()
        if stream is None:
            raise ConfigError("this program has no stdin to read; name a file")
        lines = read_lines(stream)
        first = list[Line]()
        for line in lines:
            first.append(line)
            if isinstance(line[1], InputError) or line[1].strip():
                break
        lines = chain(first[-1:], lines)
        if first and not isinstance(first[-1][1], InputError) and first[-1][1].lstrip().startswith(b"{"):
            yield from rows_of_records(read_records(lines, self.name), self._columns, self._policy, self.name)
        else:
            yield from rows_of_lines(lines, self.name)
