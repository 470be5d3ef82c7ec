"""Opens image files: only regular files, and only under the allowed roots if the path came as a str."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from jinaclip.config import ImagePolicy
from jinaclip.errors import InputError
from jinaclip.inputs import BASE64_IS_NO_PATH, Image
from jinaclip.uris import LONGEST_SHOWN, remove_images

_FLAGS = os.O_RDONLY
for _name in ("O_NONBLOCK", "O_CLOEXEC", "O_BINARY"):  # with O_NONBLOCK, opening a pipe returns at once
    _FLAGS |= getattr(os, _name, 0)


def check_file(image: Image, policy: ImagePolicy) -> Path:
    """The real path of an image file that may be read.

    Raises:
        InputError: it lies outside the allowed roots, does not exist, is no regular file or is too large; or the str is
            no path but base64.
    """
    text = str(image.source).strip()
    if image.confined and text and not remove_images(text, "").strip():
        raise InputError(BASE64_IS_NO_PATH)
    try:
        path = Path(os.path.realpath(image.source))
        if image.confined:  # checked first, so that a str cannot find out which files exist elsewhere
            _check_roots(path, image, policy)
        _check_regular(path.stat(), image, policy)
    except (OSError, ValueError) as error:
        raise _read_error(image, error) from None
    return path


def read_file(image: Image, policy: ImagePolicy, limit: int | None = None) -> bytes:
    """The content of an image file, or its first `limit` bytes.

    Raises:
        InputError: `check_file` refuses it, it changed while it was opened, or it cannot be read.
    """
    path = check_file(image, policy)
    try:
        with os.fdopen(os.open(path, _FLAGS), "rb") as file:
            opened = os.fstat(file.fileno())
            _check_regular(opened, image, policy)
            # a folder of the path may have become a link since: the opened file must be what the path still names
            if image.confined and not os.path.samestat(opened, check_file(image, policy).stat()):
                raise InputError(f"image file {_path_for_messages(image)} changed while it was opened")
            data = file.read(limit or policy.max_bytes + 1)  # files under /proc hold more than their size says
    except (OSError, ValueError) as error:
        raise _read_error(image, error) from None
    check_size(len(data), policy)
    return data


def check_size(size: int, policy: ImagePolicy) -> None:
    """Checks the size of an encoded image, in bytes, against the policy.

    Raises:
        InputError: it is empty or too large.
    """
    if size == 0:
        raise InputError("the image is empty (0 bytes)")
    if size > policy.max_bytes:
        raise InputError(f"the image is larger than image_policy.max_bytes={policy.max_bytes} bytes")


def _check_roots(path: Path, image: Image, policy: ImagePolicy) -> None:
    roots = policy.allowed_roots
    if roots == "any":
        return
    folders = (Path.cwd(),) if roots is None else roots
    if not any(path.is_relative_to(os.path.realpath(folder)) for folder in folders):
        where = "the current working directory" if roots is None else "image_policy.allowed_roots"
        raise InputError(
            f"image file {_path_for_messages(image)} lies outside {where}; pass a pathlib.Path or Image.from_path "
            "for a path from your own code, or allow its folder with allowed_roots=[...] in image_policy"
        )


def _check_regular(status: os.stat_result, image: Image, policy: ImagePolicy) -> None:
    if not stat.S_ISREG(status.st_mode):
        what = "a folder" if stat.S_ISDIR(status.st_mode) else "a device, pipe or socket"
        raise InputError(f"image file {_path_for_messages(image)} is {what}, not a regular file")
    if status.st_size > policy.max_bytes:
        check_size(status.st_size, policy)


def _read_error(image: Image, error: OSError | ValueError) -> InputError:
    if isinstance(error, InputError):
        return error
    if isinstance(error, FileNotFoundError):
        return InputError(f"image file {_path_for_messages(image)} does not exist")
    reason = getattr(error, "strerror", None) or "it is no valid path"
    return InputError(f"image file {_path_for_messages(image)} cannot be read: {reason}")


def _path_for_messages(image: Image) -> str:
    text = remove_images(str(image.source))
    return repr(text if len(text) <= LONGEST_SHOWN else f"{text[:40]}...")
