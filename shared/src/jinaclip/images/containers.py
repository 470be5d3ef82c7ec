"""Reads the containers of PNG and JPEG files without Pillow.

Pillow gets only the parts of these files that hold pixels. Metadata is where bombs, loops and warnings come from, and
Python's warnings cannot be silenced for a single thread. Whether a file is complete must not depend on
`ImageFile.LOAD_TRUNCATED_IMAGES`, which any library may have set for the whole process.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from typing import Literal

from jinaclip.errors import InputError

MAX_SCANS = 100
"""Most scans of a progressive JPEG. Each costs a pass over the whole image, and encoders make about ten."""
EXIF = b"Exif\0\0"
ORIENTATION = 0x0112
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT")
_MARKER = re.compile(rb"\xff([\x02-\xcf\xd9-\xfe])")
_SOI, _EOI, _SOS, _APP1, _COM = 0xD8, 0xD9, 0xDA, 0xE1, 0xFE
_JPEG_COLOUR_SEGMENTS = (0xE0, 0xEE)
"""APP0 (JFIF) and APP14 (Adobe) say how colours are stored; the other APPn segments are metadata."""


def sniff(data: bytes) -> str | None:
    """The format of a file by its first bytes, under Pillow's name, or None if it is not PNG, JPEG, GIF or WEBP."""
    if data.startswith(_PNG):
        return "PNG"
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    return "WEBP" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None


def strip(data: bytes, form: str | None, *, truncated: bool) -> tuple[bytes, bytes]:
    """The file without its metadata, and its EXIF block. Files of other formats than PNG and JPEG come back unchanged.

    Raises:
        InputError: the file is damaged, or it is cut short and `truncated` is False.
    """
    strip_format = {"PNG": _strip_png, "JPEG": _strip_jpeg}.get(form or "")
    if strip_format is None:
        return data, b""
    stripped, exif, complete = strip_format(data)
    if not (complete or truncated):
        raise InputError(
            f"the {form} file is cut short; get it whole, or accept it with truncated=True in image_policy"
        )
    return stripped, exif


def _strip_png(data: bytes) -> tuple[bytes, bytes, bool]:
    """The file without its metadata, its EXIF block, and whether the file is complete."""
    parts, exif, at = [_PNG], b"", len(_PNG)
    while at < len(data):
        kind, end = data[at + 4 : at + 8], at + 12 + int.from_bytes(data[at : at + 4])
        if kind == b"IEND":
            parts.append(b"\0\0\0\0IEND\xaeB`\x82")
            return b"".join(parts), exif, True
        if kind == b"eXIf":
            exif = data[at + 8 : end - 4]
        elif kind in _PNG_CHUNKS:
            parts.append(data[at:end])
            if end <= len(data) and zlib.crc32(parts[-1][4:-4]) != int.from_bytes(parts[-1][-4:]):
                raise InputError(f"the PNG file is damaged: the checksum of its {kind.decode()} chunk is wrong")
        at = end
    return b"".join(parts), exif, False


def _strip_jpeg(data: bytes) -> tuple[bytes, bytes, bool]:
    """The file without its metadata, its EXIF block, and whether the file is complete."""
    parts, exif, scans = [b"\xff\xd8"], b"", 0
    for marker, start, end, next_start in _segments(data):
        if marker == _EOI:
            parts.append(b"\xff\xd9")
            return b"".join(parts), exif, True
        body = data[start + 4 : end]
        scans += marker == _SOS
        if scans > MAX_SCANS:
            raise InputError(f"the JPEG file has over {MAX_SCANS} scans, which no encoder makes")
        if marker == _APP1 and body.startswith(EXIF) and not exif:
            exif = body
        if marker in _JPEG_COLOUR_SEGMENTS or not (0xE0 <= marker <= 0xEF or marker == _COM):
            parts.append(data[start : next_start if marker == _SOS else end])
    return b"".join([*parts, b"\xff\xd9"]), exif, False  # given an end, libjpeg decodes what comes before it


def _segments(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Marker, start and end of each segment of a JPEG, and the start of the segment after it.

    The data of a scan lies between two segments. Its only markers are restarts, which the pattern skips.
    """
    found = _MARKER.search(data, 2)
    while found:
        marker, start = found[1][0], found.start()
        standalone = marker in (_SOI, _EOI)
        end = found.end() + (0 if standalone else int.from_bytes(data[found.end() : found.end() + 2]))
        following = _MARKER.search(data, end)
        yield marker, start, end, following.start() if following else len(data)
        found = following


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


def webp_size(data: bytes) -> tuple[int, int]:
    """Width and height of a WebP file, read before Pillow allocates its canvas; (0, 0) if the header does not say."""
    kind = data[12:16]
    if kind == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF
