"""Chunks of rows whose files are read at once: of an id that comes twice the first row counts, whoever reads faster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jinaclip.bulk.items import Item, Kind, PairMode, kinds_of
from jinaclip.sources import SourceRow

Name = tuple[str, Kind]
"""An id and a kind, of which an output has one row."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows that are looked up together.

    Attributes:
        rows: in the order of the source.
        first: names of its items that no chunk before it has that is read at this moment.
        repeated: names of its items that one has.
    """

    rows: Sequence[SourceRow] = ()
    first: frozenset[Name] = frozenset()
    repeated: frozenset[Name] = frozenset()

    def repeats(self, item: Item) -> bool:
        """Whether a chunk before it, which may not be looked up yet, has an item of this name."""
        return (item.id, item.kind) in self.repeated


class OpenChunks:
    """The chunks that were taken and not yet looked up. For one thread at a time.

    Nobody waits for the files of an earlier chunk: what a later one repeats is known before any is read.

    Args:
        pair: what becomes of a text and an image in a row.
    """

    def __init__(self, pair: PairMode | None) -> None:
        self._pair = pair
        self._names = set[Name]()

    def open(self, rows: Sequence[SourceRow]) -> Chunk:
        """A chunk of the rows behind those of all chunks before."""
        names = frozenset((row.id, kind) for row in rows for kind in kinds_of(row, self._pair))
        repeated = names & self._names
        self._names |= names
        return Chunk(rows, names - repeated, repeated)

    def close(self, chunk: Chunk) -> None:
        """Notes that a chunk was looked up: from now on the output knows its items."""
        self._names -= chunk.first
