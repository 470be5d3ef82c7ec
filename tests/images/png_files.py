"""PNG and APNG files that are odd in one way each, built chunk by chunk."""

from __future__ import annotations

import struct
import zlib

import numpy as np

from tests.images.cases import Crafted, craft, exif, noise

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
WIDTH, HEIGHT = 16, 12


def chunk(kind: bytes, body: bytes = b"", crc: int | None = None) -> bytes:
    crc = zlib.crc32(kind + body) if crc is None else crc
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)


def ihdr(width: int = WIDTH, height: int = HEIGHT, depth: int = 8, kind: int = RGB, *rest: int) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBB", width, height, depth, kind) + bytes(rest or (0, 0, 0)))


def deflate(data: bytes) -> bytes:
    """A zlib stream of one stored block: the same bytes with each version of zlib."""
    block = b"\1" + struct.pack("<HH", len(data), len(data) ^ 0xFFFF) + data
    return b"\x78\1" + block + struct.pack(">I", zlib.adler32(data))


def rows(pixels: np.ndarray, filtering: int = 0) -> bytes:
    """Rows of bytes, each with its filter in front."""
    flat = pixels.reshape(len(pixels), -1)
    return b"".join(bytes([filtering]) + row.tobytes() for row in flat)


def packed(values: np.ndarray, depth: int) -> np.ndarray:
    """Rows of values of less than 8 bits, packed."""
    bits = np.unpackbits(values[..., None], axis=-1)[..., 8 - depth :]
    return np.packbits(bits.reshape(len(values), -1), axis=-1)


def idat(pixels: np.ndarray) -> bytes:
    return chunk(b"IDAT", deflate(rows(pixels)))


def png(*chunks: bytes) -> bytes:
    return SIGNATURE + b"".join(chunks) + IEND


def colours(seed: int = 0, channels: int = 3) -> np.ndarray:
    return noise(HEIGHT, WIDTH * channels, seed=seed).reshape(HEIGHT, WIDTH, channels)


IEND = chunk(b"IEND")
PIXELS, OTHER = colours(), colours(1)
INDICES = noise(HEIGHT, WIDTH, 4)
FOUR = bytes([200, 30, 40, 20, 180, 60, 30, 60, 220, 240, 220, 20])
PLTE = chunk(b"PLTE", FOUR)
DATA = deflate(rows(PIXELS))
IDAT = chunk(b"IDAT", DATA)
PLAIN = png(ihdr(), IDAT)
TEXT = chunk(b"tEXt", b"key\0value")


Row = tuple[str, bytes, int]
"""Name, file and frame."""


def _row(name: str, data: bytes, at: int = 0) -> Row:
    return name, data, at


def cases() -> list[Crafted]:
    made = [*_forms(), *_clear(), *_chunks(), *_order(), *_stream(), *_metadata(), *_ends(), *_animated()]
    return craft("PNG", made, REFUSED, LEVELS, DIFFERENT)


