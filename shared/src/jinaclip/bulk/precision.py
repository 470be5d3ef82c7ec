"""How vectors lie in a part: float32, half of that, a byte or a bit a number. Each row by itself, nothing to train."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from jinaclip.errors import ConfigError, InputError
from jinaclip.vectors import Vectors, pack_bits

Precision = Literal["float32", "float16", "int8", "ubinary"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
DTYPES: dict[Precision, type[np.generic]] = {
    "float32": np.float32,
    "float16": np.float16,
    "int8": np.int8,
    "ubinary": np.uint8,
}
LARGEST = 127
"""Of int8; -128 stays unused, so that the negative of a vector is as exact as the vector."""


def check_precision(precision: str, dimensions: int) -> None:
    """Refuses what cannot be written.

    Raises:
        ConfigError: there is no such precision, or the bits of a vector do not fill whole bytes.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"precision={precision!r} must be one of {', '.join(PRECISIONS)}", option="precision")
    if precision == "ubinary" and dimensions % 8:
        raise ConfigError(f"precision='ubinary' needs dimensions that 8 divides, not {dimensions}", option="precision")


def stored_width(precision: Precision, dimensions: int) -> int:
    """Numbers in a stored row: an eighth of the dimensions for `ubinary`, else as many."""
    return dimensions // 8 if precision == "ubinary" else dimensions


def row_bytes(precision: Precision, dimensions: int) -> int:
    """Bytes of a stored vector."""
    return stored_width(precision, dimensions) * np.dtype(DTYPES[precision]).itemsize


def encode(vectors: Vectors, precision: Precision) -> tuple[NDArray[Any], NDArray[np.float32] | None]:
    """Vectors as they are stored.

    Args:
        vectors: float32 (n, d), finite.
        precision: how.

    Returns:
        The stored rows, (n, d) or for `ubinary` (n, d/8), and for `int8` the scale of each, float32 (n,):
        a vector is about its scale times its row.

    Raises:
        InputError: a number is too large for float16; `.index` is its row.
    """
    if precision == "ubinary":
        return pack_bits(vectors), None
    if precision == "int8":
        return _encode_bytes(vectors)
    if precision == "float32":
        return vectors, None
    with np.errstate(over="ignore"):
        rows = vectors.astype(np.float16)
    if not np.isfinite(rows).all():
        index = int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])
        raise InputError(f"row {index} holds a number too large for float16; use float32 or int8", index=index)
    return rows, None


def _encode_bytes(vectors: Vectors) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    scales = np.abs(vectors).max(axis=1, initial=0) / np.float32(LARGEST)
    safe = np.where(scales > 0, scales, np.float32(1))
    rows = np.rint(vectors / safe[:, None]).clip(-LARGEST, LARGEST)
    return rows.astype(np.int8), scales.astype(np.float32)


def decode(rows: NDArray[Any], precision: Precision, scales: NDArray[np.float32] | None = None) -> Vectors:
    """Stored rows as float32 (n, d).

    Those of `int8` are multiplied by their scales. Those of `ubinary` become vectors of length 1 whose numbers all have
    the same size, with their signs; the cosine of two says how many bits they share.
    """
    if precision == "int8":
        if scales is None:
            raise InputError("rows of int8 need their scales")
        return np.multiply(rows, scales[:, None], dtype=np.float32)
    if precision == "ubinary":
        signs = np.unpackbits(rows, axis=1).astype(np.float32) * 2 - 1
        return np.divide(signs, np.sqrt(np.float32(signs.shape[1])), dtype=np.float32)
    return rows.astype(np.float32, copy=False)
