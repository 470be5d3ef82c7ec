"""Opens image files and documents: only regular files, and only under the allowed roots if the path came as a str."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from jinaclip.config import ImagePolicy
from jinaclip.errors import InputError, UnreadableError
from jinaclip.images.roots import ChangedError, OutsideError, Place, find_root, locate
from jinaclip.inputs import BASE64_IS_NO_PATH, Image
from jinaclip.uris import LONGEST_PATH, LONGEST_SHOWN, check_bytes, remove_images

MAX_PATH = LONGEST_PATH if os.name == "nt" else 4096
"""Characters of the longest path that a system takes. A longer one is refused before it is looked at."""
_BASE64 = re.compile(r"[A-Za-z0-9+/=_\s-]*", re.ASCII)


def check_file(image: Image, policy: ImagePolicy) -> None:
    """Checks that an image file may be read, as far as can be told without opening it.

    Raises:
        InputError: it lies outside the allowed roots, does not exist, is no regular file or is too large; or the path
            is too long, or no path but base64.
    """
    with _find(image, policy) as place:
        _check_regular(place.stat(), image, policy)


def read_file(image: Image, policy: ImagePolicy, limit: int | None = None) -> bytes:
    """The content of a file, whatever is in it, or its first `limit` bytes.

    What is judged is the opened file: nobody who exchanges names meanwhile gets another one read.

    Args:
        image: of kind "path".
        policy: says how large it may be, and where, if the image is confined.
        limit: bytes; None for all.

    Raises:
        InputError: `check_file` refuses it, it changed while it was opened, or it cannot be read.
    """
    with _find(image, policy) as place:
        _check_regular(place.stat(), image, policy)  # before it is opened, which a device might notice
        with os.fdopen(place.open(), "rb") as file:
            opened = os.fstat(file.fileno())
            _check_regular(opened, image, policy)
            place.check(opened)
            data = file.read(limit or policy.max_bytes + 1)  # files under /proc hold more than their size says
    check_size(len(data), policy)
    return data


def outside_of(image: Image, policy: ImagePolicy) -> str | None:
    """What an image file lies outside of, in words, if `check_file` refuses it for that; for messages of hosts."""
    if not image.confined or policy.allowed_roots == "any":
        return None
    try:
        _check_path(image)
        find_root(image.source, policy.allowed_roots)
    except OutsideError as error:
        return str(error)
    except (OSError, ValueError):  # there can be no such file
        pass
    return None


def check_size(size: int, policy: ImagePolicy) -> None:
    """Checks the size of an encoded image, in bytes, against the policy.

    Raises:
        InputError: it is empty or too large.
    """
    if size == 0:
        raise InputError("the image is empty (0 bytes)")
    check_bytes(size, policy.max_bytes)


@contextmanager
def _find(image: Image, policy: ImagePolicy) -> Iterator[Place]:
    """The place of an image file. What fails inside, too, becomes an InputError."""
    _check_path(image)
    with _input_errors(image):
        if not image.confined or policy.allowed_roots == "any":
            yield Place(str(image.source))
            return
        with locate(image.source, policy.allowed_roots) as place:
            yield place


def _check_path(image: Image) -> None:
    """Refuses what can be no path, before the system is asked."""
    text = str(image.source)
    if image.confined and _is_base64(text[:MAX_PATH], is_path=len(text) <= MAX_PATH):
        raise InputError(BASE64_IS_NO_PATH)
    if len(text) > MAX_PATH:
        shown = remove_images(text[:40])
        raise InputError(f"image file {shown + '...'!r} cannot be read: a path has at most {MAX_PATH} characters")


def _is_base64(head: str, *, is_path: bool) -> bool:
    """Whether a str begins as an image in base64 does; where it can be no path, as any base64 does."""
    if is_path or not _BASE64.fullmatch(head):
        return bool(head.strip()) and not remove_images(head, "").strip()
    return all(any(map(test, head)) for test in (str.islower, str.isupper, str.isdigit))


@contextmanager
def _input_errors(image: Image) -> Iterator[None]:
    try:
        yield
    except OutsideError as error:
        raise InputError(
            f"image file {_path_for_messages(image)} lies outside {error}; pass a pathlib.Path or Image.from_path "
            "for a path from your own code, or allow its folder with allowed_roots=[...] in image_policy"
        ) from None
    except ChangedError:
        raise InputError(
            f"image file {_path_for_messages(image)} changed while it was opened, or is a link to itself"
        ) from None
    except (OSError, ValueError) as error:
        raise _read_error(image, error) from None


def _check_regular(status: os.stat_result, image: Image, policy: ImagePolicy) -> None:
    if stat.S_ISLNK(status.st_mode):  # all links of the path were resolved before
        raise ChangedError
    if not stat.S_ISREG(status.st_mode):
        what = "a folder" if stat.S_ISDIR(status.st_mode) else "a device, pipe or socket"
        raise InputError(f"image file {_path_for_messages(image)} is {what}, not a regular file")
    if status.st_size > policy.max_bytes:
        check_size(status.st_size, policy)


def _read_error(image: Image, error: OSError | ValueError) -> InputError:
    if isinstance(error, InputError):
        return error
    if isinstance(error, FileNotFoundError):
        return UnreadableError(f"image file {_path_for_messages(image)} does not exist")
    kind = UnreadableError if isinstance(error, OSError) else InputError
    reason = getattr(error, "strerror", None) or "it is no valid path"
    return kind(f"image file {_path_for_messages(image)} cannot be read: {reason}")


def _path_for_messages(image: Image) -> str:
    text = remove_images(str(image.source))
    return repr(text if len(text) <= LONGEST_SHOWN else f"{text[:40]}...")
