"""Reads GIF files: the frame that is asked for, drawn as browsers draw it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import partial

import PIL.Image
from PIL import ImageChops

from jinaclip.errors import InputError
from jinaclip.images import codecs
from jinaclip.images.containers.gif import BACKGROUND, PREVIOUS, Blocks, Frame
from jinaclip.images.readers import frames
from jinaclip.images.readers.base import Opened, Size

AFTER: dict[int, frames.After] = {BACKGROUND: "clear", PREVIOUS: "restore"}
"""What becomes of a frame, by its disposal; else it is kept."""


def open_gif(data: bytes, number: int, max_pixels: int) -> Opened:
    """Opens a file at a frame.

    What no frame covers is clear, whatever background colour the file names. The canvas is the screen of the file, or
    larger if the first frame reaches beyond it; later frames are cut to it.

    Raises:
        InputError: it is damaged, has no such frame, or one of more pixels than these.
    """
    blocks = Blocks(data)
    following = blocks.frames()
    shown = list(_take(following, number))
    size = max(blocks.screen[0], shown[0].box[2]), max(blocks.screen[1], shown[0].box[3])
    most = max(frame.size[0] * frame.size[1] for frame in shown)
    if most > max_pixels:
        raise InputError(f"a frame of the GIF file has {most} pixels, more than image_policy.max_pixels={max_pixels}")
    return Opened("GIF", size, partial(_draw, blocks, size, shown), 1, most, number + 1 + _has_another(following))


def _take(following: Iterator[Frame], number: int) -> Iterator[Frame]:
    """The frames up to this one."""
    for wanted in range(number + 1):
        frame = next(following, None)
        if frame is None:
            raise InputError(f"the GIF file has no frame {number}" if wanted else "the GIF file holds no image")
        yield frame


def _has_another(following: Iterator[Frame]) -> bool:
    """Whether something follows that may be a frame."""
    try:
        return next(following, None) is not None
    except InputError:
        return True


def _draw(blocks: Blocks, size: Size, shown: list[Frame], truncated: bool) -> PIL.Image.Image:
    if len(shown) == 1 and shown[0].box == (0, 0, *size):
        return _decode(blocks, shown[0], truncated)
    return frames.draw(size, (_make_frame(blocks, frame, truncated) for frame in shown))


def _make_frame(blocks: Blocks, frame: Frame, truncated: bool) -> frames.Frame:
    return frames.Frame(
        frame.box,
        lambda: _decode(blocks, frame, truncated).convert("RGBA"),
        AFTER.get(frame.disposal, "keep"),
        "stencil",
    )


def _decode(blocks: Blocks, frame: Frame, truncated: bool) -> PIL.Image.Image:
    """The pixels of a frame, with a palette; or RGBA, clear where the data did not reach.

    Raises:
        ValueError: the data is damaged or cut short, and that is not accepted.
    """
    indices, decoded = PIL.Image.new("L", frame.size), None
    try:
        _fill(indices, blocks, frame)
    except ValueError:
        if not truncated:
            raise
        decoded = _find_decoded(indices, blocks, frame)
    indices.putpalette(frame.colours)
    if frame.clear is not None:
        indices.info["transparency"] = frame.clear
    if decoded is None:
        return indices
    canvas = PIL.Image.new("RGBA", frame.size, frames.CLEAR)
    canvas.paste(indices.convert("RGBA"), mask=decoded)
    return canvas


def _fill(indices: PIL.Image.Image, blocks: Blocks, frame: Frame) -> None:
    packed = memoryview(blocks.data)[frame.start : blocks.find_end(frame.start)]
    codecs.fill(indices, packed, "gif", frame.code_size, int(frame.interlaced), -1)


def _find_decoded(indices: PIL.Image.Image, blocks: Blocks, frame: Frame) -> PIL.Image.Image:
    """255 where the data reached: there, and only there, it gives the same on another ground."""
    again = PIL.Image.new("L", frame.size, 255)
    with suppress(ValueError):
        _fill(again, blocks, frame)
    return ImageChops.difference(indices, again).point([255, *[0] * 255])
