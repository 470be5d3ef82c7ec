"""The output of a bulk run: a folder of Parquet parts, to which runs add until each item of the source is there."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from jinaclip.bulk.buffer import Buffer
from jinaclip.bulk.files import OutputFolder
from jinaclip.bulk.index import ERROR, NOWHERE, VECTOR, Digests, Index, sort_places
from jinaclip.bulk.items import UNNAMED, Item
from jinaclip.bulk.lock import Lock, NoLock, take_lock
from jinaclip.bulk.manifest import (
    Manifest,
    Shape,
    check_resume,
    check_shards,
    manifest_name,
    now,
    read_manifests,
    warn_of_lost,
)
from jinaclip.bulk.part_list import PartList
from jinaclip.bulk.part_writer import PartWriter
from jinaclip.bulk.parts import PART_ROWS, DamagedPartError, Ledger, Shard, stored_vectors
from jinaclip.bulk.precision import encode, row_bytes
from jinaclip.bulk.tidy import Cleanup, FinishReport
from jinaclip.errors import ClosedError, ConfigError
from jinaclip.vectors import Vectors

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger("jinaclip.bulk")
PART_SECONDS = 60.0
AT_ONCE = 32
"""Parts whose rows are taken into the index together."""
TEXT_BYTES = 256
"""Of a row beside its vector, about."""
FOOT_BYTES = 2**16
"""Of a part beside its rows, and of the manifest: more than they take."""
NO_VECTOR = "no vector came back"
"""The error of a row of NaN for which no other was given."""
NO_ERRORS: Mapping[int, str] = MappingProxyType({})


class Output:
    """A folder of finished rows. For one thread; use it in a `with`, which writes what is buffered when it ends.

    Args:
        place: the folder, a path or an address such as s3://bucket/folder.
        shape: of the vectors.
        shard: which of how many, from 1; each writes parts of its own and leaves those of the others alone.
        part_rows: rows of a part.
        beside: bytes that whoever embeds writes to the same disk for each item, before its row.
        read_only: nothing is written, cleaned or locked, and the folder need not be there; for `look_up` alone.
        part_seconds: a part is written at the latest when its first row is so old, and something is asked or added.
        clock: seconds, for tests.

    Attributes:
        vectors_written: rows with a vector that were added, or copied, and are in parts by now.

    Raises:
        ConfigError: another run writes there; it holds another space, precision, width, settings or number of shards;
            or it holds Parquet files that are no parts. Nothing was changed.
        MissingDependencyError: the extra `bulk` is not installed.
        OSError: the folder cannot be read or written.
    """

    def __init__(
        self,
        place: str | os.PathLike[str] | OutputFolder,
        shape: Shape,
        *,
        shard: Shard | None = None,
        beside: int = 0,
        read_only: bool = False,
        part_rows: int = PART_ROWS,
        part_seconds: float = PART_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder = place if isinstance(place, OutputFolder) else OutputFolder(place)
        self.shape, self.shard, self._beside = shape, shard, beside
        self._part_rows, self._part_seconds, self._clock = part_rows, part_seconds, clock
        self._buffer, self._full = (Buffer(part_rows, shape) for _ in range(2))
        self._first_at, self._missing, self.vectors_written = 0.0, 0, 0
        self._parts, self._index = PartList(self.folder, shape, shard, read_only=read_only), Index()
        self._writer = PartWriter(self._save)
        self._read_only, self._over, self._saw_unnamed = read_only, False, False
        self._in_use = threading.RLock()  # by who adds rows, and who ends at once
        self._lock: Lock = NoLock() if read_only else take_lock(self.folder, shard)
        try:
            self._manifest = self._open()
        except BaseException:
            self._lock.release()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.flush()
        except OSError as second:
            if error is None:
                raise
            logger.warning("what waited to be written to %s is lost: %s", self.folder, second)
        finally:
            self._over = True  # threads that were not waited for write nothing any more
            self._lock.release()

    def __len__(self) -> int:
        """Rows in parts and in the buffer, those included that are stale."""
        return sum(part.rows for part in self._parts) + len(self._buffer)

    def _open(self) -> Manifest:
        names = self.folder.names()
        check_shards(self.folder, names, self.shard)
        manifest = Manifest.of(self.shape, self.shard)
        found = read_manifests(self.folder, names)
        warn_of_lost(self.folder, names, found)
        own = found.get(manifest_name(self.shard))
        begun = own is not None and any(map(self._parts.is_ours, names))
        if own is not None and begun:
            manifest.counts, manifest.finished_at = own.get("counts", {}), own.get("finished_at")
        elif own is not None:  # there are no rows of it
            del found[manifest_name(self.shard)]
        check_resume(self.folder, found, manifest)
        self._take_in(self._parts.read_new(names))
        if not self._read_only:
            self._parts.remove_unfinished(names)
        if not begun and not self._read_only:
            self._begin(manifest)
        return manifest

    def _begin(self, manifest: Manifest) -> None:
        """Saves the first manifest, and looks once more: of shards that begin at once, the last one sees the others."""
        manifest.save(self.folder, self.shard)
        try:
            check_resume(self.folder, read_manifests(self.folder, self.folder.names()), manifest)
        except ConfigError:
            self.folder.delete(manifest_name(self.shard))
            raise

    def _take_in(self, found: Iterator[tuple[int, Ledger]]) -> None:
        while some := list(islice(found, AT_ONCE)):
            self._take_in_some(some)

    def _take_in_some(self, found: list[tuple[int, Ledger]]) -> None:
        ledgers = [ledger for _, ledger in found]
        self._index.add(
            np.concatenate([ledger.keys for ledger in ledgers]),
            np.concatenate([ledger.digests for ledger in ledgers]),
            np.concatenate([np.full(ledger.part.rows, number, np.int32) for number, ledger in found]),
            np.concatenate([np.arange(ledger.part.rows, dtype=np.int32) for ledger in ledgers]),
            np.concatenate([ledger.flags for ledger in ledgers]),
        )

    def refresh(self, names: Sequence[str] | None = None) -> None:
        """Reads parts that others wrote since: those of these names, or all that there are."""
        self.flush()
        self._take_in(self._parts.read_new(self.folder.names() if names is None else names))
        self._index.settle()

    def look_up(self, items: Sequence[Item]) -> NDArray[np.uint8]:
        """What is known of items, which count as seen by this run: `ABSENT`, `DONE`, `FAILED`, `COPY` or `REPEATED`.

        Args:
            items: some, in the order of the source.

        Returns:
            uint8 (n,). For `COPY` call `copy`; `ABSENT` items, and `FAILED` ones that are tried again, go to `add`.
        """
        self._flush_old()
        return self.adopt_seen(_keys(items), digests_of(items))

    def keep_vectors(self, items: Sequence[Item]) -> list[Item]:
        """Those of items, each once, that have a vector of whatever content, which stays; nobody could read them now.

        They count as seen by this run; ask `look_up` about the others.
        """
        self._check_use()
        kept = self._index.keep(_keys(items))
        return [item for item, is_kept in zip(items, kept, strict=True) if is_kept]

    def adopt_seen(self, keys: Digests, digests: Digests) -> NDArray[np.uint8]:
        """Marks what others saw, who wrote parts into the folder, so that `finish` keeps that alone; see `refresh`.

        Args:
            keys: uint8 (n, 16), `Item.key`.
            digests: uint8 (n, 16), of the contents.

        Returns:
            As `look_up`; uint8 (n,).
        """
        self._check_use()
        self._saw_unnamed |= bool((digests == np.frombuffer(UNNAMED, np.uint8)).all(axis=1).any())
        return self._index.mark(keys, digests)

    def _check_use(self) -> None:
        if self._over:
            raise ClosedError("finish() was called, after which the output must be opened anew")

    def known(self, *, failed: bool) -> tuple[Digests, Digests]:
        """What needs no embedding: keys and digests of the rows that have a vector, uint8 (n, 16) each.

        Args:
            failed: also of those that have an error.
        """
        return self._index.known(VECTOR | ERROR if failed else VECTOR)

    def missing(self) -> Digests:
        """Keys of the items that were seen and have no row, neither vector nor error; uint8 (n, 16)."""
        return self._index.missing()

    def copy(self, items: Sequence[Item]) -> list[Item]:
        """Writes rows for items of whose content another id has the vector, which is taken as it is stored.

        Returns:
            The items of which the vector cannot be had any more; embed them.
        """
        parts, rows = self._index.locate(digests_of(items))
        left: list[Item] = []
        found: list[tuple[list[Item], pa.Table]] = []  # all are read before one is added, which may empty the buffer
        for part in np.unique(parts).tolist():
            places = np.flatnonzero(parts == part).tolist()
            some, table = [items[i] for i in places], self._take(part, rows[places])
            if table is None:
                left += some
            else:
                found.append((some, table))
        for some, table in found:
            self._append(some, *stored_vectors(table), [None] * len(some), table["tokens"].to_pylist())
        return left

    def _take(self, part: int, rows: NDArray[np.int32]) -> pa.Table | None:
        """Rows of a part, or of the buffer; None if they cannot be read."""
        if part == NOWHERE:
            return None
        if part == len(self._parts):
            return self._buffer.take(rows)
        if (table := self._writer.table_of(part)) is not None:
            return table.take(rows)
        try:
            return self._parts.take(part, rows)
        except DamagedPartError as error:
            self._parts.set_aside(part, error, "its rows are lost; the next run embeds them again")
            self._index.forget(part)
            return None

    def add(
        self,
        items: Sequence[Item],
        vectors: Vectors,
        errors: Mapping[int, str] = NO_ERRORS,
        tokens: Sequence[int] | None = None,
    ) -> None:
        """Takes in rows, which are written when a part is full or a minute old.

        Args:
            items: that `look_up` was asked about.
            vectors: float32 (n, d), NaN where an item failed.
            errors: why items failed, by their places.
            tokens: billed for each; 0 if not given.

        Raises:
            OSError: a part could not be written. Its rows stay in memory, for `flush`; what came behind them is lost.
            ClosedError: the output was finished, or left.
        """
        failed = np.logical_not(np.isfinite(vectors).all(axis=1))
        failed[list(errors)] = True
        messages: list[str | None] = [None] * len(items)
        if failed.any():  # else no copy is made of all rows
            vectors = np.where(failed[:, None], np.float32(0), vectors)
            for place in np.flatnonzero(failed).tolist():
                messages[place] = errors.get(place, NO_VECTOR)
        rows, scales = encode(vectors, self.shape.precision)
        self._append(items, rows, scales, messages, [0] * len(items) if tokens is None else tokens)

    def _append(
        self,
        items: Sequence[Item],
        rows: NDArray[Any],
        scales: NDArray[np.float32] | None,
        errors: Sequence[str | None],
        tokens: Sequence[int],
    ) -> None:
        start = 0
        with self._in_use:
            self._check_use()
            while start < len(items):
                if not self._buffer.room:
                    self._begin_part()
                some = slice(start, start + self._buffer.room)
                cut = None if scales is None else scales[some]
                self._place(items[some], errors[some])
                self._buffer.add(items[some], rows[some], cut, errors[some], tokens[some])
                start = some.stop
            if not self._buffer.room:
                self._begin_part()
            self._flush_old()

    def _place(self, items: Sequence[Item], errors: Sequence[str | None]) -> None:
        before = len(self._buffer)
        if not before:
            self._first_at = self._clock()
        flags = np.array([VECTOR if error is None else ERROR for error in errors], np.uint8)
        rows = np.arange(before, before + len(items), dtype=np.int32)
        self._index.place(_keys(items), digests_of(items), len(self._parts), rows, flags)

    def _flush_old(self) -> None:
        if len(self._buffer) and self._clock() - self._first_at >= self._part_seconds:
            self.flush()

    def check_room(self, items: int) -> None:
        """Refuses to go on where the next parts could not be written: nobody should pay for what they would hold.

        Args:
            items: that are embedded at this moment, or next. What is buffered is counted here.

        Raises:
            OSError: the disk is nearly full.
        """
        row = row_bytes(self.shape.precision, self.shape.dimensions) + TEXT_BYTES
        waiting = (len(self._buffer) + len(self._writer)) * row
        self.folder.check_room(waiting + items * (row + self._beside) + 2 * FOOT_BYTES)

    def flush(self) -> None:
        """Writes what is buffered as a part, and waits until all is written.

        Raises:
            OSError: it could not be written, and stays in memory.
        """
        with self._in_use:
            if len(self._buffer):
                self._begin_part()
            self._writer.finish()

    def _begin_part(self) -> None:
        """Has what is buffered written as a part while the other buffer fills."""
        self._writer.finish()
        self._unfinish()
        self._buffer, self._full = self._full, self._buffer
        self._buffer.clear()
        table = self._full.table()
        self._writer.begin(self._parts.add(len(table)), table)

    def _save(self, number: int, table: pa.Table) -> None:
        self._parts.save(number, table)
        self.vectors_written += table["error"].null_count

    def _unfinish(self) -> None:
        """Before anything changes, the manifest ceases to say that all is done."""
        if self._manifest.finished_at is not None:
            self._manifest.finished_at = None
            self._manifest.save(self.folder, self.shard)

    def finish(self) -> FinishReport:
        """Removes rows of items that the run did not see, or saw with another content, and merges small parts.

        Call it after the whole source was read, as the last of a run. Rows are written anew before they are removed
        elsewhere, so a crash loses none; what was left twice goes at the next `finish`. While the id of some row could
        not be read, nobody knows whose it was, and rows of items that were not seen stay.

        Raises:
            OSError: a part could not be read, written or removed; the next run goes on from there.
        """
        self._check_use()
        self.refresh()  # a task of Ray's that outlived its run may have written meanwhile
        self._unfinish()
        self._over = True  # the index does not follow rows to other parts
        kept, unseen = self._index.current(), self._index.unseen()
        if self._saw_unnamed:
            kept = sort_places(*(np.concatenate(both) for both in zip(kept, unseen, strict=True)))
        report = Cleanup(self._parts, self._part_rows).run(*kept)
        report.unseen = len(unseen[0]) if self._saw_unnamed else 0
        report.missing += len(self._index.missing())
        self._missing = report.missing
        self.save_manifest(self._manifest.counts, finished=True)
        return report

    def save_manifest(self, counts: Mapping[str, int], *, finished: bool) -> None:
        """Writes the manifest.

        Args:
            counts: of the run so far.
            finished: whether the output is as the source is; of no effect while `finish` found items missing.
        """
        self._manifest.counts = dict(counts)
        self._manifest.finished_at = now() if finished and not self._missing else None
        self._manifest.save(self.folder, self.shard)


def _keys(items: Sequence[Item]) -> Digests:
    return np.frombuffer(b"".join([item.key for item in items]), np.uint8).reshape(-1, 16)


def digests_of(items: Sequence[Item]) -> Digests:
    """Of contents, uint8 (n, 16)."""
    return np.frombuffer(b"".join([item.digest for item in items]), np.uint8).reshape(-1, 16)
