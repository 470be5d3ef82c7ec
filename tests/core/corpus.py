"""Hostile and odd images, built by code. Each case has a number, and either an error or the pixels it must give."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from PIL.PngImagePlugin import PngInfo

from jinaclip.config import ImagePolicy

MAGIC = b"\x89PNG\r\n\x1a\n"
STRICT = ImagePolicy()
CONTENT = "going by its content"
TURNED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


@dataclass(frozen=True)
class Case:
    """One picture: `make` gives what a caller passes; `error` matches the message, `pixels` is what must be seen."""

    number: int
    name: str
    make: Callable[[Path], Any]
    error: str | None = None
    pixels: Callable[[], Any] | None = None
    tolerance: int = 0
    policy: ImagePolicy = STRICT

    @property
    def id(self) -> str:
        return f"{self.number}-{self.name.replace(' ', '-')}"


def colours(height: int = 30, width: int = 40, channels: int = 3) -> Any:
    """A picture without symmetry."""
    return np.random.default_rng(height * width).integers(0, 256, (height, width, channels), dtype=np.uint8)


def encoded(array: Any, form: str, **options: Any) -> bytes:
    buffer = BytesIO()
    picture = array if isinstance(array, PIL.Image.Image) else PIL.Image.fromarray(array)
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def decoded(data: bytes) -> Any:
    """What Pillow alone makes of a harmless file."""
    with PIL.Image.open(BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB"))


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, rows: bytes, *, depth: int = 8, kind: int = 2, extra: bytes = b"") -> bytes:
    """A PNG from rows that carry their filter bytes; `extra` chunks come before the data."""
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    return MAGIC + chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def with_chunk(data: bytes, extra: bytes) -> bytes:
    """A PNG with chunks put after its header."""
    return data[:33] + extra + data[33:]


def exif(orientation: int, *, looping: bool = False) -> bytes:
    entry = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    return b"Exif\0\0II*\0\x08\0\0\0\x01\0" + entry + struct.pack("<I", 8 if looping else 0)


def resized(jpeg: bytes, height: int, width: int) -> bytes:
    """A JPEG whose header claims another size."""
    at = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:at] + struct.pack(">HH", height, width) + jpeg[at + 4 :]


def many_scans(times: int) -> bytes:
    """A progressive JPEG that repeats its last scan."""
    data = encoded(colours(), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * times + b"\xff\xd9"


def ycck() -> bytes:
    """A flat grey of 55: Y 200, no colour, no black, marked as YCCK in Adobe's segment."""
    data = encoded(PIL.Image.new("CMYK", (16, 16), (55, 127, 127, 0)), "JPEG", quality=100)
    at = data.index(b"Adobe") + 11
    return data[:at] + b"\x02" + data[at + 1 :]


def off_canvas() -> bytes:
    """A GIF whose 2 x 2 frame starts at (1, 1) of a 2 x 2 canvas."""
    picture = PIL.Image.new("P", (2, 2), 1)
    picture.putpalette([10, 20, 30, 200, 100, 50])
    data = encoded(picture, "GIF", optimize=False)
    at = data.index(b"\x2c\0\0\0\0") + 1
    return data[:at] + struct.pack("<HH", 1, 1) + data[at + 4 :]


def off_canvas_pixels() -> Any:
    seen = np.full((3, 3, 3), 255, np.uint8)  # clear, as browsers have it
    seen[1:, 1:] = (200, 100, 50)
    return seen


def palette(*, clear: bytes = b"") -> bytes:
    """Three colours, one per column: red, green, blue; `clear` are their alphas."""
    colour_map = chunk(b"PLTE", bytes([255, 0, 0, 0, 255, 0, 0, 0, 255]))
    return png(3, 1, b"\0\0\1\2", kind=3, extra=colour_map + (chunk(b"tRNS", clear) if clear else b""))


def deep() -> Any:
    return np.array([[0, 257, 40000, 65535, 128, 129]], np.uint16)


def on_white(array: Any) -> Any:
    """Composited on white in exact arithmetic, rounded."""
    values = array.astype(float)
    alpha = values[..., -1:] / 255
    grey_or_rgb = np.repeat(values[..., :1], 3, -1) if values.shape[-1] == 2 else values[..., :3]
    return np.floor(grey_or_rgb * alpha + 255 * (1 - alpha) + 0.5).astype(np.uint8)


def frames() -> list[PIL.Image.Image]:
    return [PIL.Image.fromarray(colours(8, 9)), PIL.Image.fromarray(colours(8, 9)[::-1])]


