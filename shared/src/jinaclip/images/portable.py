"""Finds files that every reader sees alike, which may be sent as they are."""

from __future__ import annotations

import PIL.Image

from jinaclip.images import containers
from jinaclip.images.containers.gif import Blocks
from jinaclip.images.readers import jpeg
from jinaclip.images.readers.base import Opened

MODES = ("RGB", "L", "P", "1")
"""Modes that every reader converts to the same RGB."""
ADOBE = b"\xff\xee\0\x0eAdobe"
YCC = 1
ASPECT, GIF_END = 12, b";"


def find_portable(data: bytes, opened: Opened, pixels: PIL.Image.Image) -> bytes | None:
    """The file if every reader gets the same pixels from it; without its metadata, if readers may apply that; or None.

    Only one upright frame without transparency is sent as a file, in a variant that all readers know.
    """
    plain = opened.orientation == 1 and opened.frames == 1 and pixels.mode in MODES
    if not plain or pixels.has_transparency_data or not _fits_palette(pixels):
        return None
    find = {"PNG": _find_png, "JPEG": _find_jpeg, "GIF": _find_gif, "WEBP": _find_webp}.get(opened.format)
    return None if find is None else find(data)


def _fits_palette(pixels: PIL.Image.Image) -> bool:
    """Whether each pixel has a colour in the palette: readers show others black, or not at all."""
    if pixels.mode != "P" or pixels.palette is None:
        return pixels.mode != "P"
    highest = pixels.getextrema()[1]
    return isinstance(highest, int) and highest < len(pixels.palette.palette) // 3


def _find_png(data: bytes) -> bytes | None:
    """Gamma, colour profiles, EXIF and XMP in texts, and what is behind the end, are left out."""
    return containers.strip(data, "PNG", truncated=False)[0]


def _find_jpeg(data: bytes) -> bytes | None:
    """As for PNG. An EXIF block that turns nothing may stay, as nearly all photos have one."""
    stripped, exif = containers.strip(data, "JPEG", truncated=False)
    if not _has_usual_colours(stripped):
        return None
    block = b"\xff\xe1" + (len(exif) + 2).to_bytes(2) + exif
    if exif.startswith(b"Exif\0\0") and _turns_once(exif) and data.replace(block, b"", 1) == stripped:
        return data
    return stripped


def _turns_once(exif: bytes) -> bool:
    """Whether not more than one entry may say how the image is turned: of several, readers take the first or last."""
    return exif.count(b"\x01\x12\0\x03") + exif.count(b"\x12\x01\x03\0") <= 1


def _has_usual_colours(data: bytes) -> bool:
    """Whether a JPEG is grey, or YCbCr as all readers guess: of its kinds of colour they take others differently."""
    frame = jpeg.read_frame(data)
    head = data[: data.find(b"\xff\xda")]
    at, many = head.find(ADOBE), head.count(b"\xff\xee") > 1
    ycc = at < 0 or head[at + 15 : at + 16] == bytes([YCC])
    return frame.mode == "L" or (frame.components == (1, 2, 3) and ycc and not many)


def _find_gif(data: bytes) -> bytes | None:
    """One image that fills the canvas, of square pixels, up to the end of the file."""
    blocks = Blocks(data)
    frame = next(blocks.frames())
    filled = frame.box == (0, 0, *blocks.screen)
    is_square, ends = data[ASPECT] == 0, data[blocks.find_end(frame.start) :] == GIF_END
    return data if filled and is_square and ends else None


def _find_webp(data: bytes) -> bytes | None:
    """The pixels and nothing else: not the extended format, which has profiles, EXIF and animations."""
    length = int.from_bytes(data[16:20], "little")
    whole = len(data) == 20 + length + length % 2 == 8 + int.from_bytes(data[4:8], "little")
    return data if data[12:16] in (b"VP8 ", b"VP8L") and whole else None
