"""Reads the chunks of a PNG file."""

from __future__ import annotations

import zlib

from jinaclip.errors import InputError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT")


def strip(data: bytes) -> tuple[bytes, bytes, bool]:
    """The file without its metadata, its EXIF block, and whether the file is complete."""
    parts, exif, at = [SIGNATURE], b"", len(SIGNATURE)
    while at < len(data):
        kind, end = data[at + 4 : at + 8], at + 12 + int.from_bytes(data[at : at + 4])
        if kind == b"IEND":
            parts.append(b"\0\0\0\0IEND\xaeB`\x82")
            return b"".join(parts), exif, True
        if kind == b"eXIf":
            exif = data[at + 8 : end - 4]
        elif kind in CHUNKS:
            parts.append(data[at:end])
            if end <= len(data) and zlib.crc32(parts[-1][4:-4]) != int.from_bytes(parts[-1][-4:]):
                raise InputError(f"the PNG file is damaged: the checksum of its {kind.decode()} chunk is wrong")
        at = end
    return b"".join(parts), exif, False
