"""PNG files show what browsers show, or are refused."""

from __future__ import annotations

import struct
import zlib
from functools import partial
from io import BytesIO

import numpy as np
import PIL.Image
import pytest

from jinaclip.config import ImagePolicy
from jinaclip.errors import InputError
from jinaclip.images import open_image
from jinaclip.images.containers import png as container
from jinaclip.images.containers import strip
from jinaclip.inputs import as_image
from tests.core.corpus import TURNED, chunk, colours, encoded, exif, png
from tests.images.costs import cpu_seconds, peak_bytes, strip_or_refuse

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
WIDTH, HEIGHT = 4, 3
CLOSE = 20 * 2**20 - 2**16
"""Bytes that a file of the default limit can hold beside an image."""


def see(data, frame=0):
    return np.asarray(open_image(as_image(data), ImagePolicy(frame=frame)))


def flat(colour, width=WIDTH, height=HEIGHT):
    return zlib.compress((b"\0" + bytes(colour) * width) * height)


def file(*chunks):
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + chunk(b"IEND", b"")


def head(depth=8, kind=2, *rest, width=WIDTH, height=HEIGHT):
    return chunk(b"IHDR", struct.pack(">IIBB", width, height, depth, kind) + bytes(rest or (0, 0, 0)))


def idat(data=None):
    return chunk(b"IDAT", flat(RED) if data is None else data)


def actl(frames, loops=0):
    return chunk(b"acTL", struct.pack(">II", frames, loops))


def fctl(number, width=WIDTH, height=HEIGHT, left=0, top=0, dispose=0, blend=0):
    return chunk(b"fcTL", struct.pack(">5IHHBB", number, width, height, left, top, 1, 10, dispose, blend))


def fdat(number, colour, width=WIDTH, height=HEIGHT):
    return chunk(b"fdAT", struct.pack(">I", number) + flat(colour, width, height))


def block(turn):
    return chunk(b"eXIf", exif(turn)[6:])


PLTE, TRNS = chunk(b"PLTE", bytes(RED + GREEN)), chunk(b"tRNS", b"\0\xff")
TEXT = chunk(b"tEXt", b"key\0value")
INDICES = zlib.compress((b"\0" + bytes([0b00011000])) * HEIGHT)
"""Of four pixels, 2 bits each: 0, 1, 2, 0."""
PALETTE = head(2, 3)
STREAM = flat(RED)

