"""A part: a Parquet file of finished rows. The parts are the only record of what is done."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from jinaclip.bulk.files import OutputFolder, random_name
from jinaclip.bulk.index import ERROR, VECTOR, Digests
from jinaclip.bulk.items import key_of
from jinaclip.bulk.precision import DTYPES, Precision, stored_width
from jinaclip.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet

GROUP_ROWS = 1024
"""Rows that are read at once, 4 MB at 1,024 dimensions."""
WRITE_BATCH = 2**20
"""Numbers that are handed to the writer of a column at once, those of a group of rows: a quarter quicker than 1,024."""
LEDGER = ["id", "kind", "digest", "space", "error"]
"""Columns that say what is done."""
NAME = re.compile(r"part-(?:(?P<shard>\d+)of(?P<shards>\d+)-)?(?P<number>\d{5,})-\w+\.parquet")
PART_ROWS = 8192
"""Most rows of a part."""
Shard = tuple[int, int]
"""(i, n): the i-th of n shards, from 1."""


class DamagedPartError(Exception):
    """A part cannot be read."""


@dataclass(slots=True)
class Part:
    """A file of the output."""

    name: str
    rows: int
    plain: bool
    """Whether its columns are exactly those that this version writes."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """What a part says of its rows, but for the vectors."""

    part: Part
    keys: Digests
    digests: Digests
    flags: NDArray[np.uint8]


def schema_of(precision: Precision, dimensions: int) -> pa.Schema:
    """The columns of every part."""
    import pyarrow as pa

    number = pa.from_numpy_dtype(DTYPES[precision])
    columns = {"id": pa.string(), "kind": pa.string(), "vector": pa.list_(number, stored_width(precision, dimensions))}
    if precision == "int8":
        columns["scale"] = pa.float32()
    columns |= {"digest": pa.string(), "space": pa.string(), "tokens": pa.int32(), "error": pa.string()}
    return pa.schema(columns)


def name_of(number: int, shard: Shard | None) -> str:
    """The name of a new part."""
    return f"part{suffix_of(shard)}-{number:05d}-{random_name()}.parquet"


def suffix_of(shard: Shard | None) -> str:
    """What the names of a shard's own files have, such as "-2of4"; "" without shards."""
    return f"-{shard[0]}of{shard[1]}" if shard else ""


def shard_of(match: re.Match[str]) -> Shard | None:
    """Whose file it is, by the match of its name."""
    return (int(match["shard"]), int(match["shards"])) if match["shard"] else None


def number_of(name: str) -> int:
    """The number in the name of a part."""
    match = NAME.fullmatch(name)
    return int(match["number"]) if match else 0


def write_part(table: pa.Table, precision: Precision, file: Any) -> None:
    """Writes a part into a file. Parquet has no bytes, only 32-bit numbers; its dictionaries make bytes of them."""
    import pyarrow.parquet as pq

    small = ["vector.list.element"] if precision in ("int8", "ubinary") else []
    texts = [name for name in table.column_names if name != "vector"]
    pq.write_table(
        table,
        file,
        row_group_size=GROUP_ROWS,
        write_batch_size=WRITE_BATCH,
        use_dictionary=["kind", "space", *small],
        compression=dict.fromkeys(texts, "zstd") | {"vector.list.element": "none"},
        write_statistics=["kind", "space"],
        write_page_checksum=True,
    )


def read_ledger(folder: OutputFolder, name: str, schema: pa.Schema, space: str) -> Ledger:
    """What a part says of its rows.

    Raises:
        DamagedPartError: it cannot be read.
        ConfigError: it is no part of this output.
    """
    with _open_part(folder, name) as file:
        check_schema(folder, name, file.schema_arrow, schema)
        plain = file.schema_arrow.equals(schema)
        table = file.read(LEDGER)
    check_space(folder, name, table["space"], space)
    return Ledger(Part(name, len(table), plain), *_rows_of(table))


def check_schema(folder: OutputFolder, name: str, found: pa.Schema, schema: pa.Schema) -> None:
    """Refuses a file that someone else put there, and vectors of another width or precision."""
    lacking = [column for column in schema.names if column not in found.names]
    if lacking and set(lacking) != {"scale"}:
        raise ConfigError(
            f"{folder} holds {name}, which is no part of an output (no column {lacking[0]!r}), and who reads the "
            "folder would read it too: choose another --out, or move that file away",
            option="out",
        )
    if not has_vectors_of(found, schema):
        have, want = found.field("vector").type, schema.field("vector").type
        raise ConfigError(
            f"{folder} holds vectors of type {have} ({name}) and this run would write {want}: choose another --out, or "
            "the precision and dimensions that it has",
            option="out",
        )


