"""Embeddings at a byte or a bit a number, and back. See docs/stores.md, "Small vectors"."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from math import sqrt
from typing import Any, Literal, TypeAlias, get_args, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jinaclip.errors import ConfigError, InputError
from jinaclip.vectors import Vectors, as_vectors, pack_bits, to_signed, to_unsigned

logger = logging.getLogger("jinaclip")

Precision = Literal["int8", "uint8", "binary", "ubinary"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
BITS = ("binary", "ubinary")
DTYPES = {"int8": np.int8, "uint8": np.uint8, "binary": np.int8, "ubinary": np.uint8}
Codes: TypeAlias = NDArray[np.int8] | NDArray[np.uint8]
STEPS = 255
"""Into which the range of a dimension is divided."""
FEW = 100
"""Embeddings of which fewer make poor ranges."""
NUMBERS_AT_ONCE = 2**16
"""Numbers that are converted at a time: half a MB as float64, which stays in the processor's cache."""


@overload
def quantize(
    embeddings: ArrayLike,
    precision: Literal["int8", "binary"],
    ranges: ArrayLike | None = None,
    calibration_embeddings: ArrayLike | None = None,
) -> NDArray[np.int8]: ...
@overload
def quantize(
    embeddings: ArrayLike,
    precision: Literal["uint8", "ubinary"],
    ranges: ArrayLike | None = None,
    calibration_embeddings: ArrayLike | None = None,
) -> NDArray[np.uint8]: ...
@overload
def quantize(
    embeddings: ArrayLike,
    precision: Precision,
    ranges: ArrayLike | None = None,
    calibration_embeddings: ArrayLike | None = None,
) -> Codes: ...
def quantize(
    embeddings: ArrayLike,
    precision: Precision,
    ranges: ArrayLike | None = None,
    calibration_embeddings: ArrayLike | None = None,
) -> Codes:
    """Embeddings at a byte or a bit a number.

    "uint8" divides the range of each dimension into 255 steps and takes the nearest; "int8" is the same less 128. What
    lies outside the range is clipped to it. Documents and queries need the same ranges: keep those of the documents.

    "ubinary" sets a bit for each number above zero, eight to a byte and the first one highest; "binary" is the same
    less 128. Both are what Jina's API answers when asked for them.

    Args:
        embeddings: shape (d,) or (n, d), of any length, not only 1.
        precision: "int8", "uint8", "binary" or "ubinary".
        ranges: the least and the greatest value of each dimension, shape (2, d), as `calibration_ranges` gives them;
            bits need none.
        calibration_embeddings: shape (n, d), to take the ranges from where none are given. Without either they are
            taken from `embeddings`, with a warning in the log if those are fewer than 100.

    Returns:
        int8 or uint8, shape (d,) or (n, d); of bits (d / 8,) or (n, d / 8).

    Raises:
        ConfigError: the precision is none of the four, or the ranges do not fit.
        InputError: a row is not finite (`.index` says which), the embeddings are quantised already, a single one came
            without ranges, or bits are wanted of a width that is no multiple of 8.
    """
    check_precision(precision)
    vectors = read_floats(embeddings)
    if precision in BITS:
        check_width(vectors.shape[-1])
        octets = pack_bits(vectors)
    else:
        octets = scale(vectors, find_ranges(vectors, ranges, calibration_embeddings))
    return to_signed(octets) if DTYPES[precision] is np.int8 else octets


