"""Which colour a thing on an image has: what the stand-in for a vision model sees, in the examples of this folder.

The stand-in needs no key and answers the same every time, and it looks at the bytes that it is given: an image that is
lost or swapped on its way changes the answer.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from examples.catalogue.drawing import DYES


def name_colour(data: bytes) -> str:
    """The name of the colour in the middle of an image file, of those in `DYES`.

    Raises:
        PIL.UnidentifiedImageError: the bytes are no image.
    """
    with Image.open(io.BytesIO(data)) as image:
        pixels = np.asarray(image.convert("RGB"), np.float64)
    height, width = pixels.shape[:2]
    middle = pixels[height // 3 : height // 2 + 1, 2 * width // 5 : 3 * width // 5 + 1]
    colour = np.median(middle.reshape(-1, 3), axis=0)
    return min(DYES, key=lambda name: float(np.linalg.norm(colour - DYES[name])))
