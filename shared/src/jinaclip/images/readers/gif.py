"""Reads GIF files: the frame that is asked for, drawn as browsers draw it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice

import PIL.Image

from jinaclip.errors import InputError
from jinaclip.images import codecs
from jinaclip.images.readers import frames
from jinaclip.images.readers.base import Opened, Size

EXTENSION, IMAGE, END = 0x21, 0x2C, 0x3B
CONTROL = 0xF9
AFTER: dict[int, frames.After] = {2: "clear", 3: "restore"}
"""What becomes of a frame, by the number that its file says; else it is kept."""
DAMAGED = "the GIF file cannot be decoded; it is damaged or cut short"


@dataclass(frozen=True, slots=True)
class Screen:
    """The header of a file: its canvas, the palette for frames without one, and the shape of a pixel (0 is square)."""

    size: Size
    palette: bytes
    aspect: int
    start: int


@dataclass(frozen=True, slots=True)
class Picture:
    """A frame: where it stands, its palette, the index that is clear, and where its data begins and ends."""

    box: tuple[int, int, int, int]
    palette: bytes
    clear: int | None
    dispose: int
    interlaced: bool
    bits: int
    start: int
    end: int

    @property
    def size(self) -> Size:
        """Width and height."""
        left, top, right, bottom = self.box
        return right - left, bottom - top


def read_screen(data: bytes) -> Screen:
    """Reads the header. Raises InputError if it is cut short."""
    if len(data) < 13:
        raise InputError("the GIF file is cut short")
    flags = data[10]
    length = 3 << (flags & 7) + 1 if flags & 0x80 else 0
    size = int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")
    return Screen(size, data[13 : 13 + length], data[12], 13 + length)


def read_pictures(data: bytes, screen: Screen) -> Iterator[Picture]:
    """The frames in order, up to the end of the file or to where it is damaged."""
    at, control = screen.start, b""
    while at < len(data) and data[at] != END:
        kind = data[at]
        if kind == IMAGE and at + 10 < len(data):
            picture = _read_picture(data, at, control, screen)
            yield picture
            at, control = picture.end, b""
        elif kind == EXTENSION and at + 2 < len(data):
            if data[at + 1] == CONTROL and data[at + 2] >= 4:
                control = data[at + 3 : at + 7]
            at = _skip_blocks(data, at + 2)
        else:
            return


def _skip_blocks(data: bytes, at: int) -> int:
    """Where blocks end that begin here, each after its length."""
    while at < len(data) and data[at]:
        at += 1 + data[at]
    return min(at + 1, len(data))


def _read_picture(data: bytes, at: int, control: bytes, screen: Screen) -> Picture:
    left, top, width, height = (int.from_bytes(data[i : i + 2], "little") for i in range(at + 1, at + 9, 2))
    flags, start = data[at + 9], at + 10
    length = 3 << (flags & 7) + 1 if flags & 0x80 else 0
    palette = data[start : start + length] if length else screen.palette
    start += length
    if not (width and height) or start + 1 >= len(data):
        raise InputError(DAMAGED)
    return Picture(
        (left, top, left + width, top + height),
        palette,
        control[3] if len(control) == 4 and control[0] & 1 else None,
        control[0] >> 2 & 7 if control else 0,
        bool(flags & 0x40),
        data[start],
        start + 1,
        _skip_blocks(data, start + 1),
    )


def open_gif(data: bytes, number: int, max_pixels: int) -> Opened:
    """Opens a file at a frame.

    Raises:
        InputError: it is damaged, has no such frame, or one of more pixels than these.
    """
    screen = read_screen(data)
    pictures = list(islice(read_pictures(data, screen), number + 2))
    if not pictures:
        raise InputError(f"{DAMAGED}: it has no image")
    if len(pictures) <= number:
        raise InputError(f"the GIF file has no frame {number}")
    shown = pictures[: number + 1]
    size = max(screen.size[0], pictures[0].box[2]), max(screen.size[1], pictures[0].box[3])
    areas = [width * height for width, height in (picture.size for picture in shown)]
    if max(picture.box[2] * picture.box[3] for picture in shown) > max_pixels:
        raise InputError(f"a frame of the GIF file reaches further than image_policy.max_pixels={max_pixels}")
    return Opened("GIF", size, partial(_draw, data, size, shown), 1, max(areas), len(pictures))


def _draw(data: bytes, size: Size, shown: list[Picture], truncated: bool) -> PIL.Image.Image:
    if len(shown) == 1 and shown[0].box == (0, 0, *size):
        return _decode(data, shown[0], truncated)
    return frames.draw(size, (_make_frame(data, picture, truncated) for picture in shown))


def _make_frame(data: bytes, picture: Picture, truncated: bool) -> frames.Frame:
    return frames.Frame(
        picture.box,
        lambda: _decode(data, picture, truncated).convert("RGBA"),
        AFTER.get(picture.dispose, "keep"),
        "stencil",
    )


def _decode(data: bytes, picture: Picture, truncated: bool) -> PIL.Image.Image:
    """The pixels of a frame: with a palette, or grey if the file has none."""
    mode = "P" if picture.palette else "L"
    packed = memoryview(data)[picture.start :]
    pixels = codecs.decode(
        mode, picture.size, packed, "gif", picture.bits, int(picture.interlaced), -1, truncated=truncated
    )
    if mode == "P":
        pixels.putpalette(picture.palette, "RGB")
    if picture.clear is not None:
        pixels.info["transparency"] = picture.clear
    return pixels