def dequantize(quantized: ArrayLike, precision: Precision, ranges: ArrayLike | None = None) -> Vectors:
    """Embeddings near to those that were quantised.

    Those of "int8" and "uint8" differ from what they were by half a step of each dimension at most; their length is not
    brought to 1. Of bits nothing is known but the sign: each number is 1 or -1, divided by the root of d so that the
    length is 1, and the inner product with a query of length 1 is a cosine.

    Args:
        quantized: what `quantize` gave, shape (d,) or (n, d), of bits (d / 8,) or (n, d / 8); or lists of the same
            numbers, as Jina's API and stores give them.
        precision: what it was quantised to.
        ranges: those that it was quantised with, shape (2, d); bits need none.

    Returns:
        float32, shape (d,) or (n, d).

    Raises:
        ConfigError: the precision is none of the four, or ranges are missing or do not fit.
        InputError: the numbers are not such as that precision has.
    """
    codes = read_codes(quantized, precision)
    if precision in BITS:
        return unpack_signs(codes)
    if ranges is None:
        raise ConfigError(f"precision={precision!r} needs the ranges that the embeddings were quantised with")
    low, steps = read_steps(ranges, codes.shape[-1])
    zero = zero_point(low, steps, codes)
    vectors = np.empty(codes.shape, np.float32)
    for source, target in blocks(codes, vectors):
        values = source * steps
        values += zero
        target[...] = values
    return vectors


def calibration_ranges(embeddings: ArrayLike, *, symmetric: bool = False) -> NDArray[np.float32]:
    """The least and the greatest value of each dimension, for "int8" and "uint8". Take as many documents as you can.

    Args:
        embeddings: shape (n, d).
        symmetric: gives one range to all dimensions, from -m to m, where m is the largest number of all. A little
            coarser; but then the order of the quantised vectors by Euclidean distance is that of the embeddings, so
            that a store can search them as they are.

    Returns:
        float32, shape (2, d).

    Raises:
        InputError: there are no embeddings, or a row is not finite; `.index` says which.
    """
    vectors = read_floats(embeddings)
    if vectors.ndim != 2 or not len(vectors):
        raise InputError(f"ranges need embeddings of shape (n, d), not {vectors.shape}")
    found = np.stack([vectors.min(axis=0), vectors.max(axis=0)])
    if symmetric:
        most = np.abs(found).max()
        found = np.stack([np.full_like(found[0], -most), np.full_like(found[1], most)])
    return found


def check_precision(precision: str) -> None:
    """Refuses what is no precision.

    Raises:
        ConfigError: it is none.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"precision={precision!r} must be one of {', '.join(map(repr, PRECISIONS))}")


def check_width(width: int) -> None:
    """Refuses widths that are no whole bytes of bits.

    Raises:
        InputError: it is no multiple of 8.
    """
    if width % 8:
        raise InputError(
            f"embeddings of {width} dimensions do not fill bytes of 8 bits; truncate them to {width // 8 * 8}"
        )


def read_floats(embeddings: ArrayLike) -> Vectors:
    """The embeddings as float32 of shape (d,) or (n, d).

    Raises:
        InputError: they are quantised already, not finite, or of another shape.
    """
    if isinstance(embeddings, np.ndarray) and embeddings.dtype in (np.int8, np.uint8):
        raise InputError(f"embeddings of {embeddings.dtype} are quantised already; pass those of float32")
    return as_vectors(embeddings)


def find_ranges(vectors: Vectors, ranges: ArrayLike | None, calibration_embeddings: ArrayLike | None) -> ArrayLike:
    """The ranges given, or those of what there is to calibrate with.

    Raises:
        InputError: there is nothing to take them from.
    """
    if ranges is not None:
        return ranges
    if calibration_embeddings is not None:
        return calibration_ranges(calibration_embeddings)
    if vectors.ndim == 1:
        raise InputError("a single embedding has no ranges of its own; pass the ranges of the documents")
    if len(vectors) < FEW:
        logger.warning(
            "ranges are taken from %d embeddings, which are few; pass ranges or more to calibrate with", len(vectors)
        )
    return calibration_ranges(vectors)


def read_steps(ranges: ArrayLike, width: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The least value and the step of each dimension, both (d,). A dimension of one value has a step of 0.

    Raises:
        ConfigError: the ranges are not finite, not of shape (2, d), or end below where they begin.
    """
    try:
        found = np.asarray(ranges, np.float64)
    except (TypeError, ValueError):
        raise ConfigError("ranges must be numbers of shape (2, d)") from None
    if found.shape != (2, width):
        raise ConfigError(
            f"ranges of shape {found.shape} do not fit embeddings of {width} dimensions; it must be (2, {width})"
        )
    wrong = np.flatnonzero(~(np.isfinite(found).all(axis=0) & (found[0] <= found[1])))
    if wrong.size:
        low, high = found[:, wrong[0]].tolist()
        raise ConfigError(f"the range of dimension {wrong[0]}, {low} to {high}, is none; the least value comes first")
    return found[0], (found[1] - found[0]) / STEPS


