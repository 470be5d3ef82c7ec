"""Reads WebP files: libwebp decodes them, from a container that was read and rebuilt before."""

from __future__ import annotations

from dataclasses import replace

import PIL.Image

from jinaclip.errors import InputError
from jinaclip.images import codecs
from jinaclip.images.containers.webp import strip
from jinaclip.images.readers import plugins
from jinaclip.images.readers.base import Opened

Box = tuple[int, int, int, int]


def open_webp(data: bytes, number: int) -> Opened:
    """Opens a frame. libwebp takes memory for the canvas here: its size is to be checked before.

    What no frame covers is clear, whether or not the file says that it has alpha. Its EXIF block turns nothing, as in
    Chromium.

    Raises:
        InputError: its parts do not fit together, or it has no such frame.
    """
    stripped = strip(data)
    opened = plugins.open_webp(stripped.data, number)
    return replace(opened, decode=lambda truncated: _check_alpha(opened.decode(truncated), stripped.opaque))


def _check_alpha(pixels: PIL.Image.Image, opaque: Box | None) -> PIL.Image.Image:
    """The pixels, as RGB if they are opaque.

    Raises:
        InputError: some are transparent where the file says that they are not. Programs differ in which they believe.
    """
    if pixels.mode != "RGBA":
        return pixels
    alpha = pixels.getchannel("A")
    if opaque and not _is_opaque(codecs.cut(alpha, opaque)):
        raise InputError("the WEBP file is damaged: it says that it has no alpha, and its pixels have")
    return pixels.convert("RGB") if _is_opaque(alpha) else pixels


def _is_opaque(alpha: PIL.Image.Image) -> bool:
    return alpha.getextrema() == (255, 255)