def has_vectors_of(found: pa.Schema, schema: pa.Schema) -> bool:
    """Whether vectors have the width and the numbers of those of another schema."""
    import pyarrow as pa

    have, want = found.field("vector").type, schema.field("vector").type
    return pa.types.is_fixed_size_list(have) and have.value_type == want.value_type and have.list_size == want.list_size


def check_space(folder: OutputFolder, name: str, spaces: pa.ChunkedArray, space: str) -> None:
    """Refuses vectors of another space."""
    other = next((found for found in spaces.unique().to_pylist() if found != space), None)
    if other is not None:
        raise ConfigError(
            f"{folder} holds vectors of the space {other} ({name}) and this run would write {space}, which cannot be "
            "compared with them: choose another --out, or the model and options that it was begun with",
            option="out",
        )


def _rows_of(table: pa.Table) -> tuple[Digests, Digests, NDArray[np.uint8]]:
    pairs = zip(table["id"].to_pylist(), table["kind"].to_pylist(), strict=True)
    keys = b"".join(key_of(name, kind) for name, kind in pairs)
    digests = bytes.fromhex("".join(table["digest"].to_pylist()))
    done = np.asarray(table["error"].is_null())
    flags = np.where(done, VECTOR, ERROR).astype(np.uint8)
    shape = (len(table), 16)
    return np.frombuffer(keys, np.uint8).reshape(shape), np.frombuffer(digests, np.uint8).reshape(shape), flags


def read_rows(folder: OutputFolder, name: str, rows: NDArray[Any], schema: pa.Schema) -> Iterator[pa.Table]:
    """Some rows of a part, by their sorted numbers, in tables of at most `GROUP_ROWS` where this version wrote it.

    Raises:
        DamagedPartError: it cannot be read.
    """
    import pyarrow as pa

    with _open_part(folder, name) as file:
        start = 0
        for group in range(file.num_row_groups):
            stop = start + file.metadata.row_group(group).num_rows
            within = rows[np.searchsorted(rows, start) : np.searchsorted(rows, stop)] - start
            start = stop
            if within.size:
                yield file.read_row_group(group, schema.names).take(pa.array(within)).cast(schema)


def read_columns(folder: OutputFolder, name: str, columns: list[str]) -> Iterator[pa.Table]:
    """Some columns of a part, a group of rows at a time.

    Raises:
        DamagedPartError: it cannot be read.
    """
    with _open_part(folder, name) as file:
        for group in range(file.num_row_groups):
            yield file.read_row_group(group, columns)


@contextmanager
def _open_part(folder: OutputFolder, name: str) -> Iterator[pyarrow.parquet.ParquetFile]:
    """A part for reading.

    Raises:
        DamagedPartError: what it holds is not as it was written.
        OSError: it cannot be read at present.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with folder.open(name) as source, pq.ParquetFile(source, page_checksum_verification=True) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        if is_sound(folder.read(name)):
            raise
        raise DamagedPartError(" ".join(str(error).split())) from None


def is_sound(data: bytes) -> bool:
    """Whether bytes are a whole Parquet file: pyarrow has the same errors for a bad file and a bad connection."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True) as file:
            for group in range(file.num_row_groups):
                file.read_row_group(group)
    except (pa.ArrowException, OSError):
        return False
    return True


def stored_vectors(table: pa.Table) -> tuple[NDArray[Any], NDArray[np.float32] | None]:
    """Vectors of rows that all have one, as they are stored, (n, w), and of int8 their scales, (n,)."""
    rows = table["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(len(table), -1)
    return rows, table["scale"].to_numpy() if "scale" in table.column_names else None


def vectors_table(columns: dict[str, Sequence[Any]], rows: NDArray[Any], schema: pa.Schema) -> pa.Table:
    """A table of rows of which the vectors are a numpy array; those of rows that have an error are null."""
    import pyarrow as pa

    failed = np.array([error is not None for error in columns["error"]], bool)
    values = pa.array(np.ascontiguousarray(rows).reshape(-1))
    vectors = pa.FixedSizeListArray.from_arrays(values, type=schema.field("vector").type, mask=pa.array(failed))
    arrays = {name: pa.array(column, schema.field(name).type) for name, column in columns.items()}
    return pa.table([arrays.get(name, vectors) for name in schema.names], schema=schema)
