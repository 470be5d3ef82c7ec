"""Rows of the part that is being filled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from jinaclip.bulk.items import Item
from jinaclip.bulk.manifest import Shape
from jinaclip.bulk.parts import schema_of, vectors_table
from jinaclip.bulk.precision import DTYPES, stored_width

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = ("id", "kind", "digest", "tokens", "error")
"""What is kept of each row, beside its vector."""


class Buffer:
    """Room for the rows of one part, in memory as they will be stored.

    Args:
        size: most rows.
        shape: of the vectors.
    """

    def __init__(self, size: int, shape: Shape) -> None:
        self._size, self._space = size, shape.space
        self._schema = schema_of(shape.precision, shape.dimensions)
        self._vectors = np.zeros((size, stored_width(shape.precision, shape.dimensions)), DTYPES[shape.precision])
        self._scales = np.zeros(size, np.float32)
        self.clear()

    def clear(self) -> None:
        """Empties it."""
        self._columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}

    def __len__(self) -> int:
        return len(self._columns["id"])

    @property
    def room(self) -> int:
        """Rows that still fit."""
        return self._size - len(self)

    def add(
        self,
        items: Sequence[Item],
        vectors: NDArray[Any],
        scales: NDArray[np.float32] | None,
        errors: Sequence[str | None],
        tokens: Sequence[int],
    ) -> None:
        """Takes in rows, at most `room`, with vectors as `encode` gives them."""
        rows = slice(len(self), len(self) + len(items))
        self._vectors[rows] = vectors
        if scales is not None:
            self._scales[rows] = scales
        columns = self._columns
        columns["id"] += [item.id for item in items]
        columns["kind"] += [item.kind for item in items]
        columns["digest"] += [item.digest for item in items]
        columns["tokens"] += tokens
        columns["error"] += errors

    def take(self, rows: NDArray[Any]) -> pa.Table:
        """Some of its rows, as a part would have them."""
        import pyarrow as pa

        return self.table().take(pa.array(rows))

    def table(self) -> pa.Table:
        """The rows as a part has them. Their vectors lie in the buffer, and last until it is filled anew."""
        columns: dict[str, Sequence[Any]] = {**self._columns, "space": [self._space] * len(self)}
        columns["digest"] = [digest.hex() for digest in columns["digest"]]
        if "scale" in self._schema.names:
            columns["scale"] = self._scales[: len(self)].tolist()
        return vectors_table(columns, self._vectors[: len(self)], self._schema)
