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
