"""Decodes image files under the policy and converts pixels to upright RGB. No other module opens files with Pillow."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from functools import partial

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from jinaclip import formats
from jinaclip.config import ImagePolicy
from jinaclip.errors import ImageTooLargeError, InputError
from jinaclip.images import codecs, containers
from jinaclip.images.containers.webp import size as webp_size
from jinaclip.images.guard import translate_errors
from jinaclip.images.orientation import LYING, read_orientation
from jinaclip.images.readers import gif, jpeg, plugins, png, webp
from jinaclip.images.readers.base import Opened
from jinaclip.images.reserve import Reserve, reserve_nothing
from jinaclip.images.roots import Place
from jinaclip.inputs import Unread

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
_DECODE_LOCKS = [threading.Lock() for _ in range(64)]
ANOTHER = "the file of the PIL image is another one now; load an image before its file changes"


def _renew_locks() -> None:
    """In a forked child: threads of the parent may have held them."""
    _DECODE_LOCKS[:] = [threading.Lock() for _ in _DECODE_LOCKS]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)


def _decode_lock(opened: PIL.Image.Image) -> threading.Lock:
    """The lock to hold while Pillow decodes this image: it does so on first use, and not safely in two threads."""
    return _DECODE_LOCKS[hash(id(opened)) // 16 % len(_DECODE_LOCKS)]


def open_data(data: bytes, policy: ImagePolicy, reserve: Reserve = reserve_nothing) -> Opened:
    """Opens an image file: reads its header, decodes nothing.

    `reserve` is told its width and height before memory is taken for them, which for WebP is here already.

    Raises:
        InputError: its format is not accepted, or it is damaged or larger than `max_pixels`.
    """
    accepted = tuple(form.upper() for form in policy.formats)
    form = sniff(data)
    with translate_errors(f"the {form or 'image'} file cannot be read; it is damaged or cut short"):
        opened = (
            _open_known(data, form, policy, reserve)
            if form in accepted
            else _open_other(data, accepted, policy, reserve)
        )
    if opened is None:
        raise InputError(f"the image is {formats.describe(data, accepted)}")
    check_pixels(opened.size, policy)
    check_density(opened.size, len(data), policy)
    width, height = opened.size
    reserve(*((width, height) if opened.pixels <= width * height else (opened.pixels, 1)))
    return opened


def sniff(data: bytes) -> str:
    """The format of a file by its first bytes, if it is one of `formats.KNOWN`; else an empty str."""
    form = containers.sniff(data)
    if form is None:
        look = formats.find_look(data)
        form = look.format if look is not None else None
    return form if form in formats.KNOWN else ""


def _open_known(data: bytes, form: str, policy: ImagePolicy, reserve: Reserve) -> Opened:
    """Opens a file of one of `formats.KNOWN`."""
    if form == "TIFF":
        return plugins.open_tiff(data, policy.frame, policy.max_pixels)
    if form == "AVIF":
        return plugins.open_avif(data, policy.frame)
    if form == "WEBP":
        size = webp_size(data)
        check_pixels(size, policy)
        check_density(size, len(data), policy)
        reserve(*size)
        return webp.open_webp(data, policy.frame)
    if form == "GIF":
        return gif.open_gif(data, policy.frame, policy.max_pixels)
    data_of_pixels, exif = containers.strip(data, form, truncated=policy.truncated)
    turn = containers.orientation(exif) if exif else 1
    if form == "PNG" and policy.frame:
        return png.open_frame(data, policy.frame, turn)
    if policy.frame:
        raise InputError(f"the {form} file has no frame {policy.frame}")
    if form == "BMP":
        return plugins.open_bmp(data)
    return (jpeg.open_jpeg if form == "JPEG" else png.open_png)(data_of_pixels, turn)


def _open_other(data: bytes, accepted: tuple[str, ...], policy: ImagePolicy, reserve: Reserve) -> Opened | None:
    """Opens a file by a plugin of those formats that are not known; None if not one of these takes it."""
    if containers.sniff(data) is not None:
        return None
    for form in accepted:
        name = formats.registered_name(form) if form not in formats.KNOWN else None
        if name is None:
            continue
        reserve(policy.max_pixels, 1)  # who knows what it takes memory for, and when
        opened = plugins.open_registered(data, name, policy.frame, lambda size: check_pixels(size, policy))
        if opened is not None:
            return opened
    return None


def check_pixels(size: tuple[int, int], policy: ImagePolicy) -> None:
    """Checks a width and height against the policy.

    Raises:
        InputError: the area is zero or larger than `max_pixels`.
    """
    width, height = size
    if width < 1 or height < 1:
        raise InputError(f"the image is {width} x {height} pixels, which is no area")
    if width * height > policy.max_pixels:
        raise ImageTooLargeError(
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
        raise ImageTooLargeError(
            f"the image is {width} x {height} pixels in a file of {file_bytes} bytes, more than "
            f"image_policy.max_pixels_per_byte={policy.max_pixels_per_byte}; it holds next to nothing or is damaged; "
            "make it smaller or raise the limit"
        )


def shrink(opened: Opened, size: tuple[int, int]) -> Opened:
    """Lets the decoder of a JPEG halve it, up to three times, while it stays at least this width and height.

    Only where no pixel is left over: the decoder would make a whole one of it, and so move all others.
    """
    for factor in (8, 4, 2) if opened.decode_smaller is not None else ():
        (width, right), (height, below) = (divmod(side, factor) for side in opened.size)
        if opened.decode_smaller and not right and not below and width >= size[0] and height >= size[1]:
            return replace(opened, size=(width, height), decode=partial(opened.decode_smaller, factor))
    return opened


def load(opened: Opened, policy: ImagePolicy) -> PIL.Image.Image:
    """Decodes the frame that the policy names.

    Raises:
        InputError: its data is damaged or cut short.
    """
    with translate_errors(f"the {opened.format} file cannot be decoded; it is damaged or cut short"):
        pixels = opened.decode(policy.truncated)
    check_pixels(pixels.size, policy)
    return pixels


def copy(opened: PIL.Image.Image) -> PIL.Image.Image:
    """A copy of a PIL image, decoded if it is not yet.

    Raises:
        InputError: its file is closed, or damaged.
    """
    with translate_errors("the PIL image cannot be read; is its file closed, or damaged?"), _decode_lock(opened):
        opened.load()
        return opened.copy()


def reopen(unread: Unread, policy: ImagePolicy) -> tuple[PIL.Image.Image, int]:
    """A PIL image that its owner had not decoded yet, decoded from the same file at the same frame; its orientation.

    Raises:
        InputError: the file is gone, is damaged, or is another one by now.
    """
    with translate_errors("the file of the PIL image cannot be read; is it gone, or damaged?"):
        data = _read_again(unread)
        opened = _reopen(data, unread, policy)
        pixels = opened.decode(policy.truncated)
        if opened.format == "TIFF":  # whose turn is no part of `info`
            return pixels, opened.orientation
        pixels.info = {**unread.info}
        return pixels, read_orientation(pixels)


def _read_again(unread: Unread) -> bytes:
    """The file of a PIL image: the one that its owner had opened, and not what took its name since."""
    if isinstance(unread.file, bytes):
        return unread.file
    with os.fdopen(Place(str(unread.file)).open(), "rb") as file:
        status = os.fstat(file.fileno())
        if unread.identity != (status.st_dev, status.st_ino):
            raise InputError(ANOTHER)
        return file.read()


def _reopen(data: bytes, unread: Unread, policy: ImagePolicy) -> Opened:
    form = sniff(data)
    known = form or unread.format
    if unread.format not in ("", known, "MPO" if form == "JPEG" else known):
        raise InputError(ANOTHER)
    if form == "JPEG" and not unread.frame:
        return _reopen_jpeg(data, unread, policy)
    if form and form != "JPEG":
        skipped = int(form == "PNG" and bool(unread.info.get("default_image")))  # which Pillow counts as a frame
        opened = _open_known(data, form, replace(policy, frame=max(0, unread.frame - skipped)), reserve_nothing)
    else:
        opened = _open_registered(data, unread, policy)
    size = opened.size[::-1] if form == "TIFF" and opened.orientation >= LYING else opened.size
    if size != unread.size and form != "GIF":  # of which Pillow lets later frames enlarge the canvas
        raise InputError(ANOTHER)
    return opened


def _reopen_jpeg(data: bytes, unread: Unread, policy: ImagePolicy) -> Opened:
    """A JPEG, which its owner may have asked for in grey, or smaller (`draft`)."""
    stripped, _ = containers.strip(data, "JPEG", truncated=policy.truncated)
    frame = jpeg.read_frame(stripped)
    scale = jpeg.find_scale(frame, unread.size)
    if scale is None or unread.mode not in (frame.mode, *(("L", "YCbCr") if frame.mode == "RGB" else ())):
        raise InputError(ANOTHER)
    return Opened("JPEG", unread.size, partial(jpeg.decode, stripped, frame, unread.mode, scale))


def _open_registered(data: bytes, unread: Unread, policy: ImagePolicy) -> Opened:
    name = formats.registered_name(unread.format)
    check = partial(check_pixels, policy=policy)
    opened = plugins.open_registered(data, name, unread.frame, check) if name is not None else None
    if opened is None:
        raise InputError(f"no plugin of Pillow takes the file of the PIL image as {unread.format or 'what it was'} now")
    return opened


def from_array(array: NDArray[np.uint8]) -> PIL.Image.Image:
    """The pixels of an array of shape (H, W), (H, W, 3) or (H, W, 4).

    Raises:
        InputError: the array has another shape or type.
    """
    with translate_errors(f"an array of {array.dtype} {array.shape} is no image"):
        return codecs.from_array(array)


def load_shared(opened: PIL.Image.Image) -> PIL.Image.Image:
    """The caller's own image, decoded; other threads may have it, too. It may take as long as the caller's file does.

    Raises:
        InputError: Pillow cannot decode it.
    """
    with translate_errors("the image cannot be decoded; is its file closed, or cut short?"), _decode_lock(opened):
        opened.load()
    return opened


def to_upright_rgb(opened: PIL.Image.Image, orientation: int, policy: ImagePolicy) -> PIL.Image.Image:
    """Converts a decoded image of any mode to 8-bit RGB.

    It is turned by its EXIF orientation if the policy says so, and laid on the background where it is transparent.

    Raises:
        InputError: its values have no meaning as brightness, or Pillow cannot convert it.
    """
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
    values = codecs.to_array(pixels)
    if pixels.mode == "F":
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            raise InputError("an image of floats must hold finite values from 0 to 1; scale it first")
        return codecs.from_array((values * 255 + 0.5).astype(np.uint8))
    if values.min() < 0 or values.max() > 0xFFFF:
        raise InputError(f"an image of mode {pixels.mode} must hold values from 0 to 65535; scale it first")
    grey = codecs.from_array(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))
    clear = pixels.info.get("transparency")
    if isinstance(clear, int):
        grey.putalpha(codecs.from_array(np.where(values == clear, 0, 255).astype(np.uint8)))
    return grey
