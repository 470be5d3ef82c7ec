"""Opens an Image, which only says where to find an image, and gives its pixels. Pillow is loaded on first use."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from jinaclip.config import ImagePolicy
from jinaclip.errors import InputError
from jinaclip.images.files import check_file, check_size, read_file
from jinaclip.images.urls import parse
from jinaclip.inputs import Image

if TYPE_CHECKING:
    import PIL.Image

HEAD = 2**18
"""Bytes at the start of a file that hold the whole header, for most files."""


def check(image: Image, policy: ImagePolicy) -> None:
    """Checks an image as far as that costs next to nothing: without network, without decoding.

    Raises:
        InputError: the image cannot be opened under this policy; the message says why, and what would help.
    """
    if image.kind == "path":
        check_file(image, policy)
    elif image.kind == "url":
        parse(image.source, policy)
    elif image.kind == "bytes":
        check_size(len(image.source), policy)
    else:
        _check_pixels(image, policy)


def open_image(image: Image, policy: ImagePolicy) -> PIL.Image.Image:
    """Opens an image: its pixels, upright, RGB, 8 bits a channel. Blocks: it fetches, reads and decodes.

    Raises:
        InputError: the image cannot be fetched, read or decoded, or the policy refuses it.
    """
    from jinaclip.images import decode

    if image.kind in ("pil", "array"):
        _check_pixels(image, policy)
        opened = decode.from_array(image.source) if image.kind == "array" else image.source
        return decode.to_upright_rgb(opened, decode.read_orientation(opened), policy)
    file, orientation = decode.open_data(read(image, policy), policy)
    decode.load(file, policy)
    return decode.to_upright_rgb(file, orientation, policy)


def size(image: Image, policy: ImagePolicy) -> tuple[int, int]:
    """Width and height of the upright image. Decodes nothing, but fetches an image that is a URL.

    Raises:
        InputError: as `open_image`, for what the header alone tells.
    """
    from jinaclip.images import decode

    if image.kind == "array":
        height, width = image.source.shape[:2]
        return width, height
    if image.kind == "pil":
        width, height = image.source.size
        orientation = decode.read_orientation(image.source)
    else:
        opened, orientation = _open_header(image, policy)
        width, height = opened.size
    return (height, width) if policy.orient and orientation >= 5 else (width, height)


def read(image: Image, policy: ImagePolicy) -> bytes:
    """The encoded bytes of an image that is a path, a URL or bytes.

    Raises:
        InputError: they cannot be fetched or read, or the policy refuses them.
    """
    if image.kind == "path":
        return read_file(image, policy)
    if image.kind == "url":
        from jinaclip.images.fetch import fetch

        return fetch(image.source, policy)
    check_size(len(image.source), policy)
    return bytes(image.source)


def _open_header(image: Image, policy: ImagePolicy) -> tuple[PIL.Image.Image, int]:
    """Opens an image to read its header: the image, not decoded, and its EXIF orientation."""
    from jinaclip.images import decode

    if image.kind == "path":
        with suppress(InputError):  # the header is longer, or the file is WebP or damaged: read all of it
            return decode.open_data(read_file(image, policy, HEAD), replace(policy, truncated=True))
    return decode.open_data(read(image, policy), policy)


def _check_pixels(image: Image, policy: ImagePolicy) -> None:
    from jinaclip.images import decode

    height, width = image.source.shape[:2] if image.kind == "array" else image.source.size[::-1]
    decode.check_pixels((width, height), policy)
