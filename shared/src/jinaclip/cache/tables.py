"""A cache as a Parquet file, to be moved to another machine or kept."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jinaclip.cache.cache import Cache
from jinaclip.cache.entries import (
    checksum_of,
    fingerprint_of,
    is_vector,
    pack_digest,
    pack_vector,
    read_digest,
    read_vector,
)
from jinaclip.errors import InputError
from jinaclip.requirements import need

if TYPE_CHECKING:
    import pyarrow as pa

AT_ONCE = 5000
"""Rows in memory, 20 MB of vectors."""
KEY_BYTES = 32
Row = dict[str, Any]


def export_table(cache: Cache, path: str | os.PathLike[str]) -> int:
    """Writes what a cache holds; gives how many rows. Entries that are spoilt are left out.

    Columns: key (32 bytes), fingerprint and vector (float32) of a vector, or digest of an image whose file is known;
    checksum, of the rest. The file appears once it is complete.

    Raises:
        MissingDependencyError: pyarrow is not installed.
        JinaClipError: the cache cannot be read.
        OSError: the file cannot be written.
    """
    pq, place = _pyarrow()[1], Path(path)
    unfinished = place.with_name(f"{place.name}.unfinished")
    written = 0
    try:
        with pq.ParquetWriter(unfinished, _schema(), compression="zstd") as writer:
            rows = filter(None, (_row_of(key, entry) for key, entry in cache.scan()))
            while some := list(islice(rows, AT_ONCE)):
                writer.write_table(_table(some))
                written += len(some)
        unfinished.replace(place)
    finally:
        unfinished.unlink(missing_ok=True)
    return written


def import_table(cache: Cache, path: str | os.PathLike[str]) -> int:
    """Puts the rows of a file that `export_table` wrote into a cache; gives how many. What the cache has stays.

    Raises:
        MissingDependencyError: pyarrow is not installed.
        InputError: it is no such file, or a row is no entry, or not as it was written; those before it, 5000 at a
            time, are in the cache.
        JinaClipError: the cache cannot be written.
        OSError: the file cannot be read.
    """
    pa, pq = _pyarrow()
    count = 0
    try:
        # From pyarrow 26 on it would keep all that was read until the end: the whole file.
        with pq.ParquetFile(path, pre_buffer=False) as file:
            if not file.schema_arrow.equals(_schema()):
                raise InputError(f"{path} is not what `jinaclip cache export` writes: its columns are others")
            for batch in file.iter_batches(AT_ONCE):
                count += cache.add(_entries_of(batch, count))
    except pa.ArrowException as error:
        raise InputError(f"{path} cannot be read as Parquet: {error}") from None
    return count


def _pyarrow() -> tuple[Any, Any]:
    pa, pq = (need(module, "a Parquet file", "parquet") for module in ("pyarrow", "pyarrow.parquet"))
    return pa, pq


def _schema() -> pa.Schema:
    pa = _pyarrow()[0]
    content = {"fingerprint": pa.string(), "vector": pa.list_(pa.float32()), "digest": pa.binary()}
    return pa.schema({"key": pa.binary(), **content, "checksum": pa.uint32()})


def _table(rows: list[Row]) -> pa.Table:
    return _pyarrow()[0].Table.from_pylist(rows, schema=_schema())


def _row_of(key: bytes, entry: bytes) -> Row | None:
    """An entry as a row; None if it is spoilt."""
    if not is_vector(entry):
        digest = read_digest(key, entry)
        return None if digest is None else {"key": key, "digest": digest, "checksum": checksum_of(entry)}
    row = read_vector(key, entry)
    if row is None:
        return None
    return {"key": key, "fingerprint": fingerprint_of(entry), "vector": row, "checksum": checksum_of(entry)}


def _entries_of(batch: pa.RecordBatch, before: int) -> dict[bytes, bytes]:
    return dict(_entry_of(row, before + place) for place, row in enumerate(batch.to_pylist()))


def _entry_of(row: Row, number: int) -> tuple[bytes, bytes]:
    key, vector, digest = row["key"], row["vector"], row["digest"]
    if key is None or len(key) != KEY_BYTES or (vector is None) == (digest is None):
        raise InputError(f"row {number} is no entry of a cache")
    made_by = (row["fingerprint"] or "").encode("ascii", "replace")
    entry = pack_vector(key, made_by, np.array(vector, np.float32)) if digest is None else pack_digest(key, digest)
    if checksum_of(entry) != row["checksum"]:
        raise InputError(f"row {number} is not as it was written")
    return key, entry
