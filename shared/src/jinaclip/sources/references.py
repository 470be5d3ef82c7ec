"""Images as tables hold or name them: read when they are needed, and not before."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jinaclip.config import ImagePolicy
from jinaclip.errors import InputError, JinaClipError
from jinaclip.inputs import Image
from jinaclip.sources.places import SCHEME, Folder, printable

ADDRESS = re.compile(r"\s*(?:[A-Za-z][A-Za-z0-9+.-]+://|data:|file:)", re.IGNORECASE)
"""How addresses begin; `sku:1.png` is a name."""
BEGINNING = re.compile(r"\s*(?:[/_]9j[/_]|iVBORw0KGgo|R0lGOD|UklGR)")
"""Of the base64 of a JPEG, PNG, GIF or WebP file."""
BASE64 = re.compile(r"[A-Za-z0-9+/=_\s-]*", re.ASCII)
SHORTEST, LONGEST_PATH = 40, 4096
"""Characters of the base64 of an image, at least, and of a path, at most."""
OF_IMAGES = ("http", "https", "file")
"""Addresses that mean the same wherever an image is taken."""


class Stored(ABC):
    """An image that is read when it is needed. It can be pickled."""

    @abstractmethod
    def read(self, policy: ImagePolicy) -> Image:
        """The image, with the bytes of its file. Blocks.

        Raises:
            InputError: it cannot be read, or the policy refuses it.
        """


@dataclass(frozen=True, slots=True)
class StoredFile(Stored):
    """An image file in a folder somewhere, or beside a table there."""

    folder: Folder
    path: str

    def read(self, policy: ImagePolicy) -> Image:
        """See `Stored.read`. Only regular files are opened, and none outside the folder unless the policy allows it."""
        return Image("bytes", self.folder.read(self.path, policy))

    def __str__(self) -> str:
        return printable(f"{self.folder.name}/{self.path}")


@dataclass(frozen=True, slots=True)
class EncodedImage(Stored):
    """An image file in base64."""

    text: str

    def read(self, policy: ImagePolicy) -> Image:
        """See `Stored.read`."""
        return Image.from_base64(self.text, max_bytes=policy.max_bytes)


@dataclass(frozen=True, slots=True)
class RefusedImage(Stored):
    """An image that is not to be had."""

    problem: str

    def read(self, policy: ImagePolicy) -> Image:
        """Raises InputError."""
        raise InputError(self.problem)


def unwrap(value: Any) -> Any:
    """The image of a cell. Data sets with images inside have {"bytes": ..., "path": ...} there."""
    return (value.get("bytes") or value.get("path")) if isinstance(value, Mapping) else value


def read_reference(value: Any, folder: Folder | None, policy: ImagePolicy) -> Any:
    """The image that a cell holds or names, not yet read.

    Args:
        value: path, address, base64, bytes or a mapping of those; others stay as they are.
        folder: that paths count from; None for rows from Python, whose paths are like those of any call.
        policy: `allowed_roots="any"` lets addresses lead to other places than the table's own.

    Returns:
        What `JinaClip.embed_images` takes, or a `Stored`; None if there is nothing.
    """
    value = unwrap(value)
    if not isinstance(value, str):
        return value
    if is_base64(value):
        return EncodedImage(value)
    if ADDRESS.match(value):
        return find_address(value.strip(), folder, policy)
    return value if folder is None else StoredFile(folder, value)


def is_base64(text: str) -> bool:
    """Whether a str can only be meant as an image in base64."""
    if len(text) < SHORTEST or (len(text) <= LONGEST_PATH and not BEGINNING.match(text)):
        return False
    return BASE64.fullmatch(text) is not None


def find_address(address: str, folder: Folder | None, policy: ImagePolicy) -> Any:
    """An image at an address. One of a storage has to lie in the folder of the table, as a file would."""
    scheme = SCHEME.match(address)
    if scheme is None or scheme[1].lower() in OF_IMAGES:
        return address
    if folder is not None and address.startswith(f"{folder.name}/"):
        return StoredFile(folder, address.removeprefix(f"{folder.name}/"))
    if policy.allowed_roots != "any":
        place = "" if folder is None else f", outside {folder.name}"
        return RefusedImage(f"{address!r:.200} is in a storage{place}; allow it with image_policy.allowed_roots='any'")
    from jinaclip.sources.remote import find_remote

    try:
        return StoredFile(*find_remote(address))
    except JinaClipError as error:
        return RefusedImage(str(error))
