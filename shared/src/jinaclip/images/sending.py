"""Prepares an image for the hosted API: pixels resized to the one tile that is billed, or the original bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jinaclip.config import ImagePolicy, ImageResize
from jinaclip.errors import InputError
from jinaclip.images.opening import Reserve, Target, open_file, open_image, read, reserve_nothing
from jinaclip.images.resize import encode, fit, scale
from jinaclip.inputs import Image

if TYPE_CHECKING:
    import PIL.Image

PORTABLE_MODES = ("RGB", "L", "P", "1")
"""Modes that every reader converts to the same RGB."""


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
    data = read(image, policy)
    file = _reuse_original(data, policy, reserve)
    if file is not None:
        return file
    pixels = fit(open_file(data, policy, reserve, target))
    return Tile(pixels, *pixels.size)


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


def _reuse_original(data: bytes, policy: ImagePolicy, reserve: Reserve) -> Tile | None:
    """The original bytes if every reader gets the same pixels from them, else None.

    That is so for one upright frame without transparency.
    """
    from jinaclip.images import decode

    opened, orientation = decode.open_data(data, policy, reserve)
    decode.load(opened, policy)  # a damaged file is refused here, before it is paid for
    portable = opened.mode in PORTABLE_MODES and not opened.has_transparency_data
    accepted = opened.format in decode.READERS and not policy.truncated and len(data) <= policy.max_upload_bytes
    reusable = portable and accepted and orientation == 1 and not _is_animated(data, opened)
    return Tile(data, *opened.size) if reusable else None


def _is_animated(data: bytes, opened: PIL.Image.Image) -> bool:
    from jinaclip.images import decode

    with decode.translate_errors(f"the {opened.format} file cannot be read past its first frame"):
        return b"acTL" in data or bool(getattr(opened, "is_animated", False))


def preview(image: Image, *, policy: ImagePolicy, side: int, quality: int = 85) -> bytes:
    """A JPEG of the whole image, its longer side at most `side` pixels. Blocks, as `upload` does.

    Raises:
        InputError: the image cannot be opened, or the policy refuses it.
    """
    pixels = open_image(image, policy)
    ratio = min(1.0, side / max(pixels.size))
    width, height = (max(1, round(length * ratio)) for length in pixels.size)
    return encode(scale(pixels, (width, height)), quality)
