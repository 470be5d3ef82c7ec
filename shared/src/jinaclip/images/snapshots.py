"""Takes what callers pass as it is at that moment, so that they may change or refill it afterwards."""

from __future__ import annotations

import os
from io import BufferedReader, BytesIO, FileIO
from pathlib import Path
from typing import Any

import numpy as np

from jinaclip.config import ImagePolicy
from jinaclip.errors import InputError
from jinaclip.images.guard import translate_errors
from jinaclip.images.streams import read_stream
from jinaclip.inputs import Image, Pair, Text, Unread, is_open_file, is_pil
from jinaclip.process import run_apart

MOST_CHANNELS = 4
"""Elements of an array for each pixel."""


def take(value: Any, policy: ImagePolicy | None = None) -> Any:
    """The value, or a copy of it where its owner could change it: arrays, buffers, PIL images, alone or in a pair.

    Reads open files. Else it reads and decodes nothing, but for a PIL image whose file cannot be opened again, or that
    does not tell whether it is decoded (WebP).
    What else there is, such as an object of a host's, comes back as it is.

    Args:
        value: what a caller passed.
        policy: how far open files are read; None is the default one.

    Raises:
        InputError: it cannot be copied: a PIL image whose file was closed, a buffer that was released, an open file
            that is too large, or not open for reading bytes.
    """
    if isinstance(value, str | bytes | Text):
        return value
    if is_open_file(value):
        return read_stream(value, policy or ImagePolicy())
    if isinstance(value, os.PathLike):
        return value
    if isinstance(value, np.ndarray):
        return _take_array(value, policy or ImagePolicy())
    if isinstance(value, bytearray | memoryview | BytesIO):
        return Image.from_bytes(value).source
    if isinstance(value, Image):
        return _take_image(value, policy)
    if is_pil(value):
        return _take_pil(value)
    if isinstance(value, Pair):
        return Pair(value.text, take(value.image, policy), value.weight)
    if type(value) in (tuple, list) and len(value) == 2:
        return type(value)(take(half, policy) for half in value)
    return value


def _take_array(array: np.ndarray[Any, Any], policy: ImagePolicy) -> Any:
    """A copy of an array that can be an image; of a subclass, which may do anything, the values alone.

    A view, as of `np.broadcast_to`, may have far more elements than memory: so its size is looked at first.
    """
    if array.size > MOST_CHANNELS * policy.max_pixels:
        raise InputError(
            f"an array of shape {array.shape} has more pixels than image_policy.max_pixels={policy.max_pixels} allows; "
            "make it smaller or raise the limit"
        )
    return np.array(array)


def _take_image(image: Image, policy: ImagePolicy | None) -> Image:
    if image.kind not in ("pil", "array", "file") or isinstance(image.source, Unread):
        return image
    source = take(image.source, policy)
    if isinstance(source, bytes):
        return Image("bytes", source)
    return source if isinstance(source, Image) else Image(image.kind, source)


def _take_pil(image: Any) -> Any:
    """A copy of a PIL image, or where to find its pixels if they are still in its file, so that nobody changed them."""
    if not type(image).__module__.startswith("PIL."):  # a class of somebody's, which may do and raise anything
        return run_apart(_take_opened, image)
    unread = find_unread(image) if hasattr(image, "fp") else None
    if unread is not None:
        return Image("pil", unread)
    if hasattr(image, "fp"):  # opened from a file; whether it is decoded, not every format tells
        return run_apart(_take_opened, image)
    try:
        return image.copy()
    except (ValueError, AttributeError) as error:  # not even an interrupt raises one of these
        raise InputError(f"the PIL image cannot be read ({type(error).__name__}); was it closed?") from None


def _take_opened(image: Any) -> Any:
    """As `_take_pil`, for what may block and raise anything. Runs in a thread of ours."""
    from jinaclip.images import decode

    with translate_errors("the PIL image cannot be read; is its file closed, or damaged?"):
        unread = find_unread(image, read=True)
        return decode.copy(image) if unread is None else Image("pil", unread)


def find_unread(image: Any, *, read: bool = False) -> Unread | None:
    """Where to find the pixels of a PIL image, if they are still in its file and that can be opened again, else None.

    Args:
        image: a PIL image.
        read: also read a file that can only be read where it is open, such as a member of an archive.
    """
    if not _is_unread(image):
        return None
    file = _file_of(image)
    if file is None and read:
        file = _content_of(image.fp)
    if file is None:
        return None
    status = os.fstat(image.fp.fileno()) if isinstance(file, Path) else None
    identity = (status.st_dev, status.st_ino) if status is not None else None
    return Unread(file, image.size, image.mode, image.tell(), dict(image.info), image.format or "", identity)


def _is_unread(image: Any) -> bool:
    """Whether a PIL image was opened and not decoded. WebP has no tiles before, and no file after."""
    file = getattr(image, "fp", None)
    return file is not None and bool(getattr(image, "tile", None) or getattr(image, "format", None) == "WEBP")


def _content_of(file: Any) -> bytes | None:
    """The content of an open file, which is left where it stands; None if it cannot go back."""
    if getattr(file, "closed", True) or not file.seekable():
        return None
    at = file.tell()
    file.seek(0)
    content = file.read()
    file.seek(at)
    return content if isinstance(content, bytes) else None


def _file_of(image: Any) -> Path | bytes | None:
    """The path or the content of the file that a PIL image was opened from, if it can be opened again."""
    file, path = getattr(image, "fp", None), getattr(image, "filename", None)
    if type(file) is BytesIO:
        return None if file.closed else file.getvalue()
    if type(file) is not BufferedReader or not isinstance(file.raw, FileIO):  # a member of an archive has a name, too
        return None
    path = path or file.name
    leads_there = isinstance(path, str | Path) and _leads_to(path, file)
    return Path(path).absolute() if leads_there else None


def _leads_to(path: str | Path, file: BufferedReader) -> bool:
    """Whether a path still names an open file: another may have its name now, or the working directory changed."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))  # noqa: PTH116  as Path.stat, without a Path
    except (OSError, ValueError):
        return False
