"""Brings a picture to the side the model sees, and encodes it for sending."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from math import inf
from typing import TYPE_CHECKING

import numpy as np

from jinaclip.config import ImagePolicy, ImageResize
from jinaclip.errors import InputError

if TYPE_CHECKING:
    import PIL.Image


BICUBIC = 3
"""PIL.Image.Resampling.BICUBIC, which is not worth importing Pillow for."""


def fit(picture: PIL.Image.Image, mode: ImageResize, side: int, policy: ImagePolicy) -> PIL.Image.Image:
    """A picture as `image_resize` wants it, for a model that sees `side` x `side` pixels.

    Raises:
        InputError: it would be larger than `max_pixels` after resizing.
    """
    if mode == "none":
        return picture
    if mode == "squash":
        return scaled(picture, (side, side), max_pixels=policy.max_pixels)
    return (resize_pad if mode == "pad" else resize_crop)(picture, side, max_pixels=policy.max_pixels)


def resize_crop(
    picture: PIL.Image.Image, side: int, resample: int = BICUBIC, *, max_pixels: float = inf
) -> PIL.Image.Image:
    """Shorter side to S, then the centre of S x S, as the models' own preprocessing does it.

    The longer side is cut off to a whole number, the offsets of the crop are rounded half to even.

    Raises:
        InputError: it would be larger than `max_pixels` after resizing.
    """
    short = min(picture.size)
    width, height = (int(side * length / short) for length in picture.size)
    picture = scaled(picture, (width, height), resample, max_pixels=max_pixels)
    left, top = (round((length - side) / 2.0) for length in picture.size)
    return picture if picture.size == (side, side) else picture.crop((left, top, left + side, top + side))


def resize_pad(
    picture: PIL.Image.Image,
    side: int,
    resample: int = BICUBIC,
    fill: tuple[int, int, int] = (0, 0, 0),
    *,
    max_pixels: float = inf,
) -> PIL.Image.Image:
    """Longer side to S, then filled up around the centre; an odd pixel goes to the right or the bottom."""
    from PIL import Image

    ratio = max(picture.size) / side
    width, height = (max(1, round(length / ratio)) for length in picture.size)
    inner = scaled(picture, (width, height), resample, max_pixels=max_pixels)
    canvas = Image.new("RGB", (side, side), fill)
    canvas.paste(inner, ((side - width) // 2, (side - height) // 2))
    return canvas


def scaled(
    picture: PIL.Image.Image, size: tuple[int, int], resample: int = BICUBIC, *, max_pixels: float = inf
) -> PIL.Image.Image:
    """The picture at another size, or as it is where it has that size.

    Raises:
        InputError: the size is more than `max_pixels`.
    """
    if size[0] * size[1] > max_pixels:  # a line of 1 x 65000 would become 512 x 33280000
        raise InputError(
            f"the image of {picture.width} x {picture.height} pixels would become {size[0]} x {size[1]}, more than "
            f'image_policy.max_pixels={max_pixels}; crop it, or use image_resize="pad"'
        )
    return picture if picture.size == size else picture.resize(size, resample)


def encode(picture: PIL.Image.Image, quality: int | None) -> bytes:
    """An RGB picture as a file: lossless PNG without a quality, else JPEG without chroma subsampling."""
    if quality is None:
        return _png(np.asarray(picture))
    buffer = BytesIO()
    picture.save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def _png(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> bytes:
    """A PNG with the average filter on all rows and run-length deflate.

    Photo of 512 x 512, 2 cores: 7 ms, 507 KiB. Pillow: level 0 11 ms 768 KiB, level 1 25 ms 552, its fastest strategy
    (Huffman only) 16 ms 521, level 6 35 ms 521; lossless WebP at method 0 7 ms 481, which the service may not take.
    """
    height, width, _ = pixels.shape
    flat = pixels.reshape(height, width * 3)
    left, above = np.zeros_like(flat), np.zeros_like(flat)
    left[:, 3:], above[1:] = flat[:, :-3], flat[:-1]
    rows = np.full((height, width * 3 + 1), 3, np.uint8)  # each row starts with the number of its filter
    np.subtract(flat, (left & above) + ((left ^ above) >> 1), out=rows[:, 1:])  # their average, without overflow
    packer = zlib.compressobj(1, zlib.DEFLATED, 15, 9, zlib.Z_RLE)
    body = packer.compress(rows.data) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))
