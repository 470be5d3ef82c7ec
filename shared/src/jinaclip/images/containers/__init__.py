"""Reads the containers of PNG, JPEG, GIF and WebP files without Pillow.

Decoders get only the parts of these files that hold pixels. Metadata is where bombs, loops and warnings come from, and
Python's warnings cannot be silenced for a single thread. Whether a file is complete must not depend on
`ImageFile.LOAD_TRUNCATED_IMAGES`, which any library may have set for the whole process.
"""

from __future__ import annotations

from jinaclip.errors import InputError
from jinaclip.images.containers import jpeg, png
from jinaclip.images.containers.exif import orientation as orientation

_STRIP = {"PNG": png.strip, "JPEG": jpeg.strip}


def sniff(data: bytes) -> str | None:
    """The format of a file by its first bytes, under Pillow's name, or None if it is not PNG, JPEG, GIF or WEBP."""
    if data.startswith(png.SIGNATURE):
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
    strip_format = _STRIP.get(form or "")
    if strip_format is None:
        return data, b""
    stripped, exif, complete = strip_format(data)
    if not (complete or truncated):
        raise InputError(
            f"the {form} file is cut short; get it whole, or accept it with truncated=True in image_policy"
        )
    return stripped, exif
