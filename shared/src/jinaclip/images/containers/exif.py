"""Reads the orientation in an EXIF block."""

from __future__ import annotations

from typing import Literal

EXIF = b"Exif\0\0"
ORIENTATION = 0x0112


def orientation(exif: bytes) -> int:
    """The Orientation of an EXIF block, 1 to 8; 1 (upright) where it is missing or not one of these."""
    tiff = exif.removeprefix(EXIF)
    if tiff[:4] not in (b"II*\0", b"MM\0*"):
        return 1
    order: Literal["little", "big"] = "little" if tiff[:2] == b"II" else "big"

    def number(at: int, size: int) -> int:
        return int.from_bytes(tiff[at : at + size], order)

    first = number(4, 4)
    entries = min(number(first, 2), (len(tiff) - first) // 12)
    for at in range(first + 2, first + 2 + 12 * entries, 12):
        if number(at, 2) == ORIENTATION and number(at + 2, 2) == 3:
            value = number(at + 8, 2)
            return value if 1 <= value <= 8 else 1
    return 1
