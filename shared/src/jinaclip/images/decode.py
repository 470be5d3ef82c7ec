"""Decodes image files under the policy and converts pixels to upright RGB. No other module opens files with Pillow."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from types import FunctionType
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL import ImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from jinaclip.config import ImagePolicy
from jinaclip.errors import InputError
from jinaclip.images import containers
from jinaclip.inputs import Unread

READERS: dict[str, type[ImageFile.ImageFile]] = {
    # not PIL.Image.open: it checks sizes, and warns, by a global that other libraries may have changed
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "WEBP": WebPImageFile,
    "GIF": GifImageFile,
}
FREE_PIXELS = 2**20
"""Which a file of any length may have: they are decoded in some forty milliseconds."""
TRANSPOSES = {
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    3: PIL.Image.Transpose.ROTATE_180,
    4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_270,
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_90,
}

# `ImageFile.load` accepts a file that is cut short while LOAD_TRUNCATED_IMAGES of its module is set, which any library
# may do, for all threads. This is the same function with globals of its own, where it is not set.
_strict_load: Callable[[ImageFile.ImageFile], Any] = FunctionType(
    ImageFile.ImageFile.load.__code__, {**vars(ImageFile), "LOAD_TRUNCATED_IMAGES": False}
)
_DECODE_LOCKS = [threading.Lock() for _ in range(64)]


def _renew_locks() -> None:
    """In a forked child: threads of the parent may have held them."""
    _DECODE_LOCKS[:] = [threading.Lock() for _ in _DECODE_LOCKS]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)


def _decode_lock(opened: PIL.Image.Image) -> threading.Lock:
    """The lock to hold while Pillow decodes this image: it does so on first use, and not safely in two threads."""
    return _DECODE_LOCKS[hash(id(opened)) // 16 % len(_DECODE_LOCKS)]


@contextmanager
def translate_errors(message: str) -> Iterator[None]:
    """Turns any error of Pillow, whose plugins raise all kinds, into an InputError with this message.

    Pillow's own message is left out, as it may quote bytes of the image. An InputError passes unchanged. To be used in
    threads of ours alone, where no exception of a signal handler can be taken for one of Pillow's.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001
        raise InputError(f"{message} ({type(error).__name__})") from None


def open_data(
    data: bytes, policy: ImagePolicy, reserve: Callable[[int, int], None] | None = None
) -> tuple[ImageFile.ImageFile, int]:
    """Opens an image file: reads its header, decodes nothing. Returns it with its EXIF orientation.

    `reserve` is told its width and height before memory is taken for them, which for WebP is here already.

    Raises:
        InputError: its format is not accepted, or it is damaged or larger than `max_pixels`.
    """
    accepted = tuple(form.upper() for form in policy.formats)
    form = containers.sniff(data)
    if form not in accepted and not set(accepted) - set(READERS):
        problem = f"{form}, which is not among image_policy.formats={accepted}" if form else f"none of {accepted}"
        raise InputError(f"the image is {problem}, going by its content; convert it first")
    reserve = reserve or (lambda width, height: None)
    if form == "WEBP":
        check_pixels(containers.webp_size(data), policy)
        check_density(containers.webp_size(data), len(data), policy)
        reserve(*containers.webp_size(data))
    stripped, exif = containers.strip(data, form if policy.frame == 0 else None, truncated=policy.truncated)
    with translate_errors(f"the {form or 'image'} file cannot be read; it is damaged or cut short"):
        if form in READERS:
            opened = READERS[form](BytesIO(stripped))
        else:
            opened = PIL.Image.open(BytesIO(data), formats=accepted)
    check_pixels(opened.size, policy)
    check_density(opened.size, len(data), policy)
    if form != "WEBP":  # a later frame of a GIF may enlarge the canvas
        reserve(*((policy.max_pixels, 1) if policy.frame else opened.size))
    return opened, containers.orientation(exif) if exif else read_orientation(opened)


def read_orientation(opened: PIL.Image.Image) -> int:
    """The orientation in the EXIF block that Pillow keeps with an image, 1 to 8."""
    exif = opened.info.get("exif")
    return containers.orientation(exif) if isinstance(exif, bytes) else 1


def check_pixels(size: tuple[int, int], policy: ImagePolicy) -> None:
    """Checks a width and height against the policy.

    Raises:
        InputError: the area is zero or larger than `max_pixels`.
    """
    width, height = size
    if width < 1 or height < 1:
        raise InputError(f"the image is {width} x {height} pixels, which is no area")
    if width * height > policy.max_pixels:
        raise InputError(
            f"the image is {width} x {height} pixels, more than image_policy.max_pixels={policy.max_pixels}; "
            "make it smaller or raise the limit"
        )


def check_density(size: tuple[int, int], file_bytes: int, policy: ImagePolicy) -> None:
    """Checks that a file is large enough for the width and height that it declares.

    Raises:
        InputError: it has more than `max_pixels_per_byte`, and so many pixels that they cost something.
    """
    width, height = size
    if width * height > max(FREE_PIXELS, file_bytes * policy.max_pixels_per_byte):
        raise InputError(
            f"the image is {width} x {height} pixels in a file of {file_bytes} bytes, more than "
            f"image_policy.max_pixels_per_byte={policy.max_pixels_per_byte}; it holds one colour or is damaged; "
            "make it smaller or raise the limit"
        )


