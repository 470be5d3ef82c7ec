"""Prepares an image for the hosted API: pixels resized to the one tile that is billed, or the original bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jinaclip.config import ImagePolicy, ImageResize
from jinaclip.errors import InputError
from jinaclip.images.opening import open_image, read
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


def upload(image: Image, *, policy: ImagePolicy, mode: ImageResize, side: int, quality: int | None) -> Upload:
    """Prepares an image to be sent. Blocks: it fetches, reads, decodes and encodes.

    Args:
        image: an image of any kind.
        policy: which images are accepted.
        mode: `image_resize`.
        side: of the square that the model sees, in pixels.
        quality: `image_quality`.

    Raises:
        InputError: the image cannot be opened, the policy refuses it, or it is too large to be sent.
    """
    if image.kind not in ("pil", "array") and mode == "none" and quality is None:
        image = Image.from_bytes(read(image, policy))
        sent = _reuse_original(image.source, policy)
    else:
        sent = None
    if sent is None:
        pixels = fit(open_image(image, policy), mode, side, policy)
        sent = Upload(encode(pixels, quality), *pixels.size)
    if len(sent.data) > policy.max_upload_bytes:
        remedy = "raise image_policy.max_upload_bytes" if mode != "none" else 'use image_resize="model"'
        raise InputError(
            f"the image takes {len(sent.data)} bytes to send, more than image_policy.max_upload_bytes="
            f"{policy.max_upload_bytes}; {remedy}, or set image_quality to send JPEG"
        )
    return sent


def _reuse_original(data: bytes, policy: ImagePolicy) -> Upload | None:
    """The original bytes if every reader gets the same pixels from them, else None.

    That is so for one upright frame without transparency.
    """
    from jinaclip.images import decode

    opened, orientation = decode.open_data(data, policy)
    decode.load(opened, policy)  # a damaged file is refused here, before it is paid for
    portable = opened.mode in PORTABLE_MODES and not opened.has_transparency_data
    accepted = opened.format in decode.READERS and not policy.truncated and len(data) <= policy.max_upload_bytes
    reusable = portable and accepted and orientation == 1 and not _is_animated(data, opened)
    return Upload(data, *opened.size) if reusable else None


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
    return encode(scale(pixels, (width, height), max_pixels=policy.max_pixels), quality)
