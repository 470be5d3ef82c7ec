"""Reads JPEG files whose metadata was stripped."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import PIL.Image

from jinaclip.errors import InputError
from jinaclip.images import codecs
from jinaclip.images.containers.scans import FRAMES
from jinaclip.images.readers.base import Opened, Size

MODES = {1: "L", 3: "RGB", 4: "CMYK"}
"""Modes by the number of components."""
_SOS = 0xDA


@dataclass(frozen=True, slots=True)
class Frame:
    """The header of the frame of a JPEG: width and height, mode, and the names of its components."""

    size: Size
    mode: str
    components: tuple[int, ...]


def read_frame(data: bytes) -> Frame:
    """Finds the header of the frame. Raises InputError if there is none, or it has another depth than 8 bits."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != _SOS:
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker in FRAMES:
            return _parse_frame(data[at + 4 : at + 2 + int.from_bytes(data[at + 2 : at + 4])])
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
    raise InputError("the JPEG file cannot be read: it has no header of a frame; it is damaged or cut short")


def _parse_frame(body: bytes) -> Frame:
    count = body[5] if len(body) > 5 else 0
    height, width = int.from_bytes(body[1:3]), int.from_bytes(body[3:5])
    if count not in MODES or len(body) < 6 + 3 * count or not (width and height):
        raise InputError(f"the JPEG file cannot be read: its frame has {count} components, {width} x {height}")
    if body[0] != 8:
        raise InputError(f"the JPEG file has {body[0]} bits a channel; only 8 can be decoded")
    return Frame((width, height), MODES[count], tuple(body[6 : 6 + 3 * count : 3]))


def open_jpeg(data: bytes, orientation: int = 1) -> Opened:
    """Opens a stripped file. Raises InputError if its header is damaged."""
    frame = read_frame(data)
    decode_smaller = partial(decode, data, frame, frame.mode)
    return Opened("JPEG", frame.size, partial(decode_smaller, 1), orientation, decode_smaller=decode_smaller)


def decode(data: bytes, frame: Frame, mode: str, scale: int, truncated: bool = False) -> PIL.Image.Image:
    """Decodes the pixels, at a half, a fourth or an eighth of each side if `scale` is 2, 4 or 8.

    Args:
        data: a stripped file.
        frame: its header.
        mode: the frame's; or "L" or "YCbCr" instead of "RGB".
        scale: 1, 2, 4 or 8.
        truncated: keep what could be decoded.

    Raises:
        ValueError: the file is damaged or cut short.
    """
    raw = "CMYK;I" if mode == "CMYK" else mode  # as Adobe writes it, upside down; others do so too
    width, height = ((side + scale - 1) // scale for side in frame.size)
    return codecs.decode(mode, (width, height), data, "jpeg", raw, "", scale, 0, truncated=truncated)


def find_scale(frame: Frame, size: Size) -> int | None:
    """The scale at which a frame is decoded to this size, or None."""
    return next((s for s in (1, 2, 4, 8) if tuple((side + s - 1) // s for side in frame.size) == size), None)
