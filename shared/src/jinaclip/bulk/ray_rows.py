"""Rows of the output as an actor gives them to Ray: the columns of a part, and some that the write task takes off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from jinaclip.bulk.manifest import Shape
from jinaclip.bulk.parts import schema_of, vectors_table
from jinaclip.bulk.precision import encode
from jinaclip.bulk.ray_read import KEY
from jinaclip.vectors import Vectors

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of the items of a table.

    Attributes:
        vectors: float32 (n, d), NaN where there is none.
        errors: why items failed, by their places.
        tokens: that each costs, int (n,).
        left: places of items that get no row, as the run ended before.
        billed: tokens of the whole call.
        hits: vectors that the cache had.
    """

    vectors: Vectors
    errors: Mapping[int, str]
    tokens: NDArray[np.int64]
    left: frozenset[int]
    billed: int
    hits: int

    @classmethod
    def nothing(cls, dimensions: int) -> Outcome:
        """That of no items."""
        return cls(np.zeros((0, dimensions), np.float32), {}, np.zeros(0, np.int64), frozenset(), 0, 0)


def encode_rows(table: pa.Table, outcome: Outcome, shape: Shape) -> pa.Table:
    """Rows for the items that are not left.

    Columns beside those of the output: the key, by which Ray's checkpoints go; `where`, for messages; `billed` and
    `hits` of the whole call, in its first row.
    """
    import pyarrow as pa

    kept = np.array([place for place in range(len(table)) if place not in outcome.left], np.int64)
    table = table.take(kept) if outcome.left else table
    rows = _fill(table, kept, outcome, shape)
    for name in (KEY, "where"):
        rows = rows.append_column(name, table[name])
    for name, count in (("billed", outcome.billed), ("hits", outcome.hits)):
        counts = np.zeros(len(kept), np.int64)
        counts[:1] = count
        rows = rows.append_column(name, pa.array(counts))
    return rows


def _fill(table: pa.Table, kept: NDArray[np.int64], outcome: Outcome, shape: Shape) -> pa.Table:
    """The columns of the output."""
    if not len(kept):
        return schema_of(shape.precision, shape.dimensions).empty_table()
    vectors = outcome.vectors[kept] if outcome.left else outcome.vectors
    failed = np.asarray(np.isnan(vectors).any(axis=1))
    if failed.any():  # else no copy is made of all rows
        vectors = np.where(failed[:, None], np.float32(0), vectors)
    stored, scales = encode(vectors, shape.precision)
    columns: dict[str, Sequence[Any]] = {
        "id": table["id"].to_pylist(),
        "kind": table["kind"].to_pylist(),
        "digest": [digest.hex() for digest in table["digest"].to_pylist()],
        "tokens": np.where(failed, 0, outcome.tokens[kept]).tolist(),
        "error": [outcome.errors.get(int(place)) for place in kept],
        "space": [shape.space] * len(kept),
    }
    if scales is not None:
        columns["scale"] = scales.tolist()
    return vectors_table(columns, stored, schema_of(shape.precision, shape.dimensions))
