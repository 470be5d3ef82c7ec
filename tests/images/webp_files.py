"""WebP files that are odd in one way each, built chunk by chunk around bitstreams that libwebp once made."""

from __future__ import annotations

import struct
from base64 import b64decode

from tests.images.cases import Crafted, craft, exif

LOSSLESS = b64decode(
    "Lw/AAgAfoJBtBMhkgEf8ggkEiBlNSoVJEIggEkPs31hDzH98Gqlh4EQCADSZ5b3Bt7jmyX1AdH0BS7hrtUrleADZ9R/jA1D5SET/o3ZB4m161ELBUPmoufqOj9iv2dqM42rmAUVveX/ArBTNeeXf4t87LgE="
)
LOSSLESS_SMALL = b64decode("LwUAAQAfoJBtBMhkgEf8ggkEiBlNSoVJEIggEkPs31hDzH98GqlhoKCRpOZ7xwlScI6P1xTR/7ixuOfJRw==")
LOSSLESS_OTHER = b64decode(
    "LwZAAQAfoJBtBMhkgEf8ggkEiBlNSoVJEIggEkPs31hDzH98GqlhoKCRpOYdvISu4ClqkIGOjkY0RfQ/eh3441GD5Q=="
)
LOSSLESS_ALPHA = b64decode(
    "Lw/AAhBfoKBtG8ZICnCILzCCQJBgZpp0sBEIsm0KcYj751iHIJikiR6PPT7iH3CsUzC8diBKB4Jwatu2sX3+6m8mM9k2mtWsZCUz+o/GK9zxv2hE/4NmRfcamPs9Fdtx6WRg+UEMwdvV5GvOdM/YF42kVwGlKBqWMUFcM7BoyqoC7yLLLOP6BynA8oVbhduqxpoUVtAFxRMsIK+oBSkOKEzq/0v0uhOVAA=="
)
LOSSLESS_SMALL_ALPHA = b64decode(
    "LwUAARBXoKBtG8ZICnCILzCCQJBgZpp0sBEIsm0KcYj751iHIJikiT0+ejziHxDsFIhqB6YDx6AmAJDmpAAE2RX4icLJpQ28NIGdI/ofGzovxvuHaxYB"
)
LOSSY = b64decode("8AEAnQEqEAAMAAKAQiWwAnR/ABgUX0QAAP76k7qYlhHtDTUt2ejyZf9752Rqf3ae6n/aZ5FJcwAAAA==")
LOSSY_SMALL = b64decode("0AEAnQEqBgAFAAKAQiWoAuwBDvjOBsAA/vlS/oLu4Ol3a99KwF/9SKyjQAA=")
ALPHA = b64decode("ARcwfxERhtsAAMgm1gfJ5EOsLWM28wprM9pdJ0f0P2xXmq/V8MmcmhIaYvMQlRnP/xzOcV1+Nb+b+Q8sf7f80jaJJD0=")
ALPHA_SMALL = b64decode("ARcwfxERhpoAIBh7BZBIGIn8Wkf0P1o/jjanAA==")
ICCP, ALPHA_FLAG, EXIF, XMP, ANIMATION = 0x20, 0x10, 0x08, 0x04, 0x02
NO_BLEND, TO_BACKGROUND = 2, 1


def chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk, padded to an even length."""
    return kind + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)


def riff(*chunks: bytes) -> bytes:
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def header(flags: int, width: int = 16, height: int = 12) -> bytes:
    """The VP8X chunk."""
    return chunk(b"VP8X", struct.pack("<I", flags) + _24(width - 1) + _24(height - 1))


def _24(number: int) -> bytes:
    return struct.pack("<I", number)[:3]


def anim(background: int = 0) -> bytes:
    """The ANIM chunk; the background is blue, green, red and alpha from the lowest byte on."""
    return chunk(b"ANIM", struct.pack("<IH", background, 0))


def frame(*chunks: bytes, at: tuple[int, int] = (0, 0), size: tuple[int, int] = (16, 12), flags: int = 0) -> bytes:
    """An ANMF chunk of some 40 ms."""
    place = _24(at[0] // 2) + _24(at[1] // 2) + _24(size[0] - 1) + _24(size[1] - 1)
    return chunk(b"ANMF", place + _24(40) + bytes([flags]) + b"".join(chunks))


VP8L, VP8L_SMALL, VP8L_OTHER = (chunk(b"VP8L", one) for one in (LOSSLESS, LOSSLESS_SMALL, LOSSLESS_OTHER))
VP8L_ALPHA, VP8L_SMALL_ALPHA = chunk(b"VP8L", LOSSLESS_ALPHA), chunk(b"VP8L", LOSSLESS_SMALL_ALPHA)
VP8, VP8_SMALL = chunk(b"VP8 ", LOSSY), chunk(b"VP8 ", LOSSY_SMALL)
ALPH, ALPH_SMALL = chunk(b"ALPH", ALPHA), chunk(b"ALPH", ALPHA_SMALL)
SMALL = (6, 5)


Row = tuple[str, bytes, int]
"""Name, file and frame."""


def _row(name: str, data: bytes, at: int = 0) -> Row:
    return name, data, at


def cases() -> list[Crafted]:
    made = [*_still(), *_extended(), *_sizes(), *_chunks(), *_metadata(), *_ends(), *_animated()]
    return craft("WEBP", made, REFUSED, LEVELS)


def _still() -> list[Row]:
    return [
        _row("lossy", riff(VP8)),
        _row("lossless", riff(VP8L)),
        _row("lossless, alpha", riff(VP8L_ALPHA)),
        _row(
            "lossless, alpha bit clear",
            riff(VP8L_ALPHA.replace(LOSSLESS_ALPHA[:5], _without_alpha_bit(LOSSLESS_ALPHA)[:5])),
        ),
        _row("alpha chunk without header", riff(ALPH, VP8)),
    ]


def _without_alpha_bit(body: bytes) -> bytes:
    return body[:4] + bytes([body[4] & ~0x10]) + body[5:]


def _extended() -> list[Row]:
    return [
        _row("extended lossy", riff(header(0), VP8)),
        _row("extended lossless", riff(header(0), VP8L)),
        _row("extended lossless, alpha", riff(header(ALPHA_FLAG), VP8L_ALPHA)),
        _row("extended lossless, alpha, no flag", riff(header(0), VP8L_ALPHA)),
        _row("extended lossless, no alpha, flag", riff(header(ALPHA_FLAG), VP8L)),
        _row("alpha", riff(header(ALPHA_FLAG), ALPH, VP8)),
        _row("alpha, no flag", riff(header(0), ALPH, VP8)),
        _row("alpha flag, no chunk", riff(header(ALPHA_FLAG), VP8)),
        _row("alpha behind the image", riff(header(ALPHA_FLAG), VP8, ALPH)),
        _row("alpha twice", riff(header(ALPHA_FLAG), ALPH, chunk(b"ALPH", b"\0" + bytes(192)), VP8)),
        _row("alpha twice, the first clear", riff(header(ALPHA_FLAG), chunk(b"ALPH", b"\0" + bytes(192)), ALPH, VP8)),
        _row("alpha before lossless", riff(header(ALPHA_FLAG), ALPH, VP8L)),
        _row("alpha raw", riff(header(ALPHA_FLAG), chunk(b"ALPH", b"\0" + bytes(range(192))), VP8)),
        _row("alpha raw, short", riff(header(ALPHA_FLAG), chunk(b"ALPH", b"\0" + bytes(range(100))), VP8)),
        _row("alpha raw, long", riff(header(ALPHA_FLAG), chunk(b"ALPH", b"\0" + bytes(range(220))), VP8)),
        _row("alpha empty", riff(header(ALPHA_FLAG), chunk(b"ALPH", b""), VP8)),
        _row("alpha of damaged data", riff(header(ALPHA_FLAG), chunk(b"ALPH", ALPHA[:8] + b"\xff" * 60), VP8)),
        _row("alpha of unknown compression", riff(header(ALPHA_FLAG), chunk(b"ALPH", b"\2" + bytes(192)), VP8)),
        _row("alpha, levels reduced", riff(header(ALPHA_FLAG), chunk(b"ALPH", b"\x10" + bytes(range(192))), VP8)),
        _row("alpha, filtered", riff(header(ALPHA_FLAG), chunk(b"ALPH", b"\4" + bytes([1] * 192)), VP8)),
        _row("reserved flags", riff(header(0xC1), VP8)),
        _row("reserved bytes of the header", riff(header(0x12345600), VP8)),
        _row("short header", riff(chunk(b"VP8X", bytes(9)), VP8)),
        _row("long header", riff(chunk(b"VP8X", header(0)[8:18] + bytes(4)), VP8)),
    ]


def _sizes() -> list[Row]:
    return [
        _row("canvas larger than the image", riff(header(0, 20, 20), VP8L)),
        _row("canvas smaller than the image", riff(header(0, 8, 8), VP8L)),
        _row("canvas larger, lossy", riff(header(0, 20, 20), VP8)),
        _row("canvas turned", riff(header(0, 12, 16), VP8L)),
        _row("lossy of scale", riff(chunk(b"VP8 ", LOSSY[:7] + bytes([LOSSY[7] | 0x40]) + LOSSY[8:]))),
        _row("lossy of no width", riff(chunk(b"VP8 ", LOSSY[:6] + b"\0\0" + LOSSY[8:]))),
        _row("lossy, wider than its data", riff(chunk(b"VP8 ", LOSSY[:6] + b"\x40\0" + LOSSY[8:]))),
        _row("lossy, no key frame", riff(chunk(b"VP8 ", bytes([LOSSY[0] | 1]) + LOSSY[1:]))),
        _row("lossy, not to be shown", riff(chunk(b"VP8 ", bytes([LOSSY[0] & ~0x10]) + LOSSY[1:]))),
        _row("lossy of version 3", riff(chunk(b"VP8 ", bytes([LOSSY[0] | 6]) + LOSSY[1:]))),
        _row("lossy of version 4", riff(chunk(b"VP8 ", bytes([LOSSY[0] | 8]) + LOSSY[1:]))),
        _row("lossless of version 1", riff(chunk(b"VP8L", LOSSLESS[:4] + bytes([LOSSLESS[4] | 0x20]) + LOSSLESS[5:]))),
        _row("size of the lossy chunk cut", riff(chunk(b"VP8 ", LOSSY[:-20]))),
        _row("size of the lossless chunk cut", riff(chunk(b"VP8L", LOSSLESS[:-20]))),
        _row("zeros behind the lossy data", riff(chunk(b"VP8 ", LOSSY + bytes(9)))),
        _row("zeros behind the lossless data", riff(chunk(b"VP8L", LOSSLESS + bytes(9)))),
    ]


def _chunks() -> list[Row]:
    unknown = chunk(b"what", b"is this")
    unpadded = b"what" + struct.pack("<I", 7) + b"is this"
    return [
        _row("image twice", riff(VP8L, VP8)),
        _row("image twice, lossy first", riff(VP8, VP8L)),
        _row("image twice, extended", riff(header(0), VP8L, VP8)),
        _row("image twice, lossy first, extended", riff(header(0), VP8, VP8L)),
        _row("same image twice", riff(header(0), VP8, VP8)),
        _row("header twice", riff(header(0), header(ALPHA_FLAG), VP8)),
        _row("header twice, other size", riff(header(0), header(0, 20, 20), VP8)),
        _row("header behind the image", riff(VP8, header(0))),
        _row("unknown chunk first", riff(unknown, VP8)),
        _row("unknown chunk before the header", riff(unknown, header(0), VP8)),
        _row("unknown chunk before the image", riff(header(0), unknown, VP8)),
        _row("unknown chunk behind the image", riff(header(0), VP8, unknown)),
        _row("unknown chunk behind a plain image", riff(VP8, unknown)),
        _row("unknown chunk between alpha and image", riff(header(ALPHA_FLAG), ALPH, unknown, VP8)),
        _row("unknown chunk without padding", riff(header(0), unpadded, VP8)),
        _row("padding of ones", riff(header(0), unpadded + b"\1", VP8)),
        _row("99 unknown chunks", riff(header(0), unknown * 99, VP8)),
        _row("empty unknown chunk", riff(header(0), chunk(b"what", b""), VP8)),
        _row("chunk longer than the file", riff(header(0), b"what\xff\xff\0\0" + bytes(8), VP8)),
        _row("no image", riff(header(0))),
        _row("frame in a still file", riff(header(0), frame(VP8L), VP8)),
        _row("frame behind a still image", riff(header(0), VP8, frame(VP8L))),
        _row("still image with the animation flag", riff(header(ANIMATION), anim(), VP8)),
        _row("animation without the flag", riff(header(0), anim(), frame(VP8L))),
        _row("animation chunk in a still file", riff(header(0), anim(), VP8)),
        _row("case of the tag", riff(chunk(b"vp8 ", LOSSY))),
    ]


def _metadata() -> list[Row]:
    turned = exif(6)
    return [
        _row("exif 6", riff(header(EXIF), VP8, chunk(b"EXIF", turned))),
        _row("exif 6 with prefix", riff(header(EXIF), VP8, chunk(b"EXIF", b"Exif\0\0" + turned))),
        _row("exif 6, big endian", riff(header(EXIF), VP8L, chunk(b"EXIF", exif(6, order=">")))),
        _row("exif 6, no flag", riff(header(0), VP8, chunk(b"EXIF", turned))),
        _row("exif 6 before the image", riff(header(EXIF), chunk(b"EXIF", turned), VP8)),
        _row("exif 3, then 6", riff(header(EXIF), VP8, chunk(b"EXIF", exif(3)), chunk(b"EXIF", turned))),
        _row("exif flag, no chunk", riff(header(EXIF), VP8)),
        _row("exif of junk", riff(header(EXIF), VP8, chunk(b"EXIF", b"\xff" * 50))),
        _row("exif behind a plain image", riff(VP8, chunk(b"EXIF", turned))),
        _row("profile of junk", riff(header(ICCP), chunk(b"ICCP", b"junk"), VP8)),
        _row("profile behind the image", riff(header(ICCP), VP8, chunk(b"ICCP", b"junk"))),
        _row("profile flag, no chunk", riff(header(ICCP), VP8)),
        _row("xmp", riff(header(XMP), VP8, chunk(b"XMP ", b"<x:xmpmeta/>"))),
        _row("exif in an animation", riff(header(ANIMATION | EXIF), anim(), frame(VP8L), chunk(b"EXIF", turned))),
    ]


def _ends() -> list[Row]:
    whole, lossless = riff(VP8), riff(VP8L)

    def sized(data: bytes, more: int) -> bytes:
        return data[:4] + struct.pack("<I", len(data) - 8 + more) + data[8:]

    odd = riff(chunk(b"VP8L", LOSSLESS[:-1] if len(LOSSLESS) % 2 == 0 else LOSSLESS))
    return [
        _row("trailing data", whole + b"PK\3\4" + bytes(30)),
        _row("trailing data in the size", sized(whole + bytes(30), 0)),
        _row("trailing junk in the size", sized(whole + b"PK\3\4" * 8, 0)),
        _row("second file behind", whole + lossless),
        _row("size too large by 2", sized(whole, 2)),
        _row("size too large by 1000", sized(whole, 1000)),
        _row("size too small by 2", sized(whole, -2)),
        _row("size too small by 40", sized(whole, -40)),
        _row("size 0", whole[:4] + bytes(4) + whole[8:]),
        _row("size odd", sized(whole, 1)),
        _row("size of all bits", whole[:4] + b"\xff" * 4 + whole[8:]),
        _row("size 12 larger than data, extended", sized(riff(header(0), VP8), 12)),
        _row("no padding at the end", odd[:-1] if odd[-1:] == b"\0" else odd),
        _row("cut lossy", whole[:-20]),
        _row("cut lossless", lossless[:-20]),
        _row("cut lossy by one", whole[:-1]),
        _row("cut lossless by three", lossless[:-3]),
        _row("cut in the header", riff(header(0), VP8)[:25]),
        _row("cut in the alpha", riff(header(ALPHA_FLAG), ALPH, VP8)[:60]),
        _row("cut in the exif", riff(header(EXIF), VP8, chunk(b"EXIF", exif(6)))[:-9]),
        _row("head alone", riff()),
    ]


def _animated() -> list[Row]:
    rows = []

    def add(name: str, data: bytes, count: int) -> None:
        rows.extend(_row(name, data, at=number) for number in range(count))

    both = ANIMATION | ALPHA_FLAG
    for name, flags, first in (("replaced", NO_BLEND, 0), ("blended", 0, 0), ("cleared", 0, TO_BACKGROUND)):
        frames = (
            frame(VP8L, flags=first),
            frame(VP8L_SMALL_ALPHA, at=(4, 2), size=SMALL, flags=flags | TO_BACKGROUND),
            frame(VP8L_OTHER, at=(8, 6), size=(7, 6), flags=flags),
        )
        add(f"frames {name}", riff(header(both), anim(), *frames), 3)
        add(f"frames {name}, no alpha flag", riff(header(ANIMATION), anim(), *frames), 3)
    small = frame(VP8L_SMALL, at=(4, 2), size=SMALL)
    lossy = frame(ALPH_SMALL, VP8_SMALL, at=(4, 2), size=SMALL)
    later = frame(VP8L_OTHER, at=(8, 6), size=(7, 6))
    for background in (0, 0xFF0000FF, 0x80FF00FF):
        add(f"first frame small, background {background:08x}", riff(header(both), anim(background), small, later), 2)
    add("first frame small, no alpha flag", riff(header(ANIMATION), anim(0xFF0000FF), small, later), 2)
    add("first frame small, lossy", riff(header(both), anim(), lossy, later), 2)
    add("first frame small, lossy, no alpha flag", riff(header(ANIMATION), anim(), lossy, later), 2)
    add("first frame with alpha", riff(header(both), anim(0xFF0000FF), frame(VP8L_ALPHA), later), 2)
    add("one frame", riff(header(ANIMATION), anim(), frame(VP8L)), 1)
    add("no frame", riff(header(ANIMATION), anim()), 1)
    add("no animation chunk", riff(header(ANIMATION), frame(VP8L), later), 2)
    add("animation chunk behind the frames", riff(header(ANIMATION), frame(VP8L), later, anim()), 1)
    add("animation chunk twice", riff(header(ANIMATION), anim(), anim(), frame(VP8L), later), 1)
    add("image before the frames", riff(header(ANIMATION), anim(), VP8, frame(VP8L)), 1)
    add("image behind the frames", riff(header(ANIMATION), anim(), frame(VP8L), VP8), 1)
    add("unknown chunk in a frame", riff(header(ANIMATION), anim(), frame(VP8L, chunk(b"what", b"is this"))), 1)
    add("unknown chunk in a frame, first", riff(header(ANIMATION), anim(), frame(chunk(b"what", b"is this"), VP8L)), 1)
    add("unknown chunk between frames", riff(header(ANIMATION), anim(), frame(VP8L), chunk(b"what", b"is"), later), 2)
    add("image twice in a frame", riff(header(ANIMATION), anim(), frame(VP8L, VP8)), 1)
    add("alpha twice in a frame", riff(header(both), anim(), frame(ALPH, ALPH, VP8)), 1)
    add("alpha before lossless in a frame", riff(header(both), anim(), frame(ALPH, VP8L)), 1)
    add("frame without image", riff(header(ANIMATION), anim(), frame(), frame(VP8L)), 1)
    add("frame of another size", riff(header(ANIMATION), anim(), frame(VP8L_SMALL)), 1)
    add("frame over the edge", riff(header(ANIMATION), anim(), frame(VP8L_SMALL, at=(14, 8), size=SMALL)), 1)
    add(
        "second frame over the edge",
        riff(header(ANIMATION), anim(), frame(VP8L), frame(VP8L_SMALL, at=(14, 8), size=SMALL)),
        2,
    )
    add("second frame damaged", riff(header(ANIMATION), anim(), frame(VP8L), frame(chunk(b"VP8L", LOSSLESS[:60]))), 2)
    add("first frame damaged", riff(header(ANIMATION), anim(), frame(chunk(b"VP8L", LOSSLESS[:60])), frame(VP8L)), 2)
    add("cut in the second frame", riff(header(ANIMATION), anim(), frame(VP8L), frame(VP8L))[:-30], 2)
    add("reserved bits of a frame", riff(header(ANIMATION), anim(), frame(VP8L, flags=0xFC)), 1)
    add("frame within a frame", riff(header(ANIMATION), anim(), frame(frame(VP8L))), 1)
    rows.append(_row("no second frame", riff(VP8), at=1))
    return rows


REFUSED = """
lossless, alpha bit clear
alpha chunk without header
extended lossless, alpha, no flag
alpha, no flag
alpha behind the image
alpha twice
alpha twice, the first clear
alpha before lossless
alpha raw, short
alpha empty
alpha of damaged data
alpha of unknown compression
reserved flags
short header
long header
canvas larger than the image
canvas smaller than the image
canvas larger, lossy
canvas turned
lossy of no width
lossy, wider than its data
lossy, no key frame
lossy, not to be shown
lossy of version 4
lossless of version 1
size of the lossy chunk cut
size of the lossless chunk cut
image twice
image twice, lossy first
image twice, extended
image twice, lossy first, extended
same image twice
header twice
header twice, other size
header behind the image
unknown chunk first
unknown chunk before the header
unknown chunk between alpha and image
unknown chunk without padding
chunk longer than the file
no image
frame in a still file
frame behind a still image
still image with the animation flag
animation without the flag
animation chunk in a still file
case of the tag
trailing junk in the size
size too large by 2
size too large by 1000
size too small by 2
size too small by 40
size 0
size odd
size of all bits
size 12 larger than data, extended
no padding at the end
cut lossy
cut lossless
cut lossy by one
cut lossless by three
cut in the header
cut in the alpha
cut in the exif
head alone
frames replaced, no alpha flag
frames replaced, no alpha flag @1
frames replaced, no alpha flag @2
frames blended, no alpha flag
frames blended, no alpha flag @1
frames blended, no alpha flag @2
frames cleared, no alpha flag
frames cleared, no alpha flag @1
frames cleared, no alpha flag @2
first frame small, lossy, no alpha flag
first frame small, lossy, no alpha flag @1
no frame
no animation chunk
no animation chunk @1
animation chunk behind the frames
animation chunk twice
image before the frames
image behind the frames
unknown chunk in a frame, first
image twice in a frame
alpha twice in a frame
alpha before lossless in a frame
frame without image
frame of another size
frame over the edge
second frame over the edge
second frame over the edge @1
second frame damaged @1
first frame damaged
first frame damaged @1
cut in the second frame
cut in the second frame @1
frame within a frame
no second frame @1
"""
"""What we refuse, line by line; @1 is the second frame."""
LEVELS: dict[str, int] = {
    "lossless, alpha": 1,
    "extended lossless, alpha": 1,
    "alpha": 1,
    "alpha raw": 1,
    "alpha raw, long": 1,
    "alpha, levels reduced": 1,
    "alpha, filtered": 1,
    "first frame small, lossy": 1,
    "first frame with alpha": 1,
}
"""Levels between us and the browser, where it rounds otherwise when it mixes colours or drops bits."""
