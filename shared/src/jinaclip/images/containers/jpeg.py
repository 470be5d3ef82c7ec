"""Reads the segments of a JPEG file."""

from __future__ import annotations

import re
from collections.abc import Iterator

from jinaclip.errors import InputError
from jinaclip.images.containers.exif import EXIF

MAX_SCANS = 100
"""Most scans of a progressive JPEG. Each costs a pass over the whole image, and encoders make about ten."""
_MARKER = re.compile(rb"\xff([\x02-\xcf\xd9-\xfe])")
_SOI, _EOI, _SOS, _APP1, _COM = 0xD8, 0xD9, 0xDA, 0xE1, 0xFE
_COLOUR_SEGMENTS = (0xE0, 0xEE)
"""APP0 (JFIF) and APP14 (Adobe) say how colours are stored; the other APPn segments are metadata."""


def strip(data: bytes) -> tuple[bytes, bytes, bool]:
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
        if marker in _COLOUR_SEGMENTS or not (0xE0 <= marker <= 0xEF or marker == _COM):
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
