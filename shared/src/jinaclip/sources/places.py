"""Where files are: folders of this machine here, those of other places in `remote.py`."""

from __future__ import annotations

import os
import re
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, Literal

from jinaclip.config import ImagePolicy
from jinaclip.errors import InputError
from jinaclip.images import read_file
from jinaclip.inputs import Image

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
"""How the address of a place begins; `C:/` and `sku:1` are names of files."""
FOLDER_END = "/"
"""Of the path of a link to a folder outside, among paths of files."""
What = Literal["file", "folder", "other", ""]


class Folder(ABC):
    """A folder somewhere, whose files are named by paths with "/". It can be pickled, and holds no open file."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What messages call it; holds no secret."""

    @abstractmethod
    def list(self, depth: int | None = None) -> Iterator[str]:
        """Paths of the files in it and in folders under it, always in the same order.

        What begins with a dot is hidden and left out. Links to folders are not followed: what they lead to is listed
        where it lies, and if that is outside, the path of the link is given with "/" behind it.

        Args:
            depth: levels of folders, 1 for this one alone; None for all.

        Raises:
            InputError: a folder cannot be listed, so that nobody knows what is in it.
        """

    @abstractmethod
    def open(self, path: str) -> BinaryIO:
        """A file, open for reading bytes. Follows links.

        Raises:
            InputError: there is no such regular file, or it cannot be opened.
        """

    @abstractmethod
    def read(self, path: str, policy: ImagePolicy) -> bytes:
        """What a file holds that the folder itself, or a table in it, names.

        Raises:
            InputError: it cannot be read, is no regular file, or the policy refuses it: for its size, or because it
                lies outside this folder and outside `allowed_roots`.
        """

    @abstractmethod
    def what(self, path: str) -> What:
        """What a path names: "other" is a device, pipe or socket, "" is nothing that can be seen."""

    @abstractmethod
    def enter(self, path: str) -> Folder:
        """The folder under this one."""

    @abstractmethod
    def holds(self, path: str) -> bool:
        """Whether a path leads to something within the folder, links followed."""


@dataclass(frozen=True, slots=True)
class LocalFolder(Folder):
    """A folder of this machine.

    Args:
        root: its absolute path.
        confined: False if the user named each of its files, which may then be links to anywhere.
    """

    root: str
    confined: bool = True

    @property
    def name(self) -> str:
        """Its path."""
        return printable(self.root)

    def list(self, depth: int | None = None) -> Iterator[str]:
        """See `Folder.list`."""
        waiting = [self._entries("")]
        while waiting:
            found = next(waiting[-1], None)
            if found is None:
                waiting.pop()
                continue
            path, is_folder = found
            if not is_folder:
                yield path
            elif depth is None or len(waiting) < depth:
                waiting.append(self._entries(path))

    def _entries(self, folder: str) -> Iterator[tuple[str, bool]]:
        """Paths of what is in a folder, by name, and whether each is a folder."""
        place = Path(self.root, folder)
        try:
            with os.scandir(place) as entries:
                found = sorted((e.name, e.is_symlink(), is_folder(e)) for e in entries if not e.name.startswith("."))
        except OSError as error:
            raise InputError(f"folder {printable(str(place))!r} cannot be listed: {error.strerror}") from None
        for name, is_link, leads_to_folder in found:
            path = f"{folder}/{name}" if folder else name
            if not (is_link and leads_to_folder):
                yield path, leads_to_folder
            elif not self.holds(path):
                yield path + FOLDER_END, False

    def open(self, path: str) -> BinaryIO:
        """See `Folder.open`."""
        place = Path(self.root, path)
        shown = repr(printable(str(place)))
        try:
            if not stat.S_ISREG(place.stat().st_mode):  # before it is opened, which a pipe would wait for
                raise InputError(f"{shown} is no regular file")
            return place.open("rb")
        except (OSError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{shown} cannot be opened: {getattr(error, 'strerror', error)}") from None

    def read(self, path: str, policy: ImagePolicy) -> bytes:
        """See `Folder.read`."""
        place = Path(self.root, path)
        if not self.confined:
            return read_file(Image("path", place), policy)
        return read_file(Image("path", place, confined=True), confine(self.root, policy))

    def what(self, path: str) -> What:
        """See `Folder.what`."""
        try:
            mode = Path(self.root, path).stat().st_mode
        except (OSError, ValueError):
            return ""
        return "file" if stat.S_ISREG(mode) else "folder" if stat.S_ISDIR(mode) else "other"

    def enter(self, path: str) -> Folder:
        """See `Folder.enter`."""
        return LocalFolder(str(Path(self.root, path)))

    def holds(self, path: str) -> bool:
        """See `Folder.holds`."""
        return Path(os.path.realpath(Path(self.root, path))).is_relative_to(os.path.realpath(self.root))


def confine(root: str, policy: ImagePolicy) -> ImagePolicy:
    """The policy of a folder: files may lie in it, and where the policy allows them anyway."""
    if policy.allowed_roots == "any":
        return policy
    roots: Any = fix_roots(policy).allowed_roots or ()
    try:
        return _with_roots(policy, (Path(root), *roots))
    except TypeError:  # a list in it, by which it cannot be looked up
        return replace(policy, allowed_roots=(Path(root), *roots))


def fix_roots(policy: ImagePolicy) -> ImagePolicy:
    """The policy with the folder that it means here, for processes with another working directory; as it is in "/"."""
    here = Path.cwd()
    if policy.allowed_roots is not None or here == here.parent:
        return policy
    return _with_roots(policy, (here,))


@lru_cache(maxsize=32)  # to check all options takes as long as to read a small file
def _with_roots(policy: ImagePolicy, roots: tuple[Any, ...]) -> ImagePolicy:
    return replace(policy, allowed_roots=roots)


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def printable(text: str) -> str:
    r"""A name as UTF-8 can hold it: a byte, or half a character, that it cannot hold is written as `\xff`."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogateescape" if _holds_bytes(text) else "backslashreplace").decode(
            "utf-8", "backslashreplace"
        )
    return text


def _holds_bytes(text: str) -> bool:
    """Whether all that UTF-8 cannot hold are bytes of a name of a file, as `os.fsdecode` keeps them."""
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True
