"""Opens an Image, which only says where to find an image, and gives its pixels. Pillow is loaded on first use."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from jinaclip.config import ImagePolicy
from jinaclip.errors import InputError
from jinaclip.images.files import check_file, check_size, read_file
from jinaclip.images.guard import is_error_of_image, translate_errors
from jinaclip.images.orientation import LYING, read_orientation
from jinaclip.images.reserve import Reserve, reserve_nothing
from jinaclip.images.snapshots import find_unread
from jinaclip.images.streams import read_stream
from jinaclip.images.urls import parse
from jinaclip.inputs import Image, Unread, is_pil

if TYPE_CHECKING:
    import PIL.Image

    from jinaclip.images.readers.base import Opened

Target = Callable[[tuple[int, int]], tuple[int, int]]
"""Gives the width and height that an image of such a size is scaled to."""
HEAD = 2**18
"""Bytes at the start of a file that hold the whole header, for most files."""
UNUSABLE = "the image cannot be used"
"""For what is no error of ours, and of no step that has a better text."""


@translate_errors(UNUSABLE)
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
    elif image.kind not in ("drawable", "file"):
        _check_pixels(image, policy)


@translate_errors(UNUSABLE)
def open_image(
    image: Image, policy: ImagePolicy, reserve: Reserve = reserve_nothing, target: Target | None = None
) -> PIL.Image.Image:
    """Opens an image: its pixels, upright, RGB, 8 bits a channel. Blocks: it fetches, reads and decodes.

    With `target` the pixels of a JPEG file may be fewer than it has, but not fewer than it gives.

    Raises:
        InputError: the image cannot be fetched, read or decoded, or the policy refuses it.
    """
    if image.kind in ("pil", "array", "drawable"):
        return _open_pixels(image, policy, reserve)
    return open_file(read(image, policy), policy, reserve, target)


def open_file(data: bytes, policy: ImagePolicy, reserve: Reserve, target: Target | None = None) -> PIL.Image.Image:
    """Opens an image file that was read already; as `open_image`."""
    from jinaclip.images import decode

    file = decode.open_data(data, policy, reserve)
    if target is not None:
        file = decode.shrink(
            file, _target_as_stored(target, file.size, lies=policy.orient and file.orientation >= LYING)
        )
    return decode.to_upright_rgb(decode.load(file, policy), file.orientation, policy)


def _target_as_stored(target: Target, size: tuple[int, int], *, lies: bool) -> tuple[int, int]:
    """The target of an image as it lies in its file, perhaps on its side."""
    width, height = size
    if not lies:
        return target(size)
    height, width = target((height, width))
    return width, height


def _open_pixels(image: Image, policy: ImagePolicy, reserve: Reserve) -> PIL.Image.Image:
    """Opens what holds its pixels, or draws them."""
    from jinaclip.images import decode

    if image.kind == "drawable":
        drawn = draw(image.source, policy, reserve)
        image = Image("pil", find_unread(drawn) or drawn)
        _check_pixels(image, policy)
    else:
        _check_pixels(image, policy)
        reserve(*_size_of_pixels(image))
    if isinstance(image.source, Unread):
        return decode.to_upright_rgb(*decode.reopen(image.source, policy), policy)
    if image.kind == "array":
        return decode.to_upright_rgb(decode.from_array(image.source), 1, policy)
    orientation = read_orientation(image.source)  # as its owner has it: decoding may find another behind the pixels
    return decode.to_upright_rgb(decode.load_shared(image.source), orientation, policy)


def is_page(image: Image) -> bool:
    """Whether it draws itself and all of it matters, as of a page: see `Drawable`."""
    return image.kind == "drawable" and getattr(image.source, "padded", False) is True


def draws_elsewhere(source: Any) -> bool:
    """Whether something draws itself in another process, as pages do, so that a thread does nothing but wait for it."""
    return callable(getattr(source, "render_reserved", None))


def draw(source: Any, policy: ImagePolicy, reserve: Reserve = reserve_nothing) -> Any:
    """The PIL image of what draws itself.

    Raises:
        InputError: it cannot, or gives something else.
    """
    name = type(source).__name__
    try:
        if draws_elsewhere(source):
            drawn = source.render_reserved(policy.max_pixels, reserve)
        else:
            reserve(*_measure(source, policy))
            drawn = source.render(policy.max_pixels)
    except BaseException as error:  # it is the caller's own code, and this a thread of ours
        if not is_error_of_image(error):
            raise
        raise InputError(f"{name} cannot be drawn ({type(error).__name__}: {str(error)[:200]})") from None
    if not is_pil(drawn):
        raise InputError(f"{name} cannot be drawn: it gave a {type(drawn).__name__}, not a PIL image")
    return drawn


def _measure(source: Any, policy: ImagePolicy) -> tuple[int, int]:
    """Width and height of what will be drawn, or of the largest that may be."""
    measure = getattr(source, "measure", None)
    if not callable(measure):
        return policy.max_pixels, 1
    size: Any = measure(policy.max_pixels)
    width, height = size
    return int(width), int(height)


def _size_of_pixels(image: Image) -> tuple[int, int]:
    """Width and height of an array or a PIL image, as it lies there."""
    if image.kind == "array":
        return image.source.shape[1], image.source.shape[0]
    width, height = image.source.size
    return width, height


@translate_errors(UNUSABLE)
def download(image: Image, policy: ImagePolicy) -> Image:
    """The file of an image that is a path or a URL, read or fetched.

    Raises:
        InputError: it cannot be had, or the policy refuses it.
    """
    return Image("bytes", read(image, policy))


@translate_errors(UNUSABLE)
def size(image: Image, policy: ImagePolicy) -> tuple[int, int]:
    """Width and height of the upright image. Decodes nothing, but fetches an image that is a URL.

    Raises:
        InputError: as `open_image`, for what the header alone tells.
    """
    if image.kind == "drawable":
        image = Image("pil", draw(image.source, policy))
    if image.kind == "array":
        return _size_of_pixels(image)
    if image.kind == "pil":
        width, height = image.source.size
        orientation = read_orientation(image.source)
    else:
        opened = _open_header(image, policy)
        (width, height), orientation = opened.size, opened.orientation
    return (height, width) if policy.orient and orientation >= LYING else (width, height)


def read(image: Image, policy: ImagePolicy) -> bytes:
    """The encoded bytes of an image that is a path, a URL, an open file or bytes.

    Raises:
        InputError: they cannot be fetched or read, or the policy refuses them.
    """
    if image.kind == "path":
        return read_file(image, policy)
    if image.kind == "url":
        from jinaclip.images.fetch import fetch

        return fetch(image.source, policy)
    if image.kind == "file":
        return read_stream(image.source, policy)
    check_size(len(image.source), policy)
    return bytes(image.source)


def _open_header(image: Image, policy: ImagePolicy) -> Opened:
    """Opens an image to read its header."""
    from jinaclip.images import decode

    if image.kind == "path":
        with suppress(InputError):  # the header is longer, or the file is WebP or damaged: read all of it
            return decode.open_data(read_file(image, policy, HEAD), replace(policy, truncated=True))
    return decode.open_data(read(image, policy), policy)


def _check_pixels(image: Image, policy: ImagePolicy) -> None:
    from jinaclip.images import decode

    decode.check_pixels(_size_of_pixels(image), policy)