REFUSED = {
    "no header": (file(idat()), "IHDR chunk is not the first"),
    "text before the header": (file(TEXT, head(), idat()), "IHDR chunk is not the first"),
    "two headers": (file(head(), head(), idat()), "IHDR chunk is not the first, or not the only one"),
    "header behind the pixels": (file(head(), idat(), head()), "not the only one"),
    "header of 14 bytes": (file(chunk(b"IHDR", struct.pack(">IIBBBBBB", 4, 3, 8, 2, 0, 0, 0, 0)), idat()), "length"),
    "depth of 4 bits for RGB": (file(head(4, 2), idat()), "form of pixels that does not exist"),
    "compression 1": (file(head(8, 2, 1, 0, 0), idat()), "form of pixels that does not exist"),
    "filtering 1": (file(head(8, 2, 0, 1, 0), idat()), "form of pixels that does not exist"),
    "interlacing 2": (file(head(8, 2, 0, 0, 2), idat()), "form of pixels that does not exist"),
    "critical chunk": (file(head(), chunk(b"ABCD", b""), idat()), "unknown kind"),
    "critical chunk of Apple": (file(chunk(b"CgBI", bytes(4)), head(), idat()), "IHDR chunk is not the first"),
    "chunk named 1234": (file(head(), chunk(b"1234", b""), idat()), "unknown kind"),
    "pixels apart": (file(head(), idat(STREAM[:9]), TEXT, idat(STREAM[9:])), "lie between its IDAT"),
    "second image": (file(head(), idat(), TEXT, idat(flat(BLUE))), "lie between its IDAT"),
    "rows missing": (file(head(), idat(flat(RED, height=1))), "cut short"),
    "row cut": (file(head(), idat(zlib.compress(bytes(5)))), "cut short"),
    "rows missing of an interlaced image": (
        file(head(8, 2, 0, 0, 1), idat(zlib.compress(bytes(8)))),
        "cut short",
    ),
    "bad checksum of the pixels": (file(head(), idat()[:-1] + b"\0"), "checksum of its IDAT"),
    "bad checksum of the transparency": (file(PALETTE, PLTE, TRNS[:-1] + b"\0", idat(INDICES)), "checksum of its tRNS"),
    "bad checksum of the turn": (file(head(), block(6)[:-1] + b"\0", idat()), "checksum of its eXIf"),
    "no palette": (file(PALETTE, idat(INDICES)), "no palette"),
    "palette of 4 bytes": (file(PALETTE, chunk(b"PLTE", b"1234"), idat(INDICES)), "palette has 4 bytes"),
    "palette of 257 colours": (file(head(8, 3), chunk(b"PLTE", bytes(771)), idat()), "palette has 771 bytes"),
    "two palettes": (file(PALETTE, PLTE, PLTE, idat(INDICES)), "two PLTE"),
    "palette behind the pixels": (file(head(), idat(), PLTE), "PLTE chunk is out of place"),
    "colour beyond the palette": (file(PALETTE, PLTE, idat(INDICES)), "colour that is not in its palette"),
    "transparency before the palette": (file(PALETTE, TRNS, PLTE, idat(INDICES)), "PLTE chunk is out of place"),
    "two transparencies": (file(PALETTE, PLTE, TRNS, TRNS, idat(INDICES)), "two tRNS"),
    "transparency behind the pixels": (file(PALETTE, PLTE, idat(INDICES), TRNS), "tRNS chunk is out of place"),
    "transparency of 3 bytes for grey": (file(head(8, 0), chunk(b"tRNS", bytes(3)), idat()), "tRNS chunk has a wrong"),
    "transparency beyond 2 bits": (file(head(2, 0), chunk(b"tRNS", b"\0\4"), idat()), "clear that no pixel can have"),
    "transparency of 16-bit RGB": (file(head(16, 2), chunk(b"tRNS", bytes(6)), idat()), "colour of 16 bits as clear"),
    "two turns": (file(head(), block(6), block(3), idat()), "two eXIf"),
    "turn behind the pixels": (file(head(), idat(), block(6)), "turn stands where only some programs look"),
    "turn named as in JPEG": (file(head(), chunk(b"eXIf", exif(6)), idat()), "turn stands where only some"),
    "pixels that are no frame": (file(head(), actl(1), idat(), fctl(0), fdat(1, GREEN)), "does not begin with"),
    "animation without a frame": (file(head(), actl(2), idat()), "does not begin with"),
    "first frame in a corner": (
        file(head(), actl(2), fctl(0, 2, 2), idat()),
        "frame of its animation is not the whole",
    ),
    "first frame of number 1": (file(head(), actl(2), fctl(1), idat()), "frame of its animation is not the whole"),
    "first frame of no animation": (file(head(), fctl(0, 2, 2, 1, 1), idat()), "animation is not the whole"),
    "two animations": (file(head(), actl(2), actl(2), fctl(0), idat()), "two acTL"),
    "two frames for the pixels": (file(head(), actl(2), fctl(0), fctl(1), idat()), "fcTL chunk stands before"),
    "later frame before the pixels": (file(head(), actl(2), fctl(0), fdat(1, GREEN), idat()), "fdAT chunk stands"),
    "animation of 4 bytes": (file(head(), chunk(b"acTL", bytes(4)), fctl(0), idat()), "acTL chunk has a wrong length"),
    "disposal 3": (file(head(), actl(2), fctl(0, dispose=3), idat()), "fcTL chunk has no meaning"),
    "no end": (file(head(), idat())[:-12], "cut short"),
    "chunk beyond the file": (file(head(), idat(), b"\x7f\xff\xff\xfftEXt"), "cut short"),
}
SHOWN = {
    "plain": (file(head(), idat()), RED),
    "junk behind the end": (file(head(), idat()) + b"junk" * 9, RED),
    "pixels in pieces": (file(head(), idat(b""), idat(STREAM[:9]), idat(b""), idat(STREAM[9:]), idat(b"")), RED),
    "too many rows": (file(head(), idat(flat(RED, height=9))), RED),
    "bytes behind the stream": (file(head(), idat(STREAM + b"junk")), RED),
    "second stream behind the first": (file(head(), idat(STREAM + flat(BLUE))), RED),
    "broken text": (file(head(), TEXT[:-1] + b"\0", idat()), RED),
    "palette of RGB": (file(head(), PLTE, idat()), RED),
    "gamma": (file(head(), chunk(b"gAMA", struct.pack(">I", 1)), idat()), RED),
    "background of the file": (file(head(), chunk(b"bKGD", bytes(6)), idat()), RED),
    "black": (file(head(), idat(flat((0, 0, 0)))), (0, 0, 0)),
    "black, interlaced": (file(head(8, 0, 0, 0, 1), idat(zlib.compress(bytes(20)))), (0, 0, 0)),
    "animated": (file(head(), actl(2), fctl(0), idat(), fctl(1), fdat(2, GREEN)), RED),
    "animation of no frames": (file(head(), actl(0), idat(), fctl(0), fdat(1, GREEN)), RED),
    "animation named behind the pixels": (file(head(), idat(), actl(1), fctl(0), fdat(1, GREEN)), RED),
    "animation that breaks off": (file(head(), actl(2), fctl(0), idat(), fctl(7)), RED),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_programs_show_differently_or_not_at_all_is_refused(name):
    data, message = REFUSED[name]
    with pytest.raises(InputError, match=message):
        see(data)


@pytest.mark.parametrize("name", SHOWN)
def test_what_no_browser_minds_is_shown_as_browsers_do(name):
    data, colour = SHOWN[name]
    assert (see(data) == np.full((HEIGHT, WIDTH, 3), colour, np.uint8)).all()


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_each_grey_level_can_be_the_clear_one(depth):
    levels = range(2**depth) if depth < 8 else (0, 1, 77, 2**depth - 1)
    for level in levels:
        values = np.array([level, 2**depth - 1 - level])
        bits = "".join(f"{value:0{depth}b}" for value in values).ljust(32, "0")
        row = int(bits, 2).to_bytes(4, "big")[: -(-2 * depth // 8)]
        data = png(2, 1, b"\0" + row, depth=depth, kind=0, extra=chunk(b"tRNS", level.to_bytes(2, "big")))
        other = round(int(values[1]) * 255 / (2**depth - 1))
        assert see(data)[0, :, 0].tolist() == [255, other], level


def test_a_turn_before_the_pixels_is_applied():
    plain = encoded(colours(), "PNG")
    assert (see(plain[:33] + block(6) + plain[33:]) == TURNED[6](colours())).all()
    assert (see(plain[:-12] + block(1) + plain[-12:]) == colours()).all()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_stripping_an_ordinary_file_changes_no_pixel(mode):
    image = PIL.Image.fromarray(colours(50, 60))
    image = image.convert("L").convert("I").convert(mode) if mode == "I;16" else image.convert(mode)
    data = encoded(image, "PNG", dpi=(72, 72), icc_profile=b"profile" * 99)
    bare, _ = strip(data, "PNG", truncated=False)
    with PIL.Image.open(BytesIO(bare)) as opened:
        assert opened.mode == image.mode
        assert opened.tobytes() == image.tobytes()


def test_later_frames_are_composed_as_browsers_do():
    half = bytes([0, 0, 255, 128])
    base = chunk(b"IDAT", flat((*RED, 255)))
    for blend, seen in ((0, (127, 127, 255)), (1, (127, 0, 128))):
        data = file(head(8, 6), actl(2), fctl(0), base, fctl(1, 2, 1, 1, 1, blend=blend), fdat(2, half, 2, 1))
        assert (see(data) == RED).all()
        second = see(data, frame=1).copy()
        assert (second[1, 1:3] == seen).all()
        second[1, 1:3] = RED
        assert (second == RED).all()


@pytest.mark.parametrize(("dispose", "seen"), [(0, RED), (1, (255, 255, 255)), (2, (255, 255, 255))])
def test_a_frame_is_kept_cleared_or_taken_back(dispose, seen):
    """What was there before the first frame is nothing."""
    data = file(head(), actl(2), fctl(0, dispose=dispose), idat(), fctl(1, 1, 1), fdat(2, GREEN, 1, 1))
    pixels = see(data, frame=1)
    assert pixels[0, 0].tolist() == list(GREEN)
    assert pixels[2, 3].tolist() == list(seen)


@pytest.mark.parametrize(
    ("later", "message"),
    [
        (b"", "no frame 1"),
        (fctl(1), "cannot be decoded"),
        (fctl(2) + fdat(3, GREEN), "parts of its animation are not in order"),
        (fdat(1, GREEN), "has no frame 1"),
        (fctl(1, 9, 9) + fdat(2, GREEN, 9, 9), "a frame is outside of the image"),
        (fctl(1, left=1) + fdat(2, GREEN), "a frame is outside of the image"),
        (fctl(1)[:-1] + b"\0" + fdat(2, GREEN), "a checksum is wrong"),
        (fctl(1) + fdat(2, GREEN)[:-1] + b"\0", "a checksum is wrong"),
        (fctl(1, blend=2) + fdat(2, GREEN), "frame of its animation has no meaning"),
        (fctl(1) + fdat(2, GREEN, height=1), "cannot be decoded"),
    ],
)
def test_a_damaged_later_frame_is_refused_and_the_first_one_shown(later, message):
    data = file(head(), actl(2), fctl(0), idat(), later)
    assert (see(data) == RED).all()
    with pytest.raises(InputError, match=message):
        see(data, frame=1)


HOSTILE = {
    "empty pixels": file(head(), idat(), *[idat(b"")] * (CLOSE // 12)),
    "empty texts": file(head(), *[chunk(b"tEXt", b"")] * (CLOSE // 12), idat()),
    "frames": file(head(), actl(1), fctl(0), idat(), *[fctl(1)] * (CLOSE // 38)),
}
LARGE = {
    "text": chunk(b"tEXt", bytes(CLOSE)),
    "turn": chunk(b"eXIf", b"II*\0\x08\0\0\0\xff\xff" + struct.pack("<HHII", 0x8769, 4, 1, 8) * (CLOSE // 12)),
    "unknown": chunk(b"abCD", b"\xff" * CLOSE),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_too_many_chunks_are_refused_before_they_cost_anything(name):
    with pytest.raises(InputError, match=f"over {container.MAX_CHUNKS} chunks"):
        see(HOSTILE[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", [*HOSTILE, *LARGE])
def test_a_file_of_20_mb_costs_little_time_and_at_most_itself_again(name):
    data = HOSTILE[name] if name in HOSTILE else file(head(), LARGE[name], idat())
    measure = partial(strip_or_refuse, data, "PNG")
    assert cpu_seconds(measure) < 2
    assert peak_bytes(measure) < 1.1 * len(data)
