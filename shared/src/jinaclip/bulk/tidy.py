"""The end of a run: parts without stale rows, and not too many small ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from jinaclip.bulk.index import Numbers
from jinaclip.bulk.part_list import PartList
from jinaclip.bulk.parts import DamagedPartError

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(slots=True)
class FinishReport:
    """What `Output.finish` did.

    Attributes:
        rows: that the output has now, those with an error included.
        dropped: rows that are gone: of deleted items, of contents that were edited since, and twofold ones.
        rewritten: parts that were written anew or merged.
        missing: items that were seen and have no row.
        unseen: rows that stay, as the id of some row of the source could not be read.
    """

    rows: int = 0
    dropped: int = 0
    rewritten: int = 0
    missing: int = 0
    unseen: int = 0


class Cleanup:
    """Writes the rows to keep of some parts into new ones, then removes the old.

    Args:
        parts: of the output.
        part_rows: most rows of a new one; parts of less than half as many are small.
    """

    def __init__(self, parts: PartList, part_rows: int) -> None:
        self._parts, self._part_rows = parts, part_rows
        self._waiting: list[pa.Table] = []
        self._read, self._written = 0, 0
        self._emptied: list[tuple[int, int]] = []
        """Old parts, each with the rows that must be written until it may go."""
        self._report = FinishReport()

    def run(self, numbers: Numbers, rows: Numbers) -> FinishReport:
        """Does it.

        Args:
            numbers: the part of each row to keep, sorted.
            rows: its row there.
        """
        bounds = np.searchsorted(numbers, np.arange(len(self._parts) + 1))
        kept = np.diff(bounds)
        self._report.rows = len(rows)
        self._report.dropped = sum(part.rows for part in self._parts) - len(rows)
        for number in self._parts_to_rewrite(kept):
            self._move_rows(number, rows[bounds[number] : bounds[number + 1]])
        self._write(1)
        for number in np.flatnonzero(kept == 0).tolist():
            if self._parts[number].rows:
                self._parts.delete(number)
        self._note_gone()
        return self._report

    def _note_gone(self) -> None:
        """Parts that somebody else removed while the run went on: what they held is missing, whatever was counted."""
        gone = self._parts.gone()
        self._report.missing += gone
        self._report.rows -= gone

    def _parts_to_rewrite(self, kept: NDArray[np.intp]) -> list[int]:
        """Parts to write anew: with stale rows or other columns; and small ones, if there is something to merge."""
        stale = [i for i, part in enumerate(self._parts) if kept[i] and (kept[i] < part.rows or not part.plain)]
        small = np.flatnonzero((kept > 0) & (kept < self._part_rows // 2)).tolist()
        return sorted({*stale, *small}) if stale or len(small) > 1 else []

    def _move_rows(self, number: int, rows: Numbers) -> None:
        before = self._read
        try:
            for table in self._parts.read(number, rows):
                self._waiting.append(table)
                self._read += len(table)
                self._write(self._part_rows)
        except DamagedPartError as error:
            self._note_lost(number, len(rows) - (self._read - before), error)
        else:
            self._emptied.append((number, self._read))
        self._report.rewritten += 1

    def _note_lost(self, number: int, lost: int, error: Exception) -> None:
        self._parts.set_aside(number, error, f"{lost} rows are lost; run again to embed them")
        self._report.missing += lost
        self._report.rows -= lost

    def _write(self, least: int) -> None:
        """Writes parts as long as so many rows wait, then removes the old parts of which no row waits any more."""
        import pyarrow as pa

        while self._read - self._written >= least:
            table = pa.concat_tables(self._waiting)
            new, rest = table[: self._part_rows], table[self._part_rows :]
            self._parts.write(new)
            self._written += len(new)
            self._waiting = [rest] if len(rest) else []
        while self._emptied and self._emptied[0][1] <= self._written:
            self._parts.delete(self._emptied.pop(0)[0])