def scale(vectors: Vectors, ranges: ArrayLike) -> NDArray[np.uint8]:
    """The nearest of the 256 values of each dimension's range, from 0 to 255."""
    low, steps = read_steps(ranges, vectors.shape[-1])
    divisors = np.where(steps > 0, steps, np.inf)  # in a dimension of one value all is 0
    octets = np.empty(vectors.shape, np.uint8)
    for source, target in blocks(vectors, octets):
        values = source - low
        values /= divisors
        np.rint(values, out=values)
        target[...] = np.clip(values, 0, STEPS, out=values)
    return octets


def zero_point(low: NDArray[np.float64], steps: NDArray[np.float64], codes: Codes) -> NDArray[np.float64]:
    """What a byte of 0 stands for in each dimension, (d,)."""
    return low + 128 * steps if codes.dtype == np.int8 else low


def read_codes(quantized: ArrayLike, precision: Precision, name: str = "embeddings") -> Codes:
    """Quantised embeddings as int8 or uint8, whichever the precision has, shape (w,) or (n, w). Arrays are not copied.

    Raises:
        ConfigError: the precision is none.
        InputError: the numbers are not such as that precision has; `.index` is the first row with one that is not.
    """
    check_precision(precision)
    dtype = DTYPES[precision]
    try:
        codes: NDArray[Any] = np.asarray(quantized)
    except ValueError:
        raise InputError(f"{name} must be numbers of shape (d,) or (n, d), all rows equally long") from None
    if codes.ndim not in (1, 2) or codes.shape[-1] == 0:
        raise InputError(f"{name} must have shape (d,) or (n, d), not {codes.shape}")
    return codes if codes.dtype == dtype else cast_codes(codes, precision, name)


def cast_codes(codes: NDArray[Any], precision: Precision, name: str) -> Codes:
    """Numbers of another type, such as those of lists, as that of the precision.

    Raises:
        InputError: they are not such as the precision has; `.index` is the first row with one that is not.
    """
    limits = np.iinfo(DTYPES[precision])
    if codes.dtype in (np.int8, np.uint8) or codes.dtype.kind not in "iuf":
        raise InputError(f"{name} of {codes.dtype} are not of precision {precision!r}, which is {limits.dtype}")
    fits = (codes >= limits.min) & (codes <= limits.max) & (codes == np.trunc(codes))
    if not fits.all():
        index = int(np.flatnonzero(~fits.all(axis=1))[0]) if codes.ndim > 1 else None
        raise InputError(
            f"{name} of precision {precision!r} are whole numbers from {limits.min} to {limits.max}", index=index
        )
    return codes.astype(np.int8) if DTYPES[precision] is np.int8 else codes.astype(np.uint8)


def as_octets(codes: Codes) -> NDArray[np.uint8]:
    """Bits of "binary" as those of "ubinary"; these as they are."""
    return to_unsigned(codes.view(np.int8)) if codes.dtype == np.int8 else codes.view(np.uint8)


def unpack_signs(codes: Codes) -> Vectors:
    """1 or -1 for each bit, divided by the root of their number: (n, d / 8) bytes give (n, d) float32 of length 1."""
    bits = np.unpackbits(as_octets(codes), axis=-1)
    size = np.float32(1 / sqrt(bits.shape[-1]))
    return np.where(bits, size, -size)


def blocks(source: NDArray[Any], target: NDArray[Any]) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Rows of two arrays of one shape, some at a time, so that what comes between takes little memory."""
    sources, targets = np.atleast_2d(source), np.atleast_2d(target)
    count = max(1, NUMBERS_AT_ONCE // source.shape[-1])
    for start in range(0, len(sources), count):
        yield sources[start : start + count], targets[start : start + count]
