"""Ray reads: splits of the source become tables of items, with the int64 keys by which Ray's checkpoints skip them."""

from __future__ import annotations

import pickle
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from jinaclip.bulk.blocks import check_row, size_of
from jinaclip.bulk.items import Item, items_of
from jinaclip.bulk.options import BulkOptions
from jinaclip.bulk.pipeline import describe
from jinaclip.bulk.ray_folders import EndWatch, RunFolder
from jinaclip.config import ImagePolicy
from jinaclip.errors import ConfigError, JinaClipError
from jinaclip.sources import SourceRow, Split

if TYPE_CHECKING:
    import pyarrow as pa
    from ray.data import Datasource

KEY = "key"
"""The column that Ray's checkpoints go by."""
MOST_READS = 2000
"""Read tasks of a run; splits of the source are read by one after another where there are more."""
READ_ROWS, READ_BYTES = 256, 4 * 2**20
"""Of a table that a read task gives; Ray joins them to its blocks."""
Keys = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Salt:
    """Makes int64 keys of items: one number of the 32 bytes that tell an item and its content apart.

    Each run draws its own, so that two items that happen to have one key, which Ray would take for the same, are
    different ones in the next run. Of 10^9 items two do with a chance of 3%.

    Attributes:
        factors: four odd numbers.
    """

    factors: tuple[int, int, int, int]

    @classmethod
    def draw(cls) -> Salt:
        """A new one."""
        return cls(tuple(secrets.randbits(64) | 1 for _ in range(4)))  # type: ignore[arg-type]

    def keys(self, keys: NDArray[np.uint8], digests: NDArray[np.uint8]) -> Keys:
        """int64 (n,) of keys and digests, uint8 (n, 16) each."""
        words = np.concatenate([keys, digests], axis=1).view(np.uint64)  # (n, 4), as random as SHA-256 is
        return (words * np.array(self.factors, np.uint64)).sum(axis=1, dtype=np.uint64).view(np.int64)


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What read tasks need to know.

    Attributes:
        options: of the run.
        policy: which images are accepted.
        salt: makes the keys.
        folder: where they leave what they saw.
    """

    options: BulkOptions
    policy: ImagePolicy
    salt: Salt
    folder: RunFolder

    def read(self, number: int, splits: Sequence[Split[Any]]) -> Iterator[pa.Table]:
        """The items of some splits, in tables, until the run is to end; leaves which they were. For a task of Ray's.

        A source that cannot be read any further ends the run; what was read until then is embedded.
        """
        seen, keys, watch = [np.zeros((0, 32), np.uint8)], set[bytes](), EndWatch(self.folder)
        try:
            for items in () if watch.is_over() else self._blocks(splits):
                identities = _identities(items)
                seen.append(identities)
                first = _first_of(identities, keys)
                yield self._table([items[place] for place in first], identities[first])
                if watch.is_over():
                    break
        except JinaClipError as error:
            self.folder.note_stop(error)
        self.folder.note_seen(number, np.concatenate(seen))

    def identities(self, splits: Sequence[Split[Any]]) -> Iterator[NDArray[np.uint8]]:
        """Keys and digests of the items of some splits, uint8 (n, 32) each, read here."""
        return map(_identities, self._blocks(splits))

    def _blocks(self, splits: Sequence[Split[Any]]) -> Iterator[list[Item]]:
        items: list[Item] = []
        size = 0
        for item in self._items(splits):
            items.append(item)
            size += size_of(item.content)
            if len(items) >= READ_ROWS or size >= READ_BYTES:
                yield items
                items, size = [], 0
        if items:
            yield items

    def _items(self, splits: Sequence[Split[Any]]) -> Iterator[Item]:
        options = self.options
        for row in self._rows(splits):
            check_row(row, options)
            if options.owns(row.id):
                yield from items_of(row, options.pair, options.weight, self.policy)

    def _rows(self, splits: Sequence[Split[Any]]) -> Iterator[SourceRow]:
        """Of the splits, or as many as `limit` says: then one task reads all of them."""
        rows, limit = chain.from_iterable(split.rows() for split in splits), self.options.limit
        if limit is None:
            yield from rows
            return
        yield from islice(rows, limit)
        if next(rows, None) is not None:
            self.folder.note_cut()

    def _table(self, items: Sequence[Item], identities: NDArray[np.uint8]) -> pa.Table:
        import pyarrow as pa

        columns = {
            KEY: pa.array(self.salt.keys(identities[:, :16], identities[:, 16:])),
            "id": pa.array([item.id for item in items], pa.string()),
            "kind": pa.array([item.kind for item in items], pa.string()),
            "digest": pa.array([item.digest for item in items], pa.binary()),
            "where": pa.array([item.where for item in items], pa.string()),
            "error": pa.array([None if item.error is None else describe(item.error) for item in items], pa.string()),
            "content": pa.array([pickle.dumps(item.content, 5) for item in items], pa.large_binary()),
        }
        return pa.table(columns)


def _identities(items: Sequence[Item]) -> NDArray[np.uint8]:
    """Key and digest of each item, uint8 (n, 32)."""
    parts = [item.key + item.digest for item in items]
    return np.frombuffer(b"".join(parts), np.uint8).reshape(-1, 32)


def _first_of(identities: NDArray[np.uint8], keys: set[bytes]) -> list[int]:
    """Places of items whose key is not among these yet, to which they are added.

    Of an id that comes twice the first counts. Where another task reads it again, that is noticed at the end.
    """
    places = []
    for place, identity in enumerate(identities):
        key = identity[:16].tobytes()
        if key not in keys:
            keys.add(key)
            places.append(place)
    return places


def group_splits(splits: Sequence[Split[Any]], most: int = MOST_READS) -> list[Sequence[Split[Any]]]:
    """Splits in order, in at most so many groups of about one size."""
    count = min(most, len(splits))
    bounds = [len(splits) * i // count for i in range(count + 1)] if count else []
    return [splits[start:end] for start, end in pairwise(bounds)]


def make_datasource(read_options: ReadOptions, groups: Sequence[Sequence[Split[Any]]]) -> Datasource:
    """What Ray reads: one task for each group of splits."""
    from ray.data import Datasource, ReadTask
    from ray.data.block import BlockMetadata

    class Items(Datasource):
        """The items of a source."""

        def estimate_inmemory_data_size(self) -> int | None:
            """Nobody knows."""
            return None

        def get_read_tasks(
            self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
        ) -> list[ReadTask]:
            """As many as there are groups, whatever Ray would like."""
            if per_task_row_limit is not None:
                raise ConfigError("Ray may not cut the source: rows that it leaves out would count as deleted")
            unknown = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
            return [ReadTask(partial(read_options.read, i, group), unknown) for i, group in enumerate(groups)]

    return Items()  # type: ignore[no-untyped-call]
