"""Reads PNG files whose metadata was stripped, and the frames of animated ones (APNG)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import count, islice

import PIL.Image

from jinaclip.errors import InputError
from jinaclip.images import codecs
from jinaclip.images.containers.png import SIGNATURE
from jinaclip.images.containers.refusals import ambiguous
from jinaclip.images.readers import frames
from jinaclip.images.readers.base import Opened, Size

GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
MODES = {
    # kind of colour and bits a channel: Pillow's mode, and that of the data
    (GREY, 1): ("1", "1"),
    (GREY, 2): ("L", "L;2"),
    (GREY, 4): ("L", "L;4"),
    (GREY, 8): ("L", "L"),
    (GREY, 16): ("I;16", "I;16B"),
    (RGB, 8): ("RGB", "RGB"),
    (RGB, 16): ("RGB", "RGB;16B"),
    (PALETTE, 1): ("P", "P;1"),
    (PALETTE, 2): ("P", "P;2"),
    (PALETTE, 4): ("P", "P;4"),
    (PALETTE, 8): ("P", "P"),
    (GREY_ALPHA, 8): ("LA", "LA"),
    (GREY_ALPHA, 16): ("RGBA", "LA;16B"),
    (RGB_ALPHA, 8): ("RGBA", "RGBA"),
    (RGB_ALPHA, 16): ("RGBA", "RGBA;16B"),
}
CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGB_ALPHA: 4}
AFTER: dict[int, frames.After] = {1: "clear", 2: "restore"}
"""What becomes of a frame, by the number that its file says; else it is kept."""
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""The passes of an interlaced image: first column and row, and the steps to the next."""


@dataclass(frozen=True, slots=True)
class Header:
    """What IHDR, PLTE and tRNS say."""

    size: Size
    depth: int
    colour: int
    interlaced: bool
    palette: bytes = b""
    clear: bytes = b""


@dataclass(frozen=True, slots=True)
class Control:
    """A frame of an animation: where it stands, and how it is drawn and removed (fcTL)."""

    size: Size
    at: tuple[int, int]
    dispose: int
    blend: int


def read_chunks(data: bytes, *, checked: bool = False) -> Iterator[tuple[bytes, bytes]]:
    """The name and the content of each chunk, up to IEND or to where the file is cut short.

    Raises:
        InputError: a checksum is wrong, if they are to be checked.
    """
    at = len(SIGNATURE)
    while at + 8 <= len(data):
        kind, end = data[at + 4 : at + 8], at + 12 + int.from_bytes(data[at : at + 4])
        if kind == b"IEND":
            return
        if checked and zlib.crc32(data[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end]):
            raise InputError("the PNG file is damaged: a checksum is wrong")
        yield kind, data[at + 8 : end - 4]
        at = end


def open_png(data: bytes, orientation: int = 1) -> Opened:
    """Opens a stripped file. Raises InputError if its header is damaged."""
    header = read_header(data)
    return Opened("PNG", header.size, partial(decode_png, data, header), orientation)


def read_header(data: bytes) -> Header:
    """Reads what comes before the pixels. Raises InputError if it is damaged."""
    first, header, bodies = True, None, {b"PLTE": b"", b"tRNS": b""}
    for kind, body in read_chunks(data):
        if first:
            header = _parse_header(body if kind == b"IHDR" else b"")
        elif kind == b"IDAT":
            break
        elif kind in bodies:
            bodies[kind] = body
        first = False
    if header is None:
        raise InputError("the PNG file cannot be read: it has no header; it is damaged or cut short")
    return _check_colours(replace(header, palette=bodies[b"PLTE"], clear=bodies[b"tRNS"]))


def _parse_header(body: bytes) -> Header:
    if len(body) != 13:
        raise InputError("the PNG file cannot be read: its header is damaged")
    width, height, depth, colour, packing, filters, interlaced = struct.unpack(">IIBBBBB", body)
    if not (width and height) or (colour, depth) not in MODES or packing or filters or interlaced > 1:
        raise InputError(
            f"the PNG file cannot be read: its header says {width} x {height}, {depth} bits, colour {colour}, "
            f"methods {packing}, {filters} and {interlaced}"
        )
    return Header((width, height), depth, colour, bool(interlaced))


def _check_colours(header: Header) -> Header:
    """Whether palette and transparency fit the kind of colour."""
    length, clear = len(header.palette), len(header.clear)
    if header.colour == PALETTE and (not length or length % 3 or length > 768):
        raise InputError(f"the PNG file cannot be read: its palette has {length} bytes")
    most = {GREY: 2, RGB: 6}.get(header.colour)
    if (most is not None and clear not in (0, most)) or clear > 256:
        raise InputError(f"the PNG file cannot be read: its transparency has {clear} bytes")
    return header


def decode_png(data: bytes, header: Header, truncated: bool = False) -> PIL.Image.Image:
    """Decodes the pixels of a file. Raises ValueError if it is damaged or cut short."""
    packed = b"".join(body for kind, body in read_chunks(data) if kind == b"IDAT")
    return decode_pixels(packed, header, truncated=truncated)


def decode_pixels(packed: bytes, header: Header, *, truncated: bool = False) -> PIL.Image.Image:
    """Decodes pixels from their zlib stream. Raises ValueError if it is damaged or has not all of them."""
    mode, raw = MODES[header.colour, header.depth]
    pixels = codecs.decode(mode, header.size, packed, "zip", raw, int(header.interlaced), truncated=truncated)
    if not truncated:
        _check_complete(pixels, packed, header)
    if mode == "P":
        _check_indices(pixels, header)
        pixels.putpalette(header.palette, "RGB")
    if header.clear:
        pixels.info["transparency"] = _transparency(mode, header.clear)
    return pixels


def _check_indices(pixels: PIL.Image.Image, header: Header) -> None:
    highest = pixels.getextrema()[1]
    if isinstance(highest, int) and highest >= len(header.palette) // 3:
        raise ambiguous("PNG", "it has pixels of a colour that is not in its palette")


def _transparency(mode: str, clear: bytes) -> object:
    """What Pillow keeps in `info`: alphas of the palette, a level of grey, or a colour."""
    if mode == "P":
        return clear
    levels = struct.unpack(f">{len(clear) // 2}H", clear)
    if mode == "1":
        return 255 if levels[0] else 0
    return levels if mode == "RGB" else levels[0]


def _check_complete(pixels: PIL.Image.Image, packed: bytes, header: Header) -> None:
    """Whether a stream that ends properly holds all rows: Pillow leaves those that are missing at 0."""
    if not header.interlaced and _last_row(pixels).strip(b"\0"):
        return
    wanted, unpacker, found = _raw_size(header), zlib.decompressobj(), 0
    while found < wanted and packed:
        part = unpacker.decompress(packed, 2**20)
        found, packed = found + len(part), unpacker.unconsumed_tail
        if not part and not packed:
            break
    if found < wanted:
        raise ValueError("rows are missing")


def _last_row(pixels: PIL.Image.Image) -> bytes:
    row = PIL.Image.new(pixels.mode, (pixels.width, 1))
    row.paste(pixels, (0, 1 - pixels.height))
    return row.tobytes(codecs.RAW, pixels.mode)


def _raw_size(header: Header) -> int:
    """Bytes of all rows with their filters, unpacked."""
    bits = CHANNELS[header.colour] * header.depth
    width, height = header.size
    passes = ADAM7 if header.interlaced else ((0, 0, 1, 1),)
    sides = ((-(-(width - x) // across), -(-(height - y) // down)) for x, y, across, down in passes)
    return sum(rows * (1 + -(-columns * bits // 8)) for columns, rows in sides if columns > 0 and rows > 0)


def open_frame(data: bytes, number: int, orientation: int = 1) -> Opened:
    """Opens a later frame of an animation, from a file with all of its chunks, whose end is there.

    Raises:
        InputError: the file is damaged, or has no such frame.
    """
    header, shown = read_header(data), list(islice(_read_frames(data), number + 1))
    if len(shown) <= number:
        raise InputError(f"the PNG file has no frame {number}")
    drawn = [_make_frame(header, control, packed) for control, packed in shown]
    return Opened("PNG", header.size, lambda truncated: frames.draw(header.size, drawn), orientation, frames=2)


def _make_frame(header: Header, control: Control, packed: bytes) -> frames.Frame:
    (left, top), (width, height) = control.at, control.size
    right, bottom = left + width, top + height
    if not (width and height) or right > header.size[0] or bottom > header.size[1]:
        raise InputError("the PNG file cannot be read: a frame is outside of the image")
    own = replace(header, size=control.size)
    return frames.Frame(
        (left, top, right, bottom),
        lambda: decode_pixels(packed, own).convert("RGBA"),
        AFTER.get(control.dispose, "keep"),
        "over" if control.blend else "replace",
    )


def _read_frames(data: bytes) -> Iterator[tuple[Control, bytes]]:
    """Each frame of an animation and its zlib stream. An IDAT before the first fcTL is no frame."""
    control, parts, animated, numbers = None, list[bytes](), False, count()
    for kind, body in (*read_chunks(data, checked=True), (b"fcTL", b"")):
        animated = animated or kind == b"acTL"
        if kind in (b"fcTL", b"fdAT") and body and int.from_bytes(body[:4]) != next(numbers):
            raise InputError("the PNG file is damaged: the parts of its animation are not in order")
        if kind == b"fcTL" and animated:
            if control is not None:
                yield control, b"".join(parts)
            control, parts = _parse_control(body), []
        elif kind in (b"IDAT", b"fdAT"):
            parts.append(body[4 * (kind == b"fdAT") :])


def _parse_control(body: bytes) -> Control | None:
    if not body:
        return None
    if len(body) != 26 or body[24] > 2 or body[25] > 1:
        raise InputError("the PNG file is damaged: a frame of its animation has no meaning")
    _, width, height, left, top, _, _, dispose, blend = struct.unpack(">IIIIIHHBB", body)
    return Control((width, height), (left, top), dispose, blend)