def saved_frames(form: str, **options: Any) -> bytes:
    first, *others = frames()
    return encoded(first, form, save_all=True, append_images=others, **options)


def closed_file(folder: Path) -> PIL.Image.Image:
    path = folder / "closed.png"
    path.write_bytes(encoded(colours(), "PNG"))
    picture = PIL.Image.open(path)
    picture.close()
    return picture


def text_file(folder: Path) -> Path:
    path = folder / "text.png"
    path.write_text("not a picture at all")
    return path


def _bad_crc() -> bytes:
    data = bytearray(encoded(colours(), "PNG"))
    data[data.index(b"IDAT") + 40] ^= 1
    return bytes(data)


def _is(data: bytes) -> Callable[[Path], bytes]:
    return lambda _: data


def cases() -> list[Case]:
    """All 61; a number may have several."""
    return [*_broken(), *_sizes(), *_turned(), *_modes(), *_metadata(), *_animated(), *_arrays()]


def _broken() -> list[Case]:
    picture = PIL.Image.fromarray(colours())
    whole, jpeg = encoded(colours(), "PNG"), encoded(colours(), "JPEG")
    icon = struct.pack("<HHHBBBBHHII", 0, 1, 1, 0, 0, 0, 0, 1, 32, len(whole), 22) + resized_png(20000)
    return [
        Case(1, "empty", _is(b""), "empty"),
        Case(2, "one byte", _is(b"\x89"), CONTENT),
        Case(3, "text.png", text_file, CONTENT),
        Case(4, "html", _is(b"<!doctype html><img>"), CONTENT),
        Case(5, "svg", _is(b'<svg xmlns="http://www.w3.org/2000/svg"/>'), CONTENT),
        Case(6, "eps", _is(encoded(picture, "EPS")), CONTENT),
        Case(7, "pdf", _is(b"%PDF-1.7\n"), CONTENT),
        Case(8, "tiff", _is(encoded(picture, "TIFF")), CONTENT),
        Case(9, "bmp", _is(encoded(picture, "BMP")), CONTENT),
        Case(10, "icon of a huge png", _is(icon), CONTENT),
        Case(11, "cut png", _is(whole[: len(whole) // 2]), "cut short"),
        Case(11, "png without end", _is(whole[:-12]), "cut short"),
        Case(12, "cut jpeg", _is(jpeg[: len(jpeg) // 2]), "cut short"),
        Case(12, "jpeg without end", _is(jpeg[:-2]), "cut short"),
        Case(12, "cut webp", _is(encoded(picture, "WEBP")[:-40]), "cut short"),
        Case(12, "cut gif", _is(encoded(picture, "GIF")[:1200]), "cut short"),
        Case(13, "jpeg with a zip behind", _is(jpeg + b"PK\x03\x04" + bytes(99)), pixels=lambda: decoded(jpeg)),
        Case(14, "bad checksum", _is(_bad_crc()), "checksum of its IDAT"),
    ]


def resized_png(side: int) -> bytes:
    return png(side, side, b"\0", depth=1, kind=0)


def _sizes() -> list[Case]:
    jpeg = encoded(colours(), "JPEG")
    bomb = png(20000, 20000, bytes(20000 * 2501), depth=1, kind=0)
    webp = encoded(colours(), "WEBP", exif=exif(1))
    wide = webp[:24] + b"\xfe\xff\0\xfe\xff\0" + webp[30:]
    return [
        Case(15, "20000 squared", _is(bomb), "20000 x 20000 pixels, more than image_policy.max_pixels"),
        Case(16, "13000 squared", _is(resized_png(13000)), "max_pixels"),
        Case(17, "1 x 65000", _is(png(1, 65000, bytes(65000 * 4))), pixels=lambda: np.zeros((65000, 1, 3), np.uint8)),
        Case(18, "65000 x 1", _is(png(65000, 1, bytes(195001))), pixels=lambda: np.zeros((1, 65000, 3), np.uint8)),
        Case(19, "1 x 1", _is(png(1, 1, b"\0\1\2\3")), pixels=lambda: np.array([[[1, 2, 3]]], np.uint8)),
        Case(20, "no width", _is(png(0, 5, b"\0")), "cannot be read"),
        Case(21, "no height", _is(resized(jpeg, 0, 40)), "cannot be read"),
        Case(22, "65500 squared", _is(resized(jpeg, 65500, 65500)), "max_pixels"),
        Case(22, "65535 squared webp", _is(wide), "65535 x 65535 .*max_pixels"),
    ]


def _turned() -> list[Case]:
    seen = decoded(encoded(colours(), "JPEG"))
    turned = [
        Case(22 + turn, f"exif {turn}", _is(encoded(colours(), "JPEG", exif=exif(turn))), pixels=lambda f=f: f(seen))
        for turn, f in TURNED.items()
    ]
    png = encoded(colours(), "PNG", exif=exif(6))
    webp = encoded(colours(), "WEBP", lossless=True, exif=exif(6))
    return [
        *turned,
        Case(28, "exif 6 in PNG", _is(png), pixels=lambda: TURNED[6](colours())),
        Case(28, "exif 6 in WEBP, which browsers do not turn", _is(webp), pixels=colours),
        Case(31, "exif 9", _is(encoded(colours(), "JPEG", exif=exif(9))), pixels=lambda: seen),
        Case(
            32,
            "looping ifd",
            _is(encoded(colours(), "JPEG", exif=exif(6, looping=True))),
            pixels=lambda: TURNED[6](seen),
        ),
        Case(
            32,
            "exif of zeros",
            _is(encoded(colours(), "JPEG", exif=b"Exif\0\0MM\0*" + b"\xff" * 9)),
            pixels=lambda: seen,
        ),
    ]


def _modes() -> list[Case]:
    half = colours(5, 6, 2)
    hidden = colours(5, 6, 4)
    hidden[..., 3] = 0
    some = colours(7, 8, 4)
    ink = PIL.Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    bits = np.array([[0, 255, 255], [255, 0, 0]], np.uint8)
    scaled = np.repeat((deep() / 257 + 0.5).astype(np.uint8)[..., None], 3, -1)
    floats = PIL.Image.fromarray(np.array([[0, 0.5, 1]], np.float32))
    tiff = ImagePolicy(formats=("TIFF",))
    red, green, blue, white = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
    grey_clear = png(2, 1, b"\0\x05\x06", kind=0, extra=chunk(b"tRNS", b"\0\x05"))
    deep_clear = png(2, 1, b"\0\x00\x05\xff\xff", kind=0, depth=16, extra=chunk(b"tRNS", b"\0\x05"))
    return [
        Case(33, "clear black", _is(encoded(np.zeros((4, 5, 4), np.uint8), "PNG")), pixels=lambda: _flat(white, 4, 5)),
        Case(34, "hidden under alpha", _is(encoded(hidden, "PNG")), pixels=lambda: _flat(white, 5, 6)),
        Case(34, "part under alpha", _is(encoded(some, "PNG")), pixels=lambda: on_white(some)),
        Case(34, "alpha of an array", lambda _: some, pixels=lambda: on_white(some)),
        Case(34, "webp alpha", _is(encoded(some, "WEBP", lossless=True, exact=True)), pixels=lambda: on_white(some)),
        Case(35, "grey alpha", _is(encoded(half, "PNG")), pixels=lambda: on_white(half)),
        Case(35, "grey of one clear level", _is(grey_clear), pixels=lambda: np.array([[white, (6, 6, 6)]], np.uint8)),
        Case(
            36,
            "clear palette",
            _is(palette(clear=b"\0\xff")),
            pixels=lambda: np.array([[white, green, blue]], np.uint8),
        ),
        Case(37, "palette of three", _is(palette()), pixels=lambda: np.array([[red, green, blue]], np.uint8)),
        Case(38, "one bit", _is(encoded(PIL.Image.fromarray(bits).convert("1"), "PNG")), pixels=lambda: _grey(bits)),
        Case(39, "16 bits", _is(encoded(PIL.Image.fromarray(deep()), "PNG")), pixels=lambda: scaled),
        Case(39, "16 bits, one clear", _is(deep_clear), pixels=lambda: _flat(white, 1, 2)),
        Case(39, "mode I", lambda _: PIL.Image.fromarray(deep().astype(np.int32)), pixels=lambda: scaled),
        Case(39, "mode I below 0", lambda _: PIL.Image.new("I", (1, 1), -1), "from 0 to 65535"),
        Case(40, "float", lambda _: floats, pixels=lambda: _grey(np.array([[0, 128, 255]], np.uint8))),
        Case(
            40, "float tiff", _is(encoded(floats, "TIFF")), pixels=lambda: _grey(np.array([[0, 128, 255]])), policy=tiff
        ),
        Case(40, "float above 1", lambda _: PIL.Image.new("F", (1, 1), 255), "finite values from 0 to 1"),
        Case(40, "float nan", lambda _: PIL.Image.new("F", (1, 1), float("nan")), "finite values from 0 to 1"),
        Case(41, "cmyk", lambda _: ink, pixels=lambda: _flat(red, 16, 16)),
        Case(
            42, "inverted cmyk", _is(encoded(ink, "JPEG", quality=100)), pixels=lambda: _flat(red, 16, 16), tolerance=3
        ),
        Case(43, "ycck", _is(ycck()), pixels=lambda: _flat((55, 55, 55), 16, 16), tolerance=3),
    ]


def _metadata() -> list[Case]:
    plain, jpeg = encoded(colours(), "PNG"), encoded(colours(), "JPEG")
    junk = np.random.default_rng(0).bytes(5_000_000)
    bomb = chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(64 << 20), 1))
    texts = PngInfo()
    for number in range(10_000):
        texts.add_text(f"key{number}", "value")
    many = encoded(colours(), "PNG", pnginfo=texts)
    bad_profile = with_chunk(plain, chunk(b"iCCP", b"profile\0\0junk"))
    bad_animation = with_chunk(plain, chunk(b"acTL", b"\xff" * 8))
    return [
        Case(44, "broken icc", _is(bad_profile), pixels=colours),
        Case(
            44, "broken icc in jpeg", _is(encoded(colours(), "JPEG", icc_profile=b"junk")), pixels=lambda: decoded(jpeg)
        ),
        Case(45, "5 MB icc", _is(encoded(colours(), "JPEG", icc_profile=junk)), pixels=lambda: decoded(jpeg)),
        Case(46, "text bomb", _is(with_chunk(plain, bomb)), pixels=colours),
        Case(47, "10000 chunks", _is(many), pixels=colours),
        Case(48, "broken animation", _is(bad_animation), pixels=colours),
        Case(51, "200 scans", _is(many_scans(200)), "over 100 scans"),
        Case(51, "progressive", _is(many_scans(1)), pixels=lambda: decoded(many_scans(1))),
        Case(53, "wrong mime", _is_uri("image/png", jpeg), pixels=lambda: decoded(jpeg)),
        Case(54, "21 MiB", _is(plain + bytes(21 << 20)), "larger than image_policy.max_bytes"),
    ]


def _animated() -> list[Case]:
    first = colours(8, 9)
    second = ImagePolicy(frame=1)
    webp, gif = saved_frames("WEBP", lossless=True), saved_frames("GIF")
    mpo = saved_frames("MPO")
    return [
        Case(48, "apng", _is(saved_frames("PNG")), pixels=lambda: first),
        Case(48, "apng, second frame", _is(saved_frames("PNG")), pixels=lambda: first[::-1], policy=second),
        Case(49, "animated webp", _is(webp), pixels=lambda: first),
        Case(49, "animated webp, second frame", _is(webp), pixels=lambda: first[::-1], policy=second),
        Case(49, "animated webp, third frame", _is(webp), "has no frame 2", policy=ImagePolicy(frame=2)),
        Case(49, "animated gif", _is(gif), pixels=lambda: decoded(gif)),
        Case(49, "animated gif, third frame", _is(gif), "has no frame 2", policy=ImagePolicy(frame=2)),
        Case(50, "gif frame off canvas", _is(off_canvas()), pixels=off_canvas_pixels),
        Case(52, "mpo", _is(mpo), pixels=lambda: decoded(mpo)),
    ]


def _arrays() -> list[Case]:
    shape = "must be uint8 of shape"
    return [
        Case(55, "channels first", lambda _: np.zeros((3, 30, 40), np.uint8), shape),
        Case(56, "nan array", lambda _: np.full((3, 4, 3), np.nan), shape),
        Case(57, "int64", lambda _: np.zeros((3, 4, 3), np.int64), shape),
        Case(58, "fortran order", lambda _: np.asfortranarray(colours()), pixels=colours),
        Case(58, "strided", lambda _: colours()[::-1, ::2], pixels=lambda: colours()[::-1, ::2]),
        Case(59, "size 0", lambda _: np.zeros((0, 4, 3), np.uint8), shape),
        Case(60, "objects", lambda _: np.array([[[None] * 3]], object), shape),
        Case(61, "closed file", closed_file, "cannot be converted|closed"),
    ]


def _is_uri(mime: str, data: bytes) -> Callable[[Path], str]:
    return lambda _: f"data:{mime};base64,{base64.b64encode(data).decode()}"


def _flat(colour: tuple[int, int, int], height: int, width: int) -> Any:
    return np.full((height, width, 3), colour, np.uint8)


def _grey(array: Any) -> Any:
    return np.repeat(np.asarray(array, np.uint8)[..., None], 3, -1)
