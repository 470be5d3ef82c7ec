"""GIF files that are odd in one way each, built block by block."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

import numpy as np

from tests.images.cases import Crafted, craft, noise

COLOURS = bytes([200, 30, 40, 20, 180, 60, 30, 60, 220, 240, 220, 20])
"""Red, green, blue, yellow: index 0 is no black and no white, so that it shows where it should not be."""
OTHERS = bytes([10, 10, 10, 250, 120, 0, 120, 0, 250, 0, 250, 250])
TRAILER = b";"


def screen(
    width: int, height: int, colours: bytes | None = COLOURS, *, background: int = 0, version: bytes = b"89a"
) -> bytes:
    """The header, the logical screen and the global palette; its length must be a power of two."""
    flags = 0x80 | 0x70 | _size_bits(colours) if colours else 0x70
    return b"GIF" + version + struct.pack("<HHBBB", width, height, flags, background, 0) + (colours or b"")


def _size_bits(colours: bytes) -> int:
    return (len(colours) // 3).bit_length() - 2


def blocks(data: bytes, size: int = 255) -> bytes:
    """Data in sub-blocks, with the empty one at the end."""
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    return b"".join(bytes([len(part)]) + part for part in parts) + b"\0"


def extension(label: int, *parts: bytes) -> bytes:
    return b"!" + bytes([label]) + b"".join(bytes([len(part)]) + part for part in parts) + b"\0"


def control(disposal: int = 0, clear: int | None = None, delay: int = 10) -> bytes:
    """A graphic control extension; `clear` is the transparent index."""
    return extension(0xF9, struct.pack("<BHB", disposal << 2 | (clear is not None), delay, clear or 0))


def lzw(indices: Iterable[int], bits: int = 2, *, first_clear: bool = True, end: bool = True) -> bytes:
    """Indices, compressed as GIF does; `bits` is the minimum code size."""
    clear, stop = 1 << bits, (1 << bits) + 1
    table: dict[tuple[int, ...], int] = {}
    width, out = bits + 1, [(clear, bits + 1)] if first_clear else []
    prefix: tuple[int, ...] = ()
    for index in indices:
        longer = (*prefix, int(index))
        if len(longer) == 1 or longer in table:
            prefix = longer
            continue
        out.append((prefix[0] if len(prefix) == 1 else table[prefix], width))
        if len(table) + stop + 1 < 4096:
            table[longer] = len(table) + stop + 1
            width = max(width, (len(table) + stop).bit_length())
        prefix = longer[-1:]
    if prefix:
        out.append((prefix[0] if len(prefix) == 1 else table[prefix], width))
        if len(table) + stop + 1 < 4096:
            width = max(width, (len(table) + stop + 1).bit_length())
    return pack([*out, (stop, width)] if end else out)


def pack(codes: Sequence[tuple[int, int]]) -> bytes:
    """Codes and their widths as bytes, lowest bits first."""
    value, at = 0, 0
    for code, width in codes:
        value |= int(code) << at
        at += width
    return value.to_bytes((at + 7) // 8, "little")


def frame(
    pixels: np.ndarray | None,
    at: tuple[int, int] = (0, 0),
    colours: bytes | None = None,
    *,
    bits: int = 2,
    size: tuple[int, int] | None = None,
    interlaced: bool = False,
    data: bytes | None = None,
) -> bytes:
    """An image block; `data`, sub-blocks and the code size before them, takes the place of the compressed pixels."""
    width, height = size or (pixels.shape[1], pixels.shape[0])  # type: ignore[union-attr]
    flags = (0x80 | _size_bits(colours) if colours else 0) | (0x40 if interlaced else 0)
    if data is None:
        rows = pixels[interlaced_order(height)] if interlaced else pixels
        data = bytes([bits]) + blocks(lzw(rows.ravel(), bits))
    return b"," + struct.pack("<HHHHB", *at, width, height, flags) + (colours or b"") + data


def interlaced_order(height: int) -> list[int]:
    """Rows as an interlaced frame stores them."""
    return [*range(0, height, 8), *range(4, height, 8), *range(2, height, 4), *range(1, height, 2)]


PIXELS = noise(12, 16, 4)
SMALL = noise(5, 6, 4, seed=1)
OTHER = noise(6, 7, 4, seed=2)
WHOLE = screen(16, 12) + frame(PIXELS) + TRAILER
COMMENT = extension(0xFE, b"a comment")
NETSCAPE = extension(0xFF, b"NETSCAPE2.0", b"\1\0\0")


def cases() -> list[Crafted]:
    made = [*_canvas(), *_colours(), *_extensions(), *_data(), *_ends(), *_animated()]
    return craft("GIF", made, REFUSED, LEVELS)


Row = tuple[str, bytes, int]
"""Name, file and frame."""


def _row(name: str, data: bytes, at: int = 0) -> Row:
    return name, data, at


def _canvas() -> list[Row]:
    return [
        _row("plain", WHOLE),
        _row("87a", screen(16, 12, version=b"87a") + frame(PIXELS) + TRAILER),
        _row("88a", screen(16, 12, version=b"88a") + frame(PIXELS) + TRAILER),
        _row("frame smaller than canvas", screen(16, 12) + frame(SMALL) + TRAILER),
        _row("frame at offset", screen(16, 12) + frame(SMALL, (7, 4)) + TRAILER),
        _row("frame at offset, transparent", screen(16, 12) + control(0, 2) + frame(SMALL, (7, 4)) + TRAILER),
        _row("frame at offset, background 2", screen(16, 12, background=2) + frame(SMALL, (7, 4)) + TRAILER),
        _row("frame over the right edge", screen(16, 12) + frame(SMALL, (13, 4)) + TRAILER),
        _row("frame over the lower edge", screen(16, 12) + frame(SMALL, (3, 9)) + TRAILER),
        _row("frame over both edges", screen(16, 12) + frame(SMALL, (13, 9)) + TRAILER),
        _row("frame outside", screen(16, 12) + frame(SMALL, (20, 20)) + TRAILER),
        _row("frame larger than canvas", screen(6, 5) + frame(PIXELS) + TRAILER),
        _row("frame larger than canvas, opaque 87a", screen(6, 5, version=b"87a") + frame(PIXELS) + TRAILER),
        _row("screen of zero", screen(0, 0) + frame(PIXELS) + TRAILER),
        _row("screen of zero, frame at offset", screen(0, 0) + frame(PIXELS, (3, 2)) + TRAILER),
        _row("screen of no width", screen(0, 12) + frame(PIXELS) + TRAILER),
        _row("screen of no height", screen(16, 0) + frame(PIXELS) + TRAILER),
        _row("frame of no width", screen(16, 12) + frame(None, size=(0, 5), data=b"\2" + blocks(lzw([]))) + TRAILER),
        _row("frame of no size", screen(16, 12) + frame(None, size=(0, 0), data=b"\2\0") + TRAILER),
        _row(
            "frame of no size, then one",
            screen(16, 12) + frame(None, size=(0, 0), data=b"\2\0") + frame(PIXELS) + TRAILER,
        ),
        _row("screen of 64, frame of 1", screen(64, 64) + frame(PIXELS[:1, :1], (63, 63)) + TRAILER),
        *(
            _row(f"interlaced, {rows} rows", screen(16, rows) + frame(noise(rows, 16, 4), interlaced=True) + TRAILER)
            for rows in (1, 2, 3, 4, 5, 8, 9, 17)
        ),
        _row("interlaced at offset", screen(16, 12) + frame(SMALL, (7, 4), interlaced=True) + TRAILER),
        _row("aspect 2 to 1", WHOLE[:12] + b"\x71" + WHOLE[13:]),
    ]


def _colours() -> list[Row]:
    deep = noise(12, 16, 256)
    greys = bytes(level for level in range(256) for _ in range(3))
    return [
        _row("local palette", screen(16, 12) + frame(PIXELS, colours=OTHERS) + TRAILER),
        _row("local palette alone", screen(16, 12, None) + frame(PIXELS, colours=OTHERS) + TRAILER),
        _row("no palette", screen(16, 12, None) + frame(PIXELS) + TRAILER),
        _row("no palette, 256 levels", screen(16, 12, None) + frame(deep, bits=8) + TRAILER),
        _row("grey palette", screen(16, 12, greys) + frame(deep, bits=8) + TRAILER),
        _row("grey local palette under colours", screen(16, 12) + frame(deep, colours=greys, bits=8) + TRAILER),
        _row("index beyond palette", screen(16, 12, COLOURS[:6]) + frame(PIXELS) + TRAILER),
        _row("index beyond local palette", screen(16, 12) + frame(PIXELS, colours=OTHERS[:6]) + TRAILER),
        _row("256 indices of 4 colours", screen(16, 12) + frame(deep, bits=8) + TRAILER),
        _row("transparent", screen(16, 12) + control(0, 1) + frame(PIXELS) + TRAILER),
        _row("transparent 0", screen(16, 12) + control(0, 0) + frame(PIXELS) + TRAILER),
        _row("transparent in 87a", screen(16, 12, version=b"87a") + control(0, 1) + frame(PIXELS) + TRAILER),
        _row("transparent local", screen(16, 12) + control(0, 1) + frame(PIXELS, colours=OTHERS) + TRAILER),
        _row("transparent beyond palette", screen(16, 12) + control(0, 9) + frame(deep % 12, bits=4) + TRAILER),
        _row("transparent and beyond palette", screen(16, 12, COLOURS[:6]) + control(0, 1) + frame(PIXELS) + TRAILER),
        _row("transparent, not used", screen(16, 12) + control(0, 3) + frame(PIXELS % 3) + TRAILER),
        _row("transparent grey", screen(16, 12, greys) + control(0, 7) + frame(deep % 16, bits=8) + TRAILER),
        _row("all transparent", screen(16, 12) + control(0, 1) + frame(PIXELS * 0 + 1) + TRAILER),
        _row("background beyond palette", screen(16, 12, background=200) + frame(SMALL) + TRAILER),
    ]


def _extensions() -> list[Row]:
    start, end = screen(16, 12), frame(PIXELS) + TRAILER
    profile = extension(0xFF, b"ICCRGBG1012", bytes(200))
    xmp = b"!\xff\x0bXMP DataXMP" + b"<x:xmpmeta>text</x:xmpmeta>" + b"\1" + bytes(range(255, -1, -1)) + b"\0"
    return [
        _row("two controls, the second plain", start + control(0, 1) + control(0) + end),
        _row("two controls, both transparent", start + control(0, 1) + control(0, 2) + end),
        _row("control, comment, frame", start + control(0, 1) + COMMENT + end),
        _row("control, text, frame", start + control(0, 1) + extension(1, bytes(12), b"text") + end),
        _row("control, application, frame", start + control(0, 1) + NETSCAPE + end),
        _row("control behind the frame", start + frame(PIXELS) + control(0, 1) + TRAILER),
        _row("control of 3 bytes", start + extension(0xF9, b"\1\0\0") + end),
        _row("control of 5 bytes", start + extension(0xF9, b"\1\0\0\1\0") + end),
        _row("control of two blocks", start + extension(0xF9, b"\1\0\0\1", b"\0\0\0\2") + end),
        _row("control without block", start + extension(0xF9) + end),
        _row("control in single bytes", start + extension(0xF9, b"\1", b"\0", b"\0", b"\1") + end),
        _row("control of reserved bits", start + extension(0xF9, b"\xe3\0\0\1") + end),
        _row("control without end", start + control(0, 1)[:-1] + end),
        _row("comment", start + COMMENT + end),
        _row("empty comment", start + extension(0xFE) + end),
        _row("99 comments", start + COMMENT * 99 + end),
        _row("loops", start + NETSCAPE + end),
        _row("profile", start + profile + end),
        _row("xmp", start + xmp + end),
        _row("unknown extension", start + extension(0x42, b"what", b"is this") + end),
        _row("extension without end", start + b"!\xfe\x04text" + end),
        _row("zero bytes between blocks", start + bytes(3) + COMMENT + bytes(2) + end),
        _row("junk between blocks", start + b"junk" + end),
        _row("junk before the trailer", start + frame(PIXELS) + b"junk" + TRAILER),
        _row("text over the frame", start + frame(PIXELS) + extension(1, bytes(12), b"text") + TRAILER),
    ]


def _data() -> list[Row]:
    start, raw = screen(16, 12), lzw(PIXELS.ravel())
    deep = noise(12, 16, 256)

    def coded(data: bytes, bits: int = 2, size: int = 255, begin: bytes = start) -> bytes:
        return begin + frame(PIXELS, data=bytes([bits]) + blocks(data, size)) + TRAILER

    long = noise(64, 64, 256)
    full = lzw(long.ravel(), 8)
    return [
        _row("in blocks of one byte", coded(raw, size=1)),
        _row("in blocks of seven bytes", coded(raw, size=7)),
        _row("no clear code", coded(lzw(PIXELS.ravel(), first_clear=False))),
        _row("no end code", coded(lzw(PIXELS.ravel(), end=False))),
        _row(
            "two clear codes",
            coded(pack([(4, 3), (4, 3)] + [pair for i in PIXELS.ravel() for pair in ((i, 3), (4, 3))] + [(5, 3)])),
        ),
        _row("too few pixels, with end", coded(lzw(PIXELS.ravel()[:90]))),
        _row("too few pixels, without end", coded(lzw(PIXELS.ravel()[:90], end=False))),
        _row("too many pixels", coded(lzw([*PIXELS.ravel(), *range(3), 1, 2]))),
        _row("junk behind the end code", coded(raw + b"\x55" * 20)),
        _row("junk block behind the data", start + frame(PIXELS, data=b"\2" + blocks(raw)[:-1] + b"\3abc\0") + TRAILER),
        _row("code beyond the table", coded(raw[:9] + b"\xff\xff" + raw[11:])),
        _row("first code beyond the table", coded(pack([(4, 3), (7, 3), (1, 3), (5, 3)]))),
        _row("no data", start + frame(PIXELS, data=b"\2\0") + TRAILER),
        _row("clear and end alone", coded(pack([(4, 3), (5, 3)]))),
        _row("end alone", coded(pack([(5, 3)]))),
        _row("table full", screen(64, 64, bytes(range(256)) * 3) + frame(long, data=b"\x08" + blocks(full)) + TRAILER),
        *(
            _row(f"code size {bits}", coded(lzw(PIXELS.ravel() % min(4, 1 << bits), bits), bits))
            for bits in (1, 3, 7, 8)
        ),
        *(_row(f"code size {bits}", coded(lzw(deep.ravel(), bits), bits)) for bits in (9, 10, 11)),
        _row("code size 0", coded(pack([(1, 1), (0, 1), (0, 2)]), 0)),
        _row("code size 12", coded(raw, 12)),
        _row("code size 255", coded(raw, 255)),
        _row("code size 2 with 256 colours", screen(16, 12, bytes(range(256)) * 3) + frame(PIXELS) + TRAILER),
    ]


def _ends() -> list[Row]:
    bare = screen(16, 12) + frame(PIXELS)
    return [
        _row("no trailer", bare),
        _row("trailing data", WHOLE + b"PK\3\4" + bytes(30)),
        _row("second file behind", WHOLE + screen(16, 12) + frame(PIXELS[::-1]) + TRAILER),
        _row("second frame behind the trailer", WHOLE + frame(PIXELS[::-1]) + TRAILER),
        _row("second frame cut", bare + control(1) + frame(PIXELS[::-1])[:30]),
        _row("cut in the data", bare[:-30]),
        _row("cut before the last byte", bare[:-1]),
        _row("cut before the end of the data", bare[:-2]),
        _row("cut in the frame's header", bare[:30]),
        _row("cut in the palette", bare[:20]),
        _row("cut in the screen", bare[:11]),
        _row("no frame", screen(16, 12) + TRAILER),
        _row("trailer, then a frame", screen(16, 12) + TRAILER + frame(PIXELS) + TRAILER),
    ]


def _animated() -> list[Row]:
    rows = []
    for disposal in range(8):
        first = control(disposal, None) + frame(PIXELS)
        second = control(disposal, 3) + frame(SMALL, (2, 3))
        third = control(disposal, 1) + frame(OTHER, (6, 4), OTHERS)
        data = screen(16, 12, background=2) + NETSCAPE + first + second + third + TRAILER
        rows += [_row(f"disposal {disposal}", data, at=number) for number in range(3)]
    for name, disposals in {
        "1 3 1": (1, 3, 1),
        "2 3 1": (2, 3, 1),
        "3 3 1": (3, 3, 1),
        "3 2 1": (3, 2, 1),
        "1 2 3": (1, 2, 3),
        "2 1 2": (2, 1, 2),
    }.items():
        shown = [frame(SMALL, (1, 1)), frame(OTHER, (4, 3)), frame(SMALL[::-1], (8, 6), OTHERS), frame(SMALL[:2, :2])]
        parts = [
            control(disposal, index) + one
            for disposal, index, one in zip((*disposals, 1), (None, 2, 0, None), shown, strict=True)
        ]
        data = screen(16, 12) + b"".join(parts) + TRAILER
        rows += [_row(f"small frames, disposal {name}", data, at=number) for number in range(4)]
    beyond = screen(16, 12) + frame(PIXELS) + control(1) + frame(SMALL, (13, 9)) + TRAILER
    outside = screen(16, 12) + frame(PIXELS) + control(1) + frame(SMALL, (30, 30)) + frame(SMALL) + TRAILER
    empty = screen(16, 12) + frame(PIXELS) + frame(None, size=(0, 0), data=b"\2\0") + frame(SMALL) + TRAILER
    grown = screen(6, 5) + frame(SMALL) + control(1) + frame(PIXELS) + TRAILER
    damaged = (
        screen(16, 12) + frame(PIXELS, data=b"\2" + blocks(lzw(PIXELS.ravel()[:90]))) + frame(SMALL, (3, 3)) + TRAILER
    )
    zero = screen(0, 0) + frame(SMALL) + frame(PIXELS) + TRAILER
    lasting = screen(16, 12) + control(2, 1) + frame(PIXELS) + frame(SMALL, (2, 2)) + TRAILER
    return [
        *rows,
        *(_row("second frame over the edge", beyond, at=number) for number in range(2)),
        *(_row("second frame outside", outside, at=number) for number in range(3)),
        *(_row("second frame empty", empty, at=number) for number in range(3)),
        *(_row("second frame larger than the canvas", grown, at=number) for number in range(2)),
        *(_row("first frame short", damaged, at=number) for number in range(2)),
        *(_row("screen of zero, two frames", zero, at=number) for number in range(2)),
        *(_row("control for the first frame alone", lasting, at=number) for number in range(2)),
        _row("no second frame", WHOLE, at=1),
    ]


REFUSED = """
88a
frame of no width
frame of no size
frame of no size, then one
no palette
no palette, 256 levels
control of 3 bytes
control of 5 bytes
control of two blocks
control without block
control in single bytes
control without end
extension without end
zero bytes between blocks
junk between blocks
too few pixels, with end
too few pixels, without end
code beyond the table
first code beyond the table
no data
clear and end alone
end alone
code size 1
code size 9
code size 10
code size 11
code size 0
code size 12
code size 255
cut in the data
cut before the end of the data
cut in the frame's header
cut in the palette
cut in the screen
no frame
trailer, then a frame
second frame empty @1
second frame empty @2
first frame short
first frame short @1
no second frame @1
"""
"""What we refuse, line by line; @1 is the second frame."""
LEVELS: dict[str, int] = {}
"""Levels between us and the browser, where it rounds otherwise when it mixes colours or drops bits."""
