"""The containers of PNG and JPEG, read without Pillow.

Pillow gets these files stripped to the parts that make the picture. Metadata is where bombs, loops and warnings come
from, Python's warnings cannot be silenced for one thread alone, and whether a file is whole must not depend on
`ImageFile.LOAD_TRUNCATED_IMAGES`, which any library may have set for the whole process.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from typing import Literal

from jinaclip.errors import InputError

MAX_SCANS = 100
"""Of a progressive JPEG; each costs a pass over the whole picture, and encoders make about ten."""
EXIF = b"Exif\0\0"
ORIENTATION = 0x0112
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_KEPT = (b"IHDR", b"PLTE", b"tRNS", b"IDAT")
_MARKER = re.compile(rb"\xff([\x02-\xcf\xd9-\xfe])")
_SOI, _EOI, _SOS, _APP1, _COM = 0xD8, 0xD9, 0xDA, 0xE1, 0xFE
_JPEG_KEPT = (0xE0, 0xEE)
"""JFIF and Adobe say how colours are stored; the other APPn segments are metadata."""


def sniff(data: bytes) -> str | None:
    """The format of a file by its first bytes, in Pillow's names; None if it is none of the four."""
    if data.startswith(_PNG):
        return "PNG"
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    return "WEBP" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None


def strip(data: bytes, form: str | None, *, truncated: bool) -> tuple[bytes, bytes]:
    """The file without its metadata, and its EXIF block. Other formats than PNG and JPEG stay as they are.

    Raises:
        InputError: the file is damaged, or ends early and `truncated` does not accept that.
    """
    walk = {"PNG": _strip_png, "JPEG": _strip_jpeg}.get(form or "")
    if walk is None:
        return data, b""
    kept, exif, whole = walk(data)
    if not (whole or truncated):
        raise InputError(
            f"the {form} file is cut short; get it whole, or accept it with truncated=True in image_policy"
        )
    return kept, exif


def _strip_png(data: bytes) -> tuple[bytes, bytes, bool]:
    kept, exif, at = [_PNG], b"", len(_PNG)
    while at < len(data):
        kind, end = data[at + 4 : at + 8], at + 12 + int.from_bytes(data[at : at + 4])
        if kind == b"IEND":
            kept.append(b"\0\0\0\0IEND\xaeB`\x82")
            return b"".join(kept), exif, True
        if kind == b"eXIf":
            exif = data[at + 8 : end - 4]
        elif kind in _PNG_KEPT:
            kept.append(data[at:end])
            if end <= len(data) and zlib.crc32(kept[-1][4:-4]) != int.from_bytes(kept[-1][-4:]):
                raise InputError(f"the PNG file is damaged: the checksum of its {kind.decode()} chunk is wrong")
        at = end
    return b"".join(kept), exif, False


def _strip_jpeg(data: bytes) -> tuple[bytes, bytes, bool]:
    kept, exif, scans = [b"\xff\xd8"], b"", 0
    for marker, start, end, following in _segments(data):
        if marker == _EOI:
            kept.append(b"\xff\xd9")
            return b"".join(kept), exif, True
        body = data[start + 4 : end]
        scans += marker == _SOS
        if scans > MAX_SCANS:
            raise InputError(f"the JPEG file has over {MAX_SCANS} scans, which no encoder makes")
        if marker == _APP1 and body.startswith(EXIF) and not exif:
            exif = body
        if marker in _JPEG_KEPT or not (0xE0 <= marker <= 0xEF or marker == _COM):
            kept.append(data[start : following if marker == _SOS else end])
    return b"".join([*kept, b"\xff\xd9"]), exif, False  # with an end, libjpeg decodes what there is


def _segments(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Marker, start and end of each segment of a JPEG up to its end, and the start of the next one.

    Scan data lies between a segment and the next. It holds no markers but restarts, which the pattern leaves out.
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
    """The Orientation of an EXIF block, 1 to 8; 1 if it says nothing, or nothing that is defined."""
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
    """Width and height of a WebP file, read before Pillow allocates its canvas; (0, 0) if there is no telling."""
    kind = data[12:16]
    if kind == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF
