"""Parquet files, one row group after another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import Any

from jinaclip.errors import InputError
from jinaclip.requirements import need
from jinaclip.sources.places import Folder, printable
from jinaclip.sources.records import RowMaker, kinds_of
from jinaclip.sources.rows import SourceRow, StoredSource

BATCH_BYTES, BATCH_ROWS = 16 * 2**20, 1024
"""Of rows that are in memory as Python has them, at most."""
BUFFER = 2**20
"""Bytes of a column that are read at a time."""


@dataclass(frozen=True, slots=True)
class RowGroup:
    """A row group of a file.

    Attributes:
        path: of the file.
        index: which one, from 0.
        first: number of its first row in the file, from 0.
    """

    path: str
    index: int
    first: int


@contextmanager
def open_parquet(folder: Folder, path: str, extra: str = "bulk") -> Iterator[Any]:
    """A file as a `pyarrow.parquet.ParquetFile`.

    Args:
        folder: where it is.
        path: from there.
        extra: that holds pyarrow, for the message if it is missing.

    Raises:
        InputError: it cannot be opened or read, here or while it is open.
        MissingDependencyError: pyarrow is not installed.
    """
    pa, pq = (need(module, "a Parquet file", extra) for module in ("pyarrow", "pyarrow.parquet"))
    with folder.open(path) as stream:
        try:
            # From pyarrow 26 on it would fetch the whole column of a row group first: all of its pictures.
            with pq.ParquetFile(stream, buffer_size=BUFFER, pre_buffer=False) as file:
                yield file
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{folder.name}/{printable(path)} cannot be read as Parquet: {error}") from None


@dataclass(frozen=True, slots=True)
class ParquetReader:
    """Reads row groups: only the columns that are needed, and only some rows at a time."""

    folder: Folder
    maker: RowMaker

    def read(self, group: RowGroup) -> Iterator[SourceRow]:
        """The rows of a row group."""
        with open_parquet(self.folder, group.path) as file:
            yield from self.read_from(file, group)

    def read_from(self, file: Any, group: RowGroup) -> Iterator[SourceRow]:
        """The rows of a row group of an open file."""
        columns, name, number = self.maker.columns, printable(group.path), group.first
        wanted = [*dict.fromkeys(one for one in (columns.id, columns.text, columns.image) if one is not None)]
        missing = [one for one in wanted if one not in file.schema_arrow.names]
        if missing:
            raise InputError(f"{name} has no column {missing[0]!r}, which the first file has")
        rows = batch_rows(file.metadata.row_group(group.index))
        for batch in file.iter_batches(rows, row_groups=[group.index], columns=wanted):
            for record, problem in read_records(batch):
                where = f"row {number} of {name}"
                yield self.maker.make(record, where) if problem is None else self.maker.fail(record, where, problem)
                number += 1


def read_records(batch: Any) -> Iterator[tuple[dict[str, Any], str | None]]:
    """The records of a batch, and of each why it cannot be used, or None."""
    try:
        records = batch.to_pylist()
    except (ValueError, OverflowError):  # for one cell of all: a string that is not UTF-8, a day beyond year 9999
        yield from (read_record(batch, row) for row in range(batch.num_rows))
    else:
        yield from zip(records, repeat(None))


def read_record(batch: Any, row: int) -> tuple[dict[str, Any], str | None]:
    """One record of a batch with the cells that Python can hold, and why another cannot be read, or None."""
    record, problem = dict[str, Any](), None
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            record[name] = column[row].as_py()
        except (ValueError, OverflowError) as error:
            problem = f"cannot be read in its column {name!r}: {error}"
    return record, problem


def batch_rows(group: Any) -> int:
    """How many rows of a row group to take at a time: few, if they hold pictures."""
    return int(max(1, min(BATCH_ROWS, BATCH_BYTES * group.num_rows // max(1, group.total_byte_size))))


def row_groups(file: Any, path: str) -> Iterator[RowGroup]:
    """The row groups of an open file."""
    first = 0
    for index in range(file.metadata.num_row_groups):
        yield RowGroup(path, index, first)
        first += file.metadata.row_group(index).num_rows


def read_names(folder: Folder, path: str) -> list[str]:
    """Names of the columns of a file. Raises as `open_parquet`."""
    with open_parquet(folder, path) as file:
        return list(file.schema_arrow.names)


class ParquetSource(StoredSource[RowGroup]):
    """Parquet files as one table.

    Args:
        name: what messages call it.
        reader: reads them.
        paths: of the files.
    """

    def __init__(self, name: str, reader: ParquetReader, paths: Sequence[str]) -> None:
        super().__init__(name, reader, kinds_of(reader.maker.columns))
        self._read_from = reader.read_from
        self._open = partial(open_parquet, reader.folder)
        self._paths = paths

    def count(self) -> int | None:
        """How many rows the files have, by their metadata."""
        total = 0
        for path in self._paths:
            with self._open(path) as file:
                total += file.metadata.num_rows
        return total

    def pieces(self) -> Iterator[RowGroup]:
        """The row groups of all files."""
        for path in self._paths:
            with self._open(path) as file:
                yield from [*row_groups(file, path)]

    def rows(self) -> Iterator[SourceRow]:
        """See `Source.rows`; each file is opened once."""
        for path in self._paths:
            with self._open(path) as file:
                for group in row_groups(file, path):
                    yield from self._read_from(file, group)
