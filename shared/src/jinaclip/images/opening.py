"""From an Image, which only says where a picture is, to the picture. Pillow is loaded on first use."""

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
"""Bytes in which the header of most files ends."""


def check(image: Image, policy: ImagePolicy) -> None:
    """The checks that cost next to nothing: no network, nothing decoded.

    Raises:
        InputError: the image will not be opened under this policy; the message says why, and what would help.
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
    """The picture, upright, RGB, 8 bits a channel. Blocks: URLs are fetched, files read and decoded.

    Raises:
        InputError: the image cannot be had, or not under this policy.
    """
    from jinaclip.images import decode

    if image.kind in ("pil", "array"):
        _check_pixels(image, policy)
        picture = decode.from_array(image.source) if image.kind == "array" else image.source
        return decode.upright(picture, decode.turn_of(picture), policy)
    opened, turn = decode.open_data(read(image, policy), policy)
    decode.load(opened, policy)
    return decode.upright(opened, turn, policy)


def size(image: Image, policy: ImagePolicy) -> tuple[int, int]:
    """Width and height of the upright picture. Decodes nothing, but fetches what is behind a URL.

    Raises:
        InputError: as `open_image`, as far as the header shows it.
    """
    from jinaclip.images import decode

    if image.kind == "array":
        height, width = image.source.shape[:2]
        return width, height
    if image.kind == "pil":
        width, height = image.source.size
        turn = decode.turn_of(image.source)
    else:
        opened, turn = _header(image, policy)
        width, height = opened.size
    return (height, width) if policy.orient and turn >= 5 else (width, height)


def read(image: Image, policy: ImagePolicy) -> bytes:
    """The encoded bytes of an image that is a path, a URL or bytes already.

    Raises:
        InputError: they cannot be had under this policy.
    """
    if image.kind == "path":
        return read_file(image, policy)
    if image.kind == "url":
        from jinaclip.images.fetch import fetch

        return fetch(image.source, policy)
    check_size(len(image.source), policy)
    return bytes(image.source)


def _header(image: Image, policy: ImagePolicy) -> tuple[PIL.Image.Image, int]:
    from jinaclip.images import decode

    if image.kind == "path":
        with suppress(InputError):  # a longer header, WebP, or a file that is wrong: read it whole
            return decode.open_data(read_file(image, policy, HEAD), replace(policy, truncated=True))
    return decode.open_data(read(image, policy), policy)


def _check_pixels(image: Image, policy: ImagePolicy) -> None:
    from jinaclip.images import decode

    height, width = image.source.shape[:2] if image.kind == "array" else image.source.size[::-1]
    decode.check_pixels((width, height), policy)
