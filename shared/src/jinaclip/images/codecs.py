"""Pillow's decoders, without the settings that other libraries may have made for the whole process.

`PIL.Image.open` and `ImageFile.load` look at `Image.MAX_IMAGE_PIXELS` and at `LOAD_TRUNCATED_IMAGES`, `MAXBLOCK` and
`SAFEBLOCK` of `ImageFile`. `Image.frombytes` looks at none: it takes the whole data and raises if that is not enough.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray


class BuiltIn(str):  # noqa: SLOT000
    """The name of a decoder or encoder of Pillow's own.

    Pillow looks a name up among those that were registered with it, which any library may do under any name, and then
    among its own. This one equals no other, so it is found among its own alone.
    """

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other


RAW = BuiltIn("raw")


def decode(
    mode: str, size: tuple[int, int], data: Any, codec: str, *args: Any, truncated: bool = False
) -> PIL.Image.Image:
    """Decodes pixels, none of which may be missing.

    Args:
        mode: of the pixels, Pillow's.
        size: width and height.
        data: anything with the buffer protocol; what follows the pixels is ignored.
        codec: name of a decoder of Pillow's own.
        args: of the decoder.
        truncated: keep what could be decoded, the rest being 0.

    Raises:
        ValueError: the data is damaged or not enough.
    """
    pixels = PIL.Image.new(mode, size)
    fill(pixels, data, codec, *args, truncated=truncated)
    return pixels


def fill(pixels: PIL.Image.Image, data: Any, codec: str, *args: Any, truncated: bool = False) -> None:
    """Decodes pixels into an image; as `decode`."""
    try:
        pixels.frombytes(data, BuiltIn(codec), *args)
    except ValueError:
        if not truncated:
            raise


def cut(pixels: PIL.Image.Image, box: tuple[int, int, int, int]) -> PIL.Image.Image:
    """A part of an image, as `crop` gives it, which looks at `Image.MAX_IMAGE_PIXELS`."""
    left, top, right, bottom = box
    part = PIL.Image.new(pixels.mode, (right - left, bottom - top))
    part.paste(pixels, (-left, -top))
    return part


def to_array(pixels: PIL.Image.Image) -> NDArray[Any]:
    """The pixels of an image of 1 or more channels of 8 bits, or of one channel of mode I, I;16 or F. A copy."""
    kinds = {"I": "=i4", "F": "=f4", "I;16": "<u2", "I;16L": "<u2", "I;16B": ">u2", "I;16N": "=u2"}
    kind = kinds.get(pixels.mode, "u1")
    flat = np.frombuffer(pixels.tobytes(RAW, pixels.mode), kind)
    shape = (pixels.height, pixels.width)
    return flat.reshape(shape if len(pixels.getbands()) == 1 else (*shape, -1))


def from_array(array: NDArray[np.uint8]) -> PIL.Image.Image:
    """The image of an array of shape (H, W), (H, W, 3) or (H, W, 4)."""
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[1 if array.ndim == 2 else array.shape[2]]
    height, width = array.shape[:2]
    return decode(mode, (width, height), np.ascontiguousarray(array), RAW, mode)
