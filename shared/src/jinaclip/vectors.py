"""Arithmetic on embeddings: float32 arrays whose last axis is the vector."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jinaclip.errors import InputError

Vectors = NDArray[np.float32]


def as_vectors(values: ArrayLike, name: str = "embeddings") -> Vectors:
    """The values as float32 of shape (d,) or (n, d).

    Raises:
        InputError: they are not numbers, not finite, or of another shape.
    """
    try:
        vectors = np.asarray(values, dtype=np.float32)
    except (TypeError, ValueError):
        raise InputError(f"{name} must be numbers of shape (d,) or (n, d), all rows equally long") from None
    if vectors.ndim not in (1, 2) or vectors.shape[-1] == 0:
        raise InputError(f"{name} must have shape (d,) or (n, d), not {vectors.shape}")
    if not np.isfinite(vectors).all():
        raise InputError(f"{name} hold NaN or infinity")
    return vectors


def norms(vectors: Vectors) -> NDArray[Any]:
    """L2 norms along the last axis, which is kept: (n, d) gives (n, 1)."""
    return np.linalg.norm(vectors, axis=-1, keepdims=True)


def normalize(vectors: ArrayLike) -> Vectors:
    """The vectors at length 1.

    Raises:
        InputError: a vector is zero; `.index` is its row.
    """
    rows = as_vectors(vectors)
    lengths = norms(rows)
    if not lengths.all():
        index = int(np.flatnonzero(lengths.ravel() == 0)[0]) if rows.ndim > 1 else None
        raise InputError("a vector of zeros has no direction and cannot be normalised", index=index)
    return np.divide(rows, lengths, dtype=np.float32)


def truncate(embeddings: ArrayLike, dimensions: int) -> Vectors:
    """The first `dimensions` numbers of each vector, normalised again (Matryoshka).

    Args:
        embeddings: shape (d,) or (n, d).
        dimensions: 1 to d.

    Returns:
        float32, shape (dimensions,) or (n, dimensions), each vector at length 1.

    Raises:
        InputError: `dimensions` is out of range, or a vector is zero within it.
    """
    vectors = as_vectors(embeddings)
    width = vectors.shape[-1]
    if isinstance(dimensions, bool) or not isinstance(dimensions, int | np.integer) or not 1 <= dimensions <= width:
        raise InputError(f"dimensions={dimensions!r} must be an int from 1 to {width}, the width of the embeddings")
    return normalize(vectors[..., :dimensions])
