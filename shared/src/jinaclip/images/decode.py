"""Decodes image files under the policy and brings any picture to upright RGB. The only opener of Pillow files."""

from __future__ import annotations

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

Picture = PIL.Image.Image
READERS: dict[str, type[ImageFile.ImageFile]] = {
    # not PIL.Image.open: it checks sizes, and warns, by a global that others may have changed
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "WEBP": WebPImageFile,
    "GIF": GifImageFile,
}
TURNS = {
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    3: PIL.Image.Transpose.ROTATE_180,
    4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_270,
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_90,
}

# `ImageFile.load` accepts a file that breaks off when the module's LOAD_TRUNCATED_IMAGES is set, for all threads and
# by anyone. This is the same function with globals of its own, in which it is not set.
_strict_load: Callable[[ImageFile.ImageFile], Any] = FunctionType(
    ImageFile.ImageFile.load.__code__, {**vars(ImageFile), "LOAD_TRUNCATED_IMAGES": False}
)


_LOADS = [threading.Lock() for _ in range(64)]


def _loading(picture: Picture) -> threading.Lock:
    """A lock for decoding this picture: Pillow decodes on first use and must not do so in two threads at once."""
    return _LOADS[hash(id(picture)) // 16 % len(_LOADS)]


@contextmanager
def only_input_errors(what: str) -> Iterator[None]:
    """Lets only InputError out of Pillow, whose plugins raise anything. Messages of Pillow may quote image bytes."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001
        raise InputError(f"{what} ({type(error).__name__})") from None


def open_data(data: bytes, policy: ImagePolicy) -> tuple[ImageFile.ImageFile, int]:
    """An image file, its header read and nothing decoded, and its EXIF orientation.

    Raises:
        InputError: it is of no accepted format, damaged, or larger than `max_pixels`.
    """
    accepted = tuple(form.upper() for form in policy.formats)
    form = containers.sniff(data)
    if form not in accepted and not set(accepted) - set(READERS):
        named = f"{form}, which is not among image_policy.formats={accepted}" if form else f"none of {accepted}"
        raise InputError(f"the image is {named}, going by its content; convert it first")
    if form == "WEBP":
        check_pixels(containers.webp_size(data), policy)
    bare, exif = containers.strip(data, form if policy.frame == 0 else None, truncated=policy.truncated)
    with only_input_errors(f"the {form or 'image'} file cannot be read; it is damaged or cut short"):
        picture = READERS[form](BytesIO(bare)) if form in READERS else PIL.Image.open(BytesIO(data), formats=accepted)
    check_pixels(picture.size, policy)
    return picture, containers.orientation(exif) if exif else turn_of(picture)


def turn_of(picture: Picture) -> int:
    """The orientation in the EXIF block that Pillow keeps beside a picture."""
    exif = picture.info.get("exif")
    return containers.orientation(exif) if isinstance(exif, bytes) else 1


def check_pixels(size: tuple[int, int], policy: ImagePolicy) -> None:
    """Holds a size in pixels against the policy.

    Raises:
        InputError: it has no area, or too much.
    """
    width, height = size
    if width < 1 or height < 1:
        raise InputError(f"the image is {width} x {height} pixels, which is no area")
    if width * height > policy.max_pixels:
        raise InputError(
            f"the image is {width} x {height} pixels, more than image_policy.max_pixels={policy.max_pixels}; "
            "make it smaller or raise the limit"
        )


def load(picture: ImageFile.ImageFile, policy: ImagePolicy) -> None:
    """Decodes the frame of the policy, in place.

    Raises:
        InputError: there is no such frame, or its data is damaged or cut short.
    """
    with only_input_errors(f"the {picture.format} file has no frame {policy.frame}"):
        for frame in range(1, policy.frame + 1):
            picture.seek(frame)  # one by one: each frame of a GIF may enlarge the canvas
            check_pixels(picture.size, policy)
    strict = type(picture).load is ImageFile.ImageFile.load
    with only_input_errors(f"the {picture.format} file cannot be decoded; it is damaged or cut short"):
        try:
            _strict_load(picture) if strict else picture.load()
        except OSError:
            if not (policy.truncated and picture._im is not None):
                raise
            picture.tile = []  # keeps the rows decoded so far
            picture.load()


def from_array(array: NDArray[np.uint8]) -> Picture:
    """A picture of an array of shape (H, W), (H, W, 3) or (H, W, 4).

    Raises:
        InputError: the array has another shape or type.
    """
    with only_input_errors(f"an array of {array.dtype} {array.shape} is no picture"):
        return PIL.Image.fromarray(array)


def upright(picture: Picture, turn: int, policy: ImagePolicy) -> Picture:
    """A picture of any mode as 8-bit RGB, turned as its EXIF says, on the background where it is transparent.

    Raises:
        InputError: its numbers have no meaning as brightness, or Pillow cannot convert it.
    """
    with only_input_errors("the picture cannot be decoded; is its file closed, or cut short?"), _loading(picture):
        picture.load()
    with only_input_errors(f"a picture of mode {picture.mode} cannot be converted to RGB"):
        rgb = _to_rgb(picture, policy)
        return rgb.transpose(TURNS[turn]) if policy.orient and turn in TURNS else rgb


def _to_rgb(picture: Picture, policy: ImagePolicy) -> Picture:
    if picture.mode.startswith(("I", "F")):
        picture = _to_8_bits(picture)
    if picture.has_transparency_data:
        if picture.mode == "La":  # Pillow has no way from here to RGBA
            picture = picture.convert("LA")
        clear = picture.convert("RGBA")
        canvas = PIL.Image.new("RGB", picture.size, policy.background)
        canvas.paste(clear, mask=clear.getchannel("A"))
        return canvas
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _to_8_bits(picture: Picture) -> Picture:
    """Scales 16-bit and float pictures; Pillow's own conversion cuts all above 255 off."""
    values = np.asarray(picture)
    if picture.mode == "F":
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            raise InputError("a picture of floats must hold finite values from 0 to 1; scale it first")
        return PIL.Image.fromarray((values * 255 + 0.5).astype(np.uint8))
    if values.min() < 0 or values.max() > 0xFFFF:
        raise InputError(f"a picture of mode {picture.mode} must hold values from 0 to 65535; scale it first")
    grey = PIL.Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))
    clear = picture.info.get("transparency")
    if isinstance(clear, int):
        grey.putalpha(PIL.Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    return grey
