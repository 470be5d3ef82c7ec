"""A part of a scaled image, equal to Pillow's to the last bit, for the work of that part alone.

Pillow scales whole images. Its `resize(box=...)` scales a part, but takes the box as float32, so that a few values come
out one level off, and more of them the longer the image is. What Pillow computes is public and has not changed in
years: weights in double, rounded to 22 bits, along the rows and then along the columns, or since version 13 the other
way round for images that lose more height than width. This is the same in NumPy.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import PIL.Image

Window: TypeAlias = "tuple[int, int, int, int]"
"""Left, top, right and bottom, in pixels of the scaled image."""
BICUBIC = 3
"""PIL.Image.Resampling.BICUBIC, as a number so that this module loads without Pillow."""
BITS = 22
"""Of the fraction in a weight: 32 less the 8 of a pixel and 2 for what overshoots."""


def scale_window(pixels: PIL.Image.Image, size: tuple[int, int], window: Window, resample: int) -> PIL.Image.Image:
    """What `pixels.resize(size, resample).crop(window)` gives, for RGB pixels and the filters BILINEAR and BICUBIC."""
    from jinaclip.images import codecs

    left, top, right, bottom = window
    columns, across = _weights(pixels.width, size[0], np.arange(left, right), resample)
    rows, down = _weights(pixels.height, size[1], np.arange(top, bottom), resample)
    first_row, first_column = int(rows.min()), int(columns.min())
    used = codecs.cut(pixels, (first_column, first_row, int(columns.max()) + 1, int(rows.max()) + 1))
    passes = [(columns - first_column, across, 1), (rows - first_row, down, 0)]
    if pixels.height - size[1] > 2 * max(0, pixels.width - size[0]) and _shortens_first():
        passes.reverse()
    values = codecs.to_array(used)
    for sources, weights, axis in passes:
        values = _scale(values, sources, weights, axis)
    return codecs.from_array(values)


@functools.cache
def _shortens_first() -> bool:
    """Whether this Pillow shortens the columns of an image first if it loses more height than width."""
    from PIL import Image

    noise = Image.frombytes("L", (9, 90), bytes(place * place % 251 for place in range(9 * 90)))
    rows_first = noise.resize((5, 90), BICUBIC).resize((5, 20), BICUBIC)
    return noise.resize((5, 20), BICUBIC).tobytes() != rows_first.tobytes()


def exact_box(
    size: tuple[int, int], scaled: tuple[int, int], window: Window
) -> tuple[float, float, float, float] | None:
    """The window in pixels of the source, for `resize(box=...)`, if float32 holds it exactly; else None.

    Only then are Pillow's weights those of the whole image. It is so for photos of 3:2 and models of 512 pixels.
    """
    places = list(zip(window, (*size, *size), (*scaled, *scaled), strict=True))
    left, top, right, bottom = (float(np.float32(place * length / full)) for place, length, full in places)
    exact = all(
        value * full == place * length
        for value, (place, length, full) in zip((left, top, right, bottom), places, strict=True)
    )
    return (left, top, right, bottom) if exact else None


def _weights(
    length: int, scaled: int, places: NDArray[np.int64], resample: int
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Which pixels of a line make the pixels at `places` of the scaled line, and how much of each, in 2**-BITS.

    Both are (taps, len(places)). Pixels beyond the end have no weight and are clamped into the line.
    """
    step = length / scaled
    stretch = max(step, 1.0)
    support = (2.0 if resample == BICUBIC else 1.0) * stretch
    centers = (places + 0.5) * step
    first = np.maximum((centers - support + 0.5).astype(np.int64), 0)
    counts = np.minimum((centers + support + 0.5).astype(np.int64), length) - first
    taps = np.arange(counts.max())[:, None]
    weights = (_bicubic if resample == BICUBIC else _bilinear)((taps + first - centers + 0.5) * (1.0 / stretch))
    weights[taps >= counts] = 0.0
    weights /= np.cumsum(weights, axis=0)[-1]  # in order, as C adds them
    rounded = np.trunc(weights * 2**BITS + np.copysign(0.5, weights)).astype(np.int32)
    return np.minimum(taps + first, length - 1), rounded


def _scale(
    values: NDArray[np.uint8], sources: NDArray[np.int64], weights: NDArray[np.int32], axis: int
) -> NDArray[Any]:
    """Scales (H, W, 3) along an axis."""
    shape = (-1, 1, 1) if axis == 0 else (1, -1, 1)
    total: Any = np.int32(1 << (BITS - 1))
    for source, weight in zip(sources, weights, strict=True):
        total = total + values.take(source, axis) * weight.reshape(shape)
    return np.clip(total >> BITS, 0, 255).astype(np.uint8)


def _bicubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * -0.5
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def _bilinear(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.maximum(1.0 - np.abs(x), 0.0)
