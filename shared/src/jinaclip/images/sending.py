"""Prepares what is sent to the hosted API: the one tile that is paid for, or the original bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jinaclip.config import ImagePolicy, ImageResize
from jinaclip.errors import InputError
from jinaclip.images.opening import open_image, read
from jinaclip.images.resize import encode, scaled
from jinaclip.images.resize import fit as fit_picture
from jinaclip.inputs import Image

if TYPE_CHECKING:
    import PIL.Image

SENT_AS_IT_IS = ("RGB", "L", "P", "1")
"""Modes that every reader turns into the same RGB."""


@dataclass(frozen=True, slots=True)
class Upload:
    """An encoded picture, ready to be sent, and its size in pixels."""

    data: bytes
    width: int
    height: int

    def __repr__(self) -> str:
        return f"Upload({len(self.data)} bytes, {self.width} x {self.height})"


def upload(image: Image, *, policy: ImagePolicy, mode: ImageResize, side: int, quality: int | None) -> Upload:
    """What to send for an image. Blocks: fetches, reads, decodes and encodes.

    Args:
        image: any image.
        policy: what is accepted.
        mode: `image_resize`.
        side: of the square that the model sees.
        quality: `image_quality`.

    Raises:
        InputError: the image is refused, or too large to be sent.
    """
    if image.kind not in ("pil", "array") and mode == "none" and quality is None:
        image = Image.from_bytes(read(image, policy))
        sent = _as_it_is(image.source, policy)
    else:
        sent = None
    if sent is None:
        picture = fit_picture(open_image(image, policy), mode, side, policy)
        sent = Upload(encode(picture, quality), *picture.size)
    if len(sent.data) > policy.max_upload_bytes:
        remedy = "raise image_policy.max_upload_bytes" if mode != "none" else 'use image_resize="model"'
        raise InputError(
            f"the image takes {len(sent.data)} bytes to send, more than image_policy.max_upload_bytes="
            f"{policy.max_upload_bytes}; {remedy}, or set image_quality to send JPEG"
        )
    return sent


def _as_it_is(data: bytes, policy: ImagePolicy) -> Upload | None:
    """The original bytes, if any reader sees in them what we see: one upright frame without transparency."""
    from jinaclip.images import decode

    picture, turn = decode.open_data(data, policy)
    decode.load(picture, policy)  # a damaged file is refused here, not paid for
    plain = picture.mode in SENT_AS_IT_IS and not picture.has_transparency_data
    whole = picture.format in decode.READERS and not policy.truncated and len(data) <= policy.max_upload_bytes
    return Upload(data, *picture.size) if plain and whole and turn == 1 and not _moves(data, picture) else None


def _moves(data: bytes, picture: PIL.Image.Image) -> bool:
    from jinaclip.images import decode

    with decode.only_input_errors(f"the {picture.format} file cannot be read past its first frame"):
        return b"acTL" in data or bool(getattr(picture, "is_animated", False))


def preview(image: Image, *, policy: ImagePolicy, side: int, quality: int = 85) -> bytes:
    """A JPEG of the whole picture, its longer side at most `side`. Blocks as `upload` does.

    Raises:
        InputError: the image is refused.
    """
    picture = open_image(image, policy)
    ratio = min(1.0, side / max(picture.size))
    width, height = (max(1, round(length * ratio)) for length in picture.size)
    return encode(scaled(picture, (width, height), max_pixels=policy.max_pixels), quality)
