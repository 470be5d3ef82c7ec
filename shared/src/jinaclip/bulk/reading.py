"""Reads an output batch by batch, for what takes vectors from Python."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, uuid5

import numpy as np
from numpy.typing import NDArray

from jinaclip.bulk.files import OutputFolder
from jinaclip.bulk.items import Kind
from jinaclip.bulk.manifest import check_alike, read_manifests
from jinaclip.bulk.parts import NAME, DamagedPartError, read_columns, stored_vectors
from jinaclip.bulk.precision import Precision, check_precision, decode
from jinaclip.errors import ConfigError, InputError

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = ["id", "kind", "vector"]


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows that have a vector.

    Attributes:
        ids: of the items.
        kinds: "text", "image" or "pair" of each.
        vectors: float32 (n, d); as they are stored, where that was asked for.
        scales: float32 (n,), of vectors of int8 that are as they are stored; else None.
    """

    ids: list[str]
    kinds: list[str]
    vectors: NDArray[Any]
    scales: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def uuids(self) -> list[str]:
        """A UUID for each row, the same whenever the same id and kind are read: writing again replaces."""
        return [str(uuid5(NAMESPACE_URL, f"{kind}:{name}")) for name, kind in zip(self.ids, self.kinds, strict=True)]


def read(
    folder: str | os.PathLike[str],
    *,
    kind: Kind | None = None,
    batch_size: int = 1024,
    dequantize: bool = True,
    unfinished: bool = False,
) -> Iterator[Batch]:
    """The rows of an output that have a vector, in batches; memory holds a few megabytes.

    Args:
        folder: what `jinaclip embed --out` was given, a path or an address.
        kind: only rows of "text", "image" or "pair"; their ids are unique. None: all.
        batch_size: most rows of a batch.
        dequantize: vectors are float32, whatever they are stored as; those of `ubinary` have length 1 and numbers of
            one size. False gives them as they are stored.
        unfinished: reads what is there even if the run, or one of its shards, has not come to its end. Such a folder
            may hold an id twice: its vector before and after an edit.

    Raises:
        ConfigError: there is no output, it is not finished, or its shards were made with different settings.
        InputError: a part cannot be read.
        MissingDependencyError: the extra `bulk` is not installed.
    """
    place = OutputFolder(folder)
    names = place.names()
    precision = check_readable(place, names, unfinished=unfinished)
    parts = [name for name in names if NAME.fullmatch(name)]
    return _batches(place, parts, precision, kind, batch_size, dequantize=dequantize)


def check_readable(folder: OutputFolder, names: list[str], *, unfinished: bool) -> Precision:
    """The precision of an output.

    Raises:
        ConfigError: there is no output, it is not finished, or its shards were made with different settings.
    """
    found = read_manifests(folder, names)
    if not found:
        raise ConfigError(f"{folder} has no _manifest.json, so it is no output of `jinaclip embed`")
    check_alike(folder, found)
    first = next(iter(found.values()))
    shards = int((first.get("shard") or "1/1").partition("/")[2])
    finished = sum(bool(manifest.get("finished_at")) for manifest in found.values())
    if finished < shards and not unfinished:
        of = "" if shards == 1 else f": {finished} of {shards} shards are"
        raise ConfigError(
            f"{folder} is not finished{of}; run the same command until it ends, or read it with unfinished=True"
        )
    check_precision(first["precision"], first["dimensions"])
    precision: Precision = first["precision"]
    return precision


def _batches(
    folder: OutputFolder, parts: list[str], precision: Precision, kind: Kind | None, size: int, *, dequantize: bool
) -> Iterator[Batch]:
    import pyarrow as pa
    import pyarrow.compute as pc

    waiting = None
    for table in _tables(folder, parts, [*COLUMNS, *(["scale"] if precision == "int8" else [])]):
        wanted = pc.is_valid(table["vector"])
        some = table.filter(wanted if kind is None else pc.and_(wanted, pc.equal(table["kind"], kind)))
        waiting = some if waiting is None else pa.concat_tables([waiting, some])
        while len(waiting) >= size:
            yield _batch_of(waiting[:size], precision, dequantize=dequantize)
            waiting = waiting[size:]
    if waiting is not None and len(waiting):
        yield _batch_of(waiting, precision, dequantize=dequantize)


def _tables(folder: OutputFolder, parts: list[str], columns: list[str]) -> Iterator[pa.Table]:
    for name in parts:
        try:
            yield from read_columns(folder, name, columns)
        except DamagedPartError as error:
            raise InputError(
                f"{name} in {folder} is damaged ({error}): run the same command again, which embeds its rows anew"
            ) from None


def _batch_of(table: pa.Table, precision: Precision, *, dequantize: bool) -> Batch:
    rows, scales = stored_vectors(table)
    ids, kinds = table["id"].to_pylist(), table["kind"].to_pylist()
    if dequantize:
        return Batch(ids, kinds, decode(rows, precision, scales))
    return Batch(ids, kinds, rows, scales)
