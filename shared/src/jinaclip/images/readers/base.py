"""What all readers of image files give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import PIL.Image

Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Opened:
    """An image file whose header was read.

    Attributes:
        format: Pillow's name.
        size: width and height of the image, as it is stored.
        decode: gives the pixels, in any mode. May be told to keep what a file that is cut short holds.
        decode_smaller: gives them at a half, a fourth or an eighth of each side, if it is told 2, 4 or 8; None if no
            decoder can.
        orientation: of its EXIF, 1 to 8.
        pixels: that are held while it is decoded, if more than those of the image.
        frames: how many images it holds, as far as that was looked at: 2 means more than one.
    """

    format: str
    size: Size
    decode: Callable[[bool], PIL.Image.Image]
    orientation: int = 1
    pixels: int = 0
    frames: int = 1
    decode_smaller: Callable[[int, bool], PIL.Image.Image] | None = None