def _forms() -> list[Row]:
    grey = noise(HEIGHT, WIDTH)
    found = [
        _row("rgb", PLAIN),
        _row("grey", png(ihdr(kind=GREY), idat(grey))),
        _row("grey alpha", png(ihdr(kind=GREY_ALPHA), idat(colours(2, 2)))),
        _row("rgba", png(ihdr(kind=RGBA), idat(colours(3, 4)))),
        _row("palette", png(ihdr(kind=PALETTE), PLTE, idat(INDICES))),
        _row("rgb of 16 bits", png(ihdr(depth=16), idat(colours(4, 6)))),
        _row("grey of 16 bits", png(ihdr(depth=16, kind=GREY), idat(colours(5, 2)))),
        _row("rgba of 16 bits", png(ihdr(depth=16, kind=RGBA), idat(colours(6, 8)))),
        _row("grey alpha of 16 bits", png(ihdr(depth=16, kind=GREY_ALPHA), idat(colours(7, 4)))),
    ]
    for depth in (1, 2, 4):
        values = noise(HEIGHT, WIDTH, 1 << depth)
        two = chunk(b"PLTE", FOUR * (1 << depth if depth == 4 else 1))
        found.append(_row(f"grey of {depth} bits", png(ihdr(depth=depth, kind=GREY), idat(packed(values, depth)))))
        found.append(
            _row(f"palette of {depth} bits", png(ihdr(depth=depth, kind=PALETTE), two, idat(packed(values % 4, depth))))
        )
    found.append(
        _row("interlaced", png(ihdr(WIDTH, HEIGHT, 8, RGB, 0, 0, 1), chunk(b"IDAT", deflate(_interlaced(PIXELS)))))
    )
    for kind in range(5):
        body = deflate(rows(PIXELS // 8, kind))
        found.append(_row(f"filter {kind}", png(ihdr(), chunk(b"IDAT", body))))
    found.append(_row("filter 5", png(ihdr(), chunk(b"IDAT", deflate(rows(PIXELS, 5))))))
    return found


def _interlaced(pixels: np.ndarray) -> bytes:
    """Seven passes, as Adam7 has them."""
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    return b"".join(rows(pixels[top::down, left::right]) for top, left, down, right in passes)


def _clear() -> list[Row]:
    grey, clear = noise(HEIGHT, WIDTH, 4), chunk(b"tRNS", b"\0\2")
    two = noise(HEIGHT, WIDTH, 4)
    rgb = noise(HEIGHT, WIDTH * 3, 2).reshape(HEIGHT, WIDTH, 3)
    deep = np.stack([np.zeros_like(grey), grey], -1)
    same_high = np.stack([np.full_like(grey, 9), grey], -1)
    start = ihdr(kind=PALETTE)
    return [
        _row("clear grey", png(ihdr(kind=GREY), clear, idat(grey))),
        _row("clear grey of 2 bits", png(ihdr(depth=2, kind=GREY), clear, idat(packed(two, 2)))),
        _row(
            "clear grey of 2 bits, beyond", png(ihdr(depth=2, kind=GREY), chunk(b"tRNS", b"\0\6"), idat(packed(two, 2)))
        ),
        _row("clear grey of 1 bit", png(ihdr(depth=1, kind=GREY), chunk(b"tRNS", b"\0\1"), idat(packed(two % 2, 1)))),
        _row("clear grey, high byte", png(ihdr(kind=GREY), chunk(b"tRNS", b"\1\2"), idat(grey))),
        _row("clear grey of 16 bits", png(ihdr(depth=16, kind=GREY), clear, idat(deep))),
        _row("clear grey of 16 bits, near", png(ihdr(depth=16, kind=GREY), chunk(b"tRNS", b"\x09\1"), idat(same_high))),
        _row("clear rgb", png(ihdr(), chunk(b"tRNS", b"\0\1\0\0\0\1"), idat(rgb))),
        _row("clear rgb of 16 bits", png(ihdr(depth=16), chunk(b"tRNS", b"\1\0\1\1\0\1"), idat(np.repeat(rgb, 2, -1)))),
        _row("clear palette", png(start, PLTE, chunk(b"tRNS", b"\0\x80"), idat(INDICES))),
        _row("clear palette, longer than it", png(start, PLTE, chunk(b"tRNS", b"\0\x80\xff\xff\0\0"), idat(INDICES))),
        _row("clear palette, empty", png(start, PLTE, chunk(b"tRNS"), idat(INDICES))),
        _row("clear before the palette", png(start, chunk(b"tRNS", b"\0\x80"), PLTE, idat(INDICES))),
        _row("clear behind the pixels", png(start, PLTE, idat(INDICES), chunk(b"tRNS", b"\0\x80"))),
        _row("clear twice", png(start, PLTE, chunk(b"tRNS", b"\0\x80"), chunk(b"tRNS", b"\xff\xff\0"), idat(INDICES))),
        _row("clear rgb twice", png(ihdr(), chunk(b"tRNS", bytes(6)), chunk(b"tRNS", b"\0\1\0\0\0\1"), idat(rgb))),
        _row("clear in rgba", png(ihdr(kind=RGBA), chunk(b"tRNS", b"\0\1\0\0\0\1"), idat(colours(3, 4)))),
        _row("clear rgb, short", png(ihdr(), chunk(b"tRNS", b"\0\1"), idat(rgb))),
        _row("clear grey, long", png(ihdr(kind=GREY), chunk(b"tRNS", b"\0\2\0\3"), idat(grey))),
        _row("clear, bad checksum", png(start, PLTE, chunk(b"tRNS", b"\0\x80", 1), idat(INDICES))),
    ]


def _chunks() -> list[Row]:
    start, other = ihdr(kind=PALETTE), chunk(b"PLTE", FOUR[::-1])
    return [
        _row("no palette", png(start, idat(INDICES))),
        _row("palette twice", png(start, PLTE, other, idat(INDICES))),
        _row("palette behind the pixels", png(start, idat(INDICES), PLTE)),
        _row("palette between pixels", png(start, PLTE, *_split(INDICES, other))),
        _row("palette of rgb", png(ihdr(), PLTE, IDAT)),
        _row("palette of grey", png(ihdr(kind=GREY), PLTE, idat(INDICES))),
        _row("palette of 4 bytes", png(start, chunk(b"PLTE", FOUR[:4]), idat(INDICES % 1))),
        _row("palette of 257 colours", png(start, chunk(b"PLTE", FOUR * 64 + b"123"), idat(INDICES))),
        _row("palette empty", png(start, chunk(b"PLTE"), idat(INDICES))),
        _row("index beyond palette", png(start, chunk(b"PLTE", FOUR[:6]), idat(INDICES))),
        _row("palette longer than depth", png(ihdr(depth=1, kind=PALETTE), PLTE, idat(packed(INDICES % 2, 1)))),
        _row("unknown critical chunk", png(ihdr(), chunk(b"WHAT", b"is this"), IDAT)),
        _row("unknown critical chunk behind the pixels", png(ihdr(), IDAT, chunk(b"WHAT", b"is this"))),
        _row("unknown chunk", png(ihdr(), chunk(b"what", b"is this"), IDAT)),
        _row("unknown chunk, bad checksum", png(ihdr(), chunk(b"what", b"is this", 1), IDAT)),
        _row("chunk of no letters", png(ihdr(), chunk(b"a1b2", b"is this"), IDAT)),
        _row("header twice", png(ihdr(), ihdr(), IDAT)),
        _row("header twice, other size", png(ihdr(), ihdr(8, 8), IDAT)),
        _row("header, bad checksum", png(chunk(b"IHDR", ihdr()[8:21], 1), IDAT)),
        _row("pixels, bad checksum", png(ihdr(), chunk(b"IDAT", DATA, 1))),
        _row("end, bad checksum", SIGNATURE + ihdr() + IDAT + chunk(b"IEND", b"", 1)),
        _row("header of 14 bytes", png(chunk(b"IHDR", ihdr()[8:21] + b"\0"), IDAT)),
        _row("depth of 3 bits", png(ihdr(depth=3, kind=GREY), IDAT)),
        _row("rgb of 4 bits", png(ihdr(depth=4), IDAT)),
        _row("colour type 1", png(ihdr(kind=1), IDAT)),
        _row("compression 1", png(ihdr(WIDTH, HEIGHT, 8, RGB, 1, 0, 0), IDAT)),
        _row("filtering 1", png(ihdr(WIDTH, HEIGHT, 8, RGB, 0, 1, 0), IDAT)),
        _row("interlacing 2", png(ihdr(WIDTH, HEIGHT, 8, RGB, 0, 0, 2), IDAT)),
        _row("no width", png(ihdr(0), IDAT)),
        _row("width of 2 to the 31", png(ihdr(1 << 31, 1), IDAT)),
    ]


def _split(pixels: np.ndarray, *between: bytes) -> list[bytes]:
    body = deflate(rows(pixels))
    return [chunk(b"IDAT", body[:90]), *between, chunk(b"IDAT", body[90:])]


def _order() -> list[Row]:
    return [
        _row("pixels in two chunks", png(ihdr(), *_split(PIXELS))),
        _row("pixels in single bytes", png(ihdr(), *(chunk(b"IDAT", DATA[at : at + 1]) for at in range(len(DATA))))),
        _row("text between pixels", png(ihdr(), *_split(PIXELS, TEXT))),
        _row("unknown chunk between pixels", png(ihdr(), *_split(PIXELS, chunk(b"what", b"is this")))),
        _row("empty chunk of pixels first", png(ihdr(), chunk(b"IDAT"), IDAT)),
        _row("empty chunk of pixels last", png(ihdr(), IDAT, chunk(b"IDAT"))),
        _row("pixels twice", png(ihdr(), IDAT, idat(OTHER))),
        _row("pixels twice, text between", png(ihdr(), IDAT, TEXT, idat(OTHER))),
        _row("header behind the pixels", png(IDAT, ihdr())),
        _row("text before the header", png(TEXT, ihdr(), IDAT)),
        _row("end, then pixels", SIGNATURE + ihdr() + IEND + IDAT + IEND),
        _row("end with content", SIGNATURE + ihdr() + IDAT + chunk(b"IEND", b"text")),
        _row("no pixels", png(ihdr())),
    ]


def _stream() -> list[Row]:
    raw = rows(PIXELS)

    def stream(data: bytes) -> bytes:
        return png(ihdr(), chunk(b"IDAT", data))

    return [
        _row("too few rows", stream(deflate(raw[:300]))),
        _row("too many rows", stream(deflate(raw + raw[:98]))),
        _row("junk behind the stream", stream(DATA + b"junk" * 9)),
        _row("stream without its sum", stream(DATA[:-4])),
        _row("stream of a wrong sum", stream(DATA[:-1] + bytes([DATA[-1] ^ 1]))),
        _row("stream without its end", stream(DATA[:-60])),
        _row("stream of a wrong header", stream(b"\x79" + DATA[1:])),
        _row("stream of a large window", stream(b"\xf8\1" + DATA[2:])),
        _row("stream of a dictionary", stream(b"\x78\x20" + DATA[2:])),
        _row("stream damaged", stream(DATA[:7] + b"\7" + DATA[8:300] + b"\xff" * 20 + DATA[320:])),
        _row("block of unknown type", stream(b"\x78\1\7" + DATA[3:])),
        _row("no stream", stream(b"")),
    ]


def _metadata() -> list[Row]:
    turned = chunk(b"eXIf", exif(6))
    profile = chunk(b"iCCP", b"profile\0\0" + deflate(b"junk" * 9))
    return [
        _row("exif 6", png(ihdr(), turned, IDAT)),
        _row("exif 6, big endian", png(ihdr(), chunk(b"eXIf", exif(6, order=">")), IDAT)),
        _row("exif 6 behind the pixels", png(ihdr(), IDAT, turned)),
        _row("exif 6 with prefix", png(ihdr(), chunk(b"eXIf", b"Exif\0\0" + exif(6)), IDAT)),
        _row("exif 6, bad checksum", png(ihdr(), chunk(b"eXIf", exif(6), 1), IDAT)),
        _row("exif 3, then 6", png(ihdr(), chunk(b"eXIf", exif(3)), turned, IDAT)),
        _row("exif of junk", png(ihdr(), chunk(b"eXIf", b"\xff" * 40), IDAT)),
        _row("exif 9", png(ihdr(), chunk(b"eXIf", exif(9)), IDAT)),
        _row("text", png(ihdr(), TEXT, IDAT)),
        _row("profile of junk", png(ihdr(), profile, IDAT)),
        _row("srgb", png(ihdr(), chunk(b"sRGB", b"\0"), IDAT)),
        _row("gamma of srgb", png(ihdr(), chunk(b"gAMA", struct.pack(">I", 45455)), IDAT)),
        _row("gamma of 1", png(ihdr(), chunk(b"gAMA", struct.pack(">I", 100000)), IDAT)),
        _row("background", png(ihdr(kind=RGBA), chunk(b"bKGD", b"\0\xff\0\0\0\0"), idat(colours(3, 4)))),
        _row("significant bits", png(ihdr(), chunk(b"sBIT", b"\1\1\1"), IDAT)),
        _row("physical size", png(ihdr(), chunk(b"pHYs", struct.pack(">IIB", 1, 9, 1)), IDAT)),
        _row("offset", png(ihdr(), chunk(b"oFFs", struct.pack(">iiB", 5, 5, 0)), IDAT)),
    ]


def _ends() -> list[Row]:
    return [
        _row("no end", PLAIN[:-12]),
        _row("end cut", PLAIN[:-5]),
        _row("trailing data", PLAIN + b"PK\3\4" + bytes(30)),
        _row("second file behind", PLAIN + png(ihdr(), idat(OTHER))),
        _row("cut in the pixels", PLAIN[:-100]),
        _row("cut in the header", PLAIN[:20]),
        _row("signature alone", SIGNATURE),
        _row("signature, damaged", b"\x89PNG\n\x1a\n" + PLAIN[8:]),
        _row("length beyond the file", png(ihdr(), b"\x00\xff\xff\xffteXt" + b"x" * 30, IDAT)),
        _row("length of all bits", png(ihdr(), b"\xff\xff\xff\xffteXt" + b"x" * 30, IDAT)),
    ]


def control(
    number: int, at: tuple[int, int] = (0, 0), size: tuple[int, int] = (WIDTH, HEIGHT), dispose: int = 0, blend: int = 0
) -> bytes:
    """An fcTL chunk of 0.1 s."""
    return chunk(b"fcTL", struct.pack(">5I2H2B", number, *size, *at, 1, 10, dispose, blend))


def fdat(number: int, pixels: np.ndarray) -> bytes:
    return chunk(b"fdAT", struct.pack(">I", number) + deflate(rows(pixels)))


def actl(frames: int) -> bytes:
    return chunk(b"acTL", struct.pack(">II", frames, 0))


def _animated() -> list[Row]:
    small, size = OTHER[:5, :6], (6, 5)
    alpha = colours(8, 4)
    second = (control(1), fdat(2, OTHER))
    found: list[Row] = []

    def add(name: str, data: bytes, count: int = 1) -> None:
        found.extend(_row(name, data, at=number) for number in range(count))

    add("animation", png(ihdr(), actl(2), control(0), IDAT, *second), 2)
    add("animation, pixels no frame", png(ihdr(), actl(1), IDAT, control(0), fdat(1, OTHER)))
    add(
        "animation of two, pixels no frame",
        png(ihdr(), actl(2), IDAT, control(0), fdat(1, OTHER), control(2), fdat(3, PIXELS)),
    )
    add("animation of one frame", png(ihdr(), actl(1), control(0), IDAT))
    add("animation of no frames", png(ihdr(), actl(0), control(0), IDAT))
    add("animation, more frames named", png(ihdr(), actl(9), control(0), IDAT, *second))
    add("animation, fewer frames named", png(ihdr(), actl(1), control(0), IDAT, *second))
    add("animation behind the pixels", png(ihdr(), IDAT, actl(1), control(0), fdat(1, OTHER)))
    add("animation, no head", png(ihdr(), control(0), IDAT, *second))
    add("animation, head twice", png(ihdr(), actl(2), actl(1), control(0), IDAT, *second))
    add("animation, frame head twice", png(ihdr(), actl(2), control(0), control(1), IDAT, control(2), fdat(3, OTHER)))
    add("animation, first frame small", png(ihdr(), actl(1), control(0, size=size), idat(small)))
    add("animation, first frame at offset", png(ihdr(), actl(1), control(0, (3, 3), size), idat(small)))
    add("animation, first frame small, whole pixels", png(ihdr(), actl(2), control(0, size=size), IDAT, *second))
    add("animation, numbers out of order", png(ihdr(), actl(2), control(5), IDAT, control(3), fdat(4, OTHER)))
    add("animation, frame before the pixels", png(ihdr(), actl(2), control(0), fdat(1, OTHER), IDAT))
    add("animation, frame without head", png(ihdr(), actl(2), control(0), IDAT, fdat(1, OTHER)))
    add("animation, head of 7 bytes", png(ihdr(), chunk(b"acTL", bytes(7)), control(0), IDAT, *second))
    add(
        "animation, head of bad checksum",
        png(ihdr(), chunk(b"acTL", struct.pack(">II", 1, 0), 1), IDAT, control(0), fdat(1, OTHER)),
    )
    add(
        "animation, second frame outside",
        png(ihdr(), actl(2), control(0), IDAT, control(1, (14, 9), size), fdat(2, small)),
    )
    add("animation, blend 2", png(ihdr(), actl(1), control(0, blend=2), IDAT))
    add("animation, text between pixels and frame", png(ihdr(), actl(2), control(0), IDAT, TEXT, *second), 2)
    for dispose in range(3):
        for blend in range(2):
            frames = (
                control(0, dispose=dispose),
                idat(alpha),
                control(1, (4, 2), size, dispose, blend),
                fdat(2, colours(9, 4)[:5, :6]),
                control(3, (7, 4), size, 0, blend),
                fdat(4, colours(10, 4)[:5, :6]),
            )
            add(f"animation, dispose {dispose}, blend {blend}", png(ihdr(kind=RGBA), actl(3), *frames), 3)
    found.append(_row("no second frame", PLAIN, at=1))
    return found


REFUSED = """
filter 5
clear grey of 2 bits, beyond
clear grey, high byte
clear rgb of 16 bits
clear before the palette
clear behind the pixels
clear twice
clear rgb twice
clear rgb, short
clear grey, long
clear, bad checksum
no palette
palette twice
palette behind the pixels
palette between pixels
palette of 4 bytes
palette of 257 colours
palette empty
index beyond palette
unknown critical chunk
unknown critical chunk behind the pixels
chunk of no letters
header twice
header twice, other size
header, bad checksum
pixels, bad checksum
header of 14 bytes
depth of 3 bits
rgb of 4 bits
colour type 1
compression 1
filtering 1
interlacing 2
no width
width of 2 to the 31
text between pixels
unknown chunk between pixels
pixels twice, text between
header behind the pixels
text before the header
end, then pixels
no pixels
too few rows
stream of a wrong sum
stream without its end
stream of a wrong header
stream of a large window
stream of a dictionary
stream damaged
block of unknown type
no stream
exif 6 behind the pixels
exif 6 with prefix
exif 6, bad checksum
exif 3, then 6
no end
end cut
cut in the pixels
cut in the header
signature alone
signature, damaged
length beyond the file
length of all bits
animation, pixels no frame
animation of two, pixels no frame
animation, head twice
animation, frame head twice
animation, first frame small
animation, first frame at offset
animation, first frame small, whole pixels
animation, numbers out of order
animation, frame before the pixels
animation, head of 7 bytes
animation, head of bad checksum
animation, blend 2
no second frame @1
"""
"""What we refuse, line by line; @1 is the second frame."""
LEVELS: dict[str, int] = {
    "grey of 16 bits": 1,
}
"""Levels between us and the browser, where it rounds otherwise when it mixes colours or drops bits."""
DIFFERENT = {"gamma of 1": "gamma is not applied: the published processor does not either"}