def shrink(opened: ImageFile.ImageFile, size: tuple[int, int]) -> None:
    """Lets the decoder of a JPEG halve it, up to three times, while it stays at least this width and height.

    Only where no pixel is left over: the decoder would make a whole one of it, and so move all others.
    """
    for factor in (8, 4, 2) if opened.format == "JPEG" else ():
        (width, right), (height, below) = divmod(opened.width, factor), divmod(opened.height, factor)
        if not right and not below and width >= size[0] and height >= size[1]:
            with translate_errors("the JPEG file cannot be read; it is damaged or cut short"):
                opened.draft(None, (width, height))
            return


def load(opened: ImageFile.ImageFile, policy: ImagePolicy) -> None:
    """Decodes the frame that the policy names, in place.

    Raises:
        InputError: the file has no such frame, or its data is damaged or cut short.
    """
    with translate_errors(f"the {opened.format} file has no frame {policy.frame}"):
        for frame in range(1, policy.frame + 1):
            opened.seek(frame)  # one after the other: each frame of a GIF may enlarge the canvas
            check_pixels(opened.size, policy)
    strict = type(opened).load is ImageFile.ImageFile.load
    with translate_errors(f"the {opened.format} file cannot be decoded; it is damaged or cut short"):
        try:
            _strict_load(opened) if strict else opened.load()
        except OSError:
            if not (policy.truncated and opened._im is not None):
                raise
            opened.tile = []  # keeps the rows decoded so far
            opened.load()


def copy(opened: PIL.Image.Image) -> PIL.Image.Image:
    """A copy of a PIL image, decoded if it is not yet.

    Raises:
        InputError: its file is closed, or damaged.
    """
    with translate_errors("the PIL image cannot be read; is its file closed, or damaged?"), _decode_lock(opened):
        opened.load()
        return opened.copy()


def reopen(unread: Unread) -> PIL.Image.Image:
    """A PIL image that its owner had not decoded yet, decoded from the same file at the same frame.

    Raises:
        InputError: the file is gone, is damaged, or is another one by now.
    """
    with (
        translate_errors("the file of the PIL image cannot be read; is it gone, or damaged?"),
        BytesIO(unread.file) if isinstance(unread.file, bytes) else unread.file.open("rb") as file,
    ):
        opened = PIL.Image.open(file)
        opened.seek(unread.frame)
        if (opened.size, opened.mode) != (unread.size, unread.mode):
            opened.draft(unread.mode, unread.size)
        if (opened.size, opened.mode) != (unread.size, unread.mode):
            raise InputError("the file of the PIL image is another one now; load an image before its file changes")
        opened.load()
    opened.info = {**unread.info}
    return opened


def from_array(array: NDArray[np.uint8]) -> PIL.Image.Image:
    """The pixels of an array of shape (H, W), (H, W, 3) or (H, W, 4).

    Raises:
        InputError: the array has another shape or type.
    """
    with translate_errors(f"an array of {array.dtype} {array.shape} is no image"):
        return PIL.Image.fromarray(array)


def to_upright_rgb(opened: PIL.Image.Image, orientation: int, policy: ImagePolicy) -> PIL.Image.Image:
    """Converts an opened image of any mode to 8-bit RGB.

    It is turned by its EXIF orientation if the policy says so, and laid on the background where it is transparent.

    Raises:
        InputError: its values have no meaning as brightness, or Pillow cannot convert it.
    """
    with translate_errors("the image cannot be decoded; is its file closed, or cut short?"), _decode_lock(opened):
        opened.load()
    with translate_errors(f"an image of mode {opened.mode} cannot be converted to RGB"):
        rgb = _to_rgb(opened, policy)
        return rgb.transpose(TRANSPOSES[orientation]) if policy.orient and orientation in TRANSPOSES else rgb


def _to_rgb(pixels: PIL.Image.Image, policy: ImagePolicy) -> PIL.Image.Image:
    if pixels.mode.startswith(("I", "F")):
        pixels = _to_8_bits(pixels)
    if pixels.has_transparency_data:
        if pixels.mode == "La":  # Pillow has no way from here to RGBA
            pixels = pixels.convert("LA")
        clear = pixels.convert("RGBA")
        canvas = PIL.Image.new("RGB", pixels.size, policy.background)
        canvas.paste(clear, mask=clear.getchannel("A"))
        return canvas
    return pixels if pixels.mode == "RGB" else pixels.convert("RGB")


def _to_8_bits(pixels: PIL.Image.Image) -> PIL.Image.Image:
    """Scales 16-bit and float pixels to 8 bits; Pillow's own conversion turns every value above 255 into 255."""
    values = np.asarray(pixels)
    if pixels.mode == "F":
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            raise InputError("an image of floats must hold finite values from 0 to 1; scale it first")
        return PIL.Image.fromarray((values * 255 + 0.5).astype(np.uint8))
    if values.min() < 0 or values.max() > 0xFFFF:
        raise InputError(f"an image of mode {pixels.mode} must hold values from 0 to 65535; scale it first")
    grey = PIL.Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))
    clear = pixels.info.get("transparency")
    if isinstance(clear, int):
        grey.putalpha(PIL.Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    return grey
