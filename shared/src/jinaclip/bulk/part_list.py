"""The parts of an output that belong to this run: all of them, or those of its shard."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from jinaclip.bulk.files import HIDDEN, TEMPORARY, OutputFolder
from jinaclip.bulk.manifest import Shape
from jinaclip.bulk.parts import (
    NAME,
    DamagedPartError,
    Ledger,
    Part,
    Shard,
    name_of,
    number_of,
    read_ledger,
    read_rows,
    schema_of,
    shard_of,
    write_part,
)
from jinaclip.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger("jinaclip.bulk")


class PartList:
    """Reads, writes and removes parts. Each has a number, its place in the list.

    Args:
        folder: of the output.
        shape: of its vectors.
        shard: whose parts these are; those of others are left alone.
        read_only: damaged parts are passed over and keep their names.
    """

    def __init__(self, folder: OutputFolder, shape: Shape, shard: Shard | None, *, read_only: bool = False) -> None:
        self.folder, self.schema = folder, schema_of(shape.precision, shape.dimensions)
        self._shape, self._shard, self._read_only = shape, shard, read_only
        self._parts: list[Part] = []
        self._next = 0
        """Number in the name of the next part."""

    def __len__(self) -> int:
        return len(self._parts)

    def __getitem__(self, number: int) -> Part:
        return self._parts[number]

    def __iter__(self) -> Iterator[Part]:
        return iter(self._parts)

    def is_ours(self, name: str) -> bool:
        """Whether a file has the name of a part of this run."""
        match = NAME.fullmatch(name)
        return match is not None and shard_of(match) == self._shard

    def read_new(self, names: Sequence[str]) -> Iterator[tuple[int, Ledger]]:
        """What parts say that are not in the list yet, with their numbers. A damaged one is set aside.

        Raises:
            ConfigError: a Parquet file is no part of this output, or has other vectors.
            OSError: the folder cannot be read or written.
        """
        self._refuse_others(names)
        known = {part.name for part in self}
        for name in names:
            if self.is_ours(name) and name not in known and (ledger := self._read_ledger(name)):
                self._parts.append(ledger.part)
                self._next = max(self._next, 1 + number_of(name))
                yield len(self) - 1, ledger

    def _refuse_others(self, names: Sequence[str]) -> None:
        for name in names:
            if name.endswith(".parquet") and not name.startswith(("_", ".")) and not NAME.fullmatch(name):
                raise ConfigError(
                    f"{self.folder} holds {name}, which this command did not write, and who reads the folder would "
                    "read it too: choose another --out, or move that file away",
                    option="out",
                )

    def _read_ledger(self, name: str) -> Ledger | None:
        try:
            return read_ledger(self.folder, name, self.schema, self._shape.space)
        except DamagedPartError as error:
            self._set_aside(name, error, "its rows are embedded again")
            return None

    def _set_aside(self, name: str, error: Exception, what: str) -> None:
        """Renames a damaged part, so that nobody reads it."""
        logger.warning("%s in %s is damaged (%s): %s", name, self.folder, error, what)
        if not self._read_only:
            self.folder.set_aside(name)

    def remove_unfinished(self, names: Sequence[str]) -> None:
        """Deletes what a run left that was killed while it wrote."""
        for name in names:
            if name.startswith(TEMPORARY) and self.is_ours(name.removeprefix(TEMPORARY).removesuffix(HIDDEN)):
                self.folder.delete(name)

    def read(self, number: int, rows: NDArray[np.int32]) -> Iterator[pa.Table]:
        """Some rows of a part, by their sorted numbers, about a thousand at a time.

        Raises:
            DamagedPartError: it cannot be read.
        """
        return read_rows(self.folder, self[number].name, rows, self.schema)

    def take(self, number: int, rows: NDArray[Any]) -> pa.Table:
        """Some rows of a part, by their numbers in any order.

        Raises:
            DamagedPartError: it cannot be read.
        """
        import pyarrow as pa

        wanted, back = np.unique(rows, return_inverse=True)
        return pa.concat_tables(self.read(number, wanted)).take(pa.array(back))

    def write(self, table: pa.Table) -> None:
        """Writes rows as a new part, the last of the list.

        Raises:
            OSError: it could not be written; there is no trace of it.
        """
        try:
            self.save(self.add(len(table)), table)
        except BaseException:
            self._parts.pop()
            raise

    def add(self, rows: int) -> int:
        """Adds a part of so many rows that is yet to be saved, and gives its number."""
        self._parts.append(Part(name_of(self._next, self._shard), rows, plain=True))
        self._next += 1
        return len(self) - 1

    def save(self, number: int, table: pa.Table) -> None:
        """Writes the rows of a part that was added. May run in another thread.

        Raises:
            OSError: they could not be written.
        """
        self.folder.write(self[number].name, partial(write_part, table, self._shape.precision))

    def gone(self) -> int:
        """Rows of parts that are no longer in the folder; each such part is told."""
        names, rows = set(self.folder.names()), 0
        for part in self:
            if part.rows and part.name not in names:
                logger.warning("%s is gone from %s: %d rows are lost; run again", part.name, self.folder, part.rows)
                rows, part.rows = rows + part.rows, 0
        return rows

    def delete(self, number: int) -> None:
        """Deletes a part. It stays in the list, without rows."""
        self.folder.delete(self[number].name)
        self[number].rows = 0

    def set_aside(self, number: int, error: Exception, what: str) -> None:
        """Renames a damaged part, so that nobody reads it. It stays in the list, without rows.

        Args:
            number: of the part.
            error: that says how it is damaged.
            what: is to be done, for the log.
        """
        self._set_aside(self[number].name, error, what)
        self[number].rows = 0
