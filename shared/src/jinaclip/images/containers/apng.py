"""Reads the frames of an animated PNG file."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from jinaclip.errors import InputError
from jinaclip.images.containers.png import FDAT, Chunks, check_frame
from jinaclip.images.containers.refusals import damaged

BACKGROUND, PREVIOUS = 1, 2
"""What becomes of a frame before the next one: it is cleared, or what was there before comes back."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame: where it lies on the canvas, whether it is laid over what is there, its disposal, and its PNG file."""

    box: tuple[int, int, int, int]
    overlays: bool
    disposal: int
    file: bytes


def read_frames(data: bytes) -> Iterator[Frame]:
    """The frames of a PNG file, one after the other. Nothing is given for a file that is not animated.

    Raises:
        InputError: the file is damaged or cut short, or the frame that comes next is.
    """
    chunks = Chunks(data)
    if not chunks.read():
        raise InputError("the PNG file is cut short; of such a file only the first frame can be shown")
    count = chunks.count_frames()
    if count:
        yield _describe(chunks.first_frame(), chunks.pixels(complete=True))
    for _, (head, pixels) in zip(range(count - 1), _read_later(data, chunks), strict=False):
        check_frame(head)
        if not pixels:
            raise damaged("PNG", "a frame of its animation has no pixels")
        yield _describe(head, chunks.frame(bytes(head[4:12]), b"".join(pixels)))


def _read_later(data: bytes, chunks: Chunks) -> Iterator[tuple[memoryview, list[memoryview]]]:
    """The chunk that describes each frame after the first, and the pieces of its pixels."""
    view, head, pixels = memoryview(data), memoryview(b""), list[memoryview]()
    for number, (kind, start, end) in enumerate(chunks.later, 1):
        chunks.check_sum(kind, start, end)
        if view[start : start + 4] != number.to_bytes(4, "big") or (kind == FDAT and not head):
            raise damaged("PNG", "its animation is out of order")
        if kind == FDAT:
            pixels.append(view[start + 4 : end])
        else:
            if head:
                yield head, pixels
            head, pixels = view[start:end], []
    if head:
        yield head, pixels


def _describe(head: memoryview, file: bytes) -> Frame:
    width, height, left, top = struct.unpack_from(">4I", head, 4)
    return Frame((left, top, left + width, top + height), head[25] == 1, head[24], file)
