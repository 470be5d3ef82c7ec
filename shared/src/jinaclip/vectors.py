"""Arithmetic on embeddings: float32 arrays whose last axis is the vector. Rows of NaN, of failed items, are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jinaclip.errors import ConfigError, InputError
from jinaclip.numeric import is_number, is_whole

Vectors = NDArray[np.float32]
FAILED_ROW = "; an item that failed has no vector, leave it out with Results.successes()"
OPPOSITE = 1e-6
"""Length of the mean under which two vectors cancel out and rounding would choose the direction."""


def as_vectors(values: ArrayLike, name: str = "embeddings") -> Vectors:
    """The values as float32 of shape (d,) or (n, d).

    Raises:
        InputError: they are not numbers, not finite, or of another shape; `.index` is the first row that is not finite.
    """
    try:
        vectors = np.asarray(values, dtype=np.float32)
    except (TypeError, ValueError):
        raise InputError(f"{name} must be numbers of shape (d,) or (n, d), all rows equally long") from None
    if vectors.ndim not in (1, 2) or vectors.shape[-1] == 0:
        raise InputError(f"{name} must have shape (d,) or (n, d), not {vectors.shape}")
    if not np.isfinite(vectors).all():
        _refuse_first_unsound(vectors, name)
    return vectors


def _refuse_first_unsound(vectors: Vectors, name: str) -> None:
    if vectors.ndim == 1:
        raise InputError(f"{name}: NaN or infinity{FAILED_ROW}")
    index = int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])
    raise InputError(f"row {index} of {name} holds NaN or infinity{FAILED_ROW}", index=index)


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
    if not is_whole(dimensions) or not 1 <= dimensions <= width:
        raise InputError(f"dimensions={dimensions!r} must be an int from 1 to {width}, the width of the embeddings")
    return normalize(vectors[..., :dimensions])


def check_weight(weight: float) -> float:
    """The weight of the text, from 0 (image alone) to 1 (text alone).

    Raises:
        ConfigError: it is no number in that range.
    """
    if not is_number(weight) or not 0 <= weight <= 1:
        raise ConfigError(f"weight={weight!r} must be a number from 0 (image alone) to 1 (text alone)")
    return float(weight)


def fuse(text: ArrayLike, image: ArrayLike, weight: float = 0.5) -> Vectors:
    """normalise(weight * text + (1 - weight) * image), over unit vectors.

    Args:
        text: shape (d,) or (n, d); brought to length 1 first.
        image: of the same shape; brought to length 1 first.
        weight: share of the text, 0 to 1.

    Returns:
        float32 of the same shape, each vector at length 1.

    Raises:
        ConfigError: the weight is out of range.
        InputError: shapes differ, a vector is zero, or a text and its image are exactly opposite.
    """
    share = np.float32(check_weight(weight))
    texts, images = as_vectors(text, "text"), as_vectors(image, "image")
    if texts.shape != images.shape:
        raise InputError(f"text {texts.shape} and image {images.shape} must have the same shape")
    mean = share * normalize(texts) + (1 - share) * normalize(images)
    cancelled = np.flatnonzero(norms(mean).ravel() < OPPOSITE)
    if cancelled.size:
        index = int(cancelled[0]) if mean.ndim > 1 else None
        raise InputError("text and image point in opposite directions and cancel out; use another weight", index=index)
    return normalize(mean)


def pack_bits(embeddings: ArrayLike) -> NDArray[np.uint8]:
    """A bit for each number, set where it is above zero, eight to a byte and the first one highest, as Jina's API does.

    Args:
        embeddings: shape (..., d).

    Returns:
        uint8, shape (..., d / 8). Where d is no multiple of 8, the last byte ends with bits that are not set.
    """
    return np.packbits(np.asarray(embeddings) > 0, axis=-1)


def to_signed(octets: NDArray[np.uint8]) -> NDArray[np.int8]:
    """The same bytes less 128, as "int8" and "binary" vectors have them: 0 to 255 become -128 to 127."""
    return (octets ^ np.uint8(128)).view(np.int8)  # in two's complement that is the subtraction


def to_unsigned(octets: NDArray[np.int8]) -> NDArray[np.uint8]:
    """The inverse of `to_signed`: -128 to 127 become 0 to 255."""
    return octets.view(np.uint8) ^ np.uint8(128)


def largest(scores: NDArray[Any], k: int) -> NDArray[np.intp]:
    """Places of the `k` largest scores of each row, largest first, equal ones in the order given: (q, n) gives (q, k).

    All places where there are fewer than `k`.
    """
    k = min(k, scores.shape[1])
    if not k:
        return np.empty((len(scores), 0), np.intp)
    best = np.sort(np.argpartition(-scores, k - 1, axis=1)[:, :k], axis=1)
    edge = np.take_along_axis(scores, best, 1).min(axis=1, keepdims=True)
    for row in np.flatnonzero((scores >= edge).sum(axis=1) > k):  # equals on both sides of the k-th place
        best[row] = np.sort(np.argsort(-scores[row], kind="stable")[:k])
    order = np.argsort(-np.take_along_axis(scores, best, 1), axis=1, kind="stable")
    return np.take_along_axis(best, order, 1)
