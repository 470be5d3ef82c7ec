"""Prepares an image for the hosted API: pixels resized to the one tile that is billed, or the original bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jinaclip.config import ImagePolicy, ImageResize
from jinaclip.errors import InputError
from jinaclip.images.guard import translate_errors
from jinaclip.images.opening import UNUSABLE, Target, open_image, read
from jinaclip.images.reserve import Reserve, reserve_nothing
from jinaclip.images.resize import encode, fit, scale
from jinaclip.inputs import Image

if TYPE_CHECKING:
    import PIL.Image


@dataclass(frozen=True, slots=True)
class Upload:
    """An encoded image, ready to be sent, and its size in pixels."""

    data: bytes
    width: int
    height: int

    def __repr__(self) -> str:
        return f"Upload({len(self.data)} bytes, {self.width} x {self.height})"


Fit = Callable[["PIL.Image.Image"], "PIL.Image.Image"]
"""Resizes the pixels of an image."""


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """What a model is to see of an image: RGB pixels, or an encoded file that every reader sees alike."""

    content: PIL.Image.Image | bytes
    width: int
    height: int


@translate_errors(UNUSABLE)
def open_tile(
    image: Image,
    policy: ImagePolicy,
    fit: Fit,
    reserve: Reserve = reserve_nothing,
    *,
    target: Target | None = None,
    keep_file: bool = False,
) -> Tile:
    """Opens an image and resizes it. Blocks: it fetches, reads and decodes.

    Args:
        image: an image of any kind.
        policy: which images are accepted.
        fit: resizes its pixels.
        reserve: is told its width and height before it is decoded.
        target: the size to which `fit` scales, if a JPEG may be decoded at a fraction of its own.
        keep_file: keep the file as it is, if every reader gets the same pixels from it.

    Raises:
        InputError: the image cannot be opened, or the policy refuses it.
    """
    if not keep_file or image.kind in ("pil", "array", "drawable"):
        pixels = fit(open_image(image, policy, reserve, target))
        return Tile(pixels, *pixels.size)
    tile = _reuse_original(read(image, policy), policy, reserve)
    if isinstance(tile.content, bytes):
        return tile
    pixels = fit(tile.content)
    return Tile(pixels, *pixels.size)


@translate_errors(UNUSABLE)
def encode_tile(tile: Tile, *, policy: ImagePolicy, mode: ImageResize, quality: int | None) -> Upload:
    """Encodes a tile for sending.

    Raises:
        InputError: it is too large to be sent.
    """
    data = tile.content if isinstance(tile.content, bytes) else encode(tile.content, quality)
    if len(data) > policy.max_upload_bytes:
        remedy = "raise image_policy.max_upload_bytes" if mode != "none" else 'use image_resize="model"'
        raise InputError(
            f"the image takes {len(data)} bytes to send, more than image_policy.max_upload_bytes="
            f"{policy.max_upload_bytes}; {remedy}, or set image_quality to send JPEG"
        )
    return Upload(data, tile.width, tile.height)


def keeps_files(mode: ImageResize, quality: int | None) -> bool:
    """Whether these options leave a file as it is where that is possible."""
    return mode == "none" and quality is None


@translate_errors(UNUSABLE)
def upload(image: Image, *, policy: ImagePolicy, mode: ImageResize, side: int, quality: int | None) -> Upload:
    """Prepares an image to be sent: `open_tile` and `encode_tile` in one.

    Args:
        image: an image of any kind.
        policy: which images are accepted.
        mode: `image_resize`.
        side: of the square that the model sees, in pixels.
        quality: `image_quality`.

    Raises:
        InputError: the image cannot be opened, the policy refuses it, or it is too large to be sent.
    """
    tile = open_tile(image, policy, lambda pixels: fit(pixels, mode, side), keep_file=keeps_files(mode, quality))
    return encode_tile(tile, policy=policy, mode=mode, quality=quality)


def _reuse_original(data: bytes, policy: ImagePolicy, reserve: Reserve) -> Tile:
    """A file that every reader gets the same pixels from, as it came or without its metadata; else our pixels."""
    from jinaclip.images import decode, portable

    opened = decode.open_data(data, policy, reserve)
    pixels = decode.load(opened, policy)  # a damaged file is refused here, before it is paid for
    file = None if policy.truncated else portable.find_portable(data, opened, pixels)
    if file is not None and len(file) <= policy.max_upload_bytes:
        return Tile(file, *opened.size)
    upright = decode.to_upright_rgb(pixels, opened.orientation, policy)
    return Tile(upright, *upright.size)


@translate_errors(UNUSABLE)
def preview(image: Image, *, policy: ImagePolicy, side: int, quality: int = 85) -> bytes:
    """A JPEG of the whole image, its longer side at most `side` pixels. Blocks, as `upload` does.

    Raises:
        InputError: the image cannot be opened, or the policy refuses it.
    """
    pixels = open_image(image, policy)
    ratio = min(1.0, side / max(pixels.size))
    width, height = (max(1, round(length * ratio)) for length in pixels.size)
    return encode(scale(pixels, (width, height)), quality)
