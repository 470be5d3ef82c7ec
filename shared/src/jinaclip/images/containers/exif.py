"""Reads the orientation in an EXIF block."""

from __future__ import annotations

import struct
from collections.abc import Iterator

EXIF = b"Exif\0\0"
ORIENTATION, EXIF_DIRECTORY = 0x0112, 0x8769
_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
_SHORT, _LONG = 3, 4


def orientation(exif: bytes) -> int:
    """The Orientation of an EXIF block, 1 to 8; 1 (upright) where it is missing or not one of these.

    As in Chromium, the first entry counts that is one number of 16 bits from 1 to 8, in the main directory or in the
    EXIF directory that it points to. No other directory is read, so no block can make this loop.
    """
    tiff = memoryview(exif)[len(EXIF) if exif.startswith(EXIF) else 0 :]
    order = _ORDERS.get(bytes(tiff[:4]))
    if order is None or len(tiff) < 8:
        return 1
    (first,) = struct.unpack_from(order + "I", tiff, 4)
    return next(_orientations(tiff, order, first, follow=True), 1)


def has_header(exif: bytes) -> bool:
    """Whether this is the start of a block, and not the continuation of another."""
    return exif.removeprefix(EXIF)[:4] in _ORDERS


def _orientations(tiff: memoryview, order: str, at: int, *, follow: bool) -> Iterator[int]:
    """The orientations in a directory, and in the first EXIF directory that it points to if that is to be followed."""
    for tag, kind, count, value in _entries(tiff, order, at):
        if (tag, kind, count) == (ORIENTATION, _SHORT, 1):
            (number,) = struct.unpack_from(order + "H", value)
            if 1 <= number <= 8:
                yield number
        elif (tag, kind, count) == (EXIF_DIRECTORY, _LONG, 1) and follow:
            (inner,) = struct.unpack(order + "I", value)
            yield from _orientations(tiff, order, inner, follow=False)
            follow = False


def _entries(tiff: memoryview, order: str, at: int) -> Iterator[tuple[int, int, int, bytes]]:
    """Tag, type, count and value of each entry of a directory, as far as it lies within the block."""
    if at + 2 > len(tiff):
        return
    (count,) = struct.unpack_from(order + "H", tiff, at)
    directory = tiff[at + 2 :]
    yield from struct.iter_unpack(order + "HHI4s", directory[: 12 * min(count, len(directory) // 12)])
